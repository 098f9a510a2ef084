"""What evaluation writes and analysis reads: rows and the tables that pictures need. Imports no torch.

A run directory holds ``rows.jsonl`` (one :class:`Row` a line) and the parquet tables of :data:`TABLES`.
Every file is written to a temporary name, synced, then renamed: a reader sees a whole file or none.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import pandas as pd

from crossgap.errors import InputError, check_known
from crossgap.files import atomic_path, read_lines, write_text

SCHEMA_VERSION = 3

SELECTIONS = ("none", "curve", "val", "preset")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measured number with everything needed to know where it came from.

    ``value`` is a fraction for retrieval and accuracy; ``unit`` says what the others are. ``low`` and
    ``high`` bound a 95 % interval where it was computed beside the value (gap metrics, over pairs); for
    retrieval the intervals come from ``per_query.parquet``.

    ``selection`` says how the setting behind the value was chosen: ``none`` (there is nothing to choose),
    ``curve`` (one point of a curve, chosen by nobody), ``val`` (chosen on the validation split), ``preset``
    (fixed beforehand). ``setting`` is the strength of a fitted map in words ("rank 64"), or what a plan of
    inversions compares beyond tokens and steps ("learning rate 0.05", :mod:`crossgap.inversion.words`), ''
    without one.
    """

    schema: int = SCHEMA_VERSION
    study: str
    arm: str
    seed: int
    inversion_seed: int | None = None
    encoder: str
    dataset: str
    dataset_hash: str
    split: str
    task: str
    protocol: str
    route: str
    metric: str
    unit: str = "fraction"
    value: float
    low: float | None = None
    high: float | None = None
    n_queries: int
    n_gallery: int
    n_skipped: int = 0
    steps: int | None = None
    num_tokens: int | None = None
    setting: str = ""
    selection: str = "none"
    pairs_seen: int | None = None
    seconds: float | None = None
    config_hash: str
    versions: str
    commit: str

    def __post_init__(self) -> None:
        check_known(self.selection, SELECTIONS, "selection")


# Each table repeats the keys that identify a model and a measurement, so that files of many runs concatenate.
_MODEL = ("study", "arm", "seed")
TABLES: dict[str, tuple[str, ...]] = {
    # one value per query, metric and route: what paired statistics need; `metric` is named as in rows
    "per_query": (
        *_MODEL, "inversion_seed", "dataset", "split", "task", "route", "steps", "num_tokens", "setting",
        "selection", "metric", "query_id", "query_class", "value",
    ),
    # a few queries with their nearest gallery items; thumbnails are encoded images, texts stand in `*_text`
    "neighbours": (
        *_MODEL, "dataset", "split", "task", "route", "query_id", "query_class", "query_image", "query_text",
        "rank", "neighbour_id", "neighbour_class", "neighbour_image", "neighbour_text", "score", "relevant",
    ),
    # 2-D coordinates of both modalities of the same items
    "projection": (*_MODEL, "dataset", "split", "method", "modality", "item_id", "label", "x", "y"),
    # counts of cosine similarities by kind of pair
    "histograms": (*_MODEL, "dataset", "split", "task", "route", "kind", "bin_low", "bin_high", "count"),
}  # fmt: skip


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write rows as JSON lines, atomically."""
    write_text(path, "".join(json.dumps(asdict(row), allow_nan=False) + "\n" for row in rows))


def read_rows(paths: Iterable[Path]) -> pd.DataFrame:
    """Read ``rows.jsonl`` files into one frame with the columns of :class:`Row`, in file order.

    Raises:
        InputError: a row has another schema version or other fields.
    """
    names = [field.name for field in fields(Row)]
    values = []
    for path in paths:
        for number, value in enumerate(read_lines(path), start=1):
            if value.get("schema") != SCHEMA_VERSION or set(value) != set(names):
                raise InputError(
                    f"{path}, line {number}: schema {value.get('schema')!r} with fields "
                    f"{sorted(set(value) ^ set(names))} differing; this version reads schema {SCHEMA_VERSION}"
                )
            values.append(value)
    return pd.DataFrame(values, columns=names)


def numeric(frame: pd.DataFrame) -> pd.DataFrame:
    """Give optional numbers of rows or tables one type, so that absent ones compare equal when joined."""
    optional = ("inversion_seed", "steps", "num_tokens", "low", "high", "pairs_seen", "seconds", "value")
    there = [column for column in optional if column in frame.columns]
    return frame.assign(**{column: pd.to_numeric(frame[column]).astype("float64") for column in there})


def row_frame(rows: Iterable[Row]) -> pd.DataFrame:
    """Give rows as the frame that :func:`read_rows` reads of them, numbered by their places."""
    return numeric(pd.DataFrame([asdict(row) for row in rows], columns=[field.name for field in fields(Row)]))


def write_table(folder: Path, name: str, frame: pd.DataFrame) -> None:
    """Write one of :data:`TABLES` as ``folder/name.parquet``, atomically; columns must match exactly."""
    expected = TABLES[name]
    if set(frame.columns) != set(expected):
        raise ValueError(f"table {name}: columns {sorted(set(frame.columns) ^ set(expected))} differ")
    with atomic_path(folder / f"{name}.parquet") as temporary:
        frame[list(expected)].to_parquet(temporary, index=False)


def read_table(folders: Sequence[Path], name: str) -> pd.DataFrame:
    """Concatenate ``name.parquet`` of the folders that have it; an empty frame if none has."""
    paths = [folder / f"{name}.parquet" for folder in folders]
    frames = [_read_parquet(path) for path in paths if path.exists()]
    frames = [frame for frame in frames if len(frame)]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(TABLES[name]))


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except Exception as error:
        # pyarrow and what pandas wrote about its types raise many kinds for a damaged file
        raise damaged(path, error) from error


def damaged(path: Path, error: Exception) -> InputError:
    """Name a parquet file that cannot be read."""
    size = path.stat().st_size if path.is_file() else 0
    return InputError(
        f"{path}: damaged or cut off, not readable as parquet ({size} bytes; {error}); restore the file, or "
        "make the run that wrote it again"
    )


def check_columns(path: Path, name: str, columns: Iterable[str]) -> None:
    """Refuse a table whose columns are not those of :data:`TABLES`.

    Raises:
        InputError: some are missing or unknown.
    """
    other = sorted(set(columns) ^ set(TABLES[name]))
    if other:
        raise InputError(
            f"{path}: columns {other} differ from the table that this version reads; evaluate again"
        )
