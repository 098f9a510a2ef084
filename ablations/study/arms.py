"""The arms and inversion plans that named studies are made of, on scenes or on emoji."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from ablations.study.study import AS_TRAINED, Arm
from crossgap.datasets.scenes.options import is_scenes
from crossgap.evaluation.plan import InversionPlan
from crossgap.inversion.config import InversionConfig, Target
from crossgap.inversion.presets import preset
from pretrain.config import TrainConfig
from pretrain.configure import Value, configure
from pretrain.labels import description_of
from pretrain.recipes import RECIPES, on_scenes

World = Literal["scenes", "emoji"]
# what models are trained on, unless an arm says otherwise, and measured on
WORLDS: dict[World, str] = {"scenes": "scenes:mention=0.3", "emoji": "emoji"}
TEMPLATES: dict[World, str] = {"scenes": "a {}", "emoji": "a photo of {}"}

# what a demonstration compares inversion with; `python -m crossgap.evaluate` measures every route
ROUTES = (
    "chance", "native", "oti", "ovi", "untrained_tokens", "centred", "class_pca", "random_subspace",
    "isoclip", "ridge",
)  # fmt: skip


def world_of(dataset: str) -> World:
    """Tell by what a study measures on which world's plans of inversion are its own."""
    return "scenes" if dataset == AS_TRAINED or is_scenes(dataset) else "emoji"


def plans_of_the_demo(data: World) -> dict[Target, InversionPlan]:
    """Give the paper's OTI and the fast OVI, with the steps to look at.

    One and four tokens; on scenes one, and fewer steps with more of them early: there the gain of OTI is
    largest between 2 and 7 and falls from then on, and OVI of the baseline is as close to its targets after
    10 as after 20 (loss .569 and .564, mAP among texts 50.5 and 50.9 %). The prompt there is that of the
    world's classes, "a ..." instead of "a photo of ...".
    """
    scenes = data == "scenes"
    oti = InversionPlan(
        config=InversionConfig(steps=30 if scenes else 150, batch_size=128, template=TEMPLATES[data]),
        token_counts=(1,) if scenes else (1, 4),
        snapshots=(0, 1, 2, 3, 5, 7, 10, 20, 30) if scenes else (0, 5, 10, 17, 25, 50, 75, 100, 150),
    )
    fast = replace(preset("any", "image", "fast"), batch_size=128)
    ovi = InversionPlan(
        config=replace(fast, steps=10) if scenes else fast,
        token_counts=(1,) if scenes else (1, 4),
        snapshots=(0, 1, 2, 3, 5, 7, 10) if scenes else (0, 5, 10, 20, 30, 40, 60),
    )
    return {"text": oti, "image": ovi}


def arm_of(name: str, data: World) -> Arm:
    """Make an arm of a recipe."""
    recipe = RECIPES[name]
    return Arm(
        name=name, label=recipe.label, description=recipe.description, train=trained_on(recipe(), data)
    )


def trained_on(config: TrainConfig, data: World) -> TrainConfig:
    """Train on a world what a recipe trains on emoji, with one thread."""
    config = replace(config, threads=1)
    return on_scenes(config, WORLDS[data]) if data == "scenes" else config


def shortened(arm: Arm, part: float) -> Arm:
    """Train an arm for a part of its steps, so that a first look is there in minutes."""
    return replace(arm, train=replace(arm.train, steps=round(arm.train.steps * part)))


def arm_saying(mention: float, name: str, label: str) -> Arm:
    """Make the baseline on scenes whose captions name each factor but the object with this probability."""
    return varied_arm("baseline", name, label, {"data.mention": mention}, "scenes")


def arm_at_mention(recipe: str, mention: float, *, image_image: bool = False) -> Arm:
    """Make an arm of a recipe, with the image-image term if asked, on scenes whose captions say so much."""
    settings: dict[str, Value] = {
        "data.mention": mention,
        **({"objective.weights.image_ntxent": 1.0} if image_image else {}),
    }
    changed = [recipe] * (recipe != "baseline") + ["image-image"] * image_image
    labels = [RECIPES[recipe].label] * (recipe != "baseline") + [RECIPES["image-image"].label] * image_image
    name = "-".join((f"says-{100 * mention:03.0f}", *changed))
    return varied_arm(recipe, name, ", ".join((saying(mention), *labels)), settings, "scenes")


def saying(mention: float) -> str:
    """Say what captions name beside the object."""
    return "says the object alone" if mention == 0 else f"says the rest with p = {mention:g}"


def varied_arm(recipe: str, name: str, label: str, settings: Mapping[str, Value], data: World) -> Arm:
    """Make an arm of a recipe with some settings changed."""
    train = configure(arm_of(recipe, data).train, settings)
    return Arm(name=name, label=label, description=description_of(train), train=train)


def shared_weights(terms: tuple[str, ...], weight: float) -> dict[str, Value]:
    """Share a weight between terms."""
    return {f"objective.weights.{term}": weight / len(terms) for term in terms}


def arm_at_temperature(value: float, data: World) -> Arm:
    """Fix the temperature; where a recipe does so already, its training is the same and can be reused."""
    ready = RECIPES["temperature-04"]().objective.temperature.initial
    recipe = "temperature-04" if value == ready else "baseline"
    return varied_arm(
        recipe,
        f"temperature-{100 * value:02.0f}",
        f"temperature {value:g}",
        {"objective.temperature.initial": value},
        data,
    )


def arm_times(recipe: str, multiple: float, data: World) -> Arm:
    """Multiply the strengths of a recipe's terms and modifiers."""
    changed = RECIPES[recipe]().objective
    settings: dict[str, Value] = {
        **{
            f"objective.weights.{name}": weight * multiple for name, weight in RECIPES[recipe].weights.items()
        },
        **{f"objective.modifiers.{name}": part * multiple for name, part in changed.modifiers.items()},
    }
    label = f"{RECIPES[recipe].label}, x {multiple:g}"
    return varied_arm(recipe, f"{recipe}-x{100 * multiple:03.0f}", label, settings, data)


def fast_plan(into: Target, early: tuple[int, ...], data: World) -> InversionPlan:
    """Make a plan of the fast schedule with its last step and some early ones; four tokens only if early."""
    config = replace(preset("any", into, "fast"), batch_size=128, template=TEMPLATES[data])
    tokens = (1, 4) if early else (1,)
    return InversionPlan(config=config, token_counts=tokens, snapshots=(*early, config.steps))
