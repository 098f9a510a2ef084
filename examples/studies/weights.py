"""The study of weights.toml, in Python: whatever can be computed can be a study.

    python -m ablations.sweep --study examples/studies/weights.py --dry-run

A study in Python is code that runs with your rights; a TOML or YAML file is only read.
"""

from dataclasses import replace

from ablations.search import MODES
from ablations.study import Arm, Study, grid_arms
from ablations.study.axes import Axis
from crossgap.evaluation import EvaluationConfig, InversionPlan
from crossgap.inversion.presets import preset
from pretrain.labels import description_of, label_of
from pretrain.recipes import RECIPES


def study() -> Study:
    """Does the weight of an image-image term matter as much at a higher temperature?"""
    axes = (
        Axis(name="objective.weights.image_ntxent", low=0.0, high=2.0, grid=(0.0, 0.5, 1.0)),
        Axis(name="objective.temperature.initial", low=0.01, high=0.2, log=True, grid=(0.01, 0.07)),
    )
    baseline, siglip = arm("baseline"), arm("siglip")
    slow = Arm(
        name="slow",
        label="a third of the learning rate",
        description="learning_rate = 0.0003",
        train=replace(baseline.train, learning_rate=3e-4),
    )
    fast = InversionPlan(
        config=replace(preset("any", "text", "fast"), batch_size=128),
        token_counts=(1, 4),
        snapshots=(0, 5, 10, 20),
    )
    return Study(
        name="weights",
        description="Image-image weight by temperature, with SigLIP and a slower learning rate beside them.",
        arms=(*grid_arms(baseline, axes), siglip, slow),
        baseline="baseline",
        seeds=(0, 1, 2),
        evaluation=EvaluationConfig(
            routes=("chance", "native", "oti", "untrained_tokens", "class_pca", "random_subspace"),
            plans={"text": fast},
        ),
        axes=axes,
        searches={"tune": replace(MODES["tune"], trials=30)},
        core_seconds=150,
    )


def arm(recipe: str) -> Arm:
    """Make an arm of a recipe, trained for 300 steps."""
    baseline, train = (replace(RECIPES[name](), steps=300, threads=1) for name in ("baseline", recipe))
    label = label_of(train, beside=baseline)
    return Arm(name=recipe, label=label, description=description_of(train), train=train)
