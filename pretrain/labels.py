"""What a run is called: words made from its configuration, never from the name of the recipe it began as.

A recipe's words are used where the configuration is that recipe's; what differs is said after them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import PurePath
from typing import Any, NamedTuple

from crossgap.datasets.scenes.options import SceneOptions, is_scenes
from crossgap.reading.treatment import (
    Value,
    differing,
    essence,
    flat,
    in_words,
    short,
    treatment_hash,
    written,
)
from pretrain.config import TrainConfig, smoke
from pretrain.recipes import KNOWN_RECIPES, Recipe, on_scenes
from pretrain.settings import TemperatureConfig

_MOST = 5  # settings that a label names; config.json, the model card and the report list all of them
_OF_TEMPERATURE = "objective.temperature."
_ON_SCENES = "on scenes"
_SMALLEST = "smoke form"


class _Nearest(NamedTuple):
    """A recipe in one of its forms (on scenes, at its smallest), and what a configuration changes in it."""

    recipe: Recipe
    form: tuple[str, ...]
    changed: dict[str, tuple[Value, Value]]


def settings_of(config: TrainConfig) -> dict[str, Value]:
    """Give all settings of a run by their names; a world's options one by one."""
    values = config.as_used()
    if is_scenes(config.data):
        values["data"] = SceneOptions.parse(config.data).as_written()
    return flat(values)


def label_of(config: TrainConfig, beside: TrainConfig | None = None) -> str:
    """Say in a few words how a run differs from a plain CLIP: for legends, tables and sentences.

    The words are those of the recipe that the configuration is nearest to, whatever it was called, then what
    it changes in it; a temperature that is not the recipe's is said in place of the recipe's.

    Args:
        config: of the run.
        beside: of the baseline that the run is shown beside; what it has changed alike goes without saying.
    """
    nearest = _nearest(config, KNOWN_RECIPES)
    label, _ = _recipe_words(nearest)
    changed = {name: value for name, (_, value) in nearest.changed.items()}
    if beside is not None:
        theirs = _nearest(beside, KNOWN_RECIPES).changed
        changed = {
            name: value for name, value in changed.items() if theirs.get(name, (None, None))[1] != value
        }
    tempered = any(name.startswith(_OF_TEMPERATURE) for name in changed)
    if tempered or label != nearest.recipe.label:
        label = f"{label}, {temperature_words(config.objective.temperature)}"
    for place in ("data", "architecture"):
        if place in changed:
            changed[place] = PurePath(str(changed[place])).name  # folders are in config.json
    words = in_words(_rest(changed), _MOST)
    form = nearest.form if beside is None else ()
    return ", ".join(part for part in (label, words, *form) if part)


def description_of(config: TrainConfig) -> str:
    """Say in a sentence what a run is: the words of the recipe that it is nearest to, and what differs."""
    nearest = _nearest(config, KNOWN_RECIPES)
    _, said = _recipe_words(nearest)
    parts = [said]
    if any(name.startswith(_OF_TEMPERATURE) for name in nearest.changed):
        parts.append(temperature_words(config.objective.temperature))
    rest = _rest({name: value for name, (_, value) in nearest.changed.items()})
    return "; ".join((", ".join(parts), *(f"{name} = {written(value)}" for name, value in rest.items())))


def _recipe_words(nearest: _Nearest) -> tuple[str, str]:
    """Give label and description of a recipe, without its temperature where that is changed."""
    recipe = nearest.recipe
    if recipe.without_temperature and any(name.startswith(_OF_TEMPERATURE) for name in nearest.changed):
        return recipe.without_temperature
    return recipe.label, recipe.description


def changes_of_recipe(config: TrainConfig) -> dict[str, tuple[Value, Value]]:
    """Tell what a run changes in the recipe that it is called after: setting -> (the recipe's, its own).

    A recipe on scenes has the settings that all arms share there; what the smoke form makes smaller is said.
    An unknown name is no recipe, of which nothing can be changed.
    """
    if config.recipe not in KNOWN_RECIPES:
        return {}
    return _nearest(config, {config.recipe: KNOWN_RECIPES[config.recipe]}, smallest=False).changed


def arm_name(config: TrainConfig) -> str:
    """Name the arm that a run by itself is: the recipe's name, with a digest of what it changes if anything.

    Seeds of one arm, and they alone, have one name.
    """
    recipe = KNOWN_RECIPES.get(config.recipe)
    if recipe is not None and not differing(settings_of(recipe()), settings_of(config)):
        return config.recipe
    return f"{config.recipe}-{treatment_hash(settings_of(config))}"


def about_run(config: TrainConfig, label: str | None = None) -> dict[str, Any]:
    """Give what ``config.json`` says of a run in words: arm, label, what differs from its recipe, its world.

    ``label``: a study's own, which is kept as it is.
    """
    world = SceneOptions.parse(config.data).as_written() if is_scenes(config.data) else None
    return {
        "arm": arm_name(config),
        "label": label or label_of(config),
        "changed": {name: list(values) for name, values in changes_of_recipe(config).items()},
        "world": world,
        "acts_on": config.objective.acts_on,
    }


def temperature_words(config: TemperatureConfig) -> str:
    """Say how the temperature is set."""
    first = _without_zero(config.initial)
    if config.regime == "fixed":
        return f"temperature {first}"
    if config.regime == "learnable":
        rate = f", {written(config.rate)} times the learning rate" if config.rate != 1 else ""
        return f"learnable temperature from {first}{rate}"
    assert config.final is not None
    return f"temperature {first} to {_without_zero(config.final)}, {config.regime}"


def change_words(changed: Mapping[str, tuple[Value, Value]]) -> str:
    """List what a run changes in its recipe: each setting with its own value and the recipe's."""
    return "; ".join(
        f"{short(name)} {written(value)} (the recipe's: {written(before)})"
        for name, (before, value) in changed.items()
    )


class _Form(NamedTuple):
    """A recipe's configuration on a kind of data, perhaps at its smallest, and what is essential of it."""

    name: str
    form: tuple[str, ...]
    config: TrainConfig
    essence: dict[str, Value]


def _nearest(config: TrainConfig, recipes: Mapping[str, Recipe], *, smallest: bool = True) -> _Nearest:
    """Find the recipe and form that a configuration changes least; of equals that with most of its terms.

    ``smallest``: whether a smoke form is a form.
    """
    settings = settings_of(config)
    own = essence(settings).items()
    active = set(config.objective.active)

    def distance(form: _Form) -> tuple[int, int]:
        changed = {name for name, _ in own ^ form.essence.items() if not _unbuilt(config, name)}
        if _SMALLEST in form.form:
            changed.discard("limit")  # of which that form has one of its own
        return len(changed), -len(active & set(form.config.objective.active))

    nearest = min(
        (
            form
            for form in _forms(tuple(KNOWN_RECIPES), is_scenes(config.data))
            if form.name in recipes
            and (_SMALLEST not in form.form or (smallest and form.config.steps == config.steps))
        ),
        key=distance,
    )
    changed = differing(settings_of(nearest.config), settings)
    changed = {name: values for name, values in changed.items() if not _unbuilt(config, name)}
    if _SMALLEST in nearest.form:
        changed.pop("limit", None)
    return _Nearest(recipes[nearest.name], nearest.form, changed)


def _unbuilt(config: TrainConfig, name: str) -> bool:
    """Tell whether a setting is a size of the small CLIP, in whose place an architecture is built."""
    return config.architecture is not None and name.startswith("model.")


@cache
def _forms(names: tuple[str, ...], scenes: bool) -> tuple[_Form, ...]:
    """Give the forms that recipes can have on scenes, or on other data."""
    forms = []
    for name in names:
        config = KNOWN_RECIPES[name]()
        if scenes and config.loading != "memory":  # it reads shards, in which no scenes lie
            continue
        worlds: dict[tuple[str, ...], TrainConfig] = {(): config}
        if scenes:
            plain = SceneOptions().name
            worlds = {
                (_ON_SCENES,): on_scenes(config, plain),
                (_ON_SCENES, "settings of emoji"): replace(config, data=plain),
            }
        for world, inside in worlds.items():
            smallest = smoke(inside)
            forms.append(_Form(name, world, inside, essence(settings_of(inside))))
            forms.append(_Form(name, (*world, _SMALLEST), smallest, essence(settings_of(smallest))))
    return tuple(forms)


def _rest(settings: Mapping[str, Value]) -> dict[str, Value]:
    """Order settings, the objective's first; the temperature has words of its own, None is not said."""
    kept = {
        name: value
        for name, value in settings.items()
        if value is not None and not name.startswith(_OF_TEMPERATURE)
    }
    return dict(sorted(kept.items(), key=lambda setting: not setting[0].startswith("objective.")))


def _without_zero(value: float) -> str:
    return f"{value:g}".removeprefix("0") if 0 < value < 1 else f"{value:g}"
