"""The frame of effects, checked against plain arithmetic, loops and scipy: values, routes and arms."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.effects import (
    COLUMNS,
    FURTHER,
    MINUS_BASELINE,
    MINUS_NATIVE,
    OWN,
    AskedContrast,
    answer_to,
    between,
    effects,
    evidence_of,
    minus_baseline,
    of,
    of_one_dataset,
    over_datasets_of,
    over_seeds,
)
from analysis.export import frames
from analysis.leading import Headline, headlines
from analysis.quantities import model_values, query_values
from analysis.report import write_report
from analysis.responses import beside_published
from analysis.results import compute
from analysis.sheets.inferred import contrasts as sheets_of_arms
from analysis.sheets.inferred import over_native as sheets_of_routes
from analysis.stats.evidence import gather
from analysis.stats.seeds import t_interval
from analysis.study import RecordedStudy, read_runs
from analysis.typeset import ABSENT
from crossgap.errors import InputError
from crossgap.metrics.intervals import Bootstrap, mean_interval
from crossgap.reading.quoting import quoted, quoted_queries
from tests.synthetic_study import SyntheticArm, SyntheticStudy, write_study

FEW = Bootstrap(resamples=200)
WHERE = Headline("image", "d", "test", "image-class", "oti")
CHANGES = {"oti": (0.01, 0.03, 0.05), "centred": (0.0, 0.0, 0.0)}  # by seed
SIZES = {"small": 8, "middle": 20, "large": 60}
NO_QUERIES = pd.DataFrame(
    columns=["metric", "dataset", "split", "task", "route", "arm", "seed", "inversion_seed", "query_id",
             "query_class", "value"]
)  # fmt: skip
WHERES = [Headline("image", dataset, "test", "image-subgroup", "oti") for dataset in SIZES]
Model = tuple[str, int, str]  # arm, seed, dataset


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> RecordedStudy:
    plan = SyntheticStudy(seeds=(0, 1, 2), pictures=False)
    return read_runs([write_study(tmp_path_factory.mktemp("contrasts") / "study", plan)])


@pytest.fixture(scope="module")
def values(study: RecordedStudy) -> pd.DataFrame:
    return model_values(quoted(study.rows))


@pytest.fixture(scope="module")
def queries(study: RecordedStudy) -> pd.DataFrame:
    rows = quoted(study.rows)
    return quoted_queries(study.per_query, rows)


def by_query(queries: pd.DataFrame, study: RecordedStudy) -> pd.DataFrame:
    return query_values(queries, headlines(quoted(study.rows)))


def table_of(
    values: pd.DataFrame, queries: pd.DataFrame, study: RecordedStudy, *, margin: float = 0.005
) -> pd.DataFrame:
    wheres = headlines(quoted(study.rows))
    table = effects(values, queries, wheres, "baseline", bootstrap=FEW, margin=margin)
    return of(table, MINUS_BASELINE)


def gain_of(frame: pd.DataFrame) -> pd.Series:
    return frame.set_index(["quantity", "task"]).loc[("gain", "image-subgroup")]


def test_differences_are_paired_by_seed_and_query(
    values: pd.DataFrame, queries: pd.DataFrame, study: RecordedStudy
) -> None:
    table = table_of(values, queries, study)
    assert list(table.columns) == [*COLUMNS, *FURTHER]
    assert set(table["arm"]) == {"narrow"}
    row = gain_of(table)
    here = by_query(queries, study)
    here = here[(here["quantity"] == "gain") & (here["task"] == "image-subgroup")]
    wide = here.pivot(index=["query_id", "query_class"], columns=["arm", "seed"], values="value")
    change = wide["narrow"] - wide["baseline"]
    by_seed = change.mean()
    assert row["estimate"] == pytest.approx(by_seed.mean())
    assert row["per_seed"] == tuple((seed, pytest.approx(value)) for seed, value in by_seed.items())
    assert row["p_t"] == pytest.approx(stats.ttest_1samp(by_seed, 0).pvalue)
    low, high = stats.t.interval(0.95, 2, loc=by_seed.mean(), scale=stats.sem(by_seed))
    assert (row["seeds_low"], row["seeds_high"]) == pytest.approx((low, high))
    assert row["effect_size"] == pytest.approx(by_seed.mean() / by_seed.std())
    assert (row["wins"] + row["ties"] + row["losses"], row["p_flip_least"]) == (3, 0.25)
    expected = mean_interval(change.mean(axis=1).rename("value").reset_index(), [], bootstrap=FEW).iloc[0]
    assert (row["queries_low"], row["queries_high"]) == pytest.approx(tuple(expected[["low", "high"]]))
    assert row["both_low"] < row["estimate"] < row["both_high"]
    assert (row["n_seeds"], row["n_queries"], row["n_classes"], row["modality"]) == (3, 39, 8, "image")


def test_p_is_that_of_what_decides_and_q_one_family(
    values: pd.DataFrame, queries: pd.DataFrame, study: RecordedStudy
) -> None:
    table = table_of(values, queries, study)
    of_queries = table["n_queries"] > 0
    decided = (table["both_low"] > 0) | (table["both_high"] < 0)
    assert ((table["p"] < 0.05) == decided)[of_queries].all()
    gaps = table[~of_queries]
    assert len(gaps)
    pd.testing.assert_series_equal(gaps["p"], gaps["p_t"], check_names=False)
    known = table[table["p"].notna()]  # some differences are equal in all seeds: no t test
    assert known["q"].tolist() == pytest.approx(stats.false_discovery_control(known["p"]).tolist())
    assert table.loc[table["p"].isna(), "q"].isna().all()


def test_a_gap_has_no_queries(values: pd.DataFrame, queries: pd.DataFrame, study: RecordedStudy) -> None:
    row = table_of(values, queries, study).set_index("quantity").loc["centroid_distance"]
    assert row["estimate"] == pytest.approx(-0.6)
    assert np.isnan(row["queries_low"])
    assert (row["n_queries"], row["n_classes"], row["modality"]) == (0, 0, "")


def test_equivalence_is_the_interval_within_the_margin(
    values: pd.DataFrame, queries: pd.DataFrame, study: RecordedStudy
) -> None:
    table = table_of(values, queries, study, margin=0.02)
    of_fractions = table[table["unit"] == "fraction"]
    inside = (of_fractions["seeds_low"] > -0.02) & (of_fractions["seeds_high"] < 0.02)
    assert of_fractions["equivalent"].astype(bool).tolist() == inside.tolist()
    assert inside.any()
    assert not inside.all()
    gaps = table[table["quantity"] == "centroid_distance"]
    assert gaps["equivalent"].isna().all()  # a margin in points says nothing of a distance
    assert gaps["seeds_needed"].isna().all()


def test_seeds_that_one_side_lacks_are_left_out(
    values: pd.DataFrame, queries: pd.DataFrame, study: RecordedStudy
) -> None:
    def without(seeds: set[int], arm: str = "narrow") -> pd.DataFrame:
        kept = (frame[(frame["arm"] != arm) | ~frame["seed"].isin(seeds)] for frame in (values, queries))
        return table_of(*kept, study)

    assert set(without({1})["n_seeds"]) == {2}
    alone = without({0, 1})
    assert alone["seeds_low"].isna().all()
    assert alone["p_t"].isna().all()
    assert all([seed for seed, _ in pairs] == [2] for pairs in alone["per_seed"])
    assert without({0, 1, 2}, "baseline").empty
    # an interval over queries of other seeds than the estimate's is none of the estimate
    some = table_of(values, queries[(queries["arm"] != "narrow") | (queries["seed"] != 1)], study)
    assert some["queries_low"].isna().all()
    assert set(some["n_seeds"]) == {3}


def test_a_row_gives_the_evidence_that_it_was_made_of(
    values: pd.DataFrame, queries: pd.DataFrame, study: RecordedStudy
) -> None:
    here = by_query(queries, study)
    here = here[(here["quantity"] == "gain") & (here["task"] == "image-subgroup")]
    expected = gather(between(here, ["narrow"], ["baseline"]), bootstrap=FEW)
    assert expected is not None
    found = evidence_of(gain_of(table_of(values, queries, study)))
    assert found is not None
    plain = (expected._replace(models=None)._asdict(), found._replace(models=None)._asdict())  # type: ignore[arg-type]
    assert plain[1] == pytest.approx(plain[0])
    assert found.models == pytest.approx(expected.models)


def test_values_join_by_model_and_query() -> None:
    frame = pd.DataFrame(
        [("a", 0, "q0", 1.0), ("a", 0, "q1", 2.0), ("a", 1, "q1", 6.0), ("a", 1, "q0", 5.0),
         ("b", 2, "q0", 0.0), ("b", 2, "q1", 0.0), ("b", 1, "q0", 1.0), ("b", 1, "q1", 1.5)],
        columns=["arm", "seed", "query_id", "value"],
    ).assign(dataset="d", query_class="c")  # fmt: skip
    found = between(frame, ["a"], ["b"]).set_index("query_id")["value"]
    assert found.to_dict() == {"q0": 4.0, "q1": 4.5}
    assert (
        minus_baseline(frame, "b", ["seed", "dataset"])
        .set_index("query_id")["value"]
        .equals(found.loc[["q1", "q0"]])
    )
    means = frame.groupby(["arm", "seed"])["value"].mean().reset_index()
    changed = over_seeds(minus_baseline(means, "b", ["seed"]), ["arm"], level=0.95).iloc[0]
    assert (changed["value"], changed["n_seeds"]) == (4.25, 1)
    with pytest.raises(InputError, match="the same queries on both sides"):
        minus_baseline(frame.drop(index=2), "b", ["seed", "dataset"])


def test_one_table_a_quantity_shows_the_differences(study: RecordedStudy) -> None:
    results = compute(study, FEW)
    tables = sheets_of_arms(study, results)
    table = of_one_dataset(results.contrasts)
    assert len(tables) == len(table.groupby(["quantity", "dataset", "split", "task", "unit"]))
    shown = next(one for one in tables if one.title == "inversion gain (image-subgroup, emoji, test)")
    (row,) = shown.rows
    cells = dict(zip(shown.columns, row, strict=True))
    gain = gain_of(table)
    assert cells["difference (points)"].text == f"{100 * gain['estimate']:+.2f}".replace("-", "−")
    assert cells["difference (points)"].detail.startswith("[")
    assert cells["by seed"].text.count(",") == 2


def one(study: RecordedStudy, arm: str, seed: int, task: str, route: str, metric: str) -> float:
    rows = study.rows
    here = (rows["arm"] == arm) & (rows["seed"] == seed) & (rows["task"] == task) & (rows["route"] == route)
    here &= (rows["metric"] == metric) & (rows["split"] == "test") & (rows["selection"] != "curve")
    return float(rows.loc[here, "value"].iloc[0])


def test_quantities_are_differences_of_rows(study: RecordedStudy, values: pd.DataFrame) -> None:
    found = values.set_index(["quantity", "task", "arm", "seed"])["value"]
    native = one(study, "narrow", 1, "image-subgroup", "native", "mAP")
    inverted = one(study, "narrow", 1, "image-subgroup", "oti", "mAP")
    pca = one(study, "narrow", 1, "image-subgroup", "class_pca", "mAP")
    assert found["native", "image-subgroup", "narrow", 1] == native
    assert found["gain", "image-subgroup", "narrow", 1] == pytest.approx(inverted - native)
    assert found["gain over class_pca", "image-subgroup", "narrow", 1] == pytest.approx(inverted - pca)
    hit = one(study, "baseline", 0, "zero-shot-subgroup", "native", "hit@1")
    changed = one(study, "baseline", 0, "zero-shot-subgroup", "ovi", "hit@1")
    assert found["ovi change", "zero-shot-subgroup", "baseline", 0] == pytest.approx(changed - hit)
    assert found["centroid_distance", "gap", "narrow", 2] == pytest.approx(0.22)


def test_means_over_seeds_have_a_t_interval(values: pd.DataFrame) -> None:
    keys = ["quantity", "task", "arm"]
    row = over_seeds(values, keys, level=0.9).set_index(keys).loc[("gain", "image-subgroup", "baseline")]
    mine = values[
        (values.quantity == "gain") & (values.task == "image-subgroup") & (values.arm == "baseline")
    ]
    low, high = stats.t.interval(0.9, 2, loc=mine.value.mean(), scale=mine.value.sem())
    assert (row["value"], row["low"], row["high"]) == pytest.approx((mine.value.mean(), low, high))
    assert row["n_seeds"] == 3
    table = of(effects(values, NO_QUERIES, [], "baseline", bootstrap=Bootstrap(level=0.9)), OWN)
    own = table.set_index(keys).loc[("gain", "image-subgroup", "baseline")]
    names = ["estimate", "seeds_low", "seeds_high", "sd", "n_seeds"]
    assert own[names].tolist() == row[["value", "low", "high", "sd", "n_seeds"]].tolist()


def test_values_of_queries_average_to_those_of_models(
    study: RecordedStudy, values: pd.DataFrame, queries: pd.DataFrame
) -> None:
    keys = ["quantity", "task", "unit", "arm", "seed"]
    means = by_query(queries, study).groupby(keys, observed=True)["value"].mean()
    of_models = values[values["task"] != "gap"].set_index(keys)["value"]
    assert set(means.index) == set(of_models.index)
    assert means.to_dict() == pytest.approx(of_models.to_dict())


def test_a_study_of_one_arm_has_values_and_no_comparison(tmp_path: Path) -> None:
    plan = SyntheticStudy(arms=SyntheticStudy().arms[:1], pictures=False)
    values = model_values(quoted(read_runs([write_study(tmp_path, plan)]).rows))
    assert set(values["arm"]) == {"baseline"}
    assert minus_baseline(values, "baseline", ["quantity", "dataset", "task", "seed"]).empty
    assert not math.isnan(over_seeds(values, ["quantity", "task"], level=0.95)["value"].sum())


def routes(seeds: int = 3) -> pd.DataFrame:
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


def of_routes(queries: pd.DataFrame, wheres: list[Headline]) -> pd.DataFrame:
    """Give what routes add to native, with no arm to compare."""
    values = query_values(queries, wheres).drop(columns=["query_id", "query_class"])
    return of(effects(values.iloc[:0], queries, wheres, None, bootstrap=FEW), MINUS_NATIVE)


def test_differences_are_means_with_the_intervals_of_each_side() -> None:
    table = of_routes(routes(), [WHERE]).set_index("route")
    assert set(table.index) == set(CHANGES)
    row = table.loc["oti"]
    assert row["estimate"] == pytest.approx(0.03)
    assert row["reference"] == pytest.approx(0.155)
    assert (row["seeds_low"], row["seeds_high"]) == pytest.approx(t_interval(np.array(CHANGES["oti"])))
    assert row["queries_low"] < row["estimate"] < row["queries_high"]
    assert row["both_low"] <= row["seeds_low"] + 1e-3
    assert tuple(row[["n_seeds", "n_queries", "n_classes"]]) == (3, 12, 6)


def test_the_interval_over_both_is_that_of_claims() -> None:
    table = of_routes(routes(), [WHERE]).set_index("route")
    values = routes()
    wide = values.pivot(index=["dataset", "seed", "query_id", "query_class"], columns="route", values="value")
    changes = (wide["oti"] - wide["native"]).rename("value").reset_index()
    evidence = gather(changes, bootstrap=FEW)
    assert evidence is not None
    assert tuple(table.loc["oti", ["both_low", "both_high"]]) == (evidence.both_low, evidence.both_high)


def test_one_seed_has_an_interval_over_queries_alone() -> None:
    row = of_routes(routes(1), [WHERE]).set_index("route").loc["oti"]
    assert row["queries_low"] < row["estimate"] < row["queries_high"]
    assert row[["seeds_low", "both_low"]].isna().all()


def test_the_report_shows_and_exports_routes(tmp_path: Path) -> None:
    study = read_runs([write_study(tmp_path, SyntheticStudy(seeds=(0, 1, 2), pictures=False))])
    results = compute(study, FEW)
    exported = frames(study, results)["over_native"]
    assert {"baseline", "narrow"} == set(exported["arm"])
    tables = sheets_of_routes(study, results)
    assert {table.title.split(": ")[1].split(" (")[0] for table in tables} == set(exported["task"])
    oti = exported[(exported["arm"] == "baseline") & (exported["route"] == "oti")].iloc[0]
    (row,) = (row for row in tables[0].rows if row[0].text == "Baseline" and row[1].text == "oti")
    assert row[3].text.replace("−", "-") == f"{100 * oti['estimate']:+.2f}"


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
    keys = ["quantity", "dataset", "split", "task", "unit", "arm", "seed"]
    by_model = query_values(queries, wheres).groupby(keys, sort=False)["value"].mean().reset_index()
    table = effects(by_model, queries, wheres, baseline, bootstrap=FEW)
    return over_datasets_of(of(table, MINUS_BASELINE))


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
    row = over_datasets_of(of_routes(queries, WHERES)).iloc[0]
    kept = [("term", seed, dataset) for seed in (0, 1) for dataset in ("small", "large")]
    gains = [mean_of(queries, "oti", model) - mean_of(queries, "native", model) for model in kept]
    assert row["reference"] == pytest.approx(np.mean([mean_of(queries, "native", model) for model in kept]))
    assert row["estimate"] == pytest.approx(np.mean(gains))
    assert (row["n_datasets"], row["n_seeds"], row["n_left_out"]) == (2, 2, 2)


@pytest.fixture(scope="module")
def two_datasets(tmp_path_factory: pytest.TempPathFactory) -> RecordedStudy:
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


@pytest.mark.slow
def test_the_report_shows_and_exports_arms_over_datasets(two_datasets: RecordedStudy, tmp_path: Path) -> None:
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
        assert cells["t interval over seeds"] == "one seed cannot tell"
    assert len(over_datasets_of(frames(two_datasets, results)["contrasts"])) == 4
    write_report(two_datasets, tmp_path, ("html", "parquet"), FEW)
    assert "mean over 2 datasets" in (tmp_path / "report.html").read_text()
    assert len(over_datasets_of(pd.read_parquet(tmp_path / "tables" / "contrasts.parquet"))) == 4


def test_published_averages_stand_beside_means_over_datasets_of_means_over_seeds(
    two_datasets: RecordedStudy,
) -> None:
    results = compute(two_datasets, FEW)
    wheres = [within.where for within in results.within]
    table = beside_published(results.values, wheres)
    row = table[(table["arm"] == "narrow") & table["what"].str.startswith("image")].iloc[0]
    native = results.values[(results.values["quantity"] == "native") & (results.values["arm"] == "narrow")]
    native = native[native["task"] == "image-subgroup"].set_index(["dataset", "seed"])["value"]
    expected = ((native["emoji", 0] + native["emoji", 1]) / 2 + native["photos", 0]) / 2
    assert row["native"] == pytest.approx(100 * expected)


def test_what_is_asked_is_the_difference_of_two_routes_over_arms(
    study: RecordedStudy, values: pd.DataFrame
) -> None:
    rows = quoted(study.rows)
    queries = quoted_queries(study.per_query, rows)
    alone = AskedContrast("mAP", "image", "oti", "class_pca", ("narrow",))
    changed = AskedContrast("mAP", "image", "oti", "native", ("narrow", "absent"), ("baseline",))
    nothing = AskedContrast("mAP", "image", "oti", "ridge", ("narrow",))
    asked = [alone, changed, nothing, AskedContrast("hit@1", "text", "ovi", "native", ("baseline",))]
    table = effects(values, queries, headlines(rows), "baseline", bootstrap=FEW, asked=asked)
    gain = values[(values["task"] == "image-subgroup")].set_index(["quantity", "arm"])["value"]
    expected = [gain["gain over class_pca", "narrow"].mean()]
    expected.append(gain["gain", "narrow"].mean() - gain["gain", "baseline"].mean())
    found = [answer_to(table, question) for question in (alone, changed)]
    assert [row["estimate"] for row in found] == pytest.approx(expected)
    assert (found[1]["arms"], found[1]["minus"]) == (("narrow",), ("baseline",))  # of the others nothing
    assert evidence_of(answer_to(table, nothing)) is None
    change = values[(values["quantity"] == "ovi change") & (values["arm"] == "baseline")]
    evidence = evidence_of(answer_to(table, asked[3]))
    assert evidence is not None
    first = change[change["task"] == change["task"].iloc[0]]
    assert evidence.value == pytest.approx(first["value"].mean())


def test_of_one_seed_nothing_over_seeds_is_said(tmp_path: Path) -> None:
    plan = SyntheticStudy(seeds=(0,), n_queries=200, n_classes=40, pictures=False)
    study = read_runs([write_study(tmp_path / "study", plan)])
    results = compute(study, Bootstrap(resamples=50))
    assert results.contrasts[["p", "q", "p_t", "seeds_low", "seeds_high", "effect_size"]].isna().all().all()
    assert results.contrasts["queries_low"].notna().any()
    tables = sheets_of_arms(study, results)
    assert tables
    for table in tables:
        place = {column: number for number, column in enumerate(table.columns)}
        for row in table.rows:
            assert row[place["t interval over seeds"]].text == "one seed cannot tell"
            for column in ("p (t)", "p (sign flips)", "p", "q", "effect size d_z", "seeds up / same / down"):
                assert (row[place[column]].text, row[place[column]].detail) == (ABSENT, "")
