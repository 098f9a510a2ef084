"""Axes and settings: what a trial draws is a pure function of it, and what a config refuses is said early."""

from __future__ import annotations

from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablations.study.axes import (
    Axis,
    check_axes,
    describe,
    grid_settings,
    suggest_settings,
)
from crossgap.errors import InputError
from pretrain.config import TrainConfig
from pretrain.configure import configure
from pretrain.recipes import RECIPES
from pretrain.settings import WeightSchedule

BASE = RECIPES["baseline"]()
HEADS: tuple[Axis, ...] = (
    Axis(name="objective.temperature.regime", choices=("fixed", "learnable", "linear")),
    Axis(name="precision", choices=("fp32", "bf16")),
    Axis(name="local_loss", choices=(True, False)),
    Axis(name="model.layers", choices=(2, 4)),
)
RANGES: tuple[dict[str, Any], ...] = (
    {"name": "learning_rate", "low": 1e-4, "high": 1e-2, "log": True, "grid": (1e-3, 3e-3)},
    {"name": "warmup_steps", "low": 10, "high": 60},
    {"name": "objective.weights.image_ntxent", "low": 0.0, "high": 2.0, "grid": (0.0, 0.5, 1.0)},
    {"name": "objective.weights.mmd", "low": 0.1, "high": 2.0},
)


@st.composite
def some_axes(draw: st.DrawFn) -> tuple[Axis, ...]:
    """Draw some choices, then some ranges of which a part depends on the choices."""
    heads = draw(st.lists(st.sampled_from(HEADS), unique_by=lambda axis: axis.name, max_size=3))
    ranges = draw(st.lists(st.sampled_from(RANGES), unique_by=lambda given: given["name"], max_size=3))
    axes = list(heads)
    for given_ in ranges:
        on = draw(st.sampled_from([None, *heads]))
        when = {} if on is None else {on.name: draw(st.sampled_from(on.choices))}
        axes.append(Axis(**given_, when=when))
    return tuple(axes)


@given(some_axes())
def test_a_trial_with_given_values_has_these_values(axes: tuple[Axis, ...]) -> None:
    for settings in grid_settings(axes):
        assert suggest_settings(optuna.trial.FixedTrial(dict(settings)), axes) == settings


@given(some_axes(), st.integers(0, 1000))
def test_settings_are_a_function_of_the_trial_alone(axes: tuple[Axis, ...], seed: int) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    trial = study.ask()
    settings = suggest_settings(trial, axes)
    assert suggest_settings(optuna.trial.FixedTrial(trial.params), axes) == settings
    assert set(settings) == set(trial.params)


@given(some_axes())
def test_a_grid_has_every_combination_once_and_nothing_that_does_not_apply(axes: tuple[Axis, ...]) -> None:
    found = grid_settings(axes)
    assert len({tuple(settings.items()) for settings in found}) == len(found)
    for settings in found:
        for axis in axes:
            applies = all(settings.get(name) == value for name, value in axis.when.items())
            assert (axis.name in settings) == applies
    free = [axis for axis in axes if not axis.when]
    at_least = 1
    for axis in free:
        at_least *= len(axis.values)
    assert len({tuple(settings[axis.name] for axis in free) for settings in found}) == at_least


@given(some_axes().filter(lambda axes: all("regime" not in axis.name for axis in axes)))
def test_every_cell_of_a_grid_is_a_config(axes: tuple[Axis, ...]) -> None:
    check_axes(axes, BASE)
    for settings in grid_settings(axes):
        config = configure(BASE, settings)
        assert configure(config, settings) == config


def test_a_conditional_axis_by_hand() -> None:
    axes = (
        Axis(name="objective.temperature.regime", choices=("fixed", "linear")),
        Axis(
            name="objective.temperature.final",
            choices=(0.02, 0.05),
            when={"objective.temperature.regime": "linear"},
        ),
    )
    check_axes(axes, BASE)  # linear is refused without a final temperature, which the second axis gives
    assert grid_settings(axes) == [
        {"objective.temperature.regime": "fixed"},
        {"objective.temperature.regime": "linear", "objective.temperature.final": 0.02},
        {"objective.temperature.regime": "linear", "objective.temperature.final": 0.05},
    ]
    with pytest.raises(InputError, match=r"'linear': .*need a\s+final temperature"):
        check_axes(axes[:1], BASE)


@pytest.mark.parametrize("term", ["image_ntxent", "mmd", "siglip"])
def test_weight_0_is_exactly_absent(term: str) -> None:
    assert configure(BASE, {f"objective.weights.{term}": 0.0}) == BASE
    with_it = configure(BASE, {f"objective.weights.{term}": 0.5})
    assert with_it.objective.weights == {"clip": 1.0, term: 0.5}
    assert configure(with_it, {f"objective.weights.{term}": 0}) == BASE


def test_strength_0_of_a_modifier_is_exactly_absent() -> None:
    assert configure(BASE, {"objective.modifiers.label_smoothing": 0}) == BASE


def test_values_arrive_as_the_config_has_them() -> None:
    config = configure(
        BASE,
        {
            "learning_rate": 1,
            "objective.weights.mmd": 2,
            "objective.temperatures.image_ntxent": 0.2,
            "objective.temperature.initial": 0.07,
            "gradient_clip": 0.5,
            "model.width": 64,
        },
    )
    assert (config.learning_rate, type(config.learning_rate)) == (1.0, float)
    assert type(config.objective.weights["mmd"]) is float
    assert config.objective.temperatures == {"image_ntxent": 0.2}
    assert (config.objective.temperature.initial, config.gradient_clip, config.model.width) == (0.07, 0.5, 64)
    assert RECIPES["baseline"]() == BASE


def test_a_weight_schedule_is_a_setting_too() -> None:
    config = configure(
        BASE,
        {
            "objective.weights.mmd": 1,
            "objective.schedules.mmd.start": 0.25,
            "objective.schedules.mmd.ramp": 0.5,
        },
    )
    assert config.objective.schedules == {"mmd": WeightSchedule(start=0.25, ramp=0.5)}
    later = configure(config, {"objective.schedules.mmd.ramp": 0.0})
    assert later.objective.schedules == {"mmd": WeightSchedule(start=0.25)}
    fading = configure(later, {"objective.schedules.mmd.fall": 0.5})
    assert fading.objective.schedules == {"mmd": WeightSchedule(start=0.25, fall=0.5)}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"learning_rat": 1e-3}, "unknown setting 'learning_rat'. Did you mean 'learning_rate'"),
        ({"objective.temprature.initial": 0.1}, r"objective.temprature: unknown .*'temperature'"),
        ({"objective.weights.siglib": 1}, "'siglib'. Did you mean 'siglip'"),
        ({"objective.weights.siglip": "1"}, "objective.weights.siglip: '1' is text; it wants a number"),
        ({"objective.weights.siglip": True}, "True is true or false; it wants a number"),
        ({"objective.weights.siglip": -1.0}, "siglip=-1.0: must be finite"),
        ({"objective.weights.clip": 0.0}, "at least one weight"),
        ({"steps": 2.5}, "steps: 2.5 is a number; it wants a whole number"),
        ({"steps": True}, "steps: True is true or false"),
        ({"ema": "often"}, "ema: 'often' is text; it wants a number"),
        ({"precision": "fp64"}, "precision: unknown value 'fp64'. Did you mean"),
        ({"model": 3}, "model: 3: name one of its parts"),
        ({"steps.many": 3}, "steps: {'many': 3} is a table"),
        ({"model": 3, "model.width": 64}, "'model.width' is a part of another"),
        ({"model.width": 64, "model": 3}, "'model' holds another"),
        ({"model.width": 100, "model.heads": 3}, "model: width=100"),
    ],
)
def test_what_a_config_does_not_take_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        configure(BASE, settings)


@pytest.mark.parametrize(
    ("axes", "said"),
    [
        (
            (Axis(name="learning_rte", choices=(1e-3,)),),
            "axis 'learning_rte', value 0.001: .*'learning_rate'",
        ),
        ((Axis(name="steps", low=1.5, high=3.5),), "axis 'steps', value 1.5: .*whole number"),
        ((Axis(name="learning_rate", low=-1.0, high=1.0),), "value -1.0: .*not negative"),
        ((Axis(name="learning_rate", low=0.1, high=1.0, grid=(0.2, -3.0)),), "value -3.0"),
        ((Axis(name="precision", choices=("fp32", "fp16")),), "value 'fp16'"),
        ((HEADS[0], HEADS[0]), "given twice"),
        ((Axis(name="seed", choices=(1, 2)),), "'seed' is not a study's to change"),
        ((Axis(name="threads", choices=(1, 2)),), "'threads' is not a study's to change"),
        ((Axis(name="steps", choices=(1, 2), when={"precision": "bf16"}), HEADS[1]), "unknown axis that"),
        (
            (HEADS[1], Axis(name="steps", choices=(1, 2), when={"precision": "bf61"})),
            "which that axis never is",
        ),
        (
            (Axis(**RANGES[0]), Axis(name="steps", choices=(1, 2), when={"learning_rate": 7.0})),
            "which that axis never is",
        ),
    ],
)
def test_axes_that_cannot_be_are_refused_before_anything_runs(axes: tuple[Axis, ...], said: str) -> None:
    with pytest.raises(InputError, match=said):
        check_axes(axes, BASE)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "give choices, or low and high"),
        ({"choices": (1,), "low": 1, "high": 2}, "give choices, or low and high"),
        ({"low": 1}, "must lie below"),
        ({"low": 2, "high": 1}, "low=2 must lie below high=1"),
        ({"low": 1.0, "high": float("inf")}, "both finite"),
        ({"low": float("nan"), "high": 1.0}, "must lie below"),
        ({"low": 0.0, "high": 1.0, "log": True}, "above 0"),
        ({"choices": (1, 2), "log": True}, "no log"),
        ({"choices": (1, 2, 1)}, "repeat themselves"),
        ({"low": 0.0, "high": 1.0, "grid": (0.5, 0.5)}, "repeat themselves"),
    ],
)
def test_an_axis_is_one_thing(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Axis(name="learning_rate", **fields)


def test_the_kind_of_the_bounds_is_the_kind_of_the_values() -> None:
    trial = optuna.trial.FixedTrial({"steps": 30, "learning_rate": 0.5})
    assert type(Axis(name="steps", low=10, high=50).suggest(trial)) is int
    assert type(Axis(name="learning_rate", low=0.1, high=1.0).suggest(trial)) is float


def test_settings_in_a_few_words() -> None:
    settings = {
        "objective.weights.image_ntxent": 0.5,
        "objective.temperature.initial": 0.0123456,
        "steps": 30,
    }
    assert describe(settings) == "image ntxent 0.5, temperature 0.0123, steps 30"
    assert describe({}) == "baseline"


def test_a_config_from_no_settings_is_the_base() -> None:
    assert configure(BASE, {}) == BASE
    assert isinstance(configure(BASE, {"steps": 3}), TrainConfig)
