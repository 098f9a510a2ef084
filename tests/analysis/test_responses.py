"""What designed studies answer, on invented models whose numbers are known."""

from __future__ import annotations

import shutil
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis import responses
from analysis.effects import OWN, of
from analysis.export import frames
from analysis.results import Results, compute
from analysis.sheets.inferred import factorial, importances
from analysis.study import RecordedStudy, read_runs
from analysis.typeset import p_value
from crossgap.files import read_json, write_json
from crossgap.metrics.intervals import Bootstrap
from tests.synthetic_study import SyntheticArm, SyntheticStudy, write_study

FEW = Bootstrap(resamples=50)


def measured(folder: Path, *arms: SyntheticArm, **plan: object) -> tuple[RecordedStudy, Results]:
    whole = replace(SyntheticStudy(pictures=False, steps=(25,), num_tokens=(1,)), arms=arms, **plan)  # type: ignore[arg-type]
    study = read_runs([write_study(folder, whole)])
    return study, compute(study, FEW)


def arm(name: str, **truth: object) -> SyntheticArm:
    return SyntheticArm(name=name, label=f"Arm {name}", **truth)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def crossed(tmp_path_factory: pytest.TempPathFactory) -> tuple[RecordedStudy, Results]:
    """Give a 2 x 2 of a term (halves the gap's distance to .1) and a temperature, three seeds."""
    return measured(
        tmp_path_factory.mktemp("designed") / "study",
        arm("baseline", gap=0.8),
        arm("term", gap=0.6, weights={"mmd": 1.0}),
        arm("hot", gap=0.4, temperature=0.1),
        arm("both", gap=0.3, weights={"mmd": 1.0}, temperature=0.1),
        seeds=(0, 1, 2),
    )


def test_key_quantities_are_those_of_the_leading_tasks(crossed: tuple[RecordedStudy, Results]) -> None:
    quantities = crossed[1].quantities
    assert [(one.name, one.unit) for one in quantities] == [
        ("native mAP, images", "%"), ("OTI gain", "points"), ("native mAP, texts", "%"),
        ("OVI gain", "points"), ("modality gap", "distance"), ("hit@1 across", "%"),
    ]  # fmt: skip
    assert all(len(one.values) == 12 for one in quantities)
    native = quantities[0].values.set_index(["arm", "seed"])["value"]
    assert native["baseline", 0] == pytest.approx(24, abs=3)


def test_effects_are_those_of_the_cells(crossed: tuple[RecordedStudy, Results]) -> None:
    found = crossed[1].factorial
    gap = found[found["quantity"] == "modality gap"].set_index("term")["estimate"]
    assert gap["mmd weight"] == pytest.approx(((0.6 - 0.8) + (0.3 - 0.4)) / 2)
    assert gap["temperature"] == pytest.approx(((0.4 - 0.8) + (0.3 - 0.6)) / 2)
    (interaction,) = [term for term in gap.index if "mmd weight" in term and "temperature" in term]
    assert gap[interaction] == pytest.approx(((0.3 - 0.4) - (0.6 - 0.8)) / 2)
    assert set(found["n_seeds"]) == {3}


def test_effects_carry_q_over_every_quantity(crossed: tuple[RecordedStudy, Results]) -> None:
    found = crossed[1].factorial
    p = found["p"].to_numpy()
    assert len(p) == 6 * 3
    known = ~np.isnan(p)
    np.testing.assert_allclose(found["q"][known], stats.false_discovery_control(p[known]))
    assert (found["q"].isna() == found["p"].isna()).all()
    tables = factorial(crossed[1])
    assert {table.columns for table in tables} >= {("term", "kind", "effect (points)", "p", "q")}
    shown = [row[-1].text for table in tables for row in table.rows]
    assert shown == [p_value(q) for q in found["q"]]
    assert f"over the {known.sum()} tests of these tables" in tables[0].note
    assert "q" in frames(*crossed)["effects"].columns


@pytest.mark.slow
@pytest.mark.parametrize("levels", [(None, 0.99), (0.99, None), (None, "cosine"), (None, True)])
def test_a_null_level_is_the_lowest_of_its_factor(tmp_path: Path, levels: tuple[object, object]) -> None:
    gaps = {(None, 0.01): 0.8, (None, 0.1): 0.6, (0.99, 0.01): 0.5, (0.99, 0.1): 0.1}
    arms = [
        arm(
            f"{'off' if level is None else 'on'}-{temperature}",
            gap=gaps[None if level is None else 0.99, temperature],
            settings={"ema": level},
            temperature=temperature,
        )
        for level in levels
        for temperature in (0.01, 0.1)
    ]
    _, results = measured(tmp_path / "study", *arms)
    found = results.factorial
    gap = found[found["quantity"] == "modality gap"].set_index("term")["estimate"]
    assert gap["ema"] == pytest.approx((0.5 + 0.1 - 0.8 - 0.6) / 2)
    assert gap["temperature"] == pytest.approx((0.6 + 0.1 - 0.8 - 0.5) / 2)


def test_null_goes_before_numbers_in_ascending_order() -> None:
    settings = pd.DataFrame({"arm": list("abc"), "ema": [0.999, None, 0.99], "steps": [1, 2, 3]})
    named = responses._null_named(settings)
    assert named["ema"].cat.categories.tolist() == ["none", 0.99, 0.999]
    assert named["ema"].tolist() == [0.999, "none", 0.99]
    assert named[["arm", "steps"]].equals(settings[["arm", "steps"]])


def test_differences_are_paired(crossed: tuple[RecordedStudy, Results]) -> None:
    table = responses.differences(crossed[1].quantities, "baseline", level=0.95)
    row = table[(table["quantity"] == "modality gap") & (table["arm"] == "hot")].iloc[0]
    assert row["value"] == pytest.approx(-0.4)
    assert [seed for seed, _ in row["per_seed"]] == [0, 1, 2]
    assert responses.differences(crossed[1].quantities, None, level=0.95).empty


def test_a_study_that_crosses_nothing_has_no_effects(tmp_path: Path) -> None:
    _, results = measured(tmp_path / "study", arm("baseline"), arm("term", weights={"mmd": 1.0}))
    assert results.factorial.empty
    assert results.importances.table.empty


def test_quantities_lie_along_ladders(tmp_path: Path) -> None:
    study, results = measured(
        tmp_path / "study",
        arm("baseline"),
        arm("weak", gap=0.5, weights={"mmd": 0.5}),
        arm("strong", gap=0.2, weights={"mmd": 2.0}),
        seeds=(0, 1, 2),
    )
    points, summary = responses.along(results.quantities, responses.ladders(study), level=0.9)
    gap = points[points["quantity"] == "modality gap"]
    assert gap.groupby("dose")["value"].mean().to_dict() == pytest.approx({0.0: 0.81, 0.5: 0.51, 2.0: 0.21})
    row = summary[(summary["quantity"] == "modality gap") & (summary["dose"] == 2.0)].iloc[0]
    values = gap[gap["dose"] == 2.0]["value"]
    low, high = stats.t.interval(0.9, 2, loc=values.mean(), scale=values.sem())
    assert (row["low"], row["high"]) == pytest.approx((low, high))
    assert set(points["ladder"]) == {"mmd"}


def test_temperatures_hold_inverted_map_beside_native(tmp_path: Path) -> None:
    study, results = measured(
        tmp_path / "study", arm("baseline"), arm("warm", temperature=0.1), arm("hot", temperature=1.0)
    )
    where = results.within[0].where
    points, _ = responses.over_temperatures(study, results.values, where, level=0.95)
    wide = points.pivot(index=["arm", "seed"], columns="quantity", values="value")
    assert (wide["mAP by OTI"] - wide["native mAP"]).tolist() == pytest.approx(wide["OTI gain"].tolist())
    assert points.groupby("arm")["temperature"].first().to_dict() == {
        "baseline": 0.01, "warm": 0.1, "hot": 1.0,
    }  # fmt: skip
    assert not points["learnable"].any()


@pytest.fixture(scope="module")
def points(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Results]:
    """Give twelve points that were spread evenly: the folder of their study and what is computed of it."""
    folder = tmp_path_factory.mktemp("points") / "study"
    arms = [arm("baseline")]
    for number in range(1, 12):
        weight, temperature = number / 12, 0.01 + 0.01 * (number * 5 % 12)
        arms.append(
            arm(f"p{number}", gap=0.8 - 0.5 * weight, weights={"mmd": weight}, temperature=temperature)
        )
    return folder, measured(folder, *arms, seeds=(0,), mode="qmc")[1]


def test_importances_are_those_of_points_spread_evenly(points: tuple[Path, Results]) -> None:
    _, results = points
    table = results.importances.table
    assert len(table) == 12
    gap = table[table["quantity"] == "modality gap"].set_index("axis")["share"]
    assert gap["mmd weight"] > 0.8
    assert (table["low"] <= table["high"]).all()
    sheets = importances(results)
    assert sheets[4].title == "Importance of settings for modality gap"
    assert sheets[4].columns == ("setting", "share", "share by chance, up to")
    assert [row[2].text for sheet in sheets for row in sheet.rows] == [
        f"{one:.2f}" for one in table["chance"]
    ]


@pytest.mark.parametrize("mode", ["grid", "tune", "pareto"])
def test_importances_need_points_drawn_without_regard_to_values(
    points: tuple[Path, Results], tmp_path: Path, mode: str
) -> None:
    folder = shutil.copytree(points[0], tmp_path / "study")
    write_json(folder / "study.json", {**read_json(folder / "study.json"), "mode": mode})
    table, note = responses.importances(read_runs([folder]), points[1].quantities)
    assert table.empty
    assert ("drawn towards good values" in note) == (mode != "grid")


@pytest.mark.slow
def test_a_null_level_of_a_grid_has_its_importance(tmp_path: Path) -> None:
    arms = [
        arm(
            f"p{place}", gap=0.2 if ema else 0.8, settings={"ema": ema}, temperature=tau, weights={"mmd": mmd}
        )
        for place, (ema, tau, mmd) in enumerate(product((None, 0.99), (0.01, 0.1), (0.0, 1.0, 2.0)))
    ]
    _, results = measured(tmp_path / "study", *arms, seeds=(0,))
    table = results.importances.table
    gap = table[table["quantity"] == "modality gap"].set_index("axis")["share"]
    assert gap["ema"] > 0.8


def test_trade_offs_join_models(crossed: tuple[RecordedStudy, Results]) -> None:
    table = responses.trade_offs(crossed[1].quantities, "image")
    assert len(table) == 12
    assert table["gap"].notna().all()
    assert responses.trade_offs((), "image").empty


def test_averages_beside_the_published_ones(crossed: tuple[RecordedStudy, Results]) -> None:
    _, results = crossed
    table = responses.beside_published(results.values, [within.where for within in results.within])
    assert set(table["what"]) == {"image retrieval, mAP, emoji; OTI", "text retrieval, mAP, emoji; OVI"}
    own = of(results.effects, OWN)
    gains = own[(own["quantity"] == "gain") & (own["task"] == "image-subgroup")]
    mine = table[table["what"].str.startswith("image")].set_index("arm")
    expected = (100 * gains.set_index("arm")["estimate"]).to_dict()
    assert (mine["value"] - mine["native"]).to_dict() == pytest.approx(expected)
    assert isinstance(table, pd.DataFrame)
