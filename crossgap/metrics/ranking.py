"""What a sorted list says at each rank when equal scores leave its order open.

Everything is an expectation under a uniformly random order of the tied items ([0] McSherry and Najork, 2008,
"Computing information retrieval performance measures efficiently in the presence of tied scores", ECIR), so
no metric built on it depends on a sorting routine, a device or the order of the gallery.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from crossgap.errors import InputError
from crossgap.metrics.relevance import Relevance

# scores handled at once: bounds the float64 temporaries to some hundred megabytes
_BLOCK = 1 << 22


class Ranking(NamedTuple):
    """What a list says at each rank, in expectation over the order of tied items."""

    relevant_Q: Tensor  # number of relevant items in the list
    chance_QG: Tensor  # P(the item at this rank is relevant)
    precision_QG: Tensor  # E[precision down to this rank | the item at this rank is relevant]
    miss_QG: Tensor  # P(the item at this rank is irrelevant | all before it are irrelevant)


def row_blocks(scores_QG: Tensor) -> Iterator[slice]:
    """Cut the queries into blocks whose temporaries stay small."""
    n_queries, n_gallery = scores_QG.shape
    rows_at_once = max(1, _BLOCK // max(1, n_gallery))
    for start in range(0, n_queries, rows_at_once):
        yield slice(start, min(start + rows_at_once, n_queries))


def rankings(scores_QG: Tensor, relevance: Relevance) -> Iterator[tuple[Tensor, Ranking]]:
    """Give (query numbers, their ranking) block by block; each query comes once."""
    for rows in row_blocks(scores_QG):
        sorted_QG, hits_QG = sorted_lists(scores_QG[rows], relevance, rows)
        tied_Q = same_as_before(sorted_QG).any(dim=1)
        for chosen_Q, rank in ((~tied_Q, rank_distinct), (tied_Q, rank_tied)):
            if bool(chosen_Q.any()):
                numbers_Q = rows.start + chosen_Q.nonzero().squeeze(1)
                yield numbers_Q, rank(sorted_QG[chosen_Q], hits_QG[chosen_Q])


def check_scores(scores_QG: Tensor, relevance: Relevance) -> None:
    """Check that scores fit the masks and can be ranked.

    Raises:
        InputError: shapes that differ, scores that are no floating point numbers or not finite.
    """
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


def sorted_lists(scores_QG: Tensor, relevance: Relevance, rows: slice) -> tuple[Tensor, Tensor]:
    """Sort each list downwards; return the sorted scores and which ranks hold relevant items.

    Ignored items stand at the end under the score -inf, which no real item has.
    """
    sorted_QG, order_QG = sort_lists(scores_QG, relevance.ignored_QG[rows])
    return sorted_QG, relevance.relevant_QG[rows].to(scores_QG.device).gather(1, order_QG)


def sort_lists(scores_QG: Tensor, ignored_QG: Tensor) -> tuple[Tensor, Tensor]:
    """Sort each list downwards, ignored items last; return the sorted scores and the items' order."""
    kept_QG = scores_QG.masked_fill(ignored_QG.to(scores_QG.device), -torch.inf)
    return kept_QG.sort(dim=1, descending=True)


def same_as_before(sorted_QG: Tensor) -> Tensor:
    """Mark each rank whose item ties with the one before it; ignored items at the end never tie."""
    same_QG = torch.zeros_like(sorted_QG, dtype=torch.bool)
    same_QG[:, 1:] = (sorted_QG[:, 1:] == sorted_QG[:, :-1]) & (sorted_QG[:, 1:] > -torch.inf)
    return same_QG


def rank_distinct(sorted_QG: Tensor, hits_QG: Tensor) -> Ranking:
    """Read the lists of queries without ties: nothing is uncertain."""
    chance_QG = hits_QG.double()
    found_QG = chance_QG.cumsum(dim=1)
    rank_G = torch.arange(1, hits_QG.shape[1] + 1, device=hits_QG.device, dtype=torch.float64)
    return Ranking(hits_QG.sum(dim=1), chance_QG, found_QG / rank_G, 1 - chance_QG)


def rank_tied(sorted_QG: Tensor, hits_QG: Tensor) -> Ranking:
    """Read the lists of queries with ties, run of equal scores by run of equal scores."""
    starts_QG = ~same_as_before(sorted_QG)
    chance_QG = hits_QG.double()
    size_QG, relevant_QG = run_sums(sorted_QG, torch.ones_like(chance_QG)), run_sums(sorted_QG, chance_QG)

    rank_G = torch.arange(1, hits_QG.shape[1] + 1, device=hits_QG.device)
    before_QG = torch.where(starts_QG, rank_G - 1, 0).cummax(dim=1).values
    hits_before_QG = (chance_QG.cumsum(dim=1) - chance_QG).gather(1, before_QG)
    earlier_QG = rank_G - 1 - before_QG  # items of the same run above this rank: p - 1

    expected_QG = hits_before_QG + 1 + earlier_QG * (relevant_QG - 1) / (size_QG - 1).clamp_min(1)
    left_QG = size_QG - earlier_QG
    return Ranking(
        relevant_Q=hits_QG.sum(dim=1),
        chance_QG=relevant_QG / size_QG,
        precision_QG=expected_QG / rank_G,
        miss_QG=((left_QG - relevant_QG) / left_QG).clamp_min(0),
    )


def run_sums(sorted_QG: Tensor, values_QG: Tensor) -> Tensor:
    """Give at each rank the sum of the values over the run of equal scores that the rank lies in."""
    run_QG = (~same_as_before(sorted_QG)).cumsum(dim=1) - 1
    return torch.zeros_like(values_QG).scatter_add(1, run_QG, values_QG).gather(1, run_QG)
