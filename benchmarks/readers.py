"""Datasets of generated images, peak memory of reading and encoding them, each reader in a fresh process.

python -m benchmarks.readers --path photos/
"""

from __future__ import annotations

import csv
import gc
import io
import json
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.memory import forget_peak, in_fresh_process, peak, resident
from benchmarks.tables import BenchTable, Cell
from benchmarks.towers import find_tower
from crossgap.command import run_command
from crossgap.datasets.load import load_dataset
from crossgap.embeddings import encode_items

_SIZE = 96  # pixels of an image's side
_CLASSES = 100  # at most: four images a class at least


def readers(
    counts: Sequence[int] = (2000, 20000),
    *,
    measure: Callable[[str, Path | None], tuple[float, float]] | None = None,
    progress: Callable[[str], None],
) -> list[BenchTable]:
    """Compare what a small dataset and a large one take: as class folders, a CSV file, a tar, a CoOp list.

    Args:
        counts: of images.
        measure: how the two peaks of a dataset are found; default: :func:`peaks` in a fresh process.
    """
    rows: list[dict[str, Cell]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for count in counts:
            folder = Path(scratch) / str(count)
            progress(f"{count} images: written")
            held = _write(folder, count)
            for name, given in _given(folder).items():
                progress(f"{count} images: {name}")
                loading, encoding = (measure or _fresh)(*given)
                rows.append(
                    {
                        "reader": name,
                        "images": count,
                        "files, MiB": held / 2**20,
                        "decoded, MiB": count * 3 * _SIZE**2 / 2**20,
                        "load, MiB": loading,
                        "load + encode, MiB": encoding,
                        "KiB an image": 1024 * encoding / count,
                    }
                )
    return [
        BenchTable(
            title="Peak memory of reading a dataset, and of reading and encoding it",
            rows=rows,
            note="Above a process that has read and encoded a few images, by a tiny tower. What grows is "
            "names, labels, digests and features; no picture is held beyond a batch of 256.",
        )
    ]


def _write(folder: Path, count: int) -> int:
    """Write images as class folders, a table, a tar and a split file of the same ones; return their bytes."""
    held, classes = 0, min(_CLASSES, count // 4)
    rows = []
    photos = folder / "photos"
    (folder / "tar").mkdir(parents=True)
    with tarfile.open(folder / "tar" / "photos.tar", "w") as archive:
        for number, data in enumerate(pictures(count)):
            label = f"class {number % classes}"
            path = photos / label / f"{number:06d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            held += len(data)
            rows.append((f"photos/{label}/{path.name}", label))
            for extension, part in (("jpg", data), ("json", json.dumps({"label": label}).encode())):
                member = tarfile.TarInfo(f"{number:06d}.{extension}")
                member.size = len(part)
                archive.addfile(member, io.BytesIO(part))
    with open(folder / "photos.csv", "w", newline="") as file:
        csv.writer(file).writerows([("path", "label"), *rows])
    split = folder / "dtd" / "split_zhou_DescribableTextures.json"
    split.parent.mkdir()
    (split.parent / "images").symlink_to(photos)
    names = sorted({label for _, label in rows})
    listed = [[path.removeprefix("photos/"), names.index(label), label] for path, label in rows]
    parts = {"train": listed[:classes], "val": listed[:classes], "test": listed[classes:]}
    split.write_text(json.dumps(parts))
    return held


def pictures(count: int) -> Iterator[bytes]:
    """Give JPEG files of noise, which nothing compresses."""
    generator = np.random.default_rng(0)
    for _ in range(count):
        stream = io.BytesIO()
        pixels = generator.integers(0, 255, (_SIZE, _SIZE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(stream, "JPEG", quality=90)
        yield stream.getvalue()


def _given(folder: Path) -> dict[str, tuple[str, Path | None]]:
    return {
        "class folders": (str(folder / "photos"), None),
        "CSV": (str(folder / "photos.csv"), None),
        "tar": (str(folder / "tar" / "photos.tar"), None),
        "CoOp list": ("dtd", folder),
    }


def _fresh(path: str, data_root: Path | None) -> tuple[float, float]:
    root = [] if data_root is None else ["--data-root", str(data_root)]
    loading, encoding = in_fresh_process("benchmarks.readers", "--path", path, *root)
    return loading, encoding


def peaks(path: str, data_root: Path | None) -> tuple[float, float]:
    """Return two peaks in MiB above this process at rest: after loading a dataset, after encoding it too."""
    encoder = find_tower("tiny").encoder()
    few = load_dataset(path, data_root=data_root, limit=4)
    for task in few.tasks:
        encode_items(encoder, task.query)
    del few, task
    gc.collect()
    resting = resident()
    forget_peak()
    dataset = load_dataset(path, data_root=data_root)
    loading = (peak() - resting) / 2**20
    encode_items(encoder, dataset.tasks[0].query)
    return loading, (peak() - resting) / 2**20


def main(*, path: str, data_root: Path | None = None, threads: int = 1) -> None:
    """Print two peaks in MiB above the process at rest: after loading a dataset, after encoding it too.

    Args:
        path: the dataset.
        data_root: where known datasets lie.
        threads: CPU threads.
    """
    torch.set_num_threads(threads)
    print(json.dumps(peaks(path, data_root)))


if __name__ == "__main__":
    sys.exit(run_command(main))
