"""The protocol of revisited Oxford and Paris: three settings over easy, hard and junk items, and its own AP.

[0] Radenovic, Iscen, Tolias, Avrithis and Chum, 2018, "Revisiting Oxford and Paris", CVPR, arXiv 1803.11285.
"""

from __future__ import annotations

import torch
from torch import Tensor

from crossgap.errors import InputError
from crossgap.metrics.ranking import (
    check_scores,
    rank_tied,
    rankings,
    row_blocks,
    run_sums,
    same_as_before,
    sorted_lists,
)
from crossgap.metrics.relevance import Relevance


def trapezoidal_ap(scores_QG: Tensor, relevance: Relevance) -> Tensor:
    """Compute the average precision of revisited Oxford and Paris for every query.

    With ignored (junk) items removed before ranks are counted, and the hits at ranks r_1 < ... < r_R: ``1/R
    sum_i (p_before + p_after) / 2`` with ``p_before = (i-1) / (r_i - 1)``, 1 where r_i = 1, and ``p_after = i
    / r_i``: the area under the precision-recall curve by the trapezoidal rule [0]. Not the AP of
    :func:`crossgap.metrics.retrieval.retrieval_metrics`, and never above it: do not average the two
    kinds. Under ties it is the expectation over their random order.

    Shape: (Q, G) -> (Q,), float64, NaN for a query without relevant item. Unit: fraction. Range: [0, 1];
    higher is better.

    Raises:
        InputError: scores that do not fit the masks or are not finite.
    """
    check_scores(scores_QG, relevance)
    values_Q = scores_QG.new_full(scores_QG.shape[:1], torch.nan, dtype=torch.float64)
    for numbers_Q, ranking in rankings(scores_QG, relevance):
        rank_G = torch.arange(1, scores_QG.shape[1] + 1, device=scores_QG.device, dtype=torch.float64)
        earlier_QG = ranking.precision_QG * rank_G - 1  # E[hits before this rank | a hit at this rank]
        before_QG = torch.where(rank_G > 1, earlier_QG / (rank_G - 1).clamp_min(1), 1.0)
        area_Q = (ranking.chance_QG * (before_QG + ranking.precision_QG) / 2).sum(dim=1)
        relevant_Q = torch.where(ranking.relevant_Q > 0, ranking.relevant_Q, torch.nan)
        values_Q[numbers_Q] = area_Q / relevant_Q
    return values_Q


def capped_precision(scores_QG: Tensor, relevance: Relevance, *, k: int) -> Tensor:
    """Compute the precision at k of revisited Oxford and Paris for every query (mP@k is its mean).

    With ignored (junk) items removed before ranks are counted and L the rank of the last relevant item:
    ``hits down to rank min(k, L) / min(k, L)``. A query with fewer than k relevant items can reach 1, and
    what stands below the last of them does not count against it. [0], in the form of its released code ([1]
    ``compute_map``). Under ties it is the expectation over their random order: the last relevant item lies in
    a run of m items, r of them relevant, that starts after a items, at place p with the chance ``C(p-1, r-1)
    / C(m, r)``; L = a + p. [1] github.com/filipradenovic/revisitop, python/evaluate.py.

    Shape: (Q, G) -> (Q,), float64, NaN for a query without relevant item. Unit: fraction. Range: [0, 1];
    higher is better.

    Raises:
        InputError: scores that do not fit the masks or are not finite, or k below 1.
    """
    check_scores(scores_QG, relevance)
    if k < 1:
        raise InputError(f"precision at k needs k of at least 1, got {k=}")
    values_Q = scores_QG.new_full(scores_QG.shape[:1], torch.nan, dtype=torch.float64)
    if scores_QG.shape[1]:
        for rows in row_blocks(scores_QG):
            values_Q[rows] = _capped(*sorted_lists(scores_QG[rows], relevance, rows), k)
    return values_Q


def _capped(sorted_QG: Tensor, hits_QG: Tensor, k: int) -> Tensor:
    place_G = torch.arange(hits_QG.shape[1], device=hits_QG.device)
    last_Q1 = torch.where(hits_QG, place_G, 0).amax(dim=1, keepdim=True)  # within the run of the last hit
    new_run_QG = torch.where(same_as_before(sorted_QG), 0, place_G)
    before_Q1 = new_run_QG.cummax(dim=1).values.gather(1, last_Q1).double()
    size_Q1, relevant_Q1 = (
        run_sums(sorted_QG, counted_QG).gather(1, last_Q1)
        for counted_QG in (torch.ones_like(hits_QG, dtype=torch.float64), hits_QG.double())
    )
    total_Q1 = hits_QG.sum(dim=1, keepdim=True).double()
    expected_Q1 = rank_tied(sorted_QG, hits_QG).chance_QG[:, :k].sum(dim=1, keepdim=True)  # hits down to k
    place_1K = torch.arange(1, min(k, hits_QG.shape[1]) + 1, device=hits_QG.device).double()[None]
    possible_QK = (place_1K >= relevant_Q1) & (place_1K <= size_Q1) & (before_Q1 + place_1K <= k)
    orders_QK = _log_choose(place_1K - 1, relevant_Q1 - 1) - _log_choose(size_Q1, relevant_Q1)
    chance_QK = torch.where(possible_QK, orders_QK.exp(), 0.0)  # that the last relevant item stands there
    capped_Q1 = (chance_QK * total_Q1 / (before_Q1 + place_1K)).sum(dim=1, keepdim=True)
    beyond_Q1 = expected_Q1 - total_Q1 * chance_QK.sum(dim=1, keepdim=True)  # hits down to k where L > k
    return torch.where(total_Q1 > 0, capped_Q1 + beyond_Q1 / k, torch.nan).squeeze(1)


def _log_choose(n: Tensor, chosen: Tensor) -> Tensor:
    """Give the logarithm of a binomial coefficient; meaningless where it is 0."""
    rest = (n - chosen).clamp_min(0)
    return torch.lgamma(n + 1) - torch.lgamma(chosen.clamp_min(0) + 1) - torch.lgamma(rest + 1)
