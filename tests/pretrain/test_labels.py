"""What runs are called: words of what was trained, whatever recipe it began as."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ablations.study.files import read_study
from analysis.report import write_report
from analysis.study import read_runs
from crossgap.files import read_json
from crossgap.metrics.intervals import Bootstrap
from pretrain.config import TrainConfig, smoke
from pretrain.labels import about_run, arm_name, changes_of_recipe, description_of, label_of
from pretrain.recipes import KNOWN_RECIPES, RECIPES, on_scenes
from pretrain.run import train
from pretrain.settings import TemperatureConfig
from tests.synthetic_study import SyntheticArm, SyntheticStudy, write_study
from tests.training_shards import small_config, write_shard

BASELINE = RECIPES["baseline"]()


def tempered(config: TrainConfig, **settings: Any) -> TrainConfig:
    objective = replace(config.objective, temperature=TemperatureConfig(**settings))
    return replace(config, objective=objective)


def weighted(**weights: float) -> TrainConfig:
    return replace(BASELINE, objective=replace(BASELINE.objective, weights={"clip": 1.0, **weights}))


def test_what_the_smoke_form_makes_smaller_is_a_change_of_the_recipe() -> None:
    changed = changes_of_recipe(smoke(BASELINE))
    assert changed["steps"] == (BASELINE.steps, 6)
    assert changed["limit"] == (None, 64)
    assert changed["model.width"] == (BASELINE.model.width, 32)


@pytest.mark.parametrize("name", KNOWN_RECIPES)
def test_a_recipe_has_its_own_words(name: str) -> None:
    config = KNOWN_RECIPES[name]()
    assert label_of(config) == KNOWN_RECIPES[name].label
    assert description_of(config) == KNOWN_RECIPES[name].description
    assert changes_of_recipe(config) == {}
    assert arm_name(config) == name


@pytest.mark.parametrize(
    ("config", "label"),
    [
        (tempered(BASELINE, initial=0.05), "CLIP, temperature .05"),
        (tempered(BASELINE, initial=0.04), "temperature .04"),
        (
            tempered(BASELINE, regime="learnable", initial=0.1, rate=0.5),
            "CLIP, learnable temperature from .1, 0.5 times the learning rate",
        ),
        (
            tempered(BASELINE, regime="linear", initial=0.02, final=0.3),
            "CLIP, temperature .02 to .3, linear",
        ),
        (
            replace(tempered(BASELINE, initial=0.05), model=replace(BASELINE.model, width=64)),
            "CLIP, temperature .05, model width 64",
        ),
        (tempered(RECIPES["slip"](), initial=0.05), f"{RECIPES['slip'].label}, temperature .05"),
        (weighted(image_ntxent=1.0), "+ image-image"),
        (weighted(image_ntxent=0.5), "+ image-image, image_ntxent weight 0.5"),
        (replace(BASELINE, learning_rate=3e-4, recipe="mine"), "CLIP, temperature .01, learning rate 0.0003"),
        (replace(BASELINE, data="/home/x/shards/{0..3}.tar"), "CLIP, temperature .01, data {0..3}.tar"),
        (smoke(BASELINE), "CLIP, temperature .01, smoke form"),
        (on_scenes(BASELINE, "scenes:mention=0.6"), "CLIP, temperature .01, mention 0.6, on scenes"),
    ],
)
def test_a_label_says_what_is_trained(config: TrainConfig, label: str) -> None:
    assert label_of(config) == label
    assert label_of(replace(config, recipe="matched-compute")) == label


def test_a_description_says_no_temperature_but_its_own() -> None:
    assert description_of(tempered(BASELINE, initial=0.05)) == "CLIP loss alone, temperature .05"
    assert description_of(replace(BASELINE, steps=900)) == f"{RECIPES['baseline'].description}; steps = 900"


def test_beside_a_baseline_what_both_share_goes_without_saying() -> None:
    base = replace(tempered(BASELINE, initial=0.05), steps=900)
    arm = replace(tempered(RECIPES["centroid"](), initial=0.05), steps=900)
    assert label_of(base, beside=base) == "CLIP, temperature .05"
    assert label_of(arm, beside=base) == "+ centroid penalty"
    assert label_of(replace(arm, ema=0.9), beside=base) == "+ centroid penalty, ema 0.9"


def test_arms_are_one_for_seeds_alone() -> None:
    changed = tempered(BASELINE, initial=0.05)
    assert arm_name(changed) == arm_name(replace(changed, seed=7, threads=3, device="cuda"))
    assert len({arm_name(c) for c in (BASELINE, changed, replace(BASELINE, steps=900), smoke(BASELINE))}) == 4


def test_a_long_list_of_changes_is_counted() -> None:
    many = replace(
        BASELINE, learning_rate=3e-4, weight_decay=0.2, steps=900, batch_size=64, ema=0.9, accumulate=2,
        stored_size=48,
    )  # fmt: skip
    assert label_of(many).endswith(", 2 more settings")


def test_a_run_says_what_it_changes_in_its_recipe(tmp_path: Path) -> None:
    shard = str(write_shard(tmp_path / "0.tar"))
    config = tempered(small_config(shard), initial=0.05)
    checkpoint = train(config, tmp_path / "run", progress=False).checkpoint
    recorded = read_json(tmp_path / "run" / "config.json")
    assert recorded["changed"]["objective.temperature.initial"] == [0.01, 0.05]
    assert recorded["label"].startswith("CLIP, temperature .05")
    assert recorded["used"]["device"] == "cpu"
    assert recorded["used"]["parameters"] > recorded["used"]["trained"] > 0
    card = (checkpoint / "README.md").read_text()
    assert f"# {recorded['label']}, step" in card
    assert "temperature 0.05 (the recipe's: 0.01)" in card


def test_a_study_keeps_its_own_label(tmp_path: Path) -> None:
    shard = str(write_shard(tmp_path / "0.tar"))
    config = small_config(shard)
    checkpoint = train(config, tmp_path / "run", progress=False, label="mine").checkpoint
    assert read_json(tmp_path / "run" / "config.json")["label"] == "mine"
    assert (checkpoint / "README.md").read_text().startswith("# mine, step")
    assert about_run(config)["label"] != "mine"


def test_the_baseline_of_a_file_is_called_after_its_settings(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(
        "[train]\nobjective.temperature.initial = 0.05\n[[arms]]\nname = 'a'\nrecipe = 'image-image'\n"
        "[[arms]]\nname = 'b'\nrecipe = 'temperature-04'\n[arms.train]\nsteps = 20\n"
    )
    arms = read_study(path).arms
    assert [arm.label for arm in arms] == [
        "CLIP, temperature .05",
        "+ image-image",
        "CLIP, temperature .05, steps 20",
    ]
    assert arms[0].description == "CLIP loss alone, temperature .05"


@pytest.mark.slow
def test_the_report_of_a_study_at_another_temperature_says_that_one(tmp_path: Path) -> None:
    path = tmp_path / "warm.toml"
    path.write_text(
        "[train]\nobjective.temperature.initial = 0.05\n[[arms]]\nname = 'a'\nrecipe = 'image-image'\n"
    )
    arms = tuple(
        SyntheticArm(name=arm.name, label=arm.label, description=arm.description, temperature=0.05)
        for arm in read_study(path).arms
    )
    study = read_runs([write_study(tmp_path / "warm", SyntheticStudy(arms=arms, pictures=False))])
    write_report(study, tmp_path / "report", ("html", "md"), Bootstrap(resamples=50))
    text = (tmp_path / "report" / "report.html").read_text()
    assert "CLIP, temperature .05" in text
    assert "CLIP loss alone, temperature .05" in text
    assert "temperature .01" not in text
    assert "temperature fixed at .01" not in text
    assert "CLIP, temperature .05" in (tmp_path / "report" / "arms.md").read_text()
