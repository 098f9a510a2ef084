"""The small CLIP that is trained: open_clip's own class, built from a few sizes and a seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import open_clip
import torch
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

from crossgap.errors import InputError, check_known
from pretrain.streams import stream_seed

Shared = Literal["nothing", "projection", "towers"]

VOCABULARY = 49408  # open_clip's SimpleTokenizer


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Sizes of the two towers; both have the same width, depth and number of heads.

    ``image_size`` and ``patch_size`` are in pixels, ``context_length`` in tokens. ``shared`` says what images
    and texts have in common: nothing; the projection into the embedding; or, as in SharedCLIP, the projection
    and the transformer, with patch, token and position embeddings and the outer norms of their own.

    [0] Eslami and de Melo, AlignCLIP, 2024, arXiv 2406.17639 (SharedCLIP).
    """

    image_size: int = 32
    patch_size: int = 8
    width: int = 128
    layers: int = 4
    heads: int = 4
    embed_dim: int = 128
    context_length: int = 32
    shared: Shared = "nothing"

    def __post_init__(self) -> None:
        check_known(self.shared, get_args(Shared), "part that a model shares")
        for name, value in vars(self).items():
            if name != "shared" and value < 1:
                raise InputError(f"model {name}={value!r}: must be at least 1")
        if self.image_size % self.patch_size:
            raise InputError(
                f"model image_size={self.image_size} is not a multiple of patch_size={self.patch_size}"
            )
        if self.width % self.heads:
            raise InputError(f"model width={self.width} is not a multiple of heads={self.heads}")
        if self.context_length < 3:
            raise InputError(
                f"model context_length={self.context_length}: start, end and a token between need 3"
            )

    @property
    def open_clip(self) -> dict[str, Any]:
        """Give the sizes as open_clip's ``model_cfg``."""
        return {
            "embed_dim": self.embed_dim,
            "vision_cfg": {
                "image_size": self.image_size,
                "patch_size": self.patch_size,
                "width": self.width,
                "layers": self.layers,
                "head_width": self.width // self.heads,
            },
            "text_cfg": {
                "context_length": self.context_length,
                "vocab_size": VOCABULARY,
                "width": self.width,
                "heads": self.heads,
                "layers": self.layers,
            },
        }

    @property
    def preprocess(self) -> dict[str, Any]:
        """Give open_clip's ``preprocess_cfg``: how an image becomes the input of the image tower."""
        return {
            "size": [self.image_size, self.image_size],
            "mode": "RGB",
            "mean": list(OPENAI_DATASET_MEAN),
            "std": list(OPENAI_DATASET_STD),
            "interpolation": "bilinear",
            "resize_mode": "shortest",
        }


def build_model(config: ModelConfig, *, seed: int, temperature: float) -> open_clip.CLIP:
    """Build a CLIP with random weights that depend on ``seed`` alone; the global generator is left alone.

    ``temperature`` is the initial tau: ``logit_scale`` holds ln(1/tau).
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(seed, "initialisation"))
        model = open_clip.CLIP(**config.open_clip)
    if config.shared in ("projection", "towers"):
        model.visual.proj = model.text_projection
    if config.shared == "towers":
        model.visual.transformer.resblocks = model.transformer.resblocks
    with torch.no_grad():
        model.logit_scale.copy_(-torch.log(torch.tensor(temperature)))
    return model
