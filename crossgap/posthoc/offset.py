"""Maps that move a modality as a whole: they change the gap between the centres and no shape."""

from __future__ import annotations

import torch
from torch import Tensor

from crossgap.errors import InputError
from crossgap.posthoc.linear_map import LinearMap, check_fit, check_widths
from crossgap.posthoc.subspace import principal_basis

# shares of the gap vector to try on the validation split: 0 changes nothing, 0.5 lets the two centres meet,
# 1 exchanges them
SHIFT_STRENGTHS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.75, 1.0)


def centring(values_ND: Tensor, *, fitted_on: str = "unstated") -> LinearMap:
    """Fit the subtraction of a modality's mean.

    ``x' = norm(x - mean_k x_k)``. [0] An et al., 2024, arXiv 2412.14384 (I0T). Fit one map for each modality.

    Shape: (N, D) -> a map of width D.

    Raises:
        InputError: not a matrix, no row, or values that are not finite.
    """
    mean_D = check_fit(values_ND, "centring").mean(0)
    return _translation(mean_D, name="centred", fitted_on=fitted_on)


def gap_shift(own_ND: Tensor, other_MD: Tensor, *, strength: float, fitted_on: str = "unstated") -> LinearMap:
    """Fit the shift of one modality along the gap vector, towards the other.

    ``x' = norm(x - strength (m_own - m_other))`` with the means m. [0] Liang et al., 2022, arXiv 2203.02053.
    Fit one map for each modality, with the roles exchanged: at strength 0.5 the unnormalised centres meet. A
    shift of both sides of a task inside one modality changes its cosines too, as rows are normalised after
    it. Strengths to choose from: :data:`SHIFT_STRENGTHS`.

    Shape: (N, D), (M, D) -> a map of width D.

    Raises:
        InputError: not two matrices of one width with rows of finite values, or a strength that is not
            finite.
    """
    own_ND, other_MD = check_fit(own_ND, "gap_shift"), check_fit(other_MD, "gap_shift")
    check_widths(own_ND, other_MD, "gap_shift")
    _check_finite(strength, "gap_shift", "strength")
    return _translation(strength * (own_ND.mean(0) - other_MD.mean(0)), name="shifted", fitted_on=fitted_on)


def orthogonal_closing(
    moved_ND: Tensor, fixed_MD: Tensor, *, rank: int, alpha: float = -1.0, fitted_on: str = "unstated"
) -> LinearMap:
    """Fit the shift along the part of the gap vector in which the moved modality does not vary.

    ``y' = norm(y + alpha (g - V V^T g))`` with ``g = m_moved - m_fixed`` and V the first ``rank`` principal
    components of the moved modality, which is the one retrieved; alpha = -1 closes. Only the modality moved
    gets this map, the other stays native. [0] Chowers et al., 2026, "Is the modality gap a bug or a
    feature?", CVPR. Implemented from a description of [0]; its choice of the number of components is not
    known to us. Ranks to choose from: :func:`crossgap.posthoc.subspace.rank_candidates`.

    Shape: (N, D), (M, D) -> a map of width D.

    Raises:
        InputError: not two matrices of one width with rows of finite values, an alpha that is not finite, or
            a rank outside 1 ... that of the centred moved rows.
    """
    check_fit(moved_ND, "orthogonal_closing")
    fixed_MD = check_fit(fixed_MD, "orthogonal_closing")
    check_widths(moved_ND, fixed_MD, "orthogonal_closing")
    _check_finite(alpha, "orthogonal_closing", "alpha")
    basis_DR = principal_basis(moved_ND, rank=rank, what="orthogonal_closing")
    gap_D = moved_ND.detach().double().mean(0) - fixed_MD.mean(0)
    outside_D = gap_D - basis_DR @ (basis_DR.T @ gap_D)
    return _translation(-alpha * outside_D, name="orthogonal_closing", fitted_on=fitted_on)


def _translation(subtracted_D: Tensor, *, name: str, fitted_on: str) -> LinearMap:
    identity_DD = torch.eye(len(subtracted_D), dtype=torch.float64, device=subtracted_D.device)
    return LinearMap(mean_D=subtracted_D, matrix_DD=identity_DD, name=name, fitted_on=fitted_on)


def _check_finite(value: float, what: str, name: str) -> None:
    if not abs(value) < float("inf"):
        raise InputError(f"{what}: {name}={value} must be a finite number")
