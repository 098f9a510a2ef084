"""Is a difference too small to matter? Two one-sided tests against a margin that was fixed before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import scipy.stats

from analysis.stats.seeds import checked, spread, t_interval
from crossgap.errors import InputError
from crossgap.metrics.intervals import FloatArray


class Equivalence(NamedTuple):
    """Whether differences lie within ±margin, in the unit of the differences."""

    margin: float
    p: float
    low: float
    high: float
    equivalent: bool


def equivalence(
    differences: Sequence[float] | FloatArray, margin: float, *, alpha: float = 0.05
) -> Equivalence:
    """Test that the mean of paired differences over seeds lies within ±margin (TOST).

    p = max of the p-values of mean <= -margin and of mean >= margin, by one-sided t tests; low, high = the
    1 - 2 alpha t interval; equivalent where it lies inside (-margin, margin), which is p < alpha. A
    difference that is "not significant" shows nothing of the kind: few seeds make anything not significant.

    [0] Schuirmann, Journal of Pharmacokinetics and Biopharmaceutics 15, 1987

    Args:
        differences: shape (n,), one a seed.
        margin: above 0, in the unit of the differences; chosen before looking.

    Returns:
        One seed: p, low, high NaN and not equivalent. Differences that are all equal: the interval is the
        value itself and p NaN.

    Raises:
        InputError: no difference or one that is not finite; a margin not above 0; alpha outside (0, .5).
    """
    d = checked(differences)
    if not 0 < alpha < 0.5:
        raise InputError(f"alpha={alpha}: the two one-sided tests need an alpha between 0 and .5")
    low, high = t_interval(d, level=1 - 2 * alpha)
    equivalent = equivalent_within(low, high, margin)
    p = float("nan")
    if spread(d) > 0:
        above = scipy.stats.ttest_1samp(d, -margin, alternative="greater").pvalue
        below = scipy.stats.ttest_1samp(d, margin, alternative="less").pvalue
        p = float(max(above, below))
    return Equivalence(margin, p, low, high, equivalent)


def equivalent_within(low: float, high: float, margin: float) -> bool:
    """Tell whether an interval lies inside (-margin, margin); one without bounds (NaN) does not.

    For a test at alpha the interval's level is 1 - 2 alpha: 90 % for alpha .05.

    Raises:
        InputError: a margin that is not above 0.
    """
    if not 0 < margin < float("inf"):
        raise InputError(
            f"margin={margin}: a margin of equivalence is a number above 0, in the unit of the bounds"
        )
    return bool(-margin < low and high < margin)
