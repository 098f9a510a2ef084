"""A training step on scenes without end against the same step whose batch was painted before."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path

from benchmarks.machine import interleave, seconds
from benchmarks.tables import BenchTable
from crossgap.datasets.bad import BadSamples
from crossgap.processes import ALONE
from pretrain.config import TrainConfig
from pretrain.data.batches import DrawnPairs
from pretrain.data.scenes import EndlessBatches
from pretrain.loop import Run
from pretrain.run import open_data
from pretrain.start import start_model


def scenes(
    scratch: Path, *, config: TrainConfig | None = None, steps: int = 5, rounds: int, different: int = 40
) -> list[BenchTable]:
    """Time steps of training with scenes painted as they are drawn and with scenes that lie ready.

    Args:
        scratch: a folder, in which nothing is written.
        config: of both runs; default: the baseline's model and batch, mention 0.3.
        steps: that are timed in a round.
        rounds: how often.
        different: batches that lie ready, and come again after so many steps.
    """
    config = replace(config or TrainConfig(recipe="bench", data="scenes:mention=0.3"), steps=10_000)
    painted, ready = (_run(config, scratch) for _ in range(2))
    batches = painted.batches
    assert isinstance(batches, EndlessBatches)
    parts = ("image", "text")
    drawings = seconds(lambda: [batches.drawn(step, parts) for step in range(different)])
    given = {part.name: getattr(batches, part.name) for part in fields(batches)}
    ready.batches = _Ready(**given, different=different)
    ready.batches.drawn(0, parts)

    def some(run: Run) -> Callable[[], float]:
        def updates() -> None:
            for _ in range(steps):
                run.advance()

        return lambda: seconds(updates)

    for run in (painted, ready):  # what is allocated in the first step
        run.advance()
    times = interleave({"painted as drawn": some(painted), "painted before": some(ready)}, rounds)
    before = times["painted before"]
    rows = [
        {"scenes": name, "ms a step": 1000 * timing.median / steps, "x painted before": timing.over(before)}
        for name, timing in times.items()
    ]
    again = seconds(lambda: [batches.drawn(step, parts) for step in range(different)])
    note = (
        f"Both make the views of each step. Drawing, captioning, painting and tokenising alone take "
        f"{1000 * again / different:.1f} ms a batch, once drawings are cut out and turned; the first "
        f"{different} batches took {1000 * drawings / different:.1f} ms each."
    )
    return [BenchTable(title=f"A step on scenes, batch {config.batch_size}", rows=rows, note=note)]


def _run(config: TrainConfig, scratch: Path) -> Run:
    start = start_model(config)
    data = open_data(config, start, ALONE, BadSamples(limit=0), None)
    return Run(config, scratch, data, None, time.perf_counter(), start=start)


@dataclass(frozen=True, kw_only=True)
class _Ready(EndlessBatches):
    """The first batches of a run, drawn once and kept."""

    different: int

    @cached_property
    def _kept(self) -> list[DrawnPairs]:
        return [super(_Ready, self).drawn(step, ("image", "text")) for step in range(self.different)]

    def drawn(self, step: int, parts: Collection[str], rows: slice = slice(None)) -> DrawnPairs:
        return self._kept[step % self.different]
