"""What every named study keeps to: its baseline, its arms, its costs as docstring and page say them."""

from __future__ import annotations

import inspect
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import optuna
import pytest

from ablations.objectives import OBJECTIVES
from ablations.running.estimate import _step_seconds
from ablations.search import Mode
from ablations.study.arms import WORLDS
from ablations.study.axes import suggest_settings
from ablations.study.files import find_study
from ablations.study.named import STUDIES, demo, factorial, gap, inversion
from ablations.study.smoke import budget, smoke
from ablations.sweep import _plan
from crossgap.datasets.load import load_dataset
from crossgap.datasets.scenes.options import SceneOptions
from crossgap.encoders.loading import load_encoder
from crossgap.errors import InputError
from crossgap.evaluation.routes import ROUTES
from crossgap.evaluation.run import evaluate
from crossgap.provenance import Provenance
from pretrain.configure import configure
from pretrain.recipes import RECIPES, STRONG, on_scenes
from pretrain.run import train

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"
PAGE = (DOCS / "studies.md").read_text()
WITH_AXES = [name for name, study in STUDIES.items() if study().axes]

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
named = pytest.mark.parametrize("name", STUDIES)


@named
def test_it_is_named_as_it_is_called_and_holds_its_baseline(name: str) -> None:
    study = STUDIES[name]()
    assert study.name == name
    baseline = replace(RECIPES["baseline"](), threads=1)
    if study.dataset != "emoji":
        baseline = on_scenes(baseline, WORLDS["scenes"])
    part = {"demo": 1 / 2, "inversion": 1 / 2, "information": 2 / 3, "findings": 2 / 3}.get(
        name, 1
    )  # first looks
    baseline = replace(baseline, steps=round(baseline.steps * part))
    assert study.arm(study.baseline).train == baseline
    assert study.arms[0].name == study.baseline


@named
def test_no_arm_is_there_twice(name: str) -> None:
    trained = [replace(arm.train, recipe="") for arm in STUDIES[name]().arms]
    assert [config for config in trained if trained.count(config) > 1] == []


@named
def test_arms_say_what_they_are(name: str) -> None:
    study = STUDIES[name]()
    for said in ("label", "description"):
        words = [getattr(arm, said) for arm in study.arms]
        assert all(words)
        assert len(set(words)) == len(words)


@named
def test_no_weight_is_0(name: str) -> None:
    for arm in STUDIES[name]().arms:
        assert all(weight > 0 for weight in arm.train.objective.weights.values()), arm.name
        assert all(strength > 0 for strength in arm.train.objective.modifiers.values()), arm.name


@named
def test_its_definition_is_json_and_the_same_every_time(name: str) -> None:
    first, second = STUDIES[name](), STUDIES[name]()
    assert first == second
    assert json.loads(json.dumps(first.definition())) == second.definition()
    assert json.loads(json.dumps(first.as_json())) == first.as_json()


@named
def test_its_docstring_says_what_it_asks_costs_and_feeds(name: str) -> None:
    said = " ".join((inspect.getdoc(STUDIES[name]) or "").split())
    first_end = re.search(r"[.?!] ", said)
    assert first_end is not None
    assert first_end.group() == "? ", "its first sentence is its question"
    assert said.index("?") < said.index("python -m ablations.sweep")
    assert f"Budget: {budget(STUDIES[name]())}" in said
    for part in ("Design: ", "Analysis: "):
        assert part in said
    command = "python -m ablations.sweep" + ("" if name == "demo" else f" --study {name}")
    assert command in said


@named
def test_the_page_says_the_same_numbers(name: str) -> None:
    study = STUDIES[name]()
    table = PAGE.split("## Named studies")[1].split("\n## ")[0]
    (line,) = re.findall(rf"^\| `{name}` \|.*$", table, flags=re.MULTILINE)
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    hours = re.findall(
        r"about ([\d.]+ (?:minutes|hours)) on 2 cores; on one GPU about ([\d.]+ \w+)", budget(study)
    )
    assert cells[2:] == [str(len(study.arms)), str(len(study.seeds)), *hours[0]]


@pytest.mark.parametrize("name", [name for name in STUDIES if name not in ("information", "findings")])
def test_on_scenes_it_has_as_many_arms_trained_and_measured_there(name: str) -> None:
    study, elsewhere = STUDIES[name]("emoji"), STUDIES[name]("scenes")
    assert len(elsewhere.arms) == len(study.arms)
    assert {arm.train.data for arm in study.arms} == {study.dataset} == {"emoji"}
    assert {arm.train.data.split(",")[0] for arm in elsewhere.arms} == {"scenes:version=1"}
    assert elsewhere.dataset == WORLDS["scenes"]
    trained = [replace(arm.train, recipe="") for arm in elsewhere.arms]
    assert all(trained.count(config) == 1 for config in trained)
    assert {plan.config.template for plan in elsewhere.evaluation.plans.values()} <= {"a {}", "a photo of {}"}
    assert elsewhere.evaluation.plans["text"].config.template == "a {}"


def test_information_crosses_what_captions_say_with_temperature_and_term() -> None:
    study = STUDIES["information"]()
    changed = {
        (
            SceneOptions.parse(arm.train.data).mention,
            arm.train.objective.temperature.regime,
            arm.train.objective.weights.get("image_ntxent", 0),
        )
        for arm in study.arms
    }
    assert len(changed) == len(study.arms) == 20
    assert {mention for mention, _, _ in changed} == {0.0, 0.1, 0.3, 0.6, 1.0}
    assert study.dataset == "as trained"
    with pytest.raises(InputError, match="emoji cannot"):
        STUDIES["information"]("emoji")


def test_a_step_on_scenes_can_be_timed_beforehand() -> None:
    study = smoke(STUDIES["information"]())
    assert _step_seconds(study.arm(study.baseline).train) > 0


def test_a_world_is_chosen_by_name() -> None:
    assert find_study("demo") == find_study("demo", "scenes") == STUDIES["demo"]()
    assert find_study("demo", "emoji") == STUDIES["demo"]("emoji")
    assert find_study("map") == find_study("map", "emoji") == STUDIES["map"]()
    with pytest.raises(InputError, match="world of a study"):
        find_study("demo", "coco")
    with pytest.raises(InputError, match="is for named studies"):
        find_study("examples/studies/weights.toml", "scenes")


def test_a_budget_by_hand() -> None:
    study = replace(STUDIES["demo"](), seeds=(0, 1, 2), core_seconds=900)
    assert budget(study) == (
        "12 trials of 900 s on one core, about 1.5 hours on 2 cores; on one GPU about 45 minutes, a guess."
    )


# the smallest form


@named
def test_its_smallest_form_is_small_and_otherwise_the_same(name: str) -> None:
    study, small = STUDIES[name](), smoke(STUDIES[name]())
    assert [arm.name for arm in small.arms] == [arm.name for arm in study.arms]
    assert (small.axes, small.evaluation.routes) == (study.axes, study.evaluation.routes)
    assert all(arm.train.steps <= 6 and arm.train.model.width <= 32 for arm in small.arms)
    assert len(small.cells()) * small.core_seconds / 2 <= 180
    for plan in small.evaluation.plans.values():
        assert len(plan.configs) <= 2
        assert plan.config.steps <= 4
    assert small.definition() != study.definition()
    assert small.description.endswith("In its smoke form: its numbers mean nothing.")
    for arm in small.arms:
        assert f"smoke form: {arm.train.steps} steps of {arm.train.batch_size} pairs" in arm.description
        assert not re.search(r"\bsteps = ", arm.description)


def test_the_smallest_form_of_the_demo_has_both_seeds() -> None:
    assert smoke(STUDIES["demo"]()).seeds == (0, 1)


@pytest.mark.parametrize("mode", [mode for mode in get_args(Mode) if mode != "grid"])
@pytest.mark.parametrize("name", WITH_AXES)
def test_points_can_be_drawn_along_its_axes_in_every_mode(name: str, mode: Mode) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for study in (STUDIES[name]().in_mode(mode), smoke(STUDIES[name]()).in_mode(mode)):
        assert [arm.name for arm in study.arms] == [study.baseline]
        search = study.search
        trial = optuna.create_study(sampler=search.make_sampler(), directions=search.directions).ask()
        settings = suggest_settings(trial, study.axes)
        assert study.point(0, settings).train == configure(study.arms[0].train, settings)
        if search.split == "val":
            needed = {route for name in search.objectives for route in OBJECTIVES[name].routes}
            assert needed <= set(study.evaluation.routes)
    assert smoke(STUDIES[name]()).in_mode(mode).search.trials == 3


def test_the_smallest_form_of_the_inversion_study_runs(tmp_path: Path) -> None:
    study = smoke(inversion())
    train(replace(study.arms[0].train, device="cpu"), tmp_path, progress=False)
    found = evaluate(
        load_encoder(str(tmp_path), device="cpu"),
        load_dataset("emoji", split="test", limit=study.limit),
        load_dataset("emoji", split="val", limit=study.limit),
        config=study.evaluation,
        provenance=Provenance(study="inversion", arm="baseline", seed=0, pairs_seen=1, config_hash="c"),
    )
    curve = [
        row
        for row in found.rows
        if (row.task, row.split, row.metric, row.selection) == ("image-subgroup", "test", "mAP", "curve")
    ]
    assert {(row.route, row.setting, row.steps) for row in curve} == {
        (route, f"learning rate {rate}", steps)
        for rate in ("0.005", "0.02")
        for route, steps in (("untrained_tokens", 0), ("oti", 2), ("oti", 4))
    }
    assert [row for row in found.rows if row.route == "oti" and row.selection == "val"]


# what single studies promise


def test_the_demo_on_emoji_is_defined_as_it_was() -> None:
    given = STUDIES["demo"]("emoji").definition()
    assert set(given) == {
        "name", "baseline", "dataset", "limit", "evaluation", "arms",
        "mode", "search", "processes",
    }  # fmt: skip
    assert list(given["arms"]) == ["baseline", "image-image", "centroid", "learnable"]
    assert given["evaluation"]["plans"]["text"]["snapshots"] == [0, 5, 10, 17, 25, 50, 75, 100, 150]
    assert given["evaluation"]["plans"]["image"]["config"]["steps"] == 60


def test_the_inversion_study_has_72_settings_on_the_models_of_the_demo() -> None:
    study, demo = inversion(), STUDIES["demo"]()
    assert (study.arms, study.seeds) == (demo.arms, demo.seeds)
    plan = study.evaluation.plans["text"]
    assert len(plan.configs) * sum(step > 0 for step in plan.snapshots) == 72
    assert len(plan.batches) == 1
    assert 0 in plan.snapshots  # without it there is no untrained_tokens


def test_the_gap_study_has_every_gap_recipe_and_the_ladder() -> None:
    arms = {arm.name: arm.train.objective for arm in gap().arms}
    ladder = [objective.temperature.initial for name, objective in arms.items() if "-x" not in name]
    assert ladder == [0.01, 0.02, 0.04, 0.07, 0.1, 0.2, 0.4, 1.0]
    for name, recipe in RECIPES.items():
        if recipe.family == "gap":
            assert arms[f"{name}-x100"] == recipe().objective
            for multiple, words in ((0.25, "x025"), (4.0, "x400")):
                scaled = arms[f"{name}-{words}"]
                for term, weight in recipe.weights.items():
                    assert scaled.weights[term] == weight * multiple
                for modifier, strength in recipe().objective.modifiers.items():
                    assert scaled.modifiers[modifier] == strength * multiple
                assert scaled.weights["clip"] == 1.0


@pytest.mark.parametrize("world", ["scenes", "emoji"])
def test_arms_that_another_study_has_are_trained_alike(world: str) -> None:
    names = ("map", "intra", "gap", "claims", "demo")
    by_name = {name: {arm.name: arm.train for arm in STUDIES[name](world).arms} for name in names}
    known = by_name["map"]
    assert by_name["intra"]["image-w100"] == known["image-image"]
    assert by_name["intra"]["both-w100"] == known["image-image-text-text"]
    assert by_name["gap"]["temperature-04"] == known["temperature-04"]
    assert by_name["gap"]["mmd-x100"] == known["mmd"]
    assert by_name["claims"]["centroid"] == known["centroid"]
    in_demo = replace(by_name["demo"]["centroid"], steps=known["centroid"].steps)
    assert in_demo == known["centroid"]
    assert (in_demo == by_name["demo"]["centroid"]) == (world == "emoji")


def test_the_intra_study_tells_the_head_from_the_views() -> None:
    arms = {arm.name: arm.train for arm in STUDIES["intra"]().arms}
    two_by_two = {
        name: ("image_ntxent_head" in arms[name].objective.weights, arms[name].extra_augment == STRONG)
        for name in ("image-w100", "image-strong", "head", "slip")
    }
    assert two_by_two == {
        "image-w100": (False, False),
        "image-strong": (False, True),
        "head": (True, False),
        "slip": (True, True),
    }
    both = {
        name: sum(weight for term, weight in config.objective.weights.items() if term != "clip")
        for name, config in arms.items()
        if name.startswith("both")
    }
    assert both == {"both-w025": 0.25, "both-w050": 0.5, "both-w100": 1.0, "both-w200": 2.0}


def test_the_factorial_is_full() -> None:
    cells = {
        (
            arm.train.objective.weights.get("image_ntxent", 0.0),
            arm.train.objective.weights.get("centroid_penalty", 0.0),
            arm.train.objective.temperature.initial,
        )
        for arm in factorial().arms
    }
    assert cells == {(a, b, t) for a in (0.0, 1.0) for b in (0.0, 1.0) for t in (0.01, 0.07)}
    assert len(factorial().arms) == 8


def test_the_claims_are_measured_by_every_route_and_have_their_controls() -> None:
    study = STUDIES["claims"]()
    assert study.evaluation.routes == tuple(ROUTES)
    assert len(study.seeds) == 5
    said = inspect.getdoc(STUDIES["claims"]) or ""
    quoted = set(re.findall(r"``([a-z0-9-]+)``", said))
    assert quoted <= {arm.name for arm in study.arms}
    words = set(re.findall(r"[a-z]+(?:_[a-z]+)+", said)) - {"same_other_auc"}
    assert words <= set(ROUTES)
    assert {"extra-views", "matched-compute", "images-alone", "steps-quarter", "steps-half"} <= quoted


def test_after_the_baseline_what_trains_longest_comes_first_within_a_seed() -> None:
    cells = demo().cells()
    assert [seed for _, seed in cells] == [0] * 4 + [1] * 4
    assert [arm for arm, _ in cells[:4]] == ["baseline", "image-image", "centroid", "says-all"]
    assert [arm for arm, _ in cells[4:]] == ["image-image", "baseline", "centroid", "says-all"]  # three views


def test_findings_alone_opens_the_sealed_split_and_its_smoke_form_does_not() -> None:
    sealed = {name for name in STUDIES if any(s.split == "sealed" for s in STUDIES[name]().searches.values())}
    assert sealed == {"findings"}
    study = STUDIES["findings"]()
    assert study.search.split == "sealed"
    assert smoke(study).search.split == "test"
    others = {seed for name in STUDIES if name != "findings" for seed in STUDIES[name]().seeds}
    assert not others & set(study.seeds)
    assert len(study.seeds) == 8


def test_findings_crosses_what_captions_say_with_recipes_as_its_plan_lists_them() -> None:
    study = STUDIES["findings"]()
    of_mention: dict[Any, list[str]] = {}
    for arm in study.arms:
        of_mention.setdefault(SceneOptions.parse(arm.train.data).mention, []).append(arm.train.recipe)
    assert {mention: len(recipes) for mention, recipes in of_mention.items()} == {0.3: 12, 0.0: 5, 1.0: 5}
    assert of_mention[0.0] == of_mention[1.0] == of_mention[0.3][:5]
    assert study.dataset == WORLDS["scenes"]
    elsewhere = STUDIES["findings"]("emoji")
    assert [(arm.name, arm.train.data) for arm in elsewhere.arms] == [("baseline", "emoji")]
    cost = " + ".join(f"{len(made.cells())} x {made.core_seconds} s" for made in (study, elsewhere))
    assert cost in (DOCS / "plan.md").read_text()


def test_more_seeds_are_those_that_follow_a_study_s_own() -> None:
    assert _plan("findings", None, None, smoke=False, seeds=2).seeds == (100, 101)
    assert _plan("findings", None, None, smoke=False, seeds=9).seeds == (*range(100, 109),)
    assert _plan("demo", None, None, smoke=False, seeds=4).seeds == (0, 1, 2, 3)
