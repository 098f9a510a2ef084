"""Measures of how well similarity inside one modality reflects what its items have in common.

None of them is specific: a model trained on images alone shows overlapping similarities too ([0] Herzog and
Wang, 2026, arXiv 2603.16100). Read them beside such a model and beside a task.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from crossgap.errors import InputError
from crossgap.metrics.relevance import Relevance
from crossgap.metrics.similarity import answer, check_sides
from crossgap.sorting import sort_rows


def same_other_auc(scores_QG: Tensor, relevance: Relevance) -> Tensor:
    """Give the chance that a same-class pair scores higher than an other-class pair, ties counted half.

    ``P(s+ > s-) + P(s+ = s-) / 2`` over all relevant pairs s+ and all irrelevant pairs s-, pooled over the
    queries, ignored pairs left out: the exact area under the ROC curve ([0] Hanley and McNeil, 1982,
    Radiology 143). Unchanged by any increasing map of the scores, which histogram overlaps are not. Not
    differentiable.

    Shape: (Q, G) -> 0-d, float64. Unit: fraction. Range: [0, 1]; higher is better, 0.5 = chance.

    Raises:
        InputError: shapes that differ, scores that are not finite, or no pair of either kind.
    """
    same_N, other_M = _same_and_other(scores_QG, relevance, "same_other_auc")
    # both sorted: what is looked up one after the other then lies side by side
    same_N, other_M = (sort_rows(part.detach()[None])[0] for part in (same_N, other_M))
    below = torch.searchsorted(other_M, same_N).sum()
    not_above = torch.searchsorted(other_M, same_N, right=True).sum()
    # counted in whole numbers, hence exact however many pairs there are
    return (below + not_above).double() / (2 * same_N.numel() * other_M.numel())


class SimilarityOverlap(NamedTuple):
    """How far the scores of same-class pairs lie among those of other-class pairs."""

    shared: Tensor  # overlap of the two densities (OVL), 0-d; range [0, 1]; lower is better
    iou: Tensor  # their intersection over their union, 0-d; range [0, 1]; lower is better
    d_prime: Tensor  # difference of means in pooled standard deviations, 0-d; higher is better


def same_other_overlap(scores_QG: Tensor, relevance: Relevance, *, bins: int = 200) -> SimilarityOverlap:
    """Measure the overlap of the scores of same-class pairs with those of other-class pairs.

    With histograms p, q of ``bins`` equal bins between the lowest and the highest score: ``shared = sum
    min(p, q)`` ([0] Inman and Bradley, 1989, Communications in Statistics 18), ``iou = sum min(p, q) / sum
    max(p, q)`` ([1] Magistri et al., 2026, arXiv 2603.19862, there of estimated densities), and ``d' =
    (m_same - m_other) / sqrt((v_same + v_other) / 2)`` ([2] Green and Swets, 1966), infinite where neither
    varies but they differ. The histograms change with the bins and with any map of the scores:
    :func:`same_other_auc` does not, read it first.

    Shape: (Q, G) and masks (Q, G) -> three 0-d, float64. Unit: fraction, ratio, standard deviations. Range:
    [0, 1], [0, 1], (-inf, inf); less overlap is better.

    Raises:
        InputError: shapes that do not fit, scores that are not finite, fewer than one bin, or no pair of
            either kind.
    """
    if bins < 1:
        raise InputError(f"same_other_overlap needs one bin at least, got {bins=}")
    same_N, other_M = (side.double() for side in _same_and_other(scores_QG, relevance, "same_other_overlap"))
    low = float(torch.minimum(same_N.min(), other_M.min()))
    high = float(torch.maximum(same_N.max(), other_M.max()))

    def density(scores_N: Tensor) -> Tensor:
        place_N = ((scores_N - low) / max(high - low, torch.finfo(torch.float64).tiny) * bins).long()
        return place_N.clamp(max=bins - 1).bincount(minlength=bins).double() / len(scores_N)

    p_B, q_B = density(same_N), density(other_M)
    shared, joined = torch.minimum(p_B, q_B).sum(), torch.maximum(p_B, q_B).sum()
    apart = same_N.mean() - other_M.mean()
    spread = ((same_N.var(correction=0) + other_M.var(correction=0)) / 2).sqrt()
    d_prime = torch.where(apart == 0, torch.zeros_like(apart), apart / spread)
    return SimilarityOverlap(shared, shared / joined, d_prime)


def alignment(x_BD: Tensor, y_BD: Tensor, *, alpha: float = 2) -> Tensor:
    """Measure how far paired rows are apart; 0 is perfect.

    ``mean_k |x_k - y_k|^alpha`` on unit rows. [0] Wang and Isola, 2020, arXiv 2005.10242. Differentiable.

    Shape: (B, D), (B, D) -> 0-d. Unit: distance^alpha. Range: [0, 2^alpha]; lower is closer.

    Raises:
        InputError: shapes that do not pair.
    """
    check_sides(x_BD, y_BD, paired=True)
    return answer(torch.linalg.vector_norm(x_BD - y_BD, dim=1).pow(alpha).mean(), x_BD, y_BD)


def uniformity(x_BD: Tensor, *, t: float = 2) -> Tensor:
    """Measure how evenly rows cover the sphere; lower is more even, 0 is one single point.

    ``log mean_{j != k} exp(-t |x_j - x_k|^2)`` on unit rows. [0] Wang and Isola, 2020, arXiv 2005.10242.
    Differentiable.

    Shape: (B, D) -> 0-d. Unit: log of a mean kernel value. Range: [-4 t, 0]; lower is more even.

    Raises:
        InputError: not a matrix or fewer than two rows.
    """
    return cross_uniformity(x_BD, x_BD, t=t)


def cross_uniformity(x_BD: Tensor, y_BD: Tensor, *, t: float = 2) -> Tensor:
    """Measure how far rows of one modality lie from the rows of the other that are not their own pair.

    ``log 1/(B(B-1)) sum_j sum_{k != j} exp(-t |x_j - y_k|^2)`` on unit rows. [0] Fahim, Murphy and Fyshe,
    2024, arXiv 2405.18570 (XUniform). Deviation: [0] divides by B alone; the mean over pairs differs by the
    constant log(B-1), has the same gradient and does not grow with B. Holds a B x B matrix. Differentiable.

    Shape: (B, D), (B, D) -> 0-d. Unit: log of a mean kernel value. Range: [-4 t, 0]; lower is farther.

    Raises:
        InputError: shapes that do not pair or fewer than two rows.
    """
    check_sides(x_BD, y_BD, paired=True)
    n_rows = x_BD.shape[0]
    if n_rows < 2:
        raise InputError(
            f"uniformity is a mean over pairs of different rows and needs two rows, got {n_rows}"
        )
    squared_BB = x_BD.square().sum(1)[:, None] + y_BD.square().sum(1)[None, :] - 2 * x_BD @ y_BD.T
    own_BB = torch.eye(n_rows, dtype=torch.bool, device=x_BD.device)
    kernel_BB = (-t * squared_BB).masked_fill(own_BB, -torch.inf)
    return answer(kernel_BB.flatten().logsumexp(0) - math.log(n_rows * (n_rows - 1)), x_BD, y_BD)


def _same_and_other(scores_QG: Tensor, relevance: Relevance, what: str) -> tuple[Tensor, Tensor]:
    """Pick the scores of relevant and of irrelevant pairs, ignored pairs left out."""
    if scores_QG.shape != relevance.relevant_QG.shape:
        raise InputError(
            f"scores {tuple(scores_QG.shape)} and relevance {tuple(relevance.relevant_QG.shape)} must have "
            "one shape, queries x gallery"
        )
    if not bool(torch.isfinite(scores_QG).all()):
        raise InputError(f"{what} needs finite scores; look for an embedding that is not finite")
    relevant_QG = relevance.relevant_QG.to(scores_QG.device)
    other_QG = ~(relevant_QG | relevance.ignored_QG.to(scores_QG.device))
    same_N, other_M = scores_QG[relevant_QG], scores_QG[other_QG]
    if not len(same_N) or not len(other_M):
        raise InputError(
            f"{what} compares pairs of two kinds; got {len(same_N)} same-class and {len(other_M)} "
            "other-class pairs: take a set with two classes, one of them with two items"
        )
    return same_N, other_M
