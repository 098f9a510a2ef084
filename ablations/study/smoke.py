"""The smallest form of a study, and what a named one costs."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

from ablations import search
from ablations.search import Mode
from ablations.study.axes import OF_EVALUATION
from ablations.study.study import Arm, Study
from pretrain.config import smoke as smoke_training
from pretrain.labels import description_of

# what one GPU is guessed to need of a core's time: towers this small leave it waiting for work
_GPU_SHARE = 0.25


def budget(study: Study) -> str:
    """Say what a study costs: trials, and time by its ``core_seconds`` and a guess about GPUs."""
    trials = len(study.cells())
    seconds = trials * study.core_seconds
    return (
        f"{trials} trials of {study.core_seconds:.0f} s on one core, about {_duration(seconds / 2)} on 2 "
        f"cores; on one GPU about {_duration(seconds * _GPU_SHARE)}, a guess."
    )


def smoke(study: Study) -> Study:
    """Shrink a study to its smallest form: the same path in minutes, with numbers that mean nothing.

    Axes stay as they are; the trainings that they vary are small through the baseline. So do inversions where
    an axis varies them. Of the seeds one is left, of a study with up to four arms two. The sealed split stays
    closed: the test split takes its place.
    """
    evaluation = study.evaluation
    varied = any(axis.name.startswith(OF_EVALUATION) for axis in study.axes)
    plans = {
        into: replace(
            plan,
            config=replace(plan.config, steps=4),
            token_counts=plan.token_counts[:1],
            snapshots=(0, 2, 4),
            learning_rates=plan.learning_rates[:2],
            weight_decays=plan.weight_decays[:2],
            init_stds=plan.init_stds[:2],
            templates=plan.templates[:2],
            methods=plan.methods[:2],
        )
        for into, plan in evaluation.plans.items()
        if not varied
    }
    modes: tuple[Mode, ...] = get_args(Mode)
    whole = {mode: study.searches.get(mode, search.MODES[mode]) for mode in modes}
    searches = {
        mode: replace(of_mode, trials=3, split="test" if of_mode.split == "sealed" else of_mode.split)
        for mode, of_mode in whole.items()
    }
    return replace(
        study,
        description=f"{study.description} In its smoke form: its numbers mean nothing.".strip(),
        arms=tuple(
            replace(
                arm,
                train=smoke_training(arm.train),
                description=_described(arm),
                evaluation=None if arm.evaluation is None else replace(arm.evaluation, num_neighbours=2),
            )
            for arm in study.arms
        ),
        seeds=study.seeds[: 2 if len(study.arms) <= 4 else 1],
        evaluation=replace(evaluation, plans=plans or evaluation.plans, num_neighbours=2),
        searches=searches,
        limit=60,
        smoke=True,
        core_seconds=6,
    )


def _described(arm: Arm) -> str:
    """Say what an arm is in the smoke form; words made from its configuration are made again."""
    small = smoke_training(arm.train)
    said = description_of(small) if arm.description == description_of(arm.train) else arm.description
    size = f"{small.steps} steps of {small.batch_size} pairs"
    size += f", width {small.model.width}" if small.builds_model else ""
    return f"{said}; smoke form: {size}" if said else f"smoke form: {size}"


def _duration(seconds: float) -> str:
    minutes = seconds / 60
    return f"{minutes:.0f} minutes" if minutes < 90 else f"{minutes / 60:.1f} hours"
