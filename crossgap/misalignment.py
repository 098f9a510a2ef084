"""Measures of how well similarity inside one modality reflects what its items have in common.

None of them is specific: a model trained on images alone shows overlapping similarities too ([0] Herzog and
Wang, 2026, arXiv 2603.16100). Read them beside such a model and beside a task.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from crossgap.errors import InputError
from crossgap.relevance import Relevance
from crossgap.similarity import check_sides


def same_other_auc(scores_QG: Tensor, relevance: Relevance) -> Tensor:
    """Give the chance that a same-class pair scores higher than an other-class pair, ties counted half.

    ``P(s+ > s-) + P(s+ = s-) / 2`` over all relevant pairs s+ and all irrelevant pairs s-, pooled over the
    queries, ignored pairs left out: the exact area under the ROC curve ([0] Hanley and McNeil, 1982,
    Radiology 143). Unchanged by any increasing map of the scores, which histogram overlaps are not. Not
    differentiable.

    Shape: (Q, G) -> 0-d, float64, NaN when there is no relevant or no irrelevant pair. Unit: fraction.

    Raises:
        InputError: shapes that differ or scores that are not finite.
    """
    if scores_QG.shape != relevance.relevant_QG.shape:
        raise InputError(
            f"scores {tuple(scores_QG.shape)} and relevance {tuple(relevance.relevant_QG.shape)} must have "
            "one shape, queries x gallery"
        )
    if not bool(torch.isfinite(scores_QG).all()):
        raise InputError("same_other_auc needs finite scores; look for an embedding that is not finite")
    relevant_QG = relevance.relevant_QG.to(scores_QG.device)
    other_QG = ~(relevant_QG | relevance.ignored_QG.to(scores_QG.device))
    same_N = scores_QG[relevant_QG]
    other_M = scores_QG[other_QG].sort().values
    below = torch.searchsorted(other_M, same_N).sum()
    not_above = torch.searchsorted(other_M, same_N, right=True).sum()
    # counted in whole numbers, hence exact however many pairs there are; 0 / 0 is NaN
    return (below + not_above).double() / (2 * same_N.numel() * other_M.numel())


def alignment(x_BD: Tensor, y_BD: Tensor, *, alpha: float = 2) -> Tensor:
    """Measure how far paired rows are apart; 0 is perfect.

    ``mean_k |x_k - y_k|^alpha`` on unit rows. [0] Wang and Isola, 2020, arXiv 2005.10242. Differentiable.

    Shape: (B, D), (B, D) -> 0-d. Unit: distance^alpha.

    Raises:
        InputError: shapes that do not pair.
    """
    check_sides(x_BD, y_BD, paired=True)
    return torch.linalg.vector_norm(x_BD - y_BD, dim=1).pow(alpha).mean()


def uniformity(x_BD: Tensor, *, t: float = 2) -> Tensor:
    """Measure how evenly rows cover the sphere; lower is more even, 0 is one single point.

    ``log mean_{j != k} exp(-t |x_j - x_k|^2)`` on unit rows. [0] Wang and Isola, 2020, arXiv 2005.10242.
    Differentiable.

    Shape: (B, D) -> 0-d. Unit: log of a mean kernel value.

    Raises:
        InputError: not a matrix or fewer than two rows.
    """
    return cross_uniformity(x_BD, x_BD, t=t)


def cross_uniformity(x_BD: Tensor, y_BD: Tensor, *, t: float = 2) -> Tensor:
    """Measure how far rows of one modality lie from the rows of the other that are not their own pair.

    ``log 1/(B(B-1)) sum_j sum_{k != j} exp(-t |x_j - y_k|^2)`` on unit rows. [0] Fahim, Murphy and Fyshe,
    2024, arXiv 2405.18570 (XUniform). Deviation: [0] divides by B alone; the mean over pairs differs by the
    constant log(B-1), has the same gradient and does not grow with B. Holds a B x B matrix. Differentiable.

    Shape: (B, D), (B, D) -> 0-d. Unit: log of a mean kernel value.

    Raises:
        InputError: shapes that do not pair or fewer than two rows.
    """
    check_sides(x_BD, y_BD, paired=True)
    n_rows = x_BD.shape[0]
    if n_rows < 2:
        raise InputError(
            f"uniformity is a mean over pairs of different rows and needs two rows, got {n_rows}"
        )
    squared_BB = x_BD.square().sum(1)[:, None] + y_BD.square().sum(1)[None, :] - 2 * x_BD @ y_BD.T
    own_BB = torch.eye(n_rows, dtype=torch.bool, device=x_BD.device)
    kernel_BB = (-t * squared_BB).masked_fill(own_BB, -torch.inf)
    return kernel_BB.flatten().logsumexp(0) - math.log(n_rows * (n_rows - 1))


class InversionGain(NamedTuple):
    """What inverting the queries gains, per query and on average."""

    gain_Q: Tensor  # inverted - native, NaN where a query was skipped
    gain: Tensor  # their mean, 0-d
    normalised_gain: Tensor  # gain as a share of what was left to gain, 0-d


def inversion_gain(inverted_Q: Tensor, native_Q: Tensor) -> InversionGain:
    """Subtract per-query values of the native features from those of the inverted ones, query by query.

    ``gain = mean_q (inverted_q - native_q)``, ``normalised = gain / (1 - mean_q native_q)``, over the queries
    that have a value. [0] Mistretta et al., 2025, arXiv 2502.04263 (the quantity, there as difference of two
    mAP).

    Shape: (Q,), (Q,) -> (Q,) and two 0-d, float64. Unit: difference of fractions; share.

    Raises:
        InputError: the two do not hold the same queries, or a value is no fraction.
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
    gain_Q = inverted_Q.double() - native_Q.double()
    gain = gain_Q.nanmean()
    return InversionGain(gain_Q, gain, gain / (1 - native_Q.double().nanmean()))
