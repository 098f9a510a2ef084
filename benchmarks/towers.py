"""Random towers to measure on: a CLIP, and a SigLIP-like pair with a tokenizer made on the spot."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import open_clip
import torch
from torch import Tensor

from crossgap.encoders.open_clip import OpenClipEncoder
from crossgap.errors import check_known
from crossgap.inversion.config import InversionConfig, Target
from crossgap.inversion.loop import invert
from crossgap.vocabulary import Precision
from tests.conftest import tiny_model
from tests.reference import plain_inversion
from tests.tiny_towers import FAMILIES, siglip_tokenizer

Loop = Literal["plain", "ours"]
LOOPS = get_args(Loop)


@dataclass(frozen=True, kw_only=True)
class Tower:
    """How to build a pair of towers, and the batches that are measured on it."""

    build: Callable[[], Any]
    tokenizer: Callable[[], Any]
    batch_size: int
    memory_batches: tuple[int, ...]

    def encoder(self, precision: Precision = "fp32") -> OpenClipEncoder:
        """Build the frozen model with random weights."""
        with torch.random.fork_rng(devices=[]), _silent():
            torch.manual_seed(0)
            model = self.build().eval().requires_grad_(False)
        return OpenClipEncoder(model, self.tokenizer(), precision=precision)


def in_precision(encoder: OpenClipEncoder, precision: Precision) -> OpenClipEncoder:
    """Wrap the same weights for other arithmetic."""
    return OpenClipEncoder(encoder.model, encoder.tokenizer, precision=precision)


def runner(
    loop: Loop, encoder: OpenClipEncoder, into: Target, config: InversionConfig, count: int
) -> Callable[[int], object]:
    """Return a function that inverts ``count`` random targets in one batch for a number of steps."""
    targets_ND, ids = random_targets(encoder, count)

    def run(steps: int) -> Tensor:
        settings = replace(config, steps=steps, batch_size=count)
        if loop == "plain":
            return plain_inversion(encoder, targets_ND, into, settings, ids)[0]
        return invert(encoder, targets_ND, into=into, config=settings, item_ids=ids).features

    return run


def random_targets(encoder: OpenClipEncoder, count: int) -> tuple[Tensor, list[str]]:
    """Draw random directions to invert, with ids."""
    targets_ND = torch.randn(count, encoder.embed_dim, generator=torch.Generator().manual_seed(0))
    return targets_ND, [f"item-{number}" for number in range(count)]


def engine_of(encoder: OpenClipEncoder, into: Target) -> str:
    """Return the name of the forward pass that :func:`invert` chooses: lean or tower."""
    target_1D = torch.ones(1, encoder.embed_dim)
    return invert(encoder, target_1D, into=into, config=InversionConfig(steps=0), item_ids=["one"]).engine


def find_tower(name: str) -> Tower:
    """Return a tower of :data:`TOWERS`. Raises InputError for an unknown name."""
    return TOWERS[check_known(name, TOWERS, "tower")]


def _siglip_tokenizer() -> Any:
    """Make a tokenizer of SigLIP's kind and length; the released one is a download."""
    tokenizer = siglip_tokenizer()
    tokenizer.context_length = 64
    return tokenizer


def _small_model() -> Any:
    vision = {"layers": 2, "width": 64, "head_width": 32, "patch_size": 32, "image_size": 224}
    text = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    model = open_clip.CLIP(embed_dim=64, vision_cfg=vision, text_cfg=text)
    open_clip.model.set_model_preprocess_cfg(model, vars(open_clip.transform.PreprocessCfg()))
    return model


@contextmanager
def _silent() -> Iterator[None]:
    """Keep open_clip from warning that the weights are random: here they are meant to be."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


TOWERS = {
    "ViT-B-32": Tower(
        build=lambda: open_clip.create_model("ViT-B-32", pretrained=None),
        tokenizer=lambda: open_clip.get_tokenizer("ViT-B-32"),
        batch_size=64,
        memory_batches=(1, 8, 64),
    ),
    "ViT-B-16-SigLIP": Tower(
        build=lambda: open_clip.create_model("ViT-B-16-SigLIP", pretrained=None),
        tokenizer=_siglip_tokenizer,
        batch_size=8,
        memory_batches=(1, 8, 32),
    ),
    # of photos' size, but quick: what loading is measured with
    "small": Tower(
        build=_small_model,
        tokenizer=lambda: open_clip.SimpleTokenizer(context_length=16),
        batch_size=64,
        memory_batches=(1, 8, 64),
    ),
    # the smallest forms, for tests
    "tiny": Tower(
        build=lambda: tiny_model("CLIP"),
        tokenizer=lambda: open_clip.SimpleTokenizer(context_length=16),
        batch_size=2,
        memory_batches=(1, 2),
    ),
    "tiny SigLIP": Tower(
        build=lambda: FAMILIES["siglip"].model(torch.float32),
        tokenizer=siglip_tokenizer,
        batch_size=2,
        memory_batches=(1, 2),
    ),
}
