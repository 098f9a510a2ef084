"""Two one-sided tests against statsmodels, their interval, and edges."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from statsmodels.stats.weightstats import DescrStatsW

from analysis.stats.equivalence import equivalence, equivalent_within
from analysis.stats.seeds import t_interval
from crossgap.errors import InputError

DIFFERENCES = st.lists(st.floats(-2, 2).map(lambda value: round(value, 3)), min_size=2, max_size=8)


@given(DIFFERENCES, st.floats(0.05, 3), st.floats(0.01, 0.2))
def test_p_is_statsmodels_and_says_what_the_interval_says(
    differences: list[float], margin: float, alpha: float
) -> None:
    d = np.array(differences)
    assume(np.ptp(d) > 0)
    result = equivalence(d, margin, alpha=alpha)
    assert result.p == pytest.approx(DescrStatsW(d).ttost_mean(-margin, margin)[0])
    assert (result.low, result.high) == t_interval(d, level=1 - 2 * alpha)
    if not math.isclose(result.p, alpha):
        assert result.equivalent == (result.p < alpha)


@given(DIFFERENCES, st.floats(0.05, 3))
def test_sides_and_units_do_not_matter(differences: list[float], margin: float) -> None:
    d = np.array(differences)
    here, there = equivalence(d, margin), equivalence(-4 * d, 4 * margin)
    assert there.equivalent == here.equivalent
    assert there.p == pytest.approx(here.p, nan_ok=True)


def test_by_hand() -> None:
    # mean 0, sd 1, n = 4: t_{3, .95} = 2.3534, half width 1.1767
    result = equivalence(np.array([-1, -1, 1, 1]) * math.sqrt(3) / 2, 1.2)
    assert (result.low, result.high) == pytest.approx((-1.1767, 1.1767), abs=1e-4)
    assert result.equivalent
    assert not equivalence(np.array([-1, -1, 1, 1]) * math.sqrt(3) / 2, 1.17).equivalent


def test_few_seeds_prove_nothing_and_equal_ones_speak_for_themselves() -> None:
    alone = equivalence([0.0], 0.5)
    assert np.isnan([alone.p, alone.low, alone.high]).all()
    assert not alone.equivalent
    assert equivalence([0.1, 0.1], 0.5).equivalent
    assert not equivalence([0.5, 0.5], 0.5).equivalent
    assert np.isnan(equivalence([0.1, 0.1], 0.5).p)


def test_an_interval_lies_inside_or_not() -> None:
    assert equivalent_within(-0.4, 0.49, 0.5)
    assert not equivalent_within(-0.5, 0.2, 0.5)
    assert not equivalent_within(0.1, 0.6, 0.5)
    assert not equivalent_within(float("nan"), float("nan"), 0.5)


@pytest.mark.parametrize("margin", [0.0, -1.0, float("nan"), float("inf")])
def test_a_margin_that_is_none_is_refused(margin: float) -> None:
    with pytest.raises(InputError, match="margin"):
        equivalence([0.1, 0.2], margin)
    with pytest.raises(InputError, match="margin"):
        equivalent_within(0.0, 0.1, margin)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 5])
def test_a_wrong_alpha_is_refused(alpha: float) -> None:
    with pytest.raises(InputError, match="alpha"):
        equivalence([0.1, 0.2], 0.5, alpha=alpha)
