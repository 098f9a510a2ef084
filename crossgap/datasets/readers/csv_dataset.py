"""Read a table (CSV, parquet) of images or texts with labels, captions, groups and splits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa

from crossgap.datasets.bad import BadSamples
from crossgap.datasets.build import make_dataset
from crossgap.datasets.known.entry import Entry
from crossgap.datasets.labels import whole_numbers
from crossgap.datasets.readers.delimited import read_delimited
from crossgap.datasets.readers.image_formats import IMAGE_EXTENSIONS
from crossgap.datasets.readers.reading import Reading
from crossgap.datasets.split import choose_split, same_splits, split_name
from crossgap.datasets.tasks import Dataset
from crossgap.errors import InputError

TABLES = (".csv", ".tsv", ".parquet")
# column -> what it may be called, the first that is there; in any case of letters
_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "path": ("path", "filepath", "file_name", "filename", "image_path", "image"),
    "text": ("text", "caption", "title"),
    "summary": ("summary",),
    "label": ("label", "class"),
    "group": ("group",),
    "split": ("split",),
}
_PICTURES = ("image", *IMAGE_EXTENSIONS)  # columns of encoded images
_STATUS = "status"  # of a download by img2dataset; what did not succeed has no image


class _Table(NamedTuple):
    """Rows with the columns of :data:`_COLUMNS` as text, ``image`` as bytes and ``id``; indexed by line."""

    path: Path
    frame: pd.DataFrame
    left_out: list[str]

    @property
    def splits(self) -> dict[str, list[str]]:
        names = list(dict.fromkeys(self.frame["split"])) if "split" in self.frame else []
        return same_splits(f"table {self.path}", names)

    def of_split(self, split: str) -> pd.DataFrame:
        return self.frame[self.frame["split"].map(split_name) == split]


def is_table(path: Path) -> bool:
    """Tell whether a file is a table, by its name; it may be packed (``.csv.gz``)."""
    return any(suffix.lower() in TABLES for suffix in path.suffixes[-2:])


def load_csv(path: Path, reading: Reading) -> Dataset:
    """Load a table (.csv, .tsv, .parquet) with the columns ``path`` or ``text``, perhaps label, group, split.

    ``path`` names image files, relative to the table, or else to the working folder. With both, ``text`` is a
    caption of the image, and rows with the same path are captions of one image. Other columns are ignored;
    open_clip's ``filepath`` and ``title`` are path and text, and img2dataset's parquet files hold images
    themselves. Items of one ``group`` show the same thing, so that they are ignored as answers to each other.
    Texts that are longer than the context of a text tower are cut by its tokenizer; a column ``summary``
    takes the place of ``text``.

    Raises:
        InputError: names the file and the row: missing columns, an empty cell, a missing image, a label that
            differs between rows of one image.
    """
    table = _read(path, reading.bad)
    splits = table.splits
    chosen = choose_split(f"table {path}", splits, reading.split)
    entries = _entries(path, table.of_split(chosen) if splits else table.frame, reading.bad)
    train = (
        _entries(path, table.of_split("train"), reading.bad)
        if "train" in splits and chosen != "train"
        else []
    )
    note = ""
    if not {"path", "image"} & set(table.frame):
        note = (
            "Texts by their summaries." if "summary" in table.frame else "Texts are cut at the context's end."
        )
    return make_dataset(str(path), chosen, entries, reading, train=train, note=note, left_out=table.left_out)


def training_entries(path: Path, bad: BadSamples) -> tuple[list[Entry], list[str]]:
    """Read the images of a table with their captions: all rows, or those of train where it has splits.

    Returns:
        the entries, and sentences about what was left out.

    Raises:
        InputError: as :func:`load_csv`, or a table without images, or without texts.
    """
    table = _read(path, bad)
    columns = set(table.frame)
    if not {"path", "image"} & columns or "text" not in columns:
        raise InputError(
            f"table {path}: columns {', '.join(sorted(map(str, columns)))}; training needs path and text"
        )
    if table.splits:
        choose_split(f"table {path}", table.splits, "train")
    frame = table.of_split("train") if table.splits else table.frame
    return _entries(path, frame, bad), table.left_out


def _read(path: Path, bad: BadSamples) -> _Table:
    table = _parquet(path) if path.suffix.lower() == ".parquet" else read_delimited(path, _known_names())
    columns = _columns(path, table)
    frame = table[list(columns.values())].set_axis(list(columns), axis=1)
    left_out = []
    if "image" in frame and _STATUS in table:
        failed = (table[_STATUS].astype(str) != "success") & frame["image"].isna()
        if failed.any():
            left_out = [f"Left out, as its {_STATUS} is no success: {failed.sum()} of {len(frame)} rows."]
            frame = frame[~failed]
    if frame.empty:
        raise InputError(f"table {path}: no row{' with an image' if left_out else ''}")
    frame = _as_text(path, frame)
    wrong: dict[Any, str] = {}
    for column in frame:
        missing = frame["image"].isna() if column == "image" else frame[column].astype(str).str.strip() == ""
        for line in frame.index[missing]:
            wrong.setdefault(line, str(column))
    for line, column in sorted(wrong.items()):
        bad.add(str(path), InputError(f"table {path}, line {line}: column {column} is empty"))
    return _Table(path, frame.drop(index=list(wrong)), left_out)


def _parquet(path: Path) -> pd.DataFrame:
    try:
        frame = pd.read_parquet(path)
    except FileNotFoundError as error:
        raise InputError(f"table {path}: no such file") from error
    except (OSError, ValueError, pa.ArrowException) as error:
        raise InputError(f"table {path}: not readable as parquet ({error})") from error
    frame.index = pd.RangeIndex(2, len(frame) + 2)  # as the lines of a text with the same rows
    return frame


def _known_names() -> set[str]:
    return {name for names in _COLUMNS.values() for name in names}


def _columns(path: Path, frame: pd.DataFrame) -> dict[str, str]:
    """Return what the columns that are used are called in the table."""
    spellings: dict[str, list[str]] = {}
    for name in frame.columns:
        spellings.setdefault(str(name).strip().lower(), []).append(name)
    used: dict[str, str] = {}
    for column, names in _COLUMNS.items():
        called = next((name for name in names if name in spellings), None)
        if called is not None and len(spellings[called]) > 1:
            raise InputError(f"table {path}: column {called} occurs {len(spellings[called])} times")
        if called is not None and not (column == "path" and _holds_images(frame[spellings[called][0]])):
            (used[column],) = spellings[called]
    picture = next((name for name in _PICTURES if name in spellings), None)
    if "path" not in used and picture is not None and _holds_images(frame[spellings[picture][0]]):
        used["image"] = spellings[picture][0]
        if "key" in spellings:
            used["id"] = spellings["key"][0]
    images = {"path", "image"} & set(used)
    if not ({"label", "text"} & set(used) if images else {"text", "label"} <= set(used)):
        raise InputError(
            f"table {path}: columns {', '.join(map(str, frame.columns))}; expected path and label, path and "
            "text, or text and label (and perhaps group, split)"
        )
    if images:
        used.pop("summary", None)
    return used


def _holds_images(cells: pd.Series[Any]) -> bool:
    return any(isinstance(_image_bytes(cell), bytes) for cell in cells)


def _image_bytes(cell: object) -> object:
    return cell.get("bytes") if isinstance(cell, dict) else cell


def _as_text(path: Path, frame: pd.DataFrame) -> pd.DataFrame:
    """Turn cells into text, as a CSV file would hold them, and pictures into bytes."""
    columns: dict[Any, Any] = {}
    for column in frame:
        if column == "image":
            columns[column] = frame[column].map(_image_bytes).astype(object)
            continue
        texts = []
        for line, cell in zip(frame.index, frame[column], strict=True):
            text = _cell(cell)
            if text is None:
                raise InputError(
                    f"table {path}, line {line}: column {column}: a cell holds a {type(cell).__name__} "
                    f"({str(cell)[:60]}); expected one text or number"
                )
            texts.append(text)
        if column in ("label", "group"):
            texts = whole_numbers(texts)
        columns[column] = pd.Series(texts, index=frame.index, dtype=object)
    return pd.DataFrame(columns)


def _cell(cell: object) -> str | None:
    if isinstance(cell, str):
        return cell
    if not pd.api.types.is_scalar(cell):
        return None
    if cell is None or cell is pd.NA or cell != cell:
        return ""
    return str(cell)


def _entries(path: Path, frame: pd.DataFrame, bad: BadSamples) -> list[Entry]:
    entries: dict[str, Entry] = {}
    for line, row in zip(frame.index, frame.to_dict("records"), strict=True):
        try:
            entry = _entry(path, line, row, entries)
        except InputError as error:
            bad.add(str(path), error)
            continue
        entries[entry.id] = entry
    return list(entries.values())


def _entry(path: Path, line: int, row: Mapping[Any, Any], known: Mapping[str, Entry]) -> Entry:
    where = f"table {path}, line {line}"
    label, group = row.get("label", ""), row.get("group", "")
    captions = (row["text"].strip(),) if "text" in row else ()
    if "path" not in row:
        name = str(row.get("id", f"line-{line}"))
        if name in known:
            raise InputError(f"{where}: key {name} occurs twice")
        if "image" not in row:
            captions = (row.get("summary", row.get("text", "")),)
        return Entry(id=name, image=row.get("image"), captions=captions, label=label, group=group)
    image = path.parent / row["path"]
    if not image.is_file():
        image = Path(row["path"])
    if not image.is_file():
        raise InputError(
            f"{where}: image {path.parent / row['path']}: no such file"
            + (f", nor {image} in the working folder" if not image.is_absolute() else "")
        )
    earlier = known.get(row["path"])
    if earlier and "text" not in row:
        raise InputError(f"{where}: image {row['path']} occurs twice")
    if earlier and (earlier.label, earlier.group) != (label, group):
        raise InputError(f"{where}: label or group of {row['path']} differs from an earlier row's")
    return Entry(
        id=row["path"],
        image=image,
        captions=(*(earlier.captions if earlier else ()), *captions),
        label=label,
        group=group,
    )
