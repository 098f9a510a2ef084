"""Push the items of one modality apart while each keeps to its pair of the other."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def intra_modal_separation(image_BD: Tensor, text_BD: Tensor, *, temperature: Tensor | float) -> Tensor:
    """Compute AlignCLIP's intra-modality separation of both modalities, without semantic re-weighting.

    The negatives of item j are the other items of its own modality, its positive is its pair:

        L = 1/B sum_j -log [ exp(<i_j, t_j>/tau) / (exp(<i_j, t_j>/tau) + sum_{k != j} exp(<i_j, i_k>/tau)) ]

    and the same with the texts among themselves, added.

    [0] Eslami and de Melo, AlignCLIP, 2024, arXiv 2406.17639, and its released `align_clip/loss.py`,
    ``ClipInModalityLoss``. It adds .5 of this to the sum of both directions of the CLIP loss, which is twice
    :func:`info_nce`: the default weight beside that mean is .25.

    Deviations from [0]: negatives are not weighted by the semantic distance of their captions
    (:func:`semantic_separation` does); without that the released code takes the item itself, of cosine 1, as
    its positive, and this its pair. Sharing the towers is an option of the model.

    Args:
        image_BD: image embeddings, unit rows.
        text_BD: text embeddings, unit rows, paired with the images.
        temperature: tau > 0, the host's.

    Returns:
        0-d tensor, in nats.
    """
    return _separation(image_BD, text_BD, 1.0, temperature)


def semantic_separation(
    image_BD: Tensor, text_BD: Tensor, semantic_BS: Tensor, *, temperature: Tensor | float
) -> Tensor:
    """Compute AlignCLIP's intra-modality separation with its semantic re-weighting.

    As :func:`intra_modal_separation`, with each negative's similarity ``<i_j, i_k>`` multiplied by ``1 -
    S_jk``, S the cosine of the captions' frozen sentence embeddings: what means the same is not pushed apart.

    [0] Eslami and de Melo, AlignCLIP, 2024, arXiv 2406.17639, and its released `align_clip/loss.py`,
    ``ClipInModalityLoss`` with semantic supervision of both sides: its total is twice that of
    :func:`info_nce` and .25 of this, the default weight.

    Args:
        image_BD: image embeddings, unit rows.
        text_BD: text embeddings, unit rows, paired with the images.
        semantic_BS: vectors of the captions, unit rows.
        temperature: tau > 0, the host's.

    Returns:
        0-d tensor, in nats.
    """
    return _separation(image_BD, text_BD, 1 - semantic_BS @ semantic_BS.T, temperature)


def _separation(
    image_BD: Tensor, text_BD: Tensor, unlike: Tensor | float, temperature: Tensor | float
) -> Tensor:
    pair_B = (image_BD * text_BD).sum(dim=1)
    target_B = torch.arange(len(image_BD), device=image_BD.device)
    itself_BB = torch.eye(len(image_BD), dtype=torch.bool, device=image_BD.device)

    def apart(rows_BD: Tensor) -> Tensor:
        logits_BB = torch.where(itself_BB, pair_B[:, None], rows_BD @ rows_BD.T * unlike) / temperature
        return F.cross_entropy(logits_BB, target_B)

    return apart(image_BD) + apart(text_BD)
