"""Cross-modal inversion, retrieval and modality-gap measurement for CLIP-like models.

Shape suffixes used everywhere: B batch, N items, Q queries, G gallery, D embedding, W tower width,
L sequence, K pseudo-tokens. ``image_BD`` is a batch of image embeddings with unit rows.

For notebooks: ``load_encoder``, ``load_dataset``, ``invert``, ``evaluate``, ``retrieval_metrics``,
``modality_gap`` and ``compare``, imported when they are first used (docs/python.md).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crossgap.datasets import load_dataset as load_dataset
    from crossgap.encoders import load_encoder as load_encoder
    from crossgap.face import compare as compare
    from crossgap.face import modality_gap as modality_gap
    from crossgap.face import retrieval_metrics as retrieval_metrics

__version__ = "0.2.0"

# name -> the module that has it; the commands' modules are callable
_LAZY = {
    "load_encoder": "crossgap.encoders",
    "load_dataset": "crossgap.datasets",
    "retrieval_metrics": "crossgap.face",
    "modality_gap": "crossgap.face",
    "compare": "crossgap.face",
    "invert": "",
    "evaluate": "",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if not _LAZY[name]:
        return importlib.import_module(f"{__name__}.{name}")
    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
