"""Paired differences over seeds against textbook data, listed sign patterns and closed forms."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from analysis.stats.seeds import Record, flip_p_values, paired_seeds, sign_flip, t_interval, win_tie_loss
from crossgap.errors import InputError

SLEEP = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]  # Student, 1908: hours gained
MAIZE = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]  # Darwin's, in Fisher, 1935
WHOLE = st.lists(st.integers(-9, 9), min_size=2, max_size=7)  # exact sums, with ties


def listed_p(differences: list[float]) -> float:
    """List every pattern of signs."""
    observed = abs(sum(differences))
    patterns = list(product((-1, 1), repeat=len(differences)))
    reached = [abs(sum(s * d for s, d in zip(signs, differences, strict=True))) for signs in patterns]
    return sum(value >= observed for value in reached) / len(patterns)


def test_student_s_sleep_data() -> None:
    result = paired_seeds(SLEEP)
    assert result.value == pytest.approx(1.58)
    assert (result.low, result.high) == pytest.approx((0.7001, 2.4599), abs=1e-4)
    assert result.sd == pytest.approx(1.2300, abs=1e-4)
    assert result.effect_size == pytest.approx(1.58 / 1.22995, abs=1e-4)
    assert result.p_t == pytest.approx(0.002833, abs=1e-6)
    assert result.n == 10


def test_fisher_s_maize_data() -> None:
    assert sign_flip(MAIZE) == pytest.approx(2 * 863 / 2**15, abs=0.007)  # 15 pairs: signs are drawn
    assert sign_flip(MAIZE) == sign_flip(MAIZE)
    assert sign_flip(MAIZE, flips=200_000) == pytest.approx(2 * 863 / 2**15, abs=0.0015)


@given(WHOLE)
def test_the_exact_test_lists_every_pattern(differences: list[int]) -> None:
    assert sign_flip([float(d) for d in differences]) == pytest.approx(listed_p(differences))


@pytest.mark.parametrize("n", [2, 3, 7, 12, 14])
def test_the_test_is_scipy_s(n: int) -> None:
    values_XN = np.random.default_rng(1).normal(0.4, 1, (4, n))
    expected = [
        scipy.stats.permutation_test(
            (row,), np.sum, permutation_type="samples", vectorized=True, n_resamples=20_000, random_state=2
        ).pvalue
        for row in values_XN
    ]
    assert flip_p_values(values_XN) == pytest.approx(expected, abs=1e-12 if n <= 12 else 0.03)
    assert list(flip_p_values(values_XN)) == [sign_flip(row) for row in values_XN]


@given(WHOLE, st.floats(0.1, 50))
def test_units_order_and_side_do_not_matter(differences: list[int], scale: float) -> None:
    d = np.array(differences, dtype=np.float64)
    here = paired_seeds(d)
    there = paired_seeds(-scale * d[::-1])
    assert there.p_flip == here.p_flip
    assert (there.value, there.low, there.high) == pytest.approx(
        (-scale * here.value, -scale * here.high, -scale * here.low), abs=1e-9
    )
    assert there.p_t == pytest.approx(here.p_t, nan_ok=True)
    assert there.effect_size == pytest.approx(-here.effect_size, nan_ok=True)


@pytest.mark.parametrize("n", [2, 3, 4, 5, 6, 7])
def test_no_difference_however_large_goes_below_the_least_p(n: int) -> None:
    result = paired_seeds(np.linspace(99, 100, n))
    assert result.p_flip == result.p_flip_least == 2 / 2**n
    assert (result.p_flip_least > 0.05) == (n <= 5)


def test_drawn_signs_never_give_zero() -> None:
    result = paired_seeds(np.linspace(99, 100, 30))
    assert result.p_flip == result.p_flip_least == pytest.approx(2 / 10_001)


def test_one_seed_has_no_spread() -> None:
    result = paired_seeds([0.3])
    assert (result.value, result.n, result.p_flip, result.p_flip_least) == (0.3, 1, 1.0, 1.0)
    assert np.isnan([result.low, result.high, result.sd, result.effect_size, result.p_t]).all()


@pytest.mark.parametrize("d", [[0.0, 0.0, 0.0], [0.3, 0.3], [0.1, 0.1 + 1e-17, 0.1]])
def test_equal_differences_shrink_the_interval_and_have_no_t(d: list[float]) -> None:
    result = paired_seeds(d)
    assert (result.low, result.high, result.sd) == (result.value, result.value, 0.0)
    assert np.isnan([result.effect_size, result.p_t]).all()
    assert result.p_flip == (2 / 2 ** len(d) if any(d) else 1.0)


@pytest.mark.parametrize("d", [[], [float("nan"), 1.0], [float("inf")], [[1.0, 2.0]]])
def test_what_is_no_difference_is_refused(d: list) -> None:
    for function in (paired_seeds, sign_flip, win_tie_loss):
        with pytest.raises(InputError):
            function(d)


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(InputError, match="level"):
        paired_seeds([1.0, 2.0], level=95)
    with pytest.raises(InputError, match="flips"):
        sign_flip([1.0, 2.0], flips=0)
    with pytest.raises(InputError, match="clusters"):
        sign_flip([1.0, 2.0], ["a"])


def test_clusters_are_flipped_whole() -> None:
    d, classes = [1.0, 2.0, -0.5, 4.0, 0.25, 1.0], ["a", "a", "b", "b", "c", "d"]
    assert sign_flip(d, classes) == listed_p([3.0, 3.5, 0.25, 1.0])
    assert sign_flip(d, range(6)) == sign_flip(d) == listed_p(d)
    assert sign_flip(d, ["one"] * 6) == 1.0


def test_the_p_of_clusters_is_fair_where_the_p_of_queries_is_not() -> None:
    generator = np.random.default_rng(0)
    classes = np.repeat(np.arange(10), 4)
    p = {"classes": [], "queries": []}
    for _ in range(150):
        d = np.repeat(generator.standard_normal(10), 4) + 0.1 * generator.standard_normal(40)
        p["classes"].append(sign_flip(d, classes))
        p["queries"].append(sign_flip(d, flips=400))
    assert np.mean(np.array(p["classes"]) <= 0.05) <= 0.1
    assert np.mean(np.array(p["queries"]) <= 0.05) >= 0.2


@given(st.lists(st.floats(-3, 3), min_size=2, max_size=9), st.floats(0.5, 0.99))
def test_the_interval_is_scipy_s(d: list[float], level: float) -> None:
    values = np.array(d)
    if np.ptp(values) < 1e-6:
        return
    expected = scipy.stats.ttest_1samp(values, 0.0).confidence_interval(level)
    assert t_interval(values, level=level) == pytest.approx((expected.low, expected.high))


def test_record_counts() -> None:
    assert win_tie_loss([0.1, 0.0, -0.2, 3.0]) == Record(wins=2, ties=1, losses=1)
    rounded = (0.3 - 0.1) - (0.4 - 0.2)
    assert rounded < 0
    assert win_tie_loss([rounded]) == Record(wins=0, ties=1, losses=0)
    assert win_tie_loss([rounded, 0.1, -1e-9]) == Record(wins=1, ties=1, losses=1)
