"""Read datasets of the Hugging Face hub (the extra ``hf``), streamed: what is kept of images lies on disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from crossgap.datasets.build import make_dataset
from crossgap.datasets.entry import Entry
from crossgap.datasets.picture_cache import PictureCache
from crossgap.datasets.split import MissingSplit
from crossgap.datasets.tasks import Dataset
from crossgap.errors import InputError

PREFIX = "hf:"
# columns by what they are called in most datasets, the first that is there
_IMAGES = ("image", "img", "jpg", "png")
_TEXTS = ("text", "caption", "captions", "sentence", "sentences")
_LABELS = ("label", "labels", "fine_label", "class")
_FETCH = "pip install 'crossgap[hf]'"


def load_hub(name: str, *, split: str = "test", limit: int | None = None) -> Dataset:
    """Load one split of ``hf:OWNER/NAME``, ``hf:OWNER/NAME:CONFIG`` or ``hf:FOLDER`` of parquet files.

    Rows are streamed, ``limit`` of them at most from the front, and no code of the dataset is run. Images are
    written to the cache folder ($XDG_CACHE_HOME/crossgap, ~/.cache/crossgap) as they are encoded there.

    Raises:
        MissingSplit: no such split; lists those that there are.
        InputError: the package is not installed, the hub does not answer, or no column is known.
    """
    address, _, config = name.removeprefix(PREFIX).partition(":")
    rows, features = _stream(name, address, config, split)
    columns = _columns(name, features)
    entries = _entries(name, rows if limit is None else islice(rows, limit), columns, features)
    note = "" if limit is None else f"The first {len(entries)} rows of the split."
    return make_dataset(name, split, entries, note=note)


def _stream(name: str, address: str, config: str, split: str) -> tuple[Iterable[dict[str, Any]], Any]:
    from crossgap.weights import ENDPOINT, answers  # it imports open_clip, which takes seconds

    try:
        import datasets
    except ImportError as error:
        raise InputError(f"dataset {name!r} needs the package datasets: {_FETCH}") from error
    datasets.disable_progress_bars()
    if not Path(address).is_dir() and not answers(ENDPOINT):
        raise InputError(
            f"dataset {name!r}: no such folder, and {ENDPOINT} does not answer; "
            f"download the dataset elsewhere and give its folder as {PREFIX}FOLDER"
        )
    try:
        builder = datasets.load_dataset_builder(address, config or None)
        splits = list(builder.as_streaming_dataset())
    except Exception as error:
        # the hub's client and the readers of many formats raise many kinds; each means that it cannot be had
        raise InputError(f"dataset {name!r}: cannot be opened ({type(error).__name__}: {error})") from error
    if split not in splits:
        raise MissingSplit(f"dataset {name!r}: no split {split!r}; it has {', '.join(map(str, splits))}")
    stream = builder.as_streaming_dataset(split=split)
    features = stream.features or {}
    for column, kind in features.items():
        if isinstance(kind, datasets.Image):
            stream = stream.cast_column(column, datasets.Image(decode=False))
    return stream, features


def _columns(name: str, features: Any) -> dict[str, str]:
    found = {}
    for part, known in (("image", _IMAGES), ("text", _TEXTS), ("label", _LABELS)):
        column = next((column for column in known if column in features), None)
        if column is not None:
            found[part] = column
    if "label" not in found and not {"image", "text"} <= set(found):
        raise InputError(
            f"dataset {name!r}: columns {', '.join(features)}; expected an image or a text (named "
            f"{', '.join((*_IMAGES, *_TEXTS))}) with a label ({', '.join(_LABELS)}), or an image with a text"
        )
    if not {"image", "text"} & set(found):
        raise InputError(f"dataset {name!r}: columns {', '.join(features)}; neither an image nor a text")
    return found


def _entries(
    name: str,
    rows: Iterable[dict[str, Any]],
    columns: dict[str, str],
    features: Any,
) -> list[Entry]:
    """Turn rows into entries, their images into files of a cache."""
    if "image" not in columns:
        return [_entry(number, row, columns, features, None) for number, row in enumerate(_known(name, rows))]
    cache = PictureCache()
    entries = []
    for number, row in enumerate(_known(name, rows)):
        held = row[columns["image"]]
        data = held.get("bytes") if isinstance(held, dict) else held
        if not isinstance(data, bytes):
            raise InputError(f"dataset {name!r}, row {number}: its image is not encoded in the data")
        entries.append(_entry(number, row, columns, features, cache.keep(data)))
    return entries


def _known(name: str, rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    try:
        yield from rows
    except (OSError, ValueError) as error:
        raise InputError(f"dataset {name!r}: a row cannot be read ({error})") from error


def _entry(
    number: int, row: dict[str, Any], columns: dict[str, str], features: Any, image: Path | None
) -> Entry:
    text = row[columns["text"]] if "text" in columns else []
    label = row[columns["label"]] if "label" in columns else ""
    names = getattr(features[columns["label"]], "names", None) if "label" in columns else None
    return Entry(
        id=f"row-{number}",
        image=image,
        captions=tuple(part.strip() for part in ([text] if isinstance(text, str) else text) if part.strip()),
        label=names[label] if names and isinstance(label, int) and label >= 0 else str(label),
    )
