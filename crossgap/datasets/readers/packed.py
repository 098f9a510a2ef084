"""Open files here or at an address, unpacked when their first bytes say that they are packed."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import fsspec
import pyarrow as pa


def _zstd(stream: Any) -> Any:
    return pa.CompressedInputStream(pa.PythonFile(stream, mode="r"), "zstd")


# first bytes -> how what follows is unpacked, whatever the name of the file ends in
_PACKED: Mapping[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"\x28\xb5\x2f\xfd": _zstd,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
}
_LONGEST = max(map(len, _PACKED))
# what unpacking a damaged or cut file raises, beside OSError
UNPACKING_ERRORS = (EOFError, zlib.error, lzma.LZMAError, pa.ArrowException)


def scheme_of(address: str) -> str | None:
    """Return the scheme of a URL in lower case, None of a path."""
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):", address)
    return match[1].lower() if match else None


@contextlib.contextmanager
def open_unpacked(file: str | Path) -> Iterator[IO[bytes]]:
    """Open a file, or a URL through fsspec, and unpack gzip, zstd, bzip2 or xz as its content says."""
    with contextlib.ExitStack() as stack:
        if isinstance(file, Path) or scheme_of(file) is None:
            stream: Any = stack.enter_context(open(file, "rb"))
        else:
            stream = io.BufferedReader(_Raw(stack.enter_context(fsspec.open(file, "rb"))))
        unpack = _unpacking(stream.peek(_LONGEST))
        if unpack is not None:
            stream = stack.enter_context(unpack(stream))
        yield stream


def is_plain_file(file: str | Path) -> bool:
    """Tell whether a file is local and not packed, so that a place in its content is a place in the file."""
    if not isinstance(file, Path) and scheme_of(file) is not None:
        return False
    with open(file, "rb") as stream:
        return _unpacking(stream.read(_LONGEST)) is None


def _unpacking(first: bytes) -> Callable[[Any], Any] | None:
    return next((unpack for magic, unpack in _PACKED.items() if first.startswith(magic)), None)


class _Raw(io.RawIOBase):
    """What fsspec opens, as a buffered reader wants it: some kinds can only be read."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)
