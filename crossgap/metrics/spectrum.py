"""How many directions a cloud of embeddings really uses: collapse behind a closed gap shows here."""

from __future__ import annotations

import torch
from torch import Tensor

from crossgap.errors import InputError


def effective_rank(values_ND: Tensor) -> Tensor:
    """Measure the number of directions in which rows vary, by the entropy of their variances.

    ``exp(-sum_j p_j log p_j)`` with p = the eigenvalues of the covariance as shares of their sum. [0] Roy and
    Vetterli, 2007, "The effective rank", EUSIPCO; [0] takes singular values of the matrix itself, here they
    are squared and the rows centred. 0 where rows do not vary. Differentiable.

    Shape: (N, D) -> 0-d, float64. Unit: directions. Range: [1, min(N - 1, D)], or 0; higher is less
    collapsed.

    Raises:
        InputError: not a matrix, fewer than two rows, or values that are not finite.
    """
    share_R = _variance_shares(values_ND)
    return torch.special.entr(share_R).sum().exp() if len(share_R) else share_R.sum()


def participation_ratio(values_ND: Tensor) -> Tensor:
    """Measure the number of directions in which rows vary, by the concentration of their variances.

    ``(sum_j l_j)^2 / sum_j l_j^2`` with l = the eigenvalues of the covariance: never above the effective
    rank, and less moved by a tail of weak directions. [0] Gao et al., 2017, bioRxiv 214262. 0 where rows do
    not vary. Differentiable.

    Shape: (N, D) -> 0-d, float64. Unit: directions. Range: [1, min(N - 1, D)], or 0; higher is less
    collapsed.

    Raises:
        InputError: not a matrix, fewer than two rows, or values that are not finite.
    """
    share_R = _variance_shares(values_ND)
    return 1 / share_R.square().sum() if len(share_R) else share_R.sum()


def _variance_shares(values_ND: Tensor) -> Tensor:
    """Return the variances along principal directions as shares of their sum; empty where nothing varies."""
    if values_ND.ndim != 2 or values_ND.shape[0] < 2:
        raise InputError(f"a spectrum needs a matrix with two rows at least, got {tuple(values_ND.shape)}")
    if not bool(torch.isfinite(values_ND).all()):
        raise InputError("a spectrum needs finite embeddings; look for a diverged model")
    wide_ND = values_ND.double()
    centred_ND = wide_ND - wide_ND.mean(0)
    noise = torch.finfo(values_ND.dtype).eps * float(wide_ND.detach().abs().max())
    if not float(centred_ND.detach().abs().max()) > noise:
        return wide_ND.new_zeros(0)
    count, width = centred_ND.shape
    gram = centred_ND.T @ centred_ND if width <= count else centred_ND @ centred_ND.T
    strength_R = torch.linalg.eigvalsh(gram).clamp_min(0)
    return strength_R / strength_R.sum()
