"""Importances of axes: the axis that decides comes first, and the numbers are Optuna's own."""

from __future__ import annotations

import warnings
from itertools import product

import numpy as np
import optuna
import pandas as pd
import pytest

from analysis.stats.importances import axis_importances
from crossgap.errors import InputError


def grid() -> tuple[pd.DataFrame, np.ndarray]:
    """Lay out 48 points; term decides, weight helps a little, flag does nothing."""
    cells = product(("none", "text", "image"), (0.01, 0.1, 1.0, 10.0), (True, False), (0, 1))
    points = pd.DataFrame(cells, columns=["term", "weight", "flag", "seedlike"])
    noise = np.random.default_rng(0).normal(0, 0.05, len(points))
    return points, 3.0 * (points["term"] == "text") + 0.3 * np.log10(points["weight"]) + noise


def test_the_axis_that_decides_comes_first() -> None:
    points, objective = grid()
    table = axis_importances(points, objective, resamples=20)
    assert list(table.columns) == ["axis", "share", "low", "high", "chance", "n_points"]
    assert set(table["axis"].iloc[:2]) == {"term", "weight"}
    assert table["share"].iloc[2] < 0.1
    assert table["share"].sum() == pytest.approx(1)
    assert table["share"].is_monotonic_decreasing
    assert (table["low"] <= table["high"]).all()
    assert (table["n_points"] == 48).all()


def test_shares_are_optuna_s() -> None:
    points, objective = grid()
    study = optuna.create_study(direction="maximize")
    places = {0.01: 0, 0.1: 1, 1.0: 2, 10.0: 3}
    distributions = {
        "term": optuna.distributions.CategoricalDistribution(["none", "text", "image"]),
        "weight": optuna.distributions.IntDistribution(0, 3),
        "flag": optuna.distributions.CategoricalDistribution([True, False]),
        "seedlike": optuna.distributions.IntDistribution(0, 1),
    }
    for row, value in zip(points.to_dict("records"), objective, strict=True):
        params = row | {"weight": places[row["weight"]]}
        study.add_trial(
            optuna.trial.create_trial(params=params, distributions=distributions, value=float(value))
        )
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=5 / 48)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it reminds of the sign of a target
        expected = optuna.importance.get_param_importances(
            study, evaluator=evaluator, target=lambda trial: -trial.values[0]
        )
    table = axis_importances(points, objective, resamples=2).set_index("axis")
    for axis, share in expected.items():
        assert table.loc[axis, "share"] == pytest.approx(share)


def test_the_same_call_gives_the_same_and_the_lowest_can_be_best() -> None:
    points, objective = grid()
    here, again = (axis_importances(points, objective, resamples=5) for _ in range(2))
    pd.testing.assert_frame_equal(here, again)
    turned = axis_importances(points, -objective, maximise=False, resamples=5)
    pd.testing.assert_frame_equal(here, turned)


def test_distances_of_quasi_random_points_do_not_change_with_a_unit() -> None:
    generator = np.random.default_rng(1)
    points = pd.DataFrame({"a": generator.random(40), "b": 10 ** generator.uniform(-3, 0, 40)})
    objective = points["a"] + 0.01 * generator.standard_normal(40)
    here = axis_importances(points, objective, resamples=5)
    assert here["axis"].iloc[0] == "a"
    there = axis_importances(points * 1000, objective, resamples=5)
    pd.testing.assert_frame_equal(here, there, rtol=1e-6)


def test_axes_that_are_constant_or_exist_at_some_points_only() -> None:
    points, objective = grid()
    points = points.assign(one=3, none=None)
    points.loc[points["term"] == "none", "weight"] = np.nan
    table = axis_importances(points, objective, resamples=5).set_index("axis")
    assert table.loc["one", "share"] == table.loc["none", "share"] == 0
    assert table["share"].sum() == pytest.approx(1)


def uneven_grid() -> pd.DataFrame:
    """Lay out four levels by two by two."""
    return pd.DataFrame(product("abcd", (True, False), (True, False)), columns=["four", "two", "too"])


def test_noise_seldom_lies_above_chance_which_is_more_where_an_axis_has_more_levels() -> None:
    points, generator = uneven_grid(), np.random.default_rng(3)
    tables = pd.concat(
        axis_importances(points, generator.standard_normal(16), resamples=1, permutations=20)
        for _ in range(30)
    )
    assert (tables["share"] > tables["chance"]).mean() < 0.12  # 1 in 20 expected
    means = tables.groupby("axis")[["share", "chance"]].mean()
    assert (means.loc["four"] > means.loc[["two", "too"]].max()).all()
    assert tables["chance"].max() == 1


def test_axes_that_decide_lie_above_chance_and_others_do_not() -> None:
    points, objective = grid()
    table = axis_importances(points, objective, resamples=2).set_index("axis")
    above = table["share"] > table["chance"]
    assert above[["term", "weight"]].all()  # though they share what there is to share
    assert not above[["flag", "seedlike"]].any()


def test_points_without_an_objective_are_left_out() -> None:
    points, objective = grid()
    objective[:4] = np.nan
    here = axis_importances(points, objective, resamples=5)
    assert (here["n_points"] == 44).all()
    pd.testing.assert_frame_equal(here, axis_importances(points.iloc[4:], objective[4:], resamples=5))


def test_a_tie_of_all_points_has_no_shares() -> None:
    points, _ = grid()
    table = axis_importances(points, np.zeros(48), resamples=3)
    assert table[["share", "low", "high", "chance"]].isna().all(axis=None)


def test_too_little_is_refused() -> None:
    points, objective = grid()
    for wrong in (
        (points.iloc[:9], objective[:9]),
        (points, objective[:-1]),
        (points[[]], objective),
    ):
        with pytest.raises(InputError):
            axis_importances(*wrong)
    with pytest.raises(InputError, match="resamples"):
        axis_importances(points, objective, resamples=0)
    with pytest.raises(InputError, match="permutations"):
        axis_importances(points, objective, permutations=0)
    assert len(axis_importances(points.iloc[:10], objective[:10], resamples=2)) == 4
