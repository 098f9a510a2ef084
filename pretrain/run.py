"""A training run: a folder in which a model is trained, resumed, or found finished."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, is_dataclass, replace
from pathlib import Path
from typing import Any, get_args, get_origin

import torch

from crossgap.datasets.bad import BadSamples
from crossgap.datasets.scenes.options import SceneOptions, is_scenes
from crossgap.encoders.devices import resolve_device, time_of_bf16
from crossgap.errors import InputError
from crossgap.files import RESULT, read_json, read_lines, write_json
from crossgap.processes import ALONE, Processes
from crossgap.progress import told
from crossgap.provenance import commit, config_hash, versions
from crossgap.settings.same import check_same
from crossgap.settings.strict import hints_of
from pretrain.checkpoint import Checkpoint, find_checkpoint, remove_leftovers
from pretrain.config import TrainConfig
from pretrain.cost import memory_named
from pretrain.data.pairs import TrainingPairs, load_pairs, shards_of
from pretrain.data.resampled import ShardStream, readers_named
from pretrain.data.scenes import EndlessScenes, fixed_scenes
from pretrain.labels import about_run, label_of
from pretrain.looking.curves import CURVES, write_curves
from pretrain.looking.summary import summary
from pretrain.loop import VALIDATION, Run, Stopped
from pretrain.processes import check_shares
from pretrain.start import Start, check_same_model, start_model
from pretrain.terms import TERMS
from pretrain.tracking import open_trackers, tracker_packages
from pretrain.update import NonFiniteLoss
from pretrain.validation import check_validation

_WORTH_BF16 = 2 / 3  # of the time in fp32, at most: factors have to be cast


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """The last checkpoint, the pairs drawn up to it and the seconds spent, interruptions left out."""

    checkpoint: Path
    pairs_seen: int
    seconds: float


def train(
    config: TrainConfig,
    out: Path,
    *,
    progress: bool = True,
    processes: Processes = ALONE,
    track: Sequence[str] = (),
    label: str | None = None,
) -> TrainResult:
    """Train a model into a run directory, or go on where an earlier call stopped.

    Writes ``config.json``, ``metrics.jsonl`` and ``checkpoints/``. A run that was killed resumes from its
    newest whole checkpoint and ends, on a CPU with the same number of threads and processes, with the same
    bits as one that was not; a finished one is returned as it is, or goes on for more steps where its
    schedules allow that (:func:`pretrain.run.why_not_longer`). SIGTERM or Ctrl-C ends it after its step,
    with a checkpoint.

    ``label`` is what a study calls the run; without it, what its settings are.

    ``track`` names experiment trackers that are told what ``metrics.jsonl`` is; one that fails is left out.

    With several ``processes``, each calls this with its own; they share ``out``. The batch is the same,
    whatever their number; another number may resume a run.

    Raises:
        InputError: ``out`` holds a run with another config or data, or one that cannot become
            longer; or the config does not fit the data.
        NonFiniteLoss: the loss is infinite or NaN.
        Stopped: SIGTERM or Ctrl-C came, and a checkpoint was written.
    """
    with processes.together():
        packages = tracker_packages(track if processes.first else ())
        if processes.first and config.validation is not None:
            with told(f"reading {config.validation}, split val"):
                check_validation(config.validation)
    config = _with_precision(config, out, processes)
    folder = out / "checkpoints"
    latest = find_checkpoint(folder, warn if processes.first else lambda damage: None)
    # without a checkpoint there is nothing to go on with: a run that never got that far may be replaced
    checkpoint = None if latest is None else latest[1]
    step = 0 if checkpoint is None else checkpoint.progress["step"]
    recorded = None if checkpoint is None else _check_config(config, out, step)
    processes.check_same(
        f"{config} {step}",
        f"the processes do not agree on the settings or on the step that {out} has reached ({step} here); "
        "--out must lie in a file system that all share, and all need the same command",
    )
    if step < config.steps:
        with _threads(config.threads):
            started = time.perf_counter()
            check_shares(config.batch_size, config.accumulate, processes)
            bad = BadSamples(limit=config.max_bad)
            with processes.together():
                with told(f"making the model{f' from {config.encoder}' if config.encoder else ''}"):
                    start = start_model(config)
                if checkpoint is not None:
                    check_same_model(start, checkpoint.open_clip_config, out)
                if processes.first:
                    for note in start.notes:
                        print(note, file=sys.stderr)
                with told(f"reading {config.data}"):
                    data = open_data(config, start, processes, bad, checkpoint)
            if bad.reasons and processes.first:
                warn(f"{len(bad.reasons)} bad samples left out: {dict(bad.by_shard)}")
            bad.say = warn
            with processes.together():
                run = Run(
                    config, out, data, checkpoint, started, processes, start=start, bad=bad, label=label
                )
            processes.check_same(
                run.digest,
                f"the processes read other data from {config.data} than each other ({run.amount} here)",
            )
            with processes.together():  # and all have read what lies there
                if processes.first:
                    _record_config(config, out, run, recorded, label)
                    remove_leftovers(folder, run.step)
            with (
                readers_named(),
                open_trackers(
                    packages, out, name=out.name, config=config.as_json(), step=step, warn=warn
                ) as trackers,
            ):
                run.train(progress, trackers)
                processes.wait()  # until all is written
        latest = find_checkpoint(folder, warn)
    assert latest is not None
    path, checkpoint = latest
    done = checkpoint.progress
    return TrainResult(checkpoint=path, pairs_seen=done["pairs_seen"], seconds=done["seconds"])


def open_data(
    config: TrainConfig,
    start: Start,
    processes: Processes,
    bad: BadSamples,
    checkpoint: Checkpoint | None,
) -> TrainingPairs | ShardStream | EndlessScenes:
    """Open the data of a run: pairs that can be indexed, or what has no end.

    A stream of shards goes on where ``checkpoint`` stopped.
    """
    if is_scenes(config.data):
        options = SceneOptions.parse(config.data)
        if config.endless:
            return EndlessScenes(options=options, context_length=start.context_length, tokens=start.tokens)
        return fixed_scenes(
            options, context_length=start.context_length, limit=config.limit, tokens=start.tokens
        )
    image_size = max(config.stored_size, start.image_size)
    done: dict[str, Any] = {"step": 0, "bad": []} if checkpoint is None else checkpoint.progress
    if config.loading != "resampled":
        pairs = load_pairs(
            config.data,
            image_size=image_size,
            context_length=start.context_length,
            limit=config.limit,
            bad=bad,
            keep_in_shards=config.loading == "indexed",
            workers=config.workers,
            whole_texts=config.whole_texts,
            tokens=start.tokens,
        )
        bad.remember(done["bad"])  # images that stay in shards are met when they are drawn
        return pairs
    bad.remember(done["bad"])
    return ShardStream(
        shards=tuple(shards_of(config.data)),
        image_size=image_size,
        context_length=start.context_length,
        share=config.batch_size // processes.size,
        rank=processes.rank,
        seed=config.seed,
        start=done["step"],
        workers=config.workers,
        whole_texts=config.whole_texts,
        tokens=start.tokens,
    )


def _with_precision(config: TrainConfig, out: Path, processes: Processes) -> TrainConfig:
    """Put in the place of ``auto`` bf16 where its products take at most two thirds of the time, else fp32.

    A run goes on with what it began with. Of several processes the first decides.
    """
    if config.precision != "auto":
        return config
    path = out / "config.json"
    if path.exists():
        return replace(config, precision=read_json(path).get("config", {}).get("precision", "fp32"))
    with _threads(config.threads):
        ratio = time_of_bf16(resolve_device(processes.device or config.device)) if processes.first else 1.0
    faster = processes.told(ratio <= _WORTH_BF16)
    chosen = replace(config, precision="bf16" if faster else "fp32")
    if processes.first:
        print(
            f"precision {chosen.precision}: a product in bf16 takes {ratio:.2f} of the time in fp32 here",
            file=sys.stderr,
        )
    return chosen


def warn(what: str) -> None:
    """Tell a user what went otherwise than planned."""
    print(f"warning: {what}", file=sys.stderr)


def _check_config(config: TrainConfig, out: Path, reached: int) -> dict[str, Any]:
    """Compare with the config that ``out`` was started with, and return its ``config.json``.

    The number of steps may be another where what was trained is the beginning of the run that is wanted.
    """
    recorded: dict[str, Any] = read_json(out / "config.json")
    if "config" not in recorded:
        raise InputError(f"{out / 'config.json'} is not the config of a training run; give another --out")
    before = dict(recorded["config"])
    strangers = _unknown_settings(before)
    if strangers:
        raise InputError(
            f"{out} was begun by another version ({recorded.get('versions')}, commit "
            f"{recorded.get('commit')}): its config has {', '.join(strangers)}, which this one "
            f"({versions()}, commit {commit()}) does not know; go on with that one, or give another --out"
        )
    if config.encoder is not None:
        before.pop("model", None)  # which an earlier version wrote, though nothing was made of it
    planned = before.get("steps")
    in_steps_alone = before == {**config.as_used(), "steps": planned}
    if isinstance(planned, int) and planned != config.steps and in_steps_alone:
        reason = why_not_longer(replace(config, steps=planned), config.steps, reached=reached)
        if reason is not None:
            raise InputError(
                f"{out} holds a training of {planned} steps, which cannot become one of {config.steps}: "
                f"{reason}; give another --out, or --steps {planned}"
            )
        return recorded
    check_same(out, before, config.as_used())
    return recorded


def _unknown_settings(config: Mapping[str, Any], kind: type = TrainConfig, path: str = "") -> list[str]:
    """Name the settings of a recorded config that this version does not have."""
    hints = hints_of(kind)
    strangers = [f"{path}{name}" for name in config if name not in hints]
    for name, value in config.items():
        hint = hints.get(name)
        parts = [part for part in (hint, *get_args(hint)) if isinstance(part, type) and is_dataclass(part)]
        if not (parts and isinstance(value, Mapping)):
            continue
        within = {f"{path}{name}.": value}
        if get_origin(hint) is dict:  # its keys are names that the user gives
            within = {f"{path}{name}.{key}.": entry for key, entry in value.items()}
        for where, entry in within.items():
            strangers += _unknown_settings(entry, parts[0], where)
    return strangers


def _record_config(
    config: TrainConfig, out: Path, run: Run, recorded: dict[str, Any] | None, label: str | None
) -> None:
    if recorded is not None:
        if recorded["data"]["digest"] != run.digest:
            raise InputError(
                f"{out} was trained on other data: {config.data} had {recorded['data']['amount']} "
                f"(digest {recorded['data']['digest'][:12]}), now {run.amount} ({run.digest[:12]}); "
                "give another --out"
            )
        if recorded["config"]["steps"] == config.steps:
            return
        (out / RESULT).unlink(missing_ok=True)  # of the shorter run, which this one goes on with
    write_json(
        out / "config.json",
        {
            "config": config.as_used(),
            "config_hash": config_hash(config.as_json()),
            **about_run(config, label),
            "used": run.used,
            "data": {"digest": run.digest, "amount": run.amount, "bad": run.bad.reasons},
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


def steps_of(config: TrainConfig, epochs: float) -> int:
    """Say how many updates some epochs are: whole batches, whose rest waits for another epoch's shuffle."""
    if not (math.isfinite(epochs) and epochs > 0):
        raise InputError(f"--epochs must be above 0, not {epochs:g}")
    if config.endless or config.loading == "resampled":
        what = "has no end" if config.endless else "is a stream that is drawn with replacement"
        raise InputError(f"--epochs {epochs:g}: data {config.data!r} {what}: it has no epochs; give --steps")
    data = open_data(config, start_model(config), ALONE, BadSamples(limit=config.max_bad), None)
    assert isinstance(data, TrainingPairs)
    if len(data) < config.batch_size:
        raise InputError(f"--epochs {epochs:g}: {len(data)} pairs are no batch of {config.batch_size}")
    return max(1, round(epochs * (len(data) // config.batch_size)))


def train_and_say(config: TrainConfig, folder: Path, processes: Processes, track: Sequence[str]) -> None:
    """Train, draw the curves, write ``result.json`` last, and print what was made; an asked-for end says so.

    Raises:
        InputError: the loss is infinite or NaN, or the memory did not suffice.
        Stopped: SIGTERM or Ctrl-C came, and a checkpoint was written.
    """
    try:
        with memory_named(config):
            result = train(config, folder, processes=processes, track=track)
    except NonFiniteLoss as error:
        raise InputError(f"{error}; try a lower --learning-rate") from error
    except Stopped as error:
        if processes.first:
            print(f"stopped after step {error.step}; the same command goes on", file=sys.stderr)
        raise
    if not processes.first:
        return
    path = folder / RESULT
    if path.exists():
        print(f"{folder}: already finished")
        return
    metrics = read_lines(folder / "metrics.jsonl")
    validation = read_lines(folder / VALIDATION) if (folder / VALIDATION).exists() else []
    write_curves(folder / CURVES, label_of(config), metrics, validation)
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
    print(summary(metrics, validation))
    print(f"  curves: {folder / CURVES}")


def why_not_longer(planned: TrainConfig, steps: int, *, reached: int) -> str | None:
    """Say why the first ``reached`` steps would have been others in a run of ``steps``; None if the same.

    Then what was trained is the beginning of the longer run, bit by bit.
    """
    if steps < reached:
        return f"it has reached step {reached} already"
    longer = replace(planned, steps=steps)
    before, temperature = range(reached), planned.objective.temperature
    if any(planned.rate(step) != longer.rate(step) for step in before):
        if planned.schedule == "cosine":
            return (
                f"its learning rate follows a cosine that ends at 0 after {planned.steps} steps; a training "
                "that may go on wants --schedule constant from its start"
            )
        return f"its warm-up of {planned.warmup_steps} steps is cut to half of {planned.steps} steps"
    if temperature.scheduled:
        return f"its temperature is on a schedule ({temperature.regime}) over {planned.steps} steps"
    weights = planned.objective.weights_at
    if any(weights(step, planned.steps) != weights(step, steps) for step in before):
        return f"a term's weight is on a schedule over {planned.steps} steps"
    for name in planned.objective.active:
        if TERMS[name].progress:
            return f"the term {name} depends on the share of {planned.steps} steps that is done"
    return None
