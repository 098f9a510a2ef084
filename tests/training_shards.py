"""Small shards to train on, written by the tests."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pretrain.config import TrainConfig, smoke
from pretrain.recipes import RECIPES

COLOURS = {"red": (220, 30, 30), "green": (30, 180, 60), "blue": (40, 60, 220), "black": (20, 20, 20)}
SHAPES = ("bar", "dot", "frame", "half")


def write_shard(path: Path, captions: Sequence[Sequence[str]] | None = None, *, size: int = 20) -> Path:
    """Write one sample a list of captions; by default 16 coloured shapes, two captions and a concept each."""
    concepts = captions is None
    if captions is None:
        captions = [[f"{c} {s}", f"a photo of a {c} {s}"] for c in COLOURS for s in SHAPES]
    with tarfile.open(path, "w") as archive:
        for index, texts in enumerate(captions):
            _add(archive, f"{index:04d}.png", _picture(index, size))
            about = {"captions": list(texts)} | ({"concept": SHAPES[index % len(SHAPES)]} if concepts else {})
            _add(archive, f"{index:04d}.json", json.dumps(about).encode())
    return path


def small_config(shard: str, **changes: Any) -> TrainConfig:
    """Give the smallest training on a shard: batches of 8, one thread."""
    small = replace(
        smoke(RECIPES["baseline"]()), data=shard, limit=None, batch_size=8, device="cpu", threads=1
    )
    return replace(small, **changes)


def _picture(index: int, size: int) -> bytes:
    pixels = np.full((size, size, 3), 255, dtype=np.uint8)
    colour = list(COLOURS.values())[index // len(SHAPES) % len(COLOURS)]
    boxes: list[Any] = [
        np.s_[size // 3 : size // 2], np.s_[size // 4 : size // 2, size // 4 : size // 2],
        np.s_[2 : size // 2, 1:-1], np.s_[:, : size // 2],
    ]  # fmt: skip
    pixels[boxes[index % len(SHAPES)]] = colour
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    archive.addfile(entry, io.BytesIO(data))
