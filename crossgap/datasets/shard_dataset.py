"""Read shards with labels, captions or both, as img2dataset and webdataset write them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

from crossgap.datasets.build import make_dataset
from crossgap.datasets.entry import Entry
from crossgap.datasets.shards import Sample, expand_shards, places, read_shards
from crossgap.datasets.split import choose_split
from crossgap.datasets.stored import StoredImage
from crossgap.datasets.tasks import Dataset
from crossgap.errors import InputError


def load_shards(pattern: str | Sequence[str], *, split: str = "test", limit: int | None = None) -> Dataset:
    """Load shards; a sample's JSON may hold its class (``label``) and its ``split``.

    Of local tars only the places of images are kept; images of packed (``.tar.gz``) and remote ones stay in
    memory.

    Raises:
        InputError: what :func:`read_shards` refuses, samples with neither caption nor label, or a split that
            is not there.
    """
    name = pattern if isinstance(pattern, str) else " ".join(pattern)
    shards = expand_shards(pattern)
    names = _short_names(shards)
    by_split: dict[str, list[Entry]] = {}
    without = None
    for shard in shards:
        stored: dict[str, StoredImage] | None = None
        for sample in read_shards(shard, need=("image",)):
            if stored is None:  # after the first sample: a damaged shard is refused by its reader
                stored = places(shard)
            if not sample.captions and not _label(sample):
                raise InputError(
                    f"{sample.where}: neither a caption (.txt, or captions in .json) nor a label (in .json); "
                    "an evaluation needs one of them"
                )
            split_name = str(sample.meta.get("split") or "")
            without = without or (None if split_name else sample.where)
            by_split.setdefault(split_name, []).append(
                Entry(
                    id=f"{names[shard]}/{sample.key}",
                    image=stored.get(sample.key, sample.image),
                    captions=sample.captions,
                    label=_label(sample),
                )
            )
    if without is not None and len(by_split) > 1:
        raise InputError(f"{without}: no split in its .json but others have; give all of them one")
    chosen = choose_split(f"shards {name}", [split for split in by_split if split], split)
    entries = by_split[chosen] if chosen in by_split else by_split[""]
    train = by_split.get("train", []) if chosen != "train" else []
    return make_dataset(name, chosen, entries, train=train, limit=limit)


def _label(sample: Sample) -> str:
    label = sample.meta.get("label")
    return "" if label is None else str(label)


def _short_names(shards: Sequence[str]) -> dict[str, str]:
    """Call each shard by its file name, or by its whole address where file names repeat."""
    counts = Counter(PurePosixPath(shard).name for shard in dict.fromkeys(shards))
    return {
        shard: PurePosixPath(shard).name if counts[PurePosixPath(shard).name] == 1 else shard
        for shard in shards
    }
