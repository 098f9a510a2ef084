"""Train a small CLIP: ``python -m pretrain.train --recipe baseline --out runs/baseline``."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from crossgap.changes import as_table, overlaid
from crossgap.command import run_command
from crossgap.datasets.bad import BadSamples
from crossgap.datasets.image_formats import allow_pixels
from crossgap.datasets.scenes import SceneOptions, is_scenes
from crossgap.errors import InputError, check_known
from crossgap.options import NO_CHANGES, Changes
from crossgap.progress import told
from crossgap.provenance import commit, config_hash, versions
from crossgap.records import check_place, read_json, write_json
from crossgap.settings import check_same
from crossgap.strict import hints_of
from pretrain.checkpoint import Checkpoint, find_checkpoint, remove_leftovers
from pretrain.config import Tower, TrainConfig
from pretrain.configure import configure
from pretrain.data import TrainingPairs, load_pairs, shards_of
from pretrain.labels import about_run
from pretrain.longer import why_not_longer
from pretrain.loop import NonFiniteLoss, Run, Stopped
from pretrain.objective import WeightSchedule
from pretrain.processes import ALONE, Processes, check_shares, joined
from pretrain.recipes import FINE_TUNING, RECIPES, STRONG
from pretrain.recipes import smoke as shrink
from pretrain.resampled import ShardStream, readers_named
from pretrain.scenes import EndlessScenes, fixed_scenes
from pretrain.start import Start, start_model
from pretrain.tracking import open_trackers, tracker_packages
from pretrain.validation import check_validation

__all__ = ["NonFiniteLoss", "TrainConfig", "TrainResult", "main", "open_data", "train"]

# start, stop, ramp and, if wanted, fall of a weight, on the command line
Times = tuple[float, float, float] | tuple[float, float, float, float]

# fields of the configuration; the recipe is an option, from which they start
SETTINGS = tuple(name for name in hints_of(TrainConfig) if name != "recipe")
EXAMPLE = "model.width=64 objective.temperature.initial=0.05 betas=[0.9,0.95]"
_HIGHEST_TO_FINE_TUNE = 1e-4  # of the learning rate, above which a warning is due
# options that are other words for settings
_SHORT = (*SETTINGS, "recipe", "weights", "modifiers", "schedules", "extra_views", "epochs", "smoke")


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
    schedules allow that (:func:`pretrain.longer.why_not_longer`). SIGTERM ends it after its step, with a
    checkpoint.

    ``label`` is what a study calls the run; without it, what its settings are.

    ``track`` names experiment trackers that are told what ``metrics.jsonl`` is; one that fails is left out.

    With several ``processes``, each calls this with its own; they share ``out``. The batch is the same,
    whatever their number; another number may resume a run.

    Raises:
        InputError: ``out`` holds a run with another config or data, or one that cannot become
            longer; or the config does not fit the data.
        NonFiniteLoss: the loss is infinite or NaN.
        Stopped: SIGTERM came, and a checkpoint was written.
    """
    with processes.together():
        packages = tracker_packages(track if processes.first else ())
        if processes.first and config.validation is not None:
            with told(f"reading {config.validation}, split val"):
                check_validation(config.validation)
    folder = out / "checkpoints"
    found = find_checkpoint(folder, _warn if processes.first else lambda damage: None)
    # without a checkpoint there is nothing to go on with: a run that never got that far may be replaced
    checkpoint = None if found is None else found[1]
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
                with told(f"reading {config.data}"):
                    data = open_data(config, start, processes, bad, checkpoint)
            if bad.reasons and processes.first:
                _warn(f"{len(bad.reasons)} bad samples left out: {dict(bad.by_shard)}")
            bad.say = _warn
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
                    packages, out, name=out.name, config=config.as_json(), step=step, warn=_warn
                ) as trackers,
            ):
                run.train(progress, trackers)
                processes.wait()  # until all is written
        found = find_checkpoint(folder, _warn)
    assert found is not None
    path, checkpoint = found
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

    A stream of shards starts anew where ``checkpoint`` stopped.
    """
    if is_scenes(config.data):
        options = SceneOptions.parse(config.data)
        if config.endless:
            return EndlessScenes(options=options, context_length=start.context_length)
        return fixed_scenes(options, context_length=start.context_length, limit=config.limit)
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
    )


def _warn(what: str) -> None:
    print(f"warning: {what}", file=sys.stderr)


def _check_config(config: TrainConfig, out: Path, reached: int) -> dict[str, Any]:
    """Compare with the config that ``out`` was started with, and return its ``config.json``.

    The number of steps may be another where what was trained is the beginning of the run that is wanted.
    """
    recorded: dict[str, Any] = read_json(out / "config.json")
    if "config" not in recorded:
        raise InputError(f"{out / 'config.json'} is not the config of a training run; give another --out")
    before = dict(recorded["config"])
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
        (out / "result.json").unlink(missing_ok=True)  # of the shorter run, which this one goes on with
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
    schedules: dict[str, Times] | None = None,
    extra_views: Literal["alike", "strong"] | None = None,
    semantics: str | None = None,
    accumulate: int | None = None,
    max_bad: int | None = None,
    max_pixels: int | None = None,
    whole_texts: bool = False,
    loading: Literal["memory", "indexed", "resampled"] | None = None,
    workers: int | None = None,
    encoder: str | None = None,
    pretrained: str | None = None,
    locked: tuple[Tower, ...] | None = None,
    ema: float | None = None,
    local_loss: bool = False,
    recompute: bool = False,
    compiled: bool = False,
    track: tuple[str, ...] = (),
    term_gradients: bool = False,
    seed: int | None = None,
    device: str | None = None,
    precision: str | None = None,
    threads: int | None = None,
    smoke: bool = False,
    out: Path | None = None,
    epochs: float | None = None,
    changes: Changes = NO_CHANGES,
) -> None:
    """Train a small CLIP on the embedded emoji or on your own shards.

    The same command resumes a run that was interrupted, and does nothing for one that is finished. What is
    not given is as the recipe has it.

    Args:
        recipe: one of the named runs of docs/objectives.md: baseline, learnable, image-image, slip, ..., or,
            to fine-tune, of docs/training.md: fine-tune-01, ...
        data: emoji; shards of images with captions, 'path/{000..003}.tar'; a folder of pretrain.prepare; or
            scenes with its options, as scenes:mention=0.3, without end, or scenes:pairs=12000.
        steps: updates.
        epochs: in place of steps: how often all pairs are seen, as 2.5, in whole batches.
        batch_size: pairs an update.
        learning_rate: its peak.
        schedule: of the learning rate after its warm-up: cosine or constant.
        validation: dataset on whose validation split each checkpoint is measured, as emoji; the best by
            image-to-text hit@1 is kept and named in checkpoints/best.
        weights: terms of the objective with their weights, in place of the recipe's, as: clip 1 image_ntxent
            0.5 (docs/objectives.md names them).
        modifiers: changes to the CLIP loss with their strengths, in place of the recipe's, as:
            label_smoothing 0.1.
        schedules: when a term has its weight: start, stop, ramp up and, if wanted, fall to 0 before stop,
            as shares of the run: centroid_penalty 0.2 1 0.1 0.3. The rate of learning has --schedule.
        extra_views: images after the first of a pair: alike, or strong (wider crops, more colour).
        semantics: file of caption embeddings, for terms that weigh by meaning; default: the captions' words.
        accumulate: parts of a batch that go through the towers one after another; the loss is the whole's.
        max_bad: samples that cannot be read to leave out, with a warning.
        max_pixels: of an image that is decoded; default: Pillow's limit, 178,956,970.
        whole_texts: the .txt part of a sample is one caption, not one a line.
        loading: memory; indexed, the same batches with the images left in local shards; or resampled, a
            stream from any shards with constant memory, whose order is not kept.
        workers: threads (indexed) or processes (resampled; 0: none) that decode.
        encoder: CLIP to start from, as evaluate takes it: a name of open_clip, or a folder.
        pretrained: its tag, or a weights file.
        locked: towers that are not trained: image or text.
        ema: decay of an average of the weights over the steps, saved beside each checkpoint in ema/.
        local_loss: each of several processes computes the CLIP loss of its own rows alone.
        recompute: less memory, more time: activations are computed again in the backward pass.
        compiled: towers through torch.compile.
        track: tensorboard, wandb, mlflow: told what metrics.jsonl is; one that fails is left out.
        term_gradients: log the norm of each term's own gradient.
        seed: of initialisation, order and views.
        device: auto, cpu, cuda, ...
        precision: fp32, or bf16 (autocast).
        threads: of torch on the CPU.
        smoke: shrink the run to its smallest form first.
        out: run directory; by default runs/<recipe>-s<seed>, or that with -smoke.
    """
    allow_pixels(max_pixels)
    known = RECIPES | FINE_TUNING
    base = known[check_known(recipe, known, "recipe")]()
    config = configure(base, overlaid(changes.file, {} if data is None else {"data": data}))
    if smoke:
        config = shrink(config)
    options: dict[str, Any] = {
        "batch_size": batch_size, "learning_rate": learning_rate,
        "seed": seed, "device": device, "precision": precision, "threads": threads, "semantics": semantics,
        "accumulate": accumulate, "max_bad": max_bad, "schedule": schedule,
        "validation": validation, "term_gradients": term_gradients or None,
        "loading": loading, "workers": workers, "encoder": encoder, "pretrained": pretrained,
        "locked": locked, "ema": ema, "local_loss": local_loss or None, "recompute": recompute or None,
        "compiled": compiled or None, "steps": steps, "whole_texts": whole_texts or None,
    }  # fmt: skip
    options = {name: value for name, value in options.items() if value is not None}
    if loading == "resampled":  # of which --smoke cannot take the first pairs
        options["limit"] = None
    if encoder is not None:  # the recipe's tag is one of its own encoder
        options.setdefault("pretrained", None)
    if extra_views is not None:
        options["extra_augment"] = asdict(STRONG) if extra_views == "strong" else None
    options |= _in_place_of("objective.weights", config.objective.weights, weights)
    options |= _in_place_of("objective.modifiers", config.objective.modifiers, modifiers)
    timed = (
        None
        if schedules is None
        else {name: asdict(_schedule(name, *times)) for name, times in schedules.items()}
    )
    options |= _in_place_of("objective.schedules", config.objective.schedules, timed)
    config = configure(config, changes.over(options))
    if epochs is not None:
        if "steps" in options or "steps" in changes.given:
            raise InputError("--epochs and --steps both say how long the training is; give one")
        config = replace(config, steps=_steps_of(config, epochs))
    folder = out or Path("runs") / f"{config.recipe}-s{config.seed}{'-smoke' if smoke else ''}"
    if changes.show:
        changes.print({"out": str(folder), "track": list(track), **as_table(config, base)}, leave_out=_SHORT)
        return
    check_place(folder)
    if config.encoder is not None and config.learning_rate > _HIGHEST_TO_FINE_TUNE:
        _warn(
            f"learning rate {config.learning_rate:g} with --encoder {config.encoder}: that of a training "
            "from nothing soon destroys what a released model knows; the recipes fine-tune-... have 1e-5 "
            "(--learning-rate 1e-5)"
        )
    with joined(config.device) as processes:
        _train_and_say(config, folder, processes, track)


def _in_place_of(path: str, old: Mapping[str, Any], new: Mapping[str, Any] | None) -> dict[str, Any]:
    """Name the settings that put some entries of a mapping in the place of all that it has."""
    if new is None:
        return {}
    return {f"{path}.{name}": new.get(name) for name in dict.fromkeys((*old, *new))}


def _steps_of(config: TrainConfig, epochs: float) -> int:
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


def _schedule(name: str, start: float, stop: float, ramp: float, fall: float = 0.0) -> WeightSchedule:
    try:
        return WeightSchedule(start=start, stop=stop, ramp=ramp, fall=fall)
    except InputError as error:
        raise InputError(f"schedule of {name}: {error}") from error


def _train_and_say(config: TrainConfig, folder: Path, processes: Processes, track: Sequence[str]) -> None:
    try:
        result = train(config, folder, processes=processes, track=track)
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
    sys.exit(run_command(main, settings=SETTINGS, example=EXAMPLE))
