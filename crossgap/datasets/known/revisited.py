"""Read revisited Oxford and Paris: images, and the ground truth in the published pickle.

A pickle may run code when it is read. This one is read by an unpickler that knows plain containers, numbers
and numpy arrays, and refuses every other name.

[0] Radenovic, Iscen, Tolias, Avrithis and Chum, 2018, "Revisiting Oxford and Paris", CVPR, arXiv 1803.11285.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from crossgap.datasets.contents import Contents
from crossgap.datasets.known.entry import Entry
from crossgap.datasets.known.table import Spec
from crossgap.datasets.readers.stored import StoredImage
from crossgap.datasets.tasks import Answers
from crossgap.errors import InputError

# What a pickle of numpy arrays names, by the module names of numpy 1 and 2.
_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
}


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return _bytes_of
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is not let in")
        # numpy 2 moved numpy.core, and warns where a pickle of numpy 1 names it
        return super().find_class(module.replace("numpy.core.", "numpy._core."), name)


def _bytes_of(text: str, encoding: str) -> bytes:
    """Turn text back into the bytes that protocol 2 stores as such."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it asks for the codec {encoding!r}, which is not let in")
    return text.encode("latin1")


def read_revisited(spec: Spec, folder: Path) -> Contents:
    """Read queries and gallery, and the answers to each query in the easy, medium and hard setting [0].

    A query's class is its landmark (the file name without the number), over which intervals are made.

    Raises:
        InputError: no such file, forbidden names in it, or not so built.
    """
    path = folder / spec.listing
    held = _load(path)
    try:
        names, queries = [str(name) for name in held["imlist"]], [str(name) for name in held["qimlist"]]
        truths = [
            {kind: [names[int(place)] for place in np.atleast_1d(truth[kind])] for kind in _KINDS}
            for truth in held["gnd"]
        ]
        boxes = [[float(edge) for edge in truth["bbx"]] for truth in held["gnd"]]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: not the ground truth of revisited Oxford or Paris ({type(error).__name__}: {error}); "
            "expected imlist, qimlist and, for each query, bbx, easy, hard and junk"
        ) from error
    if not len(queries) == len(truths) or any(len(box) != 4 for box in boxes):
        raise InputError(
            f"{path}: {len(queries)} queries but {len(truths)} answers, or a box without four edges"
        )
    images = folder / spec.images
    entries = [
        Entry(
            id=f"query/{name}",
            image=StoredImage(
                images / f"{name}.jpg", box=(box[0], box[1], box[2], box[3]) if spec.cropped else None
            ),
            captions=(),
            label=name.rpartition("_")[0] or name,
        )
        for name, box in zip(queries, boxes, strict=True)
    ]
    gallery = [Entry(id=name, image=images / f"{name}.jpg", captions=(), label="gallery") for name in names]
    answers = {
        setting: {
            entry.id: Answers(
                relevant=tuple(name for kind in right for name in truth[kind]),
                ignored=tuple(name for kind in _KINDS if kind not in right for name in truth[kind]),
            )
            for entry, truth in zip(entries, truths, strict=True)
        }
        for setting, right in _SETTINGS.items()
    }
    return Contents({"queries": entries, "gallery": gallery}, answers=answers)


def _load(path: Path) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            held = _PlainUnpickler(file, encoding="latin1").load()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except Exception as error:
        # a damaged pickle raises whatever the instruction that it stumbles over raises
        raise InputError(f"{path}: not a pickle that can be read safely ({error})") from error
    if not isinstance(held, dict):
        raise InputError(f"{path}: a {type(held).__name__}, expected a dict")
    return held


_KINDS = ("easy", "hard", "junk")
_SETTINGS = {"easy": ("easy",), "medium": ("easy", "hard"), "hard": ("hard",)}
