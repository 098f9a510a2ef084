"""What the report may use follows from the shipped simulation, and the simulation can be repeated."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.simulate import SCENARIOS, simulate_seeds, simulate_slope
from analysis.stats.support import METHODS, coverage, read_coverage, supported
from crossgap.errors import InputError


def near(again: pd.DataFrame) -> None:
    """Compare each cell with the shipped one by the Monte-Carlo error of both."""
    keys = ["scenario", "n_seeds", "method", "target", "kind"]
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


def test_the_shipped_table_is_whole() -> None:
    table = read_coverage()
    assert set(table["method"]) == set(METHODS)
    assert set(table["scenario"]) == {*SCENARIOS, "4 arms", "8 arms", "12 arms"}
    of_seeds = table[table["scenario"].isin(SCENARIOS)]
    assert set(of_seeds["n_seeds"]) == {2, 3, 5, 8, 20}
    assert (of_seeds.groupby(["method", "target"]).size() == 4 * 5).all()
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
    assert coverage("query bootstrap (clustered)", 2) < 0.7
    assert coverage("slope over models (arms ignored)", 20) < 0.5


def test_the_rule_is_kept() -> None:
    table = read_coverage()
    for method, target in METHODS.items():
        own = table[(table["method"] == method) & (table["target"] == target)]
        for n_seeds, rows in own.groupby("n_seeds"):
            if (rows["kind"] == "interval").all():
                expected = all(rate >= 0.93 for rate in rows["rate"])
                assert coverage(method, int(n_seeds)) == min(rows["rate"])
            else:
                expected = all(rate <= 0.06 for rate in rows["rate"]) and all(rows["power"] > 0)
                assert coverage(method, int(n_seeds)) == 1 - max(rows["rate"])
            assert supported(method, int(n_seeds)) == expected


def test_numbers_between_simulated_ones_take_the_lower() -> None:
    for method in METHODS:
        for n_seeds, lower in ((4, 3), (7, 5), (19, 8), (500, 20)):
            assert supported(method, n_seeds) == supported(method, lower)
            assert coverage(method, n_seeds) == coverage(method, lower)


def test_one_seed_supports_nothing_over_seeds() -> None:
    for method, target in METHODS.items():
        if target != "slope":
            assert not supported(method, 1)
            assert math.isnan(coverage(method, 1))
    assert supported("slope over arm means", 1)  # arms are its units


def test_what_the_report_relies_on() -> None:
    assert [supported("t over seeds", n) for n in (2, 3, 5, 8, 20)] == [True] * 5
    assert [supported("two-level t", n) for n in (2, 3, 5, 8, 20)] == [False, True, True, True, True]
    assert [supported("sign-flip test", n) for n in (2, 3, 5, 8)] == [False, False, False, True]
    assert [supported("TOST at .025", n) for n in (2, 3, 5, 8, 20)] == [True] * 5
    assert not supported("TOST", 5)
    assert not any(supported("query bootstrap (clustered)", n) for n in (2, 3, 5, 8, 20))


def test_an_unknown_method_is_refused() -> None:
    for function in (supported, coverage):
        with pytest.raises(InputError, match="t over seeds"):
            function("t over seed", 5)


def test_the_tables_of_the_documentation_are_the_shipped_ones() -> None:
    text = (Path(__file__).parent.parent / "docs" / "statistics.md").read_text()
    table = read_coverage()
    for method, target in METHODS.items():
        [line] = [line for line in text.splitlines() if line.startswith(f"| {method} | {target} |")]
        for cell, n_seeds in zip(line.split("|")[3:-1], (2, 3, 5, 8, 20), strict=True):
            [rate] = re.findall(r"\d?\.\d{3}", cell)
            is_test = (table.loc[table["method"] == method, "kind"] == "test").all()
            assert float(rate) == pytest.approx(abs(is_test - coverage(method, n_seeds)), abs=5.1e-4)
            assert ("**" in cell) == supported(method, n_seeds)
