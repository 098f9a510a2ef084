"""Results under way, chunk by chunk on disk: a process that is killed loses one chunk at most (on CUDA two).

    out/settings.json                       what the results depend on; written with the first chunk
    out/chunks/KEY/NAME/00000.safetensors   the rows of some items: ids, tensors, a checksum
    out/result.json                         written last, after the final files; then the chunks are removed

KEY hashes the settings, among them the fingerprint of the weights and the hash of the items, so that no chunk
is ever taken for another's. Where a chunk begins and ends depends on the items alone, not on interruptions
nor on how many processes share the work, each of which writes the chunks that it made.

Tensors are kept in one way, here, of features and of inversions: :func:`save_tensors`, :func:`load_tensors`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from crossgap.errors import InputError
from crossgap.files import RESULT, HeldError, atomic_path, claimed, read_json, remove_torn, write_json
from crossgap.processes import ALONE, Processes
from crossgap.progress import Tick, shared
from crossgap.provenance import commit, config_hash, versions
from crossgap.settings.same import check_same

_SETTINGS, _CHUNKS = "settings.json", "chunks"
_DIGEST = "sha256"  # among the metadata of a file of tensors


def save_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> None:
    """Write a safetensors file whose metadata hold ``about`` and a checksum of everything.

    The same tensors and words give the same bytes.
    """
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        save_file(kept, temporary, metadata={**about, _DIGEST: digest_of(kept, about)})
        _sort_metadata(temporary)


def _sort_metadata(path: Path) -> None:
    """Put the metadata of a safetensors file in the order of their names; the library's changes each time."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        words = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode().ljust(size)
        if len(words) != size:
            raise AssertionError(f"{path}: a header of {size} bytes became one of {len(words)}")
        file.seek(8)
        file.write(words)


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a file of :func:`save_tensors`; one without a checksum, of an earlier version, is believed.

    Raises:
        InputError: no such file, or it is damaged: cut off, overwritten, or no such file at all.
    """
    try:
        with safe_open(path, framework="pt") as file:
            about = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: damaged ({type(error).__name__}: {error})") from error
    if about.pop(_DIGEST, expected := digest_of(tensors, about)) != expected:
        raise InputError(f"{path}: damaged (the checksum differs)")
    return tensors, about


def digest_of(tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> str:
    """Return the SHA-256 over words, names, shapes, dtypes and bytes."""
    digest = hashlib.sha256()
    for name, words in sorted(about.items()):
        if name != _DIGEST:
            digest.update(f"{name}={words};".encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype};".encode())
        rows = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
        digest.update(rows.numpy().data)
    return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Chunk:
    """Tensors whose first axis belongs to ``ids``."""

    ids: tuple[str, ...]
    tensors: dict[str, Tensor]

    def save(self, path: Path) -> None:
        """Write the chunk with its ids and a checksum, atomically."""
        save_tensors(path, self.tensors, {"ids": json.dumps(self.ids)})

    @classmethod
    def load(cls, path: Path) -> Chunk:
        """Read a file written by :meth:`save`.

        Raises:
            InputError: it is damaged: cut off, overwritten, or not such a file at all.
        """
        tensors, about = load_tensors(path)
        try:
            return cls(tuple(json.loads(about["ids"])), tensors)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path}: damaged ({type(error).__name__}: {error})") from error


def join(chunks: Sequence[Chunk], ids: Sequence[str]) -> dict[str, Tensor]:
    """Return the rows of ``ids``, in that order, from chunks in any order."""
    place = {item: row for row, item in enumerate(item for chunk in chunks for item in chunk.ids)}
    rows = torch.tensor([place[item] for item in ids])
    return {name: torch.cat([chunk.tensors[name] for chunk in chunks])[rows] for name in chunks[0].tensors}


class Store:
    """The chunks of one command in its folder; made by :func:`open_store`."""

    def __init__(self, out: Path, settings: Mapping[str, Any], processes: Processes) -> None:
        self._out = out
        self._processes = processes
        self._settings = settings
        self._chunks = out / _CHUNKS / config_hash(settings)

    def rows(
        self,
        ids: Sequence[str],
        make: Callable[[Sequence[range], Tick], Iterator[Mapping[str, Tensor]]],
        *,
        name: str,
        size: int,
        begin: Callable[[int], Tick],
    ) -> dict[str, Tensor] | None:
        """Return tensors with one row an id: read from whole chunks on disk, made chunk by chunk otherwise.

        Of processes that share the chunks the first one alone gets them; the others None.

        Args:
            make: runs of places in ``ids``, and what counts finished items -> for each run, when it is made,
                named tensors with a row for each place.
            name: of the folder of these chunks.
            size: items a chunk.
            begin: opens the progress with the number of items that are on disk, returns what counts more.

        Raises:
            InputError: a chunk that another process made cannot be read here.
        """
        parts = [range(start, min(start + size, len(ids))) for start in range(0, len(ids), size)]
        paths = [self._chunks / name / f"{number:05d}.safetensors" for number in range(len(parts))]
        first, size_of_group = self._processes.first, self._processes.size
        chunks = self._read(paths, parts, ids) if first else {}
        done = sum(len(chunk.ids) for chunk in chunks.values())
        if done:
            print(f"{self._out}: {done} of {len(ids)} items are there ({name})", file=sys.stderr)
        there = self._processes.whole(torch.tensor([float(path in chunks) for path in paths]))
        whole = zip(paths, parts, there.bool().tolist(), strict=True)
        missing = [(path, part) for path, part, present in whole if not present]
        own = missing[self._processes.rank :: size_of_group]
        tick = shared(begin(done), len(ids) - done, size_of_group)
        produced = make([part for _, part in own], tick)
        for (path, part), tensors in zip(own, produced, strict=True):
            kept = {key: _own(rows) for key, rows in tensors.items()}
            chunk = Chunk(tuple(ids[place] for place in part), kept)
            self._record_settings()
            chunk.save(path)
            if first:
                chunks[path] = chunk
        self._processes.wait()
        if not first:
            return None
        others = {path: part for path, part in missing if path not in chunks}
        chunks |= self._read(list(others), list(others.values()), ids)
        for path in others:
            if path not in chunks:
                raise InputError(
                    f"{path}: another process made this chunk, and it cannot be read here; all processes "
                    f"must see {self._out} under the same path"
                )
        return join([chunks[path] for path in paths], ids)

    def _read(self, paths: Sequence[Path], parts: Sequence[range], ids: Sequence[str]) -> dict[Path, Chunk]:
        """Read the chunks that are there and whole."""
        return {
            path: chunk
            for path, part in zip(paths, parts, strict=True)
            if (chunk := _whole(path, [ids[place] for place in part])) is not None
        }

    def finish(self, about: Mapping[str, Any]) -> None:
        """Mark the final files as complete, then remove the chunks that they were made of.

        It is for the process that got the rows.
        """
        about = {"settings": self._settings, **about, "versions": versions(), "commit": commit()}
        write_json(self._out / RESULT, about)
        shutil.rmtree(self._out / _CHUNKS, ignore_errors=True)

    def _record_settings(self) -> None:
        path = self._out / _SETTINGS
        if not path.exists():
            write_json(path, {"settings": self._settings, "versions": versions(), "commit": commit()})


def _own(rows: Tensor) -> Tensor:
    """Copy to memory of its own: a file cannot hold tensors that share it."""
    return rows.detach().to("cpu", copy=True).contiguous()


def _whole(path: Path, ids: Sequence[str]) -> Chunk | None:
    """Read the chunk of ``ids`` if it is there; a damaged one is named and left to be made again."""
    if not path.exists():
        return None
    try:
        chunk = Chunk.load(path)
        if set(chunk.ids) != set(ids):
            raise InputError(f"{path}: damaged (it holds other items)")
    except InputError as error:
        print(f"{error}; its {len(ids)} items are made again", file=sys.stderr)
        return None
    return chunk


@contextlib.contextmanager
def open_store(
    out: Path, settings: Mapping[str, Any], processes: Processes = ALONE
) -> Iterator[Store | None]:
    """Hold ``out`` for one process, or those that share its work, and give its store; None when all is there.

    A folder is compared with the settings of the results in it: as long as no chunk is finished there is
    nothing to compare with, and a folder made for nothing is removed.

    Raises:
        InputError: ``out`` holds results with other settings (what differs is listed) or other things,
            another process is writing to it, or processes that share the work were told different things.
    """
    given = json.loads(json.dumps(settings))
    processes.check_same(
        config_hash(given), "the processes do not agree on what to make: is it one command, on the same data?"
    )
    with contextlib.ExitStack() as held:
        finished = False
        with processes.alike():
            if processes.first:
                finished = held.enter_context(_held(out, given))
        yield None if processes.any(finished) else Store(out, given, processes)


@contextlib.contextmanager
def _held(out: Path, given: Mapping[str, Any]) -> Iterator[bool]:
    """Hold ``out`` for this process; say whether the result is complete."""
    if _finished(out, given):
        yield True
        return
    ours = not out.exists()
    out.mkdir(parents=True, exist_ok=True)
    try:
        with claimed(out):
            remove_torn(out)
            try:
                yield _finished(out, given)  # asked again: another process may have finished since
            finally:
                if ours and not _visible(out):
                    shutil.rmtree(out)
    except HeldError as error:
        raise InputError(
            f"another process is writing to {out}; wait for it or choose another --out"
        ) from error


def _finished(out: Path, settings: Mapping[str, Any]) -> bool:
    recorded = read_json(out / _SETTINGS) if (out / _SETTINGS).exists() else None
    if isinstance(recorded, dict) and "settings" in recorded:
        check_same(out, recorded["settings"], settings)
    elif recorded is not None or _visible(out):
        raise InputError(f"{out} holds other things than this command's results; choose another --out")
    if not (out / RESULT).exists():
        return False
    shutil.rmtree(out / _CHUNKS, ignore_errors=True)  # killed between its result and their removal
    return True


def _visible(out: Path) -> bool:
    """Tell whether there is anything but hidden files."""
    return out.is_file() or (out.exists() and any(path.name[0] != "." for path in out.iterdir()))
