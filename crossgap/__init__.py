"""Cross-modal inversion, retrieval and modality-gap measurement for CLIP-like models.

Shape suffixes used everywhere: B batch, N items, Q queries, G gallery, D embedding, W tower width,
L sequence, K pseudo-tokens. ``image_BD`` is a batch of image embeddings with unit rows.

For notebooks: ``load_encoder``, ``load_dataset``, ``invert``, ``evaluate``, ``retrieval_metrics``,
``modality_gap`` and ``compare``, imported when they are first used (docs/python.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossgap.lazy import lazily

if TYPE_CHECKING:
    from crossgap.datasets.load import load_dataset as load_dataset
    from crossgap.encoders.loading import load_encoder as load_encoder
    from crossgap.face import compare as compare
    from crossgap.face import modality_gap as modality_gap
    from crossgap.face import retrieval_metrics as retrieval_metrics

__version__ = "0.2.0"

# name -> the module that has it; the commands' modules are callable
_LAZY = {
    "load_encoder": "crossgap.encoders.loading",
    "load_dataset": "crossgap.datasets",
    "retrieval_metrics": "crossgap.face",
    "modality_gap": "crossgap.face",
    "compare": "crossgap.face",
    "invert": "crossgap.invert",
    "evaluate": "crossgap.evaluate",
}

__getattr__ = lazily(__name__, _LAZY)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
