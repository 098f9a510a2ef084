"""Retrieval by several processes that share the queries: seconds and peak memory against one process.

torchrun --standalone --nproc-per-node 2 -m benchmarks.shared --queries 2000 --gallery 20000
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.machine import seconds
from benchmarks.memory import forget_peak, peak, resident
from benchmarks.retrieval import KS, WIDTH, made
from benchmarks.tables import BenchTable, Cell
from crossgap.command import run_command
from crossgap.metrics.streaming import streamed_metrics
from crossgap.processes import joined


class Found(NamedTuple):
    """What retrieval took: of the slowest process, and the most that one held above its features."""

    seconds: float
    peak: float
    mean: float


def shared(
    queries: int = 20_000,
    gallery: int = 200_000,
    *,
    sizes: Sequence[int] = (1, 2),
    measure: Callable[[int, int, int], Found] | None = None,
    progress: Callable[[str], None],
) -> list[BenchTable]:
    """Retrieve with random features by each number of processes, which have the cores in equal parts."""
    rows: list[dict[str, Cell]] = []
    alone: Found | None = None
    for size in sizes:
        progress(f"{queries} x {gallery} features, {size} processes")
        found = (measure or _by_torchrun)(size, queries, gallery)
        alone = alone or found
        rows.append(
            {
                "processes": size,
                "s": found.seconds,
                "x first": alone.seconds / found.seconds,
                "peak of one, MiB": found.peak,
                "mAP - first's": found.mean - alone.mean,
            }
        )
    return [
        BenchTable(
            title=f"All retrieval metrics, {queries} queries, {gallery} in the gallery, width {WIDTH}",
            rows=rows,
            note="Peak above a process that holds the features. A process takes every n-th block of queries.",
        )
    ]


def _by_torchrun(size: int, queries: int, gallery: int) -> Found:
    threads = max(1, torch.get_num_threads() // size)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(size)]
    given = ["--queries", str(queries), "--gallery", str(gallery), "--threads", str(threads)]
    done = subprocess.run(
        [sys.executable, *launcher, "-m", "benchmarks.shared", *given],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
    )
    return Found(*json.loads(done.stdout.splitlines()[-1]))


def retrieve(queries: int, gallery: int) -> Found:
    """Retrieve in this process, with others where torchrun started some."""
    query_QD, gallery_GD, relevance, _ = made(queries, gallery)
    few = min(100, gallery)
    streamed_metrics(query_QD[:2], gallery_GD[:few], made(2, few)[2])
    with joined("cpu") as processes:
        gc.collect()
        resting = resident()
        forget_peak()
        values: dict[str, Tensor] = {}
        share = (processes.rank, processes.size)

        def run() -> None:
            values.update(streamed_metrics(query_QD, gallery_GD, relevance, ks=KS, share=share))
            values["mAP"] = processes.whole(values["mAP"])

        processes.wait()
        spent = seconds(run)
        own = torch.zeros(processes.size)
        own[processes.rank] = (peak() - resting) / 2**20
        return Found(spent, float(processes.whole(own).max()), float(values["mAP"].nanmean()))


def main(*, queries: int, gallery: int, threads: int = 1) -> None:
    """Print seconds, the peak of a process above its features in MiB, and mAP; the first process does.

    Args:
        queries: how many.
        gallery: items in the gallery.
        threads: CPU threads of each process.
    """
    torch.set_num_threads(threads)
    found = retrieve(queries, gallery)
    if os.environ.get("RANK", "0") == "0":
        print(json.dumps(found))


if __name__ == "__main__":
    sys.exit(run_command(main))
