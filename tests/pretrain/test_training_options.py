"""What changes how a run computes, or what it starts from: averages, recomputation, compilation, locks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from open_clip.transformer import QuickGELU
from safetensors.torch import load_file, save_file
from torch._dynamo.utils import counters

from ablations.study.named import STUDIES
from crossgap.encoders.devices import time_of_bf16
from crossgap.encoders.loading import load_encoder
from crossgap.errors import InputError
from crossgap.files import read_json, read_lines
from pretrain.checkpoint import load_checkpoint
from pretrain.config import TrainConfig
from pretrain.data import views
from pretrain.data.pairs import load_pairs
from pretrain.loop import Run
from pretrain.recipes import FINE_TUNING
from pretrain.run import train
from pretrain.settings import ModelConfig, ObjectiveConfig, TemperatureConfig
from pretrain.terms.infonce import info_nce
from pretrain.train import main
from tests import commands
from tests.training_shards import small_config as config
from tests.training_shards import write_shard

ROOT = Path(__file__).resolve().parent.parent.parent
ALL = ObjectiveConfig(weights={"clip": 1.0, "image_vicreg": 0.1, "text_vicreg": 0.1, "text_ntxent": 0.5})


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_shard(tmp_path_factory.mktemp("shards") / "shapes.tar"))


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    return load_file(checkpoint / "open_clip_model.safetensors")


def same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def run_of(given: TrainConfig, out: Path) -> Run:
    pairs = load_pairs(given.data, image_size=max(64, 224 if given.encoder else 0), context_length=32)
    return Run(given, out, pairs, None, 0.0)


# ------------------------------------------------------------------------------------------------ averages


@pytest.mark.parametrize("shared", ["nothing", "towers"])
def test_the_average_is_that_of_the_weights_after_each_step(tmp_path: Path, shard: str, shared: Any) -> None:
    given = config(
        shard, ema=0.75, model=ModelConfig(width=32, layers=2, heads=2, embed_dim=32, shared=shared)
    )
    run = run_of(given, tmp_path)
    expected = {name: tensor.double() for name, tensor in run.state.weights().items()}
    for _ in range(4):
        run.advance()
        for name, tensor in run.state.weights().items():
            expected[name] = 0.75 * expected[name] + 0.25 * tensor.double()
    before = {name: tensor.clone() for name, tensor in run.state.weights().items()}
    averaged = run.state.averaged_weights()
    assert averaged is not None
    for name, tensor in averaged.items():
        torch.testing.assert_close(tensor.double(), expected[name], atol=1e-6, rtol=1e-5)
    assert same(run.state.weights(), before)


def test_an_averaged_run_trains_as_one_without_and_is_resumed_to_the_same_bits(
    tmp_path: Path, shard: str
) -> None:
    plain = train(config(shard), tmp_path / "plain", progress=False).checkpoint
    given = config(shard, ema=0.9)
    whole = train(given, tmp_path / "whole", progress=False).checkpoint
    assert same(weights(plain), weights(whole))
    assert not same(weights(whole), weights(whole / "ema"))
    assert not (plain / "ema").exists()
    shutil.copytree(tmp_path / "whole", tmp_path / "half")
    last = tmp_path / "half" / "checkpoints" / whole.name
    shutil.rmtree(last)
    again = train(given, tmp_path / "half", progress=False).checkpoint
    assert again == last
    assert same(weights(again / "ema"), weights(whole / "ema"))
    read = open_clip.create_model(f"local-dir:{whole / 'ema'}")
    assert torch.equal(read.visual.proj, weights(whole / "ema")["visual.proj"])
    (whole / "ema" / "open_clip_model.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match=r"ema/open_clip_model\.safetensors is not the file"):
        load_checkpoint(whole)


# ----------------------------------------------------------------------------- other ways to the same thing


def test_the_loss_of_parts_is_that_of_the_batch() -> None:
    rows = torch.nn.functional.normalize(torch.randn(2, 12, 5, dtype=torch.float64), dim=-1).requires_grad_()
    for smoothing in (0.0, 0.1):
        whole = info_nce(*rows, temperature=0.1, label_smoothing=smoothing)
        parts = [
            info_nce(*rows, temperature=0.1, label_smoothing=smoothing, rows=slice(k, k + 4))
            for k in (0, 4, 8)
        ]
        torch.testing.assert_close(sum(parts) / 3, whole, atol=1e-12, rtol=0)
        ours, theirs = (torch.autograd.grad(loss, rows)[0] for loss in (sum(parts) / 3, whole))
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)


def test_two_processes_with_a_local_loss_log_and_train_what_one_does(tmp_path: Path, shard: str) -> None:
    given = [
        "--smoke", "--data", shard, "--device", "cpu", "--threads", "1", "--batch-size", "8", "--weights",
        "clip", "1", "centroid_penalty", "0.5", "--steps", "12",
    ]  # fmt: skip
    alone = commands.run("pretrain.train", *given, "--out", str(tmp_path / "one"))
    more = ("--local-loss", "--accumulate", "2", "--out", str(tmp_path / "two"))
    for done in (alone, *commands.run_processes(2, "pretrain.train", *given, *more)):
        assert done.returncode == 0, done.stderr
    one, other = (read_lines(tmp_path / out / "metrics.jsonl") for out in ("one", "two"))
    assert len(one) == len(other) == 6
    for ours, theirs in zip(one, other, strict=True):
        for name in ("loss", "raw/clip", "weighted/centroid_penalty", "gradient_norm"):
            assert theirs[name] == pytest.approx(ours[name], rel=1e-4), (name, ours["step"])  # float32


@pytest.mark.parametrize("options", [{}, {"accumulate": 2}])
def test_recomputed_activations_train_to_the_same_bits(
    tmp_path: Path, shard: str, options: dict[str, Any]
) -> None:
    given = config(shard, objective=ALL, **options)
    kept = train(given, tmp_path / "kept", progress=False).checkpoint
    again = train(replace(given, recompute=True), tmp_path / "again", progress=False).checkpoint
    assert same(weights(kept), weights(again))


def test_recomputation_keeps_less(tmp_path: Path, shard: str) -> None:
    held = []
    for recompute in (False, True):
        model = ModelConfig(width=32, layers=6, heads=2, embed_dim=32)
        run = run_of(config(shard, recompute=recompute, model=model), tmp_path)
        kept: dict[int, int] = {}

        def keep(tensor: torch.Tensor, kept: dict[int, int] = kept) -> torch.Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            run.embed(run.batches.batch(0), ("image_BD", "text_BD"), step=0)
        held.append(sum(kept.values()))
    assert held[1] < 0.6 * held[0]


@pytest.mark.slow
def test_compiled_towers_train_the_same_up_to_rounding(
    tmp_path: Path, shard: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Graphs, lengths and gradients as compiled; the last step, machine code of a graph, is torch's own."""
    monkeypatch.setattr(views.torch, "compile", partial(torch.compile, backend="aot_eager"))
    views._compiled.cache_clear()
    counters.clear()
    losses = []
    model = ModelConfig(width=16, layers=1, heads=1, embed_dim=16)
    for compiled in (False, True):
        run = run_of(config(shard, compiled=compiled, model=model), tmp_path)
        losses.append([])
        for _ in range(3):  # captions of other lengths
            run.advance()
            losses[-1].append(run.loss.total.item())
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)
    assert counters["stats"]["unique_graphs"] == 2  # a tower each: other lengths compile nothing anew
    assert not counters["graph_break"]
    views._compiled.cache_clear()


# --------------------------------------------------------------------------------------------- fine-tuning


@pytest.fixture(scope="module")
def existing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP with other widths in its towers, QuickGELU and colours of its own, in open_clip's layout."""
    folder = tmp_path_factory.mktemp("existing")
    about = {
        "embed_dim": 24,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 32, "patch_size": 16, "width": 48, "layers": 2, "head_width": 16},
        "text_cfg": {"context_length": 20, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
    }
    preprocess = {
        "size": [32, 32], "mode": "RGB", "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25],
        "interpolation": "bicubic", "resize_mode": "shortest", "fill_color": 0,
    }  # fmt: skip
    torch.manual_seed(3)
    model = open_clip.CLIP(**about)
    assert any(isinstance(module, QuickGELU) for module in model.modules())
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": about, "preprocess_cfg": preprocess})
    )
    save_file(
        {name: tensor.contiguous() for name, tensor in model.state_dict().items()},
        folder / "open_clip_model.safetensors",
    )
    return folder


def fine_tuned(shard: str, existing: Path, **changes: Any) -> TrainConfig:
    given = FINE_TUNING["fine-tune-04"]()
    return replace(
        given, data=shard, encoder=str(existing), pretrained=None, steps=4, batch_size=8, device="cpu",
        threads=1, log_every=1, stored_size=20, **changes,
    )  # fmt: skip


def test_fine_tuning_starts_from_the_encoder_and_saves_what_open_clip_reads(
    tmp_path: Path, shard: str, existing: Path
) -> None:
    objective = replace(ALL, temperature=TemperatureConfig(initial=0.04))
    given = fine_tuned(shard, existing, learning_rate=1e-3, objective=objective)
    path = train(given, tmp_path / "run", progress=False).checkpoint
    before, after = weights(existing), weights(path)
    assert before.keys() == after.keys()
    far = max(float((after[name] - before[name]).abs().max()) for name in before if name != "logit_scale")
    assert 0 < far < 0.01  # four steps of at most the learning rate, weight decay apart
    assert after["logit_scale"].exp().item() == pytest.approx(25)
    assert read_json(path / "open_clip_config.json") == read_json(existing / "open_clip_config.json")
    assert load_encoder(str(path), device="cpu").image_width == 48
    card = (path / "README.md").read_text()
    assert "fine-tuned from" in card
    assert "of width 48" in card  # the loaded towers', not those of a small model
    recorded = read_json(tmp_path / "run" / "config.json")
    assert "model" not in recorded["config"]  # nothing was built of it
    held = read_json(existing / "open_clip_config.json")
    assert recorded["used"]["model"] == held["model_cfg"]
    train(given, tmp_path / "run", progress=False)  # the same settings are taken for the same


def test_a_step_of_fine_tuning_sees_the_features_of_the_encoder(
    tmp_path: Path, shard: str, existing: Path
) -> None:
    given = fine_tuned(shard, existing)
    still = replace(given, augment=replace(given.augment, area=(1.0, 1.0), ratio=(1.0, 1.0)))
    pairs = load_pairs(shard, image_size=32, context_length=20)
    run = Run(still, tmp_path, pairs, None, 0.0)
    batch = run.batches.batch(0)
    views = run.embed(batch, ("image_BD", "text_BD"), step=0)
    encoder = load_encoder(str(existing), device="cpu")
    pixels = (batch.images["image"] - 0.5) / 0.25
    torch.testing.assert_close(views["image_BD"], encoder.encode_image(pixels), atol=1e-5, rtol=0)
    ids_BL = pairs.vocabulary_V[batch.texts["text"].ids_BL]
    torch.testing.assert_close(views["text_BD"], encoder.encode_text(ids_BL), atol=1e-5, rtol=0)


@pytest.mark.parametrize("tower", ["image", "text"])
def test_a_locked_tower_stays_as_it_is(tmp_path: Path, shard: str, existing: Path, tower: Any) -> None:
    given = fine_tuned(shard, existing, locked=(tower,), ema=0.5)
    path = train(given, tmp_path / "run", progress=False).checkpoint
    before, after = weights(existing), weights(path)
    moved = {name for name in before if not torch.equal(before[name], after[name])} - {"logit_scale"}
    assert moved
    assert all(name.startswith("visual.") is (tower == "text") for name in moved)
    again = train(replace(given), tmp_path / "run", progress=False)
    assert again.checkpoint == path


def test_what_cannot_be_fine_tuned_is_refused(tmp_path: Path, shard: str, existing: Path) -> None:
    with pytest.raises(InputError, match="both towers"):
        fine_tuned(shard, existing, locked=("image", "text"))
    with pytest.raises(InputError, match="without an encoder"):
        config(shard, pretrained="openai")
    with pytest.raises(InputError, match=r"encoder.*ViT-B-33"):
        train(replace(fine_tuned(shard, existing), encoder="ViT-B-33", pretrained="openai"), tmp_path / "y")
    assert not list(tmp_path.iterdir())


def test_the_ladder_differs_in_its_temperature_alone() -> None:
    ladder = [recipe() for recipe in FINE_TUNING.values()]
    assert [c.objective.temperature.initial for c in ladder] == [0.01, 0.02, 0.04, 0.07, 0.1, 0.2, 0.4, 1.0]
    first = replace(ladder[0], recipe="")
    for other in ladder:
        assert replace(other, recipe="", objective=first.objective) == first


# ------------------------------------------------------------------------------------------- real processes

_KILLED = """
import os, signal, sys
import pretrain.checkpoint as checkpoints
from pretrain.train import main
whole, at, left = checkpoints.{function}, {at}, [{number}]
def dying(*given, **options):
    left[0] -= 1
    if left[0]:
        return whole(*given, **options)
    if at == "half":
        whole(*given, **options)
        path = given[1]
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    os.kill(os.getpid(), signal.SIGKILL)
checkpoints.{function} = dying
main(**{options})
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("function", "at", "number"),
    [
        ("save_file", "half", 4),
        ("_sync", "before", 9),
        ("write_json", "before", 2),
        ("write_json", "before", 1),
    ],
)
def test_a_run_killed_while_it_writes_a_checkpoint_ends_with_the_same_bits(
    tmp_path: Path, shard: str, function: str, at: str, number: int
) -> None:
    options: dict[str, Any] = {"smoke": True, "data": shard, "device": "cpu", "threads": 1, "batch_size": 8}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    main(**options, out=whole)
    script = _KILLED.format(function=function, at=repr(at), number=number, options={**options, "out": None})
    script = script.replace("'out': None", f"'out': __import__('pathlib').Path({str(killed)!r})")
    (tmp_path / "dies.py").write_text(script)
    died = commands.run("dies", cwd=tmp_path)
    assert died.returncode == -9, died.stderr
    main(**options, out=killed)
    folders: Sequence[Path] = [
        out / "checkpoints" / read_json(out / "checkpoints" / "latest")["folder"] for out in (whole, killed)
    ]
    assert same(*(weights(folder) for folder in folders))
    assert not list((killed / "checkpoints").glob(".*"))
    times = {"seconds", "pairs_per_second"}
    ours, theirs = (
        [{k: v for k, v in line.items() if k not in times} for line in read_lines(out / "metrics.jsonl")]
        for out in (whole, killed)
    )
    assert ours == theirs


# ------------------------------------------------------------------------------------------------ precision


def test_auto_takes_what_a_probe_finds_faster_and_stays_with_it(
    shard: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def kept() -> str:
        return str(read_json(tmp_path / "config.json")["config"]["precision"])

    monkeypatch.setattr("pretrain.run.time_of_bf16", lambda device: 0.5)
    asked = config(shard, steps=2, precision="auto", checkpoint_every=2)
    train(asked, tmp_path, progress=False)
    assert kept() == "bf16"
    assert "precision bf16: a product in bf16 takes 0.50 of the time in fp32 here" in capsys.readouterr().err
    monkeypatch.setattr("pretrain.run.time_of_bf16", lambda device: 3.0)
    train(asked, tmp_path, progress=False)  # there already, in another precision than the probe would choose
    assert kept() == "bf16"
    train(asked, tmp_path / "slow", progress=False)
    assert read_json(tmp_path / "slow" / "config.json")["config"]["precision"] == "fp32"


def test_the_probe_times_products_of_both_kinds() -> None:
    assert 0 < time_of_bf16(torch.device("cpu")) < 1000


def test_a_study_names_its_precision() -> None:
    study = STUDIES["demo"]("emoji")
    arms = tuple(replace(arm, train=replace(arm.train, precision="auto")) for arm in study.arms)
    with pytest.raises(InputError, match="arm 'baseline': precision 'auto' would make numbers depend on the"):
        replace(study, arms=arms)
