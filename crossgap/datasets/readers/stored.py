"""Where the bytes of an image lie, so that a dataset holds places and not pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from crossgap.cores import own_cores
from crossgap.errors import InputError

if TYPE_CHECKING:
    from crossgap.processes import Processes


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
_DIGEST_BYTES = 32
REMEMBERED = 1 << 21  # images of files whose digests a process keeps


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
    place = _place(picture)
    return _boxed(picture, _digest_at(picture, place))


def digests(pictures: Sequence[Picture]) -> Iterator[bytes]:
    """Yield the digest of each, read and hashed by as many threads as there are cores, in order.

    Within :func:`digests_shared` each of several processes reads its part.
    """
    processes = _sharing[-1]
    if processes is not None and not processes.agree(str(len(pictures))):
        processes = None  # they list other data, which is said where settings are compared
    threads = own_cores()
    if processes is None and (threads == 1 or len(pictures) < _FEW):
        yield from map(digest, pictures)
        return
    at_once = _AT_ONCE * (1 if processes is None else processes.size)
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(pictures), at_once):  # a pool holds all that it was given
            some = pictures[start : start + at_once]
            yield from pool.map(digest, some) if processes is None else _shared(some, pool, processes)


@contextmanager
def digests_shared(processes: Processes) -> Iterator[None]:
    """Let each process of several digest its part of the images, and tell the others.

    What is done within must ask for the digests of the same images in the same order in all of them. Where
    they do not see the same files, by size and time, each digests all of them itself.
    """
    _sharing.append(processes if processes.size > 1 else None)
    try:
        yield
    finally:
        _sharing.pop()


_sharing: list[Processes | None] = [None]


def _shared(pictures: Sequence[Picture], pool: ThreadPoolExecutor, processes: Processes) -> Iterator[bytes]:
    """Digest this process's part, and yield the digests of all parts."""
    import torch  # only here: datasets are listed without it

    with processes.alike():
        places = list(pool.map(_place, pictures))
    # the path apart, which another machine may call otherwise
    seen = [
        len(picture) if isinstance(picture, bytes) else place and place[1:]
        for picture, place in zip(pictures, places, strict=True)
    ]
    if not processes.agree(repr(seen)):
        yield from pool.map(digest, pictures)
        return
    part = -(-len(pictures) // processes.size)
    own = slice(processes.rank * part, (processes.rank + 1) * part)
    with processes.alike():
        found = b"".join(pool.map(_digest_at, pictures[own], places[own]))
    table = torch.zeros(len(pictures), _DIGEST_BYTES // 4, dtype=torch.int32)
    if found:
        table[own] = torch.frombuffer(bytearray(found), dtype=torch.int32).view(-1, table.shape[1])
    rows = processes.whole(table).numpy().tobytes()
    for number, (picture, place) in enumerate(zip(pictures, places, strict=True)):
        of_bytes = rows[number * _DIGEST_BYTES : (number + 1) * _DIGEST_BYTES]
        _remember(place, of_bytes)
        yield _boxed(picture, of_bytes)


# where an image lies, from which byte on and how many, and what says that its file did not change: size, time
_Place = tuple[Path, int, int | None, int, int]
# digests of images in files; two of a process's threads may add the same
_remembered: dict[_Place, bytes] = {}


def _place(picture: Picture) -> _Place | None:
    """Say where an image lies; None where its bytes are in memory."""
    if isinstance(picture, bytes):
        return None
    stored = StoredImage(picture) if isinstance(picture, Path) else picture
    try:
        status = stored.path.stat()
    except OSError as error:
        raise InputError(f"image {stored.path}: cannot be read ({error.strerror})") from error
    return stored.path, stored.start, stored.size, status.st_size, status.st_mtime_ns


def _digest_at(picture: Picture, place: _Place | None) -> bytes:
    """Return the SHA-256 of an image's bytes alone."""
    found = None if place is None else _remembered.get(place)
    if found is None:
        found = hashlib.sha256(read_bytes(picture)).digest()
        _remember(place, found)
    return found


def _remember(place: _Place | None, found: bytes) -> None:
    if place is not None and len(_remembered) < REMEMBERED:
        _remembered[place] = found


def _boxed(picture: Picture, of_bytes: bytes) -> bytes:
    box = picture.box if isinstance(picture, StoredImage) else None
    return of_bytes if box is None else hashlib.sha256(of_bytes + repr(box).encode()).digest()
