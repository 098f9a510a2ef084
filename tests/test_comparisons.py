"""Arms against the baseline over paired seeds, checked against plain arithmetic and scipy."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest
from scipy import stats

from analysis.comparisons import against_baseline, model_values, over_seeds
from analysis.study import Study, read_runs
from crossgap.quoting import quoted
from tests.synthetic_study import SyntheticStudy, write_study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    plan = SyntheticStudy(seeds=(0, 1, 2), pictures=False)
    return read_runs([write_study(tmp_path_factory.mktemp("comparisons") / "study", plan)])


@pytest.fixture(scope="module")
def values(study: Study) -> pd.DataFrame:
    return model_values(quoted(study.rows))


def one(study: Study, arm: str, seed: int, task: str, route: str, metric: str) -> float:
    rows = study.rows
    here = (rows["arm"] == arm) & (rows["seed"] == seed) & (rows["task"] == task) & (rows["route"] == route)
    here &= (rows["metric"] == metric) & (rows["split"] == "test") & (rows["selection"] != "curve")
    return float(rows.loc[here, "value"].iloc[0])


def test_quantities_are_differences_of_rows(study: Study, values: pd.DataFrame) -> None:
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
    table = over_seeds(values, level=0.9).set_index(["quantity", "task", "arm"])
    row = table.loc[("gain", "image-subgroup", "baseline")]
    mine = values[
        (values.quantity == "gain") & (values.task == "image-subgroup") & (values.arm == "baseline")
    ]
    low, high = stats.t.interval(0.9, 2, loc=mine.value.mean(), scale=mine.value.sem())
    assert (row["value"], row["low"], row["high"]) == pytest.approx((mine.value.mean(), low, high))
    assert row["n_seeds"] == 3


def test_differences_are_paired_by_seed(values: pd.DataFrame) -> None:
    table = against_baseline(values, "baseline", level=0.95)
    assert set(table["arm"]) == {"narrow"}
    row = table.set_index(["quantity", "task"]).loc[("gain", "image-subgroup")]
    wide = values[(values.quantity == "gain") & (values.task == "image-subgroup")]
    wide = wide.pivot(index="seed", columns="arm", values="value")
    differences = wide["narrow"] - wide["baseline"]
    assert row["per_seed"] == tuple(differences.items())
    assert row["p_t"] == pytest.approx(stats.ttest_rel(wide["narrow"], wide["baseline"]).pvalue)
    assert row["effect_size"] == pytest.approx(differences.mean() / differences.std())
    assert (row["wins"] + row["ties"] + row["losses"], row["p_flip_least"]) == (3, 0.25)
    assert row["q"] >= row["p_t"]
    known = table[table["p_t"].notna()]  # some differences are equal in all seeds: no t test
    assert known["q"].tolist() == pytest.approx(stats.false_discovery_control(known["p_t"]).tolist())
    assert table.loc[table["p_t"].isna(), "q"].isna().all()


def test_equivalence_is_the_interval_within_the_margin(values: pd.DataFrame) -> None:
    table = against_baseline(values, "baseline", level=0.95, margin=0.02)
    of_fractions = table[table["unit"] == "fraction"]
    inside = (of_fractions["low"] > -0.02) & (of_fractions["high"] < 0.02)
    assert of_fractions["equivalent"].astype(bool).tolist() == inside.tolist()
    assert inside.any()
    assert not inside.all()
    gaps = table[table["quantity"] == "centroid_distance"]
    assert gaps["equivalent"].isna().all()  # a margin in points says nothing of a distance
    assert gaps["seeds_needed"].isna().all()


def test_seeds_that_one_side_lacks_are_left_out(values: pd.DataFrame) -> None:
    torn = values[(values["arm"] != "narrow") | (values["seed"] != 1)]
    table = against_baseline(torn, "baseline", level=0.95)
    assert set(table["n_seeds"]) == {2}
    alone = against_baseline(
        values[(values["arm"] != "narrow") | (values["seed"] == 2)], "baseline", level=0.95
    )
    assert alone["low"].isna().all()
    assert alone["p_t"].isna().all()
    strangers = values[(values["arm"] != "baseline") | (values["seed"] == 9)]
    assert against_baseline(strangers, "baseline", level=0.95).empty


def test_a_study_of_one_arm_has_values_and_no_comparison(tmp_path: Path) -> None:
    plan = SyntheticStudy(arms=SyntheticStudy().arms[:1], pictures=False)
    values = model_values(quoted(read_runs([write_study(tmp_path, plan)]).rows))
    assert set(values["arm"]) == {"baseline"}
    table = against_baseline(values, "baseline", level=0.95)
    assert table.empty
    assert "per_seed" in table
    assert not math.isnan(over_seeds(values, level=0.95)["value"].sum())
