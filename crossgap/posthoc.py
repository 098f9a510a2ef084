"""Training-free maps of an embedding space: the controls that a gain by inversion must beat."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from crossgap.errors import InputError
from crossgap.similarity import unit_rows


@dataclass(frozen=True, kw_only=True, eq=False)
class LinearMap:
    """Map embeddings by ``norm(M (x - m))``.

    ``fitted_on`` says in words what m and M were fitted on; a fair control never fits on test items.

    Shape: mean_D (D,), matrix_DD (D, D); called with (B, D) -> (B, D), unit rows.

    Raises:
        InputError: the mean and the matrix do not fit one another, or, when called, rows of another width or
            a row that the map sends to zero.
    """

    mean_D: Tensor
    matrix_DD: Tensor
    name: str
    fitted_on: str

    def __post_init__(self) -> None:
        width = self.mean_D.shape[0] if self.mean_D.ndim == 1 else None
        if width is None or self.matrix_DD.shape != (width, width):
            raise InputError(
                f"map {self.name!r} needs a mean (D,) and a matrix (D, D); "
                f"got {tuple(self.mean_D.shape)} and {tuple(self.matrix_DD.shape)}"
            )

    def __call__(self, values_BD: Tensor) -> Tensor:
        if values_BD.ndim != 2 or values_BD.shape[1] != self.mean_D.shape[0]:
            raise InputError(
                f"map {self.name!r} takes rows of width {self.mean_D.shape[0]}, got {tuple(values_BD.shape)}"
            )
        wide_BD = values_BD if values_BD.dtype == torch.float64 else values_BD.float()
        if wide_BD.shape[0] == 0:
            return wide_BD
        mapped_BD = (wide_BD - self.mean_D.to(wide_BD)) @ self.matrix_DD.to(wide_BD).T
        return unit_rows(mapped_BD, what=f"output of the map {self.name!r}")


def centring(values_ND: Tensor, *, fitted_on: str = "unstated") -> LinearMap:
    """Fit the subtraction of a modality's mean.

    ``x' = norm(x - mean_k x_k)``. [0] An et al., 2024, arXiv 2412.14384 (I0T). Fit one map for each modality.

    Shape: (N, D) -> a map of width D.

    Raises:
        InputError: not a matrix, no row, or values that are not finite.
    """
    _check_fit(values_ND, "centring")
    mean_D = values_ND.detach().double().mean(0)
    identity_DD = torch.eye(len(mean_D), dtype=torch.float64, device=mean_D.device)
    return LinearMap(mean_D=mean_D, matrix_DD=identity_DD, name="centred", fitted_on=fitted_on)


def class_pca(prompts_KD: Tensor, *, rank: int, fitted_on: str = "unstated") -> LinearMap:
    """Fit the projection on the main directions in which the embedded class prompts differ (PCA<-).

    ``x' = norm(Q Q^T x)`` with Q the first ``rank`` principal components of the embedded prompts ("a photo of
    x"); [0] takes half the embedding width. [0] Herzog and Wang, 2026, arXiv 2603.16100. The prompts are
    centred for the PCA, as PCA is defined; x is not.

    Shape: (K, D) prompts -> a map of width D.

    Raises:
        InputError: a rank below 1 or above that of the centred prompts (at most K - 1 and D).
    """
    _check_fit(prompts_KD, "class_pca")
    centred_KD = prompts_KD.detach().double() - prompts_KD.detach().double().mean(0)
    _, strength_R, direction_RD = torch.linalg.svd(centred_KD, full_matrices=False)
    # what the prompts' own precision cannot tell from zero is no direction
    noise = torch.finfo(prompts_KD.dtype).eps * max(prompts_KD.shape)
    threshold = max(float(strength_R[0]), float(prompts_KD.abs().max())) * noise
    available = int((strength_R > threshold).sum())
    if not 1 <= rank <= available:
        raise InputError(
            f"class_pca: {rank=} must lie between 1 and {available}, the rank of {prompts_KD.shape[0]} "
            f"centred prompts of width {prompts_KD.shape[1]}; lower the rank or give more prompts"
        )
    return _projection(direction_RD[:rank].T, name="class_pca", fitted_on=fitted_on)


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


def _projection(basis_DR: Tensor, *, name: str, fitted_on: str) -> LinearMap:
    mean_D = basis_DR.new_zeros(basis_DR.shape[0])
    return LinearMap(mean_D=mean_D, matrix_DD=basis_DR @ basis_DR.T, name=name, fitted_on=fitted_on)


def _check_fit(values_ND: Tensor, what: str) -> None:
    if values_ND.ndim != 2 or values_ND.shape[0] == 0:
        raise InputError(f"{what} is fitted on a matrix with one item a row, got {tuple(values_ND.shape)}")
    if not bool(torch.isfinite(values_ND).all()):
        raise InputError(f"{what} is fitted on finite embeddings only; look for a diverged model")
