"""Discounted cumulative gain, for relevance that has degrees."""

from __future__ import annotations

import torch
from torch import Tensor

from crossgap.errors import InputError
from crossgap.metrics.ranking import check_scores, row_blocks, run_sums, sort_lists
from crossgap.metrics.relevance import Relevance


def ndcg(scores_QG: Tensor, gains_QG: Tensor, *, k: int, ignored_QG: Tensor | None = None) -> Tensor:
    """Compute nDCG@k for every query.

    ``DCG@k / max DCG@k`` with ``DCG@k = sum_{j<=k} gain_j / log2(j + 1)``, ignored items removed before ranks
    are counted. [0] Jarvelin and Kekalainen, 2002, ACM TOIS 20; under ties each place of a run of equal
    scores gets the run's mean gain, which is the expectation over their random order ([1] McSherry and
    Najork, 2008, ECIR). Gains enter as they are (the form of trec_eval); for the exponential form pass
    ``2**degree - 1``. A list shorter than k is used whole.

    Shape: scores (Q, G), gains (Q, G), ignored (Q, G) bool -> (Q,), float64, NaN for a query without gain.
    Unit: fraction. Range: [0, 1]; higher is better.

    Raises:
        InputError: shapes that differ, scores that are not finite, gains that are negative or not finite, or
            k below 1.
    """
    if k < 1:
        raise InputError(f"nDCG@k needs k of at least 1, got {k=}")
    if gains_QG.shape != scores_QG.shape:
        raise InputError(
            f"each score needs one gain; got {tuple(scores_QG.shape)} and {tuple(gains_QG.shape)}"
        )
    if ignored_QG is None:
        ignored_QG = torch.zeros(gains_QG.shape, dtype=torch.bool, device=gains_QG.device)
    usable_QG = torch.isfinite(gains_QG) & (gains_QG >= 0)
    if not bool(usable_QG.all()):
        query, item = (~usable_QG).nonzero()[0].tolist()
        raise InputError(
            f"the gain of gallery item {item} for query {query} is {float(gains_QG[query, item])}: "
            "gains are finite and not negative; mark items that do not count as ignored"
        )
    relevance = Relevance((gains_QG > 0) & ~ignored_QG, ignored_QG)
    check_scores(scores_QG, relevance)
    values_Q = scores_QG.new_full(scores_QG.shape[:1], torch.nan, dtype=torch.float64)
    discount_K = 1 / torch.arange(2, min(k, scores_QG.shape[1]) + 2, device=scores_QG.device).double().log2()
    for rows in row_blocks(scores_QG):
        gain_QG = gains_QG[rows].to(scores_QG.device).double()
        gain_QG = gain_QG.masked_fill(ignored_QG[rows].to(scores_QG.device), 0.0)
        sorted_QG, order_QG = sort_lists(scores_QG[rows], ignored_QG[rows])
        listed_QG = gain_QG.gather(1, order_QG)
        expected_QG = run_sums(sorted_QG, listed_QG) / run_sums(sorted_QG, torch.ones_like(listed_QG))
        reached_Q = (expected_QG[:, :k] * discount_K).sum(dim=1)
        ideal_QG = gain_QG.sort(dim=1, descending=True).values
        best_Q = (ideal_QG[:, :k] * discount_K).sum(dim=1)
        values_Q[rows] = reached_Q / torch.where(best_Q > 0, best_Q, torch.nan)
    return values_Q
