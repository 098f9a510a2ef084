"""Which axis of a study decides whether a point is among the best, with an interval over points."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from crossgap.errors import InputError
from crossgap.metrics.intervals import FloatArray

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

LEAST_POINTS = 10
GRID_LEVELS = 10
_EXPECTED = r"Some regimes for parameter|Target and region quantiles select the same"


def axis_importances(
    points: pd.DataFrame,
    objective: Sequence[float] | FloatArray | pd.Series,
    *,
    maximise: bool = True,
    resamples: int = 200,
    permutations: int = 100,
    seed: int = 0,
) -> pd.DataFrame:
    """Share out, over the axes of a grid, what sets its best points apart from all points (PED-ANOVA).

    share_a is proportional to sum_x p(x) (p_best(x) / p(x) - 1)², with p and p_best Parzen estimates of axis
    a over all points and over the best quantile: the best tenth, or the five best where a tenth holds fewer,
    never more than half. low, high = 2.5 and 97.5 percentiles when points are resampled with replacement.
    chance = 95th percentile of the sum of axis a when the objectives are permuted among the points, over the
    total of all sums as they are, at most 1: share > chance is a permutation test at .05 of that axis alone,
    whatever the others do. Without any effect an axis of more levels gets a larger share, and none gets 0.

    Only for points that were laid out beforehand: a full grid, or quasi-random (QMC) or random points. Points
    that a sampler chose to do well crowd around the best, and their importances describe the sampler.

    [0] Watanabe, Bansal and Hutter, PED-ANOVA, IJCAI 2023, arXiv 2304.10255, as Optuna 5 computes it

    Args:
        points: one row a point, one column an axis and no other. Numbers of at most ten levels count by their
            place, as on a grid (a density over the distances between a grid's lines is an artefact); other
            numbers are distances, on a log scale where all are above 0 and span a factor of 100; anything
            else, booleans included, is a category. NaN: the axis does not exist at that point.
        objective: shape (n,), one a point, in the order of ``points``; a point whose objective is not finite
            is left out.
        maximise: whether the highest objective is best (the evaluator minimises: such values are negated).

    Returns:
        columns axis, share, low, high, chance, n_points, most important first; shares sum to 1. Where the
        best points differ from the others along no axis, shares are NaN.

    Raises:
        InputError: another number of objectives than points, no axis, or fewer than ten points with an
            objective.
    """
    values = np.asarray(objective, dtype=np.float64)
    if values.shape != (len(points),):
        raise InputError(f"{len(points)} points and objectives of shape {values.shape}: give one a point")
    if points.shape[1] == 0:
        raise InputError("points without an axis: give one column for each axis that was varied")
    if resamples < 1 or permutations < 1:
        raise InputError(f"resamples={resamples}, permutations={permutations}: at least one each is needed")
    finite = np.isfinite(values)
    n = int(finite.sum())
    if n < LEAST_POINTS:
        raise InputError(f"{n} points with an objective: importances need at least {LEAST_POINTS}")
    measured, ranked = points[finite], -values[finite] if maximise else values[finite]
    trials = _trials(measured, ranked)
    axes = [str(axis) for axis in points.columns]
    generator = np.random.default_rng(seed)
    drawn = [_sums([trials[place] for place in generator.integers(0, n, n)], axes) for _ in range(resamples)]
    permuted = [_sums(_trials(measured, generator.permutation(ranked)), axes) for _ in range(permutations)]
    sums = _sums(trials, axes)
    shares = [_shares(resampled) for resampled in drawn if resampled.sum() > 0]
    low, high = np.percentile(shares, [2.5, 97.5], axis=0) if shares else np.full((2, len(axes)), np.nan)
    table = pd.DataFrame(
        {
            "axis": axes,
            "share": _shares(sums),
            "low": low,
            "high": high,
            "chance": np.nan if sums.sum() == 0 else np.percentile(permuted, 95, axis=0) / sums.sum(),
            "n_points": n,
        }
    )
    table["chance"] = table["chance"].clip(upper=1)
    return table.sort_values("share", ascending=False, kind="stable", ignore_index=True)


def _trials(points: pd.DataFrame, values: FloatArray) -> list[FrozenTrial]:
    from optuna.trial import create_trial  # here: it takes a second to import, and few reports need it

    axes = {str(axis): _axis(points[axis]) for axis in points.columns}
    trials = []
    for place, value in enumerate(values):
        params = {name: column[place] for name, (column, _) in axes.items() if column[place] is not None}
        distributions = {name: axes[name][1] for name in params}
        trials.append(create_trial(params=params, distributions=distributions, value=float(value)))
    return trials


def _axis(column: pd.Series) -> tuple[list[Any], BaseDistribution]:
    """Return the values of an axis (None: it does not exist at that point) and what they are drawn from."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    values: list[Any] = [None if pd.isna(value) else value for value in column.tolist()]
    levels = list(dict.fromkeys(value for value in values if value is not None))
    if not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        return values, CategoricalDistribution(levels or [""])
    if len(levels) <= GRID_LEVELS:
        places = {level: place for place, level in enumerate(sorted(levels))}
        return [None if value is None else places[value] for value in values], IntDistribution(
            0, max(len(levels) - 1, 0)
        )
    low, high = min(levels), max(levels)
    log = bool(low > 0 and high / low >= 100)
    if pd.api.types.is_integer_dtype(column):
        return values, IntDistribution(low, high, log=log)
    return values, FloatDistribution(low, high, log=log)


def _shares(sums: FloatArray) -> FloatArray:
    return sums / sums.sum() if sums.sum() > 0 else np.full(len(sums), np.nan)


def _sums(trials: list[FrozenTrial], axes: list[str]) -> FloatArray:
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # a study in memory is no news
    try:
        study = optuna.create_study(direction="minimize")
        study.add_trials(trials)
    finally:
        optuna.logging.set_verbosity(verbosity)
    best = min(0.5, max(0.1, 5 / len(trials)))
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=best)
    with warnings.catch_warnings():  # a resample may hold one point of a kind, or ties among all
        warnings.filterwarnings("ignore", message=_EXPECTED)
        importances = evaluator.evaluate(study)
    return np.array([importances.get(axis, 0.0) for axis in axes])
