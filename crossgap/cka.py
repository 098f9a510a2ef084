"""Centred kernel alignment: agreement of two spaces on the similarities of the same items."""

from __future__ import annotations

import torch
from torch import Tensor

from crossgap.errors import InputError
from crossgap.neighbourhood import check_items


def linear_cka(x_ND: Tensor, y_NE: Tensor, *, unbiased: bool = True) -> Tensor:
    """Measure how far two spaces agree on the inner products of the same items.

    ``HSIC(X, Y) / sqrt(HSIC(X, X) HSIC(Y, Y))`` with a linear kernel. Biased: HSIC = |Xc^T Yc|_F^2 of centred
    rows, which rises towards 1 as widths approach N. Unbiased (the default; the one to use for N < 5 D): the
    estimator of [1], with K and L the Gram matrices, their diagonals set to 0,
    ``[tr(KL) + (1'K1)(1'L1) / ((N-1)(N-2)) - 2/(N-2) 1'KL1] / (N(N-3))``, written without an N x N matrix.
    [0] Kornblith, Norouzi, Lee and Hinton, 2019, arXiv 1905.00414; [1] Song et al., 2012, JMLR 13.
    Differentiable.

    Shape: (N, D), (N, E) -> 0-d, float64. Unit: ratio. Range: [0, 1], unbiased [-1, 1]; 1 = equal up to
    rotation and scale, 0 = unrelated.

    Raises:
        InputError: not as many rows, fewer than two rows (unbiased: four), a side whose rows do not vary, or
            (unbiased) whose rows have one inner product with each other, such as orthogonal ones.
    """
    check_items(x_ND, y_NE, "linear_cka")
    count = x_ND.shape[0]
    if count < (4 if unbiased else 2):
        raise InputError(f"linear CKA needs two items, unbiased four; got {count}")
    rounding = [torch.finfo(side.dtype).eps for side in (x_ND, y_NE)]
    x_ND, y_NE = _centred(x_ND, "first"), _centred(y_NE, "second")
    if not unbiased:
        return _product(x_ND, y_NE) / (_product(x_ND, x_ND).sqrt() * _product(y_NE, y_NE).sqrt())
    own_x, own_y = _structure(x_ND, rounding[0], "first"), _structure(y_NE, rounding[1], "second")
    return _unbiased_product(x_ND, y_NE) / (own_x.sqrt() * own_y.sqrt())


def _centred(values_ND: Tensor, side: str) -> Tensor:
    wide_ND = values_ND.double()
    centred_ND = wide_ND - wide_ND.mean(0)
    noise = torch.finfo(values_ND.dtype).eps * float(wide_ND.detach().abs().max())
    if not float(centred_ND.detach().abs().max()) > noise:
        raise InputError(f"linear CKA: the rows of the {side} space do not vary, or are not finite")
    return centred_ND


def _structure(x_ND: Tensor, rounding: float, side: str) -> Tensor:
    """Return the unbiased HSIC(X, X), which is a square and 0 where all rows are alike to each other."""
    own, count = _unbiased_product(x_ND, x_ND), x_ND.shape[0]
    noise = max((8 * rounding) ** 2, 64 * torch.finfo(torch.float64).eps) / (count * (count - 3))
    if not float(own.detach()) > noise * float(_product(x_ND, x_ND).detach()):
        raise InputError(
            f"linear CKA, unbiased: the rows of the {side} space all have one inner product with each other, "
            "so there is no structure to agree on; take more items, or the biased form"
        )
    return own


def _product(x_ND: Tensor, y_NE: Tensor) -> Tensor:
    return (x_ND.T @ y_NE).square().sum()


def _unbiased_product(x_ND: Tensor, y_NE: Tensor) -> Tensor:
    count = x_ND.shape[0]
    x_own_N, y_own_N = x_ND.square().sum(1), y_NE.square().sum(1)
    # row sums of the Gram matrices without their diagonals
    x_rows_N, y_rows_N = x_ND @ x_ND.sum(0) - x_own_N, y_NE @ y_NE.sum(0) - y_own_N
    trace = _product(x_ND, y_NE) - (x_own_N * y_own_N).sum()
    mean = x_rows_N.sum() * y_rows_N.sum() / ((count - 1) * (count - 2))
    return (trace + mean - 2 / (count - 2) * (x_rows_N * y_rows_N).sum()) / (count * (count - 3))
