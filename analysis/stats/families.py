"""Several tests at once: p-values adjusted for the size of the family that was fixed before."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import scipy.stats

from crossgap.errors import InputError
from crossgap.metrics.intervals import FloatArray


def holm(p_values: Sequence[float] | FloatArray) -> FloatArray:
    """Adjust p-values so that those below alpha hold *any* false rejection with a chance below alpha.

    p'_(i) = max over j <= i of min(1, (m - j + 1) p_(j)), p_(1) <= ... <= p_(m). For a small family of
    comparisons to one baseline, named beforehand.

    [0] Holm, Scandinavian Journal of Statistics 6(2), 1979

    Args:
        p_values: shape (n,); a NaN (a test that could not be made) stays NaN and does not count in m.

    Returns:
        adjusted p-values, shape (n,), in the order given.

    Raises:
        InputError: a p-value outside [0, 1].
    """
    return _adjusted(p_values, _holm)


def benjamini_hochberg(p_values: Sequence[float] | FloatArray) -> FloatArray:
    """Adjust p-values so that of those below alpha an expected *share* below alpha is false.

    p'_(i) = min over j >= i of min(1, m p_(j) / j). For a sweep that explores; holds for independent or
    positively dependent tests.

    [0] Benjamini and Hochberg, Journal of the Royal Statistical Society B 57(1), 1995

    Args, Returns, Raises: as :func:`holm`.
    """
    return _adjusted(p_values, scipy.stats.false_discovery_control)


def _holm(p: FloatArray) -> FloatArray:
    order = np.argsort(
        p, kind="stable"
    )  # by hand: statsmodels collects garbage at each call, a tenth of a second
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(np.arange(len(p), 0, -1) * p[order]))
    return adjusted


def _adjusted(
    p_values: Sequence[float] | FloatArray, adjust: Callable[[FloatArray], FloatArray]
) -> FloatArray:
    p = np.asarray(p_values, dtype=np.float64)
    known = ~np.isnan(p)
    if p.ndim != 1 or ((p[known] < 0) | (p[known] > 1)).any():
        raise InputError(f"p_values={p.tolist()}: give a flat list of numbers between 0 and 1, or NaN")
    adjusted = np.full(p.shape, np.nan)
    if known.any():
        adjusted[known] = adjust(p[known])
    return adjusted
