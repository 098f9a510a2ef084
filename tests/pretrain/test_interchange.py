"""Checkpoints between open_clip and this package: the same picture and words give the same features."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import open_clip
import pytest
import torch
from PIL import Image

from crossgap.encoders.loading import load_encoder
from pretrain.config import TrainConfig, smoke
from pretrain.data.pairs import load_pairs
from pretrain.recipes import FINE_TUNING, RECIPES
from pretrain.run import train
from tests.training_shards import write_shard

TEXTS = ["a photo of a red bar", "Zwei Häuser & a dög, 3 x", "word " * 90]
ARCHITECTURE = "ViT-S-32-alt"


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_shard(tmp_path_factory.mktemp("shards") / "shapes.tar"))


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    """Neither square nor of the size of any model, in colours that change from place to place."""
    values = torch.arange(53 * 90 * 3).remainder(251).to(torch.uint8).view(53, 90, 3)
    return Image.fromarray(values.numpy())


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as open_clip's training writes it after an epoch, of a model in several processes."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = open_clip.create_model(ARCHITECTURE, pretrained=None)
    path = tmp_path_factory.mktemp("theirs") / "epoch_3.pt"
    state = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
    optimizer = torch.optim.AdamW(model.parameters()).state_dict()
    torch.save({"epoch": 3, "name": "x", "state_dict": state, "optimizer": optimizer}, path)
    return path


def assert_open_clip_reads(folder: Path, picture: Image.Image) -> None:
    """Compare with the lines that the model card gives, preprocessing and tokenizer included."""
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokenize = open_clip.get_tokenizer(f"local-dir:{folder}")
    encoder = load_encoder(str(folder), device="cpu")
    pixels_BCHW = preprocess(picture)[None]
    assert torch.equal(encoder.preprocess([picture]), pixels_BCHW)
    assert torch.equal(encoder.tokenize(TEXTS), tokenize(TEXTS))
    with torch.no_grad():
        image_BD = model.eval().encode_image(pixels_BCHW, normalize=True)
        text_BD = model.encode_text(tokenize(TEXTS), normalize=True)
    torch.testing.assert_close(encoder.encode_image(pixels_BCHW), image_BD, atol=1e-6, rtol=0)
    torch.testing.assert_close(encoder.encode_text(tokenize(TEXTS)), text_BD, atol=1e-6, rtol=0)


def test_open_clip_reads_what_is_trained(tmp_path: Path, shard: str, picture: Image.Image) -> None:
    small = smoke(RECIPES["baseline"]())
    config = replace(small, data=shard, limit=None, batch_size=8, device="cpu", threads=1, ema=0.5)
    checkpoint = train(config, tmp_path / "run", progress=False).checkpoint
    assert_open_clip_reads(checkpoint, picture)
    assert_open_clip_reads(checkpoint / "ema", picture)
    run, last = (load_encoder(str(path), device="cpu") for path in (tmp_path / "run", checkpoint))
    assert run.fingerprint == last.fingerprint


def test_a_checkpoint_of_open_clip_is_read_here(theirs: Path, picture: Image.Image) -> None:
    model, _, preprocess = open_clip.create_model_and_transforms(
        ARCHITECTURE, pretrained=str(theirs), weights_only=True
    )
    encoder = load_encoder(ARCHITECTURE, str(theirs), device="cpu")
    tokens_BL = open_clip.get_tokenizer(ARCHITECTURE)(TEXTS)
    pixels_BCHW = preprocess(picture)[None]
    assert torch.equal(encoder.preprocess([picture]), pixels_BCHW)
    assert torch.equal(encoder.tokenize(TEXTS), tokens_BL)
    with torch.no_grad():
        image_BD = model.eval().encode_image(pixels_BCHW, normalize=True)
        text_BD = model.encode_text(tokens_BL, normalize=True)
    torch.testing.assert_close(encoder.encode_image(pixels_BCHW), image_BD, atol=1e-6, rtol=0)
    torch.testing.assert_close(encoder.encode_text(tokens_BL), text_BD, atol=1e-6, rtol=0)


@pytest.fixture(scope="module")
def tuned(theirs: Path, shard: str) -> TrainConfig:
    return replace(
        FINE_TUNING["fine-tune-04"](), data=shard, encoder=ARCHITECTURE, pretrained=str(theirs), steps=2,
        batch_size=4, device="cpu", threads=1, ema=0.5,
    )  # fmt: skip


@pytest.mark.slow
def test_open_clip_reads_what_is_fine_tuned_from_its_checkpoint(
    tmp_path: Path, tuned: TrainConfig, picture: Image.Image
) -> None:
    checkpoint = train(tuned, tmp_path / "run", progress=False).checkpoint
    assert_open_clip_reads(checkpoint, picture)
    before = load_encoder(ARCHITECTURE, str(tuned.pretrained), device="cpu")
    after = load_encoder(str(checkpoint), device="cpu")
    pixels_BCHW = before.preprocess([picture])
    assert torch.equal(after.preprocess([picture]), pixels_BCHW)
    moved = 1 - (before.encode_image(pixels_BCHW) * after.encode_image(pixels_BCHW)).sum()
    assert 0 < moved < 0.1  # two steps at 1e-5 and less
    assert after.model.logit_scale.exp().item() == pytest.approx(25)


@pytest.mark.slow
def test_a_fine_tuned_run_with_an_average_is_resumed_to_the_same_bits(
    tmp_path: Path, tuned: TrainConfig
) -> None:
    given = replace(tuned, checkpoint_every=1)
    whole = train(given, tmp_path / "run", progress=False).checkpoint
    files = ("open_clip_model.safetensors", "ema/open_clip_model.safetensors", "state.safetensors")
    expected = [(whole / name).read_bytes() for name in files]
    (whole / "open_clip_model.safetensors").write_bytes(b"")  # damaged: the run goes on from step 1
    again = train(given, tmp_path / "run", progress=False).checkpoint
    assert again == whole
    assert [(again / name).read_bytes() for name in files] == expected


def test_texts_are_tokenised_as_the_encoder_does(tmp_path: Path, tuned: TrainConfig) -> None:
    shard = str(write_shard(tmp_path / "a.tar", [[text] for text in TEXTS]))
    encoder = load_encoder(ARCHITECTURE, tuned.pretrained, device="cpu")
    pairs = load_pairs(shard, image_size=32, context_length=77)
    ids_ML = pairs.vocabulary_V[pairs.ids_ML]
    assert torch.equal(ids_ML, encoder.tokenize([text.strip() for text in sorted(map(str.strip, TEXTS))]))
