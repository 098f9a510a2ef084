"""``python -m analysis.simulate``: how often intervals cover and tests err with few seeds, or few classes.

python -m analysis.simulate --repetitions 200
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from rich.console import Console
from rich.table import Table

from analysis.stats.seeds import flip_p_values
from analysis.stats.simulated import (
    CLASS_SCENARIOS,
    LEVEL,
    ONE_MODEL,
    SCENARIOS,
    Bounds,
    EffectModel,
    SimulatedDifferences,
    SlopeModel,
    bca_over_seeds,
    by_class,
    draw,
    over_classes,
    over_queries,
    percentile_over_seeds,
    slope_intervals,
    t_over_classes,
    t_over_seeds,
    two_level,
    two_level_t,
)
from crossgap.command import run_command
from crossgap.errors import InputError
from crossgap.files import write_text
from crossgap.metrics.intervals import Bootstrap, FloatArray
from crossgap.progress import ItemProgress

BoolArray = npt.NDArray[np.bool_]
THESE = "these queries"  # the mean over all seeds there could be, on the queries at hand
NEW = "new queries"  # the mean over all seeds and all queries there could be
ONE = "one model, new queries"  # the mean of the model at hand over all queries there could be
THREE = "three models, new queries"  # as NEW, from few classes
ALPHA = 0.05
RESAMPLES = 1000
CHUNK = 250  # repetitions at a time: 20 seeds of 300 queries in them are 12 MB
N_ARMS = (4, 8, 12)
N_CLASSES = (2, 3, 5, 10, 20, 40, 60)
QUERIES_PER_CLASS = 30
KEYS = ["scenario", "n_seeds", "n_classes", "method", "target"]
COLUMNS = [*KEYS, "kind", "rate", "se", "one_sided", "width", "power", "repetitions"]


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
        for model in (EffectModel(), ONE_MODEL)
    )
    place = len(SCENARIOS) + 1 + list(CLASS_SCENARIOS).index(scenario)
    one = _Counts({"scenario": scenario, "n_seeds": 1, "n_classes": n_classes})
    three = _Counts({"scenario": scenario, "n_seeds": 3, "n_classes": n_classes})
    for number, size in enumerate(_chunks(repetitions)):
        generator = np.random.default_rng([seed, place, n_classes, number])
        sample = draw(one_model, 1, size, generator)
        moved_XC = by_class(sample.values_XSQ[:, 0], sample.class_Q)
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


def simulate(n_seeds: tuple[int, ...], repetitions: int, seed: int = 0) -> pd.DataFrame:
    """Simulate every scenario with each number of seeds; columns as in crossgap/coverage.csv."""
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
    sample: SimulatedDifferences, means_XS: FloatArray, bootstrap: Bootstrap
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


def _tests(centred_XS: FloatArray, model: EffectModel, seed: int) -> Iterator[tuple[str, _Sides, _Sides]]:
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
        out: a CSV to write, such as crossgap/coverage.csv, from which the report takes what it may use.
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
