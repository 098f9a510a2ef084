"""Retrieval metrics of lists that are never sorted.

Average precision needs the ranks of the relevant items alone. Only their scores are sorted; every other score
is counted against them. For each distinct score of r relevant items of a query this gives N, the items of a
higher score, n, the items of this score, and H, the relevant items of a higher score: with ties in a random
order ([0] McSherry and Najork, 2008, ECIR), every metric follows exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from crossgap.relevance import Relevance


class _Runs(NamedTuple):
    """Runs of equal scores that hold relevant items: one place a run, 0 relevant elsewhere."""

    above_BR: Tensor  # N: items of a higher score
    size_BR: Tensor  # n: items of this score
    relevant_BR: Tensor  # r: relevant ones among them
    before_BR: Tensor  # H: relevant items of a higher score


def counted_metrics(
    scores_BG: Tensor, relevance: Relevance, *, ks: Sequence[int], harmonic: Tensor
) -> dict[str, Tensor]:
    """Compute the metrics of :func:`crossgap.retrieval.retrieval_metrics` from one block of scores.

    With S(m) = sum_{p<=m} 1/(N+p) from a table of harmonic numbers, the first m places of a run give
    ``sum_{p<=m} r/n (H + 1 + (p-1)(r-1)/(n-1)) / (N+p) = r/n [(H+1) S(m) + (r-1)/(n-1) (m - (N+1) S(m))]``.

    Shape: (B, G), masks (B, G), harmonic (G + 1,) -> metric name -> (B,), float64. Unit: fraction. Range:
    [0, 1]; higher is better.
    """
    total_B1 = relevance.relevant_QG.to(scores_BG.device).sum(dim=1, keepdim=True)
    runs = _count(scores_BG, relevance, int(total_B1.max()) if len(total_B1) else 0)
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
    found = {
        "mAP": gained(runs.size_BR) / relevant_B,
        "mAP@R": gained(within_R) / relevant_B,
        "R-precision": (share_BR * within_R).sum(dim=1) / relevant_B,
    }
    for k in ks:
        found[f"hit@{k}"] = torch.where(relevant_B.isnan(), torch.nan, 1 - _miss(runs, k))
        found[f"recall@{k}"] = (share_BR * places(k)).sum(dim=1) / relevant_B
    return found


def harmonic_numbers(count: int, device: torch.device) -> Tensor:
    """Return H_0 ... H_count, float64: (count + 1,)."""
    parts = 1 / torch.arange(1, count + 1, dtype=torch.float64, device=device)
    return torch.cat([parts.new_zeros(1), parts.cumsum(0)])


def _count(scores_BG: Tensor, relevance: Relevance, most: int) -> _Runs:
    n_rows, device = len(scores_BG), scores_BG.device
    relevant_BG = relevance.relevant_QG.to(device)
    row_P, item_P = relevant_BG.nonzero(as_tuple=True)
    number_B = relevant_BG.sum(dim=1)
    first_B = number_B.cumsum(0) - number_B
    place_P = torch.arange(len(row_P), device=device) - first_B[row_P]
    # ascending, filled up with infinity, which no score reaches
    mark_BR = scores_BG.new_full((n_rows, most + 1), torch.inf)
    mark_BR[row_P, place_P] = scores_BG[row_P, item_P]
    mark_BR = mark_BR.sort(dim=1).values
    kept_BG = scores_BG.masked_fill(relevance.ignored_QG.to(device), -torch.inf)

    # the first mark that is not below a score: marks of one run share the place of their first
    under_BG = torch.searchsorted(mark_BR, kept_BG, out_int32=n_rows * (most + 1) < 2**31)
    under_BG += torch.arange(n_rows, device=device, dtype=under_BG.dtype)[:, None] * (most + 1)
    under_N = under_BG.flatten()
    here_N = mark_BR.flatten().index_select(0, under_N) == kept_BG.flatten()
    cells = n_rows * (most + 1)
    at_most_BR = under_N.bincount(minlength=cells).view(n_rows, -1)  # above the mark before, not above this
    size_BR = under_N[here_N].bincount(minlength=cells).view(n_rows, -1)
    above_BR = at_most_BR.flip(1).cumsum(1).flip(1) - at_most_BR

    opens_BR = torch.ones_like(mark_BR, dtype=torch.bool)
    opens_BR[:, 1:] = mark_BR[:, 1:] != mark_BR[:, :-1]
    opens_BR &= mark_BR.isfinite()
    run_BR = opens_BR.cumsum(1) - 1  # number of the run a mark lies in
    mates_BR = torch.zeros_like(size_BR).scatter_add(1, run_BR.clamp_min(0), mark_BR.isfinite().long())
    relevant_BR = torch.where(opens_BR, mates_BR.gather(1, run_BR.clamp_min(0)), 0)
    place_R = torch.arange(most + 1, device=device)
    before_BR = (number_B[:, None] - place_R - relevant_BR).clamp_min(0)
    return _Runs(above_BR, torch.where(opens_BR, size_BR, 0), relevant_BR, before_BR)


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
