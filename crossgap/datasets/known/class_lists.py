"""Read sets of images with classes, in five layouts: a list of images, or folders, and their classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from crossgap.datasets.contents import Contents, fields, read_lines, read_object
from crossgap.datasets.known.entry import Entry
from crossgap.datasets.known.table import Spec
from crossgap.datasets.readers.shards import IMAGE_EXTENSIONS
from crossgap.errors import InputError


def read_coop(spec: Spec, folder: Path) -> Contents:
    """Read a split file of CoOp: ``{"train": [[image, number, class name], ...], "val": ..., "test": ...}``.

    Raises:
        InputError: no such file, or not so built; names the split and the entry.
    """
    path = folder / spec.listing
    held = read_object(path)
    images = folder / spec.images
    return Contents(
        {
            split: [_coop_entry(path, split, images, row) for row in rows]
            for split, rows in held.items()
            if isinstance(rows, list)
        }
    )


def _coop_entry(path: Path, split: str, images: Path, row: Any) -> Entry:
    if not (isinstance(row, list) and len(row) == 3 and isinstance(row[0], str) and isinstance(row[2], str)):
        raise InputError(f"{path}, split {split}: entry {row!r}, expected [image, number, class name]")
    return Entry(id=row[0], image=images / row[0], captions=(), label=row[2])


def read_aircraft(spec: Spec, folder: Path) -> Contents:
    """Read FGVC-Aircraft: lines ``1025794 707-320`` in images_variant_<split>.txt."""

    def entries(split: str) -> list[Entry]:
        path = folder / f"images_variant_{split}.txt"
        rows = [fields(path, line, 2) for line in read_lines(path)]
        return [
            Entry(id=name, image=folder / spec.images / f"{name}.jpg", captions=(), label=variant.strip())
            for name, variant in rows
        ]

    return Contents({split: entries(split) for split in spec.counts})


def read_imagenet(spec: Spec, folder: Path) -> Contents:
    """Read ImageNet as CoOp lays it out: images/{train,val}/<wnid>/, and ``wnid name`` in classnames.txt.

    Two classes may have one name, so a label is the identifier with the name. The validation images are split
    test.

    Raises:
        InputError: a class folder without a name, or a folder that cannot be listed.
    """
    path = folder / "classnames.txt"
    words = dict(fields(path, line, 2) for line in read_lines(path))

    def entries(part: str) -> list[Entry]:
        root = folder / spec.images / part
        of_part = []
        for class_folder in _listed(root):
            if not class_folder.is_dir():
                continue
            wnid = class_folder.name
            if wnid not in words:
                raise InputError(f"{path}: no name of the class {wnid}, whose folder is {class_folder}")
            of_part += [
                Entry(id=f"{wnid}/{image.name}", image=image, captions=(), label=f"{wnid} {words[wnid]}")
                for image in _listed(class_folder)
                if image.suffix.lower().lstrip(".") in IMAGE_EXTENSIONS
            ]
        return of_part

    names = {f"{wnid} {name}": name for wnid, name in words.items()}
    return Contents({"train": entries("train"), "test": entries("val")}, class_names=names)


def read_cub(spec: Spec, folder: Path) -> Contents:
    """Read CUB-200-2011: ``id path``, ``id class`` and ``class name`` in three files."""
    images, labels, classes = (
        dict(fields(folder / name, line, 2) for line in read_lines(folder / name))
        for name in ("images.txt", "image_class_labels.txt", "classes.txt")
    )
    entries = []
    for number, name in images.items():
        label = classes.get(labels.get(number, ""))
        if label is None:
            raise InputError(f"{folder}: image {number} ({name}) has no class in image_class_labels.txt")
        entries.append(Entry(id=name, image=folder / spec.images / name, captions=(), label=label))
    return Contents({"all": entries})


def read_sop(spec: Spec, folder: Path) -> Contents:
    """Read Stanford Online Products: ``image class superclass path`` below a header in Ebay_<split>.txt."""

    def entries(split: str) -> list[Entry]:
        path = folder / f"Ebay_{split}.txt"
        rows = [fields(path, line, 4) for line in read_lines(path)[1:]]
        return [
            Entry(id=name, image=folder / name, captions=(), label=product) for _, product, _, name in rows
        ]

    return Contents({split: entries(split) for split in spec.counts})


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed ({error.strerror})") from error
