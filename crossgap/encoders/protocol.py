"""What every part needs of a CLIP-like model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor

from crossgap.encoders.prompts import Prompt


class Encoder(Protocol):
    """A frozen two-tower model. All features have unit rows, shape (B, ``embed_dim``).

    ``fingerprint`` hashes weights, preprocessing and tokenisation: equal fingerprints give equal features,
    so it is the key of every cache. ``preprocess`` gives pixels (B, C, H, W), ``tokenize`` ids (B, L);
    ``prompt`` gives ids at full context length and where ``num_tokens`` pseudo-tokens go in place of the
    template's ``{}``. ``encode_text_with`` takes pseudo-tokens (B, K, ``text_width``) for those places, and
    ``encode_image_with`` embedded patches (B, ``num_patches``, ``image_width``) without positions; both have
    to pass gradients on. [0] arXiv 2502.04263 (what inversion asks of a model)
    """

    name: str
    fingerprint: str
    device: torch.device
    dtype: torch.dtype
    embed_dim: int
    text_width: int

    @property
    def image_width(self) -> int: ...
    @property
    def num_patches(self) -> int: ...

    def preprocess(self, images: Sequence[Image.Image]) -> Tensor: ...
    def tokenize(self, texts: Sequence[str]) -> Tensor: ...
    def encode_image(self, pixels_BCHW: Tensor) -> Tensor: ...
    def encode_text(self, tokens_BL: Tensor) -> Tensor: ...
    def prompt(self, template: str, num_tokens: int) -> Prompt: ...
    def encode_text_with(self, prompt: Prompt, pseudo_BKW: Tensor) -> Tensor: ...
    def encode_image_with(self, patches_BNW: Tensor) -> Tensor: ...
