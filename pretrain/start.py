"""What a run starts from: a small CLIP with random weights, or a CLIP that exists (fine-tuning)."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

import open_clip
import torch
from open_clip import CLIP, SimpleTokenizer
from open_clip.transformer import QuickGELU, VisionTransformer
from torch import Tensor

from crossgap.encoders.hugging_face import folder as hugging_face
from crossgap.encoders.loading import CONFIG_FILE, HUB, LOCAL, load_encoder, newest_checkpoint
from crossgap.encoders.open_clip import OpenClipEncoder
from crossgap.errors import InputError
from pretrain.config import TrainConfig
from pretrain.model import build_model
from pretrain.towers import encode_images, encode_text, pack_text

_CLOSE = 1e-4  # features of the towers as they are trained against those of the model, unit rows


class Start(NamedTuple):
    """A model to train, and what open_clip writes beside its weights."""

    model: CLIP
    model_cfg: dict[str, Any]
    preprocess_cfg: dict[str, Any]

    @property
    def image_size(self) -> int:
        """Side in pixels of what the image tower takes."""
        size: int = self.model_cfg["vision_cfg"]["image_size"]
        return size

    @property
    def context_length(self) -> int:
        """Tokens that the text tower takes."""
        return self.model.positional_embedding.shape[0]


def start_model(config: TrainConfig) -> Start:
    """Build or load the model of a run, on the CPU, with its locked towers locked.

    Raises:
        InputError: an encoder that is not known, not to be had, or not of CLIP's own kind of towers.
    """
    if config.encoder is None:
        initial = config.objective.temperature.initial
        model = build_model(config.model, seed=config.seed, temperature=initial)
        start = Start(model, config.model.open_clip, config.model.preprocess)
    else:
        start = _existing(config.encoder, config.pretrained)
        with torch.no_grad():
            start.model.logit_scale.fill_(-torch.tensor(config.objective.temperature.initial).log())
    lock(start.model, config.locked)
    return start


def lock(model: CLIP, towers: Collection[str]) -> None:
    """Keep towers as they are, with their projections.

    [0] Zhai et al., LiT, 2022, arXiv 2111.07991 (a locked image tower).
    """
    if "image" in towers:
        model.visual.requires_grad_(False)
    if "text" in towers:
        for part in (model.transformer, model.token_embedding, model.ln_final):
            part.requires_grad_(False)
        model.positional_embedding.requires_grad_(False)
        model.text_projection.requires_grad_(False)


def _existing(name: str, pretrained: str | None) -> Start:
    kept = Path(name.removeprefix(LOCAL))
    if name.startswith(hugging_face.HUB) or hugging_face.is_transformers_folder(kept):
        raise InputError(
            f"encoder {name!r} is kept in the format of transformers, which training does not write; take "
            "the same weights under their name in open_clip, or a folder in its format"
        )
    encoder = load_encoder(name, pretrained, device="cpu")
    model = encoder.model
    reason = _why_not(encoder)
    if reason is not None:
        raise InputError(
            f"encoder {encoder.name!r} cannot be fine-tuned here: {reason}; take one with CLIP's own "
            "vision and text transformers, as ViT-B-32"
        )
    folder = Path(name.removeprefix(LOCAL))
    if folder.is_dir():
        held = json.loads((newest_checkpoint(folder) / CONFIG_FILE).read_text("utf-8"))
        model_cfg = held["model_cfg"]
    else:
        known = name if name.startswith(HUB) else name.replace("/", "-")
        model_cfg = dict(open_clip.get_model_config(known) or {})
        if any(isinstance(module, QuickGELU) for module in model.modules()):
            model_cfg["quick_gelu"] = True
    model.requires_grad_(True)
    return Start(model, model_cfg, dict(open_clip.get_model_preprocess_cfg(model)))


def _why_not(encoder: OpenClipEncoder) -> str | None:
    """Say why the towers as they are trained would not be this model; None if they are."""
    model = encoder.model
    if type(model) is not CLIP or not isinstance(model.visual, VisionTransformer):
        return f"it is a {type(model).__name__} with a {type(getattr(model, 'visual', None)).__name__}"
    if encoder.why_not_causal is not None:
        return f"its text tower is not causal ({encoder.why_not_causal})"
    words = ["A photo of two cats & a d\u00f6g"]
    plain = SimpleTokenizer(context_length=model.positional_embedding.shape[0])
    if not torch.equal(encoder.tokenize(words), plain(words)):
        return "its tokenizer is not that of CLIP"
    size = model.visual.image_size
    height, width = size if isinstance(size, tuple) else (size, size)
    pixels_BCHW = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    tokens_BL = encoder.tokenize(["a photo of two cats", "a word"])
    with torch.no_grad():
        try:
            text = pack_text(tokens_BL, tokens_BL.argmax(1) + 1)
            ours = (encode_images(model, pixels_BCHW), encode_text(model, text, model.token_embedding.weight))
        except (AttributeError, RuntimeError, TypeError) as error:
            return f"its towers have other parts ({error})"
        theirs = (encoder.encode_image(pixels_BCHW), encoder.encode_text(tokens_BL))
    off = max(_difference(a, b) for a, b in zip(ours, theirs, strict=True))
    return (
        None if off < _CLOSE else f"its towers pool or attend in another way (features differ by {off:.2g})"
    )


def _difference(one_BD: Tensor, other_BD: Tensor) -> float:
    return (one_BD - other_BD).abs().max().item()
