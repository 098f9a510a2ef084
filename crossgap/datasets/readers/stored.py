"""Where the bytes of an image lie, so that a dataset holds places and not pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from crossgap.cores import own_cores
from crossgap.errors import InputError


@dataclass(frozen=True)
class StoredImage:
    """An image in a part of a file, or of which a part is meant.

    ``start`` and ``size`` (bytes) say where it lies in a tar; without a size the file is the image. ``box``
    (left, upper, right, lower, in pixels) is what is kept of it once it is decoded.
    """

    path: Path
    start: int = 0
    size: int | None = None
    box: tuple[float, float, float, float] | None = None


Picture = bytes | Path | StoredImage
_FEW, _AT_ONCE = 64, 4096  # pictures that threads are not started for; that are handed to them together


def read_bytes(picture: Picture) -> bytes:
    """Return the encoded image.

    Raises:
        InputError: the file cannot be read, or is shorter than when it was listed.
    """
    if isinstance(picture, bytes):
        return picture
    stored = StoredImage(picture) if isinstance(picture, Path) else picture
    try:
        with open(stored.path, "rb") as file:
            file.seek(stored.start)
            data = file.read() if stored.size is None else file.read(stored.size)
    except OSError as error:
        raise InputError(f"image {stored.path}: cannot be read ({error.strerror})") from error
    if stored.size is not None and len(data) < stored.size:
        raise InputError(f"image {stored.path}: it ends before byte {stored.start + stored.size}")
    return data


def digest(picture: Picture) -> bytes:
    """Return the SHA-256 of an image's bytes, with its box; a file that did not change is read once."""
    if isinstance(picture, bytes):
        return hashlib.sha256(picture).digest()
    stored = StoredImage(picture) if isinstance(picture, Path) else picture
    try:
        status = stored.path.stat()
    except OSError as error:
        raise InputError(f"image {stored.path}: cannot be read ({error.strerror})") from error
    of_bytes = _stored_digest(stored.path, stored.start, stored.size, status.st_size, status.st_mtime_ns)
    return of_bytes if stored.box is None else hashlib.sha256(of_bytes + repr(stored.box).encode()).digest()


def digests(pictures: Sequence[Picture]) -> Iterator[bytes]:
    """Yield the digest of each, read and hashed by as many threads as there are cores, in order."""
    threads = own_cores()
    if threads == 1 or len(pictures) < _FEW:
        yield from map(digest, pictures)
        return
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(pictures), _AT_ONCE):  # a pool holds all that it was given
            yield from pool.map(digest, pictures[start : start + _AT_ONCE])


@lru_cache(maxsize=1 << 21)
def _stored_digest(path: Path, start: int, size: int | None, _whole: int, _modified: int) -> bytes:
    return hashlib.sha256(read_bytes(StoredImage(path, start, size))).digest()
