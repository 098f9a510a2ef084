"""Retrieval metrics: tensors against plain loops."""

from __future__ import annotations

import torch

from benchmarks.machine import interleave, seconds
from benchmarks.tables import Table
from crossgap.relevance import Relevance
from crossgap.retrieval import retrieval_metrics
from tests.reference import plain_retrieval


def retrieval(*, queries: int = 50, gallery: int = 400, rounds: int) -> list[Table]:
    """Time all retrieval metrics of random scores."""
    generator = torch.Generator().manual_seed(0)
    scores_QG = torch.randn(queries, gallery, generator=generator)
    relevant_QG = torch.rand(queries, gallery, generator=generator) < 0.05
    relevance = Relevance(relevant_QG=relevant_QG, ignored_QG=torch.zeros_like(relevant_QG))
    lists = [
        (scores, relevant, [False] * gallery, (1, 5, 10))
        for scores, relevant in zip(scores_QG.tolist(), relevant_QG.tolist(), strict=True)
    ]
    retrieval_metrics(scores_QG, relevance)
    times = interleave(
        {
            "plain loops": lambda: seconds(lambda: [plain_retrieval(*one) for one in lists]),
            "ours": lambda: seconds(lambda: retrieval_metrics(scores_QG, relevance)),
        },
        rounds,
    )
    return [
        Table(
            title=f"Retrieval metrics, {queries} queries, {gallery} in the gallery",
            rows=[
                {"what": name, **timing.columns(), "x plain": times["plain loops"].over(timing)}
                for name, timing in times.items()
            ],
        )
    ]
