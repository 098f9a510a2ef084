"""Settings as typed columns: those that vary over arms, and those of inversions. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from crossgap.files import read_object
from crossgap.inversion.words import AXES, read_axes
from crossgap.reading.treatment import flat, value_of, varying
from crossgap.vocabulary import ROUTE_WORDS

INVERSION = "inversion."  # before the name of an inversion's setting, as a column


def settings_by_arm(configs: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Tabulate the settings that are not the same in all arms.

    Returns:
        one row an arm, indexed by it; a column a setting, named by its path in the configuration and typed:
        numbers (whole ones as such where no arm is without), true and false, or text. A term that an arm does
        not have has weight 0; another setting that it does not have is missing.
    """
    settings = {arm: flat(config) for arm, config in configs.items()}
    columns = {
        name: _typed(pd.Series({arm: value_of(own, name) for arm, own in settings.items()}, dtype=object))
        for name in varying(settings.values())
    }
    return pd.DataFrame(columns, index=pd.Index(list(settings), name="arm"))


def with_settings(
    frame: pd.DataFrame, configs: Mapping[str, Mapping[str, Any]], labels: Mapping[str, str]
) -> pd.DataFrame:
    """Put label and settings that vary behind the column ``arm``; an arm without a configuration has none."""
    settings = settings_by_arm(configs)
    place = list(frame.columns).index("arm") + 1
    columns = {"label": frame["arm"].map(dict(labels))}
    columns |= {name: frame["arm"].map(settings[name]) for name in settings.columns}
    return pd.concat([frame.iloc[:, :place], pd.DataFrame(columns), frame.iloc[:, place:]], axis=1)


def with_inversions(frame: pd.DataFrame) -> pd.DataFrame:
    """Put what a plan of inversions compares, which rows say in words, into columns behind ``setting``.

    ``setting`` "learning rate 0.05" of OTI becomes the column ``inversion.learning_rate``; the words stay.
    """
    inverted = [name for name, words in ROUTE_WORDS.items() if words.family == "inversion"]
    read = [
        read_axes(words) if route in inverted else {}
        for route, words in zip(frame["route"], frame["setting"], strict=True)
    ]
    named = [axis for axis in AXES if any(axis in values for values in read)]
    columns = {
        f"{INVERSION}{axis}": _typed(
            pd.Series([values.get(axis) for values in read], index=frame.index, dtype=object)
        )
        for axis in named
    }
    place = list(frame.columns).index("setting") + 1
    return pd.concat([frame.iloc[:, :place], pd.DataFrame(columns, index=frame.index), frame.iloc[:, place:]],
                     axis=1)  # fmt: skip


def _typed(values: pd.Series) -> pd.Series:
    """Give a column the type of its values: whole numbers, numbers, true and false, or text."""
    there = values.dropna()
    if there.map(lambda value: isinstance(value, bool)).all():
        return values.astype("boolean")
    if there.map(lambda value: isinstance(value, int | float) and not isinstance(value, bool)).all():
        whole = len(there) == len(values) and there.map(lambda value: isinstance(value, int)).all()
        return values.astype("int64" if whole else "float64")
    return values.astype("string")


def with_inversion(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Add to a run's configuration, as ``evaluation``, the settings of inversion that it has one value of."""
    path = folder / "evaluation.json"
    inversion = read_object(path).get("settings", {}).get("inversion") if path.exists() else None
    return {**config, **({"evaluation": inversion} if inversion else {})}
