"""What sets arms apart, told from configurations."""

from __future__ import annotations

from typing import Any

import pytest

from ablations.study import named as recipes
from analysis.designs import changes, crossing, levels, temperature_ladder, weight_ladders
from crossgap.reading.treatment import flat, short
from pretrain.recipes import RECIPES


def config(*, steps: int = 500, temperature: float = 0.01, regime: str = "fixed", **weights: float) -> Any:
    objective = {
        "weights": {"clip": 1.0, **weights},
        "temperature": {"regime": regime, "initial": temperature},
    }
    return {"recipe": "any", "seed": 3, "steps": steps, "betas": [0.9, 0.98], "objective": objective}


def test_flat_names_are_dotted_and_lists_are_text() -> None:
    assert flat({"a": {"b": {"c": 1}}, "d": [1, 2], "e": None}) == {"a.b.c": 1, "d": "[1, 2]", "e": None}


def test_changes_ignore_bookkeeping_and_count_an_absent_term_as_zero() -> None:
    configs = {"base": config(), "term": {**config(mmd=0.5), "recipe": "other", "threads": 9}}
    found = changes(configs, "base")
    assert found == {"base": {}, "term": {"objective.weights.mmd": 0.5}}
    assert changes({"term": config(mmd=0.5), "base": config(coral=1.0)}, "base")["term"] == {
        "objective.weights.coral": 0.0,
        "objective.weights.mmd": 0.5,
    }


@pytest.mark.parametrize("baseline", [None, "absent"])
def test_without_a_baseline_nothing_is_told(baseline: str | None) -> None:
    assert changes({"base": config()}, baseline) == {}


def test_ladders_hold_terms_in_one_proportion() -> None:
    configs = {
        "base": config(),
        "strong": config(mmd=2.0),
        "weak": config(mmd=0.5),
        "both": config(mmd=0.5, coral=0.5),
        "both-strong": config(mmd=1.0, coral=1.0),
        "skew": config(mmd=1.0, coral=2.0),
        "longer": config(mmd=1.0, steps=900),
        "replaced": config(clip=0.0, siglip=1.0),
    }
    found = weight_ladders(changes(configs, "base"), "base")
    assert [ladder.name for ladder in found] == ["mmd", "mmd + coral"]
    assert list(found[0].doses.items()) == [("base", 0.0), ("weak", 0.5), ("strong", 2.0)]
    assert found[1].doses == {"base": 0.0, "both": 1.0, "both-strong": 2.0}


def test_a_ladder_with_another_change_leaves_the_baseline_out_and_names_it() -> None:
    configs = {"base": config(), "a": config(mmd=1.0, steps=900), "b": config(mmd=2.0, steps=900)}
    (found,) = weight_ladders(changes(configs, "base"), "base")
    assert found.name == "mmd (steps 900)"
    assert found.doses == {"a": 1.0, "b": 2.0}


def test_the_temperature_ladder_holds_arms_that_change_nothing_else() -> None:
    configs = {
        "base": config(),
        "hot": config(temperature=1.0),
        "warm": config(temperature=0.1),
        "warm-term": config(temperature=0.1, mmd=1.0),
        "learnable": config(temperature=0.07, regime="learnable"),
    }
    found = temperature_ladder(changes(configs, "base"), configs, "base")
    assert found is not None
    assert list(found.doses.items()) == [("base", 0.01), ("warm", 0.1), ("hot", 1.0)]
    del configs["hot"]
    assert temperature_ladder(changes(configs, "base"), configs, "base") is None  # two rungs are no ladder


def test_a_crossing_needs_every_combination_once() -> None:
    configs = {
        "base": config(),
        "a": config(mmd=1.0),
        "b": config(temperature=0.1),
        "ab": config(mmd=1.0, temperature=0.1),
    }
    table = crossing(changes(configs, "base"), configs)
    assert set(table.columns) == {"arm", "objective.weights.mmd", "objective.temperature.initial"}
    assert list(table["arm"]) == ["base", "a", "b", "ab"]
    twin = {**configs, "twin": config(mmd=1.0)}
    assert crossing(changes(twin, "base"), twin).empty
    del configs["ab"]
    assert crossing(changes(configs, "base"), configs).empty


def test_levels_tabulate_settings() -> None:
    table = levels(
        ["x"], {"x": config(mmd=0.25)}, ["objective.weights.mmd", "objective.weights.coral", "steps"]
    )
    assert table.to_dict("records") == [
        {"arm": "x", "objective.weights.mmd": 0.25, "objective.weights.coral": 0.0, "steps": 500}
    ]


def test_settings_have_short_names() -> None:
    assert short("objective.weights.mmd") == "mmd weight"
    assert short("objective.modifiers.label_smoothing") == "label_smoothing weight"
    assert short("objective.temperature.initial") == "temperature"
    assert short("model.embed_dim") == "model embed dim"


def test_the_named_studies_tell_their_designs() -> None:
    def of(study: Any) -> tuple[Any, Any, Any]:
        configs = {arm.name: arm.train.as_json() for arm in study.arms}
        found = changes(configs, study.baseline)
        ladder = temperature_ladder(found, configs, study.baseline)
        return weight_ladders(found, study.baseline), ladder, crossing(found, configs)

    ladders, temperatures, _ = of(recipes.gap())
    families = [name for name, recipe in RECIPES.items() if recipe.family == "gap"]
    assert len(ladders) == len(families)
    assert all(len(ladder.doses) == 4 for ladder in ladders)
    assert temperatures is not None
    assert sorted(temperatures.doses.values()) == sorted(recipes.TEMPERATURES)
    assert [len(ladder.doses) for ladder in of(recipes.intra())[0]] == [5, 5, 5]
    assert len(of(recipes.factorial())[2]) == 8
    assert of(recipes.demo())[0] == []
