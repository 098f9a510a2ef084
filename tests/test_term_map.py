from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from analysis.study import read_runs
from analysis.term_map import COLUMNS, broken, main, page, read_map, term_map
from crossgap.command import run_command
from crossgap.errors import InputError
from crossgap.intervals import Bootstrap
from pretrain.recipes import RECIPES
from pretrain.terms import TERMS
from pretrain.terms.modifiers import MODIFIERS
from tests.synthetic_study import SyntheticArm, SyntheticStudy, write_study

DOCS = Path(__file__).resolve().parent.parent / "docs"
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


def test_another_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match=r"its columns are \['a', 'b'\]"):
        read_map(path)


def test_the_committed_page_is_made_of_the_committed_table() -> None:
    table = read_map(DOCS / "first-map.csv")
    assert list(table.columns) == COLUMNS
    assert (DOCS / "first-map.md").read_text() == page(table)
    assert list(dict.fromkeys(table["arm"])) == list(RECIPES)


def test_every_term_and_modifier_is_in_the_map() -> None:
    objectives = [recipe().objective for recipe in RECIPES.values()]
    assert {name for objective in objectives for name in objective.active} == set(TERMS)
    assert {name for objective in objectives for name in objective.modifiers} == set(MODIFIERS)
