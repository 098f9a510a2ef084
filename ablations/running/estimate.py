"""What a study would do and take: its trials, and their time from a few steps trained on this machine."""

from __future__ import annotations

import multiprocessing
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from ablations.running.spec import TrialSpec, result_of, trial_folder
from ablations.running.stages import Stages, training_key
from ablations.study.named import demo
from ablations.study.own_terms import own_terms
from ablations.study.study import Study
from crossgap.datasets.bad import BadSamples
from crossgap.processes import ALONE
from pretrain.config import TrainConfig
from pretrain.loop import Run
from pretrain.run import open_data
from pretrain.start import start_model

# Seconds of a step of the demo's baseline where its core_seconds were measured, while as many
# trials ran as it has cores: what is not training is taken to be slower or faster as this step is here.
REFERENCE_STEP = 0.065
_REFERENCE = "the demo's baseline"
_STEPS = 5
_MEASURING = 2.0  # how far off the time beside training may be, which nothing here was measured for


def print_plan(plan: Study, folder: Path, template: TrialSpec, *, total: int, workers: int) -> None:
    """List the trials that are to be run and estimate their time; a few steps of each arm are trained."""
    cells = plan.cells()[:total] if plan.mode == "grid" else [(plan.baseline, seed) for seed in plan.seeds]
    stages = Stages(template.stages)
    missing: list[tuple[str, int, bool]] = []
    for arm, seed in cells:
        result = result_of(trial_folder(folder, arm, seed))
        spec = replace(template, arm=plan.arm(arm), seed=seed)
        own = own_terms(spec.arm.train.objective.weights, plan.source)
        source = stages.find("train", training_key(spec.train_config(), folder, own))
        if result is None:
            missing.append((arm, seed, source is not None))
        state = "to run" if result is None else result["state"]
        print(
            f"{arm}-s{seed} ({plan.arm(arm).label}): {state}"
            + (f", training reused from {source}" if source and not result else "")
        )
    if plan.mode == "grid" and not missing:
        print(f"0 of {len(cells)} trials to run")
        return
    if plan.mode != "grid":
        axes = ", ".join(f"{axis.name} {axis.range}" for axis in plan.axes)
        print(f"and {total} points along {axes}, each with {len(plan.seeds)} seeds")
    configs = {arm.name: replace(template, arm=arm).train_config() for arm in plan.arms}
    known = demo()
    reference = replace(template, arm=known.arm(known.baseline)).train_config()
    print("timing a few steps of each arm here ...", file=sys.stderr, flush=True)
    steps = _measure(configs | {_REFERENCE: reference}, workers)
    slower = steps.pop(_REFERENCE) / REFERENCE_STEP
    # what a trial takes beside its training: core_seconds is a mean over all arms
    training = {name: steps[name] * config.steps for name, config in configs.items()}
    rest = max(0.0, plan.core_seconds * slower - statistics.mean(training.values()))
    trained, sharing = 0.0, 0
    models: list[tuple[TrainConfig, int]] = []
    for arm, seed, reused in missing:
        model = (replace(configs[arm], recipe=""), seed)
        if model in models:
            sharing += 1  # it is measured on a model that another arm trains, and mostly inverted there
            continue
        models.append(model)
        trained += 0.0 if reused else training[arm]
    count = len(missing)
    if plan.mode != "grid":
        drawn = total * len(plan.seeds)
        trained += training[plan.baseline] * drawn
        count += drawn
    abreast = 60 * min(workers, max(1, count))
    least = (trained + rest / _MEASURING * (count - sharing)) / abreast
    most = (trained + rest * _MEASURING * count) / abreast
    of = len(cells) if plan.mode == "grid" else count
    print(
        f"{count} of {of} trials to run, {workers} at a time: {_span(least, most)} (training "
        f"{trained / abreast:.1f}, from {steps[plan.baseline]:.3f} s a step of the baseline, trained here "
        f"just now; inverting and measuring from core_seconds = {plan.core_seconds:g} of the study, within "
        f"a factor of {_MEASURING:g})"
    )
    if sharing:
        print(f"{sharing} of them train nothing: another arm of the study has the same model")


def _span(least: float, most: float) -> str:
    if f"{least:.1f}" == f"{most:.1f}":
        return f"about {most:.1f} minutes"
    return f"between {least:.1f} and {most:.1f} minutes"


def _measure(configs: dict[str, TrainConfig], workers: int) -> dict[str, float]:
    """Time a step of each model, as many side by side as trials will be; of arms that share it once."""
    alike = {name: replace(config, recipe="") for name, config in configs.items()}
    first = {name: next(other for other in alike if alike[other] == alike[name]) for name in alike}
    asked, configs = configs, {name: configs[name] for name in dict.fromkeys(first.values())}
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ablations.running.warm"])
    with context.Pool(workers) as pool:
        # a lone arm is timed beside copies of itself, since trials share the machine
        copies = -(-workers // len(configs))
        seconds = pool.map(_step_seconds, list(configs.values()) * copies, chunksize=1)
    names = list(configs) * copies
    medians = {
        name: statistics.median([t for other, t in zip(names, seconds, strict=True) if other == name])
        for name in configs
    }
    return {name: medians[first[name]] for name in asked}


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
