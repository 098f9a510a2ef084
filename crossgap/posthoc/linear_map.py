"""The one shape that every training-free map has."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from crossgap.errors import InputError
from crossgap.metrics.similarity import unit_rows


@dataclass(frozen=True, kw_only=True, eq=False)
class LinearMap:
    """Map embeddings by ``norm(M (x - m) + b)``.

    ``fitted_on`` says in words what m, M and b were fitted on; a fair control never fits on test items.
    Without an offset b is zero.

    Shape: mean_D (D,), matrix_DD (D, D), offset_D (D,); called with (B, D) -> (B, D), unit rows.

    Raises:
        InputError: mean, matrix and offset do not fit one another, or, when called, rows of another width or
            a row that the map sends to zero.
    """

    mean_D: Tensor
    matrix_DD: Tensor
    name: str
    fitted_on: str
    offset_D: Tensor | None = None

    def __post_init__(self) -> None:
        width = self.mean_D.shape[0] if self.mean_D.ndim == 1 else None
        if width is None or self.matrix_DD.shape != (width, width):
            raise InputError(
                f"map {self.name!r} needs a mean (D,) and a matrix (D, D); "
                f"got {tuple(self.mean_D.shape)} and {tuple(self.matrix_DD.shape)}"
            )
        if self.offset_D is not None and self.offset_D.shape != (width,):
            raise InputError(
                f"map {self.name!r} of width {width} needs an offset of that width; "
                f"got {tuple(self.offset_D.shape)}"
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
        if self.offset_D is not None:
            mapped_BD = mapped_BD + self.offset_D.to(wide_BD)
        return unit_rows(mapped_BD, what=f"output of the map {self.name!r}")


def check_fit(values_ND: Tensor, what: str) -> Tensor:
    """Return the rows that a map is fitted on in float64, without gradients.

    Raises:
        InputError: not a matrix, no row or no column, or values that are not finite.
    """
    if values_ND.ndim != 2 or 0 in values_ND.shape:
        raise InputError(f"{what} is fitted on a matrix with one item a row, got {tuple(values_ND.shape)}")
    if not bool(torch.isfinite(values_ND).all()):
        row = int((~torch.isfinite(values_ND)).any(dim=1).nonzero()[0, 0])
        raise InputError(
            f"{what} is fitted on finite embeddings only, row {row} is not; look for a diverged model"
        )
    return values_ND.detach().double()


def check_widths(own_ND: Tensor, other_MD: Tensor, what: str, *, paired: bool = False) -> None:
    """Check that the two modalities a map is fitted on share a space and, if ``paired``, their rows.

    Raises:
        InputError: widths or, if paired, numbers of rows that differ.
    """
    shapes = f"got {tuple(own_ND.shape)} and {tuple(other_MD.shape)}"
    if own_ND.shape[1] != other_MD.shape[1]:
        raise InputError(f"{what} is fitted on two modalities of one width; {shapes}")
    if paired and own_ND.shape[0] != other_MD.shape[0]:
        raise InputError(f"{what} is fitted on pairs: row k belongs to row k; {shapes}")
