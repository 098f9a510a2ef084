"""Files: written whole or not at all, and read with errors that name them. Imports no torch."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

from crossgap.errors import InputError
from crossgap.names import is_text

RESULT = "result.json"  # of any run: written last, so that what has it is finished
LOCK = ".lock"  # of a folder that one process at a time writes into

# what tells which results a folder holds
HOLDS = {
    "study.json": "a study", "settings.json": "features or inversions", "datasets": "an evaluation",
    "checkpoints": "a training",
}  # fmt: skip


class HeldError(Exception):
    """A folder that another live process holds."""


def check_writable(folder: Path) -> None:
    """Make a folder and those above it where they are missing, and try that it takes a file.

    Raises:
        InputError: a file is in the way, or this place takes no folder or no file.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{folder}: this folder cannot be made ({error.strerror}: {error.filename}); choose another place"
        ) from error
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(
            f"{folder}: no file can be written into this folder ({error.strerror}); choose another place"
        ) from error


def check_place(folder: Path, *, own: str | None = None) -> None:
    """Check that a folder is there or can be made, and make nothing.

    Args:
        own: which of :data:`HOLDS` the command makes: a folder that holds another instead is refused.

    Raises:
        InputError: a file is in the way, the place cannot be written to, or it holds other results.
    """
    held = [name for name in HOLDS if (folder / name).exists()]
    if own is not None and held and own not in held:
        raise InputError(f"{folder} holds {HOLDS[held[0]]} ({held[0]}); choose another place")
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        what = "a file" if place == folder else f"{place} is a file"
        raise InputError(f"--out {folder}: {what}, expected a folder; choose another place")
    if not os.access(place, os.W_OK | os.X_OK):
        raise InputError(f"--out {folder}: {place} cannot be written to; choose another place")


@contextlib.contextmanager
def claimed(folder: Path, *, wait: float = 0) -> Iterator[None]:
    """Hold a folder as its only writer: for as long as this process lives, at most.

    Raises:
        HeldError: another live process holds it still after ``wait`` seconds.
    """
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=wait)
    except Timeout as error:
        raise HeldError(f"{folder} is held by another live process") from error
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success sync it and rename it to ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        temporary.chmod(0o644)
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_torn(folder: Path) -> None:
    """Remove the temporary files that killed writers of :func:`atomic_path` left in ``folder`` and below."""
    for path in folder.rglob(".*"):
        if re.fullmatch(r"\..+(\.\w+)\.\w{8}\1", path.name):
            path.unlink()


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's content, read piece by piece."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically; keys keep their order."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    if not is_text(text):  # the name of a file that is no UTF-8: escaped, it is read again as it was
        text = json.dumps(value, indent=2, allow_nan=False)
    write_text(path, f"{text}\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        InputError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"{path}: no such file") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a JSON file ({error})") from error


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
        InputError: the file is missing, is not JSON, or holds something else.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise InputError(
            f"{path}: a JSON object was expected, not {_shortened(value)}; restore the file, or make the run "
            "that wrote it again"
        )
    return value


def append_line(stream: IO[str], value: dict[str, Any]) -> None:
    """Append one JSON line and flush it, so that another process sees it."""
    stream.write(json.dumps(value) + "\n")
    stream.flush()


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read JSON lines; a torn last line (a killed writer) is left out.

    Raises:
        InputError: the file is not UTF-8, a line before the last is torn, or a line holds no JSON object.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: not UTF-8 text ({error}); restore the file, or make the run that wrote it again"
        ) from error
    values = []
    for number, line in enumerate(lines, start=1):
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            if number == len(lines):
                break
            raise InputError(f"{path}, line {number}: not JSON ({error})") from error
        if not isinstance(value, dict):
            raise InputError(
                f"{path}, line {number}: a JSON object was expected, not {_shortened(value)}; restore the "
                "file, or make the run that wrote it again"
            )
        values.append(value)
    return values


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
