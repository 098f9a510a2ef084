"""Prompts that name classes."""

from __future__ import annotations

import re
from collections.abc import Iterable

from crossgap.datasets.tasks import Items

TEMPLATE = "a photo of a {}"


def class_words(label: str) -> str:
    """Turn the name of a class into words: no number with a dot before it (``001.``), no underscores."""
    words = re.sub(r"^\d+\.", "", label).replace("_", " ").strip()
    return words or label


def class_prompts(labels: Iterable[str]) -> Items:
    """Write one prompt a class, in sorted order of the classes."""
    classes = sorted(set(labels))
    return Items(
        modality="text",
        ids=tuple(f"class/{label}" for label in classes),
        contents=tuple(TEMPLATE.format(class_words(label)) for label in classes),
        labels=tuple(classes),
    )


def imagenet_prompts() -> Items:
    """Write one prompt for each class name of ImageNet that open_clip lists."""
    # open_clip takes seconds to import, and the embedded emoji do without
    from open_clip import IMAGENET_CLASSNAMES

    names = tuple(dict.fromkeys(IMAGENET_CLASSNAMES))
    return Items(
        modality="text",
        ids=tuple(f"imagenet/{name}" for name in names),
        contents=tuple(TEMPLATE.format(name) for name in names),
        labels=names,
    )
