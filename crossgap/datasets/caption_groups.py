"""Images linked by equal captions: one text cannot be right for one image and wrong for another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from crossgap.datasets.known.entry import Entry, image_items
from crossgap.datasets.tasks import Items


class CaptionGroups(NamedTuple):
    """Images and distinct captions, both labelled by group, and how many captions several images share."""

    images: Items
    captions: Items
    shared: int


def group_by_caption(entries: Sequence[Entry]) -> CaptionGroups:
    """Label images and captions by group: images that share a caption are in one, and so on along the chain.

    Captions that differ only in case and white space are equal, as they are for CLIP's tokenizer. Each
    distinct caption is one item, called after the first image that has it.
    """
    parent = list(range(len(entries)))

    def root(index: int) -> int:
        while parent[index] != index:
            index = parent[index]
        return index

    captions: dict[str, tuple[str, str, int]] = {}
    shared: set[str] = set()
    for index, entry in enumerate(entries):
        for number, caption in enumerate(entry.captions):
            key = same_text(caption)
            *_, first = captions.setdefault(key, (f"{entry.id}/caption-{number}", caption, index))
            if first != index:
                shared.add(key)
                low, high = sorted((root(first), root(index)))
                parent[high] = low
    groups = [entries[root(index)].id for index in range(len(entries))]
    names, texts, firsts = zip(*captions.values(), strict=True)
    return CaptionGroups(
        images=image_items(entries, groups),
        captions=Items(
            modality="text", ids=names, contents=texts, labels=tuple(groups[index] for index in firsts)
        ),
        shared=len(shared),
    )


def first_and_others(entries: Sequence[Entry], captions: Items) -> tuple[Items, Items] | None:
    """Divide distinct captions into those that come first for some image and the rest.

    Returns None unless every image has two captions and some are left for the rest.
    """
    leading = {same_text(entry.captions[0]) for entry in entries}
    leads = [same_text(text) in leading for text in captions.texts()]
    if all(leads) or any(len(entry.captions) < 2 for entry in entries):
        return None
    first = captions.subset([index for index, lead in enumerate(leads) if lead])
    return first, captions.subset([index for index, lead in enumerate(leads) if not lead])


def same_text(caption: str) -> str:
    """Return what is compared of a caption."""
    return " ".join(caption.lower().split())
