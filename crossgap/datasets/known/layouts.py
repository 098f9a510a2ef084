"""The known datasets as tasks: which reader each layout has, and what is asked of what it reads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from crossgap.datasets.bad import BadSamples
from crossgap.datasets.build import (
    ClassTasks,
    TaskList,
    add_caption_tasks,
    begin,
    fit_data,
    make_dataset,
    pairs_of,
)
from crossgap.datasets.contents import Contents
from crossgap.datasets.known.class_lists import read_aircraft, read_coop, read_cub, read_imagenet, read_sop
from crossgap.datasets.known.corpora import read_beir, read_documents
from crossgap.datasets.known.entry import Entry, hash_entries, image_items, text_items, usable_entries
from crossgap.datasets.known.revisited import read_revisited
from crossgap.datasets.known.table import SPECS, Layout, Spec
from crossgap.datasets.readers.caption_files import read_karpathy, read_nocaps
from crossgap.datasets.readers.reading import Reading
from crossgap.datasets.split import choose_split
from crossgap.datasets.tasks import Dataset, Extra, Items
from crossgap.errors import InputError
from crossgap.vocabulary import WITHIN


def load_known(name: str, reading: Reading, *, root: Path | None) -> Dataset:
    """Load one split of a dataset of the table from the folder below ``root``.

    Raises:
        InputError: no root given, no such folder, or what its reader refuses.
    """
    spec = SPECS[name]
    return LAYOUTS[spec.layout].build(name, spec, read_contents(name, root=root), reading)


def read_contents(name: str, *, root: Path | None) -> Contents:
    """Read what a dataset of the table consists of; nothing is decoded.

    Raises:
        InputError: no root given, a folder or file that is missing, or not in the official layout.
    """
    spec = SPECS[name]
    if root is None:
        raise InputError(f"dataset {name!r} is not embedded: say with --data-root where {spec.folder}/ lies")
    missing = missing_files(spec, root)
    if missing:
        raise InputError(
            f"dataset {name!r}: {', '.join(str(path) for path in missing)} not found; see {spec.source}"
        )
    return LAYOUTS[spec.layout].read(spec, root / spec.folder)


def missing_files(spec: Spec, root: Path) -> list[Path]:
    """Return the folder if it is not there, else which of the files that must lie in it are not."""
    folder = root / spec.folder
    if not folder.is_dir():
        return [folder]
    return [folder / file for file in spec.files if not (folder / file).exists()]


def _build_classes(name: str, spec: Spec, contents: Contents, reading: Reading) -> Dataset:
    """Ask for the same class: in the training images of CoOp's splits, else within the split."""
    parts = contents.parts
    chosen = choose_split(f"dataset {name!r}", [] if "all" in parts else list(parts), reading.split)
    prompted = bool(spec.template)
    asked = ClassTasks(
        against_train=prompted,
        zero_shot=prompted,
        ensemble=prompted,
        template=spec.template or ClassTasks().template,
        names=contents.class_names,
        extras=("mAP@R+1",),
    )
    train = parts.get("train", []) if chosen != "train" else []
    return make_dataset(
        name, chosen, parts[chosen], reading, train=train, note=contents.note, class_tasks=asked
    )


def _build_judged(name: str, spec: Spec, contents: Contents, reading: Reading) -> Dataset:
    """Ask for what was judged relevant to each query, once for each setting."""
    chosen = choose_split(f"dataset {name!r}", [], reading.split)
    limit = reading.limit
    queries, gallery = contents.parts.values()
    none = BadSamples(limit=0)  # what was judged item by item is measured whole or not at all
    queries = usable_entries(f"{name}, queries", queries, none)
    gallery = usable_entries(f"{name}, gallery", gallery, none)
    kept = list(queries[:limit])
    kept_gallery = _judged_first(gallery, kept, contents, limit)
    answers = {
        setting: {entry.id: of_query[entry.id] for entry in kept}
        for setting, of_query in contents.answers.items()
    }
    digest = hashlib.sha256(
        (hash_entries(kept) + hash_entries(kept_gallery) + json.dumps(answers)).encode()
    ).hexdigest()
    tasks = TaskList(
        name, chosen, digest, (_judged_note(queries, kept, gallery, kept_gallery), contents.note)
    )
    as_items = image_items if kept[0].image is not None else text_items
    query, items = as_items(kept), as_items(kept_gallery)
    noun = query.modality
    of_images: tuple[Extra, ...] = ("mAP_trapezoidal", "mP@1", "mP@5", "mP@10")
    extras: tuple[Extra, ...] = of_images if noun == "image" else ("nDCG@10",)
    for setting, of_query in answers.items():
        tasks.add(
            f"{noun}-{setting}",
            WITHIN[noun],
            query,
            items,
            protocol=f"relevant is what was judged so, item by item ({setting})",
            answers=of_query,
            extras=extras,
        )
    return tasks.dataset(pairs=None, fit=fit_data([]))


def _judged_first(
    gallery: Sequence[Entry], queries: Sequence[Entry], contents: Contents, limit: int | None
) -> list[Entry]:
    """Keep the judged items of the queries, and others as they come until there are ``limit``."""
    if limit is None or limit >= len(gallery):
        return list(gallery)
    judged: set[str] = set()
    for of_query in contents.answers.values():
        for entry in queries:
            judged.update(name for part in of_query[entry.id] for name in part)
    room = max(0, limit - len(judged))
    others = {entry.id for entry in [entry for entry in gallery if entry.id not in judged][:room]}
    return [entry for entry in gallery if entry.id in judged or entry.id in others]


def _judged_note(
    queries: Sequence[Entry], kept: Sequence[Entry], gallery: Sequence[Entry], kept_gallery: Sequence[Entry]
) -> str:
    if len(kept) == len(queries) and len(kept_gallery) == len(gallery):
        return ""
    return (
        f"Limited to the first {len(kept)} of {len(queries)} queries, and to {len(kept_gallery)} of "
        f"{len(gallery)} items of the gallery, the judged ones among them."
    )


def _build_captions(name: str, spec: Spec, contents: Contents, reading: Reading) -> Dataset:
    """Ask, as the paper does, for the other captions of an image by its first one."""
    parts = contents.parts
    chosen = choose_split(f"dataset {name!r}", list(parts), reading.split)
    entries = parts[chosen]
    train = [entry for part in ("train", "restval") if chosen != part for entry in parts.get(part, [])]
    kept, kept_train, tasks = begin(name, chosen, entries, train, reading, note=contents.note)
    captions = [
        (f"{entry.id}/caption-{number}", caption, entry.id)
        for entry in kept
        for number, caption in enumerate(entry.captions)
    ]
    first = [row for row in captions if row[0].endswith("/caption-0")]
    tasks.add(
        "text-caption",
        "text-text",
        _caption_items(first),
        _caption_items([row for row in captions if not row[0].endswith("/caption-0")]),
        protocol="the first caption of each image queries all other captions; relevant is the same image, "
        "and captions that several images share are kept apart",
    )
    has_images = kept[0].image is not None
    if has_images:
        add_caption_tasks(tasks, kept)
    return tasks.dataset(pairs=pairs_of(kept) if has_images else None, fit=fit_data(kept_train))


def _caption_items(rows: Sequence[tuple[str, str, str]]) -> Items:
    ids, texts, labels = zip(*rows, strict=True)
    return Items(modality="text", ids=ids, contents=texts, labels=labels)


def _build_documents(name: str, spec: Spec, contents: Contents, reading: Reading) -> Dataset:
    """Ask for the documents of a class by its name."""
    chosen = choose_split(f"dataset {name!r}", list(contents.parts), reading.split)
    entries, train = contents.parts[chosen], contents.parts["train"] if chosen != "train" else []
    kept, kept_train, tasks = begin(name, chosen, entries, train, reading, note=contents.note)
    documents = text_items(kept)
    labels = sorted(set(documents.labels))
    query = Items(
        modality="text",
        ids=tuple(f"class/{label}" for label in labels),
        contents=tuple(contents.class_names.get(label, label) for label in labels),
        labels=tuple(labels),
    )
    tasks.add(
        "text-class",
        "text-text",
        query,
        documents,
        protocol="the names of classes query documents; relevant is the same class: a mean over few queries",
    )
    return tasks.dataset(pairs=None, fit=fit_data(kept_train))


class KnownLayout(NamedTuple):
    """How a layout is read, and how tasks are made of what it holds."""

    read: Callable[[Spec, Path], Contents]
    build: Callable[[str, Spec, Contents, Reading], Dataset]


LAYOUTS: dict[Layout, KnownLayout] = {
    "coop": KnownLayout(read_coop, _build_classes),
    "aircraft": KnownLayout(read_aircraft, _build_classes),
    "imagenet": KnownLayout(read_imagenet, _build_classes),
    "cub": KnownLayout(read_cub, _build_classes),
    "sop": KnownLayout(read_sop, _build_classes),
    "revisited": KnownLayout(read_revisited, _build_judged),
    "karpathy": KnownLayout(read_karpathy, _build_captions),
    "nocaps": KnownLayout(read_nocaps, _build_captions),
    "beir": KnownLayout(read_beir, _build_judged),
    "documents": KnownLayout(read_documents, _build_documents),
}
