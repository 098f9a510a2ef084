"""Projections on a subspace: they keep some directions and drop the rest.

Each is ``x' = norm(Q Q^T x)`` with an orthonormal basis Q. They differ in whose directions Q holds; compare
them at equal rank, or a gain by dropping dimensions passes for a gain by choosing them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from crossgap.errors import InputError
from crossgap.posthoc.linear_map import LinearMap, check_fit, check_widths

# how far the cosine of a principal angle may fall short of 1, to try on the validation split
SHARED_TOLERANCES = (1e-3, 1e-2, 5e-2, 0.1, 0.3)
_RANK_SHARES = (0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875)


def rank_candidates(dim: int, *, at_most: int | None = None) -> tuple[int, ...]:
    """List the ranks to try on the validation split: eighths of the width, half being the published choice.

    ``at_most`` bounds them by the rank of what is fitted (K prompts have at most K - 1); that bound itself is
    a candidate when it cuts the list.
    """
    bound = dim if at_most is None else min(dim, at_most)
    return tuple(sorted({min(max(1, round(share * dim)), bound) for share in _RANK_SHARES if bound >= 1}))


def class_pca(
    prompts_KD: Tensor, *, rank: int, fitted_on: str = "unstated", mean_of_ND: Tensor | None = None
) -> LinearMap:
    """Fit the projection on the main directions in which the embedded class prompts differ (PCA<-).

    ``x' = norm(Q Q^T x)`` with Q the first ``rank`` principal components of the embedded prompts ("a photo of
    x"); [0] takes half the embedding width. [0] Herzog and Wang, 2026, arXiv 2603.16100. The prompts are
    centred for the PCA, as PCA is defined; x is not. With ``mean_of_ND``, training features of the modality
    that is mapped, the part of their mean that the projection drops is added back before normalising (the
    mean adjustment of [0], which moves histograms of cosines back to their range): ``x' = norm(Q Q^T x + (1 -
    Q Q^T) m)``. Ranks to choose from: :func:`rank_candidates`.

    Shape: (K, D) prompts -> a map of width D.

    Raises:
        InputError: a rank below 1 or above that of the centred prompts (at most K - 1 and D), or a mean of
            another width.
    """
    basis_DR = principal_basis(prompts_KD, rank=rank, what="class_pca", of="prompts")
    offset_D = None
    if mean_of_ND is not None:
        mean_ND = check_fit(mean_of_ND, "the mean adjustment of class_pca")
        check_widths(prompts_KD, mean_ND, "class_pca with a mean adjustment")
        mean_D = mean_ND.mean(0)
        offset_D = mean_D - basis_DR @ (basis_DR.T @ mean_D)
    return _projection(basis_DR, name="class_pca", fitted_on=fitted_on, offset_D=offset_D)


def caption_pca(captions_ND: Tensor, *, rank: int, fitted_on: str = "unstated") -> LinearMap:
    """Fit the projection on the main directions in which embedded captions differ.

    ``x' = norm(Q Q^T x)`` with Q the first ``rank`` principal components of the text features of captions: as
    :func:`class_pca` ([0] Herzog and Wang, 2026, arXiv 2603.16100), but with free text in the place of class
    names, which tells what "classness" adds.

    Shape: (N, D) captions -> a map of width D.

    Raises:
        InputError: a rank below 1 or above that of the centred captions.
    """
    basis_DR = principal_basis(captions_ND, rank=rank, what="caption_pca", of="captions")
    return _projection(basis_DR, name="caption_pca", fitted_on=fitted_on)


def image_pca(images_ND: Tensor, *, rank: int, fitted_on: str = "unstated") -> LinearMap:
    """Fit the projection on the main directions in which embedded images differ.

    ``x' = norm(Q Q^T x)`` with Q the first ``rank`` principal components of image features: the control of
    :func:`class_pca` that never looks at the other modality.

    Shape: (N, D) images -> a map of width D.

    Raises:
        InputError: a rank below 1 or above that of the centred images.
    """
    basis_DR = principal_basis(images_ND, rank=rank, what="image_pca", of="images")
    return _projection(basis_DR, name="image_pca", fitted_on=fitted_on)


def random_subspace(dim: int, *, rank: int, seed: int) -> LinearMap:
    """Draw the projection on a random subspace: the control of equal rank for every fitted projection.

    ``x' = norm(Q Q^T x)`` with Q an orthonormal basis of ``rank`` Gaussian vectors, so that every subspace is
    as likely. The draw is made on the CPU in float64 from its own generator.

    Shape: -> a map of width ``dim``.

    Raises:
        InputError: a rank outside 1 ... dim.
    """
    if not 1 <= rank <= dim:
        raise InputError(f"random_subspace: {rank=} must lie between 1 and the width {dim}")
    generator = torch.Generator().manual_seed(seed)
    normal_DR = torch.randn((dim, rank), generator=generator, dtype=torch.float64)
    basis_DR = torch.linalg.qr(normal_DR).Q
    return _projection(basis_DR, name="random_subspace", fitted_on="nothing")


def shared_space(
    own_ND: Tensor,
    other_MD: Tensor,
    *,
    variance: float = 0.99,
    tolerance: float = 1e-3,
    fitted_on: str = "unstated",
) -> LinearMap:
    """Fit the projection on the directions that the subspaces of both modalities share (SSP).

    With B_own and B_other the right singular vectors that hold ``variance`` of each side's sum of squares and
    ``B_own^T B_other = U S V^T``: ``x' = norm(Q Q^T x)`` with Q those columns of ``B_own U`` whose singular
    value, the cosine of a principal angle, exceeds ``1 - tolerance``. The two orders of the arguments give
    bases at the same small angles, so one map may serve both sides. [0] Yi et al., 2025, arXiv 2510.03268.
    Implemented from a description of [0]; whether the rows are centred there is not known to us, here they
    are not. Tolerances to choose from: :data:`SHARED_TOLERANCES`.

    Shape: (N, D), (M, D) -> a map of width D.

    Raises:
        InputError: not two matrices of one width with finite rows, a variance outside (0, 1], a tolerance
            outside (0, 1), or no shared direction (the largest cosine is named).
    """
    wide_ND, wide_MD = check_fit(own_ND, "shared_space"), check_fit(other_MD, "shared_space")
    check_widths(wide_ND, wide_MD, "shared_space")
    if not 0 < variance <= 1 or not 0 < tolerance < 1:
        raise InputError(
            f"shared_space: {variance=} must lie in (0, 1] and {tolerance=} in (0, 1), both as shares"
        )
    own_DR, other_DR = (
        _leading(wide, variance, noise=_noise(features))
        for wide, features in ((wide_ND, own_ND), (wide_MD, other_MD))
    )
    turn_RR, cosine_R, _ = torch.linalg.svd(own_DR.T @ other_DR)
    shared = int((cosine_R > 1 - tolerance).sum())
    if shared == 0:
        raise InputError(
            f"shared_space: no direction is shared: the largest cosine between the two subspaces is "
            f"{float(cosine_R[0]):.4f}, not above {1 - tolerance:g}; raise tolerance or variance"
        )
    return _projection(own_DR @ turn_RR[:, :shared], name="shared_space", fitted_on=fitted_on)


def principal_basis(values_ND: Tensor, *, rank: int, what: str, of: str = "rows") -> Tensor:
    """Return an orthonormal basis of the first ``rank`` principal components, float64.

    Shape: (N, D) -> (D, rank).

    Raises:
        InputError: a rank below 1 or above that of the centred rows, or rows that are not finite.
    """
    wide_ND = check_fit(values_ND, what)
    centred_ND = wide_ND - wide_ND.mean(0)
    _, strength_R, direction_RD = torch.linalg.svd(centred_ND, full_matrices=False)
    # what the rows' own precision cannot tell from zero is no direction
    threshold = max(float(strength_R[0]), float(wide_ND.abs().max())) * _noise(values_ND)
    available = int((strength_R > threshold).sum())
    if not 1 <= rank <= available:
        raise InputError(
            f"{what}: {rank=} must lie between 1 and {available}, the rank of {values_ND.shape[0]} "
            f"centred {of} of width {values_ND.shape[1]}; lower the rank or give more {of}"
        )
    return direction_RD[:rank].T


def _leading(wide_ND: Tensor, variance: float, *, noise: float) -> Tensor:
    """Return the fewest right singular vectors that hold this share of the sum of squares: (D, R)."""
    _, strength_R, direction_RD = torch.linalg.svd(wide_ND, full_matrices=False)
    if float(strength_R[0]) == 0:
        raise InputError("shared_space: a modality has only zero rows, which span no subspace")
    energy_R = strength_R.square()
    held_R = energy_R.cumsum(0) / energy_R.sum()
    enough = int((held_R < variance - 1e-12).sum()) + 1
    real = int((strength_R > strength_R[0] * noise).sum())
    return direction_RD[: min(enough, real)].T


def _noise(values_ND: Tensor) -> float:
    return torch.finfo(values_ND.dtype).eps * max(values_ND.shape)


def _projection(basis_DR: Tensor, *, name: str, fitted_on: str, offset_D: Tensor | None = None) -> LinearMap:
    mean_D = basis_DR.new_zeros(basis_DR.shape[0])
    return LinearMap(
        mean_D=mean_D, matrix_DD=basis_DR @ basis_DR.T, name=name, fitted_on=fitted_on, offset_D=offset_D
    )
