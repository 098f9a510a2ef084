"""Changes to the host loss itself: what it is given, or what it aims at."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class HostInputs(NamedTuple):
    """What the CLIP loss is computed from: unit rows of pairs, and how much of a target is spread."""

    image_BD: Tensor
    text_BD: Tensor
    label_smoothing: float = 0.0


def label_smoothing(given: HostInputs, strength: float, generator: torch.Generator) -> HostInputs:
    """Spread a share of each target evenly over the batch: (1 - eps) onehot + eps / B.

    [0] Szegedy et al., 2016, arXiv 1512.00567, section 7.
    """
    return given._replace(label_smoothing=strength)


def swap_hard(given: HostInputs, strength: float, generator: torch.Generator) -> HostInputs:
    """In a share of the steps, exchange entries of both sides: each with probability 1/2.

    [0] Yaras et al., 2024, arXiv 2412.07909, hard swapping between modalities; probability 1e-3.

    The source at hand leaves open which entries: here every entry of every pair draws for itself, and rows
    are scaled to length 1 again.
    """
    return _mixed(given, strength, generator, lambda draw: (draw < 0.5).to(draw))


def swap_soft(given: HostInputs, strength: float, generator: torch.Generator) -> HostInputs:
    """In a share of the steps, mix entries of both sides: x <- a x + (1 - a) y, a ~ U[0, 1] for each entry.

    [0] Yaras et al., 2024, arXiv 2412.07909, soft swapping between modalities; probability 5e-2.

    Rows are scaled to length 1 again.
    """
    return _mixed(given, strength, generator, lambda draw: draw)


def _mixed(
    given: HostInputs, share: float, generator: torch.Generator, kept: Callable[[Tensor], Tensor]
) -> HostInputs:
    if torch.rand((), generator=generator).item() >= share:
        return given
    image_BD, text_BD, _ = given
    draw_BD = torch.rand(image_BD.shape, generator=generator, dtype=torch.float64).to(image_BD)
    kept_BD = kept(draw_BD)
    return given._replace(
        image_BD=F.normalize(kept_BD * image_BD + (1 - kept_BD) * text_BD, dim=1),
        text_BD=F.normalize(kept_BD * text_BD + (1 - kept_BD) * image_BD, dim=1),
    )


Modifier = Callable[[HostInputs, float, torch.Generator], HostInputs]

# name -> modifier of the CLIP loss; its strength lies in [0, 1], and 0 is the loss without it
MODIFIERS: dict[str, Modifier] = {
    "label_smoothing": label_smoothing,
    "swap_hard": swap_hard,
    "swap_soft": swap_soft,
}
