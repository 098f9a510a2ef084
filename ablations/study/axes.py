"""What a study varies: axes over settings of training and inversion, pure functions from a trial to both."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, cast, get_args

from crossgap.errors import InputError, check_known, naming
from crossgap.evaluation.changed_plans import changed_evaluation
from crossgap.evaluation.plan import EvaluationConfig
from crossgap.inversion.config import Target
from crossgap.inversion.presets import preset
from crossgap.settings.changes import nested
from pretrain.config import TrainConfig
from pretrain.configure import OF_DATA, Settings, Value, configure

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One setting of the training or of the inversion that a study varies.

    Args:
        name: path of a field of :class:`pretrain.config.TrainConfig`, as ``learning_rate``,
            ``objective.temperature.initial`` or, for a term of the objective, ``objective.weights.siglip``;
            or ``data.`` and an option of the scenes that are trained on, as ``data.mention``,
            ``data.mention.colour``; or a setting of the evaluation, as ``evaluation.text.learning_rate``:
            ``steps``, ``num_tokens``, ``template``, ``method``, ``weight_decay``, ``init_std`` of OTI
            (``text``) or OVI (``image``). Points that differ in the evaluation alone share a trained model.
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


OF_EVALUATION = "evaluation."  # before the name of a setting that no training depends on

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


def configure_point(
    train: TrainConfig, evaluation: EvaluationConfig, settings: Mapping[str, Value]
) -> tuple[TrainConfig, EvaluationConfig]:
    """Return a training and an evaluation with some settings changed: a pure function.

    With a number of inversion steps, the features after these steps are what is measured.

    Raises:
        InputError: as :func:`pretrain.configure.configure` and
            :func:`crossgap.evaluation.changed_plans.changed_evaluation`.
    """
    of_evaluation, of_training = split_settings(settings)
    if not of_evaluation:
        return configure(train, of_training), evaluation
    changes = nested(of_evaluation)["evaluation"]
    for into in get_args(Target):
        plan = changes.get(into)
        if isinstance(plan, dict) and isinstance(plan.get("steps"), int):
            plan["snapshots"] = [0, plan["steps"]]
    changed = changed_evaluation(evaluation, changes, plans={}, preset=partial(preset, "any"))
    return configure(train, of_training), changed


def split_settings(settings: Mapping[str, Value]) -> tuple[dict[str, Value], dict[str, Value]]:
    """Split settings of a point into those of the evaluation and those of the training."""
    of_evaluation = {name: value for name, value in settings.items() if name.startswith(OF_EVALUATION)}
    return of_evaluation, {name: value for name, value in settings.items() if name not in of_evaluation}


def check_axes(axes: Sequence[Axis], base: TrainConfig, evaluation: EvaluationConfig | None = None) -> None:
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
            with naming(f"axis {axis.name!r}, value {value!r}"):
                configure_point(base, evaluation or EvaluationConfig(), _completed(before, axis, value))


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
    points: list[Settings] = [{}]
    for axis in axes:
        points = list(
            itertools.chain.from_iterable(
                [{**settings, axis.name: value} for value in axis.values]
                if axis.applies(settings)
                else [settings]
                for settings in points
            )
        )
    return points


def describe(settings: Mapping[str, Value]) -> str:
    """Say settings in a few words for a figure's legend: the last part of each name, and its value."""
    return ", ".join(f"{_short(name)} {_number(value)}" for name, value in settings.items()) or "baseline"


def _short(name: str) -> str:
    if name.startswith(OF_EVALUATION):
        _, *into, last = name.split(".")
        direction = {"text": "OTI ", "image": "OVI "}.get(into[0] if into else "", "")
        return direction + last.replace("num_", "").replace("_", " ")
    if name.startswith(OF_DATA):
        return name.removeprefix(OF_DATA).replace(".", " ").replace("_", " ")
    last = name.rsplit(".", 1)[-1]
    return name.split(".")[-2] if last == "initial" else last.replace("_", " ")


def _number(value: Value) -> str:
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:.3g}"
    return str(value)
