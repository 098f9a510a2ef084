"""Which rows lead a report and what is compared with what; expected values in plain pandas."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.leading import (
    Headline,
    at,
    curve_gains,
    disagreement,
    gap_values,
    grid_gains,
    headlines,
    model_gaps,
    settings,
)
from analysis.study import RecordedStudy, read_runs
from crossgap.errors import InputError
from crossgap.metrics.intervals import Bootstrap, mean_interval
from crossgap.reading.quoting import KEYS, quoted, quoted_queries
from crossgap.reading.route_values import measurements, route_difference
from crossgap.records import read_rows
from tests.synthetic_study import CHANCE, SyntheticArm, SyntheticStudy, write_run, write_study

FEW = Bootstrap(resamples=200)
IMAGE = Headline("image", "emoji", "test", "image-subgroup", "oti")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def study(folder: Path) -> RecordedStudy:
    return read_runs([folder])


@pytest.fixture(scope="module")
def rows(study: RecordedStudy) -> pd.DataFrame:
    return quoted(study.rows)


@pytest.fixture(scope="module")
def queries(study: RecordedStudy, rows: pd.DataFrame) -> pd.DataFrame:
    return quoted_queries(study.per_query, rows)


def values(
    study: RecordedStudy, route: str, *, selection: str = "none", arm: str = "baseline"
) -> pd.DataFrame:
    """Look up per-query mAP on the image task, one column a seed."""
    table = study.per_query
    here = table[
        (table["task"] == "image-subgroup")
        & (table["split"] == "test")
        & (table["metric"] == "mAP")
        & (table["route"] == route)
        & (table["selection"] == selection)
        & (table["arm"] == arm)
    ]
    return here.pivot(index="query_id", columns="seed", values="value")


def test_each_measurement_is_quoted_once_and_never_from_validation(rows: pd.DataFrame) -> None:
    assert not rows.duplicated(KEYS).any()
    assert set(rows["split"]) == {"test"}
    inverted = rows[(rows["route"] == "oti") & (rows["task"] == "image-subgroup")]
    assert set(inverted["selection"]) == {"val"}
    assert set(inverted["steps"]) == {25}


def test_untrained_tokens_are_quoted_at_the_token_count_of_the_inversion(study: RecordedStudy) -> None:
    more = study.rows.copy()
    chosen = (more["route"] == "oti") & (more["selection"] == "val") & (more["task"] == "image-subgroup")
    more.loc[chosen, "num_tokens"] = 2
    untrained = quoted(more).query("route == 'untrained_tokens'").set_index("task")["num_tokens"]
    assert set(untrained["image-subgroup"]) == {2}
    assert set(untrained["text-subgroup"]) == {1}


def test_untrained_tokens_are_quoted_once_whatever_their_selection_says(study: RecordedStudy) -> None:
    other = study.rows.copy()
    other.loc[other["route"] == "untrained_tokens", "selection"] = "none"
    untrained = quoted(other).query("route == 'untrained_tokens'")
    assert not untrained.duplicated(KEYS).any()
    assert set(untrained["num_tokens"]) == {1}


def test_a_preset_setting_is_quoted_where_none_was_chosen(study: RecordedStudy) -> None:
    preset = study.rows.replace({"selection": {"val": "preset"}})
    assert set(quoted(preset).query("route == 'oti'")["selection"]) == {"preset"}


def test_a_curve_without_a_chosen_setting_is_not_quoted(study: RecordedStudy) -> None:
    curves = study.rows[study.rows["selection"] != "val"]
    assert "oti" not in set(quoted(curves)["route"])


def test_validation_rows_are_quoted_when_there_is_nothing_else(study: RecordedStudy) -> None:
    val = study.rows[study.rows["split"] == "val"]
    assert set(quoted(val)["split"]) == {"val"}


def test_two_rows_for_one_measurement_raise(study: RecordedStudy) -> None:
    with pytest.raises(InputError, match="same measurement"):
        quoted(pd.concat([study.rows, study.rows], ignore_index=True))


def test_no_rows_give_empty_tables() -> None:
    empty = read_rows([])
    assert quoted(empty).empty
    assert headlines(quoted(empty)) == []


def test_per_query_values_follow_the_quoted_setting_whatever_their_selection_says(
    study: RecordedStudy, rows: pd.DataFrame, queries: pd.DataFrame
) -> None:
    curve_only = study.per_query[study.per_query["selection"] != "val"]
    again = quoted_queries(curve_only, rows)
    columns = ["arm", "seed", "task", "query_id", "value"]
    sides = [
        frame[(frame["route"] == "oti") & (frame["task"] == "image-subgroup")][columns]
        .sort_values(columns)
        .reset_index(drop=True)
        for frame in (again, queries)
    ]
    pd.testing.assert_frame_equal(*sides)


def test_headlines_prefer_subgroups_and_fall_back(rows: pd.DataFrame) -> None:
    assert headlines(rows) == [IMAGE, Headline("text", "emoji", "test", "text-subgroup", "ovi")]
    other = rows.replace({"task": {"image-subgroup": "image-class"}})
    assert headlines(other)[0].task == "image-class"
    assert [where.modality for where in headlines(rows[rows["route"] != "oti"])] == ["text"]


def test_zero_shot_never_leads(rows: pd.DataFrame) -> None:
    across = rows[rows["task"].str.startswith("zero-shot")].assign(metric="mAP")
    assert headlines(across) == []


def test_measurements_equal_plain_pandas(
    study: RecordedStudy, rows: pd.DataFrame, queries: pd.DataFrame
) -> None:
    table = measurements(rows, queries, "mAP", bootstrap=FEW)
    row = table[
        (table["arm"] == "baseline") & (table["route"] == "oti") & (table["task"] == IMAGE.task)
    ].iloc[0]
    native, inverted = values(study, "native"), values(study, "oti", selection="val")
    assert row["value"] == pytest.approx(inverted.mean(axis=1).mean())
    assert row["difference"] == pytest.approx((inverted - native).mean(axis=1).mean())
    assert row["seed_sd"] == pytest.approx(inverted.mean().std(ddof=1))
    assert (row["n_seeds"], row["n_queries"], row["n_skipped"]) == (2, 39, 1)
    assert row["settings"] == ((25, 1, ""),)
    assert row["low"] < row["value"] < row["high"]


def test_macro_is_the_mean_of_class_means(
    study: RecordedStudy, rows: pd.DataFrame, queries: pd.DataFrame
) -> None:
    table = measurements(rows, queries, "mAP", bootstrap=FEW)
    row = table[
        (table["arm"] == "narrow") & (table["route"] == "native") & (table["task"] == IMAGE.task)
    ].iloc[0]
    means = values(study, "native", arm="narrow").mean(axis=1)
    classes = [int(query.split("/")[0].split("-")[1]) % 8 for query in means.index]
    assert row["macro"] == pytest.approx(means.groupby(np.array(classes)).mean().mean())


def test_a_row_without_per_query_values_keeps_its_value_and_has_no_interval(
    rows: pd.DataFrame, queries: pd.DataFrame
) -> None:
    table = measurements(rows, queries, "mAP", bootstrap=FEW)
    chance = table[table["route"] == "chance"].iloc[0]
    assert chance["value"] == pytest.approx(CHANCE)
    assert np.isnan(chance["low"])


def test_route_difference_is_paired_by_model_and_query(study: RecordedStudy, queries: pd.DataFrame) -> None:
    table = route_difference(at(queries, IMAGE), "oti", "class_pca", ["arm", "seed"], bootstrap=FEW)
    expected = (values(study, "oti", selection="val") - values(study, "class_pca")).mean()
    mine = table[table["arm"] == "baseline"].set_index("seed")["value"]
    assert mine[0] == pytest.approx(expected[0])
    assert mine[1] == pytest.approx(expected[1])


def test_route_difference_interval_is_that_of_the_differences(
    study: RecordedStudy, queries: pd.DataFrame
) -> None:
    table = route_difference(at(queries, IMAGE), "oti", "native", ["arm"], bootstrap=FEW)
    change = (values(study, "oti", selection="val") - values(study, "native")).mean(axis=1)
    classes = [f"class-{int(query.split('/')[0].split('-')[1]) % 8}" for query in change.index]
    frame = pd.DataFrame({"query_id": change.index, "query_class": classes, "value": change.to_numpy()})
    expected = mean_interval(frame, [], bootstrap=FEW).iloc[0]
    row = table[table["arm"] == "baseline"].iloc[0]
    assert (row["low"], row["high"]) == pytest.approx((expected["low"], expected["high"]))


def test_curve_gains_hold_every_point_and_step_zero(study: RecordedStudy) -> None:
    table = curve_gains(study.rows, study.per_query, IMAGE, bootstrap=FEW)
    assert set(table["steps"]) == {0, 5, 25, 100}
    assert len(table) == 2 * 2 * 4  # arms, token counts, steps
    point = table[(table["arm"] == "baseline") & (table["num_tokens"] == 1) & (table["steps"] == 25)].iloc[0]
    expected = (values(study, "oti", selection="val") - values(study, "native")).mean(axis=1).mean()
    assert point["value"] == pytest.approx(expected)
    assert point["n_seeds"] == 2


def test_a_curve_without_per_query_values_has_no_band(study: RecordedStudy) -> None:
    bare = curve_gains(study.rows, study.per_query.iloc[:0], IMAGE, bootstrap=FEW)
    full = curve_gains(study.rows, study.per_query, IMAGE, bootstrap=FEW)
    np.testing.assert_allclose(bare["value"], full["value"], atol=1e-12)
    assert bare["low"].isna().all()
    assert full["low"].notna().all()


def test_settings_show_what_choosing_on_the_reported_split_would_add(
    study: RecordedStudy, rows: pd.DataFrame
) -> None:
    table = settings(study.rows, rows, IMAGE)
    mine = study.rows[
        (study.rows["task"] == IMAGE.task)
        & (study.rows["metric"] == "mAP")
        & (study.rows["arm"] == "narrow")
        & (study.rows["seed"] == 1)
    ]
    test = mine[mine["split"] == "test"]
    native = test[test["route"] == "native"]["value"].iloc[0]
    curve = test[(test["route"] == "oti") & (test["selection"] == "curve")]
    best = curve.loc[curve["value"].idxmax()]
    chosen = curve[(curve["steps"] == 25) & (curve["num_tokens"] == 1)]["value"].iloc[0]
    row = table[(table["arm"] == "narrow") & (table["seed"] == 1)].iloc[0]
    assert (row["steps"], row["num_tokens"], row["selection"]) == (25, 1, "val")
    assert row["gain"] == pytest.approx(chosen - native)
    assert (row["best_steps"], row["best_num_tokens"]) == (best["steps"], best["num_tokens"])
    assert row["optimism"] == pytest.approx(best["value"] - chosen)
    on_val = mine[(mine["split"] == "val") & (mine["route"] == "oti")]
    on_val = on_val[(on_val["steps"] == 25) & (on_val["num_tokens"] == 1)]["value"].iloc[0]
    val_native = mine[(mine["split"] == "val") & (mine["route"] == "native")]["value"].iloc[0]
    assert row["gain_val"] == pytest.approx(on_val - val_native)


GRID = {"learning rate 0.02": 0.0, "learning rate 0.1": 0.05}


def test_grid_gains_put_the_choice_beside_the_best_of_the_reported_split(tmp_path: Path) -> None:
    grid = read_runs([write_study(tmp_path, SyntheticStudy(settings=GRID, pictures=False))])
    rows = quoted(grid.rows)
    queries = quoted_queries(grid.per_query, rows)
    lines = curve_gains(grid.rows, grid.per_query, IMAGE, bootstrap=FEW)
    gains = route_difference(at(queries, IMAGE), "oti", "native", ["arm"], bootstrap=FEW)
    table = grid_gains(lines, gains).set_index("arm")
    assert list(table.index) == ["baseline", "narrow"]
    assert table["n_points"].tolist() == [2 * 2 * 3] * 2  # settings, token counts, steps above 0
    here = at(grid.rows[(grid.rows["metric"] == "mAP") & (grid.rows["arm"] == "narrow")], IMAGE)
    native = here[here["route"] == "native"].set_index("seed")["value"]
    curve = here[(here["route"] == "oti") & (here["selection"] == "curve")]
    by_point = curve.groupby(["steps", "num_tokens", "setting"])["value"].mean() - native.mean()
    row = table.loc["narrow"]
    assert (row["best_steps"], row["best_num_tokens"], row["best_setting"]) == by_point.idxmax()
    assert row["best"] == pytest.approx(by_point.max())
    chosen = here[(here["route"] == "oti") & (here["selection"] == "val")]
    assert set(chosen["setting"]) == {"learning rate 0.1"}
    assert row["value"] == pytest.approx(chosen["value"].mean() - native.mean())
    assert row["low"] < row["value"] < row["high"]
    assert row["value"] <= row["best"]


def test_a_plain_plan_has_no_grid(study: RecordedStudy, queries: pd.DataFrame) -> None:
    lines = curve_gains(study.rows, study.per_query, IMAGE, bootstrap=FEW)
    gains = route_difference(at(queries, IMAGE), "oti", "native", ["arm"], bootstrap=FEW)
    assert grid_gains(lines, gains).empty


def test_settings_of_a_grid_are_told_apart(tmp_path: Path) -> None:
    grid = read_runs([write_study(tmp_path, SyntheticStudy(settings=GRID, pictures=False))])
    rows = quoted(grid.rows)
    table = settings(grid.rows, rows, IMAGE)
    assert set(table["setting"]) == {"learning rate 0.1"}
    assert len(table) == 4
    untrained = at(rows[(rows["route"] == "untrained_tokens") & (rows["metric"] == "mAP")], IMAGE)
    assert set(untrained["setting"]) == {"learning rate 0.1"}
    shown = measurements(rows, quoted_queries(grid.per_query, rows), "mAP", bootstrap=FEW)
    assert at(shown[shown["route"] == "oti"], IMAGE)["settings"].iloc[0] == ((25, 1, "learning rate 0.1"),)


def test_gaps_of_models(rows: pd.DataFrame) -> None:
    table = model_gaps(rows, "emoji", "test").set_index(["arm", "seed"])
    assert table.loc[("baseline", 1)].tolist() == pytest.approx([0.81, 0.79, 0.83])
    assert "same_other_auc image-subgroup" in set(gap_values(rows)["metric"])


def test_rows_agree_with_their_per_query_values(rows: pd.DataFrame, queries: pd.DataFrame) -> None:
    off, without = disagreement(rows, queries)
    assert off < 1e-12
    assert without == 0
    changed = queries.assign(value=queries["value"] + 0.01)
    assert disagreement(rows, changed)[0] == pytest.approx(0.01)
    assert disagreement(rows, queries[queries["route"] != "oti"])[1] == 8  # 4 models, 2 tasks


def test_states_of_trials(tmp_path: Path) -> None:
    plan = SyntheticStudy(
        seeds=(0, 1, 2),
        failed={("baseline", 1): "loss is nan"},
        unfinished=(("narrow", 0),),
        missing=(("narrow", 2),),
    )
    study = read_runs([write_study(tmp_path, plan)])
    table = study.trials.set_index(["arm", "seed"])
    assert table["state"].to_dict() == {
        ("baseline", 0): "complete",
        ("baseline", 1): "failed",
        ("baseline", 2): "complete",
        ("narrow", 0): "unfinished",
        ("narrow", 1): "complete",
        ("narrow", 2): "missing",
    }
    assert table.loc[("baseline", 1), "reason"] == "loss is nan"
    assert table.loc[("narrow", 0), "step"] == 300
    assert set(zip(study.rows["arm"], study.rows["seed"], strict=True)) == {
        ("baseline", 0), ("baseline", 2), ("narrow", 1),
    }  # fmt: skip
    assert ("baseline", 1) in set(zip(study.training["arm"], study.training["seed"], strict=True))


def test_an_evaluation_without_a_study_is_read(tmp_path: Path) -> None:
    write_run(tmp_path, SyntheticStudy(), SyntheticArm(name="ViT-B-32", label=""), 0)
    study = read_runs([tmp_path])
    assert study.arm_names == ["ViT-B-32"]
    assert study.baseline is None
    assert study.trials["state"].tolist() == ["complete"]


def test_arms_met_in_several_runs_stay_apart(tmp_path: Path) -> None:
    for name in ("first", "second"):
        write_run(tmp_path / name, SyntheticStudy(), SyntheticArm(name="ViT-B-32", label=""), 0)
    study = read_runs([tmp_path / "first", tmp_path / "second"])
    assert study.arm_names == ["ViT-B-32 (first)", "ViT-B-32 (second)"]
    assert set(study.per_query["arm"]) == set(study.arm_names)
    assert not quoted(study.rows).duplicated(KEYS).any()


def test_runs_that_cannot_be_read_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no run given"):
        read_runs([])
    with pytest.raises(InputError, match="no such folder"):
        read_runs([tmp_path / "nowhere"])
    with pytest.raises(InputError, match=r"rows\.jsonl"):
        read_runs([tmp_path])
    with pytest.raises(InputError, match="twice"):
        read_runs([folder, folder])


@pytest.mark.parametrize("document", [{"arms": ["baseline"]}, {}, {"arms": [{"name": "a"}], "baseline": "b"}])
def test_a_broken_study_file_is_refused(tmp_path: Path, document: dict) -> None:
    (tmp_path / "study.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match=r"study\.json"):
        read_runs([tmp_path])


def test_a_table_of_another_version_is_refused(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    path = copy / "trials" / "baseline-s0" / "per_query.parquet"
    pd.read_parquet(path).drop(columns="selection").to_parquet(path)
    with pytest.raises(InputError, match="selection"):
        read_runs([copy])
