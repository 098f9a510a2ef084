"""What inversion gains, query by query, over native features or over a projection.

A claim of misalignment needs a gain by inversion above that of a projection of equal rank, which is
``inversion_gain(inverted_Q, projected_Q)``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from crossgap.errors import InputError, naming
from crossgap.jackknife import Interval, cluster_jackknife


class InversionGain(NamedTuple):
    """What inverting the queries gains, per query and on average."""

    gain_Q: Tensor  # inverted - native, NaN where a query was skipped
    gain: Tensor  # their mean, 0-d
    normalised_gain: Tensor  # gain as a share of what was left to gain, 0-d


def inversion_gain(inverted_Q: Tensor, native_Q: Tensor) -> InversionGain:
    """Subtract per-query values of the native features from those of the inverted ones, query by query.

    ``gain = mean_q (inverted_q - native_q)``, ``normalised = gain / (1 - mean_q native_q)``, over the queries
    that have a value. Where native features leave nothing to gain, ``normalised`` is 0 for no change and -inf
    for a loss. [0] Mistretta et al., 2025, arXiv 2502.04263 (the quantity, there as difference of two mAP).

    Shape: (Q,), (Q,) -> (Q,) and two 0-d, float64. Unit: difference of fractions; share. Range: [-1, 1] and
    [-inf, 1]; above 0 inversion helps.

    Raises:
        InputError: the two do not hold the same queries, none has a value, or a value is no fraction.
    """
    if inverted_Q.ndim != 1 or inverted_Q.shape != native_Q.shape:
        raise InputError(
            "a paired gain needs the same queries on both sides; "
            f"got shapes {tuple(inverted_Q.shape)} and {tuple(native_Q.shape)}"
        )
    if not torch.equal(inverted_Q.isnan(), native_Q.isnan()):
        query = int((inverted_Q.isnan() != native_Q.isnan()).nonzero()[0, 0])
        raise InputError(
            f"query {query} has a value on one side only ({float(inverted_Q[query])} and "
            f"{float(native_Q[query])}); both sides must be judged by one relevance"
        )
    for side, values_Q in (("inverted", inverted_Q), ("native", native_Q)):
        if bool(((values_Q < 0) | (values_Q > 1)).any()):
            raise InputError(f"{side} values must be fractions in [0, 1], not percentages")
    if bool(native_Q.isnan().all()):
        raise InputError(
            f"none of {len(native_Q)} queries has a value: there is no gain; a query needs a relevant item"
        )
    gain_Q = inverted_Q.double() - native_Q.double()
    gain = gain_Q.nanmean()
    normalised = torch.where(gain == 0, gain, gain / (1 - native_Q.double().nanmean()))
    return InversionGain(gain_Q, gain, normalised)


class Setting(NamedTuple):
    """Where on the curve an inversion stops."""

    num_tokens: int
    steps: int


def inversion_gain_curve(
    inverted_Q: Mapping[Setting, Tensor], native_Q: Tensor, *, clusters: Sequence[str]
) -> dict[Setting, Interval]:
    """Give the mean gain at every setting with its 95 % interval, paired by query.

    ``gain(R, steps) = mean_q (inverted_q(R, steps) - native_q)`` with the delete-one-cluster jackknife of
    :func:`crossgap.jackknife.cluster_jackknife`: queries of one class share their relevant items, so classes
    are left out, not queries (pass the ids of the queries to treat them as independent). The gain rises and
    falls with the steps ([0] Mistretta et al., 2025, arXiv 2502.04263): its maximum over settings is no
    estimate of it, choose the setting on other data. Intervals hold for one setting at a time.

    Shape: setting -> (Q,), (Q,), Q cluster names -> setting -> three numbers. Unit: difference of fractions.
    Range: [-1, 1]; above 0 inversion helps.

    Raises:
        InputError: values that do not pair (the setting is named), or fewer than two clusters with a value.
    """
    if len(clusters) != len(native_Q):
        raise InputError(f"each query needs one cluster: {len(native_Q)} queries, {len(clusters)} clusters")
    curve = {}
    for setting, values_Q in inverted_Q.items():
        with naming(str(setting)):
            gain_Q = inversion_gain(values_Q, native_Q).gain_Q
        valid_Q = ~gain_Q.isnan()
        kept = [name for name, valid in zip(clusters, valid_Q.tolist(), strict=True) if valid]
        curve[setting] = cluster_jackknife(torch.mean, gain_Q[valid_Q], clusters=kept)
    return curve
