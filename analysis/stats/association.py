"""How two quantities go together over models: gap and inversion gain, with quality held equal."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pandas as pd
import scipy.stats
from statsmodels.regression.linear_model import OLS

from crossgap.errors import InputError
from crossgap.metrics.intervals import FloatArray


class Association(NamedTuple):
    """Rank correlation of two columns, as a description of the rows at hand."""

    spearman: float
    n: int


class Slope(NamedTuple):
    """How y moves with x over arms: y per unit of x, ranks, and both with a third quantity held."""

    slope: float
    low: float
    high: float
    spearman: float
    partial: float
    partial_low: float
    partial_high: float
    n_models: int
    n_arms: int


def rank_association(frame: pd.DataFrame, x: str, y: str) -> Association:
    """Compute Spearman's rank correlation of two columns over the rows that have both.

    NaN with fewer than three rows or a constant column: two points always lie on a line.
    """
    both = frame[[x, y]].dropna()
    ranks = both.rank()
    if len(both) < 3 or (ranks.nunique() < 2).any():
        return Association(float("nan"), len(both))
    return Association(float(np.corrcoef(ranks[x], ranks[y])[0, 1]), len(both))


def slope_over_models(
    models: pd.DataFrame, x: str, y: str, *, held: str | None, group: str = "arm", level: float = 0.95
) -> Slope:
    """Regress y on x over arms, each the mean of its seeds, and correlate both with ``held`` held equal.

    slope = least squares over arm means, low, high by t with arms - 2 degrees of freedom: seeds of one arm
    share its objective and are no independent points, so that an interval over models is too narrow. spearman
    = rank correlation of the arm means. partial = (r_xy - r_xh r_yh) / sqrt((1 - r_xh²)(1 - r_yh²)) over arm
    means, with tanh(artanh partial ∓ z / sqrt(arms - 4)).

    [0] Fisher, Metron 3, 1924 (partial correlation); Donald and Lang, Review of Economics and Statistics
    89(2), 2007 (group means)

    Args:
        models: one row a model: columns ``group``, ``x``, ``y`` and ``held``. Models without x or y are left
            out, arms without ``held`` are left out of the partial correlation.
        held: what is held equal, such as native mAP; None: no partial correlation.

    Returns:
        NaN where there is too little: a slope needs three arms, its interval four, a partial correlation four
        and its interval five; all need values that differ.

    Raises:
        InputError: a column that is not there, or a level outside (0, 1).
    """
    columns = [name for name in (group, x, y, held) if name is not None]
    absent = [name for name in columns if name not in models.columns]
    if absent:
        raise InputError(
            f"no column {absent} among {list(models.columns)}: name columns of the models' frame"
        )
    if not 0 < level < 1:
        raise InputError(f"level={level}: an interval's level lies between 0 and 1")
    both = models[models[x].notna() & models[y].notna()]
    means = both.groupby(group, sort=False, observed=True)[list(dict.fromkeys(columns[1:]))].mean()
    slope, low, high = line_of(means[x].to_numpy(np.float64), means[y].to_numpy(np.float64), level=level)
    partial = (float("nan"), float("nan"), float("nan"))
    if held is not None:
        three = means[means[held].notna()]
        partial = _partial(three[[x, y, held]].to_numpy(np.float64), level)
    return Slope(slope, low, high, rank_association(means, x, y).spearman, *partial, len(both), len(means))


def line_of(x: FloatArray, y: FloatArray, *, level: float = 0.95) -> tuple[float, float, float]:
    """Fit y = a + slope x by least squares and bound the slope by t with n - 2 degrees of freedom.

    Args:
        x, y: shape (n,).

    Returns:
        slope, low, high; NaN bounds below four points, a NaN slope below three or with a constant x.
    """
    if len(x) < 3 or _constant(x):
        return float("nan"), float("nan"), float("nan")
    fit = OLS(y, np.stack([np.ones_like(x), x], axis=1)).fit()
    slope = float(fit.params[1])
    if len(x) < 4:
        return slope, float("nan"), float("nan")
    half = float(scipy.stats.t.ppf((1 + level) / 2, len(x) - 2)) * float(fit.bse[1])
    return slope, slope - half, slope + half


def _partial(values_A3: FloatArray, level: float) -> tuple[float, float, float]:
    x, y, held = values_A3.T
    if len(x) < 4 or any(_constant(values) for values in (x, y, held)):
        return float("nan"), float("nan"), float("nan")
    design = np.stack([np.ones_like(held), held], axis=1)
    left, right = (OLS(values, design).fit().resid for values in (x, y))
    if _vanishes(left, x) or _vanishes(right, y):  # held explains it wholly: nothing is left to compare
        return float("nan"), float("nan"), float("nan")
    r = float(np.clip(left @ right / math.sqrt((left @ left) * (right @ right)), -1, 1))
    if len(x) < 5:
        return r, float("nan"), float("nan")
    if abs(r) == 1:
        return r, r, r
    half = float(scipy.stats.norm.ppf((1 + level) / 2)) / math.sqrt(len(x) - 4)
    return r, math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half)


def _constant(values: FloatArray) -> bool:
    return bool(np.ptp(values) <= 1e-12 * np.abs(values).max())


def _vanishes(residual: FloatArray, values: FloatArray) -> bool:
    return bool(np.linalg.norm(residual) <= 1e-9 * np.linalg.norm(values - values.mean()))
