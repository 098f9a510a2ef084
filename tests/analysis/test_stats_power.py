"""Seeds needed against tables and the noncentral t; the spread's interval against its coverage."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.power import TTestPower

from analysis.stats.power import sd_interval, seeds_needed
from crossgap.errors import InputError


# Cohen's d_z with the number of pairs that G*Power prints for a two-sided test at .05 with power .8
@pytest.mark.parametrize(("ratio", "n"), [(0.2, 199), (0.5, 34), (0.8, 15), (1.0, 10)])
def test_the_usual_table(ratio: float, n: int) -> None:
    assert seeds_needed(2.0, 2.0 * ratio) == n
    assert seeds_needed(2.0, -2.0 * ratio) == n


@given(st.floats(0.3, 3), st.sampled_from([0.01, 0.05]), st.floats(0.5, 0.95))
def test_it_is_the_least_number_with_the_power(ratio: float, alpha: float, power: float) -> None:
    n = seeds_needed(1.0, ratio, alpha=alpha, power=power)
    assert n is not None

    def reached(count: int) -> float:
        critical = scipy.stats.t.ppf(1 - alpha / 2, count - 1)
        return float(scipy.stats.nct.sf(critical, count - 1, ratio * count**0.5))

    assert reached(n) >= power
    assert n == 2 or reached(n - 1) < power


def test_it_rounds_statsmodels_up() -> None:
    for ratio in (0.3, 0.6, 0.9):
        exact = TTestPower().solve_power(effect_size=ratio, alpha=0.05, power=0.8)
        assert seeds_needed(1.0, ratio) == np.ceil(exact)


def test_edges() -> None:
    assert seeds_needed(1.0, 0.01) is None
    assert seeds_needed(1.0, 0.5, most=33) is None
    assert seeds_needed(0.0, 0.5) == 2
    assert seeds_needed(1e-9, 0.5) == 2
    for sd, effect, settings in (
        (-1.0, 1.0, {}),
        (float("nan"), 1.0, {}),
        (1.0, 0.0, {}),
        (1.0, float("nan"), {}),
        (1.0, 1.0, {"alpha": 0.0}),
        (1.0, 1.0, {"power": 1.0}),
        (1.0, 1.0, {"most": 1}),
    ):
        with pytest.raises(InputError):
            seeds_needed(sd, effect, **settings)


def test_the_spread_of_ten_by_table() -> None:
    # chi-square with 9 degrees of freedom: 2.700 and 19.023
    d = np.random.default_rng(0).standard_normal(10)
    sd, low, high = sd_interval(d)
    assert sd == pytest.approx(d.std(ddof=1))
    assert (low / sd, high / sd) == pytest.approx(((9 / 19.023) ** 0.5, (9 / 2.7004) ** 0.5), rel=1e-4)


def test_the_interval_of_the_spread_covers() -> None:
    draws = np.random.default_rng(1).normal(0.3, 2.0, (1500, 4))
    inside = [(result := sd_interval(d)).low <= 2.0 <= result.high for d in draws]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.02)


def test_no_spread_from_one_seed_and_none_among_equal_ones() -> None:
    assert np.isnan(sd_interval([0.4])).all()
    assert sd_interval([0.4, 0.4, 0.4]) == (0.0, 0.0, 0.0)
    with pytest.raises(InputError, match="level"):
        sd_interval([0.4, 0.5], level=0)
