"""Retrieval metrics per query, exact under tied scores.

Equal scores leave the order of a list open. Every metric here is its expectation under a uniformly random
order of the tied items, so no value depends on a sorting routine, a device or the order of the gallery.

[0] McSherry and Najork, 2008, "Computing information retrieval performance measures efficiently in the
    presence of tied scores", ECIR.
[1] Musgrave, Belongie and Lim, 2020, "A metric learning reality check", arXiv 2003.08505 (AP@R).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from crossgap.errors import InputError
from crossgap.metrics.counting import counted_metrics, harmonic_numbers
from crossgap.metrics.ranking import check_scores, row_blocks
from crossgap.metrics.relevance import Relevance


def retrieval_metrics(
    scores_QG: Tensor, relevance: Relevance, *, ks: Sequence[int] = (1, 5, 10)
) -> dict[str, Tensor]:
    """Compute retrieval metrics for every query from the scores of its gallery (higher is nearer).

    With ignored items removed, rel_j in {0, 1} the relevance at rank j, P@j the precision down to rank j and
    R the number of relevant items:

    * ``mAP`` (AP of a query) = 1/R sum_j rel_j P@j
    * ``mAP@R`` (AP@R) = 1/R sum_{j<=R} rel_j P@j  [1]
    * ``R-precision`` = 1/R sum_{j<=R} rel_j
    * ``hit@k`` = 1 if sum_{j<=k} rel_j > 0 else 0
    * ``recall@k`` = 1/R sum_{j<=k} rel_j

    each as expectation under a random order of ties [0]. In a run of n tied items, r of them relevant, that
    starts after N items with H hits: P(rel at place p) = r/n, E[P@(N+p) | rel at p] =
    (H + 1 + (p-1)(r-1)/(n-1)) / (N + p), and the chance of no hit is hypergeometric. A list shorter than
    k is used whole. Negative scores count like positive ones.

    Shape: (Q, G) -> metric name -> (Q,), float64, NaN for a query without relevant item. Unit: fraction.
    Range: [0, 1]; higher is better.

    Raises:
        InputError: scores that do not fit the masks or are not finite, or a k below 1.
    """
    check_scores(scores_QG, relevance)
    check_ks(ks)
    values = {
        name: scores_QG.new_full(scores_QG.shape[:1], torch.nan, dtype=torch.float64)
        for name in metric_names(ks)
    }
    harmonic = harmonic_numbers(scores_QG.shape[1], scores_QG.device)
    for rows in row_blocks(scores_QG):
        judged = Relevance(relevance.relevant_QG[rows], relevance.ignored_QG[rows])
        for name, found_B in counted_metrics(scores_QG[rows], judged, ks=ks, harmonic=harmonic).items():
            values[name][rows] = found_B
    return values


def check_ks(ks: Sequence[int]) -> None:
    """Check that every k of hit@k and recall@k is at least 1.

    Raises:
        InputError: one is not.
    """
    for k in ks:
        if k < 1:
            raise InputError(f"hit@k and recall@k need k of at least 1, got {k=}")


def metric_names(ks: Sequence[int]) -> list[str]:
    """List the names of retrieval metrics, in the order of their rows."""
    return ["mAP", "mAP@R", "R-precision", *(f"hit@{k}" for k in ks), *(f"recall@{k}" for k in ks)]


def micro_mean(values_Q: Tensor) -> float:
    """Average per-query values over all queries that have one, whatever their class.

    ``mean_q value_q`` over queries that are not NaN. Large classes weigh as much as they have queries; see
    :func:`macro_mean`.

    Shape: (Q,) -> a number. Unit, range and direction: those of the values.

    Raises:
        InputError: not a vector, or no query has a value.
    """
    if values_Q.ndim != 1:
        raise InputError(f"one value a query is needed, got {tuple(values_Q.shape)}")
    valid_Q = ~values_Q.isnan()
    if not bool(valid_Q.any()):
        raise InputError(f"none of {len(values_Q)} queries has a relevant item: there is nothing to average")
    return float(values_Q[valid_Q].double().mean())


def macro_mean(values_Q: Tensor, classes: Sequence[str]) -> float:
    """Average per-query values within each class, then over classes, so that large classes do not dominate.

    ``1/C sum_c mean_{q in c} value_q``, over queries that are not NaN and classes that have one. NaN when
    nothing is left. See :func:`micro_mean`.

    Shape: (Q,) and Q names -> a number. Unit, range and direction: those of the values.

    Raises:
        InputError: the number of classes differs from the number of values.
    """
    if values_Q.ndim != 1 or len(classes) != len(values_Q):
        raise InputError(f"one class a query is needed: {tuple(values_Q.shape)=}, {len(classes)=}")
    numbers = {name: number for number, name in enumerate(dict.fromkeys(classes))}
    class_Q = torch.tensor([numbers[name] for name in classes], dtype=torch.int64, device=values_Q.device)
    valid_Q = ~values_Q.isnan()
    zeros_C = values_Q.new_zeros(len(numbers), dtype=torch.float64)
    sum_C = zeros_C.index_add(0, class_Q, torch.where(valid_Q, values_Q.double(), 0.0))
    count_C = zeros_C.index_add(0, class_Q, valid_Q.double())
    return float((sum_C / count_C).nanmean())
