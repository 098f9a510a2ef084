"""Read a table (CSV, parquet) of images or texts with labels, captions, groups and splits."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pandas as pd
import pyarrow as pa

from crossgap.datasets.build import make_dataset
from crossgap.datasets.entry import Entry
from crossgap.datasets.split import choose_split
from crossgap.datasets.tasks import Dataset
from crossgap.errors import InputError

COLUMNS = ("path", "text", "summary", "label", "group", "split")
TABLES = (".csv", ".tsv", ".parquet")


def load_csv(path: Path, *, split: str = "test", limit: int | None = None) -> Dataset:
    """Load a table (.csv, .tsv, .parquet) with the columns ``path`` or ``text``, perhaps label, group, split.

    ``path`` names image files, relative to the table. With both, ``text`` is a caption of the image, and
    rows with the same path are captions of one image. Other columns are ignored. Items of one ``group``
    show the same thing, so that they are ignored as answers to each other. Texts that are longer than the
    context of a text tower are cut by its tokenizer; a column ``summary`` takes the place of ``text``.

    Raises:
        InputError: names the file and the row: missing columns, an empty cell, a missing image, a label that
            differs between rows of one image.
    """
    frame = _read(path)
    splits = list(dict.fromkeys(frame["split"])) if "split" in frame else []
    chosen = choose_split(f"table {path}", splits, split)
    entries = _entries(path, frame[frame["split"] == chosen] if splits else frame)
    train = (
        _entries(path, frame[frame["split"] == "train"]) if "train" in splits and chosen != "train" else []
    )
    note = ""
    if "path" not in frame:
        note = "Texts by their summaries." if "summary" in frame else "Texts are cut at the context's end."
    return make_dataset(str(path), chosen, entries, train=train, limit=limit, note=note)


def training_entries(path: Path) -> list[Entry]:
    """Read the images of a table with their captions: all rows, or those of train where it has splits.

    Raises:
        InputError: as :func:`load_csv`, or a table without the columns path and text.
    """
    frame = _read(path)
    if not {"path", "text"} <= set(frame):
        raise InputError(f"table {path}: columns {', '.join(frame.columns)}; training needs path and text")
    return _entries(path, frame[frame["split"] == "train"] if "split" in frame else frame)


def _read(path: Path) -> pd.DataFrame:
    try:
        if path.suffix.lower() == ".parquet":
            frame = pd.read_parquet(path)
            for column in set(COLUMNS) & set(frame):
                frame[column] = frame[column].map(partial(_cell, path)).astype(object)
        else:
            frame = pd.read_csv(
                path,
                sep="\t" if path.suffix.lower() == ".tsv" else ",",
                dtype=str,
                keep_default_na=False,
                encoding="utf-8-sig",
            )
    except FileNotFoundError as error:
        raise InputError(f"table {path}: no such file") from error
    except (
        OSError,
        UnicodeDecodeError,
        pa.ArrowException,
        pd.errors.ParserError,
        pd.errors.EmptyDataError,
    ) as error:
        kind = "parquet" if path.suffix.lower() == ".parquet" else "CSV in UTF-8"
        raise InputError(f"table {path}: not readable as {kind} ({error})") from error
    found = [column for column in COLUMNS if column in frame]
    if not {"path", "text"} & set(found) or not {"label", "text"} & set(found) or found == ["text"]:
        raise InputError(
            f"table {path}: columns {', '.join(frame.columns)}; expected path and label, path and text, "
            "or text and label (and perhaps group, split)"
        )
    if frame.empty:
        raise InputError(f"table {path}: no row")
    for column in found:
        empty = frame.index[frame[column].str.strip() == ""]
        if len(empty):
            raise InputError(f"table {path}, line {empty[0] + 2}: column {column} is empty")
    return frame[found]


def _cell(path: Path, cell: object) -> str:
    """Turn a cell of a parquet file into text, as a CSV file would hold it."""
    if not pd.api.types.is_scalar(cell):
        raise InputError(f"table {path}: a cell holds a {type(cell).__name__}; expected one text or number")
    return "" if cell is None or cell is pd.NA or cell != cell else str(cell)


def _entries(path: Path, frame: pd.DataFrame) -> list[Entry]:
    if "path" not in frame:
        return [
            Entry(
                id=f"line-{number + 2}",
                image=None,
                captions=(row.get("summary", row.get("text", "")),),
                label=row["label"],
                group=row.get("group", ""),
            )
            for number, row in zip(frame.index, frame.to_dict("records"), strict=True)
        ]
    entries: dict[str, Entry] = {}
    for number, row in zip(frame.index, frame.to_dict("records"), strict=True):
        where = f"table {path}, line {number + 2}"
        image = path.parent / row["path"]
        if not image.is_file():
            raise InputError(f"{where}: image {image}: no such file")
        earlier = entries.get(row["path"])
        label, group = row.get("label", ""), row.get("group", "")
        if earlier and "text" not in row:
            raise InputError(f"{where}: image {row['path']} occurs twice")
        if earlier and (earlier.label, earlier.group) != (label, group):
            raise InputError(f"{where}: label or group of {row['path']} differs from an earlier row's")
        text = (row["text"].strip(),) if "text" in row else ()
        entries[row["path"]] = Entry(
            id=row["path"],
            image=image,
            captions=(*(earlier.captions if earlier else ()), *text),
            label=label,
            group=group,
        )
    return list(entries.values())
