"""Retrieval metrics read off sorted scores alone: no item is carried along.

Average precision needs the ranks of the relevant items only, and a rank is a count of higher scores. So the
bare scores of a list are sorted, and those of its relevant items looked up. For each distinct score of r
relevant items this gives N, the items of a higher score, n, the items of this score, and H, the relevant
ones of a higher score: with ties in a random order ([0] McSherry and Najork, 2008, ECIR), every metric
follows exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from crossgap.metrics.relevance import Relevance
from crossgap.sorting import sort_rows


class _Runs(NamedTuple):
    """Runs of equal scores that hold relevant items: one place a run, 0 relevant elsewhere."""

    above_BR: Tensor  # N: items of a higher score
    size_BR: Tensor  # n: items of this score
    relevant_BR: Tensor  # r: relevant ones among them
    before_BR: Tensor  # H: relevant items of a higher score
    total_B: Tensor  # relevant items of a query


def counted_metrics(
    scores_BG: Tensor,
    relevance: Relevance,
    *,
    ks: Sequence[int],
    harmonic: Tensor,
    past_r: bool = False,
) -> dict[str, Tensor]:
    """Compute the metrics of :func:`crossgap.metrics.retrieval.retrieval_metrics` from one block of scores.

    With S(m) = sum_{p<=m} 1/(N+p) from a table of harmonic numbers, the first m places of a run give
    ``sum_{p<=m} r/n (H + 1 + (p-1)(r-1)/(n-1)) / (N+p) = r/n [(H+1) S(m) + (r-1)/(n-1) (m - (N+1) S(m))]``.

    ``past_r`` adds ``mAP@R+1``, the same sum to rank R + 1 and still over R: what the paper's released code
    calls mAP@R where the query itself is in the gallery, for it counts R before it removes the query.

    Shape: (B, G), masks (B, G), harmonic (G + 1,) -> metric name -> (B,), float64. Unit: fraction. Range:
    [0, 1]; higher is better.
    """
    runs = _count(scores_BG, relevance)
    total_B1 = runs.total_B[:, None]
    share_BR = runs.relevant_BR.double() / runs.size_BR.clamp_min(1)
    slope_BR = (runs.relevant_BR - 1).clamp_min(0).double() / (runs.size_BR - 1).clamp_min(1)

    def places(most: Tensor | int) -> Tensor:
        """Count the places of each run down to a rank."""
        return torch.minimum((most - runs.above_BR).clamp_min(0), runs.size_BR)

    def gained(places_BR: Tensor) -> Tensor:
        sum_BR = harmonic[runs.above_BR + places_BR] - harmonic[runs.above_BR]
        later_BR = places_BR - (runs.above_BR + 1) * sum_BR
        return (share_BR * ((runs.before_BR + 1) * sum_BR + slope_BR * later_BR)).sum(dim=1)

    relevant_B = torch.where(total_B1 > 0, total_B1, torch.nan).double().squeeze(1)
    within_R = places(total_B1)
    metrics = {
        "mAP": gained(runs.size_BR) / relevant_B,
        "mAP@R": gained(within_R) / relevant_B,
        "R-precision": (share_BR * within_R).sum(dim=1) / relevant_B,
    }
    if past_r:
        metrics["mAP@R+1"] = gained(places(total_B1 + 1)) / relevant_B
    for k in ks:
        metrics[f"hit@{k}"] = torch.where(relevant_B.isnan(), torch.nan, 1 - _miss(runs, k))
        metrics[f"recall@{k}"] = (share_BR * places(k)).sum(dim=1) / relevant_B
    return metrics


def harmonic_numbers(count: int, device: torch.device) -> Tensor:
    """Return H_0 ... H_count, float64: (count + 1,)."""
    parts = 1 / torch.arange(1, count + 1, dtype=torch.float64, device=device)
    return torch.cat([parts.new_zeros(1), parts.cumsum(0)])


def _count(scores_BG: Tensor, relevance: Relevance) -> _Runs:
    n_rows, n_items = scores_BG.shape
    device = scores_BG.device
    row_P, item_P = relevance.relevant_QG.to(device).nonzero(as_tuple=True)
    number_B = row_P.bincount(minlength=n_rows)
    first_B = number_B.cumsum(0) - number_B
    place_P = torch.arange(len(row_P), device=device) - first_B[row_P]
    # the scores of relevant items, ascending, filled up with infinity, which no score reaches
    most = int(number_B.max()) if n_rows else 0
    mark_BR = scores_BG.new_full((n_rows, most + 1), torch.inf)
    mark_BR[row_P, place_P] = scores_BG[row_P, item_P]
    mark_BR = mark_BR.sort(dim=1).values
    sorted_BG = sort_rows(scores_BG.masked_fill(relevance.ignored_QG.to(device), -torch.inf))
    left_BR, right_BR = (torch.searchsorted(sorted_BG, mark_BR, right=right) for right in (False, True))

    opens_BR = torch.ones_like(mark_BR, dtype=torch.bool)
    opens_BR[:, 1:] = mark_BR[:, 1:] != mark_BR[:, :-1]
    opens_BR &= mark_BR.isfinite()
    run_BR = (opens_BR.cumsum(1) - 1).clamp_min(0)  # number of the run a mark lies in
    mates_BR = torch.zeros_like(run_BR).scatter_add(1, run_BR, mark_BR.isfinite().long())
    relevant_BR = torch.where(opens_BR, mates_BR.gather(1, run_BR), 0)
    place_R = torch.arange(most + 1, device=device)
    before_BR = (number_B[:, None] - place_R - relevant_BR).clamp_min(0)
    size_BR = torch.where(opens_BR, right_BR - left_BR, 0)
    return _Runs(n_items - right_BR, size_BR, relevant_BR, before_BR, number_B)


def _miss(runs: _Runs, k: int) -> Tensor:
    """Give the chance that no relevant item is among the first k: a matter of the highest run alone."""
    place_R = torch.arange(runs.relevant_BR.shape[1], device=runs.above_BR.device)
    highest_B1 = (place_R * (runs.relevant_BR > 0)).argmax(dim=1, keepdim=True)
    above_B, size_B, relevant_B = (
        part_BR.gather(1, highest_B1).squeeze(1)
        for part_BR in (runs.above_BR, runs.size_BR, runs.relevant_BR)
    )
    miss_B = torch.ones_like(above_B, dtype=torch.float64)
    for drawn in range(k):
        left_B = size_B - drawn
        chance_B = (left_B - relevant_B).clamp_min(0).double() / left_B.clamp_min(1)
        miss_B = torch.where((above_B + drawn < k) & (left_B > 0), miss_B * chance_B, miss_B)
    return miss_B
