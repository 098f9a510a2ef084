"""The contract of what can be trained: by each family, it trains, resumes, is read by open_clip, inverts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import load_file

from crossgap.datasets.bad import BadSamples
from crossgap.encoders.loading import load_encoder
from crossgap.errors import InputError
from crossgap.files import read_json, read_lines
from crossgap.inversion import InversionConfig, invert
from crossgap.processes import ALONE
from pretrain.architectures import named
from pretrain.architectures.named import read_architecture
from pretrain.architectures.patch_dropout import PatchDropout
from pretrain.config import TrainConfig
from pretrain.configure import configure
from pretrain.data.tokens import clip_tokens, tokens_of
from pretrain.labels import changes_of_recipe, label_of
from pretrain.loop import Run
from pretrain.recipes import RECIPES
from pretrain.run import open_data, train
from pretrain.settings import ModelConfig, ObjectiveConfig
from pretrain.start import start_model
from tests import commands
from tests.tiny_towers import (
    EMBED,
    RESNET,
    T5,
    TEXT,
    VIT,
    piece_tokenizer,
    save_tokenizer,
    siglip_tokenizer,
    timm_vision,
)
from tests.training_shards import small_config, write_shard

# two views of an image before the projection, a teacher, small crops, captions with words left out
ALL_SIDES = ObjectiveConfig(
    weights={"clip": 1.0, "image_ntxent_head": 0.5, "text_ntxent_words": 0.5, "self_distillation": 0.1}
)
PICTURE = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(7))
WORDS = ["a photo of a red bar", "two cats in the park", "dot"]


@dataclass(frozen=True)
class Family:
    """One kind of model: its configuration of open_clip, and what must be said of it."""

    config: dict[str, Any] | None
    packed: bool = False
    patches: bool = True


def siglip_like(tokenizer: str) -> dict[str, Any]:
    text = {
        "vocab_size": 100, "hf_tokenizer_name": tokenizer, "tokenizer_kwargs": {"clean": "canonicalize"},
        "no_causal_mask": True, "proj_bias": True, "pool_type": "last",
    }  # fmt: skip
    return {
        "embed_dim": 32, "init_logit_bias": -10, "custom_text": True,
        "vision_cfg": timm_vision("crossgap_tiny_vit"), "text_cfg": {**TEXT, **text},
    }  # fmt: skip


def clip_like(vision: dict[str, Any]) -> dict[str, Any]:
    return {"embed_dim": EMBED, "vision_cfg": vision, "text_cfg": TEXT}


FAMILIES: dict[str, Callable[[str], Family]] = {
    "own": lambda tokenizer: Family(None, packed=True),
    "vit": lambda tokenizer: Family(clip_like(VIT), packed=True),
    "resnet": lambda tokenizer: Family(clip_like(RESNET), patches=False),
    "siglip": lambda tokenizer: Family(siglip_like(tokenizer)),
    "timm-vit": lambda tokenizer: Family(clip_like(timm_vision("crossgap_tiny_vit", "token", "linear"))),
    "timm-convnext": lambda tokenizer: Family(
        clip_like(timm_vision("test_convnext", "avg", "linear")), patches=False
    ),
}


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_shard(tmp_path_factory.mktemp("shards") / "shapes.tar"))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tokenizer of SigLIP's kind in a folder: no start, its end is its padding."""
    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(piece_tokenizer(T5, "$A </s>"), {**T5, "pad_token": "</s>"}, folder)
    return str(folder)


@dataclass(frozen=True)
class Trained:
    family: Family
    config: TrainConfig
    folder: Path
    checkpoint: Path


@pytest.fixture(scope="module", params=FAMILIES)
def trained(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, shard: str, tokenizer: str
) -> Trained:
    """Two steps of a family."""
    family = FAMILIES[request.param](tokenizer)
    folder = tmp_path_factory.mktemp(request.param)
    config = small_config(shard, steps=2, checkpoint_every=1, log_every=1, objective=ALL_SIDES, ema=0.5)
    if family.config is not None:
        path = folder / f"{request.param}.json"
        path.write_text(json.dumps(family.config))
        config = replace(config, architecture=str(path))
    return Trained(family, config, folder, train(config, folder / "run", progress=False).checkpoint)


def run_of(config: TrainConfig, out: Path) -> Run:
    start = start_model(config)
    data = open_data(config, start, ALONE, BadSamples(limit=0), None)
    return Run(config, out, data, None, 0.0, start=start)


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    return load_file(checkpoint / "open_clip_model.safetensors")


def test_it_trains_and_says_which_pass_it_takes(trained: Trained) -> None:
    first, second = read_lines(trained.folder / "run" / "metrics.jsonl")
    assert first["loss"] != second["loss"]
    assert {name for name in first if name.startswith("raw/")} == {f"raw/{n}" for n in ALL_SIDES.weights}
    used = read_json(trained.folder / "run" / "config.json")["used"]
    assert (used["forward"] == "packed") is trained.family.packed
    moved = weights(trained.folder / "run" / "checkpoints" / "step-000001")
    still = {
        name for name, tensor in weights(trained.checkpoint).items()
        if tensor.is_floating_point() and torch.equal(tensor, moved[name])
    }  # fmt: skip
    assert still <= {"logit_scale", "logit_bias"}  # a fixed temperature, and a bias that no term here has


def test_it_resumes_to_the_same_bits(trained: Trained, tmp_path: Path) -> None:
    shutil.copytree(trained.folder / "run", tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / trained.checkpoint.name)
    again = train(trained.config, tmp_path / "run", progress=False).checkpoint
    assert again != trained.checkpoint
    for name in ("open_clip_model.safetensors", "state.safetensors", "ema/open_clip_model.safetensors"):
        ours, theirs = load_file(again / name), load_file(trained.checkpoint / name)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours), name


@pytest.mark.parametrize("averaged", [False, True])
def test_open_clip_reads_it_with_its_preprocessing_and_tokenizer(trained: Trained, averaged: bool) -> None:
    folder = trained.checkpoint / "ema" if averaged else trained.checkpoint
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokenize = open_clip.get_tokenizer(f"local-dir:{folder}")
    read = model.state_dict()
    for name, tensor in weights(folder).items():
        assert torch.equal(read[name], tensor), name
    start = start_model(trained.config)
    length = start.context_length
    assert torch.equal(tokenize(WORDS), start.tokens.tokenizer(WORDS, context_length=length))
    assert list(preprocess.transforms[-1].mean) == list(start.preprocess_cfg["mean"])


def test_a_step_sees_the_features_of_the_model_that_is_written(trained: Trained, tmp_path: Path) -> None:
    given = trained.config
    plain = replace(given.augment, area=(1.0, 1.0), ratio=(1.0, 1.0), brightness=0, contrast=0, saturation=0)
    run = run_of(replace(given, augment=plain, objective=ObjectiveConfig()), tmp_path)
    run.state.restore(weights(trained.checkpoint), run.state.moments())
    run.model.eval()  # batch norms as they are at rest
    batch = run.batches.batch(0)
    views = run.embed(batch, ("image_BD", "text_BD"), step=0)
    encoder = load_encoder(str(trained.checkpoint), device="cpu")
    pixels = run.embed._colours(batch.images["image"])
    torch.testing.assert_close(views["image_BD"], encoder.encode_image(pixels), atol=1e-5, rtol=0)
    vocabulary_V = run.state.vocabulary_V
    ids_BL = batch.texts["text"].ids_BL if vocabulary_V is None else vocabulary_V[batch.texts["text"].ids_BL]
    torch.testing.assert_close(views["text_BD"], encoder.encode_text(ids_BL), atol=1e-5, rtol=0)


def test_it_inverts(trained: Trained) -> None:
    encoder = load_encoder(str(trained.checkpoint), device="cpu")
    images_BD, texts_BD = encoder.encode_image(PICTURE), encoder.encode_text(WORDS)
    ids, settings = ["a", "b", "c"], InversionConfig(steps=30)
    into_text = invert(encoder, images_BD, into="text", config=settings, item_ids=ids, snapshots=(0,))
    nearer = (into_text.features * images_BD).sum(1) - (into_text.snapshots[0] * images_BD).sum(1)
    assert bool((nearer > 0).all())
    if not trained.family.patches:
        with pytest.raises(InputError, match="takes no pseudo-patches"):
            invert(encoder, texts_BD, into="image", config=settings, item_ids=ids)
        return
    into_image = invert(encoder, texts_BD, into="image", config=settings, item_ids=ids)
    assert into_image.features.shape == texts_BD.shape
    assert bool(torch.isfinite(into_image.features).all())


@pytest.mark.parametrize("name", ["siglip", "resnet"])
def test_other_kinds_of_towers_are_fine_tuned_and_locked(
    tmp_path: Path, shard: str, tokenizer: str, name: str
) -> None:
    path = tmp_path / "model.json"
    path.write_text(json.dumps(FAMILIES[name](tokenizer).config))
    first = train(small_config(shard, steps=1, architecture=str(path)), tmp_path / "a", progress=False)
    given = small_config(shard, steps=2, encoder=str(first.checkpoint), locked=("image",))
    tuned = train(given, tmp_path / "b", progress=False).checkpoint
    before, after = weights(first.checkpoint), weights(tuned)
    moved = {key for key in before if not torch.equal(before[key], after[key])} - {"logit_scale"}
    assert moved
    assert not {key for key in moved if key.startswith("visual.")}  # norms' moments included
    assert (tuned / "tokenizer.json").exists() is (name == "siglip")
    assert read_json(tuned / "open_clip_config.json") == read_json(first.checkpoint / "open_clip_config.json")


def test_a_tokenizer_that_cannot_be_had_is_replaced_and_said(
    tmp_path: Path, shard: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(named, "why_no_hub_files", lambda source, files: "which is nowhere")
    path = tmp_path / "model.json"
    path.write_text(json.dumps(siglip_like("owner/tokenizer")))
    config = small_config(shard, steps=1, architecture=str(path), schedule="constant", warmup_steps=0)
    checkpoint = train(config, tmp_path / "run", progress=False).checkpoint
    said = capsys.readouterr().err
    assert "its tokenizer is 'owner/tokenizer', which is nowhere: CLIP's tokenizer takes its place" in said
    text = read_json(checkpoint / "open_clip_config.json")["model_cfg"]["text_cfg"]
    assert text["vocab_size"] == 49408
    assert "hf_tokenizer_name" not in text
    encoder = load_encoder(str(checkpoint), device="cpu")
    assert type(encoder.tokenizer) is open_clip.SimpleTokenizer
    # once it can be had, the run does not go on with another one than it began with
    monkeypatch.undo()
    save_tokenizer(piece_tokenizer(T5, "$A </s>"), {**T5, "pad_token": "</s>"}, tmp_path / "found")
    path.write_text(json.dumps(siglip_like(str(tmp_path / "found"))))
    with pytest.raises(InputError, match=r"another model: .*hf_tokenizer_name was .*vocab_size was 49408"):
        train(replace(config, steps=2), tmp_path / "run", progress=False)


def test_names_and_sizes_of_open_clip_are_read() -> None:
    read = read_architecture("ViT-S/16", image_size=112, context_length=32)
    assert read.model_cfg["vision_cfg"]["image_size"] == 112
    assert read.model_cfg["text_cfg"]["context_length"] == 32
    assert open_clip.get_model_config("ViT-S-16")["vision_cfg"].get("image_size") == 224  # is left alone


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"vision_cfg": {**VIT, "width": 130}}, r"vision_cfg\.width 130 is no multiple of head_width 16"),
        ({"vision_cfg": {**VIT, "image_size": 30}}, r"image_size 30 is no multiple of patch_size 8"),
        ({"vision_cfg": {**RESNET, "image_size": 40}}, "image_size 40 is no multiple of the stride .* 32"),
        ({"text_cfg": {**TEXT, "heads": 5}}, r"text_cfg\.width 24 is no multiple of heads 5"),
        ({"text_cfg": {**TEXT, "context_length": 2}}, "context_length 2: start, end"),
        ({"text_cfg": {**TEXT, "layers": 0}}, r"text_cfg\.layers 0: must be a whole number of at least 1"),
        ({"vision_cfg": {**VIT, "patch_sise": 8}}, r"vision_cfg\.patch_sise: open_clip .* 'patch_size'"),
        ({"mixer_cfg": {}}, r"mixer_cfg: open_clip \S+ knows no such setting; .* another version"),
        ({"vision_cfg": timm_vision("resnet_of_tomorrow")}, "model of timm 'resnet_of_tomorrow'"),
        ({"vision_cfg": {**timm_vision("crossgap_tiny_vit"), "image_size": 48}}, "no images of 48 pixels"),
        (
            {"embed_dim": 48, "vision_cfg": timm_vision("crossgap_tiny_vit")},
            r"gives 32 numbers an image, and its embed_dim is 48; set embed_dim to 32",
        ),
        ({"text_cfg": None}, "no text_cfg"),
        ({"embed_dim": "wide"}, "embed_dim 'wide'"),
    ],
)
def test_what_does_not_fit_is_named_before_anything_is_read(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    path = tmp_path / "model.json"
    path.write_text(json.dumps({**clip_like(VIT), **changes}))
    with pytest.raises(InputError, match=said):
        train(small_config("nowhere.tar", architecture=str(path)), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_models_that_are_none_are_refused(tmp_path: Path, shard: str) -> None:
    with pytest.raises(InputError, match=r"'ViT-S-17'.* Did you mean 'ViT-S-16'"):
        train(small_config(shard, architecture="ViT-S-17"), tmp_path / "run")
    with pytest.raises(InputError, match="no such file"):
        train(small_config(shard, architecture="nowhere.json"), tmp_path / "run")
    with pytest.raises(InputError, match="starts from one of them"):
        small_config(shard, architecture="RN50", encoder="ViT-B-32")
    with pytest.raises(InputError, match=r"image_size=64 without an architecture.*model\.image_size"):
        small_config(shard, image_size=64)
    with pytest.raises(InputError, match="width=130 is no multiple of heads=4"):
        ModelConfig(width=130)


def test_sizes_of_the_small_model_are_refused_where_another_is_trained(shard: str) -> None:
    given = small_config(shard, architecture="RN50")
    with pytest.raises(InputError, match=r"model\.layers with architecture=RN50: it sets the small CLIP"):
        configure(given, {"model.layers": 6})
    with pytest.raises(InputError, match=r"model\.layers with encoder=ViT-B-32"):
        configure(small_config(shard), {"model.layers": 6, "encoder": "ViT-B-32"})
    with pytest.raises(InputError, match=r"architecture=RN50 \(--model\)"):
        configure(small_config(shard), {"model": "RN50"})
    for name in ("shared-towers", "shared-projection"):
        with pytest.raises(InputError, match="shares parts of the small CLIP, which is not built"):
            replace(RECIPES[name](), architecture="RN50")


def test_what_print_config_writes_of_another_model_can_be_given(tmp_path: Path) -> None:
    call = ("pretrain.train", "--model", "RN50", "--steps", "3")
    printed = commands.run(*call, "--print-config")
    (tmp_path / "mine.yaml").write_text(printed.stdout)
    again = commands.run("pretrain.train", "--config", str(tmp_path / "mine.yaml"), "--print-config")
    assert again.stdout == printed.stdout
    assert "architecture: RN50" in printed.stdout
    assert "layers" not in printed.stdout
    wrong = ("--set", "model.layers=6", "--dry-run")
    ended = commands.run("pretrain.train", "--config", str(tmp_path / "mine.yaml"), *wrong)
    assert ended.returncode == 2
    assert "model.layers with architecture=RN50" in " ".join(ended.stderr.split())


def test_what_only_the_packed_pass_can_do_is_refused_of_others(tmp_path: Path, shard: str) -> None:
    path = tmp_path / "resnet.json"
    path.write_text(json.dumps(clip_like(RESNET)))
    given = small_config(shard, architecture=str(path))
    dropout = ObjectiveConfig(weights={"clip": 1.0, "text_ntxent_dropout": 1.0})
    for changes, said in (
        ({"objective": dropout}, "dropout_text_BD needs the packed pass"),
        ({"compiled": True}, "compiled needs the packed pass"),
        ({"accumulate": 2}, "batch norms.*in parts"),
        ({"recompute": True}, "batch norms.*recompute"),
        ({"patch_dropout": 0.5}, "a ModifiedResNet, has no place"),
    ):
        with pytest.raises(InputError, match=said):
            train(replace(given, **changes), tmp_path / "run", progress=False)


def test_a_batch_in_parts_is_the_batch_without_batch_norms(
    tmp_path: Path, shard: str, tokenizer: str
) -> None:
    path = tmp_path / "siglip.json"
    path.write_text(json.dumps(siglip_like(tokenizer)))
    given = small_config(shard, architecture=str(path))
    whole, parts = (run_of(replace(given, accumulate=count), tmp_path) for count in (1, 4))
    for run in (whole, parts):
        run.advance()
    for name, tensor in whole.state.weights().items():
        torch.testing.assert_close(parts.state.weights()[name], tensor, atol=2e-4, rtol=0, msg=name)
    assert parts.loss.total.item() == pytest.approx(whole.loss.total.item(), abs=1e-5)


def test_patches_that_are_left_out_depend_on_seed_step_part_and_row() -> None:
    states_BLW = torch.arange(6 * 17, dtype=torch.float32).view(6, 17, 1)
    module = PatchDropout(0.75, seed=3)

    def kept(step: int, part: str, first: int, count: int) -> list[list[float]]:
        module.draw_for(step, part, first)
        return module(states_BLW[first : first + count]).squeeze(2).tolist()

    whole = kept(0, "image", 0, 6)
    assert [row[0] for row in whole] == states_BLW[:, 0, 0].tolist()  # the class token stays
    assert all(len(set(row)) == 1 + 4 for row in whole)
    assert len({tuple(value - row[0] for value in row) for row in whole}) == 6  # rows differ
    assert kept(0, "image", 2, 3) == whole[2:5]
    assert kept(1, "image", 0, 6) != whole
    assert kept(0, "second_image", 0, 6) != whole
    assert torch.equal(module.eval()(states_BLW), states_BLW)


def test_training_with_patch_dropout_resumes_and_a_batch_in_parts_sees_the_same(
    tmp_path: Path, shard: str
) -> None:
    given = small_config(
        shard, steps=2, checkpoint_every=1, log_every=1, patch_dropout=0.5, objective=ALL_SIDES
    )
    whole = train(given, tmp_path / "a", progress=False).checkpoint
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    shutil.rmtree(tmp_path / "b" / "checkpoints" / whole.name)
    again = train(given, tmp_path / "b", progress=False).checkpoint
    assert all(torch.equal(tensor, weights(again)[name]) for name, tensor in weights(whole).items())
    train(replace(given, patch_dropout=0.0), tmp_path / "c", progress=False)
    train(replace(given, accumulate=4), tmp_path / "d", progress=False)
    losses = [read_lines(tmp_path / name / "metrics.jsonl")[0]["loss"] for name in ("a", "c", "d")]
    assert losses[0] != losses[1]
    assert losses[2] == pytest.approx(losses[0], abs=1e-4)


def test_a_run_of_another_architecture_says_so_and_not_the_sizes_of_the_small_one(shard: str) -> None:
    given = small_config(shard, architecture="folder/mine.json")
    assert "architecture mine.json" in label_of(given)
    assert "width" not in label_of(given)
    assert not {name for name in changes_of_recipe(given) if name.startswith("model.")}
    assert "model" not in given.as_used()
    assert "architecture" not in small_config(shard).as_json()  # a run of an earlier version goes on


def test_lengths_of_captions_are_those_of_their_tokenizer() -> None:
    tokens = tokens_of(siglip_tokenizer(), 16, 100)
    ids_BL, lengths_B = tokens(["a cat", "a big red fish in the park", ""])
    assert (tokens.edges.start, tokens.edges.end) == (0, 0)  # its end is written as its padding
    assert lengths_B.tolist() == [int((row != tokens.edges.padding).sum()) for row in ids_BL]
    own, clips = tokens_of(open_clip.SimpleTokenizer(), 16, 49408), clip_tokens(16)
    assert own.edges == clips.edges
    for ours, theirs in zip(own(WORDS), clips(WORDS), strict=True):
        assert torch.equal(ours, theirs)
    with pytest.raises(InputError, match="do not belong together"):
        tokens_of(siglip_tokenizer(), 16, 5)(["a photo of the park"])
