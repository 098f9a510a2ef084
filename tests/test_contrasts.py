"""Each arm minus the baseline, checked against plain arithmetic and scipy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.comparisons import model_values, query_values
from analysis.contrasts import (
    COLUMNS,
    between,
    contrasts,
    evidence_of,
    minus_baseline,
    of_one_dataset,
    over_seeds_of,
)
from analysis.evidence import gather
from analysis.results import compute
from analysis.seed_sheets import contrasts as sheets
from analysis.study import Study, read_runs
from analysis.tables import headlines
from analysis.typeset import ABSENT
from crossgap.errors import InputError
from crossgap.metrics.intervals import Bootstrap, mean_interval
from crossgap.reading.quoting import quoted, quoted_queries
from tests.synthetic_study import SyntheticStudy, write_study

FEW = Bootstrap(resamples=200)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    plan = SyntheticStudy(seeds=(0, 1, 2), pictures=False)
    return read_runs([write_study(tmp_path_factory.mktemp("contrasts") / "study", plan)])


@pytest.fixture(scope="module")
def values(study: Study) -> pd.DataFrame:
    return model_values(quoted(study.rows))


@pytest.fixture(scope="module")
def queries(study: Study) -> pd.DataFrame:
    rows = quoted(study.rows)
    return query_values(quoted_queries(study.per_query, rows), headlines(rows))


def table_of(
    values: pd.DataFrame, queries: pd.DataFrame, study: Study, *, margin: float = 0.005
) -> pd.DataFrame:
    wheres = headlines(quoted(study.rows))
    return contrasts(values, queries, wheres, "baseline", bootstrap=FEW, margin=margin)


def gain_of(frame: pd.DataFrame) -> pd.Series:
    return frame.set_index(["quantity", "task"]).loc[("gain", "image-subgroup")]


def test_differences_are_paired_by_seed_and_query(
    values: pd.DataFrame, queries: pd.DataFrame, study: Study
) -> None:
    table = table_of(values, queries, study)
    assert list(table.columns) == COLUMNS
    assert set(table["arm"]) == {"narrow"}
    row = gain_of(table)
    here = queries[(queries["quantity"] == "gain") & (queries["task"] == "image-subgroup")]
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
    values: pd.DataFrame, queries: pd.DataFrame, study: Study
) -> None:
    table = table_of(values, queries, study)
    by_query = table["n_queries"] > 0
    decided = (table["both_low"] > 0) | (table["both_high"] < 0)
    assert ((table["p"] < 0.05) == decided)[by_query].all()
    gaps = table[~by_query]
    assert len(gaps)
    pd.testing.assert_series_equal(gaps["p"], gaps["p_t"], check_names=False)
    known = table[table["p"].notna()]  # some differences are equal in all seeds: no t test
    assert known["q"].tolist() == pytest.approx(stats.false_discovery_control(known["p"]).tolist())
    assert table.loc[table["p"].isna(), "q"].isna().all()


def test_a_gap_has_no_queries(values: pd.DataFrame, queries: pd.DataFrame, study: Study) -> None:
    row = table_of(values, queries, study).set_index("quantity").loc["centroid_distance"]
    assert row["estimate"] == pytest.approx(-0.6)
    assert np.isnan(row["queries_low"])
    assert (row["n_queries"], row["n_classes"], row["modality"]) == (0, 0, "")


def test_equivalence_is_the_interval_within_the_margin(
    values: pd.DataFrame, queries: pd.DataFrame, study: Study
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
    values: pd.DataFrame, queries: pd.DataFrame, study: Study
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
    values: pd.DataFrame, queries: pd.DataFrame, study: Study
) -> None:
    here = queries[(queries["quantity"] == "gain") & (queries["task"] == "image-subgroup")]
    expected = gather(between(here, ["narrow"], ["baseline"]), bootstrap=FEW)
    assert expected is not None
    found = evidence_of(gain_of(table_of(values, queries, study)))
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
    changed = over_seeds_of(minus_baseline(means, "b", ["seed"]), ["arm"], level=0.95).iloc[0]
    assert (changed["value"], changed["n_seeds"]) == (4.25, 1)
    with pytest.raises(InputError, match="the same queries on both sides"):
        minus_baseline(frame.drop(index=2), "b", ["seed", "dataset"])


def test_one_table_a_quantity_shows_the_differences(study: Study) -> None:
    results = compute(study, FEW)
    tables = sheets(study, results)
    table = of_one_dataset(results.contrasts)
    assert len(tables) == len(table.groupby(["quantity", "dataset", "split", "task", "unit"]))
    shown = next(one for one in tables if one.title == "inversion gain (image-subgroup, emoji, test)")
    (row,) = shown.rows
    cells = dict(zip(shown.columns, row, strict=True))
    gain = gain_of(table)
    assert cells["difference (points)"].text == f"{100 * gain['estimate']:+.2f}".replace("-", "−")
    assert cells["difference (points)"].detail.startswith("[")
    assert cells["by seed"].text.count(",") == 2


def test_of_one_seed_nothing_over_seeds_is_said(tmp_path: Path) -> None:
    plan = SyntheticStudy(seeds=(0,), n_queries=200, n_classes=40, pictures=False)
    study = read_runs([write_study(tmp_path / "study", plan)])
    results = compute(study, FEW)
    assert results.contrasts[["p", "q", "p_t", "seeds_low", "seeds_high", "effect_size"]].isna().all().all()
    assert results.contrasts["queries_low"].notna().any()
    tables = sheets(study, results)
    assert tables
    for table in tables:
        place = {column: number for number, column in enumerate(table.columns)}
        for row in table.rows:
            assert row[place["t interval over seeds"]].text == "one seed cannot tell"
            for column in ("p (t)", "p (sign flips)", "p", "q", "effect size d_z", "seeds up / same / down"):
                assert (row[place[column]].text, row[place[column]].detail) == (ABSENT, "")
