"""An entry: what folders, shards and CSV files hold of one thing, before tasks are made of it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from crossgap.datasets.bad import BadSamples
from crossgap.datasets.readers.stored import Picture
from crossgap.datasets.stratify import stratified
from crossgap.datasets.tasks import Items
from crossgap.errors import InputError
from crossgap.names import is_text, readable


@dataclass(frozen=True, kw_only=True)
class Entry:
    """An image with its captions, or a text that stands for itself (its only caption).

    ``label`` is its class and ``group`` the identity of the thing shown; "" where there is none. An ``id``
    that is no text (a file name in another encoding) shows the bytes at fault as ``\\xNN``.

    Raises:
        InputError: a label, group or caption that is no text: words are their author's to mend.
    """

    id: str
    image: Picture | None
    captions: tuple[str, ...]
    label: str
    group: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", readable(self.id))
        for part, texts in (("label", (self.label,)), ("group", (self.group,)), ("text", self.captions)):
            odd = next((text for text in texts if not is_text(text)), None)
            if odd is not None:
                raise InputError(
                    f"item {self.id!r}: its {part} {readable(odd)[:80]!r} is not UTF-8; rename or write it "
                    "in UTF-8 (classes are words in prompts)"
                )


def usable_entries(name: str, entries: Sequence[Entry], bad: BadSamples) -> list[Entry]:
    """Return entries with unique ids that all have the same parts; others are bad samples.

    Raises:
        InputError: no entry is left, or there are more bad ones than may be left out; names the dataset and
            the entry at fault.
    """
    seen: set[str] = set()
    usable = []
    for entry in entries:
        if entry.id in seen:
            what = f"dataset {name!r}: item {entry.id!r} occurs twice; ids must be unique"
            bad.add(name, InputError(what))
        else:
            usable.append(entry)
        seen.add(entry.id)
    for part in ("image", "captions", "label", "group"):
        lacking = [entry for entry in usable if not getattr(entry, part)]
        if len(lacking) == len(usable):
            continue
        for entry in lacking:
            what = (
                f"dataset {name!r}: item {entry.id!r} has no {part} but others have; give it to all or none"
            )
            bad.add(name, InputError(what))
        usable = [entry for entry in usable if getattr(entry, part)]
    if not usable:
        raise InputError(f"dataset {name!r}: it has no item")
    return usable


def without_bad_images(name: str, entries: Sequence[Entry], bad: BadSamples) -> list[Entry]:
    """Decode every image once and leave out what cannot be.

    Raises:
        InputError: no entry is left, or there are more bad ones than may be left out.
    """
    if not entries or entries[0].image is None:
        return list(entries)
    items = image_items(entries, [entry.id for entry in entries])
    usable = []
    for place, entry in enumerate(entries):
        try:
            items.image(place)
        except InputError as error:
            bad.add(name, error)
        else:
            usable.append(entry)
    if not usable:
        raise InputError(f"dataset {name!r}: no image of it can be decoded")
    return usable


def limited(entries: Sequence[Entry], limit: int | None) -> list[Entry]:
    """Keep ``limit`` entries: spread over the labels where there are labels, else the first ones."""
    if limit is None or limit >= len(entries):
        return list(entries)
    if not entries[0].label:
        return list(entries[:limit])
    return [entries[index] for index in stratified([entry.label for entry in entries], limit)]


def image_items(entries: Sequence[Entry], labels: Sequence[str] | None = None) -> Items:
    """Return the images, with the entries' labels unless others are given."""
    return Items(
        modality="image",
        ids=tuple(entry.id for entry in entries),
        contents=tuple(entry.image for entry in entries if entry.image is not None),
        labels=tuple(labels or (entry.label for entry in entries)),
        groups=_groups(entries),
    )


def text_items(entries: Sequence[Entry]) -> Items:
    """Return the entries' first captions as texts that stand for themselves."""
    return Items(
        modality="text",
        ids=tuple(entry.id for entry in entries),
        contents=tuple(entry.captions[0] for entry in entries),
        labels=tuple(entry.label for entry in entries),
        groups=_groups(entries),
    )


def hash_entries(entries: Sequence[Entry]) -> str:
    """Return the SHA-256 over ids, labels, groups, captions and the bytes of the images."""
    digest = hashlib.sha256()
    for entry in entries:
        texts = "\0".join((entry.id, entry.label, entry.group, *entry.captions))
        digest.update(hashlib.sha256(texts.encode()).digest())
    if entries and entries[0].image is not None:
        digest.update(image_items(entries, [entry.id for entry in entries]).content_hash.encode())
    return digest.hexdigest()


def _groups(entries: Sequence[Entry]) -> tuple[str, ...]:
    groups = tuple(entry.group for entry in entries)
    return groups if all(groups) else ()
