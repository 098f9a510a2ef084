"""Every metric of gap and geometry on aligned image-text pairs, in one pass.

The table that evaluation writes rows from: which metrics, in which unit, with or without an interval.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from crossgap.errors import InputError
from crossgap.metrics import gap, misalignment
from crossgap.metrics.clustering import group_clustering
from crossgap.metrics.jackknife import cluster_jackknife
from crossgap.metrics.kernel_alignment import cknna, linear_cka
from crossgap.metrics.neighbourhood import cycle_knn, modality_mixings, mutual_knns
from crossgap.metrics.recoverability import recoverability
from crossgap.metrics.separability import modality_probe
from crossgap.metrics.spectrum import effective_rank, participation_ratio

NEIGHBOURS = (5, 10, 50)
AGREEING = 10  # neighbours of CKNNA and cycle kNN, as in their paper
FEWEST = 5  # pairs that more than the smooth metrics need
_ROUNDING = 1e-2
NOISE = 0.01  # standard deviation of a cosine, in the reconstruction of similarities

# metrics that are smooth in every pair: leaving out a hundredth of the pairs gives their interval
SMOOTH: dict[str, tuple[str, Callable[[Tensor, Tensor], Tensor]]] = {
    "centroid_distance": ("distance", gap.centroid_distance),
    "centre_angle": ("degrees", gap.centre_angle),
    "mean_pair_cosine": ("cosine", gap.mean_pair_cosine),
    "RMG": ("ratio", gap.relative_modality_gap),
    "alignment": ("squared distance", misalignment.alignment),
    "pair_residual": ("squared distance", gap.pair_residual),
}


class PairMetric(NamedTuple):
    """One measured number; ``low`` and ``high`` bound a 95 % interval where there is one."""

    name: str
    unit: str
    value: float
    low: float | None = None
    high: float | None = None


def pair_metrics(
    image_ND: Tensor, text_ND: Tensor, *, labels: Sequence[str], clusters: Sequence[str], seed: int
) -> Iterator[PairMetric]:
    """Measure gap and geometry of pairs: row k of the images belongs to row k of the texts.

    Intervals are a jackknife over ``clusters`` (pairs that share a caption are alike; where all pairs do, or
    a part of them does not allow the metric, there is none) and exist for means over pairs and functions of
    them. A metric that these pairs do not
    allow (two pairs have no ten neighbours) is left out. ``labels`` are the classes that clusters of items
    are compared with, ``seed`` that of splits and starts. Equations and sources: REFERENCES.md.

    Shape: (N, D), (N, D), N labels, N clusters -> metrics, each with its unit.

    Raises:
        InputError: rows that do not pair, or are no unit rows, which all these metrics are defined on.
    """
    for side, side_ND in _sides(image_ND, text_ND):
        _check_unit_rows(side_ND, side)
    count = len(image_ND)
    sizes = Counter(clusters).values()
    several, smallest_part = len(sizes) > 1, count - max(sizes)
    for name, (unit, function) in SMOOTH.items():
        if count < 2 and name == "RMG":
            continue
        if several and (name != "RMG" or smallest_part >= 2):
            estimate = cluster_jackknife(function, image_ND, text_ND, clusters=clusters)
            # not where a part has no centre
            bounded = math.isfinite(estimate.low) and math.isfinite(estimate.high)
            yield PairMetric(name, unit, *(estimate if bounded else estimate[:1]))
        else:
            yield PairMetric(name, unit, float(function(image_ND, text_ND)))
    if count < FEWEST:
        return
    yield from _separability(image_ND, text_ND, seed)
    kernel = "log mean kernel"
    yield PairMetric("uniformity_image", kernel, float(misalignment.uniformity(image_ND)))
    yield PairMetric("uniformity_text", kernel, float(misalignment.uniformity(text_ND)))
    yield PairMetric("uniformity_cross", kernel, float(misalignment.cross_uniformity(image_ND, text_ND)))
    yield PairMetric("centroid_uniformity", kernel, float(gap.centroid_uniformity(image_ND, text_ND)))
    near = [k for k in NEIGHBOURS if k <= 2 * count - 2]
    for k, mixing in modality_mixings(image_ND, text_ND, ks=near).items():
        yield PairMetric(f"modality_mixing@{k}", "ratio to chance", float(mixing))
    for k, shared in mutual_knns(image_ND, text_ND, ks=[k for k in near if k < count]).items():
        yield PairMetric(f"mutual_knn@{k}", "fraction", float(shared))
    if count > AGREEING:
        # named by the modality whose neighbours lead back
        for side, ways in (("image", (image_ND, text_ND)), ("text", (text_ND, image_ND))):
            returned = float(cycle_knn(*ways, k=AGREEING))
            yield PairMetric(f"cycle_knn_{side}@{AGREEING}", "fraction", returned)
        with contextlib.suppress(InputError):  # cosines of neighbours that do not differ from the others
            yield PairMetric(f"cknna@{AGREEING}", "ratio", float(cknna(image_ND, text_ND, k=AGREEING)))
    with contextlib.suppress(InputError):  # rows that do not vary, or are all alike to each other
        yield PairMetric("linear_cka", "ratio", float(linear_cka(image_ND, text_ND)))
    for side, side_ND in _sides(image_ND, text_ND):
        yield PairMetric(f"effective_rank_{side}", "directions", float(effective_rank(side_ND)))
        yield PairMetric(f"participation_ratio_{side}", "directions", float(participation_ratio(side_ND)))
    recovered = recoverability(image_ND, text_ND, noise=NOISE, seed=seed)
    yield PairMetric("recoverability_error", "ratio", float(recovered.relative_error))
    yield PairMetric("anchor_condition", "ratio", float(recovered.condition))
    if 1 < len(set(labels)) <= count:
        groups = group_clustering(image_ND, text_ND, image_labels=labels, text_labels=labels, seed=seed)
        yield PairMetric("v_measure", "score", groups.v_measure)
        yield PairMetric("homogeneity", "score", groups.homogeneity)
        yield PairMetric("adjusted_rand", "score", groups.adjusted_rand)
        yield PairMetric("v_measure_modality", "score", groups.modality_v_measure)


def _separability(image_ND: Tensor, text_ND: Tensor, seed: int) -> Iterator[PairMetric]:
    probe = modality_probe(image_ND, text_ND, seed=seed)
    yield PairMetric("linear_separability", "fraction", float(probe.accuracy))
    yield PairMetric("linear_separability_margin", "root mean squares", float(probe.margin))
    if image_ND.shape[1] >= 2:
        few = modality_probe(image_ND, text_ND, seed=seed, num_features=2)
        yield PairMetric("linear_separability_2", "fraction", float(few.accuracy))


def _check_unit_rows(values_ND: Tensor, side: str) -> None:
    """Refuse rows whose length is not 1, within the rounding of half precision."""
    length_N = torch.linalg.vector_norm(values_ND, dim=1)
    off_N = ~((length_N - 1).abs() < _ROUNDING)
    if bool(off_N.any()):
        row = int(off_N.nonzero()[0, 0])
        raise InputError(
            f"row {row} of the {side}s has length {float(length_N[row]):.4g} ({int(off_N.sum())} of "
            f"{len(length_N)} rows are off): gap and geometry are defined on unit rows; pass them through "
            "crossgap.metrics.similarity.unit_rows"
        )


def _sides(image_ND: Tensor, text_ND: Tensor) -> tuple[tuple[str, Tensor], tuple[str, Tensor]]:
    return ("image", image_ND), ("text", text_ND)
