"""Inversion settings by direction and backbone: the paper's, and a schedule with far fewer steps.

[0] Mistretta et al., Cross the Gap, ICLR 2025, arXiv 2502.04263: the released configurations.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, get_args

from crossgap.errors import check_known
from crossgap.inversion import InversionConfig, Target

Schedule = Literal["paper", "fast"]


def _oti(num_tokens: int) -> InversionConfig:
    return InversionConfig(steps=150, num_tokens=num_tokens)


def _ovi(num_tokens: int) -> InversionConfig:
    return InversionConfig(steps=1000, num_tokens=num_tokens)


# The settings of the paper's released configurations [0]: into -> backbone -> settings.
PRESETS: dict[str, dict[str, InversionConfig]] = {
    "text": {
        "ViT-B-32/openai": _oti(1),
        "ViT-L-14/openai": _oti(1),
        "ViT-B-32/datacomp_xl_s13b_b90k": _oti(1),
        "ViT-L-14/datacomp_xl_s13b_b90k": _oti(1),
        "ViT-B-16-SigLIP/webli": _oti(1),
        "slip-vit-b-16": _oti(1),
        "slip-vit-l-16": _oti(1),
        "default": _oti(1),
    },
    "image": {
        "ViT-B-32/openai": _ovi(1),
        "ViT-L-14/openai": _ovi(4),
        "ViT-B-32/datacomp_xl_s13b_b90k": _ovi(1),
        "ViT-L-14/datacomp_xl_s13b_b90k": _ovi(2),
        "ViT-B-16-SigLIP/webli": _ovi(4),
        "slip-vit-b-16": _ovi(1),
        "slip-vit-l-16": _ovi(2),
        "default": _ovi(1),
    },
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
