"""Read a table of text: its separator, its quotation marks, and the line on which each row stands."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterator
from pathlib import Path

import pandas as pd

from crossgap.datasets.readers.packed import UNPACKING_ERRORS, open_unpacked
from crossgap.errors import InputError

_SEPARATORS = (",", "\t", ";")
_LONGEST_CELL = 2**30


def read_delimited(path: Path, known: Collection[str]) -> pd.DataFrame:
    """Read a table whose first line names its columns, all cells as text; the index is a row's first line.

    The separator is a comma, a tab or a semicolon: the one that finds most of the ``known`` columns in the
    first line. With commas and semicolons a cell in quotation marks may hold separators, line breaks, and
    marks that are doubled (RFC 4180). With tabs a quotation mark is a character like others, unless a whole
    cell stands in marks and doubles those within, as spreadsheets write it.

    Raises:
        InputError: no such file, not UTF-8, damaged, a row with more cells than there are columns, or a mark
            within a cell that is not doubled; names file and line.
    """
    text = _text(path)
    if not text.strip():
        raise InputError(f"table {path}: not readable as a table (it is empty)")
    separator = _separator(text.split("\n", 1)[0], path, known)
    rows = _tabbed(text) if separator == "\t" else _quoted(path, text, separator)
    _, names = next(rows)
    columns = [name.strip() for name in names]
    lines, cells = [], []
    for line, row in rows:
        if any(cell.strip() for cell in row[len(columns) :]):
            raise InputError(
                f"table {path}, line {line}: {len(row)} cells, but the first line names {len(columns)} "
                "columns; put a text that holds a separator into quotation marks"
            )
        lines.append(line)
        cells.append([*row, *[""] * (len(columns) - len(row))][: len(columns)])
    return pd.DataFrame(cells, columns=pd.Index(columns), index=pd.Index(lines, dtype=int), dtype=object)


def _text(path: Path) -> str:
    try:
        with open_unpacked(path) as stream:
            return stream.read().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise InputError(f"table {path}: no such file") from error
    except (OSError, UnicodeDecodeError, *UNPACKING_ERRORS) as error:
        raise InputError(f"table {path}: not readable as a table in UTF-8 ({error})") from error


def _separator(header: str, path: Path, known: Collection[str]) -> str:
    usual = "\t" if ".tsv" in path.name.lower() else ","

    def columns(separator: str) -> tuple[int, bool]:
        names = [name.strip().strip('"').lower() for name in header.split(separator)]
        return len(set(names) & set(known)), separator == usual

    return max(_SEPARATORS, key=columns)


def _tabbed(text: str) -> Iterator[tuple[int, list[str]]]:
    lines = text.split("\n")
    all_quoted = lines[0].startswith('"')
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield number, [_unquoted(cell, all_quoted) for cell in line.rstrip("\r").split("\t")]


def _unquoted(cell: str, all_quoted: bool) -> str:
    inner = cell[1:-1]
    if len(cell) < 2 or not cell.startswith('"') or not cell.endswith('"') or '"' in inner.replace('""', ""):
        return cell
    return inner.replace('""', '"') if all_quoted or '""' in inner else cell


def _quoted(path: Path, text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    csv.field_size_limit(_LONGEST_CELL)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise InputError(
                f"table {path}, line {line}: not readable as a row ({error}); a cell that begins with a "
                "quotation mark ends with one, and marks within are doubled; a table with tabs (.tsv) needs "
                "no marks"
            ) from error
        if any(cell.strip() for cell in row):
            yield line, row
