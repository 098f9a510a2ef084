"""What routes add to native features, over queries, seeds and both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.evidence import gather
from analysis.export import frames
from analysis.over_native import over_native
from analysis.results import compute
from analysis.seed_sheets import over_native as shown
from analysis.stats.seeds import t_interval
from analysis.study import read_runs
from analysis.tables import Headline
from crossgap.metrics.intervals import Bootstrap
from tests.synthetic_study import SyntheticStudy, write_study

FEW = Bootstrap(resamples=200)
WHERE = Headline("image", "d", "test", "image-class", "oti")
CHANGES = {"oti": (0.01, 0.03, 0.05), "centred": (0.0, 0.0, 0.0)}  # by seed


def queries(seeds: int = 3) -> pd.DataFrame:
    rows = []
    for seed in range(seeds):
        for number in range(12):
            about = {
                "dataset": "d", "split": "test", "task": "image-class", "arm": "a", "seed": seed,
                "inversion_seed": 0, "query_id": f"q{number}", "query_class": f"c{number % 6}",
                "metric": "mAP", "num_tokens": 1, "steps": 5, "setting": "", "selection": "val",
            }  # fmt: skip
            native = 0.1 + number / 100
            rows.append({**about, "route": "native", "value": native})
            for route, changes in CHANGES.items():
                spread = (number % 6 - 2.5) / 1000  # sums to 0 over the queries
                rows.append({**about, "route": route, "value": native + changes[seed] + spread})
    return pd.DataFrame(rows)


def test_differences_are_means_with_the_intervals_of_each_side() -> None:
    table = over_native(queries(), [WHERE], bootstrap=FEW).set_index("route")
    assert set(table.index) == set(CHANGES)
    row = table.loc["oti"]
    assert row["estimate"] == pytest.approx(0.03)
    assert row["native"] == pytest.approx(0.155)
    assert (row["seeds_low"], row["seeds_high"]) == pytest.approx(t_interval(np.array(CHANGES["oti"])))
    assert row["queries_low"] < row["estimate"] < row["queries_high"]
    assert row["both_low"] <= row["seeds_low"] + 1e-3
    assert tuple(row[["n_seeds", "n_queries", "n_classes"]]) == (3, 12, 6)


def test_the_interval_over_both_is_that_of_claims() -> None:
    table = over_native(queries(), [WHERE], bootstrap=FEW).set_index("route")
    values = queries()
    wide = values.pivot(index=["dataset", "seed", "query_id", "query_class"], columns="route", values="value")
    changes = (wide["oti"] - wide["native"]).rename("value").reset_index()
    evidence = gather(changes, bootstrap=FEW)
    assert evidence is not None
    assert tuple(table.loc["oti", ["both_low", "both_high"]]) == (evidence.both_low, evidence.both_high)


def test_one_seed_has_no_row() -> None:
    assert over_native(queries(1), [WHERE], bootstrap=FEW).empty


def test_the_report_shows_and_exports_them(tmp_path: Path) -> None:
    study = read_runs([write_study(tmp_path, SyntheticStudy(seeds=(0, 1, 2), pictures=False))])
    results = compute(study, FEW)
    exported = frames(study, results)["over_native"]
    assert {"baseline", "narrow"} == set(exported["arm"])
    tables = shown(study, results)
    assert {table.title.split(": ")[1].split(" (")[0] for table in tables} == set(exported["task"])
    oti = exported[(exported["arm"] == "baseline") & (exported["route"] == "oti")].iloc[0]
    (row,) = (row for row in tables[0].rows if row[0].text == "Baseline" and row[1].text == "oti")
    assert row[3].text.replace("−", "-") == f"{100 * oti['estimate']:+.2f}"
