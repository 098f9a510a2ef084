"""What was measured of each model and query, checked against plain arithmetic and scipy."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest
from scipy import stats

from analysis.comparisons import model_values, over_seeds, query_values
from analysis.contrasts import minus_baseline
from analysis.study import Study, read_runs
from analysis.tables import headlines
from crossgap.reading.quoting import quoted, quoted_queries
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


def test_values_of_queries_average_to_those_of_models(study: Study, values: pd.DataFrame) -> None:
    rows = quoted(study.rows)
    by_query = query_values(quoted_queries(study.per_query, rows), headlines(rows))
    keys = ["quantity", "task", "unit", "arm", "seed"]
    means = by_query.groupby(keys)["value"].mean()
    of_models = values[values["task"] != "gap"].set_index(keys)["value"]
    assert set(means.index) == set(of_models.index)
    assert means.to_dict() == pytest.approx(of_models.to_dict())


def test_a_study_of_one_arm_has_values_and_no_comparison(tmp_path: Path) -> None:
    plan = SyntheticStudy(arms=SyntheticStudy().arms[:1], pictures=False)
    values = model_values(quoted(read_runs([write_study(tmp_path, plan)]).rows))
    assert set(values["arm"]) == {"baseline"}
    assert minus_baseline(values, "baseline", ["quantity", "dataset", "task", "seed"]).empty
    assert not math.isnan(over_seeds(values, level=0.95)["value"].sum())
