"""What a study would do and take: its trials, and their time from a few steps trained on this machine."""

from __future__ import annotations

import multiprocessing
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from ablations.stages import Stages, training_key
from ablations.study import Study
from ablations.trial import TrialSpec, result_of, trial_folder
from crossgap.datasets.bad import BadSamples
from pretrain.config import TrainConfig
from pretrain.loop import Run
from pretrain.processes import ALONE
from pretrain.start import start_model
from pretrain.train import open_data

# A step of the demo's baseline on the machine that the studies' core_seconds were measured on, while as many
# trials ran as it has cores: what is not training is taken to be slower or faster as this step is.
REFERENCE_STEP = 0.13
_STEPS = 5


def print_plan(plan: Study, folder: Path, template: TrialSpec, *, total: int, workers: int) -> None:
    """List the trials that are to be run and estimate their time; a few steps of each arm are trained."""
    cells = plan.cells()[:total] if plan.mode == "grid" else [(plan.baseline, seed) for seed in plan.seeds]
    stages = Stages(template.stages)
    missing: list[tuple[str, bool]] = []
    for arm, seed in cells:
        result = result_of(trial_folder(folder, arm, seed))
        spec = replace(template, arm=plan.arm(arm), seed=seed)
        made = stages.find("train", training_key(spec.train_config(), folder))
        if result is None:
            missing.append((arm, made is not None))
        state = "to run" if result is None else result["state"]
        print(
            f"{arm}-s{seed} ({plan.arm(arm).label}): {state}"
            + (f", training reused from {made}" if made and not result else "")
        )
    if plan.mode == "grid" and not missing:
        print(f"0 of {len(cells)} trials to run")
        return
    if plan.mode != "grid":
        axes = ", ".join(f"{axis.name} {axis.range}" for axis in plan.axes)
        print(f"and {total} points along {axes}, each with {len(plan.seeds)} seeds")
    configs = {arm.name: replace(template, arm=arm).train_config() for arm in plan.arms}
    steps = _measure(configs, workers)
    slower = steps[plan.baseline] / REFERENCE_STEP
    # what a trial takes beside its training: core_seconds is a mean over all arms
    training = {name: steps[name] * config.steps for name, config in configs.items()}
    rest = max(0.0, plan.core_seconds * slower - statistics.mean(training.values()))
    seconds = [rest + (0.0 if reused else training[arm]) for arm, reused in missing]
    count = len(missing)
    if plan.mode != "grid":
        drawn = total * len(plan.seeds)
        seconds += [rest + training[plan.baseline]] * drawn
        count += drawn
    minutes = sum(seconds) / min(workers, max(1, count)) / 60
    of = len(cells) if plan.mode == "grid" else count
    print(
        f"{count} of {of} trials to run, {workers} at a time: about {minutes:.1f} minutes (from "
        f"{steps[plan.baseline]:.3f} s a step of the baseline, trained here just now)"
    )


def _measure(configs: dict[str, TrainConfig], workers: int) -> dict[str, float]:
    """Time a step of each arm, as many side by side as trials will be."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ablations.trial"])
    with context.Pool(workers) as pool:
        # a lone arm is timed beside copies of itself, since trials share the machine
        copies = -(-workers // len(configs))
        found = pool.map(_step_seconds, list(configs.values()) * copies, chunksize=1)
    names = list(configs) * copies
    return {
        name: statistics.median([t for other, t in zip(names, found, strict=True) if other == name])
        for name in configs
    }


def _step_seconds(config: TrainConfig) -> float:
    torch.set_num_threads(config.threads or 1)
    start = start_model(config)
    config = replace(config, loading="memory", limit=max(config.limit or 0, 2 * config.batch_size))
    data = open_data(config, start, ALONE, BadSamples(limit=config.max_bad), None)
    with tempfile.TemporaryDirectory() as scratch:
        run = Run(config, Path(scratch), data, None, time.perf_counter(), start=start)
        run.advance()
        return statistics.median(_timed(run) for _ in range(_STEPS))


def _timed(run: Run) -> float:
    started = time.perf_counter()
    run.advance()
    return time.perf_counter() - started
