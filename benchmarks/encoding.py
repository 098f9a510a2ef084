"""Photos encoded: images a second against the loop that waits and against open_clip's with a DataLoader.

python -m benchmarks.encoding --path photos/ --count 400
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from benchmarks.machine import interleave, seconds
from benchmarks.memory import forget_peak, in_fresh_process, peak, resident
from benchmarks.tables import BenchTable, Cell
from benchmarks.towers import find_tower
from crossgap.command import run_command
from crossgap.compute import ENCODED, Compute
from crossgap.datasets.load import load_dataset
from crossgap.datasets.tasks import Items
from crossgap.embeddings import encode_items
from crossgap.encoders.open_clip import OpenClipEncoder
from crossgap.encoders.pixels import batches_of, pixels_ahead
from tests.reference import plain_encoding

_WIDTH, _HEIGHT = 500, 375
_CLASSES = 4
_WORKERS = (1, 2)
COUNTS: Mapping[str, int] = {"small": 4000, "ViT-B-32": 512}


def encoding(
    counts: Mapping[str, int] = COUNTS,
    *,
    held: Sequence[int] = (400, 1200, 4000),
    rounds: int = 5,
    workers: Sequence[int] = _WORKERS,
    measure: Callable[[Path, int], float] | None = None,
    progress: Callable[[str], None],
) -> list[BenchTable]:
    """Time the encoding of photos by some towers, and measure the memory that it takes.

    Args:
        counts: tower -> photos that it is timed with.
        held: photos that memory is measured with; none: it is not measured.
        workers: numbers of threads, and of processes of the DataLoader.
        measure: how memory is measured; default: :func:`held_by` in a fresh process.
    """
    with tempfile.TemporaryDirectory() as scratch:
        photos = Path(scratch) / "photos"
        progress("photos: written")
        write_photos(photos, max([*counts.values(), *held]))
        items = load_dataset(str(photos)).tasks[0].query
        tables = [
            _speed(name, items.subset(range(count)), workers, rounds, progress)
            for name, count in counts.items()
        ]
        tables.append(_decoding(items.subset(range(max(counts.values()))), workers, rounds, progress))
        rows: list[dict[str, Cell]] = []
        for count in held:
            progress(f"memory of {count} photos")
            used = (measure or _fresh)(photos, count)
            rows.append({"photos": count, "decoded, MiB": count * 3 * 224**2 / 2**20, "peak, MiB": used})
    if not rows:
        return tables
    note = (
        f"Above a process that has encoded a few, {max(workers)} workers. At most three batches of "
        f"{ENCODED.least} are held, as bytes, and one as numbers."
    )
    return [*tables, BenchTable(title="Peak memory of encoding photos, small tower", rows=rows, note=note)]


def write_photos(folder: Path, count: int) -> None:
    """Write JPEG photos of 500 x 375 with patches of colour and grain, in class folders."""
    generator = np.random.default_rng(0)
    for number in range(count):
        patches = Image.fromarray(generator.integers(0, 255, (12, 16, 3), dtype=np.uint8))
        smooth_HWC = np.asarray(patches.resize((_WIDTH, _HEIGHT), Image.Resampling.BICUBIC), dtype=np.float32)
        grain_HW1 = generator.normal(0, 12, (_HEIGHT, _WIDTH, 1))
        path = folder / f"class {number % _CLASSES}" / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((smooth_HWC + grain_HW1).clip(0, 255).astype(np.uint8)).save(path, quality=90)


class Photos(torch.utils.data.Dataset[Tensor]):
    """What a DataLoader's processes read: images by open_clip's own transform."""

    def __init__(self, items: Items, transform: Any) -> None:
        self._paths = items.contents
        self._transform = transform

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, place: int) -> Tensor:
        path = self._paths[place]
        assert isinstance(path, Path)
        return self._transform(Image.open(path).convert("RGB"))


@torch.no_grad()
def data_loader_loop(encoder: OpenClipEncoder, items: Items, workers: int) -> Tensor:
    """Encode photos as open_clip's examples do."""
    loader = DataLoader(Photos(items, encoder._transform), batch_size=ENCODED.least, num_workers=workers)
    return torch.cat([F.normalize(encoder.model.encode_image(pixels), dim=-1) for pixels in loader])


def _speed(
    name: str, items: Items, workers: Sequence[int], rounds: int, progress: Callable[[str], None]
) -> BenchTable:
    encoder = find_tower(name).encoder()
    runs: dict[str, Callable[[], Tensor]] = {"waits, one thread": partial(plain_encoding, encoder, items)}
    for count in workers:
        runs[f"DataLoader, {count} workers"] = partial(data_loader_loop, encoder, items, count)
        runs[f"ours, {count} workers"] = partial(encode_items, encoder, items, compute=Compute(workers=count))
    few = items.subset(range(min(8, len(items))))
    plain_encoding(encoder, few)
    made: dict[str, Tensor] = {}
    worked: dict[str, list[float]] = {what: [] for what in runs}

    def timed(what: str) -> float:
        before = _worked()
        spent = seconds(lambda: made.update({what: runs[what]()}))
        worked[what].append((_worked() - before) * 1000 / len(items))
        return spent

    times = interleave(
        {what: partial(timed, what) for what in runs},
        rounds,
        progress=lambda what: progress(f"{name}, {len(items)} photos: {what}"),
    )
    plain = times["waits, one thread"]
    rows: list[dict[str, Cell]] = []
    for what, timing in times.items():
        ratios = plain.ratios(timing)
        rows.append(
            {
                "loop": what,
                "images/s": len(items) / timing.median,
                "x waits": statistics.median(ratios),
                "min": min(ratios),
                "max": max(ratios),
                "processor, ms an image": statistics.median(worked[what]),
            }
        )
    expected_ND = made["waits, one thread"]
    equal = all(torch.equal(made[what], expected_ND) for what in made if what.startswith("ours"))
    return BenchTable(
        title=f"{name}, {len(items)} photos of {_WIDTH} x {_HEIGHT}",
        rows=rows,
        note=f"Medians of {rounds} interleaved rounds; least and most of x waits; the time of the processor "
        f"is that of all processes. {torch.get_num_threads()} threads of torch. Features of ours "
        f"and of the loop that waits: {'equal to the bit' if equal else 'NOT EQUAL'}.",
    )


def _worked() -> float:
    """Give the seconds of processor that this process and its ended children took."""
    return sum(os.times()[:4])


def _decoding(
    items: Items, workers: Sequence[int], rounds: int, progress: Callable[[str], None]
) -> BenchTable:
    """Time what happens ahead of an encoder, by itself: read, decode, resize, make numbers."""
    preprocessing = find_tower("small").encoder().preprocessing
    batches = batches_of(len(items), ENCODED.least)

    def decoded(count: int) -> float:
        pixels = partial(pixels_ahead, items.image, batches, preprocessing, device=torch.device("cpu"))
        return seconds(lambda: [len(pixels_BCHW) for pixels_BCHW in pixels(workers=count)])

    times = interleave(
        {str(count): partial(decoded, count) for count in workers},
        rounds,
        progress=lambda what: progress(f"{len(items)} photos decoded alone by {what}"),
    )
    return BenchTable(
        title=f"{len(items)} photos of {_WIDTH} x {_HEIGHT}, decoded for a model of 224 pixels, not encoded",
        rows=[
            {"workers": int(count), "images/s": len(items) / timing.median} for count, timing in times.items()
        ],
    )


def _fresh(photos: Path, count: int) -> float:
    found: float = in_fresh_process("benchmarks.encoding", "--path", str(photos), "--count", str(count))
    return found


def held_by(photos: Path, count: int, workers: int = max(_WORKERS)) -> float:
    """Encode photos in this process; return its peak above rest in MiB."""
    encoder = find_tower("small").encoder()
    items = load_dataset(str(photos)).tasks[0].query
    encode_items(encoder, items.subset(range(8)), compute=Compute(workers=workers))
    gc.collect()
    resting = resident()
    forget_peak()
    encode_items(encoder, items.subset(range(count)), compute=Compute(workers=workers))
    return (peak() - resting) / 2**20


def main(*, path: Path, count: int, workers: int = max(_WORKERS), threads: int = 1) -> None:
    """Print the peak of encoding photos, in MiB above the process at rest.

    Args:
        path: class folders of photos.
        count: of them.
        workers: threads that decode.
        threads: CPU threads.
    """
    torch.set_num_threads(threads)
    print(json.dumps(held_by(path, count, workers)))


if __name__ == "__main__":
    sys.exit(run_command(main))
