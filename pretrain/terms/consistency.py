"""Consistency of similarities: what two items are to each other, seen from images and from texts."""

from __future__ import annotations

from torch import Tensor


def in_modal_consistency(image_BD: Tensor, text_BD: Tensor) -> Tensor:
    """Compare the similarity of two images with that of their texts.

    ``1/B sum_jk (<i_j, i_k> - <t_j, t_k>)^2`` over raw cosines.

    [0] Goel et al., CyCLIP, 2022, arXiv 2205.14459, in-modal cyclic consistency; weight .25 in its code.

    Args:
        image_BD: image embeddings, unit rows.
        text_BD: text embeddings, unit rows, paired with the images.

    Returns:
        0-d tensor, at least 0.
    """
    difference_BB = image_BD @ image_BD.T - text_BD @ text_BD.T
    return difference_BB.square().sum() / len(image_BD)


def cross_modal_consistency(image_BD: Tensor, text_BD: Tensor) -> Tensor:
    """Compare the similarity of an image to another's text with that of its text to the other's image.

    ``1/B sum_jk (<i_j, t_k> - <i_k, t_j>)^2`` over raw cosines.

    [0] Goel et al., CyCLIP, 2022, arXiv 2205.14459, cross-modal cyclic consistency; weight .25 in its code.

    Args:
        image_BD: image embeddings, unit rows.
        text_BD: text embeddings, unit rows, paired with the images.

    Returns:
        0-d tensor, at least 0.
    """
    cosine_BB = image_BD @ text_BD.T
    return (cosine_BB - cosine_BB.T).square().sum() / len(image_BD)
