"""How well similarities inside one modality follow from the similarities between the modalities."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from crossgap.errors import InputError
from crossgap.metrics.similarity import check_sides


class Recoverability(NamedTuple):
    """What a reconstruction from inter-modal similarities is worth."""

    relative_error: Tensor  # 0-d, float64; unit: ratio; range [0, inf); lower is better
    condition: Tensor  # 0-d, float64; condition number of the anchors; range [1, inf]; lower is better


def recoverability(
    image_ND: Tensor, text_MD: Tensor, *, noise: float, seed: int, num_anchors: int | None = None
) -> Recoverability:
    """Reconstruct image-image similarities from text-image ones, and measure the error.

    With the similarities ``S = T[J] X^T`` of all images to the anchors J, ``num_anchors`` random texts
    (default: as many as dimensions): ``X' = (T[J]^+ (S + noise E))^T`` with E standard normal, and the error
    is ``|X' X'^T - X X^T|_F / |X X^T|_F``. Without noise it is 0 when the anchors span the space: the
    argument that inter-modal training leaves no freedom inside a modality. [0] Herzog and Wang, 2026, arXiv
    2603.16100. The condition number ``s_max / s_min`` of the anchors says how much noise is amplified; it is
    infinite when they do not span the space. Exchange the arguments for text-text similarities. A change of
    one standard deviation of ``noise`` is one of cosine, as both sides are unit rows. Written without an N x
    N matrix.

    Shape: (N, D), (M, D) -> two 0-d, float64. Unit: ratio. Range: error [0, inf), condition [1, inf]; lower
    is better.

    Raises:
        InputError: shapes that do not fit, values that are not finite, a negative noise, or a number of
            anchors outside 1 ... M.
    """
    check_sides(image_ND, text_MD)
    num_anchors = min(text_MD.shape) if num_anchors is None else num_anchors
    if not 1 <= num_anchors <= text_MD.shape[0]:
        raise InputError(f"{num_anchors=} must lie between 1 and the number of texts, {text_MD.shape[0]}")
    if not 0 <= noise < float("inf"):
        raise InputError(f"{noise=} must be a finite standard deviation, not below 0")
    image_ND, text_MD = image_ND.detach().double(), text_MD.detach().double()
    if not bool(torch.isfinite(image_ND).all() and torch.isfinite(text_MD).all()):
        raise InputError("recoverability needs finite embeddings; look for a diverged model")
    if image_ND.shape[0] == 0 or not bool(image_ND.any()):
        raise InputError("recoverability needs images with directions; all rows are zero or there is none")
    generator = torch.Generator().manual_seed(seed)
    chosen_J = torch.randperm(text_MD.shape[0], generator=generator)[:num_anchors]
    anchor_JD = text_MD[chosen_J.to(text_MD.device)]
    error_JN = torch.randn((num_anchors, image_ND.shape[0]), generator=generator, dtype=torch.float64)
    seen_JN = anchor_JD @ image_ND.T + noise * error_JN.to(image_ND)
    found_ND = (torch.linalg.pinv(anchor_JD) @ seen_JN).T

    # X'X'^T - XX^T = (A B^T + B A^T) / 2 with A = X' - X and B = X' + X: no cancellation near 0
    less_ND, more_ND = found_ND - image_ND, found_ND + image_ND
    crossed_DD = less_ND.T @ more_ND
    squared = ((less_ND.T @ less_ND) * (more_ND.T @ more_ND)).sum() + (crossed_DD * crossed_DD.T).sum()
    error = (squared.clamp_min(0) / 2).sqrt() / torch.linalg.matrix_norm(image_ND.T @ image_ND)
    strength_R = torch.linalg.svdvals(anchor_JD)
    spanning = num_anchors >= text_MD.shape[1] and bool(
        strength_R[-1] > strength_R[0] * torch.finfo(torch.float64).eps * max(anchor_JD.shape)
    )
    condition = strength_R[0] / strength_R[-1] if spanning else strength_R.new_tensor(torch.inf)
    return Recoverability(error, condition)
