"""Which intervals and tests a report may use with the seeds and classes it has, as a simulation finds."""

from __future__ import annotations

import functools
from pathlib import Path

import pandas as pd

from crossgap.errors import check_known

OVER_QUERIES = "query bootstrap (clustered)"  # the interval over queries that tables print
COVERAGE = Path(__file__).with_name("coverage.csv")
LEAST_COVERAGE = 0.93  # of a nominal .95
MOST_ERRORS = 0.06  # of a nominal .05
LEAST_CLASS_COVERAGE = 0.90  # of a nominal .95: with classes of uneven size none that is used keeps .93
MOST_CLASS_ERRORS = 0.10  # of a nominal .05, as far off

# What each method is held to: the mean over seeds on the queries at hand, over seeds and queries, or a slope.
METHODS = {
    "t over seeds": "these queries",
    "percentile bootstrap over seeds": "these queries",
    "BCa over seeds": "these queries",
    "two-level t": "new queries",
    "two-level t test": "new queries",
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

# What each method is held to that is asked how many classes of queries it needs.
CLASS_METHODS = {
    "query bootstrap (clustered)": "one model, new queries",
    "t over classes": "one model, new queries",
    "sign-flip test (classes)": "one model, new queries",
    "two-level t": "three models, new queries",
    "two-level t test": "three models, new queries",
}


@functools.cache  # a report asks the same of hundreds of effects
def supported(method: str, n_seeds: int) -> bool:
    """Tell whether a method does what it promises with this many seeds in every simulated scenario.

    An interval of nominal .95 must cover at least .93; a test at .05 must err in at most .06 and be able to
    reject at all (a sign-flip test of two to five seeds never errs and never finds anything). Read at the
    largest simulated number of seeds that is not above ``n_seeds``; below the smallest nothing is supported.

    Raises:
        InputError: a method that was not simulated.
    """
    target = METHODS[check_known(method, METHODS, "method")]
    rows = _rows(method, target, "n_seeds", n_seeds)
    return _within(rows, least_coverage=LEAST_COVERAGE, most_errors=MOST_ERRORS)


@functools.cache
def supported_classes(method: str, n_classes: int) -> bool:
    """Tell whether a method is no more than .05 off its nominal level with this many classes of queries.

    An interval of nominal .95 must cover at least .90 in every simulated scenario; a test at .05 must err in
    at most .10 and be able to reject at all. Read at the largest simulated number of classes that is not
    above ``n_classes``; below the smallest nothing is supported. Of several datasets give what their classes
    are worth together, or the least number.

    Raises:
        InputError: a method that was not simulated with few classes.
    """
    rows = _class_rows(method, n_classes)
    return _within(rows, least_coverage=LEAST_CLASS_COVERAGE, most_errors=MOST_CLASS_ERRORS)


def class_coverage(method: str, n_classes: int) -> float:
    """Return the lowest simulated coverage of an interval of .95 with this many classes of queries.

    At the largest simulated number of classes that is not above ``n_classes``; NaN below the smallest.

    Raises:
        InputError: a method that was not simulated with few classes.
    """
    return float(_class_rows(method, n_classes)["rate"].min())


def least_classes(method: str) -> int | None:
    """Return the smallest simulated number of classes from which a method is supported; None if it never is.

    Raises:
        InputError: a method that was not simulated with few classes.
    """
    check_known(method, CLASS_METHODS, "method")
    simulated = sorted(read_coverage()["n_classes"].dropna().astype(int).unique(), reverse=True)
    least = None
    for count in simulated:
        if not supported_classes(method, count):
            break
        least = int(count)
    return least


def _class_rows(method: str, n_classes: int) -> pd.DataFrame:
    target = CLASS_METHODS[check_known(method, CLASS_METHODS, "method")]
    return _rows(method, target, "n_classes", n_classes)


def _rows(method: str, target: str, unit: str, number: int) -> pd.DataFrame:
    table = read_coverage()
    rows = table[(table["method"] == method) & (table["target"] == target) & (table[unit] <= number)]
    return rows[rows[unit] == rows[unit].max()]


def _within(rows: pd.DataFrame, *, least_coverage: float, most_errors: float) -> bool:
    if rows.empty:
        return False
    if (rows["kind"] == "interval").all():
        return bool(rows["rate"].min() >= least_coverage)
    return bool(rows["rate"].max() <= most_errors and rows["power"].min() > 0)


@functools.cache
def read_coverage() -> pd.DataFrame:
    """Read what ``python -m analysis.simulate --out`` wrote: a row a scenario, size and method.

    Returns:
        columns scenario, n_seeds, n_classes (of queries; 0 for slopes, which have arms), method, target (what
        the interval is to cover), kind (interval, test), rate (coverage of the interval, errors of the test
        where nothing was there), se (its Monte-Carlo error), one_sided (how often the interval lies wholly
        on one side of the truth, or the test claims one side, the larger of the two: nominal .025; NaN for
        TOST, which has no sides), width (median, in points), power (of a test: one point of difference, or
        equivalence of none), repetitions.
    """
    return pd.read_csv(COVERAGE)
