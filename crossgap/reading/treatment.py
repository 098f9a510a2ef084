"""What a training is, read off its configuration: settings by name, what differs, and words for it. No torch.

A configuration is the nested table that a run keeps in ``config.json``. Everything that names a model, a
label, a column or an axis is made from here, so that what a reader sees is what was trained.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from crossgap.settings.changes import dotted

WEIGHT = "objective.weights."
STRENGTHS = (WEIGHT, "objective.modifiers.")
TEMPERATURE = "objective.temperature.initial"
# before a setting of inversion -> what it is called
DIRECTIONS = {"evaluation.text.": "OTI", "evaluation.image.": "OVI"}
# what a run is called, where it ran and how it was watched: none of it is a treatment
BOOKKEEPING = (
    "recipe", "seed", "threads", "device", "log_every", "checkpoint_every", "validation", "workers",
    "loading", "max_bad", "term_gradients", "recompute", "compiled", "local_loss",
)  # fmt: skip

Value = float | int | str | bool | None


def flat(config: Mapping[str, Any]) -> dict[str, Value]:
    """Write a nested configuration as one level of dotted names; a list becomes its text."""
    return {
        name: str(value) if isinstance(value, list) else value
        for name, value in dotted(config).items()
        if not isinstance(value, Mapping)  # one without entries says nothing
    }


def configuration(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration in a run's ``config.json``; options of a world are settings like others."""
    config = dict(document["config"])
    return config | ({"data": document["world"]} if document.get("world") else {})


def value_of(settings: Mapping[str, Value], name: str) -> Value:
    """Return a setting; a term or modifier that an objective does not name has strength 0, others None."""
    return settings.get(name, 0.0 if name.startswith(STRENGTHS) else None)


def differing(
    reference: Mapping[str, Value], settings: Mapping[str, Value]
) -> dict[str, tuple[Value, Value]]:
    """Tell which settings differ, as (value of the reference, value here); bookkeeping is no difference."""
    names = [name for name in dict.fromkeys((*reference, *settings)) if is_treatment(name)]
    pairs = {name: (value_of(reference, name), value_of(settings, name)) for name in names}
    return {name: (before, after) for name, (before, after) in pairs.items() if before != after}


def varying(settings: Iterable[Mapping[str, Value]]) -> list[str]:
    """Name the settings that are not the same everywhere; bookkeeping is left out."""
    first, *others = list(settings) or [{}]
    return list(dict.fromkeys(name for other in others for name in differing(first, other)))


def is_treatment(name: str) -> bool:
    """Tell whether a setting can change what is learned."""
    return name.split(".")[0] not in BOOKKEEPING


def essence(settings: Mapping[str, Value]) -> dict[str, Value]:
    """Keep what can change what is learned; a weight of 0 is no term, and None no setting."""
    return {
        name: value for name, value in settings.items() if is_treatment(name) and value != value_of({}, name)
    }


def treatment_hash(settings: Mapping[str, Value]) -> str:
    """Hash what can change what is learned, the seed left out: equal for seeds of one arm alone."""
    return hashlib.sha256(json.dumps(essence(settings), sort_keys=True).encode()).hexdigest()[:6]


def short(setting: str) -> str:
    """Name a setting in a few words: a term by its name and "weight", others by what tells them apart."""
    if setting.startswith(STRENGTHS):
        return f"{setting.split('.')[-1]} weight"
    if setting == TEMPERATURE:
        return "temperature"
    if setting.startswith(tuple(DIRECTIONS)):
        into, last = setting[: setting.rindex(".") + 1], setting.rsplit(".", 1)[-1]
        return f"{DIRECTIONS[into]} {last.removeprefix('num_').replace('_', ' ')}"
    name = setting.removeprefix("objective.").removeprefix("data.")
    return name.replace(".", " ").replace("_", " ")


def written(value: Value) -> str:
    """Write a value of a setting; a number with the digits that tell it from its neighbours."""
    if value is None:
        return "none"
    if isinstance(value, float) and math.isfinite(value):
        few = f"{value:g}"
        return few if float(few) == value else repr(value)
    return str(value)


def in_words(settings: Mapping[str, Value], most: int | None = None) -> str:
    """Say settings and their values in a line; of more than ``most`` the number of the others."""
    said = [f"{short(name)} {written(value)}" for name, value in settings.items()]
    if most is not None and len(said) > most:
        said = [*said[:most], f"{len(said) - most} more settings"]
    return ", ".join(said)
