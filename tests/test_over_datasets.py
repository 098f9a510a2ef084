"""What holds over datasets: means, intervals and counts against plain loops, on invented values."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.comparisons import query_values
from analysis.contrasts import contrasts, over_datasets_of
from analysis.designed import beside_published
from analysis.export import frames
from analysis.over_datasets import over_datasets
from analysis.report import write_report
from analysis.results import compute
from analysis.seed_sheets import contrasts as sheets_of_arms
from analysis.study import Study, read_runs
from analysis.tables import Headline
from crossgap.metrics.intervals import Bootstrap
from tests.synthetic_study import SyntheticArm, SyntheticStudy, write_study

FEW = Bootstrap(resamples=50)
SIZES = {"small": 8, "middle": 20, "large": 60}
WHERES = [Headline("image", dataset, "test", "image-subgroup", "oti") for dataset in SIZES]
Model = tuple[str, int, str]  # arm, seed, dataset


def invented(models: list[Model]) -> pd.DataFrame:
    """Give native and inverted values of each model on each query of a dataset; two inversion seeds."""
    parts = []
    for arm, seed, dataset in models:
        generator = np.random.default_rng([seed, *arm.encode(), *dataset.encode()])
        n = SIZES[dataset]
        frame = pd.DataFrame({"query_id": [f"q{place}" for place in range(n)]})
        frame["query_class"] = [f"c{place % 4}" for place in range(n)]
        frame = frame.assign(arm=arm, seed=seed, dataset=dataset, split="test", task="image-subgroup")
        native = generator.random(n)
        for route, inversion_seed in (("native", None), ("oti", 0), ("oti", 1)):
            value = native + (0 if route == "native" else generator.normal(0.02, 0.1, n))
            parts.append(
                frame.assign(metric="mAP", route=route, inversion_seed=inversion_seed, value=value).astype(
                    {"inversion_seed": "Int64"}
                )
            )
    return pd.concat(parts, ignore_index=True)


def arms_over_datasets(queries: pd.DataFrame, wheres: list[Headline], baseline: str | None) -> pd.DataFrame:
    """Give the contrasts that are means over datasets."""
    by_query = query_values(queries, wheres)
    keys = ["quantity", "dataset", "split", "task", "unit", "arm", "seed"]
    by_model = by_query.groupby(keys, sort=False)["value"].mean().reset_index()
    return over_datasets_of(contrasts(by_model, by_query, wheres, baseline, bootstrap=FEW))


def mean_of(queries: pd.DataFrame, route: str, model: Model) -> float:
    arm, seed, dataset = model
    here = queries[(queries["arm"] == arm) & (queries["seed"] == seed) & (queries["dataset"] == dataset)]
    return float(here.loc[here["route"] == route, "value"].mean())


def every(*arms: str, seeds: tuple[int, ...] = (0, 1, 2)) -> list[Model]:
    return [(arm, seed, dataset) for arm in arms for seed in seeds for dataset in SIZES]


def test_arms_minus_the_baseline_are_means_over_datasets_of_paired_differences() -> None:
    queries = invented(every("baseline", "term", "other"))
    table = arms_over_datasets(queries, WHERES, "baseline")
    assert list(zip(table["quantity"], table["arm"], strict=True)) == [
        ("native", "term"), ("native", "other"), ("gain", "term"), ("gain", "other"),
    ]  # fmt: skip
    for row in table.to_dict("records"):
        cells = np.array(
            [
                [
                    _value(queries, row["quantity"], (row["arm"], seed, dataset))
                    - _value(queries, row["quantity"], ("baseline", seed, dataset))
                    for dataset in SIZES
                ]
                for seed in (0, 1, 2)
            ]
        )
        by_seed = cells.mean(axis=1)
        assert row["estimate"] == pytest.approx(cells.mean())
        low, high = stats.t.interval(0.95, 2, loc=by_seed.mean(), scale=stats.sem(by_seed))
        assert (row["seeds_low"], row["seeds_high"]) == pytest.approx((low, high))
        assert (row["p"] < 0.05) == (row["both_low"] > 0 or row["both_high"] < 0)  # one decision
        assert row["wins"] == (cells.mean(axis=0) > 0).sum()
        assert row["wins"] + row["ties"] + row["losses"] == row["n_datasets"] == 3
        assert (row["n_seeds"], row["n_left_out"]) == (3, 0)
        assert row["queries_low"] < row["estimate"] < row["queries_high"]
        assert row["both_low"] < row["estimate"] < row["both_high"]
    np.testing.assert_allclose(table["q"], stats.false_discovery_control(table["p"]))


def _value(queries: pd.DataFrame, quantity: str, model: Model) -> float:
    native = mean_of(queries, "native", model)
    return native if quantity == "native" else mean_of(queries, "oti", model) - native


def test_only_a_complete_crossing_of_shared_cells_counts() -> None:
    lacking = [("baseline", 2, "large"), ("term", 0, "middle"), ("term", 3, "small")]
    models = [model for model in every("baseline", "term", seeds=(0, 1, 2, 3)) if model not in lacking]
    queries = invented(models)
    table = arms_over_datasets(queries, WHERES, "baseline").set_index("quantity")
    # shared: seed 0 small, large; 1 all; 2 small, middle; 3 middle, large. Two seeds share two datasets.
    row = table.loc["native"]
    assert (row["n_datasets"], row["n_seeds"]) == (2, 2)
    assert row["n_left_out"] == 10 - 4
    kept = [(seed, dataset) for seed in (1, 2) for dataset in ("small", "middle")]
    expected = [
        mean_of(queries, "native", ("term", *cell)) - mean_of(queries, "native", ("baseline", *cell))
        for cell in kept
    ]
    assert row["estimate"] == pytest.approx(np.mean(expected))


def test_nothing_is_said_without_a_baseline_or_a_second_dataset() -> None:
    queries = invented(every("baseline", "term"))
    assert arms_over_datasets(queries, WHERES, None).empty
    assert arms_over_datasets(queries, WHERES, "absent").empty
    assert arms_over_datasets(queries, WHERES[:1], "baseline").empty
    apart = invented([("baseline", 0, "small"), ("baseline", 0, "middle"), ("term", 0, "small")])
    assert arms_over_datasets(apart, WHERES[:2], "baseline").empty


def test_routes_count_with_a_complete_crossing_too() -> None:
    lacking = [("term", 0, "middle"), ("term", 1, "middle"), ("term", 2, "large")]
    queries = invented([model for model in every("term") if model not in lacking])
    row = over_datasets(queries, WHERES, bootstrap=FEW).iloc[0]
    kept = [("term", seed, dataset) for seed in (0, 1) for dataset in ("small", "large")]
    gains = [mean_of(queries, "oti", model) - mean_of(queries, "native", model) for model in kept]
    assert row["native"] == pytest.approx(np.mean([mean_of(queries, "native", model) for model in kept]))
    assert row["value"] == pytest.approx(np.mean(gains))
    assert (row["n_datasets"], row["n_seeds"], row["n_left_out"]) == (2, 2, 2)


@pytest.fixture(scope="module")
def two_datasets(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Give a study of which one arm's second seed was not measured on the second dataset."""
    arms = (
        SyntheticArm(name="baseline", label="Plain", loss=0.1),
        SyntheticArm(name="narrow", label="Narrow", gap=0.2, native=0.3, loss=0.1),
    )
    plan = SyntheticStudy(arms=arms, pictures=False, steps=(25,), num_tokens=(1,))
    study = read_runs([write_study(tmp_path_factory.mktemp("two") / "study", plan)])
    for name in ("rows", "per_query"):
        frame = getattr(study, name)
        other = frame[(frame["arm"] == "baseline") | (frame["seed"] == 0)].assign(dataset="photos")
        other["value"] = other["value"].where(other["metric"] != "mAP", other["value"] + 0.2)
        study = replace(study, **{name: pd.concat([frame, other], ignore_index=True)})
    return study


def test_the_report_shows_and_exports_arms_over_datasets(two_datasets: Study, tmp_path: Path) -> None:
    results = compute(two_datasets, FEW)
    tables = [table for table in sheets_of_arms(two_datasets, results) if "over 2 datasets" in table.title]
    assert [table.title for table in tables] == [
        f"{what}s, mean over 2 datasets)"
        for what in ("native (image", "inversion gain (image", "native (text", "inversion gain (text")
    ]
    for table in tables:
        (row,) = table.rows
        cells = dict(zip(table.columns, (cell.text for cell in row), strict=True))
        assert cells["arm"] == "Narrow"
        assert (cells["datasets"], cells["seeds"], cells["cells left out"]) == ("2", "1", "1")
        assert cells["t interval over seeds"] == "–"
    assert len(over_datasets_of(frames(two_datasets, results)["contrasts"])) == 4
    write_report(two_datasets, tmp_path, ("html", "parquet"), FEW)
    assert "mean over 2 datasets" in (tmp_path / "report.html").read_text()
    assert len(over_datasets_of(pd.read_parquet(tmp_path / "tables" / "contrasts.parquet"))) == 4


def test_published_averages_stand_beside_means_over_datasets_of_means_over_seeds(two_datasets: Study) -> None:
    results = compute(two_datasets, FEW)
    wheres = [within.where for within in results.within]
    table = beside_published(results.values, wheres)
    row = table[(table["arm"] == "narrow") & table["what"].str.startswith("image")].iloc[0]
    native = results.values[(results.values["quantity"] == "native") & (results.values["arm"] == "narrow")]
    native = native[native["task"] == "image-subgroup"].set_index(["dataset", "seed"])["value"]
    expected = ((native["emoji", 0] + native["emoji", 1]) / 2 + native["photos", 0]) / 2
    assert row["native"] == pytest.approx(100 * expected)
