"""Read shards with labels, captions or both, as img2dataset, webdataset and CLIP_benchmark write them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from crossgap.datasets.build import ClassTasks, make_dataset
from crossgap.datasets.contents import read_text
from crossgap.datasets.known.entry import Entry
from crossgap.datasets.labels import label_text
from crossgap.datasets.readers.packed import scheme_of
from crossgap.datasets.readers.reading import Reading
from crossgap.datasets.readers.shards import ShardSample, read_shards
from crossgap.datasets.split import choose_split, same_splits
from crossgap.datasets.tasks import Dataset
from crossgap.errors import InputError

CLASS_NAMES = "classnames.txt"  # of CLIP_benchmark: a class a line, beside the shards or their split folders


def load_shards(name: str, shards: Mapping[str, Sequence[str]], reading: Reading) -> Dataset:
    """Load shards; a sample's JSON may hold its class (``label``) and ``split``, a ``.cls`` part its class.

    Of local tars only the places of images are kept; images of packed and remote ones stay in memory. A file
    ``classnames.txt`` beside local shards, or beside their folders, says what numbers of classes mean.

    Args:
        shards: those of each split, by the name of its folder; "" where samples say it, or there is none.

    Raises:
        InputError: what :func:`read_shards` refuses, samples with neither caption nor label, a class without
            a name, or a split that is not there.
    """
    what = f"shards {name}"
    names = _short_names([shard for files in shards.values() for shard in files])
    if "" in shards:
        samples = _samples(shards[""], names, reading)
        held = {split: [entry for written, entry in samples if written == split] for split, _ in samples}
        without = next((entry.id for written, entry in samples if not written), None)
        if without is not None and len(held) > 1:
            raise InputError(f"{what}, item {without!r}: no split in its .json but others have; give all one")
        raw = same_splits(what, [split for split in held if split])
        by_split = {split: [entry for written in raw[split] for entry in held[written]] for split in raw}
        chosen = choose_split(what, by_split, reading.split)
        entries = by_split[chosen] if by_split else held.get("", [])
        train = by_split.get("train", []) if chosen != "train" else []
    else:
        folders = same_splits(what, shards)
        chosen = choose_split(what, folders, reading.split)

        def read(split: str) -> list[Entry]:
            files = [shard for folder in folders[split] for shard in shards[folder]]
            return [entry for _, entry in _samples(files, names, reading)]

        entries = read(chosen)
        train = read("train") if "train" in folders and chosen != "train" else []
    words = _class_names(list(names), [*entries, *train])
    if len(set(words.values())) == len(words):  # each name is one class: better to read than its number
        entries, train = _renamed(entries, words), _renamed(train, words)
    return make_dataset(name, chosen, entries, reading, train=train, class_tasks=ClassTasks(names=words))


def _samples(shards: Sequence[str], names: Mapping[str, str], reading: Reading) -> list[tuple[str, Entry]]:
    """Read entries with the split that each names."""
    entries = []
    for sample in read_shards(shards, need=("image",), bad=reading.bad.add, whole_texts=reading.whole_texts):
        try:
            label = _label(sample)
        except InputError as error:
            reading.bad.add(sample.shard, error)
            continue
        entries.append(
            (
                str(sample.meta.get("split") or ""),
                Entry(
                    id=f"{names[sample.shard]}/{sample.key}",
                    image=sample.place or sample.image,
                    captions=sample.captions,
                    label=label,
                ),
            )
        )
    return entries


def _label(sample: ShardSample) -> str:
    held = sample.meta.get("label")
    label = label_text(held, numbered=True)
    if label is None:
        raise InputError(f"{sample.where}: label {held!r} is no class; expected a text or a number")
    if not label and not sample.captions:
        said = "" if held is None else f", its label {held!r} means none"
        raise InputError(
            f"{sample.where}: neither a caption (.txt, or captions in .json) nor a label (.cls, or label in "
            f".json{said}); an evaluation needs one of them"
        )
    return label


def _class_names(shards: Sequence[str], entries: Sequence[Entry]) -> dict[str, str]:
    """Read the names of classes that are numbers; {} where no file gives names."""
    folders = {Path(shard).parent for shard in shards if scheme_of(shard) is None}
    files = {place / CLASS_NAMES for folder in folders for place in (folder, folder.parent)}
    labels = {entry.label for entry in entries if entry.label}
    present = sorted(file for file in files if file.is_file())
    if not present or not labels or not all(label.isdecimal() for label in labels):
        return {}
    if len(present) > 1:
        raise InputError(f"shards have class names in {' and '.join(map(str, present))}; leave one")
    words = [line.strip() for line in read_text(present[0]).strip().split("\n")]
    unknown = sorted((label for label in labels if int(label) >= len(words)), key=int)
    if unknown:
        raise InputError(f"{present[0]}: {len(words)} class names, but a sample has class {unknown[0]}")
    return {label: words[int(label)] for label in labels}


def _renamed(entries: Sequence[Entry], words: Mapping[str, str]) -> list[Entry]:
    return [replace(entry, label=words.get(entry.label, entry.label)) for entry in entries]


def _short_names(shards: Sequence[str]) -> dict[str, str]:
    """Call each shard by its file name, or by its whole address where file names repeat."""
    counts = Counter(PurePosixPath(shard).name for shard in dict.fromkeys(shards))
    return {
        shard: PurePosixPath(shard).name if counts[PurePosixPath(shard).name] == 1 else shard
        for shard in shards
    }
