"""Invented experiments of few seeds or few classes, and the intervals whose coverage is counted on them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.stats

from crossgap.metrics.intervals import Bootstrap, FloatArray, resample_counts

IntArray = npt.NDArray[np.int64]
Shape = Literal["normal", "heavy-tailed", "skewed"]
LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class EffectModel:
    """Where a paired difference of two arms comes from, in mAP points (standard deviations).

    value of query q, of class c, in seed s = effect + a_s + b_c + g_sc + e_q + r_sq. Chosen after the demo's
    models: a query's difference varies by some 9 points, its class explains about a quarter of that, and the
    mean over 300 queries varies by .8 points from seed to seed.
    """

    shape: Shape = "normal"  # of a
    class_shape: Shape = "normal"  # of b
    effect: float = 1.0
    seed: float = 0.6  # a
    query_class: float = 3.0  # b
    seed_by_class: float = 2.0  # g
    query: float = 6.0  # e: what a query does in every seed
    rest: float = 6.0  # r
    n_queries: int = 300
    n_classes: int = 60
    margin: float = 1.5  # of equivalence


@dataclass(frozen=True, kw_only=True)
class SlopeModel:
    """Where the gain of an arm comes from: y = slope x + arm + seed, x a little different in each seed."""

    slope: float = 2.0  # points over the range of x
    arm: float = 0.6  # how far arms lie from the line
    seed: float = 0.8
    x_seed: float = 0.03  # x lies between 0 and 1


SCENARIOS: dict[str, EffectModel] = {
    "normal": EffectModel(),
    "heavy-tailed": EffectModel(shape="heavy-tailed"),
    "skewed": EffectModel(shape="skewed"),
    "seeds dominate": EffectModel(seed=1.0, query_class=1.0, query=4.0),
}


# One model's differences about its own mean: what classes and queries do in its seed alone is in b and e.
ONE_MODEL = EffectModel(seed=0.0, query_class=13**0.5, seed_by_class=0.0, query=72**0.5, rest=0.0)
CLASS_SCENARIOS: dict[str, Shape] = {
    "normal classes": "normal",
    "heavy-tailed classes": "heavy-tailed",
    "skewed classes": "skewed",
}


class SimulatedDifferences(NamedTuple):
    """Paired differences of X repetitions, S seeds, Q queries; ``these_X``: what the seeds vary around."""

    values_XSQ: FloatArray
    class_Q: IntArray
    these_X: FloatArray


class Bounds(NamedTuple):
    """An interval of each repetition."""

    low_X: FloatArray
    high_X: FloatArray


def class_sizes(n_queries: int, n_classes: int) -> IntArray:
    """Spread queries unevenly over classes: two each, the rest by rank^-.8 (29 to 2 for 300 in 60)."""
    weights = np.arange(1, n_classes + 1) ** -0.8
    sizes = 2 + np.floor((n_queries - 2 * n_classes) * weights / weights.sum()).astype(np.int64)
    sizes[: n_queries - sizes.sum()] += 1
    return sizes


def draw(
    model: EffectModel, n_seeds: int, repetitions: int, generator: np.random.Generator
) -> SimulatedDifferences:
    """Draw repetitions of one experiment; effects of seeds and of classes have the model's shapes and SDs."""
    class_Q = np.repeat(np.arange(model.n_classes), class_sizes(model.n_queries, model.n_classes))
    normal = generator.standard_normal
    size = (repetitions, n_seeds)
    seed_XS = _standard(model.shape, size, generator)
    lasting_XC = model.query_class * _standard(model.class_shape, (repetitions, model.n_classes), generator)
    lasting_XQ = lasting_XC[:, class_Q]
    lasting_XQ += model.query * normal(lasting_XQ.shape)
    crossed_XSC = model.seed_by_class * normal((*size, model.n_classes)) + model.seed * seed_XS[:, :, None]
    values_XSQ = crossed_XSC[:, :, class_Q]
    values_XSQ += model.rest * normal(values_XSQ.shape)
    values_XSQ += model.effect + lasting_XQ[:, None, :]
    return SimulatedDifferences(values_XSQ, class_Q, model.effect + lasting_XQ.mean(axis=1))


def _standard(shape: Shape, size: tuple[int, int], generator: np.random.Generator) -> FloatArray:
    """Draw values of mean 0 and standard deviation 1."""
    if shape == "normal":
        return generator.standard_normal(size)
    if shape == "heavy-tailed":
        return generator.standard_t(3, size) / 3**0.5
    return generator.standard_exponential(size) - 1


def t_over_seeds(means_XS: FloatArray, level: float = LEVEL) -> Bounds:
    """Bound the mean of each row as :func:`analysis.stats.seeds.t_interval` does."""
    n = means_XS.shape[1]
    half_X = scipy.stats.t.ppf((1 + level) / 2, n - 1) * means_XS.std(axis=1, ddof=1) / n**0.5
    return Bounds(means_XS.mean(axis=1) - half_X, means_XS.mean(axis=1) + half_X)


def percentile_over_seeds(means_XS: FloatArray, bootstrap: Bootstrap) -> Bounds:
    """Resample seeds: percentiles of the mean."""
    return _percentiles(_over_seeds(means_XS, bootstrap), bootstrap.level)


def bca_over_seeds(means_XS: FloatArray, bootstrap: Bootstrap) -> Bounds:
    """Resample seeds: percentiles corrected for bias and acceleration (Efron, JASA 82, 1987)."""
    drawn_RX = np.sort(_over_seeds(means_XS, bootstrap), axis=0)
    value_X = means_XS.mean(axis=1)
    slack_X = 1e-9 * means_XS.std(axis=1)  # resamples equal to the mean but for rounding count half
    below_X = (drawn_RX < value_X - slack_X).mean(axis=0) + (drawn_RX <= value_X + slack_X).mean(axis=0)
    bias_X = scipy.stats.norm.ppf(np.clip(below_X / 2, 1e-6, 1 - 1e-6))
    centred_XS = means_XS - value_X[:, None]
    acceleration_X = (centred_XS**3).sum(axis=1) / (6 * (centred_XS**2).sum(axis=1) ** 1.5)
    bounds = []
    for share in ((1 - bootstrap.level) / 2, (1 + bootstrap.level) / 2):
        moved_X = bias_X + scipy.stats.norm.ppf(share)
        share_X = scipy.stats.norm.cdf(bias_X + moved_X / (1 - acceleration_X * moved_X))
        place_X = np.round(share_X * (len(drawn_RX) - 1)).astype(np.int64)
        bounds.append(drawn_RX[place_X, np.arange(len(value_X))])
    return Bounds(*bounds)


def over_queries(sample: SimulatedDifferences, bootstrap: Bootstrap) -> Bounds:
    """Average each query over seeds, then resample classes or queries, as ``mean_interval`` does."""
    values_XQ = sample.values_XSQ.mean(axis=1)
    if bootstrap.method == "query":
        counts_RQ = resample_counts(values_XQ.shape[1], bootstrap)
        return _percentiles(counts_RQ @ values_XQ.T / values_XQ.shape[1], bootstrap.level)
    return over_classes(by_class(values_XQ, sample.class_Q), np.bincount(sample.class_Q), bootstrap)


def over_classes(sums_XC: FloatArray, n_C: IntArray, bootstrap: Bootstrap) -> Bounds:
    """Resample classes: percentiles of the mean over queries."""
    counts_RC = resample_counts(len(n_C), bootstrap)
    return _percentiles(counts_RC @ sums_XC.T / (counts_RC @ n_C)[:, None], bootstrap.level)


def t_over_classes(sums_XC: FloatArray, n_C: IntArray, level: float = LEVEL) -> Bounds:
    """Bound a mean over queries by t_{C-1} and the classes' part of the two-level t: simulated, not used."""
    value_X = sums_XC.sum(axis=1) / n_C.sum()
    rest_XC = (sums_XC - n_C * value_X[:, None]) / n_C.sum()
    variance_X = (rest_XC**2).sum(axis=1) * len(n_C) / (len(n_C) - 1)
    half_X = scipy.stats.t.ppf((1 + level) / 2, len(n_C) - 1) * np.sqrt(variance_X)
    return Bounds(value_X - half_X, value_X + half_X)


def two_level(sample: SimulatedDifferences, bootstrap: Bootstrap, *, nested: bool = False) -> Bounds:
    """Resample seeds and, apart from them (crossed) or anew for each seed drawn (nested), query classes.

    Percentiles of sum_sc w_s v_c D_sc / sum_sc w_s v_c n_sc (Owen, 2007, arXiv 0712.1111); simulated, not
    used.
    """
    n_C = np.bincount(sample.class_Q)
    seeds_RS = resample_counts(sample.values_XSQ.shape[1], bootstrap)
    if nested:
        draws_RS = (seeds_RS * len(n_C)).astype(np.int64)
        generator = np.random.default_rng(bootstrap.seed)
        weights_RSC = generator.multinomial(draws_RS, np.full(len(n_C), 1 / len(n_C))).astype(np.float64)
    else:
        classes_RC = resample_counts(len(n_C), replace(bootstrap, seed=bootstrap.seed + 1))
        weights_RSC = seeds_RS[:, :, None] * classes_RC[:, None, :]
    sums_XSC = by_class(sample.values_XSQ, sample.class_Q)
    sums_RX = weights_RSC.reshape(len(weights_RSC), -1) @ sums_XSC.reshape(len(sums_XSC), -1).T
    return _percentiles(sums_RX / (weights_RSC.sum(axis=1) @ n_C)[:, None], bootstrap.level)


def two_level_t(sample: SimulatedDifferences, level: float = LEVEL) -> Bounds:
    """Bound the mean of each repetition as :func:`analysis.stats.seeds.two_way_t` does."""
    n_C = np.bincount(sample.class_Q)
    means_XS = sample.values_XSQ.mean(axis=2)
    value_X = means_XS.mean(axis=1)
    n_seeds, n_classes = means_XS.shape[1], len(n_C)
    of_seeds_X = means_XS.var(axis=1, ddof=1) / n_seeds
    sums_XC = by_class(sample.values_XSQ, sample.class_Q).mean(axis=1)
    rest_XC = (sums_XC - n_C * value_X[:, None]) / n_C.sum()
    of_classes_X = (rest_XC**2).sum(axis=1) * n_classes / (n_classes - 1)
    variance_X = of_seeds_X + of_classes_X
    df_X = variance_X**2 / (of_seeds_X**2 / (n_seeds - 1) + of_classes_X**2 / (n_classes - 1))
    half_X = scipy.stats.t.ppf((1 + level) / 2, df_X) * np.sqrt(variance_X)
    return Bounds(value_X - half_X, value_X + half_X)


def slope_intervals(x_XAS: FloatArray, y_XAS: FloatArray, level: float = LEVEL) -> dict[str, Bounds]:
    """Bound the slope of y on x of each repetition in three ways; x_XAS, y_XAS: repetitions, arms, seeds."""
    n_arms, n_seeds = x_XAS.shape[1:]
    slope_X, rest_XA, x_XA = _line(x_XAS.mean(axis=2), y_XAS.mean(axis=2))
    of_arms_X = (rest_XA**2).sum(axis=1) / (n_arms - 2) / (x_XA**2).sum(axis=1)
    n = n_arms * n_seeds
    all_X, rest_XN, x_XN = _line(x_XAS.reshape(-1, n), y_XAS.reshape(-1, n))
    square_X = (x_XN**2).sum(axis=1)
    of_models_X = (rest_XN**2).sum(axis=1) / (n - 2) / square_X
    scores_XA = (x_XN * rest_XN).reshape(-1, n_arms, n_seeds).sum(axis=2)
    clustered_X = (scores_XA**2).sum(axis=1) / square_X**2 * n_arms / (n_arms - 1) * (n - 1) / (n - 2)
    bounds = {}
    for method, value_X, variance_X, df in (
        ("slope over arm means", slope_X, of_arms_X, n_arms - 2),
        ("slope over models (arms ignored)", all_X, of_models_X, n - 2),
        ("slope over models (errors by arm)", all_X, clustered_X, n_arms - 1),
    ):
        half_X = scipy.stats.t.ppf((1 + level) / 2, df) * np.sqrt(variance_X)
        bounds[method] = Bounds(value_X - half_X, value_X + half_X)
    return bounds


def _line(x_XN: FloatArray, y_XN: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the least-squares slope of each row, its residuals, and x centred."""
    x_XN = x_XN - x_XN.mean(axis=1, keepdims=True)
    y_XN = y_XN - y_XN.mean(axis=1, keepdims=True)
    slope_X = (x_XN * y_XN).sum(axis=1) / (x_XN**2).sum(axis=1)
    return slope_X, y_XN - slope_X[:, None] * x_XN, x_XN


def by_class(values: FloatArray, class_Q: IntArray) -> FloatArray:
    """Add up the queries of each class; those of a class lie together."""
    starts = np.flatnonzero(np.diff(class_Q, prepend=-1))
    return np.add.reduceat(values, starts, axis=-1)


def _over_seeds(means_XS: FloatArray, bootstrap: Bootstrap) -> FloatArray:
    return resample_counts(means_XS.shape[1], bootstrap) @ means_XS.T / means_XS.shape[1]


def _percentiles(drawn_RX: FloatArray, level: float) -> Bounds:
    low_X, high_X = np.percentile(drawn_RX, [50 * (1 - level), 50 * (1 + level)], axis=0)
    return Bounds(low_X, high_X)
