"""Miniatures of the known datasets, written in their official layouts."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from crossgap.datasets.known.table import SPECS, Spec

SPLITS = {"train": 4, "val": 3, "test": 3}  # images of each class
WORDS = ("red", "green", "blue")
THINGS = ("cat", "dog", "cup")


def picture(colour: int, number: int, kind: str = "JPEG") -> bytes:
    """Return an image of one of three colours that differs with ``number``."""
    pixels = np.full((24, 32, 3), 40 + 7 * (number % 20), dtype=np.uint8)
    pixels[:, :, colour % 3] = 230
    pixels[number % 24] = 255 - number % 7
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def put(path: Path, data: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def write_all(root: Path, names: Sequence[str] = tuple(SPECS)) -> dict[str, Spec]:
    """Write a miniature of each dataset; return the table with their counts in place of the official ones."""
    specs = dict(SPECS)
    written: dict[str, Written] = {}
    for name in names:
        spec = SPECS[name]
        if spec.folder:
            if spec.folder not in written:  # revisited sets, cropped or not, lie in one folder
                written[spec.folder] = WRITERS[spec.layout](root / spec.folder, spec)
            counts, classes = written[spec.folder]
            specs[name] = replace(spec, counts=counts, classes=classes)
    return specs


Written = tuple[Mapping[str, int], int]


def _coop(folder: Path, spec: Spec) -> Written:
    held: dict[str, list[object]] = {}
    for split, count in SPLITS.items():
        rows: list[object] = []
        for number, word in enumerate(WORDS):
            for place in range(count):
                name = f"{word}_thing/{split}_{place:04d}.jpg"
                put(folder / spec.images / name, picture(number, 10 * place + len(split)))
                rows.append([name, number, f"{word} thing"])
        held[split] = rows
    put(folder / spec.listing, json.dumps(held))
    return {split: len(rows) for split, rows in held.items()}, len(WORDS)


def _aircraft(folder: Path, spec: Spec) -> Written:
    serial = 1025794
    for split, count in SPLITS.items():
        lines = []
        for number, variant in enumerate(("707-320", "A300B4", "Cessna 172")):
            for _ in range(count):
                serial += 1
                put(folder / "images" / f"{serial:07d}.jpg", picture(number, serial))
                lines.append(f"{serial:07d} {variant}")
        put(folder / f"images_variant_{split}.txt", "\n".join(lines) + "\n")
    return {split: 3 * count for split, count in SPLITS.items()}, 3


def _imagenet(folder: Path, spec: Spec) -> Written:
    # two classes of one name, as in the real list
    words = {"n01440764": "tench", "n04355933": "sunglasses", "n04356056": "sunglasses"}
    put(folder / "classnames.txt", "".join(f"{wnid} {name}\n" for wnid, name in words.items()))
    for number, wnid in enumerate(words):
        for place in range(4):
            put(folder / f"images/train/{wnid}/{wnid}_{place}.JPEG", picture(number, place))
        for place in range(2):
            name = f"images/val/{wnid}/ILSVRC2012_val_0000000{number}{place}.JPEG"
            put(folder / name, picture(number, place + 9, "PNG" if place else "JPEG"))
    return {"train": 12, "test": 6}, 3


def _cub(folder: Path, spec: Spec) -> Written:
    classes = ["001.Black_footed_Albatross", "002.Laysan_Albatross"]
    images = [(name, f"{name}/bird_{place}.jpg") for name in classes for place in range(4)]
    for number, (name, path) in enumerate(images):
        put(folder / "images" / path, picture(classes.index(name), number))
    rows = list(enumerate(images, start=1))
    put(folder / "images.txt", "".join(f"{number} {path}\n" for number, (_, path) in rows))
    labels = "".join(f"{number} {classes.index(name) + 1}\n" for number, (name, _) in rows)
    put(folder / "image_class_labels.txt", labels)
    put(folder / "classes.txt", "".join(f"{place} {name}\n" for place, name in enumerate(classes, start=1)))
    return {"all": len(images)}, 2


def _sop(folder: Path, spec: Spec) -> Written:
    for split, first in (("train", 0), ("test", 10)):
        lines = ["image_id class_id super_class_id path"]
        for product in range(first, first + 4):
            for view in range(3):
                name = f"bicycle_final/1110{product}_{view}.JPG"
                put(folder / name, picture(product, view + product))
                lines.append(f"{len(lines)} {product + 1} 1 {name}")
        put(folder / f"Ebay_{split}.txt", "\n".join(lines) + "\n")
    return {"train": 12, "test": 12}, 4


def _revisited(folder: Path, spec: Spec) -> Written:
    gallery = [f"landmark_{place:06d}" for place in range(9)]
    queries = ["all_souls_000013", "all_souls_000026", "ashmolean_000007"]
    for number, name in enumerate(gallery + queries):
        put(folder / "jpg" / f"{name}.jpg", picture(number, number))
    truths = [
        {"bbx": [2.0, 3.0, 20.0, 19.0], "easy": np.array([0, 1]), "hard": [2], "junk": np.array([3])},
        {"bbx": [2.0, 3.0, 20.0, 19.0], "easy": [4], "hard": np.array([5, 6]), "junk": []},
        {"bbx": np.array([0.0, 0.0, 9.0, 9.0]), "easy": [], "hard": [np.int64(7)], "junk": [8]},
    ]
    data = pickle.dumps({"imlist": gallery, "qimlist": queries, "gnd": truths}, protocol=2)
    put(folder / spec.listing, data)
    return {"queries": len(queries), "gallery": len(gallery)}, 0


def _karpathy(folder: Path, spec: Spec) -> Written:
    images, counts = [], dict.fromkeys(spec.counts, 4)
    for split, count in counts.items():
        for place in range(count):
            where = "train2014" if split == "train" else "val2014"
            name = f"{spec.folder}_{split}_{place:012d}.jpg"
            entry = {
                "filename": name,
                "split": split,
                "sentences": [
                    {"raw": f"a {WORDS[place % 3]} {word} of {split}."} for word in ("cat", "dog", "cup")
                ],
            }
            images.append(entry if spec.images else entry | {"filepath": where})
            put(folder / (spec.images or where) / name, picture(place, place))
    put(folder / spec.listing, json.dumps({"images": images, "dataset": spec.folder}))
    return counts, 0


def _nocaps(folder: Path, spec: Spec) -> Written:
    """Write captions without images, as most users have them."""
    images = [{"id": place, "file_name": f"{place:016x}.jpg", "domain": "near-domain"} for place in range(4)]
    annotations = [
        {"id": 10 * place + number, "image_id": place, "caption": f"{word} {place} on a table"}
        for place in range(4)
        for number, word in enumerate(THINGS)
    ]
    put(folder / spec.listing, json.dumps({"images": images, "annotations": annotations}))
    return {"val": 4}, 0


def _beir(folder: Path, spec: Spec) -> Written:
    for part, frame in {
        "corpus": {
            "_id": [f"d{place}" for place in range(6)],
            "text": [f"text {place} of it" for place in range(6)],
        },
        "queries": {"_id": ["q0", "q1"], "text": ["which text", "another question"]},
        "qrels": {"query-id": ["q0", "q0", "q1"], "corpus-id": ["d1", "d4", "d5"]},
    }.items():
        (folder / part).mkdir(parents=True)
        pd.DataFrame(frame).to_parquet(folder / part / "train-00000-of-00001.parquet")
    return {"queries": 2, "corpus": 6}, 0


def _documents(folder: Path, spec: Spec) -> Written:
    newsgroups = spec.images != "{}"
    classes = ("rec.autos", "sci.space") if newsgroups else ("neg", "pos")
    for split in ("train", "test"):
        for label in classes:
            for place in range(3):
                text = f"{label} words {place} {split}, <br />and more"
                name = f"{50000 + place}" if newsgroups else f"{place}_7.txt"
                header = f"From: somebody\nSubject: {place}\n\n" if newsgroups else ""
                put(folder / spec.images.format(split) / label / name, header + text)
    if not newsgroups:
        put(folder / "train" / "unsup" / "0_0.txt", "unlabelled")
        put(folder / "test" / "urls_pos.txt", "http://somewhere")
    return {"train": 6, "test": 6}, 2


WRITERS: dict[str, Callable[[Path, Spec], Written]] = {
    "coop": _coop, "aircraft": _aircraft, "imagenet": _imagenet, "cub": _cub, "sop": _sop,
    "revisited": _revisited, "karpathy": _karpathy, "nocaps": _nocaps, "beir": _beir, "documents": _documents,
}  # fmt: skip
