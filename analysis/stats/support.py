"""Which intervals and tests a report may use with the seeds it has: what a simulation says of each."""

from __future__ import annotations

import functools
from pathlib import Path

import pandas as pd

from crossgap.errors import check_known

COVERAGE = Path(__file__).with_name("coverage.csv")
LEAST_COVERAGE = 0.93  # of a nominal .95
MOST_ERRORS = 0.06  # of a nominal .05

# What each method is held to: the mean over seeds on the queries at hand, over seeds and queries, or a slope.
METHODS = {
    "t over seeds": "these queries",
    "percentile bootstrap over seeds": "these queries",
    "BCa over seeds": "these queries",
    "two-level t": "new queries",
    "two-level bootstrap": "new queries",
    "two-level bootstrap (nested)": "new queries",
    "query bootstrap (clustered)": "new queries",
    "query bootstrap (unclustered)": "new queries",
    "paired t test": "these queries",
    "sign-flip test": "these queries",
    "TOST": "these queries",
    "TOST at .025": "these queries",
    "slope over arm means": "slope",
    "slope over models (arms ignored)": "slope",
    "slope over models (errors by arm)": "slope",
}


def supported(method: str, n_seeds: int) -> bool:
    """Tell whether a method does what it promises with this many seeds in every simulated scenario.

    An interval of nominal .95 must cover at least .93; a test at .05 must err in at most .06 and be able to
    reject at all (a sign-flip test of two to five seeds never errs and never finds anything). Read at the
    largest simulated number of seeds that is not above ``n_seeds``; below the smallest nothing is supported.

    Raises:
        InputError: a method that was not simulated.
    """
    rows = _rows(method, n_seeds)
    if rows.empty:
        return False
    if (rows["kind"] == "interval").all():
        return bool(rows["rate"].min() >= LEAST_COVERAGE)
    return bool(rows["rate"].max() <= MOST_ERRORS and rows["power"].min() > 0)


def coverage(method: str, n_seeds: int) -> float:
    """Return the lowest coverage of an interval over the scenarios, or 1 - the highest error rate of a test.

    At the largest simulated number of seeds that is not above ``n_seeds``; NaN below the smallest.

    Raises:
        InputError: a method that was not simulated.
    """
    rows = _rows(method, n_seeds)
    if rows.empty:
        return float("nan")
    worst = rows["rate"].min() if (rows["kind"] == "interval").all() else 1 - rows["rate"].max()
    return float(worst)


def _rows(method: str, n_seeds: int) -> pd.DataFrame:
    target = METHODS[check_known(method, METHODS, "method")]
    table = read_coverage()
    rows = table[(table["method"] == method) & (table["target"] == target) & (table["n_seeds"] <= n_seeds)]
    return rows[rows["n_seeds"] == rows["n_seeds"].max()]


@functools.cache
def read_coverage() -> pd.DataFrame:
    """Read what ``python -m analysis.simulate --out`` wrote: one row a scenario, number of seeds and method.

    Returns:
        columns scenario, n_seeds, method, target (what the interval is to cover), kind (interval, test), rate
        (coverage of the interval, errors of the test where nothing was there), se (its Monte-Carlo error),
        width (median, in points), power (of a test: one point of difference, or equivalence of none),
        repetitions.
    """
    return pd.read_csv(COVERAGE)
