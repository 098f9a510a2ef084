"""Linear maps from one modality into the other, fitted on pairs: crossing modalities without inversion.

As with inversion, only the query side is mapped; the gallery stays native.
"""

from __future__ import annotations

import torch
from torch import Tensor

from crossgap.errors import InputError
from crossgap.posthoc.linear_map import LinearMap, check_fit, check_widths

# penalties to try on the validation split, as shares of the mean variance of the inputs
RIDGE_STRENGTHS = (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0)


def ridge(source_ND: Tensor, target_ND: Tensor, *, strength: float, fitted_on: str = "unstated") -> LinearMap:
    """Fit the ridge regression of one modality on the other.

    ``x' = norm(W (x - m_source) + m_target)``, ``W = argmin_W mean_k |W (x_k - m_source) - (y_k -
    m_target)|^2 + lambda |W|_F^2`` with ``lambda = strength tr(Sigma_source) / D``: the strength is free of
    scale. [0] Hoerl and Kennard, 1970, Technometrics 12. Strengths to choose from: :data:`RIDGE_STRENGTHS`.

    Shape: (N, D), (N, D) pairs -> a map of width D.

    Raises:
        InputError: not pairs of finite rows, a strength that is not above 0, or source rows that do not vary.
    """
    source_ND, target_ND = check_fit(source_ND, "ridge"), check_fit(target_ND, "ridge")
    check_widths(source_ND, target_ND, "ridge", paired=True)
    if not 0 < strength < float("inf"):
        raise InputError(f"ridge: {strength=} must be a finite number above 0")
    source_D, target_D = source_ND.mean(0), target_ND.mean(0)
    centred_ND = source_ND - source_D
    covariance_DD = centred_ND.T @ centred_ND / len(centred_ND)
    penalty = strength * covariance_DD.trace() / len(source_D)
    if float(penalty) <= torch.finfo(torch.float64).eps ** 2:
        raise InputError(
            f"ridge: the {len(source_ND)} source rows do not vary; give more and different pairs"
        )
    penalised_DD = covariance_DD + penalty * torch.eye(len(source_D)).to(covariance_DD)
    crossed_DD = centred_ND.T @ (target_ND - target_D) / len(centred_ND)
    matrix_DD = torch.linalg.solve(penalised_DD, crossed_DD).T
    return LinearMap(
        mean_D=source_D, matrix_DD=matrix_DD, offset_D=target_D, name="ridge", fitted_on=fitted_on
    )


def procrustes(source_ND: Tensor, target_ND: Tensor, *, fitted_on: str = "unstated") -> LinearMap:
    """Fit the rotation (or reflection) of one modality that comes nearest to the other.

    ``x' = R x``, ``R = argmin_{R^T R = I} sum_k |R x_k - y_k|^2 = U V^T`` with ``sum_k y_k x_k^T = U S V^T``.
    Cosines inside the mapped modality stay what they were. Rows are not centred: a gap between the centres is
    part of what is turned. [0] Schoenemann, 1966, Psychometrika 31.

    Shape: (N, D), (N, D) pairs -> a map of width D.

    Raises:
        InputError: not pairs of finite rows.
    """
    source_ND, target_ND = check_fit(source_ND, "procrustes"), check_fit(target_ND, "procrustes")
    check_widths(source_ND, target_ND, "procrustes", paired=True)
    left_DD, _, right_DD = torch.linalg.svd(target_ND.T @ source_ND)
    return LinearMap(
        mean_D=source_ND.new_zeros(source_ND.shape[1]),
        matrix_DD=left_DD @ right_DD,
        name="procrustes",
        fitted_on=fitted_on,
    )
