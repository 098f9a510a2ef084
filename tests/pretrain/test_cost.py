"""What a training costs beforehand, and what is said when it does not fit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from crossgap.command import run_command
from crossgap.errors import InputError
from crossgap.files import read_json, write_json
from pretrain import cost, run, train
from pretrain.config import TrainConfig, smoke
from pretrain.cost import PEAKS, SHARE_OF_PEAK, in_words, step_cost
from pretrain.recipes import KNOWN_RECIPES, LARGE, RECIPES
from pretrain.settings import ModelConfig, ObjectiveConfig
from pretrain.start import start_model
from tests import commands
from tests.tiny_towers import EMBED, RESNET, TEXT
from tests.training_shards import small_config, write_shard

BOTH = ObjectiveConfig(weights={"clip": 1.0, "image_ntxent": 1.0, "mmd": 1.0})


def given(**changes: Any) -> TrainConfig:
    return replace(small_config("x.tar", batch_size=24, objective=BOTH), **changes)


def test_operations_are_those_that_a_step_of_the_batch_makes() -> None:
    config = given()
    forward, backward, _ = cost._counted(replace(config, data="emoji"), start_model(config), 24)
    assert step_cost(config).operations == forward + backward


def test_activations_are_those_that_a_forward_pass_of_the_batch_keeps() -> None:
    config = given()
    start = start_model(config)
    _, _, held = cost._counted(replace(config, data="emoji"), start, 24)
    assert step_cost(config).activations == pytest.approx(held, rel=0.01)
    half, of_half = step_cost(replace(config, accumulate=2)), replace(config, data="emoji")
    assert half.activations == pytest.approx(cost._counted(of_half, start, 12)[2], rel=0.01)
    assert half.operations > 1.2 * step_cost(config).operations  # the towers run forward twice
    assert step_cost(replace(config, recompute=True)).activations < 0.9 * step_cost(config).activations


def test_a_transformer_costs_what_its_sizes_say() -> None:
    """Two operations a weight and token, thrice: forward, and backward for weights and for inputs."""
    width, layers, pixels = 64, 4, 64
    model = ModelConfig(width=width, layers=layers, heads=2, embed_dim=width, image_size=pixels, patch_size=8)
    found = step_cost(given(model=model, objective=ObjectiveConfig()))
    tokens = (pixels // 8) ** 2 + 1 + cost.CAPTION_TOKENS
    products = 3 * 2 * 12 * width**2 * layers * tokens * 24
    assert found.operations == pytest.approx(products, rel=0.25)  # less the last layer's rest, more attention
    weights = 12 * width**2 * layers * 2 + 49408 * width
    assert found.parameters == pytest.approx(weights, rel=0.05)
    assert found.kept == pytest.approx(16 * found.parameters, rel=0.01)  # of four bytes each


def test_what_it_costs_is_said_in_words_and_nothing_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = given(steps=10**9)
    found = step_cost(config)
    hours = config.steps * found.operations / (SHARE_OF_PEAK * PEAKS["fp32"]["A100"]) / 3600
    assert f"{hours:.1f} h on one A100" in in_words(config, found)
    code = run_command(train.main, ["--smoke", "--dry-run", "--out", str(tmp_path / "run")])
    assert code == 0
    said = capsys.readouterr().out
    assert "parameters:  1.6 million" in said
    assert "less than a minute on one H100" in said
    assert "Nothing was trained" in said
    assert not (tmp_path / "run").exists()


def test_a_model_on_its_own_pass_is_counted_with_captions_of_full_length(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_text(
        json.dumps({"embed_dim": EMBED, "vision_cfg": RESNET, "text_cfg": {**TEXT, "context_length": 24}})
    )
    config = replace(given(), architecture=str(path))
    assert "captions of 24 tokens" in in_words(config, step_cost(config))
    assert f"captions of {cost.CAPTION_TOKENS} tokens" in in_words(given(), step_cost(given()))


@pytest.mark.parametrize("name", LARGE)
def test_a_large_recipe_fits_one_gpu_and_a_day_by_arithmetic(name: str) -> None:
    """The smallest model with its loss and views stands for it; its size is counted by --dry-run."""
    config = LARGE[name]()
    assert config.batch_size in range(1024, 4097)
    assert config.steps * config.batch_size == 102_400_000
    assert config.warmup_steps == round(0.08 * config.steps)
    assert (config.precision, config.loading) == ("bf16", "resampled")
    assert config.model.image_size in (112, 224)
    assert config.stored_size > config.model.image_size  # crops are cut of more
    assert config.extra_augment is not None
    arm = name.split("-", 2)[2]
    small = RECIPES["baseline" if arm == "clip" else arm]()
    assert config.objective.weights == small.objective.weights
    assert step_cost(smoke(config)).operations > 0


def test_large_recipes_of_one_size_differ_in_their_objective_and_in_what_is_kept_alone() -> None:
    for pixels in (112, 224):
        configs = [LARGE[name]() for name in LARGE if f"-{pixels}-" in name]
        first = configs[0]
        for config in configs:
            alike = replace(config, recipe=first.recipe, objective=first.objective, recompute=first.recompute)
            assert alike == first
            assert config.objective.temperature == first.objective.temperature


def test_a_large_recipe_is_trained_in_its_smallest_form(tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "a.tar")
    config = replace(
        smoke(KNOWN_RECIPES["cc3m-224-slip"]()), data=str(shard), workers=0, steps=2, batch_size=8,
        device="cpu", threads=1, log_every=1,
    )  # fmt: skip
    assert config.limit is None
    assert run.train(config, tmp_path / "run", progress=False).pairs_seen == 16


# what torch says on a GPU and on a CPU, and Python
ERRORS = {
    "cuda": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has ..."),
    "cpu": RuntimeError(
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried "
        "to allocate 4398046511104 bytes. Error code 12 (Cannot allocate memory)"
    ),
    "python": MemoryError(),
}


@pytest.mark.parametrize("kind", ERRORS)
def test_out_of_memory_says_what_to_lower(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    shard = str(write_shard(tmp_path / "a.tar"))
    steps = {"left": 4}

    def scarce(self: Any, *parts: Any) -> None:
        steps["left"] -= 1
        if steps["left"] == 0:
            raise ERRORS[kind]
        plenty(self, *parts)

    plenty = run.Run.advance
    monkeypatch.setattr(run.Run, "advance", scarce)
    given = ["--smoke", "--data", shard, "--device", "cpu", "--threads", "1", "--batch-size", "8"]
    command = [*given, "--out", str(tmp_path / "run")]
    assert run_command(train.main, command) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "out of memory" in said
    for setting in ("--accumulate 2", "--recompute", "--batch-size, 8 now", "model.image_size, 32 now"):
        assert setting in said
    assert not list((tmp_path / "run").rglob(".*"))
    assert not (tmp_path / "run" / "result.json").exists()
    steps["left"] = -1
    assert run_command(train.main, command) == 0  # from the checkpoint before


def test_a_tensor_that_is_too_large_for_this_machine_is_told_as_one() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**55, dtype=torch.uint8)
    assert cost._is_out_of_memory(caught.value)
    assert not cost._is_out_of_memory(RuntimeError("shape mismatch"))


def test_a_config_of_another_version_is_named(tmp_path: Path) -> None:
    config = small_config(str(write_shard(tmp_path / "a.tar")), steps=2)
    run.train(config, tmp_path / "run", progress=False)
    path = tmp_path / "run" / "config.json"
    recorded = read_json(path)
    recorded["config"] |= {"mixture": 3, "extra_augment": {"blur": 0.1}}
    recorded["config"]["model"]["experts"] = 4
    write_json(path, {**recorded, "versions": "crossgap=9.9", "commit": "abc"})
    with pytest.raises(InputError) as caught:
        run.train(config, tmp_path / "run", progress=False)
    said = str(caught.value)
    assert "another version (crossgap=9.9, commit abc)" in said
    for name in ("mixture", "model.experts", "extra_augment.blur"):
        assert name in said


def test_help_knows_the_dry_run() -> None:
    said = commands.run("pretrain.train", "--help").stdout
    assert "--dry-run" in said
    assert "--model" in said
