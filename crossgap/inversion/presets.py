"""Inversion settings by direction and backbone: the paper's, and a schedule with far fewer steps.

[0] Mistretta et al., Cross the Gap, ICLR 2025, arXiv 2502.04263: the released configurations.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, get_args

from crossgap.encoders.backbones import BACKBONES
from crossgap.errors import check_known
from crossgap.inversion.config import InversionConfig, Target

Schedule = Literal["paper", "fast"]


def _oti(num_tokens: int) -> InversionConfig:
    return InversionConfig(steps=150, num_tokens=num_tokens)


def _ovi(num_tokens: int) -> InversionConfig:
    return InversionConfig(steps=1000, num_tokens=num_tokens)


# The settings of the paper's released configurations [0]: into -> encoder -> settings.
PRESETS: dict[str, dict[str, InversionConfig]] = {
    "text": {"default": _oti(1)}
    | {name: _oti(1) for backbone in BACKBONES.values() for name in backbone.encoders},
    "image": {"default": _ovi(1)}
    | {name: _ovi(backbone.ovi_tokens) for backbone in BACKBONES.values() for name in backbone.encoders},
}


# Steps of L-BFGS that reach the loss of the paper's schedule, chosen on validation items of a small CLIP:
# docs/inversion.md shows the curves. Its retrieval is equivalent there; elsewhere it is to be checked.
FAST_STEPS: dict[str, int] = {"text": 20, "image": 60}


def preset(encoder_name: str, into: Target, schedule: Schedule = "paper") -> InversionConfig:
    """Return the settings for a backbone, or the most common ones for any other encoder.

    ``paper`` is the paper's schedule [0], ``fast`` the same inversion by L-BFGS in :data:`FAST_STEPS`.

    Raises:
        InputError: an unknown schedule.
    """
    check_known(schedule, get_args(Schedule), "inversion schedule")
    paper = PRESETS[into].get(encoder_name, PRESETS[into]["default"])
    if schedule == "paper":
        return paper
    return replace(paper, method="lbfgs", weight_decay=0.0, steps=FAST_STEPS[into])


def looks(steps: int) -> tuple[int, ...]:
    """Give the steps that are looked at unless others are named: as the gain changes, early ones dense."""
    return tuple(sorted({0, *(round(steps * share) for share in (0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1))}))
