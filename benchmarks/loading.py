"""Ways of loading, throughput and peak memory against dataset size and workers, each in a fresh process.

python -m benchmarks.loading --data 'shards/{000..019}.tar' --loading indexed --workers 2
"""

from __future__ import annotations

import gc
import io
import json
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import torch

from benchmarks.memory import forget_peak, in_fresh_process, peak, resident
from benchmarks.readers import pictures
from benchmarks.tables import BenchTable, Cell
from crossgap.command import run_command
from crossgap.datasets.bad import BadSamples
from crossgap.processes import ALONE
from pretrain.config import Loading, TrainConfig, smoke
from pretrain.data.pairs import TrainingPairs, load_pairs
from pretrain.loop import Run
from pretrain.run import open_data
from pretrain.start import start_model

_A_SHARD = 1000  # samples
_WORKERS = {"memory": (0,), "indexed": (1, 2), "resampled": (0, 1, 2)}


def loading(
    counts: Sequence[int] = (2000, 20000),
    *,
    steps: int = 20,
    small: bool = False,
    measure: Callable[..., dict[str, float]] | None = None,
    progress: Callable[[str], None],
) -> list[BenchTable]:
    """Draw batches, and train on them, from as many generated pictures as ``counts`` say.

    Args:
        counts: samples.
        steps: that are timed.
        small: with the smallest model and batch.
        measure: how one row is found; default: :func:`cost` in a fresh process.
    """
    rows: list[dict[str, Cell]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for count in counts:
            progress(f"{count} pairs: written")
            held, data = _write(Path(scratch) / str(count), count)
            for way in get_args(Loading):
                for workers in _WORKERS[way]:
                    progress(f"{count} pairs: {way}, {workers} workers")
                    found = (measure or _fresh)(data, way, workers, steps, small)
                    row: dict[str, Cell] = {"loading": way, "workers": workers, "pairs": count}
                    rows.append(row | {"files, MiB": held / 2**20} | found)
    return [
        BenchTable(
            title="Loading against dataset size and workers",
            rows=rows,
            note="JPEG files of 96 pixels, kept at 64. Memory is the peak above a process that has trained "
            "a step on a few of the pairs; reading processes are not in it. Start is what passes before the "
            "first batch, with reading all captions where they are kept. Loading alone draws batches, views "
            "included; training takes model and batch of the baseline on emoji. Streams train the whole "
            "token table.",
        )
    ]


def _write(folder: Path, count: int) -> tuple[int, str]:
    """Write shards of samples with a caption each; return their bytes and the pattern that names them."""
    folder.mkdir(parents=True)
    held = 0
    images = pictures(count)
    shards = -(-count // _A_SHARD)
    for shard in range(shards):
        path = folder / f"{shard:03d}.tar"
        with tarfile.open(path, "w") as archive:
            for number in range(shard * _A_SHARD, min(count, (shard + 1) * _A_SHARD)):
                caption = f"picture {number} of kind {number % 97}, in shard {shard}"
                for extension, part in (("jpg", next(images)), ("txt", caption.encode())):
                    member = tarfile.TarInfo(f"{number:06d}.{extension}")
                    member.size = len(part)
                    archive.addfile(member, io.BytesIO(part))
        held += path.stat().st_size
    return held, f"{folder}/{{000..{shards - 1:03d}}}.tar"


def _fresh(data: str, way: Loading, workers: int, steps: int, small: bool) -> dict[str, float]:
    given = ["--data", data, "--loading", way, "--workers", str(workers), "--steps", str(steps)]
    found: dict[str, float] = in_fresh_process("benchmarks.loading", *given, *(["--small"] if small else []))
    return found


def cost(data: str, way: Loading, workers: int, steps: int, small: bool) -> dict[str, float]:
    """Measure one way of loading in this process."""
    config = TrainConfig(recipe="bench", data=data, device="cpu")
    if small:
        config = replace(smoke(config), limit=None, batch_size=8)
    config = replace(config, loading=way, workers=workers, steps=10_000)
    _run(config, _few(config)).advance()
    gc.collect()
    resting = resident()
    forget_peak()
    started = time.perf_counter()
    start = start_model(config)
    run = _run(config, open_data(config, start, ALONE, BadSamples(limit=0), None))
    parts = ("image", "text")
    run.batches.batch(0, parts)
    first = time.perf_counter() - started
    drawn = _pairs_a_second(config, steps, lambda step: run.batches.batch(step + 1, parts))
    trained = _pairs_a_second(config, steps, lambda step: run.advance())
    return {
        "start, s": first,
        "peak memory, MiB": (peak() - resting) / 2**20,
        "loading alone, pairs/s": drawn,
        "training, pairs/s": trained,
    }


def _few(config: TrainConfig) -> TrainingPairs:
    first = config.data.split("{")[0] + "000.tar"
    return load_pairs(
        first, image_size=config.stored_size, context_length=config.model.context_length,
        limit=config.batch_size,
    )  # fmt: skip


def _run(config: TrainConfig, data: Any) -> Run:
    return Run(config, Path(), data, None, 0.0)


def _pairs_a_second(config: TrainConfig, steps: int, act: Callable[[int], object]) -> float:
    started = time.perf_counter()
    for step in range(steps):
        act(step)
    return steps * config.batch_size / (time.perf_counter() - started)


def main(
    *, data: str, loading: Loading, workers: int, steps: int = 20, small: bool = False, threads: int = 1
) -> None:
    """Print, as JSON, what one way of loading costs.

    Args:
        data: shards.
        loading: memory, indexed or resampled.
        workers: that decode.
        steps: that are timed.
        small: with the smallest model and batch.
        threads: CPU threads.
    """
    torch.set_num_threads(threads)
    print(json.dumps(cost(data, loading, workers, steps, small)))


if __name__ == "__main__":
    sys.exit(run_command(main))
