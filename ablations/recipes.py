"""The named studies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import get_args

from ablations.study import Arm, Study
from crossgap.evaluation import EvaluationConfig, InversionPlan
from crossgap.inversion import InversionConfig, Target
from crossgap.presets import preset
from pretrain.recipes import RECIPES
from pretrain.recipes import smoke as smoke_training

# what a demonstration compares inversion with; `python -m crossgap.evaluate` measures every route
ROUTES = (
    "chance", "native", "oti", "ovi", "untrained_tokens", "centred", "class_pca", "random_subspace",
    "isoclip", "ridge",
)  # fmt: skip


def demo() -> Study:
    """Do an image-image term, a gap penalty or a learnable temperature change what inversion gains?

    Small CLIPs on the embedded emoji, two paired seeds: a first look in minutes, not a result.

        python -m ablations.sweep
    """
    oti = InversionPlan(
        config=InversionConfig(steps=150, batch_size=128),
        token_counts=(1, 4),
        snapshots=(0, 5, 10, 17, 25, 50, 75, 100, 150),
    )
    ovi = InversionPlan(
        config=replace(preset("any", "image", "fast"), batch_size=128),
        token_counts=(1, 4),
        snapshots=(0, 5, 10, 20, 30, 40, 60),
    )
    return Study(
        name="demo",
        description="Small CLIPs on embedded emoji that differ in one term of the objective.",
        arms=(
            _arm("baseline"),
            _arm("image-image"),
            _arm("centroid"),
            _arm("learnable"),
        ),
        baseline="baseline",
        seeds=(0, 1),
        evaluation=EvaluationConfig(routes=ROUTES, plans={"text": oti, "image": ovi}),
        core_seconds=200,
    )


def first_map() -> Study:
    """What does each term of the objective do, at its default weight and the size of the demo?

    Every recipe once, two paired seeds, inversion by the fast schedule: a map of where to look, not a result.

        python -m ablations.sweep --study map
    """
    plans: dict[Target, InversionPlan] = {}
    for into in get_args(Target):
        config = replace(preset("any", into, "fast"), batch_size=128)
        plans[into] = InversionPlan(config=config, token_counts=(1,), snapshots=(config.steps,))
    return Study(
        name="map",
        description="Small CLIPs on embedded emoji: every term at its default weight against the baseline.",
        arms=tuple(_arm(name) for name in RECIPES),
        baseline="baseline",
        seeds=(0, 1),
        evaluation=EvaluationConfig(
            routes=("chance", "native", "oti", "ovi", "untrained_tokens", "centred"), plans=plans
        ),
        core_seconds=150,
    )


def smoke(study: Study) -> Study:
    """Shrink a study to its smallest form: the same path in a minute, with numbers that mean nothing."""
    evaluation = study.evaluation
    plans = {
        into: replace(
            plan,
            config=replace(plan.config, steps=4),
            token_counts=plan.token_counts[:1],
            snapshots=(0, 2, 4),
        )
        for into, plan in evaluation.plans.items()
    }
    return replace(
        study,
        arms=tuple(replace(arm, train=smoke_training(arm.train)) for arm in study.arms),
        evaluation=replace(evaluation, plans=plans, num_neighbours=2),
        limit=60,
        smoke=True,
        core_seconds=6,
    )


def _arm(name: str) -> Arm:
    recipe = RECIPES[name]
    return Arm(
        name=name,
        label=recipe.label,
        description=recipe.description,
        train=replace(recipe(), threads=1),
    )


STUDIES: dict[str, Callable[[], Study]] = {"demo": demo, "map": first_map}
