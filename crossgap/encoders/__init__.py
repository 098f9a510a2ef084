"""CLIP-like models: what every part needs of one, and the adapter for open_clip's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossgap.lazy import lazily

if TYPE_CHECKING:
    from crossgap.encoders.devices import resolve_device as resolve_device
    from crossgap.encoders.loading import load_encoder as load_encoder
    from crossgap.encoders.open_clip import OpenClipEncoder as OpenClipEncoder
    from crossgap.encoders.protocol import Encoder as Encoder

__getattr__ = lazily(
    __name__,
    {
        "Encoder": "crossgap.encoders.protocol",
        "OpenClipEncoder": "crossgap.encoders.open_clip",
        "load_encoder": "crossgap.encoders.loading",
        "resolve_device": "crossgap.encoders.devices",
    },
)
