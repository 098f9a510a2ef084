"""Bring the distributions of two modalities together, whatever is paired with what."""

from __future__ import annotations

from torch import Tensor

from crossgap.misalignment import uniformity


def in_modal_uniformity(image_BD: Tensor, text_BD: Tensor) -> Tensor:
    """Average the uniformity of images and of texts, each among themselves.

    ``1/2 [log mean_{j != k} exp(-2 |i_j - i_k|^2) + log mean_{j != k} exp(-2 |t_j - t_k|^2)]``.

    [0] Wang and Isola, 2020, arXiv 2005.10242.
    [1] Fahim, Murphy and Fyshe, 2024, arXiv 2405.18570: beside the CLIP loss, with weight 1.

    Args:
        image_BD: image embeddings, unit rows, at least two.
        text_BD: text embeddings, unit rows, at least two.

    Returns:
        0-d tensor, at most 0; lower is more even.
    """
    return (uniformity(image_BD) + uniformity(text_BD)) / 2


def coral(image_BD: Tensor, text_BD: Tensor) -> Tensor:
    """Compare the covariances of images and texts; their means do not enter.

    ``|Cov(I) - Cov(T)|_F^2 / (4 D^2)`` with covariances over B - 1.

    [0] Sun and Saenko, Deep CORAL, 2016, arXiv 1607.01719, Eq. 1.

    Args:
        image_BD: image embeddings, unit rows, at least two.
        text_BD: text embeddings, unit rows, at least two.

    Returns:
        0-d tensor, at least 0.
    """
    difference_DD = image_BD.T.cov() - text_BD.T.cov()
    return difference_DD.square().sum() / (4 * image_BD.shape[1] ** 2)
