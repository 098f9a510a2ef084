from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from analysis.study import read_runs
from analysis.term_map import AGAIN, COLUMNS, broken, main, page, put_into, read_map, term_map
from crossgap.command import run_command
from crossgap.errors import InputError
from crossgap.metrics.intervals import Bootstrap
from pretrain.recipes import RECIPES
from pretrain.terms import TERMS
from pretrain.terms.modifiers import MODIFIERS
from tests.synthetic_study import SyntheticArm, SyntheticStudy, write_study

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"
ARMS = (
    SyntheticArm(name="baseline", label="Baseline", gap=0.8, native=0.24, gain=0.02),
    SyntheticArm(name="narrow", label="Narrow gap", gap=0.2, native=0.30, gain=0.0),
    SyntheticArm(name="lost", label="Lost | arm"),
)
BOOTSTRAP = Bootstrap(resamples=200)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    study = SyntheticStudy(
        arms=ARMS,
        failed={("lost", 0): "step 12: the loss is not finite"},
        missing=(("lost", 1),),
        pictures=False,
    )
    return write_study(tmp_path_factory.mktemp("study"), study)


@pytest.fixture(scope="module")
def table(folder: Path) -> pd.DataFrame:
    return term_map(read_runs([folder]), BOOTSTRAP)


def only(table: pd.DataFrame, arm: str, quantity: str, task: str = "") -> pd.Series:
    (place,) = table.index[
        (table["arm"] == arm) & (table["quantity"] == quantity) & (table["task"].fillna("") == task)
    ]
    return table.loc[place]


def test_values_are_means_over_seeds_and_differences_are_paired(folder: Path, table: pd.DataFrame) -> None:
    rows = read_runs([folder]).rows
    native = rows[
        (rows["task"] == "image-subgroup")
        & (rows["route"] == "native")
        & (rows["metric"] == "mAP")
        & (rows["split"] == "test")
    ]
    means = native.groupby("arm")["value"].mean()
    for arm in ("baseline", "narrow"):
        assert only(table, arm, "native", "image-subgroup")["value"] == pytest.approx(means[arm])
    row = only(table, "narrow", "native", "image-subgroup")
    assert row["minus_baseline"] == pytest.approx(means["narrow"] - means["baseline"])
    assert row["minus_low"] < row["minus_baseline"] < row["minus_high"]
    by_seed = native.pivot(index="seed", columns="arm", values="value")
    listed = [float(value) for value in row["per_seed"].split(";")]
    assert listed == pytest.approx((by_seed["narrow"] - by_seed["baseline"]).tolist(), abs=1e-6)
    assert row["n_seeds"] == 2


def test_a_gain_is_inverted_minus_native(table: pd.DataFrame) -> None:
    for arm in ("baseline", "narrow"):
        native, inverted, gain = (
            only(table, arm, quantity, "text-subgroup")["value"]
            for quantity in ("native", "inverted", "gain")
        )
        assert gain == pytest.approx(inverted - native)


def test_the_gap_has_a_value_a_seed_and_no_interval(table: pd.DataFrame) -> None:
    row = only(table, "narrow", "distance")
    assert row["minus_baseline"] == pytest.approx(-0.6, abs=0.05)
    assert pd.isna(row["minus_low"])
    assert len(row["per_seed"].split(";")) == 2


def test_an_arm_that_failed_is_shown_with_its_reason(table: pd.DataFrame) -> None:
    assert broken(table) == {"lost": "1 of 2 trials failed: step 12: the loss is not finite"}
    text = page(table)
    assert "- **Lost | arm** (`lost`): 1 of 2 trials failed: step 12" in text
    assert "Lost" not in text.split("## Each arm")[1]
    assert text.startswith("# What the arms of the study synthetic do")


def test_an_arm_at_chance_is_named(table: pd.DataFrame) -> None:
    changed = table.copy()
    here = (changed["arm"] == "narrow") & (changed["quantity"] == "hit@1") & (changed["task"] == "image-text")
    changed.loc[here, "low"] = 0.0
    assert broken(changed)["narrow"] == "finds texts for images no better than chance"
    base = only(table, "baseline", "hit@1", "image-text")["value"]
    changed.loc[here, ["value", "low", "minus_high"]] = [0.4 * base, 0.2 * base, -0.1 * base]
    assert broken(changed)["narrow"] == "finds texts for images 40% as often as the baseline"


def test_the_command_writes_both_and_the_page_again_from_the_table(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(main, [str(folder), "--out", str(tmp_path)]) == 0
    first = (tmp_path / "first-map.md").read_text()
    (tmp_path / "first-map.md").unlink()
    assert run_command(main, [str(tmp_path / "first-map.csv")]) == 0
    assert (tmp_path / "first-map.md").read_text() == first
    assert run_command(main, [str(tmp_path / "none.csv")]) == 2
    assert "none.csv: no such file" in capsys.readouterr().err.replace("\n", "")


def test_arms_that_are_not_finished_are_named_and_not_judged(tmp_path: Path) -> None:
    study = SyntheticStudy(
        arms=ARMS, missing=(("lost", 0), ("lost", 1), ("narrow", 1)), smoke=True, pictures=False
    )
    table = term_map(read_runs([write_study(tmp_path, study)]), BOOTSTRAP)
    text = page(table)
    assert text.startswith("# What the arms of the study synthetic, smoke do")
    assert "Not finished, and left out or short of seeds: narrow, lost." in text
    assert "No arm is broken" not in text
    assert "| Lost" not in text


def test_a_run_of_some_arms_goes_into_an_earlier_table(
    folder: Path, table: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arms = (
        SyntheticArm(name="baseline", label="Baseline", gap=0.7, native=0.28, gain=0.02),
        SyntheticArm(name="narrow", label="Narrow gap", gap=0.1, native=0.20, gain=0.0),
        SyntheticArm(name="new", label="New", gap=0.3),
    )
    part = write_study(tmp_path / "part", SyntheticStudy(arms=arms, pictures=False))
    first, later = ["--out", str(tmp_path), "--made", "first, one processor"], ["--made", "second, another"]
    assert run_command(main, [str(folder), *first]) == 0
    before = read_map(tmp_path / "first-map.csv")
    into = ["--into", str(tmp_path / "first-map.csv"), "--out", str(tmp_path)]
    assert run_command(main, [str(part), *into, *later]) == 0
    merged, own = read_map(tmp_path / "first-map.csv"), term_map(read_runs([part]), BOOTSTRAP)
    assert list(dict.fromkeys(merged["arm"])) == ["baseline", "baseline-again", "narrow", "lost", "new"]
    for arm in ("narrow", "new"):
        for quantity, task in (("distance", ""), ("native", "image-subgroup"), ("hit@1", "image-text")):
            for column in ("value", "minus_baseline"):  # to the baseline of its own run
                expected = only(own, arm, quantity, task)[column]
                assert only(merged, arm, quantity, task)[column] == pytest.approx(expected, rel=1e-5)
    again = only(merged, "baseline-again", "native", "image-subgroup")
    change = only(own, "baseline", "native", "image-subgroup")["value"]
    change -= only(before, "baseline", "native", "image-subgroup")["value"]
    assert again["minus_baseline"] == pytest.approx(change, abs=1e-5)
    stays = before[before["arm"].isin(["baseline", "lost"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(
        merged[merged["arm"].isin(["baseline", "lost"])].reset_index(drop=True), stays
    )
    seconds = [
        frame[(frame["arm"] == "narrow") & (frame["quantity"] == "seconds")] for frame in (before, merged)
    ]
    assert seconds[0]["value"].tolist() == seconds[1]["value"].tolist()  # timed side by side with the others
    text = (tmp_path / "first-map.md").read_text()
    assert "Baseline and other arms: first, one processor." in text
    assert (
        "Those of `narrow`, `new`: second, another; they are compared with the baseline of their own run"
        in text
    )
    assert "| Baseline, again |" in text
    again_page = ["--out", str(tmp_path / "again")]
    (tmp_path / "again").mkdir()
    assert run_command(main, [str(tmp_path / "first-map.csv"), *again_page]) == 0
    assert (tmp_path / "again" / "first-map.md").read_text() == text
    assert run_command(main, [str(part), *into, "--made", "third"]) == 2
    assert "holds arms of another run already (second, another)" in " ".join(capsys.readouterr().err.split())


def test_what_does_not_fit_a_table_is_refused(table: pd.DataFrame) -> None:
    other = table.assign(study="other")
    with pytest.raises(
        InputError, match="a run of 'other' with the baseline 'baseline' cannot go into a table"
    ):
        put_into(table, other)
    with pytest.raises(InputError, match="not complete would take the place of others: lost"):
        put_into(table, table)


def test_a_table_of_before_it_said_where_rows_come_from_is_read(table: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "first-map.csv"
    table.drop(columns="made").to_csv(path, index=False)
    assert set(read_map(path)["made"]) == {""}
    assert run_command(main, [str(path), "--made", "somewhere"]) == 0
    assert set(read_map(path)["made"]) == {"somewhere"}


def test_another_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match=r"its columns are \['a', 'b'\]"):
        read_map(path)


def test_the_committed_page_is_made_of_the_committed_table() -> None:
    table = read_map(DOCS / "first-map.csv")
    assert list(table.columns) == COLUMNS
    assert (DOCS / "first-map.md").read_text() == page(table)
    assert [arm for arm in dict.fromkeys(table["arm"]) if not arm.endswith(AGAIN)] == list(RECIPES)


def test_every_term_and_modifier_is_in_the_map() -> None:
    objectives = [recipe().objective for recipe in RECIPES.values()]
    assert {name for objective in objectives for name in objective.active} == set(TERMS)
    assert {name for objective in objectives for name in objective.modifiers} == set(MODIFIERS)
