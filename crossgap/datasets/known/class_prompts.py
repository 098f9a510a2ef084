"""Prompts that name classes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from crossgap.datasets.tasks import Items

TEMPLATE = "a photo of a {}"


def class_words(label: str) -> str:
    """Turn the name of a class into words: no underscores, and no numbering before a word (``001.dog``)."""
    words = re.sub(r"^\d+\.(?=[^\W\d]|_)", "", label).replace("_", " ").strip()
    return words or label


def class_prompts(
    labels: Iterable[str],
    templates: Sequence[str] = (TEMPLATE,),
    names: Mapping[str, str] = MappingProxyType({}),
) -> Items:
    """Write the prompt of each class, in sorted order of the classes; several templates are one ensemble.

    Args:
        labels: of the images.
        templates: with ``{}`` for the words of the class.
        names: label -> words, where the label itself is none.
    """
    classes = sorted(set(labels))
    words = [class_words(names.get(label, label)) for label in classes]
    wordings = [tuple(template.format(word) for template in templates) for word in words]
    return Items(
        modality="text",
        ids=tuple(f"{'class' if len(templates) == 1 else 'ensemble'}/{label}" for label in classes),
        contents=tuple(texts if len(texts) > 1 else texts[0] for texts in wordings),
        labels=tuple(classes),
    )


def ensemble_templates(template: str) -> tuple[str, ...]:
    """Return a template with the seven of CLIP's authors that open_clip lists, as CoOp ensembles them."""
    from open_clip import SIMPLE_IMAGENET_TEMPLATES  # takes seconds to import

    return (*(write("{}") for write in SIMPLE_IMAGENET_TEMPLATES), template)


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
