"""Measures of the gap between the two modalities of one space, on unit rows.

A penalty on the gap is one of these functions with gradients on: what is penalised and what is plotted cannot
drift apart. Row k of the image side is paired with row k of the text side.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from crossgap.errors import InputError
from crossgap.metrics.misalignment import alignment, uniformity
from crossgap.metrics.separability import modality_probe
from crossgap.metrics.similarity import answer, check_sides

_NO_DISTANCE = 1e-3  # what the released code of RMG takes for a distance within pairs that is not above 0


def centroid_distance(image_BD: Tensor, text_BD: Tensor) -> Tensor:
    """Measure the distance between the centres of the two modalities.

    ``|mean_k i_k - mean_k t_k|``, in [0, 2]. [0] Liang et al., 2022, arXiv 2203.02053. The sides may
    differ in their number of rows. Differentiable (gradient 0 where the centres coincide).

    Shape: (B, D), (B, D) -> 0-d. Unit: distance. Range: [0, 2]; 0 = no gap.

    Raises:
        InputError: shapes that do not fit.
    """
    distance = torch.linalg.vector_norm(_centre_difference(image_BD, text_BD))
    return answer(distance, image_BD, text_BD)


def squared_centroid_distance(image_BD: Tensor, text_BD: Tensor) -> Tensor:
    """Measure the squared distance between the centres of the two modalities.

    ``|mean_k i_k - mean_k t_k|^2``, the square of :func:`centroid_distance`; smooth where the centres meet.
    [0] Liang et al., 2022, arXiv 2203.02053.

    Shape: (B, D), (B, D) -> 0-d. Unit: squared distance. Range: [0, 4]; 0 = no gap.

    Raises:
        InputError: shapes that do not fit.
    """
    return answer(_centre_difference(image_BD, text_BD).square().sum(), image_BD, text_BD)


def centre_angle(image_BD: Tensor, text_BD: Tensor) -> Tensor:
    """Measure the angle between the centres of the two modalities, seen from the origin.

    ``arccos(<m_I, m_T> / (|m_I| |m_T|))`` with the means m, computed as
    ``2 atan2(|u_I - u_T|, |u_I + u_T|)`` of their directions u, which stays exact near 0 and 180. Free of
    scale: unlike the distance it does not shrink when the clouds spread. NaN when a centre is the origin,
    which has no direction; evaluation then names the metric among what it skipped. A definition of this
    project.

    Shape: (B, D), (B, D) -> 0-d. Unit: degrees. Range: [0, 180]; 0 = no gap.

    Raises:
        InputError: shapes that do not fit.
    """
    _check_clouds(image_BD, text_BD)
    image_D, text_D = image_BD.mean(0), text_BD.mean(0)
    image_D = image_D / torch.linalg.vector_norm(image_D)
    text_D = text_D / torch.linalg.vector_norm(text_D)
    apart, together = torch.linalg.vector_norm(image_D - text_D), torch.linalg.vector_norm(image_D + text_D)
    return answer(torch.rad2deg(2 * torch.atan2(apart, together)), image_BD, text_BD)


def mean_pair_cosine(image_BD: Tensor, text_BD: Tensor) -> Tensor:
    """Average the cosine of each image with its own text.

    ``mean_k <i_k, t_k>``. Differentiable.

    Shape: (B, D), (B, D) -> 0-d. Unit: cosine. Range: [-1, 1]; higher is closer.

    Raises:
        InputError: shapes that do not pair.
    """
    check_sides(image_BD, text_BD, paired=True)
    return answer((image_BD * text_BD).sum(dim=1).mean(), image_BD, text_BD)


def pair_distance(image_BD: Tensor, text_BD: Tensor) -> Tensor:
    """Average the squared distance of each image from its own text.

    ``mean_k |i_k - t_k|^2 = 2 - 2 mean_k <i_k, t_k>``: alignment with alpha = 2. [0] Wang and Isola, 2020,
    arXiv 2005.10242. Differentiable.

    Shape: (B, D), (B, D) -> 0-d. Unit: squared distance. Range: [0, 4]; lower is closer.

    Raises:
        InputError: shapes that do not pair.
    """
    return alignment(image_BD, text_BD, alpha=2)


def pair_residual(image_BD: Tensor, text_BD: Tensor) -> Tensor:
    """Measure what is left of the squared pair distance when the centres are put on one another.

    ``mean_k |(i_k - m_I) - (t_k - m_T)|^2``, so that ``pair_distance = squared_centroid_distance +
    pair_residual`` exactly: offset and shape of the gap apart. Not the distribution gap of arXiv 2604.00279,
    whose formula is another. Differentiable.

    Shape: (B, D), (B, D) -> 0-d. Unit: squared distance. Range: [0, 4]; lower is closer.

    Raises:
        InputError: shapes that do not pair.
    """
    check_sides(image_BD, text_BD, paired=True)
    apart_BD = (image_BD - image_BD.mean(0)) - (text_BD - text_BD.mean(0))
    return answer(apart_BD.square().sum(dim=1).mean(), image_BD, text_BD)


def relative_modality_gap(image_BD: Tensor, text_BD: Tensor) -> Tensor:
    """Relate the distance within pairs to the distance between any two items of one modality (RMG).

    With ``D(a, b) = (1 - <a, b>) / 2``, m = mean_k D(i_k, t_k), and D_II, D_TT the means of D over ordered
    pairs j != k of one modality: ``RMG = m / (m + (D_II + D_TT) / 2)``, in (0, 1], near 0 without gap. Where
    rounding leaves no m above 0, 0.001 stands for it, as in the released code ([1] ``compute_rmg``): where
    the pairs all but coincide the value is that of rounding. [0] Schrodi et al., 2024, arXiv 2404.07983; [1]
    github.com/lmb-freiburg/two-effects-one-trigger, analysis/gap_precompute.py. Deviation: an image with
    several texts counts as often among D_II as it has pairs; [1] counts it once. Needs no N x N matrix:
    sum_{j != k} <i_j, i_k> = |sum_j i_j|^2 - sum_j |i_j|^2. Differentiable (gradient 0 of an m that is
    replaced).

    Shape: (B, D), (B, D) -> 0-d. Unit: ratio. Range: (0, 1]; lower is less gap.

    Raises:
        InputError: shapes that do not pair or fewer than two pairs.
    """
    check_sides(image_BD, text_BD, paired=True)
    if image_BD.shape[0] < 2:
        raise InputError(f"the relative modality gap compares pairs and needs two, got {image_BD.shape[0]}")
    matched = (1 - mean_pair_cosine(image_BD, text_BD)) / 2
    matched = torch.where(matched <= 0, _NO_DISTANCE, matched)  # NaN stays NaN
    within = (_mean_inner_distance(image_BD) + _mean_inner_distance(text_BD)) / 2
    return matched / (matched + within)


def centroid_uniformity(image_BD: Tensor, text_BD: Tensor, *, t: float = 2) -> Tensor:
    """Measure how evenly the midpoints of the pairs cover the sphere; lower is more even.

    ``log mean_{j != k} exp(-t |m_j - m_k|^2)`` with ``m_k = norm((i_k + t_k) / 2)``. [0] ModGap, 2026,
    arXiv 2601.18525. Differentiable.

    Shape: (B, D), (B, D) -> 0-d. Unit: log of a mean kernel value. Range: [-4 t, 0]; lower is more even.

    Raises:
        InputError: shapes that do not pair or fewer than two pairs.
    """
    check_sides(image_BD, text_BD, paired=True)
    return uniformity(F.normalize((image_BD + text_BD) / 2, dim=1), t=t)


def linear_separability(image_BD: Tensor, text_BD: Tensor, *, seed: int) -> Tensor:
    """Measure how well a linear classifier tells the modalities apart on pairs that it has not seen.

    Accuracy of a logistic regression (L2, C = 1), image against text, fitted on 80 % of the pairs and tested
    on the other 20 %: 1 = disjoint, 0.5 = mixed. [0] Fahim, Murphy and Fyshe, 2024, arXiv 2405.18570. The
    split is by pair: both parts hold as many images as texts, and no test item has its partner among the
    training items. Features are centred and divided by one number, the training part's root mean square, so
    that the penalty depends on neither scale nor rotation. Not differentiable.

    Shape: (B, D), (B, D) -> 0-d, float64. Unit: fraction. Range: [0, 1]; 1 = disjoint, 0.5 = mixed.

    Raises:
        InputError: shapes that do not pair, fewer than five pairs, or values that are not finite.
    """
    return modality_probe(image_BD, text_BD, seed=seed).accuracy


def _check_clouds(image_BD: Tensor, text_BD: Tensor) -> None:
    check_sides(image_BD, text_BD)
    if image_BD.shape[0] == 0 or text_BD.shape[0] == 0:
        raise InputError(
            "a centre needs at least one row a modality; "
            f"got {image_BD.shape[0]} images and {text_BD.shape[0]} texts"
        )


def _centre_difference(image_BD: Tensor, text_BD: Tensor) -> Tensor:
    _check_clouds(image_BD, text_BD)
    return image_BD.mean(0) - text_BD.mean(0)


def _mean_inner_distance(x_BD: Tensor) -> Tensor:
    n_rows = x_BD.shape[0]
    products = x_BD.sum(0).square().sum() - x_BD.square().sum()
    return (1 - products / (n_rows * (n_rows - 1))) / 2
