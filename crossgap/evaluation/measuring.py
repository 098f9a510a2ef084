"""A task by a route: from the features of both sides to the values of queries, and how classes separate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from crossgap.datasets.tasks import Extra
from crossgap.errors import InputError
from crossgap.evaluation.features import Ranked
from crossgap.evaluation.routes import INTRA
from crossgap.evaluation.sides import Made, Sides
from crossgap.metrics import misalignment
from crossgap.metrics.landmark import capped_precision, trapezoidal_ap
from crossgap.metrics.ndcg import ndcg
from crossgap.metrics.relevance import Judgement, Relevance
from crossgap.metrics.similarity import cosine_scores
from crossgap.metrics.streaming import streamed_metrics

KS = (1, 5, 10)
ALONE = Ranked()
# Scores held at once for what needs all pairs of a task: histograms and the separation of classes.
DENSE = 1 << 26


class Separation(NamedTuple):
    """A number of how same-class scores lie among the others."""

    metric: str
    unit: str
    value: float


@dataclass(frozen=True, eq=False)
class MeasuredRoute:
    """What a task gives by a route: metric -> its value for each query; the separation, or why there is none.

    Shape: each (Q,), NaN for a query with nothing to find.
    """

    made: Made
    values: dict[str, Tensor]
    separation: tuple[Separation, ...] | str = ()


class Tried(NamedTuple):
    """One value of a setting, tried on the validation split, and the metric that chooses, query by query."""

    made: Made
    metric: str
    values_Q: Tensor


class Skipped(NamedTuple):
    """What could not be measured, and why."""

    name: str
    reason: str


def measure(scored: Sides, ranked: Ranked = ALONE) -> MeasuredRoute:
    """Retrieve by cosine and measure each query; among items of one modality how classes separate, too.

    Separation needs all pairs at once; it is left out along curves and of a random order. Processes share the
    queries.
    """
    made = scored.made
    values = query_values(scored, ranked)
    separated = made.selection != "curve" and made.task.kind in INTRA and made.route != "chance"
    return MeasuredRoute(made, values, separation(scored) if separated else ())


def query_values(scored: Sides, ranked: Ranked = ALONE) -> dict[str, Tensor]:
    """Compute the metrics of a task for every query, and those that it reports beside the usual ones.

    Processes share the blocks of queries, which are those of one process: the values are the same bits.

    Shape: metric -> (Q,), NaN for a query with nothing to find.
    """
    processes = ranked.processes
    with processes.alike():
        own = _own_values(scored, ranked.device, share=(processes.rank, processes.size))
        together_MQ = torch.stack(list(own.values()))
    return dict(zip(own, processes.whole(together_MQ), strict=True))


def _own_values(scored: Sides, device: torch.device, *, share: tuple[int, int]) -> dict[str, Tensor]:
    """Compute the values of a share of the queries (:func:`streamed_metrics`); those of the others are 0."""
    extras = scored.made.task.extras
    values = streamed_metrics(
        scored.query_QD,
        scored.gallery_GD,
        scored.relevance,
        ks=KS,
        past_r="mAP@R+1" in extras,
        device=device,
        share=share,
    )
    first, every = share
    n_queries, block = len(scored.query_QD), max(1, DENSE // len(scored.gallery_GD))
    for name in (extra for extra in extras if extra in _OF_LISTS):
        values[name] = torch.zeros(n_queries, dtype=torch.float64)
        for start in range(first * block, n_queries, every * block):
            rows = slice(start, start + block)
            scores_BG = cosine_scores(scored.query_QD[rows], scored.gallery_GD)
            values[name][rows] = _OF_LISTS[name](scores_BG, scored.relevance.rows(rows)).double()
    return values


def separation(scored: Sides) -> tuple[Separation, ...] | str:
    """Measure how far same-class scores lie among the others, over all pairs; or say why that cannot be."""
    n_queries, n_gallery = len(scored.query_QD), len(scored.gallery_GD)
    if n_queries * n_gallery > DENSE:
        return f"needs all {n_queries} x {n_gallery} scores at once"
    scores_QG = cosine_scores(scored.query_QD, scored.gallery_GD)
    relevance = scored.relevance.rows(slice(0, n_queries))
    try:
        auc = misalignment.same_other_auc(scores_QG, relevance)
    except InputError as error:  # no pairs of both kinds
        return str(error)
    overlap = misalignment.same_other_overlap(scores_QG, relevance)
    return (
        Separation("same_other_auc", "fraction", float(auc)),
        Separation("same_other_overlap", "fraction", float(overlap.shared)),
        Separation("same_other_iou", "ratio", float(overlap.iou)),
        Separation("d_prime", "standard deviations", float(overlap.d_prime)),
    )


def findable(relevance: Judgement, n_queries: int) -> bool:
    """Tell whether any query of a task has something to find."""
    blocks = (relevance.rows(slice(start, start + 64)) for start in range(0, n_queries, 64))
    return any(bool(block.relevant_QG.any()) for block in blocks)


def _ndcg_at_10(scores_BG: Tensor, relevance: Relevance) -> Tensor:
    return ndcg(scores_BG, relevance.relevant_QG.double(), k=10, ignored_QG=relevance.ignored_QG)


# extras that need whole lists of scores
_OF_LISTS: dict[Extra, Callable[[Tensor, Relevance], Tensor]] = {
    "mAP_trapezoidal": trapezoidal_ap,
    "mP@1": partial(capped_precision, k=1),
    "mP@5": partial(capped_precision, k=5),
    "mP@10": partial(capped_precision, k=10),
    "nDCG@10": _ndcg_at_10,
}
