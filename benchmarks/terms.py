"""What each recipe's step costs, as a ratio to the baseline's in the same rounds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from benchmarks.machine import interleave, seconds
from benchmarks.tables import BenchTable
from pretrain.config import TrainConfig
from pretrain.data.pairs import load_pairs
from pretrain.loop import Run
from pretrain.recipes import RECIPES


def terms(
    scratch: Path,
    *,
    rounds: int,
    steps: int = 2,
    shrink: Callable[[TrainConfig], TrainConfig] = replace,
    progress: Callable[[str], None],
) -> list[BenchTable]:
    """Time ``steps`` updates of every recipe, round after round, on the pairs of the baseline."""
    configs: Mapping[str, TrainConfig] = {name: shrink(recipe()) for name, recipe in RECIPES.items()}
    base = configs["baseline"]
    pairs = load_pairs(
        base.data,
        image_size=base.stored_size,
        context_length=base.model.context_length,
        limit=base.limit,
    )
    runs = {name: Run(config, scratch, pairs, None, time.perf_counter()) for name, config in configs.items()}

    def updates(run: Run) -> Callable[[], float]:
        def some() -> None:
            for _ in range(steps):
                run.advance()

        return lambda: seconds(some)

    for run in runs.values():  # what is allocated and compiled in a first step
        run.advance()
    times = interleave({name: updates(run) for name, run in runs.items()}, rounds, progress=progress)
    rows = [
        {
            "recipe": name,
            "s a step": timing.columns()["s"] / steps,
            "x baseline": timing.over(times["baseline"]),
        }
        for name, timing in times.items()
    ]
    return [BenchTable(title=f"A step of each recipe, batch {base.batch_size}", rows=rows)]
