"""Make the tasks that labels and captions allow out of entries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from crossgap.datasets.caption_groups import first_and_others, group_by_caption, same_text
from crossgap.datasets.known.class_prompts import (
    TEMPLATE,
    class_prompts,
    class_words,
    ensemble_templates,
    imagenet_prompts,
)
from crossgap.datasets.known.entry import (
    Entry,
    hash_entries,
    image_items,
    limited,
    text_items,
    usable_entries,
    without_bad_images,
)
from crossgap.datasets.readers.reading import Reading
from crossgap.datasets.tasks import Answers, Dataset, Extra, FitData, Items, Pairs, ProbeData, Task
from crossgap.names import readable
from crossgap.vocabulary import WITHIN, Kind

INVERSION_TEMPLATE = "a photo of {}"
MAX_PAIRS = 5000  # image-text pairs of the gap: the number that most papers use; its metrics depend on it


@dataclass(frozen=True, kw_only=True)
class ClassTasks:
    """What is asked of labelled items.

    ``against_train`` makes split train the gallery where there is one; ``template`` and ``names`` (label ->
    words) word the prompts of classes, which are asked for with ``zero_shot``, and by several templates too
    with ``ensemble``; ``extras`` are metrics of retrieval within the split.
    """

    against_train: bool = True
    zero_shot: bool = True
    ensemble: bool = False
    template: str = TEMPLATE
    names: Mapping[str, str] = field(default_factory=dict)
    extras: tuple[Extra, ...] = ()


class TaskList:
    """Collect tasks that share dataset, split and the end of the protocol (``notes``, sentences)."""

    def __init__(
        self, name: str, split: str, digest: str, notes: Sequence[str], notices: Sequence[str] = ()
    ) -> None:
        self._name, self._split, self._digest = readable(name), split, digest
        self._notices = [*notices]
        self._tail = "".join(f" {note}" for note in (*notes, *notices) if note)
        self._made: list[Task] = []

    def add(
        self,
        name: str,
        kind: Kind,
        query: Items,
        gallery: Items,
        *,
        protocol: str,
        drop_self: bool = False,
        answers: Mapping[str, Answers] | None = None,
        extras: tuple[Extra, ...] = (),
        notice: str = "",
    ) -> None:
        """Add a task; a ``notice`` ends its protocol, and is one of the dataset."""
        if notice and notice not in self._notices:
            self._notices.append(notice)
        own_group = kind == "image-image" and bool(query.groups) and bool(gallery.groups)
        judged = any(answer.ignored for answer in (answers or {}).values())
        counts = f"{len(query)} queries, {len(gallery)} in the gallery"
        self._made.append(
            Task(
                name=name,
                kind=kind,
                protocol=f"{counts}: {protocol}; {_ignored(drop_self, own_group, judged)}."
                f"{self._tail}{' ' * bool(notice)}{notice}",
                query=query,
                gallery=gallery,
                ignore_same_group=own_group,
                drop_self=drop_self,
                answers=answers,
                extras=extras,
                dataset=self._name,
                dataset_hash=self._digest,
                split=self._split,
            )
        )

    def add_classes(self, items: Items, train: Items | None, extras: tuple[Extra, ...] = ()) -> None:
        """Add retrieval by class, from split train where there is one, else within the split."""
        noun = items.modality
        where = f"the {noun}s of split train" if train else f"all {noun}s of the split"
        self.add(
            f"{noun}-class",
            WITHIN[noun],
            items,
            train or items,
            protocol=f"each {noun} queries {where}; relevant is the same class",
            drop_self=not train,
            extras=() if train else extras,
        )

    def probe(self, query: Items, support: Items) -> ProbeData:
        """Put labelled images of the split beside those of split train, with the notes of the tasks."""
        return ProbeData(query=query, support=support, note=self._tail.strip())

    def dataset(self, *, pairs: Pairs | None, fit: FitData | None, probe: ProbeData | None = None) -> Dataset:
        """Return the dataset of the tasks so far."""
        return Dataset(
            name=self._name,
            hash=self._digest,
            split=self._split,
            tasks=tuple(self._made),
            pairs=pairs,
            fit=fit,
            default_template=INVERSION_TEMPLATE,
            probe=probe,
            notices=tuple(self._notices),
        )


class Begun(NamedTuple):
    """Entries that a limit left, of the split and of split train, and a list for tasks about them."""

    kept: list[Entry]
    train: list[Entry]
    tasks: TaskList


def begin(
    name: str,
    split: str,
    entries: Sequence[Entry],
    train: Sequence[Entry],
    reading: Reading,
    *,
    note: str = "",
    left_out: Sequence[str] = (),
) -> Begun:
    """Check and limit the entries of a split and of split train, and open a list for their tasks.

    Where bad samples may be left out, every image is decoded once to know which are. ``left_out`` are
    sentences about what a reader passed over; with those about bad samples they end every protocol.

    Raises:
        InputError: no entry; more bad samples than may be left out, among them an id that occurs twice and
            an entry without a part that others have.
    """
    bad, limit = reading.bad, reading.limit
    entries = usable_entries(name, entries, bad)
    train = usable_entries(f"{name}, split train", train, bad) if train else []
    kept, kept_train = limited(entries, limit), limited(train, limit)
    notes = (_limits(entries, kept, train, kept_train), note)
    if bad.limit:
        kept, kept_train = without_bad_images(name, kept, bad), without_bad_images(name, kept_train, bad)
    digest = hash_entries([*kept, *kept_train])
    return Begun(kept, kept_train, TaskList(name, split, digest, notes, [*left_out, *bad.summary()]))


def make_dataset(
    name: str,
    split: str,
    entries: Sequence[Entry],
    reading: Reading,
    *,
    train: Sequence[Entry] = (),
    note: str = "",
    left_out: Sequence[str] = (),
    class_tasks: ClassTasks = ClassTasks(),
) -> Dataset:
    """Make a dataset of the entries of one split.

    With labels: ``image-class`` (``text-class`` for texts) within the split, or against the ``train``
    entries when there are any, ``zero-shot-class``, and with ``train`` entries classification by labelled
    images (:func:`crossgap.datasets.probes.probe_tasks`). With captions: ``image-text``, ``text-image`` and,
    where every image has two captions, ``text-caption``. A limit keeps that many entries of each side,
    spread over the labels. ``note`` and ``left_out`` end every protocol. ``class_tasks`` says what labels ask
    for.

    Raises:
        InputError: as :func:`begin`.
    """
    kept, kept_train, tasks = begin(name, split, entries, train, reading, note=note, left_out=left_out)
    has_images, has_captions = kept[0].image is not None, bool(kept[0].captions)
    if kept[0].label:
        _add_class_tasks(tasks, kept, kept_train if class_tasks.against_train else (), class_tasks)
    if has_images and has_captions:
        add_caption_tasks(tasks, kept)
        _add_distinct_captions(tasks, kept)
    paired = has_images and (has_captions or bool(kept[0].label))
    labelled = has_images and bool(kept[0].label) and bool(kept_train) and bool(kept_train[0].label)
    return tasks.dataset(
        pairs=pairs_of(kept, class_tasks) if paired else None,
        fit=fit_data(kept_train),
        probe=tasks.probe(image_items(kept), image_items(kept_train)) if labelled else None,
    )


def _add_class_tasks(
    tasks: TaskList, kept: Sequence[Entry], train: Sequence[Entry], asked: ClassTasks
) -> None:
    as_items = image_items if kept[0].image is not None else text_items
    things = as_items(kept)
    tasks.add_classes(things, as_items(train) if train else None, asked.extras)
    if things.modality == "image" and asked.zero_shot:
        prompts = class_prompts(things.labels, (asked.template,), asked.names)
        tasks.add(
            "zero-shot-class",
            "zero-shot",
            things,
            prompts,
            notice=_alike(prompts),
            protocol=f'images against one prompt a class ("{asked.template}"); relevant is the own class',
        )
    if things.modality == "image" and asked.ensemble:
        templates = ensemble_templates(asked.template)
        tasks.add(
            "zero-shot-ensemble",
            "zero-shot",
            things,
            class_prompts(things.labels, templates, asked.names),
            protocol=f"images against the mean of {len(templates)} prompts a class; relevant is the own "
            "class",
        )


def _alike(prompts: Items) -> str:
    """Name classes whose prompts are equal, so that none can be told from the other."""
    by_prompt: dict[str, list[str]] = {}
    for label, prompt in zip(prompts.labels, prompts.texts(), strict=True):
        by_prompt.setdefault(same_text(prompt), []).append(label)
    alike = [labels for labels in by_prompt.values() if len(labels) > 1]
    if not alike:
        return ""
    shown = "; ".join(" and ".join(map(repr, labels[:4])) for labels in alike[:3])
    return (
        f"{len(alike)} prompt{'s stand' if len(alike) > 1 else ' stands'} for several classes, which "
        f"zero-shot cannot tell apart: {shown}{'; ...' if len(alike) > 3 else ''}."
    )


def add_caption_tasks(tasks: TaskList, kept: Sequence[Entry]) -> None:
    """Add retrieval of captions by images and of images by captions."""
    images, captions, same = _grouped(kept)
    tasks.add(
        "image-text", "image-text", images, captions, protocol=f"images query distinct captions; {same}"
    )
    tasks.add(
        "text-image", "text-image", captions, images, protocol=f"distinct captions query images; {same}"
    )


def _add_distinct_captions(tasks: TaskList, kept: Sequence[Entry]) -> None:
    _, captions, same = _grouped(kept)
    divided = first_and_others(kept, captions)
    if divided is not None:
        tasks.add(
            "text-caption",
            "text-text",
            *divided,
            protocol=f"the first caption of each image queries the other captions; {same}",
        )


def _grouped(kept: Sequence[Entry]) -> tuple[Items, Items, str]:
    images, captions, shared = group_by_caption(kept)
    same = "relevant is what belongs to the same image"
    if shared:
        same += f", where images that share a caption count as one ({shared} captions are shared)"
    return images, captions, same


def _ignored(drop_self: bool, own_group: bool, judged: bool) -> str:
    parts = ["the query itself"] * drop_self + ["items of the query's own group"] * own_group
    parts += ["items judged to be junk or of another difficulty"] * judged
    return f"{' and '.join(parts) or 'nothing'} {'are' if own_group or judged else 'is'} ignored"


def _limits(
    entries: Sequence[Entry], kept: Sequence[Entry], train: Sequence[Entry], kept_train: Sequence[Entry]
) -> str:
    how = "two a class in turn" if entries[0].label else "the first"
    parts = []
    if len(kept) < len(entries):
        parts.append(f"Limited to {len(kept)} of {len(entries)} items, {how}.")
    if len(kept_train) < len(train):
        parts.append(f"Split train limited to {len(kept_train)} of {len(train)} items, {how}.")
    return " ".join(parts)


def pairs_of(kept: Sequence[Entry], asked: ClassTasks = ClassTasks()) -> Pairs:
    """Pair each image with its first caption, or the prompt of its class; at most :data:`MAX_PAIRS`."""
    count = len(kept)
    if count > MAX_PAIRS:
        kept = [kept[place * count // MAX_PAIRS] for place in range(MAX_PAIRS)]
    return Pairs(
        image=image_items(kept, [entry.label or entry.id for entry in kept]),
        text=_first_texts(kept, asked),
        note=f", evenly spread over {count}" if count > MAX_PAIRS else "",
    )


def _first_texts(entries: Sequence[Entry], asked: ClassTasks) -> Items:
    """Return one text an entry: its first caption, or the prompt of its class."""
    return Items(
        modality="text",
        ids=tuple(f"{entry.id}/text" for entry in entries),
        contents=tuple(
            entry.captions[0]
            if entry.captions
            else asked.template.format(class_words(asked.names.get(entry.label, entry.label)))
            for entry in entries
        ),
        labels=tuple(entry.label or entry.id for entry in entries),
    )


_PROMPTS_OF = "ImageNet's classes"


def fit_data(train: Sequence[Entry]) -> FitData:
    """Give the training entries, and prompts of classes that no tested item chose."""
    prompts = imagenet_prompts()
    if not train:
        return FitData(split="none", images=None, texts=None, class_prompts=prompts, prompts_of=_PROMPTS_OF)
    has_images, has_captions = train[0].image is not None, bool(train[0].captions)
    labels = [entry.label or entry.id for entry in train]
    return FitData(
        split="train",
        images=image_items(train, labels) if has_images else None,
        texts=_first_texts(train, ClassTasks()) if has_captions else None,
        class_prompts=prompts,
        prompts_of=_PROMPTS_OF,
        pairs=pairs_of(train) if has_images and has_captions else None,
    )
