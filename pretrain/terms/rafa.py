"""Random feature alignment: both sides of a pair move to one random vector."""

from __future__ import annotations

import torch
from torch import Tensor


def random_feature_alignment(image_BD: Tensor, text_BD: Tensor, *, generator: torch.Generator) -> Tensor:
    """Compute the mean squared difference of both embeddings of a pair to a normal vector that they share.

        L = 1/(BD) sum_k |i_k - z_k|^2 + |t_k - z_k|^2,   z_k ~ N(0, Id)

    [0] CLIP-Refine, 2025, arXiv 2504.12717, and its released `updater/contrastive.py`, ``RandRegUpdater``:
    two means over all entries of the batch, added.

    Deviations from [0]: there it post-trains released models for an epoch, with weight 1 beside a
    distillation from them of weight 1 and a CLIP loss of weight 0; the distillation is left out here.

    Args:
        image_BD: image embeddings before they are scaled to length 1.
        text_BD: text embeddings before they are scaled to length 1.
        generator: on the CPU; a fresh z each step.

    Returns:
        0-d tensor, at least 0.
    """
    noise_BD = torch.randn(image_BD.shape, generator=generator, dtype=torch.float64).to(image_BD)
    return (image_BD - noise_BD).square().mean() + (text_BD - noise_BD).square().mean()
