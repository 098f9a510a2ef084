"""SLIP's released checkpoints, in the layout of facebookresearch/SLIP.

[0] Mu et al., SLIP: Self-supervision meets Language-Image Pre-training, 2021, arXiv 2112.12750.

A checkpoint is a pickled dict: ``epoch``, ``state_dict`` (keys below ``module.``), ``optimizer``, ``scaler``,
``best_acc1`` and ``args``, an argparse.Namespace. That one class is let through torch's restricted unpickler
while such a file is read, and nowhere else. The head of the self-supervised loss (``image_mlp``) is not
needed to encode and is left out by name; any other key that is unknown or missing is refused.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import open_clip
import timm
import torch
from open_clip.transformer import QuickGELU, TextTransformer
from torch import Tensor, nn

from crossgap.encoders.weight_files import check_tensors, read_torch
from crossgap.errors import InputError, check_known

SOURCE = "https://github.com/facebookresearch/SLIP"
_LEFT_OUT = "image_mlp."
# the same tensors under this module's names and under the checkpoint's, where the projection is transposed
_RENAMED = {"visual.trunk.": "visual.", "visual.head.weight": "image_projection", "text.": ""}


@dataclass(frozen=True, kw_only=True)
class SlipSize:
    """Sizes of a SLIP model; the text tower is the same in all released ones."""

    vision_width: int
    vision_layers: int
    vision_heads: int
    image_size: int = 224
    patch_size: int = 16
    embed_dim: int = 512
    context_length: int = 77
    vocab_size: int = 49408
    text_width: int = 512
    text_layers: int = 12
    text_heads: int = 8


class SlipImageTower(nn.Module):
    """timm's ViT, whose class token is projected linearly; laid out as open_clip's TimmModel."""

    def __init__(self, size: SlipSize) -> None:
        super().__init__()
        self.image_size = size.image_size
        self.trunk = timm.create_model(
            "vit_base_patch16_224",
            num_classes=0,
            img_size=size.image_size,
            patch_size=size.patch_size,
            embed_dim=size.vision_width,
            depth=size.vision_layers,
            num_heads=size.vision_heads,
        )
        self.head = nn.Linear(size.vision_width, size.embed_dim, bias=False)

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        return self.head(self.trunk(pixels_BCHW))


class SlipModel(nn.Module):
    """SLIP's two towers behind the methods that open_clip's models have."""

    def __init__(self, size: SlipSize) -> None:
        super().__init__()
        self.visual = SlipImageTower(size)
        self.text = TextTransformer(
            context_length=size.context_length,
            vocab_size=size.vocab_size,
            width=size.text_width,
            heads=size.text_heads,
            layers=size.text_layers,
            output_dim=size.embed_dim,
            act_layer=QuickGELU,
        )
        self.logit_scale = nn.Parameter(torch.empty([]))

    def encode_image(self, pixels_BCHW: Tensor) -> Tensor:
        return self.visual(pixels_BCHW)

    def encode_text(self, tokens_BL: Tensor) -> Tensor:
        return self.text(tokens_BL)


def load(name: str, path: Path) -> tuple[SlipModel, open_clip.SimpleTokenizer]:
    """Read a SLIP (or that repository's CLIP) checkpoint.

    Args:
        name: one of ``SIZES``.
        path: the downloaded file, such as slip_base_100ep.pt.

    Raises:
        InputError: no such file, not in this layout, or tensors unknown, missing or of another shape.
    """
    size = SIZES[check_known(name, SIZES, "SLIP model")]
    state = _read(path)
    model = SlipModel(size)
    named = {_theirs(ours): ours for ours in model.state_dict()}
    wanted = {theirs: tuple(model.state_dict()[ours].shape) for theirs, ours in named.items()}
    wanted["image_projection"] = (size.vision_width, size.embed_dim)
    check_tensors(state, wanted, f"{path} is not a checkpoint of {name} (known are {', '.join(SIZES)})")
    state["image_projection"] = state["image_projection"].T
    model.load_state_dict({ours: state[theirs] for theirs, ours in named.items()})
    preprocessing = open_clip.transform.PreprocessCfg(
        size=size.image_size,
        mean=open_clip.constants.IMAGENET_MEAN,
        std=open_clip.constants.IMAGENET_STD,
        interpolation="bilinear",
    )
    open_clip.model.set_model_preprocess_cfg(model, vars(preprocessing))
    return model, open_clip.SimpleTokenizer(context_length=size.context_length)


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise InputError(f"{path}: no such file; SLIP's checkpoints are listed at {SOURCE}")
    checkpoint = read_torch(path, argparse.Namespace)
    state = checkpoint.get("state_dict") if isinstance(checkpoint, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"{path}: no state_dict of tensors, so not a checkpoint as {SOURCE} writes it")
    named = {key.removeprefix("module."): value for key, value in state.items()}
    return {key: value for key, value in named.items() if not key.startswith(_LEFT_OUT)}


def _theirs(ours: str) -> str:
    for prefix, replacement in _RENAMED.items():
        if ours.startswith(prefix):
            return replacement + ours.removeprefix(prefix)
    return ours


_BASE = SlipSize(vision_width=768, vision_layers=12, vision_heads=12)
SIZES = {
    # twelve heads, not timm's six: the small model is that of MoCo v3
    "slip-vit-s-16": replace(_BASE, vision_width=384),
    "slip-vit-b-16": _BASE,
    "slip-vit-l-16": replace(_BASE, vision_width=1024, vision_layers=24, vision_heads=16),
}
