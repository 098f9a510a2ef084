"""Read WebDataset shards: tar files whose members share a key, one sample after another."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

from braceexpand import braceexpand

from crossgap.datasets.readers.caption_text import captions_in
from crossgap.datasets.readers.image_formats import IMAGE_EXTENSIONS, looks_like_image
from crossgap.datasets.readers.image_formats import decode_image as decode_image  # for who reads samples
from crossgap.datasets.readers.packed import UNPACKING_ERRORS, is_plain_file, open_unpacked, scheme_of
from crossgap.datasets.readers.stored import StoredImage
from crossgap.errors import InputError
from crossgap.names import is_text, readable

TEXT_EXTENSIONS = ("txt", "json", "cls")
_READ = frozenset((*IMAGE_EXTENSIONS, *TEXT_EXTENSIONS))
SCHEMES = ("file", "http", "https", "s3", "gs", "gcs", "az", "abfs", "hf", "memory")

_MOST_PARTED = 64  # neighbouring keys with a common beginning that are looked at together
_BLOCK = 512  # a tar is a sequence of blocks of 512 bytes and ends with blocks of zeros


@dataclass(frozen=True, kw_only=True)
class ShardSample:
    """One sample of a shard; the image is not decoded yet.

    ``captions`` come from ``json["captions"]``, else from the lines of the ``.txt`` part, else from
    ``json["caption"]``; they are empty when there are none. ``meta`` is the ``.json`` part, with the ``.cls``
    part as its ``label``. ``place`` says where the image lies in a local tar that is not packed.
    """

    key: str
    shard: str
    image: bytes | None
    captions: tuple[str, ...]
    meta: dict[str, Any]
    place: StoredImage | None = None

    @property
    def where(self) -> str:
        """Name the sample in a message."""
        return f"{self.shard}, sample {self.key!r}"


def expand_shards(pattern: str | Sequence[str]) -> list[str]:
    """List the shards that a pattern with braces (``shards/{000..009}.tar``) or a list of patterns names.

    Local files must exist. URLs are opened through fsspec, only for the schemes of :data:`SCHEMES`; a
    ``pipe:`` would run a command and is refused.

    Raises:
        InputError: no pattern, a scheme that is not read, or a local file that is missing.
    """
    patterns = [pattern] if isinstance(pattern, str) else list(pattern)
    try:
        shards = [str(shard) for text in patterns for shard in braceexpand(str(text))]
    except ValueError as error:
        raise InputError(f"shards {pattern!r}: unbalanced braces ({error})") from error
    if not shards:
        raise InputError(f"shards {pattern!r}: names no shard")
    for shard in shards:
        scheme = scheme_of(shard)
        if scheme is None:
            if not Path(shard).is_file():
                raise InputError(f"shard {shard}: no such file (from {pattern!r})")
        elif scheme not in SCHEMES:
            raise InputError(
                f"shard {shard!r}: scheme {scheme!r} is not read; "
                f"give a local path or one of {', '.join(SCHEMES)}"
            )
    return shards


def read_shards(
    pattern: str | Sequence[str],
    *,
    need: tuple[str, ...] = ("image", "captions"),
    bad: Callable[[str, InputError], None] | None = None,
    whole_texts: bool = False,
) -> Iterator[ShardSample]:
    """Yield the samples of shards in file order, once.

    A key ends at the last dot of a name, so that ``img.v2.jpg`` and ``img.v2.txt`` are a sample; a member of
    another ending beside a sample is passed over, as is what webdataset calls another part of it
    (``k.mask.png`` beside ``k.jpg``). ``need`` names the fields that every sample must have. With ``bad``,
    the shard and what is wrong with a sample, or with the rest of the shard, are given to it, and reading
    goes on with the next. With ``whole_texts`` a ``.txt`` part is one caption.

    Raises:
        InputError: an empty or truncated shard, a sample without a needed field, a key that occurs twice, or
            broken JSON, each naming the shard and the sample.
    """
    for shard in expand_shards(pattern):
        for result in scan_shard(shard, need, whole_texts=whole_texts):
            if isinstance(result, ShardSample):
                yield result
            elif bad is None:
                raise result
            else:
                bad(shard, result)


class _Blocks:
    """Hand out a tar block by block, so that where its parser stops is known exactly."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._last = b""

    def read(self, size: int = -1) -> bytes:
        self._last = self._stream.read(_BLOCK)
        return self._last

    @property
    def ran_out(self) -> bool:
        """Tell whether the stream ended inside a block or where one was expected."""
        return len(self._last) < _BLOCK

    def ended_whole(self) -> bool:
        """Tell whether the parser stopped at a block of zeros with nothing but zeros after it."""
        if self.ran_out or any(self._last):
            return False
        return all(not any(rest) for rest in iter(lambda: self._stream.read(1 << 16), b""))


class _Member(NamedTuple):
    """A file of a tar, which begins at byte ``start``.

    ``data`` is None of a link, whose content lies elsewhere, and empty of a part that is not read.
    """

    name: str
    data: bytes | None
    start: int

    @property
    def key(self) -> str:
        return self.name.rpartition(".")[0]

    @property
    def extension(self) -> str:
        return self.name.rpartition(".")[2].lower()


_Parts = dict[str, _Member]  # of a sample, by extension


def scan_shard(
    shard: str, need: tuple[str, ...] = ("image", "captions"), *, whole_texts: bool = False
) -> Iterator[ShardSample | InputError]:
    """Yield samples of one shard, and what is wrong with one, or, at last, with the shard."""
    try:
        yield from _read_shard(shard, need, whole_texts)
    except InputError as error:
        yield error


def _read_shard(shard: str, need: tuple[str, ...], whole_texts: bool) -> Iterator[ShardSample | InputError]:
    last = None
    seen: set[str] = set()
    try:
        plain = is_plain_file(shard)
        with open_unpacked(shard) as stream:
            blocks = _Blocks(stream)
            for members in _groups(blocks):
                if blocks.ran_out:
                    break
                last = members[-1].key or members[-1].name
                for divided in _divided(members, shard):
                    try:
                        if isinstance(divided, InputError):
                            raise divided
                        key, parts = divided
                        where = f"{shard}, sample {key!r}"
                        if key in seen:
                            raise InputError(
                                f"{where}: its key occurs twice in the shard, so that its parts cannot be "
                                "told apart; write the shard again"
                            )
                        seen.add(key)
                        sample = _sample(key, parts, shard, plain, whole_texts)
                        _check_needed(sample, parts, need)
                    except InputError as error:
                        yield error
                    else:
                        yield sample
            whole = blocks.ended_whole()
    except InputError:
        raise
    except ImportError as error:
        raise InputError(f"shard {shard}: reading this scheme needs another package ({error})") from error
    except (tarfile.TarError, *UNPACKING_ERRORS) as error:
        raise InputError(f"shard {shard}: truncated or damaged {_after(last)} ({error})") from error
    except (OSError, ValueError) as error:
        raise InputError(f"shard {shard}: unreadable {_after(last)} ({error})") from error
    if not whole:
        raise InputError(f"shard {shard}: truncated or damaged {_after(last)} (it has no end)")
    if last is None:
        raise InputError(f"shard {shard}: empty, it has no member with an image or a text")


def _groups(blocks: _Blocks) -> Iterator[list[_Member]]:
    """Yield neighbouring members whose names are equal up to the first dot, or fewer of them.

    A group ends early where all samples in it are whole and the next member belongs to none of them, so that
    a shard whose keys are ``img.0001``, ``img.0002``, ... is not held in memory. Passed over are folders,
    hidden files, what macOS and webdataset add, and names without an ending unless an image bears one.
    """
    from webdataset.tariterators import base_plus_ext  # which loads torch

    group: list[_Member] = []
    prefix = None
    with tarfile.open(fileobj=blocks, mode="r|") as archive:  # type: ignore[call-overload]
        for entry in archive:
            archive.members = []  # of which it would keep all
            link = entry.issym() or entry.islnk()
            if not (link or entry.isreg()) or _is_foreign(entry.name):
                continue
            key, _ = base_plus_ext(entry.name)
            member = _Member(entry.name, None if link else b"", entry.offset_data)
            if not link and (key is None or member.extension in _READ):
                content = archive.extractfile(entry)
                member = member._replace(data=b"" if content is None else content.read())
            if key is None:
                if not member.data or not looks_like_image(member.data):
                    continue
                key = entry.name
            if group and (key != prefix or _is_done(group, member.key)):
                yield group
                group = []
            prefix = key
            group.append(member)
    if group:
        yield group


def _is_done(group: list[_Member], key: str) -> bool:
    """Tell whether the samples of a group are whole, or too many, and a member's key is new among them."""
    samples: dict[str, set[str]] = {}
    for member in group:
        samples.setdefault(member.key, set()).add(member.extension)
    if any(f"{key}.".startswith(f"{other}.") or f"{other}.".startswith(f"{key}.") for other in samples):
        return False
    whole = all(
        not endings.isdisjoint(IMAGE_EXTENSIONS) and not endings.isdisjoint(TEXT_EXTENSIONS)
        for endings in samples.values()
    )
    return whole or len(samples) >= _MOST_PARTED


def _is_foreign(name: str) -> bool:
    folders = name.removeprefix("./").split("/")
    if folders[-1].startswith(".") or "__MACOSX" in folders:
        return True
    return folders[0].startswith("__") and folders[0].endswith("__")


def _divided(members: list[_Member], shard: str) -> Iterator[tuple[str, _Parts] | InputError]:
    """Yield the samples of a group: keys end at the last dot, unless that makes a part of a neighbour."""
    samples: dict[str, _Parts] = {}
    twice: set[str] = set()
    for member in members:
        if not member.key:
            yield InputError(
                f"{shard}, member {member.name!r}: an image whose name has no ending; a sample's parts are "
                "called KEY.jpg, KEY.txt, ..."
            )
            continue
        parts = samples.setdefault(member.key, {})
        if member.extension in parts and member.key not in twice:
            twice.add(member.key)
            yield InputError(
                f"{shard}, sample {member.key!r}: {member.name} is a duplicate, its name stands there twice; "
                "write the shard again"
            )
        parts[member.extension] = member
    for key, parts in samples.items():
        if key in twice:
            continue
        whole = _has(parts, IMAGE_EXTENSIONS) and _has(parts, TEXT_EXTENSIONS)
        owners = (other for other in samples if key.startswith(f"{other}."))
        if whole or not any(_has(samples[other], IMAGE_EXTENSIONS) for other in owners):
            yield key, parts


def _has(parts: _Parts, extensions: Sequence[str]) -> bool:
    return any(extension in parts for extension in extensions)


def _sample(key: str, parts: _Parts, shard: str, plain: bool, whole_texts: bool) -> ShardSample:
    where = f"{shard}, sample {key!r}"
    read = {extension: member.data for extension, member in parts.items() if member.data is not None}
    meta = _json(read["json"], where) if "json" in read else {}
    if "cls" in read:
        meta = {**meta, "label": read["cls"].decode("utf-8", "replace").strip()}
    extension = next((extension for extension in IMAGE_EXTENSIONS if extension in read), None)
    image = None if extension is None else read[extension]
    place = None
    if plain and extension is not None and image is not None:
        place = StoredImage(Path(shard), parts[extension].start, len(image))
    return ShardSample(
        key=key,
        shard=shard,
        image=image,
        captions=_captions(read, meta, where, whole_texts),
        meta=meta,
        place=place,
    )


def _json(data: bytes, where: str) -> dict[str, Any]:
    try:
        meta = json.loads(data)
    except ValueError as error:
        raise InputError(f"{where}: its .json part is not JSON ({error})") from error
    if not isinstance(meta, dict):
        raise InputError(f"{where}: its .json part is a {type(meta).__name__}, expected an object")
    return meta


def _captions(read: dict[str, bytes], meta: dict[str, Any], where: str, whole_texts: bool) -> tuple[str, ...]:
    if meta.get("captions") is not None:
        captions = meta["captions"]
    elif "txt" in read:
        return captions_in(read["txt"], where=f"{where}: its .txt part", whole=whole_texts)
    else:
        captions = [] if meta.get("caption") is None else [meta["caption"]]
    if not isinstance(captions, list) or not all(isinstance(caption, str) for caption in captions):
        raise InputError(f"{where}: captions {captions!r} are not a list of texts")
    odd = next((caption for caption in captions if not is_text(caption)), None)
    if odd is not None:
        raise InputError(f"{where}: caption {readable(odd)[:80]!r} holds half a character (a lone surrogate)")
    return tuple(caption.strip() for caption in captions if caption.strip())


def _check_needed(sample: ShardSample, parts: _Parts, need: tuple[str, ...]) -> None:
    missing = [field for field in need if not getattr(sample, field)]
    if missing:
        listed = " ".join(f".{name}{' (a link)' * (part.data is None)}" for name, part in parts.items())
        raise InputError(
            f"{sample.where}: no {' and no '.join(missing)} (its parts: {listed}); a sample needs an image "
            f"(.jpg, .png, ...) and a caption (.txt or .json) next to each other under one key"
        )


def _after(key: str | None) -> str:
    return "before its first sample" if key is None else f"after sample {key!r}"
