"""Retrieval metrics: against the loop over queries that published evaluations use, and as galleries grow."""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.machine import interleave, seconds
from benchmarks.memory import forget_peak, in_fresh_process, peak, resident
from benchmarks.tables import BenchTable, Cell
from crossgap.command import run_command
from crossgap.metrics.pair_metrics import pair_metrics
from crossgap.metrics.relevance import LabelRelevance
from crossgap.metrics.streaming import streamed_metrics
from tests.reference_metrics import published_metrics

WIDTH = 512
KS = (1, 5, 10)


def retrieval(
    *, queries: int = 2000, gallery: int = 50_000, looped: int = 100, rounds: int
) -> list[BenchTable]:
    """Time all retrieval metrics of random features against the loop, on ``looped`` of the queries."""
    query_QD, gallery_GD, relevance, classes = made(queries, gallery)
    looped = min(looped, queries)
    kept = relevance.rows(slice(0, looped)).relevant_QG
    found: dict[str, dict[str, Tensor]] = {}

    def loop() -> None:
        found["loop"] = published_metrics(query_QD[:looped], gallery_GD, kept, ks=KS)

    def ours() -> None:
        found["ours"] = streamed_metrics(query_QD, gallery_GD, relevance, ks=KS)

    times = interleave({"loop": lambda: seconds(loop), "ours": lambda: seconds(ours)}, rounds)
    apart = max(
        float((found["ours"][name][:looped] - values_Q).abs().max())
        for name, values_Q in found["loop"].items()
    )
    rows: list[dict[str, Cell]] = []
    for name, count in (("loop", looped), ("ours", queries)):
        columns = times[name].columns()
        each = 1000 * float(columns["s"]) / count  # type: ignore[arg-type]
        rows.append({"what": name, "queries": count, **columns, "ms a query": each})
    loop_each, ours_each = (float(row["ms a query"]) for row in rows)  # type: ignore[arg-type]
    for row, ratio in zip(rows, (1.0, loop_each / ours_each), strict=True):
        row["x loop"] = ratio
    return [
        BenchTable(
            title=f"All retrieval metrics, {queries} queries, {gallery} in the gallery, width {WIDTH}",
            rows=rows,
            note=f"{classes} classes. The loop: a product, torchmetrics' average precision and two sorts a "
            "query, on scores shifted above 0, where that is right. Largest difference of any value: "
            f"{apart:.1g}.",
        )
    ]


def scale(
    sizes: Sequence[int] = (5_000, 20_000, 50_000, 100_000, 200_000, 1_280_000),
    *,
    queries: int = 500,
    measure: Callable[[int, int], tuple[float, float]] | None = None,
    progress: Callable[[str], None],
) -> list[BenchTable]:
    """Measure seconds and peak memory as the gallery grows, each size in a fresh process."""
    rows: list[dict[str, Cell]] = []
    for size in sizes:
        progress(f"gallery of {size}")
        spent, used = (measure or _fresh)(queries, size)
        rows.append(
            {
                "gallery": size,
                "s": spent,
                "million scores a second": queries * size / spent / 1e6,
                "features, MiB": size * WIDTH * 4 / 2**20,
                "peak above them, MiB": used,
            }
        )
    largest = rows[-1]
    hours = float(largest["s"]) * 50_000 / queries / 3600  # type: ignore[arg-type]
    return [
        BenchTable(
            title=f"Streamed retrieval metrics, {queries} queries, width {WIDTH}",
            rows=rows,
            note="A hundredth of the gallery in each class. At the last row's pace 50,000 queries take "
            f"{hours:.1f} h (extrapolated) in the same memory: queries go by in blocks.",
        )
    ]


def pairs(*, count: int = 5000, width: int = WIDTH, seed: int = 0) -> list[BenchTable]:
    """Time every metric of gap and geometry on random pairs with a gap."""
    generator = torch.Generator().manual_seed(seed)
    shared_ND = torch.randn(count, width, generator=generator)
    image_ND, text_ND = (
        F.normalize(shared_ND + torch.randn(count, width, generator=generator) + offset, dim=1)
        for offset in (0.3, -0.3)
    )
    labels = [str(row % 100) for row in range(count)]
    names = [str(row) for row in range(count)]
    rows: list[dict[str, Cell]] = []
    start = last = time.perf_counter()
    for metric in pair_metrics(image_ND, text_ND, labels=labels, clusters=names, seed=seed):
        now = time.perf_counter()
        rows.append({"metric": metric.name, "s": now - last})
        last = now
    rows.append({"metric": "all of them", "s": time.perf_counter() - start})
    return [
        BenchTable(
            title=f"Gap and misalignment metrics, {count} pairs, width {width}",
            rows=rows,
            note="In the order of their making; what one computes for several counts with the first. 100 "
            "classes.",
        )
    ]


def made(queries: int, gallery: int) -> tuple[Tensor, Tensor, LabelRelevance, int]:
    """Make random features in classes, who is relevant to whom, and the number of classes."""
    generator = torch.Generator().manual_seed(0)
    classes = max(2, min(100, gallery // 10))
    labels = [str(row % classes) for row in range(gallery)]
    centre_CD = torch.randn(classes, WIDTH, generator=generator)

    def around(rows: int) -> Tensor:
        noise_ND = torch.randn(rows, WIDTH, generator=generator)
        return F.normalize(noise_ND.mul_(4) + centre_CD[torch.arange(rows) % classes], dim=1)

    query_QD, gallery_GD = around(queries), around(gallery)
    relevance = LabelRelevance(
        [f"query-{row}" for row in range(queries)],
        [f"item-{row}" for row in range(gallery)],
        [str(row % classes) for row in range(queries)],
        labels,
    )
    return query_QD, gallery_GD, relevance, classes


def _fresh(queries: int, gallery: int) -> tuple[float, float]:
    given = ["--queries", str(queries), "--gallery", str(gallery)]
    spent, used = in_fresh_process("benchmarks.retrieval", *given)
    return spent, used


def main(*, queries: int, gallery: int, threads: int = 1) -> None:
    """Print seconds, and MiB above the process that holds the features, of one streamed evaluation."""
    torch.set_num_threads(threads)
    query_QD, gallery_GD, relevance, _ = made(queries, gallery)
    streamed_metrics(query_QD[:2], gallery_GD[:100], made(2, 100)[2])
    gc.collect()
    resting = resident()
    forget_peak()
    spent = seconds(lambda: streamed_metrics(query_QD, gallery_GD, relevance))
    print(json.dumps([spent, (peak() - resting) / 2**20]))


if __name__ == "__main__":
    sys.exit(run_command(main))
