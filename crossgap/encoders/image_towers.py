"""Image towers of CLIP-like models: where they embed patches, and why some cannot take patches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from timm.layers import PatchEmbed
from torch import Tensor, nn


@dataclass(frozen=True)
class PatchEmbedding:
    """The module that embeds patches, and how it hands them on.

    ``grid`` is (rows, columns) of a 4-d output, with W last (``channels_last``) or second; it is None for an
    output (B, N, W).
    """

    module: nn.Module
    width: int
    num_patches: int
    grid: tuple[int, int] | None
    channels_last: bool

    def arrange(self, patches_BNW: Tensor) -> Tensor:
        """Lay patches in raster order out as the module's own output."""
        if self.grid is None:
            return patches_BNW
        if self.channels_last:
            return patches_BNW.unflatten(1, self.grid)
        return patches_BNW.transpose(1, 2).unflatten(2, self.grid)


def find_patch_embedding(visual: Any, blank_1CHW: Tensor) -> PatchEmbedding | str:
    """Return the patch embedding of an image tower, or the reason in words why it has none.

    Patches can be injected where a transformer sees one linear embedding per patch: open_clip's own vision
    transformers, and timm trunks with a ``patch_embed``. Layout and counts are read from its output for a
    blank image, not from attributes.
    """
    module = _linear_patch_embedding(visual)
    if isinstance(module, str):
        return module
    with torch.no_grad():
        embedded = module(blank_1CHW)
    if not isinstance(embedded, Tensor) or embedded.ndim not in (3, 4):
        return f"its patch embedding {type(module).__name__} returns more than one tensor of patches"
    if embedded.ndim == 3:
        return PatchEmbedding(module, embedded.shape[2], embedded.shape[1], None, channels_last=True)
    channels_last = getattr(module, "output_fmt", "NCHW") == "NHWC"
    rows, columns = embedded.shape[1:3] if channels_last else embedded.shape[2:]
    width = embedded.shape[3] if channels_last else embedded.shape[1]
    return PatchEmbedding(module, width, rows * columns, (rows, columns), channels_last)


def _linear_patch_embedding(visual: Any) -> nn.Module | str:
    is_own_transformer = hasattr(visual, "conv1") and hasattr(visual, "class_embedding")
    if is_own_transformer:
        return visual.conv1
    trunk = getattr(visual, "trunk", None)
    if trunk is None:
        return f"its image tower {type(visual).__name__} is not a vision transformer"
    embedding = getattr(trunk, "patch_embed", None)
    if embedding is None:
        return f"its image tower {type(trunk).__name__} embeds no patches (no patch_embed)"
    if not isinstance(embedding, PatchEmbed):
        return (
            f"its image tower {type(trunk).__name__} makes patches in a convolutional stem "
            f"({type(embedding).__name__}), not by one linear embedding"
        )
    return embedding
