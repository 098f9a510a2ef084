"""The host loss of CLIP: each image picks its text out of the batch, and each text its image."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def info_nce(
    image_BD: Tensor, text_BD: Tensor, *, temperature: Tensor | float, label_smoothing: float = 0.0
) -> Tensor:
    """Compute the symmetric InfoNCE loss between paired images and texts.

        L = 1/2 [CE(I T^T / tau) + CE(T I^T / tau)],  targets on the diagonal

    [0] Radford et al., 2021, arXiv 2103.00020, Fig. 3.

    Args:
        image_BD: image embeddings, unit rows.
        text_BD: text embeddings, unit rows; row k belongs to image k.
        temperature: tau > 0; a 0-d tensor when it is learned.
        label_smoothing: eps: targets are (1 - eps) onehot + eps / B.

    Returns:
        0-d tensor, in nats.
    """
    logits_BB = image_BD @ text_BD.T / temperature
    targets_B = torch.arange(len(image_BD), device=image_BD.device)
    by_image, by_text = (
        F.cross_entropy(logits, targets_B, label_smoothing=label_smoothing)
        for logits in (logits_BB, logits_BB.T)
    )
    return (by_image + by_text) / 2
