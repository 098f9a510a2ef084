from __future__ import annotations

import json
import math
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from crossgap.command import run_command
from crossgap.encoders.loading import load_encoder
from crossgap.errors import InputError
from crossgap.files import read_json, read_lines
from pretrain.config import TrainConfig, smoke
from pretrain.loop import Run
from pretrain.recipes import RECIPES
from pretrain.run import train
from pretrain.settings import ModelConfig, ObjectiveConfig, TemperatureConfig, WeightSchedule
from pretrain.state import TrainingState
from pretrain.terms import TERMS, Term
from pretrain.terms.modifiers import MODIFIERS
from pretrain.train import main
from pretrain.update import NonFiniteLoss
from tests.commands import Process
from tests.training_shards import write_shard

TIMES = {"seconds", "pairs_per_second"}


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_shard(tmp_path_factory.mktemp("shards") / "shapes.tar"))


def config(shard: str, **changes: Any) -> TrainConfig:
    small = TrainConfig(
        recipe="test",
        data=shard,
        steps=7,
        batch_size=8,
        warmup_steps=2,
        stored_size=20,
        device="cpu",
        threads=1,
        log_every=1,
        checkpoint_every=3,
        model=ModelConfig(image_size=16, patch_size=8, width=16, layers=2, heads=2, embed_dim=8),
    )
    return replace(small, **changes)


def weights(out: Path) -> dict[str, torch.Tensor]:
    path = out / "checkpoints" / read_json(out / "checkpoints" / "latest")["folder"]
    return load_file(path / "open_clip_model.safetensors")


def metrics(out: Path) -> list[dict[str, Any]]:
    lines = read_lines(out / "metrics.jsonl")
    return [{name: value for name, value in line.items() if name not in TIMES} for line in lines]


@contextmanager
def interrupted_at(step: int) -> Iterator[None]:
    """Let runs be interrupted, as by Ctrl-C, before they go on from this step."""
    advance = Run.advance

    def interrupt(run: Run) -> None:
        if run.step == step:
            raise KeyboardInterrupt
        advance(run)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Run, "advance", interrupt)
        yield


def assert_equal_runs(one: Path, two: Path) -> None:
    assert metrics(one) == metrics(two)
    first, second = weights(one), weights(two)
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


@pytest.mark.parametrize("interrupted_after", [1, 3, 5])
def test_a_resumed_run_equals_an_uninterrupted_one(
    shard: str, tmp_path: Path, interrupted_after: int
) -> None:
    terms = [name for name, term in TERMS.items() if term.module is not None or term.random]
    objective = ObjectiveConfig(
        weights={
            "clip": 1.0,
            "image_ntxent": 0.5,
            "coral": 1.0,
            "text_ntxent_dropout": 0.5,
            **dict.fromkeys(terms, 0.1),
        },
        modifiers={"swap_soft": 0.5},
        schedules={"coral": WeightSchedule(start=0.3, ramp=0.5)},
        temperature=TemperatureConfig(regime="learnable", initial=0.07),
    )
    whole = config(shard, objective=objective)
    train(whole, tmp_path / "whole", progress=False)
    with interrupted_at(interrupted_after), pytest.raises(KeyboardInterrupt):
        train(whole, tmp_path / "resumed", progress=False)
    result = train(whole, tmp_path / "resumed", progress=False)
    assert result.pairs_seen == 7 * 8
    assert result.checkpoint.name == "step-000007"
    assert_equal_runs(tmp_path / "whole", tmp_path / "resumed")
    assert [line["step"] for line in metrics(tmp_path / "resumed")] == list(range(1, 8))


def test_a_killed_run_resumes_by_the_same_command(shard: str, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    (tmp_path / "trains.py").write_text(
        "import sys, pathlib, tests.pretrain.test_train as t; from pretrain.run import train; "
        "config = t.config(sys.argv[1], steps=2000, checkpoint_every=5); "
        "train(config, pathlib.Path(sys.argv[2]), progress=False)"
    )
    process = Process("trains", shard, str(out), cwd=tmp_path)
    latest = out / "checkpoints" / "latest"
    deadline = time.monotonic() + 60
    while not latest.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    done = read_json(latest)["step"]
    assert done < 2000
    recorded = read_json(out / "config.json")
    shorter = config(shard, steps=2000, checkpoint_every=5)
    assert recorded["config"] == shorter.as_json()

    advanced: list[int] = []
    advance = Run.advance

    def few(run: Run) -> None:
        if len(advanced) == 3:
            raise KeyboardInterrupt
        advanced.append(run.step)
        advance(run)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Run, "advance", few)
        with pytest.raises(KeyboardInterrupt):
            train(shorter, out, progress=False)
    assert advanced == [done, done + 1, done + 2]
    assert [line["step"] for line in metrics(out)] == list(range(1, done + 4))


def test_weight_0_for_every_term_trains_exactly_the_baseline(shard: str, tmp_path: Path) -> None:
    train(config(shard, steps=3), tmp_path / "baseline", progress=False)
    objective = ObjectiveConfig(
        weights={**dict.fromkeys(TERMS, 0.0), "clip": 1.0}, modifiers=dict.fromkeys(MODIFIERS, 0.0)
    )
    train(config(shard, steps=3, objective=objective), tmp_path / "zero", progress=False)
    assert_equal_runs(tmp_path / "baseline", tmp_path / "zero")


def test_arms_start_from_the_same_weights_and_first_views(shard: str, tmp_path: Path) -> None:
    first = []
    for name, changes in {
        "baseline": {},
        "image": {"image_ntxent": 1.0},
        "text": {"text_ntxent": 1.0},
        "gap": {"pair_alignment": 1.0, "centroid_uniformity": 1.0},
    }.items():
        objective = ObjectiveConfig(weights={"clip": 1.0, **changes})
        train(config(shard, steps=1, objective=objective), tmp_path / name, progress=False)
        first.append(metrics(tmp_path / name)[0]["raw/clip"])
    assert len(set(first)) == 1


@pytest.mark.parametrize("shared", ["projection", "towers"])
def test_what_towers_share_stays_shared(shard: str, tmp_path: Path, shared: Any) -> None:
    small = config(shard, steps=4, checkpoint_every=2)
    both = replace(small, model=replace(small.model, shared=shared))
    train(both, tmp_path / "whole", progress=False)
    with interrupted_at(3), pytest.raises(KeyboardInterrupt):
        train(both, tmp_path / "resumed", progress=False)
    train(both, tmp_path / "resumed", progress=False)
    assert_equal_runs(tmp_path / "whole", tmp_path / "resumed")
    found = weights(tmp_path / "whole")
    assert torch.equal(found["visual.proj"], found["text_projection"])
    pairs = [(name, name.removeprefix("visual.")) for name in found if name.startswith("visual.transformer.")]
    assert len(pairs) > 10
    for image, text in pairs:
        assert torch.equal(found[image], found[text]) == (shared == "towers"), image
    encoder = load_encoder(str(tmp_path / "whole"))
    assert encoder.embed_dim == small.model.embed_dim


def test_each_term_says_its_own_gradient(shard: str, tmp_path: Path) -> None:
    parts = {"clip": 1.0, "centroid_penalty": 0.5, "image_ntxent_head": 0.1}
    one = config(shard, steps=3, log_every=2, gradient_clip=None, term_gradients=True)
    for name, weight in parts.items():
        alone = replace(one, objective=ObjectiveConfig(weights={name: weight}))
        train(alone, tmp_path / name, progress=False)
        for line in metrics(tmp_path / name):
            assert line[f"gradient/{name}"] == pytest.approx(line["gradient_norm"], rel=1e-5)
    train(replace(one, objective=ObjectiveConfig(weights=parts)), tmp_path / "all", progress=False)
    train(replace(one, objective=ObjectiveConfig(weights=parts), term_gradients=False), tmp_path / "plain")
    with_norms = metrics(tmp_path / "all")
    assert [line["step"] for line in with_norms] == [2, 3]
    for line, plain in zip(with_norms, metrics(tmp_path / "plain"), strict=True):
        norms = [line.pop(f"gradient/{name}") for name in parts]
        assert line == plain  # a look at the gradients changes nothing
        assert max(norms) <= sum(norms)
        assert line["gradient_norm"] <= sum(norms) * (1 + 1e-5)


def test_seeds_differ(shard: str, tmp_path: Path) -> None:
    for seed in (0, 1):
        train(config(shard, steps=1, seed=seed), tmp_path / str(seed), progress=False)
    assert metrics(tmp_path / "0") != metrics(tmp_path / "1")


def test_the_global_generator_is_left_alone(shard: str, tmp_path: Path) -> None:
    before = torch.get_rng_state()
    train(config(shard, steps=1), tmp_path, progress=False)
    assert torch.equal(torch.get_rng_state(), before)


def test_training_learns_and_metrics_say_so(shard: str, tmp_path: Path) -> None:
    temperature = TemperatureConfig(regime="learnable", initial=0.07)
    objective = ObjectiveConfig(weights={"clip": 1.0, "centroid_penalty": 0.5}, temperature=temperature)
    steps = 60
    train(config(shard, steps=steps, log_every=4, objective=objective), tmp_path, progress=False)
    lines = read_lines(tmp_path / "metrics.jsonl")
    assert [line["step"] for line in lines] == list(range(4, steps + 1, 4))
    assert lines[-1]["raw/clip"] < 0.6 * math.log(8) < lines[0]["raw/clip"]
    for line in lines:
        assert line["weighted/centroid_penalty"] == pytest.approx(0.5 * line["raw/centroid_penalty"])
        assert line["loss"] == pytest.approx(line["raw/clip"] + line["weighted/centroid_penalty"])
        assert line["pairs_per_second"] > 0
        assert line["gradient_norm"] > 0
    assert lines[0]["temperature"] == pytest.approx(0.07, rel=0.05)
    assert lines[-1]["temperature"] != lines[0]["temperature"]
    assert weights(tmp_path)["logit_scale"].neg().exp().item() == pytest.approx(
        lines[-1]["temperature"], rel=0.01
    )


@pytest.mark.parametrize("rate", [0.5, 4.0])
def test_the_temperature_has_a_learning_rate_of_its_own(shard: str, tmp_path: Path, rate: float) -> None:
    # the first AdamW step moves a parameter by its learning rate, whatever the size of the gradient
    temperature = TemperatureConfig(regime="learnable", initial=0.07, rate=rate)
    settings = config(shard, steps=1, warmup_steps=0, objective=ObjectiveConfig(temperature=temperature))
    train(settings, tmp_path, progress=False)
    moved = weights(tmp_path)["logit_scale"].item() - math.log(1 / 0.07)
    assert abs(moved) == pytest.approx(rate * settings.learning_rate, rel=1e-3)


def test_a_fixed_temperature_stays(shard: str, tmp_path: Path) -> None:
    train(config(shard, steps=2), tmp_path, progress=False)
    assert [line["temperature"] for line in metrics(tmp_path)] == pytest.approx([0.01, 0.01])
    assert weights(tmp_path)["logit_scale"].item() == pytest.approx(math.log(100))


@pytest.mark.parametrize(
    ("regime", "expected"),
    [
        ("linear", [0.01, 0.02, 0.03, 0.04, 0.05]),
        ("cosine", [0.03 - 0.02 * math.cos(math.pi * step / 4) for step in range(5)]),
    ],
)
def test_a_scheduled_temperature_follows_its_curve_and_resumes(
    shard: str, tmp_path: Path, regime: Any, expected: list[float]
) -> None:
    temperature = TemperatureConfig(regime=regime, initial=0.01, final=0.05)
    settings = config(shard, steps=5, checkpoint_every=2, objective=ObjectiveConfig(temperature=temperature))
    train(settings, tmp_path / "whole", progress=False)
    assert [line["temperature"] for line in metrics(tmp_path / "whole")] == pytest.approx(expected)
    assert weights(tmp_path / "whole")["logit_scale"].item() == pytest.approx(math.log(1 / 0.05))
    with interrupted_at(3), pytest.raises(KeyboardInterrupt):
        train(settings, tmp_path / "again", progress=False)
    train(settings, tmp_path / "again", progress=False)
    for name, value in weights(tmp_path / "whole").items():
        assert torch.equal(value, weights(tmp_path / "again")[name]), name


def test_a_finished_run_is_left_as_it_is(shard: str, tmp_path: Path) -> None:
    first = train(config(shard, steps=2), tmp_path, progress=False)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert train(config(shard, steps=2), tmp_path, progress=False) == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_another_config_in_the_same_directory_is_refused(shard: str, tmp_path: Path) -> None:
    train(config(shard, steps=2), tmp_path, progress=False)
    other = config(shard, steps=3, objective=ObjectiveConfig(weights={"clip": 2.0}))
    with pytest.raises(InputError) as caught:
        train(other, tmp_path, progress=False)
    assert "steps was 2, now 3" in str(caught.value)
    assert "objective.weights.clip was 1.0, now 2.0" in str(caught.value)
    assert "seed" not in str(caught.value)


def test_other_data_under_the_same_name_are_refused(tmp_path: Path) -> None:
    path = write_shard(tmp_path / "a.tar")
    with interrupted_at(4), pytest.raises(KeyboardInterrupt):
        train(config(str(path)), tmp_path / "run", progress=False)
    write_shard(path, [[f"thing {index}"] for index in range(16)])
    with pytest.raises(InputError, match="trained on other data"):
        train(config(str(path)), tmp_path / "run", progress=False)


def test_seconds_count_on_after_a_resume(shard: str, tmp_path: Path) -> None:
    with interrupted_at(4), pytest.raises(KeyboardInterrupt):
        train(config(shard), tmp_path, progress=False)
    progress = tmp_path / "checkpoints" / "step-000003" / "state.json"
    progress.write_text(json.dumps({**read_json(progress), "seconds": 1000.0}))
    assert 1000 < train(config(shard), tmp_path, progress=False).seconds < 1100


@pytest.mark.parametrize("log_every", [1, 10])
def test_a_loss_that_is_not_finite_stops_the_run_at_its_step(
    shard: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log_every: int
) -> None:
    updates: list[float] = []
    update = TrainingState.update

    def counted(state: TrainingState, learning_rate: float) -> None:
        updates.append(learning_rate)
        update(state, learning_rate)

    monkeypatch.setattr(TrainingState, "update", counted)
    wild = config(shard, learning_rate=1e30, warmup_steps=0, log_every=log_every)
    with pytest.raises(NonFiniteLoss, match=r"step 2: the loss is not finite: loss=nan, clip=nan") as caught:
        train(wild, tmp_path, progress=False)
    assert caught.value.step == 2
    assert set(caught.value.parts) == {"loss", "clip", "gradient_norm"}
    assert len(updates) == 1  # the weights that gave the loss are not updated again
    assert [line["step"] for line in metrics(tmp_path)] == ([1] if log_every == 1 else [])
    assert not (tmp_path / "checkpoints").exists()


def test_bfloat16_trains(shard: str, tmp_path: Path) -> None:
    train(config(shard, steps=2, precision="bf16"), tmp_path / "bf16", progress=False)
    train(config(shard, steps=2), tmp_path / "fp32", progress=False)
    low, high = metrics(tmp_path / "bf16")[0]["loss"], metrics(tmp_path / "fp32")[0]["loss"]
    assert low != high
    assert low == pytest.approx(high, rel=0.05)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps=0: must be at least 1"),
        ({"batch_size": 1}, "batch_size=1"),
        ({"learning_rate": -1.0}, "learning_rate=-1.0"),
        ({"gradient_clip": math.nan}, "gradient_clip=nan"),
        ({"threads": 0}, "threads=0"),
        ({"betas": (0.9, 1.0)}, "betas"),
        ({"precision": "bf61"}, "Did you mean 'bf16'"),
        ({"schedule": "cosin"}, "Did you mean 'cosine'"),
        ({"batch_size": 17}, "number of pairs, 16"),
        ({"device": "cup"}, "device"),
        ({"accumulate": 3}, "accumulate=3: must divide batch_size=8"),
        ({"accumulate": 2, "term_gradients": True}, "term_gradients with accumulate=2"),
    ],
)
def test_bad_settings_are_refused(shard: str, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        train(config(shard, **change), tmp_path, progress=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patch_size": 5}, "image_size=32 is no multiple of patch_size=5"),
        ({"heads": 3}, "no multiple of heads=3"),
        ({"layers": 0}, "layers=0"),
        ({"context_length": 2}, "context_length=2"),
    ],
)
def test_bad_sizes_are_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ModelConfig(**change)


@pytest.mark.parametrize("name", RECIPES)
def test_recipes(name: str) -> None:
    recipe = RECIPES[name]()
    assert recipe.recipe == name
    assert json.loads(json.dumps(recipe.as_json())) == recipe.as_json()
    arm, base = recipe.as_json(), RECIPES["baseline"]().as_json()
    changed = {key for key in arm if arm[key] != base[key]}
    # arms differ in what they minimise, or in what they are a control of, and in nothing else
    allowed = {"model": {"model"}, "control": {"objective", "steps"}}
    loss = {"objective", "extra_augment"}  # the first views stay those of the baseline
    assert changed - {"recipe"} <= allowed.get(RECIPES[name].family, loss)
    assert (name == "baseline") == (changed == set())


def test_a_constant_learning_rate_stays() -> None:
    settings = TrainConfig(recipe="test", steps=20, warmup_steps=4, learning_rate=1.0, schedule="constant")
    assert [settings.rate(step) for step in range(6)] == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1])
    assert settings.rate(19) == 1


@pytest.mark.slow
def test_checkpoints_are_validated_and_the_best_is_kept(tmp_path: Path) -> None:
    small = replace(smoke(RECIPES["baseline"]()), steps=9, checkpoint_every=2, threads=1, device="cpu")
    train(replace(small, validation="emoji"), tmp_path / "run", progress=False)
    lines = read_lines(tmp_path / "run" / "validation.jsonl")
    assert [line["step"] for line in lines] == [2, 4, 6, 8, 9]
    for line in lines:
        assert set(line) >= {
            "gap/centroid_distance",
            "image-text/hit@1",
            "image-subgroup/mAP",
            "text-concept/mAP",
        }
        assert all(0 <= line[name] <= 1 for name in line if "mAP" in name or "hit" in name)
    best = max(lines, key=lambda line: line["image-text/hit@1"])  # the first of equals
    folder = tmp_path / "run" / "checkpoints"
    named = read_json(folder / "best")
    assert (named["step"], named["value"]) == (best["step"], best["image-text/hit@1"])
    kept = {path.name for path in folder.glob("step-*")}
    assert kept == {"step-000008", "step-000009", named["folder"]}
    train(small, tmp_path / "plain", progress=False)
    assert_equal_runs(tmp_path / "plain", tmp_path / "run")  # looking changes nothing


def test_what_terms_need_of_the_data_is_checked_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shard = str(write_shard(tmp_path / "a.tar", [[f"thing {index}"] for index in range(16)]))
    command = ["--smoke", "--data", shard, "--out", str(tmp_path / "out"), "--device", "cpu"]
    for more, message in (
        (["--weights", "clip", "1", "image_supervised", "1",
          "--schedules", "image_supervised", "0.6", "1", "0"],
         "not every sample of the data names one"),
        (["--recipe", "separation-semantic", "--semantics", str(tmp_path / "none.npz")],
         "none.npz: no such file"),
        (["--semantics", "none.npz"], "no term of the objective weighs by meaning"),
        (["--weights", "clip", "1", "coral", "1", "--schedules", "coral", "0.8", "0.2", "0"],
         "schedule of coral: start=0.8, stop=0.2, ramp=0"),
    ):  # fmt: skip
        assert run_command(main, [*command, *more]) == 2
        assert message in capsys.readouterr().err.replace("\n", " ")
        assert not (tmp_path / "out").exists()


def test_other_sentence_embeddings_under_the_same_name_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"thing {index}" for index in range(16)]
    shard = str(write_shard(tmp_path / "a.tar", [[name] for name in names]))
    vectors = tmp_path / "vectors.npz"

    def write(seed: int) -> None:
        values = np.random.default_rng(seed).normal(size=(16, 4))
        np.savez(vectors, ids=names, values=values, modality="text")

    out = tmp_path / "run"
    command = ["--smoke", "--data", shard, "--out", str(out), "--device", "cpu"]
    command += ["--recipe", "separation-semantic", "--semantics", str(vectors)]
    write(0)
    with interrupted_at(4):
        assert run_command(main, command) == 130
    write(1)
    assert run_command(main, command) == 2
    assert "was trained on other data" in capsys.readouterr().err.replace("\n", " ")
    write(0)
    assert run_command(main, command) == 0


def test_a_term_that_is_no_number_is_named(shard: str, tmp_path: Path) -> None:
    before = dict(TERMS)
    try:
        TERMS["vector"] = Term(
            function=lambda image, text: image.sum(1), inputs=("image_BD", "text_BD"), acts_on="across"
        )
        objective = ObjectiveConfig(weights={"clip": 1.0, "vector": 1.0})
        with pytest.raises(InputError, match=r"term vector gave a tensor of shape \(8,\)"):
            train(config(shard, objective=objective), tmp_path, progress=False)
    finally:
        TERMS.clear()
        TERMS.update(before)
    with pytest.raises(InputError, match="Did you mean 'text_BD'"):
        Term(function=lambda image, text: image.sum(), inputs=("image_BD", "txt_BD"), acts_on="across")


@pytest.mark.parametrize(
    ("inputs", "acts_on", "message"),
    [
        (("image_BD", "text_BD"), "images", "unknown acts_on of a term 'images'"),
        (("image_BD", "second_image_BD"), "text", "takes no view of text"),
        (("text_BD", "dropout_text_BD"), "both", "takes no view of image"),
        (("image_BD", "concept_B"), "across", "takes no view of text"),
    ],
)
def test_a_term_says_what_it_acts_on_and_sees_it(inputs: tuple[str, ...], acts_on: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Term(function=lambda *views: views[0].sum(), inputs=inputs, acts_on=acts_on)
    with pytest.raises(TypeError, match="acts_on"):
        Term(function=lambda *views: views[0].sum(), inputs=inputs)  # type: ignore[call-arg]


def test_a_run_records_what_its_terms_act_on(shard: str, tmp_path: Path) -> None:
    before = dict(TERMS)
    try:
        TERMS["own"] = Term(
            function=lambda image, text: (image * text.detach()).mean(),
            inputs=("image_BD", "text_BD"),
            acts_on="image",
        )
        weights = {"clip": 1.0, "own": 1.0, "text_vicreg": 0.0, "in_modal_uniformity": 0.5}
        train(config(shard, objective=ObjectiveConfig(weights=weights)), tmp_path, progress=False)
    finally:
        TERMS.clear()
        TERMS.update(before)
    recorded = read_json(tmp_path / "config.json")["acts_on"]
    assert recorded == {
        "clip": "across",
        "own": "image",
        "text_vicreg": "text",
        "in_modal_uniformity": "both",
    }


def test_a_model_card_lies_beside_a_checkpoint(shard: str, tmp_path: Path) -> None:
    objective = ObjectiveConfig(weights={"clip": 1.0, "coral": 0.5}, modifiers={"label_smoothing": 0.1})
    path = train(config(shard, objective=objective), tmp_path, progress=False).checkpoint
    card = (path / "README.md").read_text()
    for part in (
        ", coral weight 0.5, ",
        ", step 7",
        "recipe: none (test)",
        "clip x 1, coral x 0.5; label_smoothing 0.1",
        "16 pairs",
        "56 pairs, 7 of 7",
    ):
        assert part in card, part
    assert "create_model_and_transforms" in card


def test_learning_rate_warms_up_and_falls_to_nothing() -> None:
    settings = TrainConfig(recipe="test", steps=100, warmup_steps=10, learning_rate=1.0)
    rates = [settings.rate(step) for step in range(101)]
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert rates[10] == 1.0
    assert rates[55] == pytest.approx(0.5)
    assert rates[100] == pytest.approx(0.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    short = TrainConfig(recipe="test", steps=4, warmup_steps=10, learning_rate=1.0)
    assert [short.rate(step) for step in range(4)] == pytest.approx([0.5, 1.0, 1.0, 0.5])


def test_the_command_trains_writes_its_result_last_and_does_nothing_twice(
    shard: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    command = ["--smoke", "--data", shard, "--out", str(out), "--device", "cpu", "--steps", "2"]
    assert run_command(main, command) == 0
    result = read_json(out / "result.json")
    assert result["state"] == "complete"
    assert result["pairs_seen"] == 2 * smoke(RECIPES["baseline"]()).batch_size
    assert (out / result["checkpoint"] / "open_clip_model.safetensors").exists()
    shown = capsys.readouterr()
    assert "step 2/2" in shown.err
    before = os.stat(out / "result.json").st_mtime_ns
    assert run_command(main, command) == 0
    assert "already finished" in capsys.readouterr().out
    assert os.stat(out / "result.json").st_mtime_ns == before


def test_the_command_takes_an_objective(shard: str, tmp_path: Path) -> None:
    more = [
        *(
            "--weights",
            "clip",
            "1",
            "coral",
            "0.5",
            "image_ntxent",
            "0.1",
            "--schedules",
            *("coral", "0.5", "1", "0"),
            *("image_ntxent", "0", "1", "0.25", "0.5"),  # the fall may be left out or given
        ),
        *("--modifiers", "label_smoothing", "0.1", "--extra-views", "strong", "--accumulate", "2"),
    ]
    command = ["--smoke", "--data", shard, "--out", str(tmp_path), "--device", "cpu", "--steps", "2", *more]
    assert run_command(main, command) == 0
    written = read_json(tmp_path / "config.json")["config"]
    assert written["objective"]["schedules"] == {
        "coral": {"start": 0.5, "stop": 1.0, "ramp": 0.0, "fall": 0.0},
        "image_ntxent": {"start": 0.0, "stop": 1.0, "ramp": 0.25, "fall": 0.5},
    }
    assert written["objective"]["modifiers"] == {"label_smoothing": 0.1}
    assert written["extra_augment"]["area"] == [0.3, 1.0]
    (line,) = metrics(tmp_path)
    assert line["raw/coral"] > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--recipe", "baselin"], "Did you mean 'baseline'"),
        (["--modifiers", "label_smothing", "1"], "Did you mean 'label_smoothing'"),
        (["--schedules", "coral", "0.5", "0.2", "0"], "must be 0 <= start < stop <= 1"),
        (["--schedules", "coral", "0", "1", "0.6", "0.5"], "ramp and fall together no longer"),
        (["--accumulate", "3"], "accumulate=3: must divide batch_size=128"),
        (["--weights", "clip", "1", "image_ntxnt", "1"], "Did you mean 'image_ntxent'"),
        (["--data", "nowhere/{000..001}.tar"], "nowhere/000.tar: no such file"),
        (["--precision", "bf61"], "Did you mean 'bf16'"),
    ],
)
def test_the_command_ends_a_user_error_with_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert run_command(main, [*options, "--out", str(tmp_path)]) == 2
    shown = capsys.readouterr().err
    assert message in shown.replace("\n", "")
    assert "Traceback" not in shown
