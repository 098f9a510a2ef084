"""Exact cosine scores between two sets of embeddings."""

from __future__ import annotations

import torch
from torch import Tensor

from crossgap.errors import InputError

_ROWS = 8192  # normalised at once


def check_sides(first_ND: Tensor, second_ND: Tensor, *, paired: bool = False) -> None:
    """Check that two sets of embeddings share a space and, when ``paired``, that row k belongs to row k.

    Raises:
        InputError: not two matrices, different widths, or (paired) different numbers of rows.
    """
    shapes = f"got shapes {tuple(first_ND.shape)} and {tuple(second_ND.shape)}"
    if first_ND.ndim != 2 or second_ND.ndim != 2:
        raise InputError(f"embeddings must be matrices with one item a row; {shapes}")
    if first_ND.shape[1] != second_ND.shape[1] or first_ND.shape[1] == 0:
        raise InputError(f"both sides must have the same embedding width, at least 1; {shapes}")
    if paired and first_ND.shape[0] != second_ND.shape[0]:
        raise InputError(f"pairs need as many rows on either side; {shapes}")
    if paired and first_ND.shape[0] == 0:
        raise InputError(f"there is no pair to measure; {shapes}")


def answer(value: Tensor, *sides: Tensor) -> Tensor:
    """Return a metric's value, or name what made it NaN or infinite; a penalty under training passes.

    A value that needs a gradient is not looked at: that would stop a GPU at every step, and the training loop
    looks at its loss. Values that are not finite although the features are (their metric says when) pass too.

    Shape: 0-d and features (N, D) -> 0-d.

    Raises:
        InputError: features that are not finite, with the first row.
    """
    if value.requires_grad or bool(torch.isfinite(value)):
        return value
    for number, side_ND in enumerate(sides, start=1):
        bad_N = ~torch.isfinite(side_ND).all(dim=1)
        if bool(bad_N.any()):
            raise InputError(
                f"row {int(bad_N.nonzero()[0, 0])} of side {number} is not finite ({int(bad_N.sum())} such "
                "rows): look for a diverged model, or remove the items"
            )
    return value


def unit_rows(values_ND: Tensor, *, what: str = "embeddings", first: int = 0) -> Tensor:
    """Scale each row to length 1, in float32 or, for float64 input, in float64.

    Errors call the rows by their number, the first one ``first``.

    Shape: (N, D) -> (N, D).

    Raises:
        InputError: a row that is zero or not finite has no direction.
    """
    wide_ND = values_ND if values_ND.dtype == torch.float64 else values_ND.float()
    # dividing by the largest entry first keeps very small and very large rows from under- and overflowing
    largest_N1 = wide_ND.abs().amax(dim=1, keepdim=True)
    usable_N = (torch.isfinite(largest_N1) & (largest_N1 > 0)).squeeze(1)
    if not bool(usable_N.all()):
        row = int((~usable_N).nonzero()[0, 0])
        raise InputError(
            f"row {first + row} of the {what} has no direction (largest entry {float(largest_N1[row]):g}): "
            "a cosine needs finite rows that are not zero; remove the item or mend what made it"
        )
    scaled_ND = wide_ND / largest_N1
    return scaled_ND / torch.linalg.vector_norm(scaled_ND, dim=1, keepdim=True)


def unit_copy(values_ND: Tensor, dtype: torch.dtype, what: str, device: torch.device | None = None) -> Tensor:
    """Return :func:`unit_rows` of a matrix, made piece by piece: one copy, not three, on ``device``.

    The pieces are scaled where the matrix lies, so that a device gets the bits of the CPU.
    """
    made_ND = torch.empty(values_ND.shape, dtype=dtype, device=device or values_ND.device)
    for start in range(0, len(values_ND), _ROWS):
        piece = slice(start, start + _ROWS)
        made_ND[piece] = unit_rows(values_ND[piece].to(dtype), what=what, first=start)
    return made_ND


def cosine_scores(query_QD: Tensor, gallery_GD: Tensor, *, chunk: int = 4096) -> Tensor:
    """Compute the cosine of every query with every gallery item.

    ``score_qg = <query_q, gallery_g> / (|query_q| |gallery_g|)``, exactly (no index, no half precision:
    cosines in float16 tie). The work goes by blocks of ``chunk`` x ``chunk``, which bounds temporary memory
    and changes values by rounding only. Rows need not be unit rows.

    Shape: (Q, D), (G, D) -> (Q, G); float64 when both sides are float64, else float32. Unit: cosine.

    Raises:
        InputError: shapes that do not fit, a row without direction, or a chunk below 1.
    """
    if chunk < 1:
        raise InputError(f"chunk must be at least 1, got {chunk=}")
    return inner_products(*unit_sides(query_QD, gallery_GD), chunk=chunk)


def unit_sides(
    query_QD: Tensor, gallery_GD: Tensor, device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """Return both sides with unit rows, in float64 when both are, else in float32, on ``device`` if given.

    Shape: (Q, D), (G, D) -> the same.

    Raises:
        InputError: shapes that do not fit, or a row without direction.
    """
    check_sides(query_QD, gallery_GD)
    double = query_QD.dtype == gallery_GD.dtype == torch.float64
    dtype = torch.float64 if double else torch.float32
    gallery_GD = unit_copy(gallery_GD, dtype, "gallery", device)
    return unit_copy(query_QD, dtype, "queries", device), gallery_GD


def inner_products(query_QD: Tensor, gallery_GD: Tensor, *, chunk: int = 4096) -> Tensor:
    """Multiply every query with every gallery item, by blocks, never in reduced precision.

    Shape: (Q, D), (G, D) of one dtype -> (Q, G).
    """
    scores_QG = query_QD.new_empty((query_QD.shape[0], gallery_GD.shape[0]))
    with torch.autocast(query_QD.device.type, enabled=False):
        for top in range(0, query_QD.shape[0], chunk):
            rows = slice(top, top + chunk)
            for left in range(0, gallery_GD.shape[0], chunk):
                columns = slice(left, left + chunk)
                scores_QG[rows, columns] = query_QD[rows] @ gallery_GD[columns].T
    return scores_QG
