"""Inversion settings by direction and backbone: the paper's, and a schedule with far fewer steps.

[0] Mistretta et al., Cross the Gap, ICLR 2025, arXiv 2502.04263: the released configurations.
"""

from __future__ import annotations

from crossgap.inversion import InversionConfig, Target


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


def preset(encoder_name: str, into: Target) -> InversionConfig:
    """Return the paper's settings for a backbone, or its most common ones for any other encoder."""
    return PRESETS[into].get(encoder_name, PRESETS[into]["default"])
