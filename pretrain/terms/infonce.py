"""The host loss of CLIP: each image picks its text out of the batch, and each text its image."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def info_nce(
    image_BD: Tensor,
    text_BD: Tensor,
    *,
    temperature: Tensor | float,
    label_smoothing: float = 0.0,
    rows: slice | None = None,
) -> Tensor:
    """Compute the symmetric InfoNCE loss between paired images and texts.

        L = 1/2 [CE(I T^T / tau) + CE(T I^T / tau)],  targets on the diagonal

    [0] Radford et al., 2021, arXiv 2103.00020, Fig. 3.

    Args:
        image_BD: image embeddings, unit rows.
        text_BD: text embeddings, unit rows; row k belongs to image k.
        temperature: tau > 0; a 0-d tensor when it is learned.
        label_smoothing: eps: targets are (1 - eps) onehot + eps / B.
        rows: the loss of these images and texts alone, each against all; a batch's loss is the mean over
            equal parts, none of which holds all B x B logits.

    Returns:
        0-d tensor, in nats.
    """
    targets_B = torch.arange(len(image_BD), device=image_BD.device)
    if rows is None:
        logits_BB = image_BD @ text_BD.T / temperature
        sides = (logits_BB, logits_BB.T)
    else:
        targets_B = targets_B[rows]
        sides = (image_BD[rows] @ text_BD.T / temperature, text_BD[rows] @ image_BD.T / temperature)
    by_image, by_text = (
        F.cross_entropy(logits, targets_B, label_smoothing=label_smoothing) for logits in sides
    )
    return (by_image + by_text) / 2
