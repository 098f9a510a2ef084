"""Retrieval metrics per query, exact under tied scores.

Equal scores leave the order of a list open. Every metric here is its expectation under a uniformly random
order of the tied items, so no value depends on a sorting routine, a device or the order of the gallery.

[0] McSherry and Najork, 2008, "Computing information retrieval performance measures efficiently in the
    presence of tied scores", ECIR.
[1] Musgrave, Belongie and Lim, 2020, "A metric learning reality check", arXiv 2003.08505 (AP@R).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from crossgap.errors import InputError
from crossgap.relevance import Relevance

# scores handled at once: bounds the float64 temporaries to some hundred megabytes
_BLOCK = 1 << 22


class _Ranking(NamedTuple):
    """What a list says at each rank, in expectation over the order of tied items."""

    relevant_Q: Tensor  # number of relevant items in the list
    chance_QG: Tensor  # P(the item at this rank is relevant)
    precision_QG: Tensor  # E[precision down to this rank | the item at this rank is relevant]
    miss_QG: Tensor  # P(the item at this rank is irrelevant | all before it are irrelevant)


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

    Raises:
        InputError: scores that do not fit the masks or are not finite, or a k below 1.
    """
    _check_scores(scores_QG, relevance)
    for k in ks:
        if k < 1:
            raise InputError(f"hit@k and recall@k need k of at least 1, got {k=}")
    n_queries, n_gallery = scores_QG.shape
    names = ["mAP", "mAP@R", "R-precision", *(f"hit@{k}" for k in ks), *(f"recall@{k}" for k in ks)]
    values = {name: scores_QG.new_full((n_queries,), torch.nan, dtype=torch.float64) for name in names}
    rows_at_once = max(1, _BLOCK // max(1, n_gallery))
    for start in range(0, n_queries, rows_at_once):
        rows = slice(start, start + rows_at_once)
        sorted_QG, hits_QG = _sorted_lists(scores_QG[rows], relevance, rows)
        tied_Q = _same_as_before(sorted_QG).any(dim=1)
        for chosen_Q, rank in ((~tied_Q, _rank_distinct), (tied_Q, _rank_tied)):
            if not bool(chosen_Q.any()):
                continue
            for name, found in _from_ranking(rank(sorted_QG[chosen_Q], hits_QG[chosen_Q]), ks).items():
                values[name][rows][chosen_Q] = found
    return values


def macro_mean(values_Q: Tensor, classes: Sequence[str]) -> float:
    """Average per-query values within each class, then over classes, so that large classes do not dominate.

    ``1/C sum_c mean_{q in c} value_q``, over queries that are not NaN and classes that have one. NaN when
    nothing is left. The micro mean is ``values_Q.nanmean()``.

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


def tie_rate(scores_QG: Tensor, relevance: Relevance) -> float:
    """Give the share of queries whose metrics rest on the rule for ties.

    A query counts when a relevant item has exactly the score of an irrelevant one. Queries without a relevant
    item are left out; NaN when there is no other.

    Shape: (Q, G) -> a fraction.

    Raises:
        InputError: as :func:`retrieval_metrics`.
    """
    _check_scores(scores_QG, relevance)
    n_queries, n_gallery = scores_QG.shape
    counted, mixed = 0, 0
    rows_at_once = max(1, _BLOCK // max(1, n_gallery))
    for start in range(0, n_queries, rows_at_once):
        rows = slice(start, start + rows_at_once)
        sorted_QG, hits_QG = _sorted_lists(scores_QG[rows], relevance, rows)
        # a run of ties that holds both kinds has the two kinds side by side somewhere
        border_QG = _same_as_before(sorted_QG) & (hits_QG != hits_QG.roll(1, dims=1))
        within = border_QG.any(dim=1)
        counted += int(hits_QG.any(dim=1).sum())
        mixed += int(within.sum())
    return mixed / counted if counted else float("nan")


def _check_scores(scores_QG: Tensor, relevance: Relevance) -> None:
    if scores_QG.shape != relevance.relevant_QG.shape:
        raise InputError(
            f"scores {tuple(scores_QG.shape)} and relevance {tuple(relevance.relevant_QG.shape)} must have "
            "one shape, queries x gallery"
        )
    if not scores_QG.is_floating_point():
        raise InputError(f"scores must be floating point, got {scores_QG.dtype}")
    finite_QG = torch.isfinite(scores_QG)
    if not bool(finite_QG.all()):
        query, item = (~finite_QG).nonzero()[0].tolist()
        raise InputError(
            f"the score of query {query} and gallery item {item} is {float(scores_QG[query, item])}: "
            "ranks need finite scores; look for a diverged model or an embedding that is not finite"
        )


def _sorted_lists(scores_QG: Tensor, relevance: Relevance, rows: slice) -> tuple[Tensor, Tensor]:
    """Sort each list downwards, ignored items at its end under the score -inf, which no real item has."""
    device = scores_QG.device
    kept_QG = scores_QG.masked_fill(relevance.ignored_QG[rows].to(device), -torch.inf)
    sorted_QG, order_QG = kept_QG.sort(dim=1, descending=True)
    return sorted_QG, relevance.relevant_QG[rows].to(device).gather(1, order_QG)


def _same_as_before(sorted_QG: Tensor) -> Tensor:
    """Mark each rank whose item ties with the one before it; ignored items at the end never tie."""
    same_QG = torch.zeros_like(sorted_QG, dtype=torch.bool)
    same_QG[:, 1:] = (sorted_QG[:, 1:] == sorted_QG[:, :-1]) & (sorted_QG[:, 1:] > -torch.inf)
    return same_QG


def _rank_distinct(sorted_QG: Tensor, hits_QG: Tensor) -> _Ranking:
    """Read the lists of queries without ties: nothing is uncertain."""
    chance_QG = hits_QG.double()
    found_QG = chance_QG.cumsum(dim=1)
    rank_G = torch.arange(1, hits_QG.shape[1] + 1, device=hits_QG.device, dtype=torch.float64)
    return _Ranking(hits_QG.sum(dim=1), chance_QG, found_QG / rank_G, 1 - chance_QG)


def _rank_tied(sorted_QG: Tensor, hits_QG: Tensor) -> _Ranking:
    """Read the lists of queries with ties, run of equal scores by run of equal scores."""
    starts_QG = ~_same_as_before(sorted_QG)
    run_QG = starts_QG.cumsum(dim=1) - 1
    chance_QG = hits_QG.double()
    zeros_QG = torch.zeros_like(chance_QG)
    size_QG = zeros_QG.scatter_add(1, run_QG, torch.ones_like(chance_QG)).gather(1, run_QG)
    relevant_QG = zeros_QG.scatter_add(1, run_QG, chance_QG).gather(1, run_QG)

    rank_G = torch.arange(1, hits_QG.shape[1] + 1, device=hits_QG.device)
    before_QG = torch.where(starts_QG, rank_G - 1, 0).cummax(dim=1).values
    hits_before_QG = (chance_QG.cumsum(dim=1) - chance_QG).gather(1, before_QG)
    earlier_QG = rank_G - 1 - before_QG  # items of the same run above this rank: p - 1

    expected_QG = hits_before_QG + 1 + earlier_QG * (relevant_QG - 1) / (size_QG - 1).clamp_min(1)
    left_QG = size_QG - earlier_QG
    return _Ranking(
        relevant_Q=hits_QG.sum(dim=1),
        chance_QG=relevant_QG / size_QG,
        precision_QG=expected_QG / rank_G,
        miss_QG=((left_QG - relevant_QG) / left_QG).clamp_min(0),
    )


def _from_ranking(ranking: _Ranking, ks: Sequence[int]) -> dict[str, Tensor]:
    relevant_Q = torch.where(ranking.relevant_Q > 0, ranking.relevant_Q, torch.nan).double()
    rank_G = torch.arange(1, ranking.chance_QG.shape[1] + 1, device=relevant_Q.device)
    first_R_QG = rank_G <= ranking.relevant_Q[:, None]
    gained_QG = ranking.chance_QG * ranking.precision_QG
    found = {
        "mAP": gained_QG.sum(dim=1) / relevant_Q,
        "mAP@R": (gained_QG * first_R_QG).sum(dim=1) / relevant_Q,
        "R-precision": (ranking.chance_QG * first_R_QG).sum(dim=1) / relevant_Q,
    }
    for k in ks:
        found[f"hit@{k}"] = torch.where(relevant_Q.isnan(), torch.nan, 1 - ranking.miss_QG[:, :k].prod(dim=1))
        found[f"recall@{k}"] = ranking.chance_QG[:, :k].sum(dim=1) / relevant_Q
    return found
