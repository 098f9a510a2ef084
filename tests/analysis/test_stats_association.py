"""Slopes over arms against scipy, partial correlations against their recursion, and what is too little."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from analysis.stats.association import Slope, line_of, slope_over_models
from crossgap.errors import InputError


def models(n_arms: int, n_seeds: int = 3, seed: int = 0, slope: float = 2.0) -> pd.DataFrame:
    """Make models whose y follows x over arms, with noise of arms and of seeds."""
    generator = np.random.default_rng(seed)
    rows = []
    for arm in range(n_arms):
        x, of_arm, held = generator.random(), generator.normal(0, 0.3), generator.random()
        for number in range(n_seeds):
            noise = generator.normal(0, 0.05, 3)
            y = slope * x + of_arm + held + noise[1]
            rows.append(
                {"arm": f"a{arm}", "seed": number, "x": x + noise[0], "y": y, "held": held + noise[2]}
            )
    return pd.DataFrame(rows)


@given(st.integers(4, 12), st.integers(1, 4), st.integers(0, 99))
def test_the_slope_is_scipy_s_over_arm_means(n_arms: int, n_seeds: int, seed: int) -> None:
    frame = models(n_arms, n_seeds, seed)
    result = slope_over_models(frame, "x", "y", held="held", level=0.9)
    means = frame.groupby("arm")[["x", "y", "held"]].mean()
    line = scipy.stats.linregress(means["x"], means["y"])
    half = scipy.stats.t.ppf(0.95, n_arms - 2) * line.stderr
    assert (result.slope, result.low, result.high) == pytest.approx(
        (line.slope, line.slope - half, line.slope + half)
    )
    assert result.spearman == pytest.approx(scipy.stats.spearmanr(means["x"], means["y"]).statistic)
    assert (result.n_models, result.n_arms) == (n_arms * n_seeds, n_arms)


@given(st.integers(5, 12), st.integers(0, 99))
def test_the_partial_correlation_follows_its_recursion(n_arms: int, seed: int) -> None:
    frame = models(n_arms, seed=seed)
    result = slope_over_models(frame, "x", "y", held="held")
    r = frame.groupby("arm")[["x", "y", "held"]].mean().corr()
    expected = (r.loc["x", "y"] - r.loc["x", "held"] * r.loc["y", "held"]) / math.sqrt(
        (1 - r.loc["x", "held"] ** 2) * (1 - r.loc["y", "held"] ** 2)
    )
    assert result.partial == pytest.approx(expected)
    z = [math.atanh(value) for value in (result.partial_low, result.partial, result.partial_high)]
    assert z[2] - z[1] == pytest.approx(1.959964 / math.sqrt(n_arms - 4), rel=1e-5)
    assert z[1] - z[0] == pytest.approx(z[2] - z[1])


def test_the_partial_interval_covers() -> None:
    generator = np.random.default_rng(0)
    inside = 0
    for _ in range(100):
        held = generator.standard_normal(8)
        x, y = held + generator.standard_normal(8), generator.standard_normal(8) - held
        frame = pd.DataFrame({"arm": range(8), "x": x, "y": y, "held": held})
        result = slope_over_models(frame, "x", "y", held="held")
        inside += result.partial_low <= 0 <= result.partial_high
    assert inside >= 88  # of 100, 95 expected: three standard errors


def test_what_is_held_can_turn_the_sign() -> None:
    held = np.arange(8.0)
    wave = np.array([1, -1, -1, 1, 1, -1, -1, 1]) / 2  # orthogonal to a line
    frame = pd.DataFrame({"arm": range(8), "x": held + wave, "y": held - wave, "held": held})
    result = slope_over_models(frame, "x", "y", held="held")
    assert result.slope > 0.8
    assert result.partial == pytest.approx(-1)


def test_more_seeds_of_the_same_make_no_interval_narrower() -> None:
    frame = models(5, 1)
    repeated = pd.concat([frame.assign(seed=seed) for seed in range(6)])
    once, often = (slope_over_models(rows, "x", "y", held="held") for rows in (frame, repeated))
    assert often[:8] == pytest.approx((*once[:7], 30))
    assert often.n_arms == once.n_arms == 5


@pytest.mark.parametrize(
    ("n_arms", "known"),
    [(1, 0), (2, 0), (3, 2), (4, 5), (5, 7)],
)
def test_too_few_arms_give_nan_and_no_warning(n_arms: int, known: int) -> None:
    result = slope_over_models(models(n_arms), "x", "y", held="held")
    assert np.isfinite(result[:7]).sum() == known
    assert isinstance(result, Slope)


def test_models_without_a_value_are_left_out() -> None:
    frame = models(6)
    frame.loc[frame["arm"] == "a0", "x"] = np.nan
    frame.loc[frame["arm"] == "a1", "held"] = np.nan
    result = slope_over_models(frame, "x", "y", held="held")
    assert (result.n_models, result.n_arms) == (15, 5)
    expected = slope_over_models(frame[frame["arm"] > "a1"], "x", "y", held="held")
    assert result.partial == pytest.approx(expected.partial)
    assert np.isnan(result.partial_low)  # four arms are left
    five = slope_over_models(frame[frame["arm"] > "a0"], "x", "y", held=None)
    assert result[:4] == pytest.approx(five[:4])


def test_constant_or_explained_columns_give_nan_and_no_warning() -> None:
    frame = models(6)
    flat = slope_over_models(frame.assign(x=0.1), "x", "y", held="held")
    assert np.isnan(flat[:7]).all()
    for held in ("x", "y"):
        assert np.isnan(slope_over_models(frame, "x", "y", held=held).partial)
    same = slope_over_models(frame.assign(held=3.0), "x", "y", held="held")
    assert np.isnan(same.partial)
    assert np.isnan(slope_over_models(frame, "x", "y", held=None)[4:7]).all()


def test_a_line_by_hand() -> None:
    # residuals .1, -.1, -.1, .1 are orthogonal to the line: s² = .04 / 2, sum of squares of x = 5
    x = np.array([0.0, 1.0, 2.0, 3.0])
    slope, low, high = line_of(x, x + np.array([0.1, -0.1, -0.1, 0.1]))
    assert slope == pytest.approx(1)
    assert high - slope == pytest.approx(4.302653 * math.sqrt(0.04 / 2 / 5), rel=1e-6)
    assert slope - low == pytest.approx(high - slope)


def test_unknown_columns_and_levels_are_refused() -> None:
    with pytest.raises(InputError, match="gap"):
        slope_over_models(models(4), "gap", "y", held=None)
    with pytest.raises(InputError, match="level"):
        slope_over_models(models(4), "x", "y", held=None, level=95)
