"""Maps that take strength from the directions in which a modality varies most: isotropy as a control."""

from __future__ import annotations

import torch
from torch import Tensor

from crossgap.errors import InputError
from crossgap.posthoc.linear_map import LinearMap, check_fit
from crossgap.posthoc.subspace import principal_basis

# shares of the covariance that are exchanged for an even one, to try on the validation split; 1 is centring
WHITENING_SHRINKAGES = (1e-3, 1e-2, 0.03, 0.1, 0.3, 0.6, 1.0)
_TOP_SHARES = (0.005, 0.01, 0.02, 0.05, 0.1)


def whitening(values_ND: Tensor, *, shrinkage: float, fitted_on: str = "unstated") -> LinearMap:
    """Fit the whitening of a modality, its covariance shrunk towards an even one.

    ``x' = norm(S^(-1/2) (x - m))`` with ``S = (1 - a) Sigma + a tr(Sigma)/D I``, Sigma = the covariance (over
    N) and a = ``shrinkage``: the symmetric (ZCA) root, which turns the space as little as can be. The
    textbook form adds eps I; shrinkage is the same up to scale, with eps = a/(1-a) tr(Sigma)/D, and does not
    depend on the spread of the features. a = 1 is centring. [0] Ledoit and Wolf, 2004, Journal of
    Multivariate Analysis 88 (the shrunk covariance); Kessy, Lewin and Strimmer, 2018, The American
    Statistician 72 (ZCA). Fit one map for each modality. Strengths to choose from:
    :data:`WHITENING_SHRINKAGES`.

    Shape: (N, D) -> a map of width D.

    Raises:
        InputError: not a matrix with finite rows, a shrinkage outside (0, 1], or rows that do not vary.
    """
    wide_ND = check_fit(values_ND, "whitening")
    if not 0 < shrinkage <= 1:
        raise InputError(
            f"whitening: {shrinkage=} must lie in (0, 1]; 0 would divide by directions that hold only noise"
        )
    mean_D = wide_ND.mean(0)
    centred_ND = wide_ND - mean_D
    covariance_DD = centred_ND.T @ centred_ND / len(centred_ND)
    even = covariance_DD.trace() / len(mean_D)
    if float(even) <= (torch.finfo(values_ND.dtype).eps * float(wide_ND.abs().max())) ** 2:
        raise InputError(f"whitening: the {len(wide_ND)} rows do not vary; give more and different items")
    strength_D, direction_DD = torch.linalg.eigh(covariance_DD)
    shrunk_D = (1 - shrinkage) * strength_D.clamp_min(0) / even + shrinkage
    matrix_DD = direction_DD @ torch.diag(shrunk_D.rsqrt()) @ direction_DD.T
    return LinearMap(mean_D=mean_D, matrix_DD=matrix_DD, name="whitened", fitted_on=fitted_on)


def top_removal(values_ND: Tensor, *, rank: int, fitted_on: str = "unstated") -> LinearMap:
    """Fit the removal of a modality's mean and of its strongest components ("all but the top").

    ``x' = norm((I - Q Q^T) (x - m))`` with Q the first ``rank`` principal components; [0] takes about D/100.
    [0] Mu and Viswanath, 2018, "All-but-the-top", ICLR. Fit one map for each modality. Ranks to choose from:
    :func:`top_candidates`.

    Shape: (N, D) -> a map of width D.

    Raises:
        InputError: not a matrix with finite rows, or a rank outside 1 ... that of the centred rows, or D.
    """
    if rank >= values_ND.shape[-1]:
        raise InputError(
            f"top_removal: {rank=} must be below the width {values_ND.shape[-1]}, or nothing is left"
        )
    basis_DR = principal_basis(values_ND, rank=rank, what="top_removal")
    mean_D = values_ND.detach().double().mean(0)
    matrix_DD = torch.eye(len(mean_D), dtype=torch.float64, device=mean_D.device) - basis_DR @ basis_DR.T
    return LinearMap(mean_D=mean_D, matrix_DD=matrix_DD, name="top_removed", fitted_on=fitted_on)


def top_candidates(dim: int) -> tuple[int, ...]:
    """List the numbers of components to try removing on the validation split: D/100, the published choice,
    and shares around it."""
    return tuple(sorted({max(1, round(share * dim)) for share in _TOP_SHARES if dim > 1}))
