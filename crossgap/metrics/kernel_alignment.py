"""Kernel alignment of two spaces on the same items: of all similarities, or of shared neighbours."""

from __future__ import annotations

import torch
from scipy.sparse import csr_array
from torch import Tensor

from crossgap.errors import InputError
from crossgap.metrics.neighbourhood import check_items, neighbour_lists
from crossgap.metrics.similarity import unit_rows


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


_ENTRIES = 1 << 16  # cosines computed at once


_NOISE = 1e-12  # of sums in float64, relative


def cknna(x_ND: Tensor, y_NE: Tensor, *, k: int) -> Tensor:
    """Measure how far two spaces agree on the similarities of items that are neighbours in both.

    With K and L the cosines of all items, their diagonals left out, and M_ij = 1 where j is among the k
    nearest of i in both spaces: ``H(M K, M L) / sqrt(H(M_X K, M_X K) H(M_Y L, M_Y L))``, M_X and M_Y the
    neighbours in one space alone, products by entries, and the unbiased ``H(A, B) = [sum A_ij B_ji + (1'A1)
    (1'B1) / ((N-1)(N-2)) - 2/(N-2) 1'AB1] / (N(N-3))``. CKA (:func:`linear_cka`) sees
    all pairs, this the close ones. [0] Huh, Cheung, Wang and Isola, 2024, arXiv 2405.07987, in the form of
    its released code ([1] ``cknna`` with its defaults), of unit rows, without the 1e-6 that [1] adds below,
    which draws values of many items to 0. Where the k-th place is tied, an item counts there by its share of
    it, in both spaces by the smaller one. [1] github.com/minyoungg/platonic-rep, metrics.py. Not
    differentiable.

    Shape: (N, D), (N, E) -> 0-d, float64. Unit: ratio. Range: no bound, within [0, 1] but for noise; 1 = the
    same neighbours at the same cosines, 0 = unrelated.

    Raises:
        InputError: not as many rows, fewer than four, k outside 2 ... N - 1, a row without direction, or
            cosines of neighbours in one space that do not differ from the others, such as of equal rows.
    """
    check_items(x_ND, y_NE, "cknna")
    count = x_ND.shape[0]
    if count < 4:
        raise InputError(f"CKNNA needs four items, got {count}")
    if not 2 <= k < count:
        raise InputError(f"CKNNA: {k=} must lie between 2 and the {count - 1} other items an item has")
    first_ND, second_NE = (unit_rows(side.detach()).double().cpu() for side in (x_ND, y_NE))
    of_first, of_second = neighbour_lists(x_ND, k), neighbour_lists(y_NE, k)
    agreed, _ = _alignment(of_first.minimum(of_second), first_ND, second_NE)
    own_first = _own_alignment(of_first, first_ND, k, "first")
    own_second = _own_alignment(of_second, second_NE, k, "second")
    return x_ND.new_tensor(agreed / (own_first * own_second) ** 0.5, dtype=torch.float64)


def _own_alignment(mask: csr_array, side_ND: Tensor, k: int, side: str) -> float:
    own, trace = _alignment(mask, side_ND, side_ND)
    if not own > _NOISE * trace:
        raise InputError(
            f"CKNNA: cosines of {k} neighbours of {len(side_ND)} items in the {side} space differ too little "
            "from those of all items; take a smaller k, or more items"
        )
    return own


def _alignment(mask: csr_array, first_ND: Tensor, second_NE: Tensor) -> tuple[float, float]:
    """Return N(N-3) times the unbiased HSIC of two matrices of cosines under one mask, and its first term."""
    first, second = (_masked(mask, side) for side in (first_ND, second_NE))
    count = mask.shape[0]
    trace = first.multiply(second.T).sum()
    mean = first.sum() * second.sum() / ((count - 1) * (count - 2))
    through = first.sum(axis=0) @ second.sum(axis=1)
    return float(trace + mean - 2 / (count - 2) * through), float(trace)


def _masked(mask: csr_array, side_ND: Tensor) -> csr_array:
    """Multiply the places of a mask by the cosines there."""
    entries = mask.tocoo()
    row_E, column_E = (torch.from_numpy(places).long() for places in (entries.row, entries.col))
    cosine_E = torch.cat(
        [
            (side_ND[rows] * side_ND[columns]).sum(dim=1)
            for rows, columns in zip(row_E.split(_ENTRIES), column_E.split(_ENTRIES), strict=True)
        ]
    )
    return csr_array((entries.data * cosine_E.numpy(), (entries.row, entries.col)), shape=mask.shape)
