"""Read datasets of the Hugging Face hub (the extra ``hf``), streamed: what is kept of images lies on disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from crossgap.datasets.bad import BadSamples
from crossgap.datasets.build import make_dataset
from crossgap.datasets.known.entry import Entry
from crossgap.datasets.labels import label_text
from crossgap.datasets.readers.image_formats import IMAGE_EXTENSIONS
from crossgap.datasets.readers.picture_cache import PictureCache
from crossgap.datasets.readers.reading import Reading
from crossgap.datasets.split import choose_split, same_splits, split_name
from crossgap.datasets.tasks import Dataset
from crossgap.errors import InputError, installed_by

PREFIX = "hf:"
# columns by what they are called in most datasets, the first that is there
_IMAGES = ("image", "img", *IMAGE_EXTENSIONS)
_TEXTS = ("text", "caption", "captions", "sentence", "sentences", "txt")
_LABELS = ("label", "labels", "fine_label", "class", "cls")
_TEXT_FIELDS = ("raw", "text", "caption")  # of a column of structs, the first that is there


def load_hub(name: str, reading: Reading) -> Dataset:
    """Load one split of ``hf:OWNER/NAME``, ``hf:OWNER/NAME:CONFIG`` or ``hf:FOLDER`` of parquet files.

    Rows are streamed, as many as the limit says at most from the front, and no code of the dataset is run;
    split train, where there is one, is what others are compared with and maps are fitted on. Images are
    written to the cache folder ($XDG_CACHE_HOME/crossgap, ~/.cache/crossgap) as they are encoded there. Of a
    caption that is a struct the field raw, text or caption is taken. None, and -1 of numbered classes, are no
    class.

    Raises:
        MissingSplit: no such split; lists those that there are.
        InputError: the package is not installed, the hub does not answer, no column is known, or a row has no
            image, text or class where others have; names row and column.
    """
    builder, names = _opened(name)
    splits = same_splits(f"dataset {name!r}", names)
    chosen = choose_split(f"dataset {name!r}", splits, reading.split)
    entries = _entries(name, builder, splits[chosen][0], reading)
    train = (
        _entries(name, builder, splits["train"][0], reading)
        if "train" in splits and chosen != "train"
        else []
    )
    note = "" if reading.limit is None else f"The first {len(entries)} rows of the split"
    note += f" and {len(train)} of split train." if note and train else "." if note else ""
    return make_dataset(name, chosen, entries, reading, train=train, note=note)


def _opened(name: str) -> tuple[Any, list[str]]:
    """Return what reads a dataset, and the names of its splits."""
    from crossgap.encoders.weights import ENDPOINT, answers  # it imports open_clip, which takes seconds

    try:
        import datasets
    except ImportError as error:
        raise InputError(f"dataset {name!r} needs the package datasets: {installed_by('hf')}") from error
    datasets.disable_progress_bars()
    address, _, config = name.removeprefix(PREFIX).partition(":")
    if not Path(address).is_dir() and not answers(ENDPOINT):
        raise InputError(
            f"dataset {name!r}: no such folder, and {ENDPOINT} does not answer; "
            f"download the dataset elsewhere and give its folder as {PREFIX}FOLDER"
        )
    try:
        builder = datasets.load_dataset_builder(address, config or None)
        return builder, [str(split) for split in builder.as_streaming_dataset()]
    except Exception as error:
        # the hub's client and the readers of many formats raise many kinds; each means that it cannot be had
        raise InputError(f"dataset {name!r}: cannot be opened ({type(error).__name__}: {error})") from error


def _stream(builder: Any, split: str) -> tuple[Iterable[dict[str, Any]], Any]:
    """Return the rows of a split with their images still encoded, and what is known of their columns."""
    import datasets

    stream = builder.as_streaming_dataset(split=split)
    features = stream.features or dict.fromkeys(next(iter(stream), {}))
    for column, kind in features.items():
        if isinstance(kind, datasets.Image):
            stream = stream.cast_column(column, datasets.Image(decode=False))
    return stream, features


def _columns(name: str, features: Any) -> dict[str, str]:
    used = {}
    for part, names in (("image", _IMAGES), ("text", _TEXTS), ("label", _LABELS)):
        column = next((column for column in names if column in features), None)
        if column is not None:
            used[part] = column
    if "label" not in used and not {"image", "text"} <= set(used):
        raise InputError(
            f"dataset {name!r}: columns {', '.join(features)}; expected an image or a text (named "
            f"{', '.join((*_IMAGES, *_TEXTS))}) with a label ({', '.join(_LABELS)}), or an image with a text"
        )
    if not {"image", "text"} & set(used):
        raise InputError(f"dataset {name!r}: columns {', '.join(features)}; neither an image nor a text")
    return used


def _entries(name: str, builder: Any, split: str, reading: Reading) -> list[Entry]:
    """Turn rows into entries, their images into files of a cache."""
    stream, features = _stream(builder, split)
    columns = _columns(name, features)
    limit = reading.limit
    rows = stream if limit is None else islice(stream, limit)
    reader = _RowReader(f"dataset {name!r}, split {split!r}", split, columns, features, reading.bad)
    if "image" not in columns:
        return reader.classed([reader.entry(number, row) for number, row in enumerate(_known(name, rows))])
    cache = PictureCache()
    entries = []
    for number, row in enumerate(_known(name, rows)):
        entry = reader.entry(number, row)
        data = reader.image(number, row) if entry is not None else None
        if entry is not None and data is not None:
            entries.append(replace(entry, image=cache.keep(data)))
    return reader.classed(entries)


def _known(name: str, rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    try:
        yield from rows
    except (OSError, ValueError) as error:
        raise InputError(f"dataset {name!r}: a row cannot be read ({error})") from error


@dataclass(frozen=True)
class _RowReader:
    """Turns rows of a split into entries; a row that cannot be used is a bad sample."""

    where: str
    split: str
    columns: Mapping[str, str]
    features: Any
    bad: BadSamples

    def entry(self, number: int, row: Mapping[str, Any]) -> Entry | None:
        try:
            return Entry(
                # of two splits one may be the gallery of the other
                id=f"row-{number}" if split_name(self.split) != "train" else f"train-row-{number}",
                image=None,
                captions=self._captions(number, row),
                label=self._label(number, row),
            )
        except InputError as error:
            self.bad.add(self.where, error)
            return None

    def image(self, number: int, row: Mapping[str, Any]) -> bytes | None:
        column = self.columns["image"]
        cell = row[column]
        data = cell.get("bytes") if isinstance(cell, dict) else cell
        if isinstance(data, bytes):
            return data
        held = "nothing" if data is None else f"a {type(data).__name__}"
        what = f"{self.where}, row {number}: column {column!r} holds {held}, expected an encoded image"
        self.bad.add(self.where, InputError(what))
        return None

    def classed(self, entries: Sequence[Entry | None]) -> list[Entry]:
        """Return the usable entries; where classes tell them apart, all have one or none has.

        Raises:
            InputError: no entry has a class, and there are no captions.
        """
        usable = [entry for entry in entries if entry is not None]
        if "label" not in self.columns or not usable:
            return usable
        without = [entry for entry in usable if not entry.label]
        column = self.columns["label"]
        if len(without) == len(usable):
            if {"image", "text"} <= set(self.columns):
                return usable
            raise InputError(
                f"{self.where}: column {column!r} names no class in any of {len(usable)} rows (None, or -1); "
                "give another --split, as validation"
            )
        for entry in without:
            what = f"{self.where}, {entry.id}: column {column!r} names no class (None, or -1), but others do"
            self.bad.add(self.where, InputError(what))
        return [entry for entry in usable if entry.label]

    def _captions(self, number: int, row: Mapping[str, Any]) -> tuple[str, ...]:
        if "text" not in self.columns:
            return ()
        column = self.columns["text"]
        held = row[column]
        texts = _texts(held)
        if texts is None:
            raise InputError(
                f"{self.where}, row {number}: column {column!r} holds {_shown(held)}, expected a text, "
                f"texts, or a struct with {', '.join(_TEXT_FIELDS)}"
            )
        captions = tuple(text.strip() for text in texts if text.strip())
        if not captions:
            raise InputError(f"{self.where}, row {number}: column {column!r} holds no text ({_shown(held)})")
        return captions

    def _label(self, number: int, row: Mapping[str, Any]) -> str:
        if "label" not in self.columns:
            return ""
        column = self.columns["label"]
        held = row[column]
        if isinstance(held, list) and len(held) == 1:
            (held,) = held
        names = getattr(self.features[column], "names", None)
        if names and isinstance(held, int) and 0 <= held < len(names):
            return str(names[held])
        label = label_text(held, numbered=bool(names) or "image" in self.columns)
        if label is None:
            raise InputError(
                f"{self.where}, row {number}: column {column!r} holds {_shown(held)}, expected one class"
            )
        return label


def _texts(held: object) -> list[str] | None:
    """Return the texts in a cell, however they are nested; None where there is something else."""
    if held is None:
        return []
    if isinstance(held, str):
        return [held]
    if isinstance(held, Mapping):
        field = next((name for name in _TEXT_FIELDS if name in held), None)
        return None if field is None else _texts(held[field])
    if not isinstance(held, list):
        return None
    parts = [_texts(part) for part in held]
    return None if None in parts else [text for part in parts if part is not None for text in part]


def _shown(held: object) -> str:
    text = repr(held)
    return text if len(text) <= 80 else f"{text[:77]}..."
