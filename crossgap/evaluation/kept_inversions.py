"""Inversions of many items kept as files: what was inverted once is never inverted again.

A file belongs to everything that its numbers depend on, the batch included, as rounding does: another thread
count, device or version of torch makes it again.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import open_clip
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

import crossgap
from crossgap.datasets import Items
from crossgap.encoders import Encoder
from crossgap.inversion import Engine, InversionConfig, Target
from crossgap.records import atomic_path

_FORMAT = 1


@dataclass(frozen=True)
class Inverted:
    """Items under one setting: features_ND and mean loss (1 - cosine) by step, its share of the seconds."""

    snapshots: dict[int, Tensor]
    losses: dict[int, float]
    seconds: float

    def at(self, steps: Sequence[int]) -> Inverted:
        """Leave out what was kept at other steps."""
        return Inverted(
            {step: self.snapshots[step] for step in steps},
            {step: self.losses[step] for step in steps},
            self.seconds,
        )


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What is inverted together: the steps looked at under each of some settings."""

    into: Target
    configs: tuple[InversionConfig, ...]
    snapshots: tuple[int, ...]
    engine: Engine

    @property
    def _steps(self) -> list[int]:
        return sorted(self.snapshots)

    def place(
        self, into: Target, config: InversionConfig, snapshots: Sequence[int], engine: Engine
    ) -> int | None:
        """Find a setting among those of the batch, which may run longer and look at more; None if none is."""
        if (self.into, self.engine) != (into, engine) or not set(snapshots) <= set(self.snapshots):
            return None
        for number, held in enumerate(self.configs):
            if held.steps >= config.steps and replace(held, steps=config.steps) == config:
                return number
        return None

    def path(self, folder: Path, encoder: Encoder, items: Items, targets_ND: Tensor) -> Path:
        """Name the file of this batch for the items of a side and what they are inverted towards."""
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
            "targets": _digest([targets_ND]),
            "into": self.into,
            "configs": [asdict(config) for config in self.configs],
            "snapshots": self.snapshots,
            "engine": self.engine,
        }
        key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
        return folder / f"inverted-{key}.safetensors"

    def save(self, path: Path, found: Sequence[Inverted]) -> None:
        """Write one result a setting, atomically."""
        tensors = {
            f"{number}/{step}": one.snapshots[step].contiguous()
            for number, one in enumerate(found)
            for step in self._steps
        }
        about = {
            "losses": json.dumps([[one.losses[step] for step in self._steps] for one in found]),
            "seconds": json.dumps([one.seconds for one in found]),
            "sha256": _digest(list(tensors.values())),
        }
        with atomic_path(path) as temporary:
            save_file(tensors, temporary, metadata=about)

    def load(self, path: Path) -> list[Inverted] | None:
        """Read what :meth:`save` wrote; None where there is no file, or with a warning a damaged one."""
        if not path.exists():
            return None
        try:
            return self._read(path)
        except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
            warnings.warn(
                f"{path.name}: not a file of inversions ({type(error).__name__}: {error}); inverted again",
                stacklevel=2,
            )
            return None

    def _read(self, path: Path) -> list[Inverted]:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            places = [(n, step) for n in range(len(self.configs)) for step in self._steps]
            tensors = {place: file.get_tensor(f"{place[0]}/{place[1]}") for place in places}
        if _digest(list(tensors.values())) != about["sha256"]:
            raise ValueError("its features are not those written")
        losses, seconds = json.loads(about["losses"]), json.loads(about["seconds"])
        return [
            Inverted(
                {step: tensors[number, step] for step in self._steps},
                {step: float(loss) for step, loss in zip(self._steps, losses[number], strict=True)},
                float(seconds[number]),
            )
            for number in range(len(self.configs))
        ]


def _digest(tensors: Sequence[Tensor]) -> str:
    """Return the SHA-256 over shapes, dtypes and bytes."""
    digest = hashlib.sha256()
    for tensor in tensors:
        kept = tensor.detach().cpu().contiguous()
        digest.update(f"{tuple(kept.shape)} {kept.dtype};".encode())
        digest.update(kept.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
