"""Write shards to train on, from captioned images in a folder or a table."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image
from webdataset import TarWriter

from crossgap.datasets.bad import BadSamples
from crossgap.datasets.known.entry import Entry
from crossgap.datasets.known.layouts import read_contents
from crossgap.datasets.known.table import SPECS
from crossgap.datasets.readers.caption_text import captions_in
from crossgap.datasets.readers.csv_dataset import TABLES, is_table, training_entries
from crossgap.datasets.readers.image_formats import decode_image, extension_of, is_image
from crossgap.datasets.readers.stored import read_bytes
from crossgap.datasets.readers.tree import walk
from crossgap.errors import InputError, check_known
from crossgap.files import atomic_path, file_digest, read_json, write_json
from crossgap.names import readable
from crossgap.progress import ItemProgress, Tick, told
from crossgap.provenance import config_hash
from crossgap.settings.same import check_same

MANIFEST = "manifest.json"


_TRAINING = ("train", "restval")  # parts to train on; restval is what COCO's split adds to train


_QUALITY = 95  # of JPEG, where images are resized


def prepare(
    source: Path,
    out: Path,
    *,
    per_shard: int,
    image_size: int | None,
    limit: int | None,
    max_bad: int,
    data_root: Path | None = None,
    whole_texts: bool = False,
) -> dict[str, Any]:
    """Write shards ``000000.tar``, ... and, last, ``manifest.json``; the same source gives the same bytes.

    A sample is an image as it is, or resized (shorter side) and written as JPEG, with a ``.json`` part that
    holds ``captions`` and, where the source has a label, ``concept``. Every image is decoded once, so that a
    bad one shows here and not while training. With ``whole_texts`` a ``.txt`` file is one caption.

    Returns:
        the manifest: shards with samples, bytes and SHA-256, the bad samples with their reasons, and what
        else of the source was left out, in sentences.

    Raises:
        InputError: nothing to write, a source that is not understood, ``out`` holds shards of other settings,
            or more bad samples than ``max_bad``.
    """
    settings = {
        "source": readable(str(source.resolve() if data_root is None else source)),
        "per_shard": per_shard,
        "image_size": image_size,
        "limit": limit,
        **({"whole_texts": True} if whole_texts else {}),
    }
    if (out / MANIFEST).exists():
        done: dict[str, Any] = read_json(out / MANIFEST)
        recorded = dict(done.get("settings", {}))
        content = recorded.pop("content", None)
        check_same(out, recorded, settings)
        gone = data_root is None and not source.exists()
        if (
            not gone
            and content is not None
            and content != _content(_entries(source, data_root, BadSamples(limit=max_bad), whole_texts)[0])
        ):
            raise InputError(
                f"{out} was written from {source} as it was before: images or captions were added, removed "
                "or changed since; give another --out"
            )
        return done
    bad = BadSamples(limit=max_bad)
    with told(f"listing {source}"):
        entries, left_out = _entries(source, data_root, bad, whole_texts)
    settings["content"] = _content(entries)
    out.mkdir(parents=True, exist_ok=True)
    shards: list[dict[str, Any]] = []
    total = 0
    with ItemProgress() as progress:
        tick = progress.start("read images", len(entries) if limit is None else min(limit, len(entries)))
        samples = _samples(entries, image_size, bad, tick)
        while True:
            wanted = per_shard if limit is None else min(per_shard, limit - total)
            shard = _write_shard(out / f"{len(shards):06d}.tar", samples, wanted) if wanted else None
            if shard is None:
                break
            shards.append(shard)
            total += shard["samples"]
    if not shards:
        raise InputError(f"{source}: no pair of image and caption to write")
    manifest = {
        "settings": settings,
        "samples": total,
        "shards": shards,
        "bad": bad.reasons,
        "left_out": left_out,
    }
    write_json(out / MANIFEST, manifest)
    return manifest


def manifest_shards(folder: Path) -> list[str]:
    """List the shards of a folder that :func:`prepare` wrote.

    Raises:
        InputError: no manifest, or a shard is missing or has another size than was written.
    """
    if not (folder / MANIFEST).exists():
        raise InputError(
            f"{folder} has no {MANIFEST}: give shards as '{folder}/{{000000..000009}}.tar', or write them "
            "with python -m pretrain.prepare"
        )
    paths = []
    for shard in read_json(folder / MANIFEST)["shards"]:
        path = folder / shard["name"]
        size = path.stat().st_size if path.exists() else None
        if size != shard["bytes"]:
            state = "is missing" if size is None else f"has {size} bytes"
            raise InputError(f"shard {path} {state}, {shard['bytes']} were written; prepare the folder again")
        paths.append(str(path))
    return paths


def _content(entries: list[Entry]) -> str:
    """Hash what a source holds: ids, captions, labels and the sizes of its images, which are not read."""
    files = [entry.image if isinstance(entry.image, Path) else None for entry in entries]
    sizes = [file.stat().st_size if file is not None and file.is_file() else 0 for file in files]
    rows = [
        [entry.id, entry.label, *entry.captions, size] for entry, size in zip(entries, sizes, strict=True)
    ]
    return config_hash({"entries": rows})


def _entries(
    source: Path, data_root: Path | None, bad: BadSamples, whole_texts: bool
) -> tuple[list[Entry], list[str]]:
    """Return what the source holds, and sentences about what was left out."""
    if data_root is not None:
        parts = read_contents(check_known(str(source), SPECS, "dataset"), root=data_root).parts
        entries = [entry for name in _TRAINING for entry in parts.get(name, [])]
        if not entries:
            raise InputError(f"dataset {source}: it has no part {' or '.join(_TRAINING)}, only {list(parts)}")
        if any(entry.image is None for entry in entries):
            raise InputError(f"dataset {source}: its images are not beside its captions; training needs both")
        return entries, []
    if is_table(source):
        return training_entries(source, bad)
    if not source.is_dir():
        raise InputError(f"{source}: no such folder, and not a table ({', '.join(TABLES)})")
    return _captioned(source, bad, whole_texts)


def _captioned(folder: Path, bad: BadSamples, whole_texts: bool) -> tuple[list[Entry], list[str]]:
    """Pair images with the captions beside them, a line each, as img2dataset writes files; follow links."""
    files, broken = walk(folder)
    images = [path for path in files if is_image(path)]
    texts = {path.with_suffix(""): path for path in files if path.suffix.lower() == ".txt"}
    entries = []
    for path in images:
        name = str(path.relative_to(folder))
        beside = texts.get(path.with_suffix(""))
        captions: tuple[str, ...] = ()
        if beside is not None:
            try:
                where = f"image {name!r}: {beside.name} beside it"
                captions = captions_in(beside.read_bytes(), where=where, whole=whole_texts)
            except InputError as error:
                bad.add("source", error)
                continue
        entries.append(Entry(id=name, image=path, captions=captions, label=""))
    stems = [path.with_suffix("") for path in images]
    used = {*images, *(texts[stem] for stem in stems if stem in texts)}
    others = [path for path in files if path not in used]
    left = [("broken links", broken), ("neither image nor caption of one", others)]
    return entries, [_left_out(why, paths, folder) for why, paths in left if paths]


def _left_out(why: str, paths: list[Path], folder: Path) -> str:
    names = ", ".join(str(path.relative_to(folder)) for path in paths[:3])
    return f"Left out, as {why}: {len(paths)} ({names}{', ...' if len(paths) > 3 else ''})."


def _samples(
    entries: list[Entry], image_size: int | None, bad: BadSamples, tick: Tick
) -> Iterator[dict[str, Any]]:
    for number, entry in enumerate(entries):
        tick(1)
        try:
            extension, data = _image(entry, image_size)
        except InputError as error:
            bad.add("source", error)
            continue
        about: dict[str, Any] = {"captions": list(entry.captions), "id": entry.id}
        if entry.label:
            about["concept"] = entry.label
        # a key is a file's name without the ending: no dots, no folders
        key = f"{number:08d}_{re.sub(r'[^A-Za-z0-9-]', '-', Path(entry.id).stem)[:40]}"
        yield {"__key__": key, extension: data, "json": json.dumps(about, ensure_ascii=False).encode()}


def _image(entry: Entry, size: int | None) -> tuple[str, bytes]:
    where = f"image {entry.id!r}"
    if not entry.captions:
        raise InputError(f"{where}: no caption (expected in a .txt beside it, a line each)")
    assert entry.image is not None
    data = read_bytes(entry.image)
    picture = decode_image(data, where=where)
    if size is None:
        return extension_of(data), data
    if min(picture.size) > size:
        scale = size / min(picture.size)
        width, height = (max(size, round(side * scale)) for side in picture.size)
        picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=_QUALITY)
    return "jpg", stream.getvalue()


def _write_shard(path: Path, samples: Iterator[dict[str, Any]], count: int) -> dict[str, Any] | None:
    """Write up to ``count`` samples; None if there are no more."""
    first = next(samples, None)
    if first is None:
        return None
    written = 0
    with atomic_path(path) as temporary:
        with TarWriter(str(temporary), encoder=False, mtime=0) as writer:
            sample: dict[str, Any] | None = first
            while sample is not None:
                writer.write(sample)
                written += 1
                sample = next(samples, None) if written < count else None
        size, digest = temporary.stat().st_size, file_digest(temporary)
    return {"name": path.name, "samples": written, "bytes": size, "sha256": digest}
