"""Inversions of many items kept as files: what was inverted once is never inverted again.

A file belongs to everything that its numbers depend on, the batch included, as rounding does: another thread
count, device or version of torch makes it again.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import open_clip
import torch
from torch import Tensor

import crossgap
from crossgap.datasets.tasks import Items
from crossgap.encoders.protocol import Encoder
from crossgap.errors import InputError
from crossgap.inversion.config import InversionBatch
from crossgap.store import digest_of, load_tensors, save_tensors

_FORMAT = 2


@dataclass(frozen=True)
class InvertedItems:
    """Items under one setting: features_ND and mean loss (1 - cosine) by step, its share of the seconds."""

    snapshots: dict[int, Tensor]
    losses: dict[int, float]
    seconds: float

    def at(self, steps: Sequence[int]) -> InvertedItems:
        """Leave out what was kept at other steps."""
        return InvertedItems(
            {step: self.snapshots[step] for step in steps},
            {step: self.losses[step] for step in steps},
            self.seconds,
        )


def path_of(batch: InversionBatch, folder: Path, encoder: Encoder, items: Items, targets_ND: Tensor) -> Path:
    """Name the file of a batch for the items of a side and what they are inverted towards."""
    about = {
        "format": _FORMAT,
        "crossgap": crossgap.__version__,
        "torch": torch.__version__,
        "open_clip": open_clip.__version__,
        "threads": torch.get_num_threads(),
        "device": encoder.device.type,
        "dtype": str(encoder.dtype),
        "encoder": encoder.fingerprint,
        "items": items.content_hash,
        "targets": digest_of({"targets": targets_ND}, {}),
        "into": batch.into,
        "configs": [asdict(config) for config in batch.configs],
        "snapshots": batch.snapshots,
        "engine": batch.engine,
    }
    key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
    return folder / f"inverted-{key}.safetensors"


def save_inversions(batch: InversionBatch, path: Path, found: Sequence[InvertedItems]) -> None:
    """Write one result a setting, atomically."""
    tensors = {
        f"{number}/{step}": inverted.snapshots[step]
        for number, inverted in enumerate(found)
        for step in batch.steps
    }
    about = {
        "losses": json.dumps([[inverted.losses[step] for step in batch.steps] for inverted in found]),
        "seconds": json.dumps([inverted.seconds for inverted in found]),
    }
    save_tensors(path, tensors, about)


def load_inversions(batch: InversionBatch, path: Path) -> list[InvertedItems] | None:
    """Read what :func:`save_inversions` wrote; None without a file, or with a warning of a damaged one."""
    if not path.exists():
        return None
    try:
        return _read(batch, path)
    except (InputError, KeyError, ValueError, TypeError) as error:
        warnings.warn(
            f"{path.name}: not a file of inversions ({type(error).__name__}: {error}); inverted again",
            stacklevel=2,
        )
        return None


def _read(batch: InversionBatch, path: Path) -> list[InvertedItems]:
    tensors, about = load_tensors(path)
    losses, seconds = json.loads(about["losses"]), json.loads(about["seconds"])
    return [
        InvertedItems(
            {step: tensors[f"{number}/{step}"] for step in batch.steps},
            {step: float(loss) for step, loss in zip(batch.steps, losses[number], strict=True)},
            float(seconds[number]),
        )
        for number in range(len(batch.configs))
    ]
