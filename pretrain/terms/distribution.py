"""Bring the distributions of two modalities together, whatever is paired with what."""

from __future__ import annotations

import torch
from torch import Tensor

from crossgap.metrics.misalignment import uniformity


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


def sliced_wasserstein(
    image_BD: Tensor, text_BD: Tensor, *, generator: torch.Generator, directions: int = 128
) -> Tensor:
    """Compare the sorted projections of images and texts on random directions.

    ``mean_theta mean_k (sort(I theta)_k - sort(T theta)_k)^2``, theta uniform on the sphere.

    [0] Bonneel et al., 2015, doi 10.1007/s10851-014-0506-3 (the sliced 2-Wasserstein distance, squared).

    Args:
        image_BD: image embeddings, unit rows.
        text_BD: text embeddings, unit rows, as many.
        generator: on the CPU; fresh directions each step.
        directions: how many.

    Returns:
        0-d tensor, at least 0.
    """
    shape = (image_BD.shape[1], directions)
    theta_DK = torch.randn(shape, generator=generator, dtype=torch.float64).to(image_BD)
    theta_DK = theta_DK / theta_DK.norm(dim=0)
    image_BK, text_BK = ((rows_BD @ theta_DK).sort(dim=0).values for rows_BD in (image_BD, text_BD))
    return (image_BK - text_BK).square().mean()


def mmd(image_BD: Tensor, text_BD: Tensor, *, bandwidth: Tensor | float | None = None) -> Tensor:
    """Compute the squared maximum mean discrepancy of images and texts.

    ``mean k(i, i') + mean k(t, t') - 2 mean k(i, t)`` over all pairs of rows, an item with itself included,
    with ``k(x, y) = mean_m exp(-|x - y|^2 / (2 (m s)^2))``, m in {1, 2, 4, 8, 16}.

    [0] Gretton et al., 2012, JMLR 13, Eq. 5 (the biased estimate); the bank of kernels after Li, Swersky and
        Zemel, 2015, arXiv 1502.02761.

    Args:
        image_BD: image embeddings, unit rows, at least two.
        text_BD: text embeddings, unit rows, at least two.
        bandwidth: s; by default the median distance between different rows of both together, through which no
            gradient goes.

    Returns:
        0-d tensor, at least 0.
    """
    rows_ND = torch.cat([image_BD, text_BD])
    norms_N = rows_ND.square().sum(dim=1)
    squared_NN = (norms_N[:, None] + norms_N - 2 * rows_ND @ rows_ND.T).clamp(min=0)
    if bandwidth is None:
        first, second = torch.triu_indices(len(rows_ND), len(rows_ND), offset=1)
        bandwidth = squared_NN.detach()[first, second].sqrt().median().clamp(min=1e-6)
    scales = [2 * (multiple * bandwidth) ** 2 for multiple in (1, 2, 4, 8, 16)]
    kernel_NN = torch.stack([(-squared_NN / scale).exp() for scale in scales]).mean(dim=0)
    images = len(image_BD)
    within = kernel_NN[:images, :images].mean() + kernel_NN[images:, images:].mean()
    return within - 2 * kernel_NN[:images, images:].mean()
