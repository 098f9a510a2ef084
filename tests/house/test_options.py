"""Settings of commands: by path, in files, and as the file that a call prints to be repeated."""

from __future__ import annotations

import re
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from crossgap import evaluate, invert
from crossgap.command import run_command
from crossgap.errors import InputError
from crossgap.files import read_json, read_lines
from crossgap.records import read_rows
from crossgap.settings.changes import as_table, changed, dotted, overlaid
from crossgap.settings.documents import read_value, write_yaml
from pretrain import run as running
from pretrain import train as training
from pretrain.config import TrainConfig
from pretrain.configure import configure
from pretrain.recipes import KNOWN_RECIPES, RECIPES
from pretrain.settings import ObjectiveConfig, TemperatureConfig, WeightSchedule
from tests.training_shards import small_config, write_shard

# one recipe of each family, and the fine-tuning ones
SOME = ("baseline", "learnable", "slip", "centroid", "shared-towers", "matched-compute", "fine-tune-100")


def train_of(out: Path, *arguments: str) -> int:
    return run_command(
        training.main,
        ["--smoke", "--threads", "1", "--out", str(out), *arguments],
        settings=training.SETTINGS,
        example=training.EXAMPLE,
    )


def config_of(out: Path) -> dict[str, Any]:
    config: dict[str, Any] = read_json(out / "config.json")["config"]
    return config


# values, paths, tables


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3), ("1e-3", 1e-3), ("true", True), ("[0.9, 0.95]", [0.9, 0.95]), ("null", None),
        ("bf16", "bf16"), ("a photo of {}", "a photo of {}"), ('"3"', "3"), ("a:b=1", "a:b=1"),
        ("1\nother = 2", "1\nother = 2"), ("", ""),
    ],
)  # fmt: skip
def test_a_value_is_read_as_it_looks(text: str, value: object) -> None:
    assert read_value(text) == value
    assert type(read_value(text)) is type(value)


def test_later_settings_take_the_place_of_earlier_ones_and_of_their_parts() -> None:
    earlier = {"a.b": 1, "a.c": 2, "d": None, "e": 3}
    assert overlaid(earlier, {"a.b": 5}) == {"a.b": 5, "a.c": 2, "d": None, "e": 3}
    assert overlaid(earlier, {"a": None}) == {"a": None, "d": None, "e": 3}
    assert overlaid(earlier, {"d.x": 1}) == {"a.b": 1, "a.c": 2, "d.x": 1, "e": 3}


def test_an_entry_that_is_nothing_leaves_its_mapping() -> None:
    base = RECIPES["image-image"]()
    assert configure(base, {"objective.weights.image_ntxent": None}).objective.weights == {"clip": 1.0}
    with pytest.raises(InputError, match="it wants a whole number"):
        configure(base, {"steps": None})
    assert configure(base, {"gradient_clip": None}).gradient_clip is None


@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize("other", SOME)
def test_any_config_is_made_again_from_its_table_and_any_other(name: str, other: str) -> None:
    config = replace(
        KNOWN_RECIPES[name](),
        objective=replace(
            KNOWN_RECIPES[name]().objective,
            weights={"clip": 1.0, "mmd": 0.5},
            schedules={"mmd": WeightSchedule(start=0.5)},
        ),
    )
    base = replace(KNOWN_RECIPES[other](), recipe=name)
    document = yaml.safe_load(write_yaml(as_table(config, base)))
    assert changed(base, dotted(document)) == config


# commands


def test_set_reaches_every_field_and_a_printed_file_repeats_the_call(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [
        "--recipe", "slip", "--set", "model.width=48", "objective.temperature.initial=0.05",
        "betas=[0.9, 0.95]", "gradient_clip=null", "--weights", "clip", "1", "text_ntxent", "0.5",
    ]  # fmt: skip
    assert train_of(tmp_path / "a", *given, "--print-config") == 0
    assert not (tmp_path / "a").exists()
    printed = capsys.readouterr().out
    assert train_of(tmp_path / "a", *given) == 0
    config = config_of(tmp_path / "a")
    assert (config["model"]["width"], config["betas"], config["gradient_clip"]) == (48, [0.9, 0.95], None)
    assert config["objective"]["temperature"]["initial"] == 0.05
    assert config["objective"]["weights"] == {"clip": 1.0, "text_ntxent": 0.5}
    (tmp_path / "a.yaml").write_text(printed)
    again = ["--config", str(tmp_path / "a.yaml"), "--out", str(tmp_path / "b")]
    options = {"settings": training.SETTINGS, "example": training.EXAMPLE}
    assert run_command(training.main, again, **options) == 0
    assert config_of(tmp_path / "b") == config
    capsys.readouterr()
    assert (
        run_command(training.main, ["--config", str(tmp_path / "a.yaml"), "--print-config"], **options) == 0
    )
    assert capsys.readouterr().out == printed


def test_a_file_gives_options_and_settings_and_the_command_line_counts_for_more(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        "recipe = 'image-image'\nsteps = 5\nlearning_rate = 0.002\nseed = 3\n[model]\nwidth = 48\n"
        "[objective.weights]\nimage_ntxent = 0.25\n"
    )
    tomllib.loads(file.read_text())
    given = ["--config", str(file), "--learning-rate", "0.004", "--set", "seed=4", "steps=4"]
    assert train_of(tmp_path / "a", *given) == 0
    config = config_of(tmp_path / "a")
    assert (config["recipe"], config["steps"], config["learning_rate"], config["seed"]) == (
        "image-image", 4, 0.004, 4,
    )  # fmt: skip
    assert config["model"]["width"] == 32  # --smoke shrinks what the file says, and not what is set
    assert config["objective"]["weights"] == {"clip": 1.0, "image_ntxent": 0.25}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("stepps = 3", ["unknown key 'stepps'", "'steps'"]),
        ("track = 3", ["track: 3 is a whole number; it wants a list"]),
        ("[model]\nwidht = 3", ["unknown setting 'widht'", "'width'"]),
    ],
)
def test_a_file_is_refused_by_the_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: list[str]
) -> None:
    (tmp_path / "mine.toml").write_text(text)
    assert train_of(tmp_path / "a", "--config", str(tmp_path / "mine.toml")) == 2
    error = capsys.readouterr().err
    assert all(part in error for part in said)
    assert not (tmp_path / "a").exists()


def test_epochs_are_whole_batches_of_all_pairs(tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "few.tar", [[f"a thing {number}"] for number in range(10)])
    given = ["--data", str(shard), "--batch-size", "4"]
    assert train_of(tmp_path / "a", *given, "--epochs", "3") == 0
    assert config_of(tmp_path / "a")["steps"] == 3 * (10 // 4)
    assert train_of(tmp_path / "b", *given, "--epochs", "0.5") == 0
    assert config_of(tmp_path / "b")["steps"] == 1


# trainings that go on


def long(shard: str, steps: int, **more: Any) -> TrainConfig:
    return small_config(shard, **{"steps": steps, "schedule": "constant", "warmup_steps": 2, **more})


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_shard(tmp_path_factory.mktemp("shards") / "shapes.tar"))


def test_a_training_that_went_on_is_the_longer_one_bit_by_bit(tmp_path: Path, shard: str) -> None:
    from safetensors.torch import load_file

    running.train(long(shard, 5), tmp_path / "a", progress=False)
    longer = running.train(long(shard, 8), tmp_path / "a", progress=False)
    whole = running.train(long(shard, 8), tmp_path / "b", progress=False)
    ours, theirs = (load_file(made.checkpoint / "open_clip_model.safetensors") for made in (longer, whole))
    assert ours.keys() == theirs.keys()
    assert all(ours[name].equal(theirs[name]) for name in ours)
    assert config_of(tmp_path / "a") == config_of(tmp_path / "b")
    assert read_lines(tmp_path / "a" / "metrics.jsonl")[-1]["step"] == 8


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"schedule": "cosine"}, "follows a cosine that ends at 0 after 5 steps"),
        ({"warmup_steps": 50}, "warm-up of 50 steps is cut to half of 5 steps"),
        (
            {
                "objective": ObjectiveConfig(
                    temperature=TemperatureConfig(regime="linear", initial=0.01, final=0.1)
                )
            },
            "temperature is on a schedule",
        ),
        (
            {
                "objective": ObjectiveConfig(
                    weights={"clip": 1.0, "mmd": 1.0}, schedules={"mmd": WeightSchedule(start=0.5)}
                )
            },
            "weight is on a schedule",
        ),
        ({"objective": ObjectiveConfig(weights={"clip": 1.0, "adversarial": 1.0})}, "adversarial depends on"),
    ],
)
def test_a_training_that_cannot_go_on_says_why(
    tmp_path: Path, shard: str, changes: dict[str, Any], reason: str
) -> None:
    running.train(long(shard, 5, **changes), tmp_path, progress=False)
    with pytest.raises(InputError, match=reason):
        running.train(long(shard, 8, **changes), tmp_path, progress=False)
    with pytest.raises(InputError, match=r"learning_rate was .*"):
        running.train(long(shard, 8, learning_rate=0.5, **changes), tmp_path, progress=False)


def test_a_training_cannot_become_shorter_than_it_is(tmp_path: Path, shard: str) -> None:
    running.train(long(shard, 5), tmp_path, progress=False)
    with pytest.raises(InputError, match="it has reached step 5 already"):
        running.train(long(shard, 4), tmp_path, progress=False)


# evaluations that are added to


def evaluated(model: Path, out: Path, *more: str) -> int:
    fast = ["--dataset", "emoji", "--limit", "12", "--steps", "3", "--threads", "1"]
    given = ["--encoder", str(model), "--out", str(out), "--choose", "preset", *fast, *more]
    return run_command(evaluate.main, given, settings=("evaluation",))


def test_what_is_added_to_an_evaluation_is_all_that_is_inverted(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, shared = tmp_path / "a", ["--cache", str(tmp_path / "cache"), "--probes"]
    first = ["--routes", "native", "oti", "--learning-rate", "0.02"]
    assert evaluated(model, out, *shared, *first) == 0
    before = read_rows([out / "rows.jsonl"])
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()}
    assert not (out / "features").exists()
    capsys.readouterr()
    more = ["--routes", "native", "oti", "centred", "--learning-rate", "0.02", "0.1"]
    assert evaluated(model, out, *shared, *more) == 0
    assert "new: 2 encoded, 1 inverted" in capsys.readouterr().err  # what maps are fitted on; the new rate
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    rows = read_rows([out / "rows.jsonl"])
    assert "centred" in set(rows["route"]) - set(before["route"])
    assert {"learning rate 0.02", "learning rate 0.1"} <= set(rows["setting"])
    # what was measured before has the values that it had
    of_before = before[before["selection"] == "curve"][["route", "task", "metric", "steps", "value"]]
    again = rows[rows["setting"] == "learning rate 0.02"]
    again = again[again["selection"] == "curve"][["route", "task", "metric", "steps", "value"]]
    assert len(of_before)
    assert again.reset_index(drop=True).equals(of_before.reset_index(drop=True))
    assert evaluated(model, out, *shared, *first) == 2
    assert "which this call leaves out: route centred" in capsys.readouterr().err
    assert evaluated(model, out, *shared, *more, "--seed", "1") == 2
    assert "seed was 0, now 1" in capsys.readouterr().err
    assert evaluated(model, out, *shared, *more, "--batch-size", "7") == 2
    assert re.search(r"inversion into text \(batch_size was \d+, now 7\)", capsys.readouterr().err)


def test_a_call_that_failed_refuses_no_other(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a"
    first = ["--routes", "native", "oti", "--probes"]
    assert evaluated(model, out, *first, "--set", "evaluation.text.learning_rat=1") == 2
    assert "Did you mean 'learning_rate'" in capsys.readouterr().err
    assert not out.exists()
    assert evaluated(model, out, *first, "--seed", "3", "--learning-rate", "1e30") == 0  # each route says why
    assert evaluated(model, tmp_path / "b", *first, "--set", "evaluation.routes=['native']") == 2
    assert "evaluation.routes is given twice, by --routes and by --set" in capsys.readouterr().err
    assert evaluated(model, tmp_path / "b", *first, "--template", "no place") == 2
    assert not (tmp_path / "b").exists()


def test_a_printed_evaluation_repeats_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--encoder", "ViT-B-32", "--pretrained", "openai", "--template", "a {}", "the {}"]
    assert evaluated(Path("x"), tmp_path, *given, "--set", "evaluation.image.steps=5", "--print-config") == 0
    printed = capsys.readouterr().out
    document = yaml.safe_load(printed)
    assert (document["template"], document["evaluation"]) == (["a {}", "the {}"], {"image": {"steps": 5}})
    (tmp_path / "e.yaml").write_text(printed)
    again = ["--config", str(tmp_path / "e.yaml"), "--print-config"]
    assert run_command(evaluate.main, again, settings=("evaluation",)) == 0
    assert capsys.readouterr().out == printed


def test_invert_takes_any_field_of_its_settings(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"settings": invert.SETTINGS, "example": ""}
    given = ["--encoder", str(model), "--dataset", "emoji", "--limit", "6", "--into", "text", "--steps", "3"]
    given += ["--set", "method=lbfgs", "weight_decay=0", "--out", str(tmp_path / "a")]
    assert run_command(invert.main, [*given, "--print-config"], **options) == 0
    (tmp_path / "i.yaml").write_text(capsys.readouterr().out)
    assert run_command(invert.main, given, **options) == 0
    settings = read_json(tmp_path / "a" / "settings.json")["settings"]
    assert (settings["inversion"]["method"], settings["inversion"]["steps"]) == ("lbfgs", 3)
    again = ["--config", str(tmp_path / "i.yaml"), "--out", str(tmp_path / "b")]
    assert run_command(invert.main, again, **options) == 0
    assert read_json(tmp_path / "b" / "settings.json")["settings"]["inversion"] == settings["inversion"]
