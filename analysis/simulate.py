"""``python -m analysis.simulate``: how often intervals cover and tests err with few seeds, or few classes.

python -m analysis.simulate --repetitions 200
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.stats
from rich.console import Console
from rich.table import Table

from analysis.stats.seeds import flip_p_values
from crossgap.command import run_command
from crossgap.errors import InputError
from crossgap.files import write_text
from crossgap.metrics.intervals import Bootstrap, FloatArray, resample_counts
from crossgap.progress import ItemProgress

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
Shape = Literal["normal", "heavy-tailed", "skewed"]
THESE = "these queries"  # the mean over all seeds there could be, on the queries at hand
NEW = "new queries"  # the mean over all seeds and all queries there could be
ONE = "one model, new queries"  # the mean of the model at hand over all queries there could be
THREE = "three models, new queries"  # as NEW, from few classes
LEVEL = 0.95
ALPHA = 0.05
RESAMPLES = 1000
CHUNK = 250  # repetitions at a time: 20 seeds of 300 queries in them are 12 MB
N_ARMS = (4, 8, 12)
N_CLASSES = (2, 3, 5, 10, 20, 40, 60)
QUERIES_PER_CLASS = 30
KEYS = ["scenario", "n_seeds", "n_classes", "method", "target"]
COLUMNS = [*KEYS, "kind", "rate", "se", "one_sided", "width", "power", "repetitions"]


@dataclass(frozen=True, kw_only=True)
class Model:
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


SCENARIOS: dict[str, Model] = {
    "normal": Model(),
    "heavy-tailed": Model(shape="heavy-tailed"),
    "skewed": Model(shape="skewed"),
    "seeds dominate": Model(seed=1.0, query_class=1.0, query=4.0),
}


# One model's differences about its own mean: what classes and queries do in its seed alone is in b and e.
ONE_MODEL = Model(seed=0.0, query_class=13**0.5, seed_by_class=0.0, query=72**0.5, rest=0.0)
CLASS_SCENARIOS: dict[str, Shape] = {
    "normal classes": "normal",
    "heavy-tailed classes": "heavy-tailed",
    "skewed classes": "skewed",
}


class Sample(NamedTuple):
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


def draw(model: Model, n_seeds: int, repetitions: int, generator: np.random.Generator) -> Sample:
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
    return Sample(values_XSQ, class_Q, model.effect + lasting_XQ.mean(axis=1))


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


def over_queries(sample: Sample, bootstrap: Bootstrap) -> Bounds:
    """Average each query over seeds, then resample classes or queries, as ``mean_interval`` does."""
    values_XQ = sample.values_XSQ.mean(axis=1)
    if bootstrap.method == "query":
        counts_RQ = resample_counts(values_XQ.shape[1], bootstrap)
        return _percentiles(counts_RQ @ values_XQ.T / values_XQ.shape[1], bootstrap.level)
    return over_classes(_by_class(values_XQ, sample.class_Q), np.bincount(sample.class_Q), bootstrap)


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


def two_level(sample: Sample, bootstrap: Bootstrap, *, nested: bool = False) -> Bounds:
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
    sums_XSC = _by_class(sample.values_XSQ, sample.class_Q)
    sums_RX = weights_RSC.reshape(len(weights_RSC), -1) @ sums_XSC.reshape(len(sums_XSC), -1).T
    return _percentiles(sums_RX / (weights_RSC.sum(axis=1) @ n_C)[:, None], bootstrap.level)


def two_level_t(sample: Sample, level: float = LEVEL) -> Bounds:
    """Bound the mean of each repetition as :func:`analysis.stats.seeds.two_level_t_interval` does."""
    n_C = np.bincount(sample.class_Q)
    means_XS = sample.values_XSQ.mean(axis=2)
    value_X = means_XS.mean(axis=1)
    n_seeds, n_classes = means_XS.shape[1], len(n_C)
    of_seeds_X = means_XS.var(axis=1, ddof=1) / n_seeds
    sums_XC = _by_class(sample.values_XSQ, sample.class_Q).mean(axis=1)
    rest_XC = (sums_XC - n_C * value_X[:, None]) / n_C.sum()
    of_classes_X = (rest_XC**2).sum(axis=1) * n_classes / (n_classes - 1)
    variance_X = of_seeds_X + of_classes_X
    df_X = variance_X**2 / (of_seeds_X**2 / (n_seeds - 1) + of_classes_X**2 / (n_classes - 1))
    half_X = scipy.stats.t.ppf((1 + level) / 2, df_X) * np.sqrt(variance_X)
    return Bounds(value_X - half_X, value_X + half_X)


def simulate_seeds(scenario: str, n_seeds: int, repetitions: int, seed: int = 0) -> pd.DataFrame:
    """Simulate one scenario with one number of seeds: coverage of each interval, errors of each test."""
    model = SCENARIOS[scenario]
    place = list(SCENARIOS).index(scenario)
    counts = _Counts({"scenario": scenario, "n_seeds": n_seeds, "n_classes": model.n_classes})
    for number, size in enumerate(_chunks(repetitions)):
        sample = draw(model, n_seeds, size, np.random.default_rng([seed, place, n_seeds, number]))
        means_XS = sample.values_XSQ.mean(axis=2)
        bootstrap = Bootstrap(level=LEVEL, resamples=RESAMPLES, seed=number)
        targets = {THESE: sample.these_X, NEW: np.full(size, model.effect)}
        for method, target, bounds in _intervals(sample, means_XS, bootstrap):
            counts.interval(method, target, bounds, targets[target])
        centred_XS = means_XS - sample.these_X[:, None]  # no difference on these queries, but for the seeds
        for method, false, true in _tests(centred_XS, model, number):
            counts.test(method, THESE, false, true)
        bounds = two_level_t(sample)  # p <= .05 where the interval of 95 % does not hold 0
        counts.test("two-level t test", NEW, _sides(bounds, model.effect), _sides(bounds, 0.0))
    return counts.table()


def simulate_classes(scenario: str, n_classes: int, repetitions: int, seed: int = 0) -> pd.DataFrame:
    """Simulate few classes, of 30 queries on average: statistics of one model, the two-level t of three."""
    three_models, one_model = (
        replace(
            model,
            class_shape=CLASS_SCENARIOS[scenario],
            n_classes=n_classes,
            n_queries=QUERIES_PER_CLASS * n_classes,
        )
        for model in (Model(), ONE_MODEL)
    )
    place = len(SCENARIOS) + 1 + list(CLASS_SCENARIOS).index(scenario)
    one = _Counts({"scenario": scenario, "n_seeds": 1, "n_classes": n_classes})
    three = _Counts({"scenario": scenario, "n_seeds": 3, "n_classes": n_classes})
    for number, size in enumerate(_chunks(repetitions)):
        generator = np.random.default_rng([seed, place, n_classes, number])
        sample = draw(one_model, 1, size, generator)
        moved_XC = _by_class(sample.values_XSQ[:, 0], sample.class_Q)
        n_C = np.bincount(sample.class_Q)
        bootstrap = Bootstrap(level=LEVEL, resamples=RESAMPLES, seed=number)
        effect = one_model.effect
        one.interval("query bootstrap (clustered)", ONE, over_classes(moved_XC, n_C, bootstrap), effect)
        one.interval("t over classes", ONE, t_over_classes(moved_XC, n_C), effect)
        centred_XC = moved_XC - effect * n_C
        one.test("sign-flip test (classes)", ONE, _flipped(centred_XC, number), _flipped(moved_XC, number))
        bounds = two_level_t(draw(three_models, 3, size, generator))
        three.interval("two-level t", THREE, bounds, three_models.effect)
        three.test("two-level t test", THREE, _sides(bounds, three_models.effect), _sides(bounds, 0.0))
    return pd.concat([one.table(), three.table()], ignore_index=True)


def simulate_slope(n_arms: int, n_seeds: int, repetitions: int, seed: int = 0) -> pd.DataFrame:
    """Simulate the slope of gain over gap: by arm means, by all models, by models with errors by arm."""
    model = SlopeModel()
    generator = np.random.default_rng([seed, len(SCENARIOS), n_arms, n_seeds])
    shape = (repetitions, n_arms, n_seeds)
    x_XA1 = generator.random((repetitions, n_arms, 1))
    y_XAS = model.slope * x_XA1 + model.arm * generator.standard_normal((repetitions, n_arms, 1))
    y_XAS = y_XAS + model.seed * generator.standard_normal(shape)
    x_XAS = x_XA1 + model.x_seed * generator.standard_normal(shape)
    counts = _Counts({"scenario": f"{n_arms} arms", "n_seeds": n_seeds, "n_classes": 0})
    for method, bounds in slope_intervals(x_XAS, y_XAS).items():
        counts.interval(method, "slope", bounds, model.slope)
    return counts.table()


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


def simulate(n_seeds: tuple[int, ...], repetitions: int, seed: int = 0) -> pd.DataFrame:
    """Simulate every scenario with each number of seeds; columns as in crossgap/reading/coverage.csv."""
    calls: list[Callable[[int, int], pd.DataFrame]] = [
        *(partial(simulate_seeds, scenario, number) for scenario in SCENARIOS for number in n_seeds),
        *(partial(simulate_slope, arms, number) for arms in N_ARMS for number in (1, *n_seeds)),
        *(partial(simulate_classes, name, number) for name in CLASS_SCENARIOS for number in N_CLASSES),
    ]
    tables = []
    with ItemProgress() as progress:
        tick = progress.start("simulate scenarios", len(calls))
        for call in calls:
            tables.append(call(repetitions, seed))
            tick(1)
    return pd.concat(tables, ignore_index=True)


def _intervals(
    sample: Sample, means_XS: FloatArray, bootstrap: Bootstrap
) -> Iterator[tuple[str, str, Bounds]]:
    over_t = t_over_seeds(means_XS)
    yield "t over seeds", THESE, over_t
    yield "t over seeds", NEW, over_t
    yield "percentile bootstrap over seeds", THESE, percentile_over_seeds(means_XS, bootstrap)
    yield "BCa over seeds", THESE, bca_over_seeds(means_XS, bootstrap)
    yield "two-level t", NEW, two_level_t(sample)
    yield "two-level bootstrap", NEW, two_level(sample, bootstrap)
    yield "two-level bootstrap (nested)", NEW, two_level(sample, bootstrap, nested=True)
    yield "query bootstrap (clustered)", NEW, over_queries(sample, bootstrap)
    yield "query bootstrap (unclustered)", NEW, over_queries(sample, replace(bootstrap, method="query"))


class _Sides(NamedTuple):
    """Where a test rejects: claiming that the difference lies above zero, or below."""

    above_X: BoolArray
    below_X: BoolArray


def _tests(centred_XS: FloatArray, model: Model, seed: int) -> Iterator[tuple[str, _Sides, _Sides]]:
    """Yield where each test rejects with nothing to find, and with something; of TOST see ``level_with``."""

    def level_with(means_XS: FloatArray, alpha: float) -> _Sides:
        """Claim equivalence, counted as above: TOST has no sides, its error is that at the upper margin."""
        bounds = t_over_seeds(means_XS, 1 - 2 * alpha)
        inside_X = (bounds.low_X > -model.margin) & (bounds.high_X < model.margin)
        return _Sides(inside_X, np.zeros_like(inside_X))

    moved_XS = centred_XS + model.effect
    t_false, t_true = (_sides(t_over_seeds(means_XS, 1 - ALPHA), 0.0) for means_XS in (centred_XS, moved_XS))
    yield "paired t test", t_false, t_true
    yield "sign-flip test", _flipped(centred_XS, seed), _flipped(moved_XS, seed)
    for method, alpha in (("TOST", ALPHA), ("TOST at .025", ALPHA / 2)):
        yield method, level_with(centred_XS + model.margin, alpha), level_with(centred_XS, alpha)


def _sides(bounds: Bounds, target: FloatArray | float) -> _Sides:
    return _Sides(bounds.low_X > target, bounds.high_X < target)


def _flipped(values_XN: FloatArray, seed: int) -> _Sides:
    rejected_X = flip_p_values(values_XN, seed=seed) <= ALPHA
    sums_X = values_XN.sum(axis=1)
    return _Sides(rejected_X & (sums_X > 0), rejected_X & (sums_X < 0))


class _Counts:
    """What each method got right and wrong in one cell of the simulation, gathered over its chunks."""

    def __init__(self, where: dict[str, object]) -> None:
        self.where = where
        # of an interval: misses below and above the target, width; of a test: errors above and below, finds
        self.parts: dict[tuple[str, str, str], list[FloatArray]] = {}

    def interval(self, method: str, target: str, bounds: Bounds, truth_X: FloatArray | float) -> None:
        missed = _sides(bounds, truth_X)
        part = np.stack([missed.above_X, missed.below_X, bounds.high_X - bounds.low_X])
        self.parts.setdefault((method, target, "interval"), []).append(part)

    def test(self, method: str, target: str, false: _Sides, true: _Sides) -> None:
        part = np.stack([false.above_X, false.below_X, true.above_X | true.below_X]).astype(np.float64)
        self.parts.setdefault((method, target, "test"), []).append(part)

    def table(self) -> pd.DataFrame:
        rows = []
        for (method, target, kind), parts in self.parts.items():
            above_X, below_X, beside_X = np.concatenate(parts, axis=1)
            errors = above_X.mean() + below_X.mean()
            rate = 1 - errors if kind == "interval" else errors
            rows.append(
                {
                    **self.where,
                    "method": method,
                    "target": target,
                    "kind": kind,
                    "rate": rate,
                    "se": np.sqrt(rate * (1 - rate) / len(above_X)),
                    "one_sided": np.nan if method.startswith("TOST") else max(above_X.mean(), below_X.mean()),
                    "width": np.median(beside_X) if kind == "interval" else np.nan,
                    "power": beside_X.mean() if kind == "test" else np.nan,
                    "repetitions": len(above_X),
                }
            )
        table = pd.DataFrame(rows)[COLUMNS]
        return table.round({"rate": 4, "se": 4, "one_sided": 4, "width": 3, "power": 4})


def _chunks(repetitions: int) -> list[int]:
    return [min(CHUNK, repetitions - start) for start in range(0, repetitions, CHUNK)]


def _line(x_XN: FloatArray, y_XN: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the least-squares slope of each row, its residuals, and x centred."""
    x_XN = x_XN - x_XN.mean(axis=1, keepdims=True)
    y_XN = y_XN - y_XN.mean(axis=1, keepdims=True)
    slope_X = (x_XN * y_XN).sum(axis=1) / (x_XN**2).sum(axis=1)
    return slope_X, y_XN - slope_X[:, None] * x_XN, x_XN


def _by_class(values: FloatArray, class_Q: IntArray) -> FloatArray:
    starts = np.flatnonzero(np.diff(class_Q, prepend=-1))  # queries of a class lie together
    return np.add.reduceat(values, starts, axis=-1)


def _over_seeds(means_XS: FloatArray, bootstrap: Bootstrap) -> FloatArray:
    return resample_counts(means_XS.shape[1], bootstrap) @ means_XS.T / means_XS.shape[1]


def _percentiles(drawn_RX: FloatArray, level: float) -> Bounds:
    low_X, high_X = np.percentile(drawn_RX, [50 * (1 - level), 50 * (1 + level)], axis=0)
    return Bounds(low_X, high_X)


def print_table(table: pd.DataFrame, console: Console) -> None:
    """Print one table a scenario: rate ± its Monte-Carlo error, and the median width or the power.

    Under each test the larger of its two one-sided error rates (nominal .025).
    """
    for scenario, part in table.groupby("scenario", sort=False):
        unit = "n_classes" if scenario in CLASS_SCENARIOS else "n_seeds"
        numbers = sorted(set(part[unit]))
        shown = Table(title=f"{scenario}: coverage (width); errors of tests (power)", title_justify="left")
        for title in ("method", "of"):
            shown.add_column(title)
        for number in numbers:
            shown.add_column(f"{number} {unit.removeprefix('n_')}", justify="right")
        for (method, target, kind), cells in part.groupby(["method", "target", "kind"], sort=False):
            by_number = dict(zip(cells[unit], cells.itertuples(), strict=True))
            shown.add_row(str(method), str(target), *(_cell(by_number[number]) for number in numbers))
            if kind == "test" and cells["one_sided"].notna().all():
                larger = [_short(f"{by_number[number].one_sided:.3f}") for number in numbers]
                shown.add_row("  its larger side", "", *larger)
        console.print(shown)


def _cell(row: Any) -> str:
    beside = row.width if row.kind == "interval" else row.power
    return _short(f"{row.rate:.3f} ±{row.se:.3f} ({beside:.2f})")


def _short(text: str) -> str:
    return re.sub(r"\b0\.", ".", text)


def main(
    *,
    repetitions: int = 10_000,
    seeds: tuple[int, ...] = (2, 3, 5, 8, 20),
    out: Path | None = None,
    seed: int = 0,
) -> int:
    """Simulate paired differences as small models give them and count what each statistic gets right.

    Args:
        repetitions: simulated experiments of each scenario and number of seeds or classes.
        seeds: numbers of seeds.
        out: a CSV to write, such as crossgap/reading/coverage.csv, which says what the report may use.
        seed: of the simulation itself.
    """
    if repetitions < 10:
        raise InputError(f"--repetitions {repetitions}: a rate needs at least 10")
    if not seeds or min(seeds) < 2 or max(seeds) > 200 or len(set(seeds)) < len(seeds):
        raise InputError(f"--seeds {' '.join(map(str, seeds))}: give numbers from 2 to 200, each once")
    if seed < 0:
        raise InputError(f"--seed {seed}: a seed is a whole number from 0 upwards")
    if out is not None and (out.is_dir() or not out.parent.is_dir()):
        raise InputError(f"--out {out}: name a file in a folder that exists")
    table = simulate(seeds, repetitions, seed)
    print_table(table, Console(width=200))
    if out is not None:
        write_text(out, table.to_csv(index=False, lineterminator="\n"))
        print(out)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
