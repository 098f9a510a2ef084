"""What a study varies: axes over training settings, and pure functions from a trial to a config."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast, get_args

import optuna

from ablations.strict import hints_of, strict
from crossgap.datasets.scenes import SceneOptions, is_scenes
from crossgap.errors import InputError, check_known
from pretrain.config import TrainConfig
from pretrain.objective import ObjectiveConfig

Value = float | int | str | bool
Settings = dict[str, Value]


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One setting of the training that a study varies.

    Args:
        name: path of a field of :class:`pretrain.config.TrainConfig`, as ``learning_rate``,
            ``objective.temperature.initial`` or, for a term of the objective, ``objective.weights.siglip``;
            or ``data.`` and an option of the scenes that are trained on, as ``data.mention``,
            ``data.mention.colour``.
        choices: its values, in a grid and when drawn; or
        low, high: the range from which it is drawn, on a logarithmic scale if ``log``; whole numbers if both
            bounds are.
        grid: its values in a grid, where a range is what is drawn; default for a range: low and high.
        when: only where earlier axes have these values; elsewhere the setting stays as the baseline has it.
    """

    name: str
    choices: tuple[Value, ...] = ()
    low: int | float | None = None
    high: int | float | None = None
    log: bool = False
    grid: tuple[Value, ...] = ()
    when: Mapping[str, Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        what = f"axis {self.name!r}"
        if bool(self.choices) == (self.low is not None or self.high is not None):
            raise InputError(f"{what}: give choices, or low and high")
        if not self.choices:
            if self.low is None or self.high is None or not -math.inf < self.low < self.high < math.inf:
                raise InputError(f"{what}: low={self.low!r} must lie below high={self.high!r}, both finite")
            if self.log and self.low <= 0:
                raise InputError(f"{what}: low={self.low!r} must be above 0 on a logarithmic scale")
        elif self.log or self.grid:
            raise InputError(f"{what}: choices have no log and no grid")
        for values in (self.choices, self.grid):
            if len(set(values)) < len(values):
                raise InputError(f"{what}: values {values} repeat themselves")

    @property
    def values(self) -> tuple[Value, ...]:
        """Its values in a grid."""
        if self.choices or self.grid:
            return self.choices or self.grid
        assert self.low is not None
        assert self.high is not None
        return (self.low, self.high)

    @property
    def range(self) -> str:
        """Its values in words, as they are drawn."""
        if self.choices:
            return f"({', '.join(map(_number, self.choices))})"
        return f"({self.low:g} to {self.high:g}{', logarithmic' if self.log else ''})"

    def suggest(self, trial: optuna.trial.BaseTrial) -> Value:
        """Let Optuna choose a value."""
        if self.choices:
            return cast(Value, trial.suggest_categorical(self.name, self.choices))
        assert self.low is not None
        assert self.high is not None
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(self.name, self.low, self.high, log=self.log)
        return trial.suggest_float(self.name, self.low, self.high, log=self.log)

    def takes(self, value: Value) -> bool:
        """Tell whether it can have a value."""
        if value in self.values:
            return True
        inside = isinstance(value, int | float) and self.low is not None and self.high is not None
        return inside and self.low <= value <= self.high  # type: ignore[operator]

    def applies(self, settings: Mapping[str, Value]) -> bool:
        """Tell whether its condition holds, given the axes before it."""
        return all(settings.get(name) == value for name, value in self.when.items())


_DATA = "data."  # before the name of an option of the scenes that are trained on

# what a trial sets itself: seeds are paired, device and threads are the machine's, the recipe is a name
_OF_THE_TRIAL = ("seed", "device", "threads", "recipe")


def check_setting(name: str) -> None:
    """Refuse a setting that each trial sets itself.

    Raises:
        InputError: names it.
    """
    if name in _OF_THE_TRIAL:
        raise InputError(
            f"setting {name!r} is not a study's to change: a trial takes its seed from the study's seeds, "
            "device and threads from the command, its recipe's name from the arm"
        )


def check_axes(axes: Sequence[Axis], base: TrainConfig) -> None:
    """Refuse axes that a config does not have, that repeat themselves, or that depend on later ones.

    Every value is tried on the baseline, with what it depends on and what depends on it, so that a study does
    not fail after hours.

    Raises:
        InputError: names the axis and the value.
    """
    before: dict[str, Axis] = {}
    for axis in axes:
        if axis.name in before:
            raise InputError(f"axis {axis.name!r} is given twice")
        check_setting(axis.name)
        for name, wanted in axis.when.items():
            check_known(name, before, f"axis that {axis.name!r} depends on")
            if not before[name].takes(wanted):
                raise InputError(
                    f"axis {axis.name!r} applies where {name!r} is {wanted!r}, which that axis never is; "
                    f"in a grid it is one of {before[name].values}"
                )
        before[axis.name] = axis
    for axis in axes:
        bounds = () if axis.choices else (axis.low, axis.high)
        for value in dict.fromkeys((*axis.values, *bounds)):
            assert value is not None
            try:
                configure(base, _completed(before, axis, value))
            except InputError as error:
                raise InputError(f"axis {axis.name!r}, value {value!r}: {error}") from error


def _completed(axes: Mapping[str, Axis], axis: Axis, value: Value) -> Settings:
    """Give an axis a value, the axes it depends on theirs, and those that depend on it their first."""
    settings = {**axis.when, axis.name: value}
    depends_on = list(axis.when)
    while depends_on:
        name = depends_on.pop()
        for other, wanted in axes[name].when.items():
            if other not in settings:
                settings[other] = wanted
                depends_on.append(other)
    for later in axes.values():
        if later.when and later.name not in settings and later.applies(settings):
            settings[later.name] = later.values[0]
    return settings


def suggest_settings(trial: optuna.trial.BaseTrial, axes: Sequence[Axis]) -> Settings:
    """Map a trial to a value for each axis that applies: a pure function of the trial."""
    settings: Settings = {}
    for axis in axes:
        if axis.applies(settings):
            settings[axis.name] = axis.suggest(trial)
    return settings


def grid_settings(axes: Sequence[Axis]) -> list[Settings]:
    """List all combinations of the axes' grid values, each once: an axis that does not apply has none."""
    found: list[Settings] = [{}]
    for axis in axes:
        found = list(
            itertools.chain.from_iterable(
                [{**settings, axis.name: value} for value in axis.values]
                if axis.applies(settings)
                else [settings]
                for settings in found
            )
        )
    return found


def configure(base: TrainConfig, settings: Mapping[str, Value], *, where: str = "") -> TrainConfig:
    """Return ``base`` with some settings changed: a pure function.

    A weight or strength of 0 leaves the term or modifier out. Options of ``data`` are changed in its name.

    Args:
        where: the settings come from, which errors put before a setting's name.

    Raises:
        InputError: a name that is no setting, a value of another kind, or one that the config refuses.
    """
    tree: dict[str, Any] = {}
    of_data = {name: value for name, value in settings.items() if name.startswith(_DATA)}
    for name, value in settings.items():
        if name in of_data:
            continue
        *folders, last = name.split(".")
        place = tree
        for folder in folders:
            place = place.setdefault(folder, {})
            if not isinstance(place, dict):
                raise InputError(f"settings {list(settings)}: {name!r} is a part of another of them")
        if last in place:
            raise InputError(f"settings {list(settings)}: {name!r} holds another of them")
        place[last] = value
    if of_data:
        tree["data"] = _world(tree.get("data", base.data), of_data, where)
    config = _changed(base, tree, where)
    assert isinstance(config, TrainConfig)
    return config


def _world(data: Any, settings: Mapping[str, Value], where: str) -> str:
    """Return the name of the training's world with some of its options changed."""
    before = f"{where}." if where else ""
    if not isinstance(data, str) or not is_scenes(data):
        raise InputError(
            f"{before}{next(iter(settings))}: data={data!r} has no options; train on scenes (data = "
            f'"scenes"), which has {", ".join(SceneOptions().as_written())}'
        )
    given = {name.removeprefix(_DATA): value for name, value in settings.items()}
    try:
        return SceneOptions.parse(data).changed(given).name
    except InputError as error:
        raise InputError(f"{before}data: {error}") from error


def _changed(value: Any, tree: Mapping[str, Any], path: str) -> Any:
    """Return a dataclass with the entries of ``tree`` changed."""
    hints = hints_of(type(value))
    changes: dict[str, Any] = {}
    for name, entry in tree.items():
        full = f"{path}.{name}" if path else name
        if name not in hints:
            raise _unknown(name, hints, full)
        old = getattr(value, name)
        if isinstance(entry, Mapping) and dataclasses.is_dataclass(old):
            changes[name] = _changed(old, entry, full)
        elif isinstance(entry, Mapping) and isinstance(old, Mapping):
            changes[name] = _merged(old, entry, get_args(hints[name])[1], full)
            if isinstance(value, ObjectiveConfig) and name in ("weights", "modifiers"):
                changes[name] = {term: weight for term, weight in changes[name].items() if weight != 0}
        elif dataclasses.is_dataclass(old) or isinstance(old, Mapping):
            raise InputError(f"{full}: {entry!r}: name one of its parts, not the whole")
        else:
            changes[name] = strict(entry, hints[name], full)
    try:
        return dataclasses.replace(value, **changes)
    except InputError as error:
        raise InputError(f"{path}: {error}" if path else str(error)) from error


def _unknown(name: str, known: Iterable[str], path: str) -> InputError:
    try:
        check_known(name, known, "setting")
    except InputError as error:
        return InputError(f"{path}: {error}" if path != name else str(error))
    raise AssertionError(f"{name} is known")


def _merged(old: Mapping[str, Any], tree: Mapping[str, Any], hint: Any, path: str) -> dict[str, Any]:
    """Return a mapping with some entries changed; an entry that is new starts from its defaults."""
    merged = dict(old)
    for name, entry in tree.items():
        full = f"{path}.{name}"
        if isinstance(entry, Mapping) and name in old and dataclasses.is_dataclass(old[name]):
            merged[name] = _changed(old[name], entry, full)
        else:
            merged[name] = strict(entry, hint, full)
    return merged


def describe(settings: Mapping[str, Value]) -> str:
    """Say settings in a few words for a figure's legend: the last part of each name, and its value."""
    return ", ".join(f"{_short(name)} {_number(value)}" for name, value in settings.items()) or "baseline"


def _short(name: str) -> str:
    if name.startswith(_DATA):
        return name.removeprefix(_DATA).replace(".", " ").replace("_", " ")
    last = name.rsplit(".", 1)[-1]
    return name.split(".")[-2] if last == "initial" else last.replace("_", " ")


def _number(value: Value) -> str:
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:.3g}"
    return str(value)
