"""What a reader hands over of a known dataset: its parts, before tasks are made of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from crossgap.datasets.known.entry import Entry
from crossgap.datasets.tasks import Answers
from crossgap.errors import InputError


class Contents(NamedTuple):
    """Parts of a dataset (mostly its splits), and what is known beside them.

    ``answers`` are of each setting (easy, medium, hard; or one called ``qrels``) the answers by query id,
    ``class_names`` the words of classes whose label is no word, ``note`` a sentence for every protocol.
    """

    parts: dict[str, list[Entry]]
    answers: Mapping[str, Mapping[str, Answers]] = {}
    class_names: Mapping[str, str] = {}
    note: str = ""


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text file that are not blank.

    Raises:
        InputError: no such file, or not UTF-8.
    """
    return [line for line in read_text(path).splitlines() if line.strip()]


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """Return the text of a file.

    Raises:
        InputError: no such file, or not in that encoding.
    """
    try:
        return path.read_text(encoding=encoding)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error


def read_object(path: Path) -> dict[str, Any]:
    """Return the object that a JSON file holds.

    Raises:
        InputError: no such file, no JSON, or no object.
    """
    try:
        held = json.loads(read_text(path))
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error})") from error
    if not isinstance(held, dict):
        raise InputError(f"{path}: a {type(held).__name__}, expected an object")
    return held


def fields(path: Path, line: str, count: int) -> list[str]:
    """Divide a line at white space into ``count`` fields, the last of which may contain some.

    Raises:
        InputError: it has fewer.
    """
    parts = line.split(maxsplit=count - 1)
    if len(parts) < count:
        raise InputError(f"{path}: line {line!r} has {len(parts)} fields, expected {count}")
    return parts
