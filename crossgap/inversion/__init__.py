"""Modality inversion: image features into the text tower (OTI), text features into the image tower (OVI)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossgap.lazy import lazily

if TYPE_CHECKING:
    from crossgap.inversion.config import InversionConfig as InversionConfig
    from crossgap.inversion.loop import Inversion as Inversion
    from crossgap.inversion.loop import invert as invert
    from crossgap.inversion.loop import invert_grid as invert_grid

__getattr__ = lazily(
    __name__,
    {
        "Inversion": "crossgap.inversion.loop",
        "InversionConfig": "crossgap.inversion.config",
        "invert": "crossgap.inversion.loop",
        "invert_grid": "crossgap.inversion.loop",
    },
)
