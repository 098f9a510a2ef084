"""The named studies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ablations.study import Arm, Study
from crossgap.evaluation import EvaluationConfig, InversionPlan
from crossgap.inversion import InversionConfig
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
            _arm("baseline", "CLIP, temperature .01", "CLIP loss alone, temperature fixed at .01"),
            _arm("image-image", "+ image-image", "CLIP loss and NT-Xent between two views of an image"),
            _arm("centroid", "+ centroid penalty", "CLIP loss and the squared distance of the two centroids"),
            _arm(
                "learnable",
                "learnable temperature",
                "CLIP loss alone, temperature learned from .07 (500 steps move it little)",
            ),
        ),
        baseline="baseline",
        seeds=(0, 1),
        evaluation=EvaluationConfig(routes=ROUTES, plans={"text": oti, "image": ovi}),
        core_seconds=200,
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


def _arm(recipe: str, label: str, description: str) -> Arm:
    train = RECIPES[recipe]()
    return Arm(name=recipe, label=label, description=description, train=replace(train, threads=1))


STUDIES: dict[str, Callable[[], Study]] = {"demo": demo}
