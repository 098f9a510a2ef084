"""Train a small CLIP: ``python -m pretrain.train --recipe baseline --out runs/baseline``."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from crossgap.command import run_command
from crossgap.errors import InputError, check_known
from crossgap.provenance import commit, config_hash, versions
from crossgap.records import read_json, write_json
from crossgap.settings import check_same
from pretrain.bad import BadSamples
from pretrain.checkpoint import find_checkpoint, remove_leftovers
from pretrain.config import TrainConfig
from pretrain.data import TrainingPairs, load_pairs
from pretrain.loop import NonFiniteLoss, Run, Stopped
from pretrain.objective import WeightSchedule
from pretrain.processes import ALONE, Processes, joined
from pretrain.recipes import RECIPES, STRONG
from pretrain.recipes import smoke as shrink

__all__ = ["NonFiniteLoss", "TrainConfig", "TrainResult", "main", "train"]


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """The last checkpoint, the pairs drawn up to it and the seconds spent, interruptions left out."""

    checkpoint: Path
    pairs_seen: int
    seconds: float


def train(
    config: TrainConfig, out: Path, *, progress: bool = True, processes: Processes = ALONE
) -> TrainResult:
    """Train a model into a run directory, or go on where an earlier call stopped.

    Writes ``config.json``, ``metrics.jsonl`` and ``checkpoints/``. A run that was killed resumes from its
    newest whole checkpoint and ends, on a CPU with the same number of threads and processes, with the same
    bits as one that was not; a finished one is returned as it is. SIGTERM ends it after its step, with a
    checkpoint.

    With several ``processes``, each calls this with its own; they share ``out``. The batch is the same,
    whatever their number; another number may resume a run.

    Raises:
        InputError: ``out`` holds a run with another config or data, or the config does not fit the data.
        NonFiniteLoss: the loss is infinite or NaN.
        Stopped: SIGTERM came, and a checkpoint was written.
    """
    folder = out / "checkpoints"
    found = find_checkpoint(folder, _warn if processes.first else lambda damage: None)
    # without a checkpoint there is nothing to go on with: a run that never got that far may be replaced
    recorded = None if found is None else _check_config(config, out)
    checkpoint = None if found is None else found[1]
    if checkpoint is None or checkpoint.progress["step"] < config.steps:
        with _threads(config.threads):
            started = time.perf_counter()
            bad = BadSamples(limit=config.max_bad)
            pairs = load_pairs(
                config.data,
                image_size=config.stored_size,
                context_length=config.model.context_length,
                limit=config.limit,
                bad=bad,
            )
            if bad.reasons and processes.first:
                _warn(f"{len(bad.reasons)} bad samples left out: {dict(bad.by_shard)}")
            run = Run(config, out, pairs, checkpoint, started, processes)
            processes.wait()  # until all have read what lies there
            if processes.first:
                _record_config(config, out, run.batches.pairs, bad, recorded)
                remove_leftovers(folder, run.step)
            run.train(progress)
            processes.wait()  # until all is written
        found = find_checkpoint(folder, _warn)
    assert found is not None
    path, checkpoint = found
    done = checkpoint.progress
    return TrainResult(checkpoint=path, pairs_seen=done["pairs_seen"], seconds=done["seconds"])


def _warn(damage: str) -> None:
    print(f"warning: {damage}", file=sys.stderr)


def _check_config(config: TrainConfig, out: Path) -> dict[str, Any]:
    """Compare with the config that ``out`` was started with, and return its ``config.json``."""
    recorded: dict[str, Any] = read_json(out / "config.json")
    if "config" not in recorded:
        raise InputError(f"{out / 'config.json'} is not the config of a training run; give another --out")
    check_same(out, recorded["config"], config.as_json())
    return recorded


def _record_config(
    config: TrainConfig, out: Path, pairs: TrainingPairs, bad: BadSamples, recorded: dict[str, Any] | None
) -> None:
    if recorded is not None:
        if recorded["data"]["digest"] != pairs.digest:
            raise InputError(
                f"{out} was trained on other data: {config.data} had {recorded['data']['pairs']} pairs "
                f"(digest {recorded['data']['digest'][:12]}), now {len(pairs)} ({pairs.digest[:12]}); "
                "give another --out"
            )
        return
    write_json(
        out / "config.json",
        {
            "config": config.as_json(),
            "config_hash": config_hash(config.as_json()),
            "data": {"digest": pairs.digest, "pairs": len(pairs), "bad": bad.reasons},
            "versions": versions(),
            "commit": commit(),
        },
    )


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def main(
    *,
    recipe: str = "baseline",
    data: str | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    schedule: str | None = None,
    validation: str | None = None,
    weights: dict[str, float] | None = None,
    modifiers: dict[str, float] | None = None,
    schedules: dict[str, tuple[float, float, float]] | None = None,
    extra_views: Literal["alike", "strong"] | None = None,
    semantics: str | None = None,
    accumulate: int | None = None,
    max_bad: int | None = None,
    term_gradients: bool = False,
    seed: int | None = None,
    device: str | None = None,
    precision: str | None = None,
    threads: int | None = None,
    smoke: bool = False,
    out: Path | None = None,
) -> None:
    """Train a small CLIP on the embedded emoji or on your own shards.

    The same command resumes a run that was interrupted, and does nothing for one that is finished. What is
    not given is as the recipe has it.

    Args:
        recipe: one of the named runs of docs/objectives.md: baseline, learnable, image-image, slip, ...
        data: emoji, or shards of images with captions, 'path/{000..003}.tar', or a folder of
        pretrain.prepare.
        steps: updates.
        batch_size: pairs an update.
        learning_rate: its peak.
        schedule: of the learning rate after its warm-up: cosine or constant.
        validation: dataset on whose validation split each checkpoint is measured, as emoji; the best by
            image-to-text hit@1 is kept and named in checkpoints/best.
        weights: terms of the objective with their weights, in place of the recipe's, as: clip 1 image_ntxent
            0.5 (docs/objectives.md names them).
        modifiers: changes to the CLIP loss with their strengths, in place of the recipe's, as:
            label_smoothing 0.1.
        schedules: when a term has its weight: start, stop and ramp as shares of the run, as:
            centroid_penalty 0.2 1 0.1. The rate of learning has --schedule.
        extra_views: images after the first of a pair: alike, or strong (wider crops, more colour).
        semantics: file of caption embeddings, for terms that weigh by meaning; default: the captions' words.
        accumulate: parts of a batch that go through the towers one after another; the loss is the whole's.
        max_bad: samples that cannot be read to leave out, with a warning.
        term_gradients: log the norm of each term's own gradient.
        seed: of initialisation, order and views.
        device: auto, cpu, cuda, ...
        precision: fp32, or bf16 (autocast).
        threads: of torch on the CPU.
        smoke: shrink the run to its smallest form first.
        out: run directory; by default runs/<recipe>-s<seed>, or that with -smoke.
    """
    config = RECIPES[check_known(recipe, RECIPES, "recipe")]()
    if smoke:
        config = shrink(config)
    given: dict[str, Any] = {
        "data": data, "steps": steps, "batch_size": batch_size, "learning_rate": learning_rate,
        "seed": seed, "device": device, "precision": precision, "threads": threads, "semantics": semantics,
        "accumulate": accumulate, "max_bad": max_bad, "schedule": schedule,
        "validation": validation, "term_gradients": term_gradients or None,
    }  # fmt: skip
    config = replace(config, **{name: value for name, value in given.items() if value is not None})
    if extra_views is not None:
        config = replace(config, extra_augment=STRONG if extra_views == "strong" else None)
    changes: dict[str, Any] = {"weights": weights, "modifiers": modifiers}
    if schedules is not None:
        changes["schedules"] = {name: _schedule(name, *times) for name, times in schedules.items()}
    changes = {name: value for name, value in changes.items() if value is not None}
    if changes:
        config = replace(config, objective=replace(config.objective, **changes))
    folder = out or Path("runs") / f"{config.recipe}-s{config.seed}{'-smoke' if smoke else ''}"
    with joined(config.device) as processes:
        _train_and_say(config, folder, processes)


def _schedule(name: str, start: float, stop: float, ramp: float) -> WeightSchedule:
    try:
        return WeightSchedule(start=start, stop=stop, ramp=ramp)
    except InputError as error:
        raise InputError(f"schedule of {name}: {error}") from error


def _train_and_say(config: TrainConfig, folder: Path, processes: Processes) -> None:
    try:
        result = train(config, folder, processes=processes)
    except NonFiniteLoss as error:
        raise InputError(f"{error}; try a lower --learning-rate") from error
    except Stopped as error:
        if processes.first:
            print(f"stopped after step {error.step}; the same command goes on", file=sys.stderr)
        raise
    if not processes.first:
        return
    path = folder / "result.json"
    if path.exists():
        print(f"{folder}: already finished")
        return
    write_json(
        path,
        {
            "state": "complete",
            "checkpoint": str(result.checkpoint.relative_to(folder)),
            "pairs_seen": result.pairs_seen,
            "seconds": result.seconds,
        },
    )
    print(f"{folder}: {result.pairs_seen} pairs in {result.seconds:.0f} s; checkpoint {result.checkpoint}")


if __name__ == "__main__":
    sys.exit(run_command(main))
