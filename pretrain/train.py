"""Train a small CLIP: ``python -m pretrain.train --recipe baseline --out runs/baseline``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

from crossgap.command import run_command
from crossgap.datasets.scenes.options import is_scenes
from crossgap.errors import InputError, check_known, naming
from crossgap.files import check_place
from crossgap.settings.changes import as_table, overlaid
from crossgap.settings.options import NO_CHANGES, Changes
from crossgap.settings.strict import hints_of
from pretrain.config import Tower, TrainConfig
from pretrain.config import smoke as shrink
from pretrain.configure import configure
from pretrain.recipes import KNOWN_RECIPES, RECIPES, STRONG, on_scenes
from pretrain.settings import WeightSchedule

# start, stop, ramp and, if wanted, fall of a weight, on the command line
Times = tuple[float, float, float] | tuple[float, float, float, float]

# fields of the configuration; the recipe is an option, from which they start
SETTINGS = tuple(name for name in hints_of(TrainConfig) if name != "recipe")
EXAMPLE = "model.width=64 objective.temperature.initial=0.05 betas=[0.9,0.95]"
_HIGHEST_TO_FINE_TUNE = 1e-4  # of the learning rate, above which a warning is due
# options that are other words for settings
_SHORT = (
    *SETTINGS,
    "recipe",
    "weights",
    "modifiers",
    "schedules",
    "extra_views",
    "epochs",
    "smoke",
    "dry_run",
)


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
    model: str | None = None,
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
    dry_run: bool = False,
    out: Path | None = None,
    epochs: float | None = None,
    changes: Changes = NO_CHANGES,
) -> None:
    """Train a small CLIP on the embedded emoji or on your own shards.

    The same command resumes a run that was interrupted, and does nothing for one that is finished. What is
    not given is as the recipe has it, on scenes as docs/scenes.md says.

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
        model: architecture with random weights, in place of the small one: a name of open_clip, as ViT-S-16,
            RN50 or ViT-B-16-SigLIP, or a JSON file; sizes of the small one are settings, as --set
            model.layers=6.
        encoder: CLIP to start from, as evaluate takes it but for the format of transformers: a name of
            open_clip, or a folder.
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
        precision: fp32, bf16 (on a CPU the products of the packed pass alone, else autocast), or auto: what a
            probe of the device finds faster.
        threads: of torch on the CPU.
        smoke: shrink the run to its smallest form first.
        dry_run: say what the run costs, in operations, memory and hours on some GPUs, and train nothing.
        out: run directory; by default runs/<recipe>-s<seed>, or that with -smoke.
    """
    # only now, so that --help answers at once: these load torch
    from crossgap.datasets.readers.image_formats import allow_pixels
    from crossgap.processes import joined
    from pretrain.run import steps_of, train_and_say, warn

    allow_pixels(max_pixels)
    given = overlaid(changes.file, {} if data is None else {"data": data})
    base = _recipe(recipe, given, changes)
    config = configure(base, given)
    if smoke:
        config = shrink(config)
    options: dict[str, Any] = {
        "batch_size": batch_size, "learning_rate": learning_rate,
        "seed": seed, "device": device, "precision": precision, "threads": threads, "semantics": semantics,
        "accumulate": accumulate, "max_bad": max_bad, "schedule": schedule,
        "validation": validation, "term_gradients": term_gradients or None,
        "loading": loading, "workers": workers, "architecture": model, "encoder": encoder,
        "pretrained": pretrained,
        "locked": locked, "ema": ema, "local_loss": local_loss or None, "recompute": recompute or None,
        "compiled": compiled or None, "steps": steps, "whole_texts": whole_texts or None,
    }  # fmt: skip
    options = {name: value for name, value in options.items() if value is not None}
    if loading == "resampled":  # of which --smoke cannot take the first pairs
        options["limit"] = None
    if encoder is not None or model is not None:  # the recipe's tag is one of its own encoder
        options.setdefault("pretrained", None)
    if model is not None:
        options.setdefault("encoder", None)
    if extra_views is not None:
        options["extra_augment"] = asdict(STRONG) if extra_views == "strong" else None
    options |= _in_place_of("objective.weights", config.objective.weights, weights)
    options |= _in_place_of("objective.modifiers", config.objective.modifiers, modifiers)
    timed = {name: asdict(_schedule(name, *times)) for name, times in (schedules or {}).items()}
    options |= _in_place_of(
        "objective.schedules", config.objective.schedules, None if schedules is None else timed
    )
    config = configure(config, changes.over(options))
    if epochs is not None:
        if "steps" in options or "steps" in changes.given:
            raise InputError("--epochs and --steps both say how long the training is; give one")
        config = replace(config, steps=steps_of(config, epochs))
    folder = out or Path("runs") / f"{config.recipe}-s{config.seed}{'-smoke' if smoke else ''}"
    config.refuse_idle([*given, *changes.given])
    if changes.show:
        changes.print({"out": str(folder), "track": list(track), **_table(config, base)}, leave_out=_SHORT)
        return
    if dry_run:
        from pretrain.cost import in_words, step_cost

        print(f"{folder}\n{in_words(config, step_cost(config))}")
        return
    check_place(folder, own="checkpoints")
    if config.encoder is not None and config.learning_rate > _HIGHEST_TO_FINE_TUNE:
        warn(
            f"learning rate {config.learning_rate:g} with --encoder {config.encoder}: that of a training "
            "from nothing soon destroys what a released model knows; the recipes fine-tune-... have 1e-5 "
            "(--learning-rate 1e-5)"
        )
    with joined(config.device) as processes:
        train_and_say(config, folder, processes, track)


def _recipe(name: str, given: Mapping[str, Any], changes: Changes) -> TrainConfig:
    """Give a recipe as its world has it: on scenes what is not given is not as it is on emoji."""
    base = KNOWN_RECIPES[check_known(name, KNOWN_RECIPES, "recipe")]()
    source = {setting: value for setting, value in changes.given.items() if setting == "data"}
    data = configure(base, overlaid(given, source)).data
    return on_scenes(base, data) if name in RECIPES and is_scenes(data) else base


def _table(config: TrainConfig, base: TrainConfig) -> dict[str, Any]:
    """Write what plays a part in a training: of one that does not build the small CLIP not its sizes."""
    table = as_table(config, base)
    return table if config.builds_model else {name: value for name, value in table.items() if name != "model"}


def _in_place_of(path: str, old: Mapping[str, Any], new: Mapping[str, Any] | None) -> dict[str, Any]:
    """Name the settings that put some entries of a mapping in the place of all that it has."""
    if new is None:
        return {}
    return {f"{path}.{name}": new.get(name) for name in dict.fromkeys((*old, *new))}


def _schedule(name: str, start: float, stop: float, ramp: float, fall: float = 0.0) -> WeightSchedule:
    with naming(f"schedule of {name}"):
        return WeightSchedule(start=start, stop=stop, ramp=ramp, fall=fall)


if __name__ == "__main__":
    sys.exit(run_command(main, settings=SETTINGS, example=EXAMPLE))
