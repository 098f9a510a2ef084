"""What the report may use follows from the shipped simulation, and the simulation can be repeated."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.simulate import N_CLASSES, simulate_classes, simulate_seeds, simulate_slope
from analysis.stats.simulated import CLASS_SCENARIOS, SCENARIOS
from crossgap.errors import InputError
from crossgap.reading.support import (
    CLASS_METHODS,
    METHODS,
    OVER_QUERIES,
    class_coverage,
    least_classes,
    read_coverage,
    supported,
    supported_classes,
)

SEEDS = (2, 3, 5, 8, 20)


def worst(method: str, target: str, **size: int) -> float:
    """Take the lowest coverage of an interval, or the highest error rate of a test, over the scenarios."""
    [(unit, number)] = size.items()
    table = read_coverage()
    rows = table[(table["method"] == method) & (table["target"] == target) & (table[unit] == number)]
    assert len(rows) == 3 + (unit == "n_seeds" and target != "slope")
    return float(rows["rate"].min() if (rows["kind"] == "interval").all() else rows["rate"].max())


def near(again: pd.DataFrame) -> None:
    """Compare each cell with the shipped one by the Monte-Carlo error of both."""
    keys = ["scenario", "n_seeds", "n_classes", "method", "target", "kind"]
    both = again.merge(read_coverage(), on=keys, suffixes=("", "_shipped"), validate="1:1")
    assert len(both) == len(again)
    for row in both.itertuples():
        pooled = (row.rate * row.repetitions + row.rate_shipped * row.repetitions_shipped) / (
            row.repetitions + row.repetitions_shipped
        )
        error = math.sqrt(pooled * (1 - pooled) * (1 / row.repetitions + 1 / row.repetitions_shipped))
        assert abs(row.rate - row.rate_shipped) <= 4 * error, (row.method, row.target, row.rate)


@pytest.mark.parametrize(("scenario", "n_seeds"), [("normal", 5), ("skewed", 3), ("seeds dominate", 2)])
def test_a_second_simulation_agrees_with_the_shipped_numbers(scenario: str, n_seeds: int) -> None:
    near(simulate_seeds(scenario, n_seeds, 250, seed=1))


def test_a_second_simulation_of_slopes_agrees() -> None:
    near(simulate_slope(8, 3, 3000, seed=1))


@pytest.mark.parametrize(("scenario", "n_classes"), [("normal classes", 10), ("skewed classes", 5)])
def test_a_second_simulation_of_classes_agrees(scenario: str, n_classes: int) -> None:
    near(simulate_classes(scenario, n_classes, 1000, seed=1))


def test_the_shipped_table_is_whole() -> None:
    table = read_coverage()
    assert set(table["method"]) == {*METHODS, *CLASS_METHODS}
    assert set(table["scenario"]) == {*SCENARIOS, *CLASS_SCENARIOS, "4 arms", "8 arms", "12 arms"}
    of_seeds = table[table["scenario"].isin(SCENARIOS)]
    assert set(of_seeds["n_seeds"]) == {2, 3, 5, 8, 20}
    assert (of_seeds.groupby(["method", "target"]).size() == 4 * 5).all()
    of_classes = table[table["scenario"].isin(CLASS_SCENARIOS)]
    assert set(of_classes["n_classes"]) == set(N_CLASSES)
    assert dict(zip(of_classes["method"], of_classes["target"], strict=True)) == CLASS_METHODS
    assert (of_classes.groupby("method").size() == 3 * len(N_CLASSES)).all()
    assert table["rate"].between(0, 1).all()
    np.testing.assert_allclose(
        table["se"], np.sqrt(table["rate"] * (1 - table["rate"]) / table["repetitions"]), atol=1e-4
    )


def test_what_is_known_of_few_seeds() -> None:
    # Percentiles over n normal seeds cover about P(|t_{n-1}| < 1.96 sqrt((n - 1) / n)): .85 of five.
    rows = read_coverage().set_index(["method", "scenario", "n_seeds"]).sort_index()
    percentile = rows.loc[("percentile bootstrap over seeds", "normal", 5), "rate"]
    assert float(percentile) == pytest.approx(0.84, abs=0.015)
    t = rows[rows["target"] == "these queries"].loc[("t over seeds", "normal")]
    assert (abs(t["rate"] - 0.95) < 4 * t["se"]).all()
    assert worst("query bootstrap (clustered)", "new queries", n_seeds=2) < 0.7
    assert worst("slope over models (arms ignored)", "slope", n_seeds=20) < 0.5


def test_what_is_known_of_few_classes() -> None:
    # Two classes give three means, of which the outer two are the bounds: they hold the truth half the time.
    rows = read_coverage().set_index(["scenario", "method", "n_classes"]).sort_index().loc["normal classes"]
    assert float(rows.loc[("query bootstrap (clustered)", 2), "rate"]) == pytest.approx(0.5, abs=0.02)
    assert (rows.loc["query bootstrap (clustered)", "rate"].diff().dropna() > -0.015).all()
    flips = rows.loc["sign-flip test (classes)"]
    assert (flips["rate"] <= 0.05 + 4 * flips["se"]).all()  # exact where classes are symmetric
    assert list(flips["power"] > 0) == [n >= 6 for n in N_CLASSES]


def test_errors_to_one_side_are_part_of_the_errors() -> None:
    table = read_coverage()
    assert (table["one_sided"].isna() == table["method"].str.startswith("TOST")).all()
    errors = np.where(table["kind"] == "interval", 1 - table["rate"], table["rate"])
    sided = table["one_sided"].notna()
    assert (table["one_sided"][sided] <= errors[sided] + 1e-4).all()
    assert (table["one_sided"][sided] >= errors[sided] / 2 - 1e-4).all()
    t = table[(table["method"] == "paired t test") & (table["scenario"] == "normal")]
    assert (abs(t["one_sided"] - 0.025) <= 4 * 0.0016).all()


@pytest.mark.parametrize(
    ("methods", "unit", "asked", "covered", "errors"),
    [
        (METHODS, "n_seeds", supported, 0.93, 0.06),
        (CLASS_METHODS, "n_classes", supported_classes, 0.90, 0.10),
    ],
    ids=["seeds", "classes"],
)
def test_the_rule_is_kept(
    methods: dict[str, str], unit: str, asked: Callable[[str, int], bool], covered: float, errors: float
) -> None:
    table = read_coverage()
    for method, target in methods.items():
        own = table[(table["method"] == method) & (table["target"] == target)]
        for size, rows in own.groupby(unit):
            if (rows["kind"] == "interval").all():
                expected = all(rate >= covered for rate in rows["rate"])
            else:
                expected = all(rate <= errors for rate in rows["rate"]) and all(rows["power"] > 0)
            assert asked(method, int(size)) == expected


def test_coverage_with_few_classes_is_that_of_the_worst_scenario() -> None:
    method = "query bootstrap (clustered)"
    table = read_coverage()
    rows = table[(table["method"] == method) & (table["target"] == CLASS_METHODS[method])]
    assert class_coverage(method, 25) == rows.loc[rows["n_classes"] == 20, "rate"].min()
    assert math.isnan(class_coverage(method, 1))
    with pytest.raises(InputError, match="paired t test"):
        class_coverage("paired t test", 20)


def test_numbers_between_simulated_ones_take_the_lower() -> None:
    for method in METHODS:
        for n_seeds, lower in ((4, 3), (7, 5), (19, 8), (500, 20)):
            assert supported(method, n_seeds) == supported(method, lower)
    for method in CLASS_METHODS:
        for n_classes, lower in ((4, 3), (9, 5), (59, 40), (1000, 60)):
            assert supported_classes(method, n_classes) == supported_classes(method, lower)
        assert not supported_classes(method, 1)


def test_one_seed_supports_nothing_over_seeds() -> None:
    for method, target in METHODS.items():
        if target != "slope":
            assert not supported(method, 1)
    assert supported("slope over arm means", 1)  # arms are its units


def test_what_the_report_relies_on() -> None:
    assert [supported("t over seeds", n) for n in (2, 3, 5, 8, 20)] == [True] * 5
    assert [supported("two-level t", n) for n in (2, 3, 5, 8, 20)] == [False, True, True, True, True]
    assert [supported("sign-flip test", n) for n in (2, 3, 5, 8)] == [False, False, False, True]
    assert [supported("TOST at .025", n) for n in (2, 3, 5, 8, 20)] == [True] * 5
    assert not supported("TOST", 5)
    assert not any(supported("query bootstrap (clustered)", n) for n in (2, 3, 5, 8, 20))
    assert [supported("two-level t test", n) for n in (2, 3, 5, 8, 20)] == [False, True, True, True, True]
    of_one = [supported_classes("query bootstrap (clustered)", n) for n in N_CLASSES]
    assert of_one == [n >= 40 for n in N_CLASSES]
    of_flips = [supported_classes("sign-flip test (classes)", n) for n in N_CLASSES]
    assert of_flips == [n >= 10 for n in N_CLASSES]
    assert all(supported_classes("two-level t", n) for n in N_CLASSES)


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(InputError, match="t over seeds"):
        supported("t over seed", 5)
    with pytest.raises(InputError, match="t over classes"):
        supported_classes("t over class", 5)


def test_the_tables_of_the_documentation_are_the_shipped_ones() -> None:
    text = (Path(__file__).parent.parent.parent / "docs" / "statistics.md").read_text()
    seeds = [(method, target, n, supported(method, n)) for method, target in METHODS.items() for n in SEEDS]
    classes = [
        (method, target, n, supported_classes(method, n))
        for method, target in CLASS_METHODS.items()
        for n in N_CLASSES
    ]
    for unit, numbers, cases in (("n_seeds", SEEDS, seeds), ("n_classes", N_CLASSES, classes)):
        for method, target, number, bold in cases:
            [line] = [line for line in text.splitlines() if line.startswith(f"| {method} | {target} |")]
            cells = dict(zip(numbers, line.split("|")[3:-1], strict=True))
            [rate] = re.findall(r"\d?\.\d{3}", cells[number])
            assert float(rate) == pytest.approx(worst(method, target, **{unit: number}), abs=5.1e-4)
            assert ("**" in cells[number]) == bold, (method, number)


def test_the_least_number_of_classes_is_read_off_the_same_table() -> None:
    assert least_classes(OVER_QUERIES) == 40
    assert supported_classes(OVER_QUERIES, 40)
    assert not supported_classes(OVER_QUERIES, 39)
    assert least_classes("two-level t") == 2
