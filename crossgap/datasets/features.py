"""Features that were made elsewhere, by any model, as something that evaluation measures.

One or several files hold one dataset: images, texts and class prompts, found by modality and id. Formats are
in docs/embeddings.md. Nothing in them is executed.
"""

from __future__ import annotations

from dataclasses import replace

from crossgap.datasets.build import TaskList
from crossgap.datasets.readers.feature_files import FeatureTable, Side, item_id
from crossgap.datasets.split import choose_split
from crossgap.datasets.stratify import stratified
from crossgap.datasets.tasks import Dataset, FitData, Items, Pairs, ProbeData
from crossgap.errors import InputError


def feature_dataset(table: FeatureTable, *, split: str = "test", limit: int | None = None) -> Dataset:
    """Make the tasks that labels, groups and splits of the features allow.

    With labels: ``image-class`` and ``text-class``, within the split or against split train where there is
    one, and classification by its images; with prompts ``zero-shot-class``. With groups of images and texts:
    ``image-text``, ``text-image``, and the pairs whose gap is measured; where every group has two texts,
    ``text-caption``. ``limit`` keeps that many items of each side, spread over the labels. Maps are fitted on
    split train alone.

    Raises:
        InputError: a split that the features do not have, or an image whose class has no prompt.
    """
    splits = list(dict.fromkeys(name for side in table.sides.values() for name in side.column("split")))
    chosen = choose_split(f"features {table.name}", splits, split)
    images, texts = (_items(table, side, chosen, limit) for side in ("image", "text"))
    train_images, train_texts = (
        _items(table, side, "train", limit, stated=True) if chosen != "train" else None
        for side in ("image", "text")
    )
    prompts = _items(table, "prompt", chosen, None) or _items(table, "prompt", "", None)
    tasks = TaskList(table.name, chosen, table.fingerprint, [f"Features of {table.name}."])
    for items, train in ((images, train_images), (texts, train_texts)):
        if items is not None and "label" in _given(table, items):
            _class_task(tasks, items, train)
    if images is not None and prompts is not None:
        _zero_shot(tasks, images, prompts)
    if images is not None and texts is not None and images.groups and texts.groups:
        _across(tasks, images.relabel(images.groups), texts.relabel(texts.groups))
    if texts is not None and texts.groups:
        _captions(tasks, texts.relabel(texts.groups))
    return tasks.dataset(
        pairs=_pairs(images, texts),
        fit=_fit(table, train_images, train_texts),
        probe=_probe(table, tasks, images, train_images),
    )


def _class_task(tasks: TaskList, items: Items, train: Items | None) -> None:
    if items.groups == items.labels:  # the class is the thing itself: nothing of it is ignored
        items, train = replace(items, groups=()), train and replace(train, groups=())
    tasks.add_classes(items, train)


def _probe(
    table: FeatureTable, tasks: TaskList, images: Items | None, train: Items | None
) -> ProbeData | None:
    if images is None or train is None or "label" not in _given(table, images):
        return None
    if images.groups == images.labels:  # the class is the thing itself
        images, train = replace(images, groups=()), replace(train, groups=())
    return tasks.probe(images, train)


def _zero_shot(tasks: TaskList, images: Items, prompts: Items) -> None:
    classes = set(prompts.labels)
    lacking = next((k for k, label in enumerate(images.labels) if label not in classes), None)
    if lacking is not None:
        raise InputError(
            f"image {images.ids[lacking]!r} is of class {images.labels[lacking]!r}, which has no prompt; its "
            f"label must be that of one of the {len(classes)} prompted classes"
        )
    protocol = "images against the prompts of all classes; relevant is the own class"
    tasks.add("zero-shot-class", "zero-shot", images, prompts, protocol=protocol)


def _across(tasks: TaskList, images: Items, texts: Items) -> None:
    same = "relevant is what belongs to the same group"
    tasks.add("image-text", "image-text", images, texts, protocol=f"images query texts; {same}")
    tasks.add("text-image", "text-image", texts, images, protocol=f"texts query images; {same}")


def _captions(tasks: TaskList, texts: Items) -> None:
    first = set(_firsts(texts).values())
    rest = [row for row in range(len(texts)) if row not in first]
    if len({texts.labels[row] for row in rest}) < len(first):  # a group of one text has nothing to find
        return
    tasks.add(
        "text-caption",
        "text-text",
        texts.subset(sorted(first)),
        texts.subset(rest),
        protocol="the first text of each group queries the others; relevant is the same group",
    )


def _pairs(images: Items | None, texts: Items | None) -> Pairs | None:
    """Pair the first image of each group with its first text."""
    if images is None or texts is None or not images.groups or not texts.groups:
        return None
    image_of, text_of = (_firsts(items.relabel(items.groups)) for items in (images, texts))
    both = [group for group in image_of if group in text_of]
    if not both:
        return None
    return Pairs(
        image=images.subset([image_of[group] for group in both]),
        text=texts.subset([text_of[group] for group in both]),
    )


def _fit(table: FeatureTable, images: Items | None, texts: Items | None) -> FitData | None:
    prompts = _items(table, "prompt", "train", None, stated=True)
    if images is None and texts is None and prompts is None:
        return None
    return FitData(
        split="train", images=images, texts=texts, class_prompts=prompts, pairs=_pairs(images, texts)
    )


def _firsts(items: Items) -> dict[str, int]:
    """Return the first row of each label."""
    return {label: row for row, label in reversed(list(enumerate(items.labels)))}


def _items(
    table: FeatureTable, side: Side, split: str, limit: int | None, *, stated: bool = False
) -> Items | None:
    """Return the items of a side in a split; rows without a split are in it unless it must be ``stated``."""
    rows = table.sides.get(side)
    if rows is None:
        return None
    names, splits = rows.column("id"), rows.column("split")
    kept = [row for row in range(len(names)) if (splits[row] == split if splits else not stated)]
    if not kept:
        return None
    labels = rows.column("label") or rows.column("group") or names
    groups, texts = rows.column("group"), rows.column("text")
    items = Items(
        modality="image" if side == "image" else "text",
        ids=tuple(item_id(side, names[row]) for row in kept),
        contents=tuple(texts[row] for row in kept) if texts and side != "image" else (),
        labels=tuple(labels[row] for row in kept),
        groups=tuple(groups[row] for row in kept) if groups else (),
    )
    return items if limit is None or limit >= len(items) else items.subset(stratified(items.labels, limit))


def _given(table: FeatureTable, items: Items) -> dict[str, list[str]]:
    return table.sides["image" if items.modality == "image" else "text"].about


# reading
