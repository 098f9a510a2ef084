"""Read shards with labels, captions or both, as img2dataset and webdataset write them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

from crossgap.datasets.build import make_dataset
from crossgap.datasets.entry import Entry
from crossgap.datasets.shards import Sample, read_shards
from crossgap.datasets.split import choose_split
from crossgap.datasets.tasks import Dataset
from crossgap.errors import InputError


def load_shards(pattern: str | Sequence[str], *, split: str = "test", limit: int | None = None) -> Dataset:
    """Load shards into memory; a sample's JSON may hold its class (``label``) and its ``split``.

    Raises:
        InputError: what :func:`read_shards` refuses, samples with neither caption nor label, or a split that
            is not there.
    """
    name = pattern if isinstance(pattern, str) else " ".join(pattern)
    samples = list(read_shards(pattern, need=("image",)))
    names = _short_names(samples)
    for sample in samples:
        if not sample.captions and not _label(sample):
            raise InputError(
                f"{sample.where}: neither a caption (.txt, or captions in .json) nor a label (in .json); "
                "an evaluation needs one of them"
            )
    having = [sample for sample in samples if sample.meta.get("split")]
    splits = list(dict.fromkeys(str(sample.meta["split"]) for sample in having))
    if having and len(having) < len(samples):
        without = next(sample for sample in samples if not sample.meta.get("split"))
        raise InputError(f"{without.where}: no split in its .json but others have; give all of them one")
    chosen = choose_split(f"shards {name}", splits, split)

    def entries(wanted: str) -> list[Entry]:
        return [
            Entry(
                id=f"{names[sample.shard]}/{sample.key}",
                image=sample.image,
                captions=sample.captions,
                label=_label(sample),
            )
            for sample in samples
            if not splits or sample.meta["split"] == wanted
        ]

    train = entries("train") if "train" in splits and chosen != "train" else []
    return make_dataset(name, chosen, entries(chosen), train=train, limit=limit)


def _label(sample: Sample) -> str:
    label = sample.meta.get("label")
    return "" if label is None else str(label)


def _short_names(samples: Sequence[Sample]) -> dict[str, str]:
    """Call each shard by its file name, or by its whole address where file names repeat."""
    shards = dict.fromkeys(sample.shard for sample in samples)
    counts = Counter(PurePosixPath(shard).name for shard in shards)
    return {
        shard: PurePosixPath(shard).name if counts[PurePosixPath(shard).name] == 1 else shard
        for shard in shards
    }
