"""Read WebDataset shards: tar files whose members share a key, one sample after another."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import re
import struct
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import fsspec
from braceexpand import braceexpand
from PIL import Image, UnidentifiedImageError
from webdataset.tariterators import base_plus_ext, group_by_keys, tar_file_expander

from crossgap.datasets.stored import StoredImage
from crossgap.errors import InputError
from crossgap.names import is_text, readable

IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp")
EXTENSIONS = (*IMAGE_EXTENSIONS, "txt", "json")
SCHEMES = ("file", "http", "https", "s3", "gs", "gcs", "az", "abfs", "hf", "memory")

# a small file can claim to be a picture that fills the memory (a decompression bomb)
MOST_PIXELS = 2**26

_BLOCK = 512  # a tar is a sequence of blocks of 512 bytes and ends with blocks of zeros


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One sample of a shard; the image is not decoded yet.

    ``captions`` come from ``json["captions"]``, else from the lines of the ``.txt`` part, else from
    ``json["caption"]``; they are empty when there are none. ``meta`` is the ``.json`` part.
    """

    key: str
    shard: str
    image: bytes | None
    captions: tuple[str, ...]
    meta: dict[str, Any]

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
        scheme = _scheme(shard)
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
) -> Iterator[Sample]:
    """Yield the samples of shards in file order, once.

    Members with other extensions than :data:`EXTENSIONS` are ignored. ``need`` names the fields that every
    sample must have. With ``bad``, the shard and what is wrong with a sample, or with the rest of the
    shard, are given to it, and reading goes on with the next.

    Raises:
        InputError: an empty or truncated shard, a sample without a needed field, or broken JSON, each naming
            the shard and the sample.
    """
    for shard in expand_shards(pattern):
        for found in scan_shard(shard, need):
            if isinstance(found, Sample):
                yield found
            elif bad is None:
                raise found
            else:
                bad(shard, found)


def is_plain_file(shard: str) -> bool:
    """Tell whether a shard is a local tar that is not packed, in which a place is a place in the file."""
    return _scheme(shard) is None and not shard.endswith((".gz", ".tgz"))


def places(shard: str) -> dict[str, StoredImage]:
    """Say where in a shard the image of each sample lies, by key; nothing of a packed or remote shard.

    The shard has been read by :func:`read_shards`, which refuses a damaged one.
    """
    if not is_plain_file(shard):
        return {}
    found: dict[str, dict[str, StoredImage]] = {}
    with tarfile.open(shard, "r:") as archive:
        for member in archive:
            key, extension = base_plus_ext(member.name)
            if key is not None and member.isfile() and extension.lower() in IMAGE_EXTENSIONS:
                place = StoredImage(Path(shard), member.offset_data, member.size)
                found.setdefault(key, {})[extension.lower()] = place
    return {
        key: next(by_extension[extension] for extension in IMAGE_EXTENSIONS if extension in by_extension)
        for key, by_extension in found.items()
    }


def decode_image(
    data: bytes, *, where: str, formats: tuple[str, ...] = ("JPEG", "PNG", "WEBP")
) -> Image.Image:
    """Decode an image of one of ``formats`` to RGB, transparent pixels on white, of an animation the first.

    Raises:
        InputError: the bytes are not such an image, or are cut off; names ``where``.
    """
    try:
        with Image.open(io.BytesIO(data), formats=formats) as image:
            if image.width * image.height > MOST_PIXELS:
                raise ValueError(
                    f"{image.width} x {image.height} pixels, at most {MOST_PIXELS:,} are decoded"
                )
            image.load()
            if not image.has_transparency_data:
                return image.convert("RGB")
            coloured = image.convert("RGBA")
            white = Image.new("RGBA", coloured.size, "white")
            return Image.alpha_composite(white, coloured).convert("RGB")
    except (OSError, ValueError, SyntaxError, struct.error, Image.DecompressionBombError) as error:
        unknown = isinstance(error, UnidentifiedImageError)
        reason = f"no image of the formats {', '.join(formats)}" if unknown else str(error)
        raise InputError(
            f"{where}: the image ({len(data)} bytes) cannot be decoded ({reason}); replace or remove it"
        ) from error


def _scheme(shard: str) -> str | None:
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):", shard)
    return match[1].lower() if match else None


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


def scan_shard(shard: str, need: tuple[str, ...] = ("image", "captions")) -> Iterator[Sample | InputError]:
    """Yield samples of one shard, and what is wrong with one, or, at last, with the shard."""
    try:
        yield from _read_shard(shard, need)
    except InputError as error:
        yield error


def _read_shard(shard: str, need: tuple[str, ...]) -> Iterator[Sample | InputError]:
    last = None
    try:
        with _open(shard) as stream:
            blocks = _Blocks(stream)
            members = tar_file_expander([{"url": shard, "stream": blocks}], select_files=_is_read)
            for parts in group_by_keys(members):
                if blocks.ran_out:
                    break
                last = str(parts["__key__"])
                try:
                    sample = _sample(parts, shard)
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
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise InputError(f"shard {shard}: truncated or damaged {_after(last)} ({_reason(error)})") from error
    except (OSError, ValueError) as error:
        raise InputError(f"shard {shard}: unreadable {_after(last)} ({_reason(error)})") from error
    if not whole:
        raise InputError(f"shard {shard}: truncated or damaged {_after(last)} (it has no end)")
    if last is None:
        raise InputError(f"shard {shard}: empty, it has no member ending in .{' .'.join(EXTENSIONS)}")


@contextlib.contextmanager
def _open(shard: str) -> Iterator[IO[bytes]]:
    with contextlib.ExitStack() as stack:
        if _scheme(shard) is None:
            stream: Any = stack.enter_context(open(shard, "rb"))
        else:
            stream = stack.enter_context(fsspec.open(shard, "rb"))
        if shard.endswith((".gz", ".tgz")):
            stream = stack.enter_context(gzip.open(stream))
        yield stream


def _is_read(name: str) -> bool:
    _, extension = base_plus_ext(name)
    return extension is not None and extension.lower() in EXTENSIONS


def _sample(parts: dict[str, Any], shard: str) -> Sample:
    key = parts["__key__"]
    where = f"{shard}, sample {key!r}"
    meta = _json(parts["json"], where) if "json" in parts else {}
    return Sample(
        key=key,
        shard=shard,
        image=next((parts[extension] for extension in IMAGE_EXTENSIONS if extension in parts), None),
        captions=_captions(parts, meta, where),
        meta=meta,
    )


def _json(data: bytes, where: str) -> dict[str, Any]:
    try:
        meta = json.loads(data)
    except ValueError as error:
        raise InputError(f"{where}: its .json part is not JSON ({error})") from error
    if not isinstance(meta, dict):
        raise InputError(f"{where}: its .json part is a {type(meta).__name__}, expected an object")
    return meta


def _captions(parts: dict[str, Any], meta: dict[str, Any], where: str) -> tuple[str, ...]:
    if meta.get("captions") is not None:
        captions = meta["captions"]
    elif "txt" in parts:
        try:
            captions = parts["txt"].decode("utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise InputError(f"{where}: its .txt part is not UTF-8 ({error})") from error
    else:
        captions = [] if meta.get("caption") is None else [meta["caption"]]
    if not isinstance(captions, list) or not all(isinstance(caption, str) for caption in captions):
        raise InputError(f"{where}: captions {captions!r} are not a list of texts")
    odd = next((caption for caption in captions if not is_text(caption)), None)
    if odd is not None:
        raise InputError(f"{where}: caption {readable(odd)[:80]!r} holds half a character (a lone surrogate)")
    return tuple(caption.strip() for caption in captions if caption.strip())


def _check_needed(sample: Sample, parts: dict[str, Any], need: tuple[str, ...]) -> None:
    missing = [field for field in need if not getattr(sample, field)]
    if missing:
        found = " ".join(f".{name}" for name in parts if not name.startswith("__"))
        raise InputError(
            f"{sample.where}: no {' and no '.join(missing)} (its parts: {found}); a sample needs an image "
            f"(.{' .'.join(IMAGE_EXTENSIONS)}) and a caption (.txt or .json) next to each other under one key"
        )


def _after(key: str | None) -> str:
    return "before its first sample" if key is None else f"after sample {key!r}"


def _reason(error: BaseException) -> str:
    # webdataset appends its stream and url to the arguments of what it raises again
    text = str(error) if isinstance(error, OSError) and error.strerror else str(error.args[0])
    return text.split(" @ <")[0]
