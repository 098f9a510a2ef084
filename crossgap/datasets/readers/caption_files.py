"""Read caption sets: Karpathy's split files of COCO and Flickr30k, and nocaps in COCO's format.

Captions alone are enough for text retrieval; where the images lie beside them, they are used too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from crossgap.datasets.contents import Contents, read_object
from crossgap.datasets.known.entry import Entry
from crossgap.datasets.known.table import Spec
from crossgap.errors import InputError


def read_karpathy(spec: Spec, folder: Path) -> Contents:
    """Read ``{"images": [{"filename", "filepath", "split", "sentences": [{"raw"}]}]}``.

    Raises:
        InputError: no such file, or not so built; names the entry.
    """
    path = folder / spec.listing
    parts: dict[str, list[Entry]] = {}
    there: dict[str, bool] = {}
    for number, image in enumerate(_list(path, "images")):
        try:
            place = spec.images or str(image["filepath"])
            there.setdefault(place, (folder / place).is_dir())
            entry = Entry(
                id=str(image["filename"]),
                image=folder / place / str(image["filename"]) if there[place] else None,
                captions=tuple(str(sentence["raw"]).strip() for sentence in image["sentences"]),
                label="",
            )
            parts.setdefault(str(image["split"]), []).append(entry)
        except (KeyError, TypeError) as error:
            raise InputError(f"{path}: entry {number} of images lacks {error}") from error
    return Contents(parts, note=_note(all(there.values())))


def read_nocaps(spec: Spec, folder: Path) -> Contents:
    """Read ``{"images": [{"id", "file_name"}], "annotations": [{"image_id", "caption"}]}``.

    Raises:
        InputError: no such file, not so built, or an image without caption.
    """
    path = folder / spec.listing
    captions: dict[object, list[str]] = {}
    has_images = (folder / spec.images).is_dir()
    try:
        for annotation in _list(path, "annotations"):
            captions.setdefault(annotation["image_id"], []).append(str(annotation["caption"]).strip())
        entries = [
            Entry(
                id=str(image["file_name"]),
                image=folder / spec.images / str(image["file_name"]) if has_images else None,
                captions=tuple(captions[image["id"]]),
                label="",
            )
            for image in _list(path, "images")
        ]
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: an entry lacks {error}") from error
    return Contents({"val": entries}, note=_note(has_images))


def _list(path: Path, name: str) -> list[Any]:
    held = read_object(path).get(name)
    if not isinstance(held, list):
        raise InputError(f"{path}: no list {name!r}")
    return held


def _note(has_images: bool) -> str:
    return "" if has_images else "Where the images are not there, captions alone."
