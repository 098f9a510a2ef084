"""Adjusted p-values against the papers' example, plain loops and statsmodels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.multitest import fdrcorrection, multipletests

from analysis.stats.families import benjamini_hochberg, holm
from crossgap.errors import InputError

# Benjamini and Hochberg, 1995, section 3.2: fifteen hypotheses on thrombolysis
THROMBOLYSIS = [
    *(0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459),
    *(0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0),
]
P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=12)


def test_the_paper_s_example() -> None:
    assert (benjamini_hochberg(THROMBOLYSIS) <= 0.05).sum() == 4
    assert (holm(THROMBOLYSIS) <= 0.05).sum() == 3
    assert benjamini_hochberg(THROMBOLYSIS)[3] == pytest.approx(15 * 0.0095 / 4)
    assert holm(THROMBOLYSIS)[2] == pytest.approx(13 * 0.0019)


@given(P_VALUES)
def test_holm_steps_down(p: list[float]) -> None:
    adjusted, highest = [0.0] * len(p), 0.0
    for step, place in enumerate(sorted(range(len(p)), key=lambda place: p[place])):
        highest = max(highest, min(1.0, (len(p) - step) * p[place]))
        adjusted[place] = highest
    np.testing.assert_allclose(holm(p), adjusted, atol=1e-12)


@given(P_VALUES)
def test_benjamini_hochberg_is_statsmodels(p: list[float]) -> None:
    np.testing.assert_allclose(benjamini_hochberg(p), fdrcorrection(p)[1], atol=1e-12)


def test_holm_is_statsmodels() -> None:
    np.testing.assert_allclose(holm(THROMBOLYSIS), multipletests(THROMBOLYSIS, method="holm")[1])


@given(P_VALUES)
def test_missing_tests_do_not_count_and_order_does_not_matter(p: list[float]) -> None:
    for adjust in (holm, benjamini_hochberg):
        expected = adjust(p)
        spaced = adjust([value for one in p for value in (one, float("nan"))])
        np.testing.assert_array_equal(spaced[::2], expected)
        assert np.isnan(spaced[1::2]).all()
        np.testing.assert_allclose(adjust(p[::-1])[::-1], expected)
        assert (expected >= np.array(p) - 1e-15).all()


def test_nothing_to_adjust() -> None:
    for adjust in (holm, benjamini_hochberg):
        assert len(adjust([])) == 0
        assert np.isnan(adjust([float("nan")])).all()
        for wrong in ([1.2], [-0.1, 0.3], [[0.1]]):
            with pytest.raises(InputError, match="p_values"):
                adjust(wrong)
