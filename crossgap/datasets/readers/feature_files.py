"""Files of features that were made elsewhere, by any model: read strictly, as rows of two modalities."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from crossgap.datasets.tasks import Items
from crossgap.errors import InputError, check_known, first_repeated
from crossgap.metrics.similarity import unit_rows
from crossgap.names import is_text, readable

Side = Literal["image", "text", "prompt"]


COLUMNS = ("id", "label", "group", "split", "text", "modality")


_PLURAL = {"id": "ids", "label": "labels", "group": "groups", "split": "splits", "text": "texts"}


_SUFFIXES = (".safetensors", ".npz", ".parquet", ".npy")


@dataclass(frozen=True, kw_only=True, eq=False)
class _Side:
    """Items of one side; the lists are as long as the values, or empty where a file says nothing."""

    values: Tensor
    about: dict[str, list[str]]

    def column(self, name: str) -> list[str]:
        return self.about.get(name, [])


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureTable:
    """Features of the items of one dataset, found by modality and id.

    ``fingerprint`` hashes the files. Made by :func:`read_features`.
    """

    name: str
    fingerprint: str
    embed_dim: int
    sides: dict[Side, _Side]

    def embed(self, items: Items) -> Tensor:
        """Return the features of items, in their order: (N, D), unit rows.

        Raises:
            InputError: ids that are not here, with the first of them.
        """
        sides: tuple[Side, ...] = ("text", "prompt") if items.modality == "text" else ("image",)
        held = [side for side in sides if side in self.sides]
        names = [item_id(side, name) for side in held for name in self.sides[side].about["id"]]
        place = {name: row for row, name in enumerate(names)}
        missing = [item for item in items.ids if item not in place]
        if missing:
            raise InputError(
                f"{len(missing)} of {len(items)} {items.modality}s have no features, the first is "
                f"{missing[0]!r}"
            )
        parts = [self.sides[side].values for side in held]
        values_ND = torch.cat(parts) if len(parts) > 1 else parts[0]
        return values_ND[[place[item] for item in items.ids]]


def read_features(paths: Sequence[Path]) -> FeatureTable:
    """Read files, or folders that ``crossgap.encode`` wrote, as one dataset's features.

    A path may be written as ``image=FILE``, ``text=FILE`` or ``prompt=FILE`` where the file does not say what
    its rows are. A ``.npy`` file holds values alone: its rows are numbered, on from file to file of a
    modality, and image k and text k belong together. Rows are scaled to length 1, in float32 unless a file
    holds float64.

    Raises:
        InputError: names the file and the item: a row that is not finite or zero, widths that differ, an id
            that occurs twice in one modality, columns of differing lengths, an unknown modality or format.
    """
    parts: dict[Side, list[tuple[Path, _Side]]] = {}
    digest = hashlib.sha256()
    sources = [_said(path) for path in paths]
    for path, said in ((file, said) for source, said in sources for file in _files(source)):
        try:
            with path.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
        except OSError as error:
            raise InputError(f"features {path}: cannot be read ({error.strerror})") from error
        values, about = _READERS[path.suffix.lower()](path)
        for side, rows in _sides(path, values, about, said):
            if path.suffix.lower() == ".npy":
                rows = _numbered(rows, sum(len(earlier.values) for _, earlier in parts.get(side, [])))
            parts.setdefault(side, []).append((path, rows))
    _check_numbers(parts)
    widths = {rows.values.shape[1]: path for pieces in parts.values() for path, rows in pieces}
    if len(widths) > 1:
        shown = ", ".join(f"{width} in {path}" for width, path in widths.items())
        raise InputError(f"features must share one width to be compared; got {shown}")
    return FeatureTable(
        name="+".join(dict.fromkeys(readable(path.stem) for path, _ in sources)),
        fingerprint=digest.hexdigest()[:16],
        embed_dim=next(iter(widths)),
        sides={side: _together(side, pieces) for side, pieces in parts.items()},
    )


def _said(path: Path) -> tuple[Path, str]:
    """Divide ``image=FILE`` into the file and what its rows are; "" where nothing is said."""
    side, equals, rest = str(path).partition("=")
    return (Path(rest), side) if equals and side in get_args(Side) and not path.exists() else (path, "")


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        files = sorted(path.glob("*.safetensors"))
        if not files:
            raise InputError(
                f"{path}: a folder without .safetensors files; give one that crossgap.encode wrote"
            )
        return files
    if not path.exists():
        raise InputError(f"features {path}: no such file")
    if path.suffix.lower() not in _SUFFIXES:
        raise InputError(f"features {path}: a file of this kind is not read; expected {', '.join(_SUFFIXES)}")
    return [path]


def _read_safetensors(path: Path) -> tuple[Any, dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            values = file.get_tensor("values")
        columns: dict[str, Any] = {
            name: json.loads(about[plural]) for name, plural in _PLURAL.items() if plural in about
        }
    except (OSError, SafetensorError, ValueError, RecursionError) as error:
        raise InputError(
            f"features {path}: not a file of features ({type(error).__name__}: {error}); expected a tensor "
            "'values' and JSON lists 'ids', 'labels' in the metadata"
        ) from error
    return values, columns | {"modality": about.get("modality", "")}


def _read_npz(path: Path) -> tuple[Any, dict[str, Any]]:
    held = _arrays(path)
    if not isinstance(held, dict):
        raise InputError(
            f"features {path}: one array, as in a .npy file; call it .npy, or save it as 'values'"
        )
    if "values" not in held:
        raise InputError(f"features {path}: no array 'values'; it has {', '.join(held) or 'none'}")
    columns: dict[str, Any] = {name: held[plural] for name, plural in _PLURAL.items() if plural in held}
    return held["values"], columns | {"modality": held.get("modality", "")}


def _read_npy(path: Path) -> tuple[Any, dict[str, Any]]:
    held = _arrays(path)
    if isinstance(held, dict):
        raise InputError(f"features {path}: several arrays, as in an .npz file; call it .npz")
    rows = np.arange(len(held) if held.ndim else 0)
    return held, {"id": rows, "group": rows}


def _arrays(path: Path) -> Any:
    """Return the arrays of a file by name, or its only one."""
    try:
        with path.open("rb") as file:
            held = np.load(file, allow_pickle=False)
            if isinstance(held, np.ndarray):
                return held
            with held as arrays:
                return {name: arrays[name] for name in arrays.files}
    except Exception as error:
        # numpy and zipfile raise many kinds for a damaged file; each means that it cannot be read
        raise InputError(
            f"features {path}: not readable ({type(error).__name__}: {error}); expected arrays 'values', "
            "'ids', 'labels', ... of numbers and of text (pickled objects are not read)"
        ) from error


def _read_parquet(path: Path) -> tuple[Any, dict[str, Any]]:
    try:
        frame = pd.read_parquet(path)
    except Exception as error:
        # what pandas wrote about its types is trusted by it, and may be damaged in many ways
        raise InputError(f"features {path}: not readable as parquet ({error})") from error
    if "id" not in frame and "id" in frame.index.names:
        frame = frame.reset_index()
    if "values" not in frame or "id" not in frame:
        raise InputError(
            f"features {path}: columns {', '.join(map(str, frame.columns))}; expected values and id, and any "
            "of label, group, split, text, modality"
        )
    if not frame.columns.is_unique:
        raise InputError(f"features {path}: columns {', '.join(map(str, frame.columns))}; one occurs twice")
    return _stacked(path, frame), {name: frame[name].to_numpy() for name in COLUMNS if name in frame}


def _stacked(path: Path, frame: pd.DataFrame) -> np.ndarray[Any, Any]:
    """Put the values of the rows of a table together."""
    cells = frame["values"].to_list()
    if not cells:
        return np.zeros((0, 0))
    lengths = [len(cell) if isinstance(cell, np.ndarray) and cell.ndim == 1 else -1 for cell in cells]
    usual = Counter(lengths).most_common(1)[0][0]
    for name, cell, length in zip(frame["id"], cells, lengths, strict=True):
        if length < 0:
            raise InputError(
                f"features {path}: item {str(name)!r} holds {_shown(cell)} as values, expected a list of "
                "numbers"
            )
        if length != usual:
            raise InputError(f"features {path}: item {str(name)!r} has {length} values, others {usual}")
        if not _is_number(cell.dtype) and any(not isinstance(part, int | float | None) for part in cell):
            raise InputError(
                f"features {path}: item {str(name)!r} holds {_shown(cell[0])} among its values, expected "
                "numbers"
            )
    return np.stack([cell.astype(np.float64) if cell.dtype == object else cell for cell in cells])


def _shown(value: object) -> str:
    value = value.tolist() if isinstance(value, np.ndarray) else value
    text = repr(value)
    return f"{text if len(text) <= 40 else f'{text[:37]}...'} ({type(value).__name__})"


_READERS = {
    ".safetensors": _read_safetensors,
    ".npz": _read_npz,
    ".parquet": _read_parquet,
    ".npy": _read_npy,
}


def _sides(path: Path, values: Any, columns: dict[str, Any], said: str) -> Iterator[tuple[Side, _Side]]:
    """Check the content of one file and divide it by modality; ``said`` is what its path says of that."""
    values_ND = _matrix(path, values)
    count = len(values_ND)
    named = columns.pop("modality", "")
    about = {name: _words(path, name, column) for name, column in columns.items()}
    if "id" not in about:
        raise InputError(f"features {path}: they have no ids; every row needs one, to be joined by it")
    modalities = [_word(named) or said] * count if np.ndim(named) == 0 else _words(path, "modality", named)
    for name, column in {**about, "modality": modalities}.items():
        if len(column) != count:
            raise InputError(f"features {path}: {count} rows of values but {len(column)} of {name}")
    for name in dict.fromkeys(modalities):
        if not name:
            raise InputError(
                f"features {path}: it does not say what its rows are; write image={path}, text={path} or "
                f"prompt={path}, or add a column modality"
            )
        check_known(name, get_args(Side), f"modality in {path}")
        if said and name != said:
            raise InputError(f"features {path}: called {said}, but its rows are of modality {name}")
    for name in ("id", "label", "group"):
        if "" in about.get(name, ()):
            row = about[name].index("")
            raise InputError(f"features {path}: row {row} (id {about['id'][row]!r}) has an empty {name}")
    bad = ~(torch.isfinite(values_ND).all(dim=1) & (values_ND != 0).any(dim=1))
    if bool(bad.any()):
        row = int(bad.nonzero()[0, 0])
        what = "zero" if bool(torch.isfinite(values_ND[row]).all()) else "not finite"
        raise InputError(
            f"features {path}: the row of {about['id'][row]!r} is {what} ({int(bad.sum())} such rows); "
            "remove the item or mend what made it"
        )
    values_ND = unit_rows(values_ND, what=str(path))
    for side in get_args(Side):
        rows = [row for row, name in enumerate(modalities) if name == side]
        if rows:
            part = {name: [column[row] for row in rows] for name, column in about.items()}
            yield side, _Side(values=values_ND[rows], about=part)


def _numbered(rows: _Side, first: int) -> _Side:
    """Number rows that have no names, on from those of earlier files."""
    names = [str(first + row) for row in range(len(rows.values))]
    return _Side(values=rows.values, about={"id": names, "group": names})


def _check_numbers(parts: dict[Side, list[tuple[Path, _Side]]]) -> None:
    """Refuse images and texts of .npy files that are not as many: row k of both belongs together."""
    counts = {
        side: sum(len(rows.values) for _, rows in pieces)
        for side, pieces in parts.items()
        if side != "prompt" and all(path.suffix.lower() == ".npy" for path, _ in pieces)
    }
    if len(set(counts.values())) > 1:
        shown = " and ".join(f"{count} {side}s" for side, count in counts.items())
        raise InputError(
            f"features {parts['image'][0][0]}: {shown}; of .npy files row k of the images belongs to row k "
            "of the texts, so there must be as many (other pairs need a format with ids and groups)"
        )


def _matrix(path: Path, values: Any) -> Tensor:
    values_ND = values if isinstance(values, Tensor) else torch.from_numpy(_numbers(path, values))
    if values_ND.is_complex() or values_ND.dtype == torch.bool:
        raise InputError(f"features {path}: values are of type {values_ND.dtype}; expected numbers")
    if values_ND.ndim != 2 or 0 in values_ND.shape:
        raise InputError(f"features {path}: values of shape {tuple(values_ND.shape)}; expected items x width")
    return values_ND if values_ND.dtype == torch.float64 else values_ND.float()


def _numbers(path: Path, values: Any) -> np.ndarray[Any, Any]:
    array = np.ascontiguousarray(values)
    if not _is_number(array.dtype):
        raise InputError(f"features {path}: values are of type {array.dtype}; expected numbers")
    return array.astype(np.float64 if array.dtype == np.float64 else np.float32)


def _is_number(kind: np.dtype[Any]) -> bool:
    return np.issubdtype(kind, np.floating) or np.issubdtype(kind, np.integer)


def _words(path: Path, name: str, column: Any) -> list[str]:
    """Return a column as words; a list of one entry counts as the entry."""
    entries = column.tolist() if isinstance(column, np.ndarray) else column
    if not isinstance(entries, list):
        raise InputError(f"features {path}: {name} is {_shown(entries)}; expected one entry a row")
    words = []
    for row, entry in enumerate(entries):
        word = _word(entry)
        if word is None:
            raise InputError(
                f"features {path}: row {row} has {_shown(entry)} as {name}; expected one text or number "
                "(items of several classes are not compared here: keep one, or a row a class under an id of "
                "its own)"
            )
        words.append(word)
    return words


def _word(entry: object) -> str | None:
    """Return an entry as text, "" for none; None for what is no single text or number."""
    if isinstance(entry, np.ndarray):
        entry = entry.tolist()
    if isinstance(entry, list | tuple) and len(entry) == 1:
        (entry,) = entry
    if isinstance(entry, bytes):
        entry = entry.decode("utf-8", "surrogateescape")
    if entry is None or entry is pd.NA or entry is pd.NaT:
        return ""
    if isinstance(entry, float):
        return "" if entry != entry else str(int(entry)) if entry.is_integer() else str(entry)
    is_single = isinstance(entry, str | int | np.generic | datetime)
    return str(entry) if is_single and is_text(str(entry)) else None


def _together(side: Side, pieces: list[tuple[Path, _Side]]) -> _Side:
    """Join the rows that several files hold of one side."""
    names = {name for _, rows in pieces for name in rows.about}
    for path, rows in pieces:
        lacking = names - set(rows.about)
        if lacking:
            raise InputError(
                f"features {path}: its {side}s have no {', '.join(sorted(lacking))}, but those of another "
                "file have; give it to all or to none"
            )
    ids = [name for _, rows in pieces for name in rows.about["id"]]
    twice = first_repeated(ids)
    if twice is not None:
        raise InputError(f"features {pieces[-1][0]}: {side} id {twice!r} occurs twice; ids must be unique")
    return _Side(
        values=torch.cat([rows.values for _, rows in pieces]),
        about={name: [entry for _, rows in pieces for entry in rows.about[name]] for name in sorted(names)},
    )


def item_id(side: Side, name: str) -> str:
    return f"prompt/{name}" if side == "prompt" else name
