"""What an evaluation asks: items on two sides, how relevance is judged, what maps may be fitted on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

from PIL import Image

from crossgap.datasets.readers.image_formats import decode_image
from crossgap.datasets.readers.stored import Picture, StoredImage, digests, read_bytes
from crossgap.errors import InputError
from crossgap.vocabulary import PROBES, Kind, Modality

# What some tasks report beside the usual metrics: revisited Oxford's AP and precisions, BEIR's nDCG, and the
# mAP@R of the paper's released code, which runs to rank R + 1 where the query is in the gallery.
Extra = Literal["mAP_trapezoidal", "mP@1", "mP@5", "mP@10", "nDCG@10", "mAP@R+1"]
Content = Picture | str | tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Items:
    """One side of a task: N items of one modality.

    ``ids`` are unique. ``contents`` are encoded images, paths of image files or places in files for images,
    and texts for texts; a tuple of texts is one item in several wordings, whose features are averaged
    (an ensemble of prompts). They are () when nothing but their features is known. ``labels`` are the classes
    by which relevance is judged, ``groups`` the identities of the depicted things, () when unknown.

    Raises:
        InputError: nothing in it, lengths that differ, an id that occurs twice, an empty label, or contents
            of another modality.
    """

    modality: Modality
    ids: tuple[str, ...]
    contents: tuple[Content, ...]
    labels: tuple[str, ...]
    groups: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        count = len(self.ids)
        if not count:
            raise InputError(f"{self.modality} items: there is none")
        lengths = {len(self.contents) or count, len(self.labels), len(self.groups) or count}
        if lengths != {count}:
            raise InputError(
                f"{self.modality} items: {count} ids, {len(self.contents)} contents, "
                f"{len(self.labels)} labels, {len(self.groups)} groups; expected as many of each"
            )
        if len(set(self.ids)) < count:
            twice = next(name for position, name in enumerate(self.ids) if name in self.ids[:position])
            raise InputError(f"{self.modality} items: id {twice!r} occurs twice; ids must be unique")
        if not all(self.labels):
            raise InputError(f"{self.modality} item {self.ids[self.labels.index('')]!r}: its label is empty")
        expected = (str, tuple) if self.modality == "text" else (bytes, Path, StoredImage)
        for name, content in zip(self.ids, self.contents, strict=bool(self.contents)):
            if not isinstance(content, expected):
                raise InputError(f"{self.modality} item {name!r}: content is a {type(content).__name__}")

    def __len__(self) -> int:
        return len(self.ids)

    def image(self, index: int) -> Image.Image:
        """Decode the image at ``index`` to RGB, transparent pixels on white.

        Raises:
            InputError: the image cannot be read or decoded; names the item.
        """
        self._known("picture")
        content = self.contents[index]
        assert not isinstance(content, str | tuple), "a text has no image"
        if isinstance(content, bytes):
            return decode_image(content, where=self.ids[index])
        where = str(content if isinstance(content, Path) else content.path)
        if isinstance(content, StoredImage) and content.size is not None:
            where += f", {self.ids[index]}"
        image = decode_image(read_bytes(content), where=where)
        return image.crop(content.box) if isinstance(content, StoredImage) and content.box else image

    def texts(self) -> list[str]:
        """Return the contents of text items, of an item in several wordings the first.

        Raises:
            InputError: nothing but their features is known.
        """
        assert self.modality == "text", "images have no text"
        self._known("words")
        return [content[0] if isinstance(content, tuple) else str(content) for content in self.contents]

    def wordings(self) -> list[tuple[str, ...]]:
        """Return every wording of each text item.

        Raises:
            InputError: nothing but their features is known.
        """
        assert self.modality == "text", "images have no text"
        self._known("words")
        return [content if isinstance(content, tuple) else (str(content),) for content in self.contents]

    def _known(self, what: str) -> None:
        if not self.contents:
            raise InputError(
                f"{self.modality} items: the {what} of {self.ids[0]!r} and the others are not known, only "
                "their features; encode them where the data are"
            )

    def subset(self, indices: Sequence[int]) -> Items:
        """Return the items at ``indices``, in that order."""
        return replace(
            self,
            ids=tuple(self.ids[index] for index in indices),
            contents=tuple(self.contents[index] for index in indices) if self.contents else (),
            labels=tuple(self.labels[index] for index in indices),
            groups=tuple(self.groups[index] for index in indices) if self.groups else (),
        )

    def relabel(self, labels: Sequence[str]) -> Items:
        """Return the same items with other labels."""
        return replace(self, labels=tuple(labels))

    @cached_property
    def content_hash(self) -> str:
        """Return the SHA-256 over modality, ids and contents (a file's bytes) if known, not over labels."""
        digest = hashlib.sha256(self.modality.encode())
        for name in self.ids if not self.contents else ():
            digest.update(hashlib.sha256(name.encode()).digest())
        for name, content in zip(self.ids, self._digests(), strict=bool(self.contents)):
            digest.update(hashlib.sha256(name.encode()).digest())
            digest.update(content)
        return digest.hexdigest()

    def _digests(self) -> Iterator[bytes]:
        """Yield the SHA-256 of each content."""
        if self.modality == "image":
            yield from digests([content for content in self.contents if not isinstance(content, str | tuple)])
            return
        for content in self.contents:
            text = "\0".join(content) + "\0" if isinstance(content, tuple) else str(content)
            yield hashlib.sha256(text.encode()).digest()


class Answers(NamedTuple):
    """Ids of the gallery items that are right answers to a query, and of those that do not count for it."""

    relevant: tuple[str, ...]
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Task:
    """Find, for each query, the gallery items with its label, or those that ``answers`` lists for it.

    ``protocol`` says in a sentence or two who is query, who is gallery, what is relevant and what is ignored.
    With ``ignore_same_group`` the gallery items of the query's own group are neither relevant nor irrelevant;
    with ``drop_self`` the same holds of the item with the query's id. ``answers`` (query id -> answers) takes
    the place of labels where relevance was judged item by item. ``extras`` are metrics beside the usual ones.
    In a task of :data:`PROBES` the gallery is what a classifier is made of, of ``shots`` items a class if not
    None.
    """

    name: str
    kind: Kind
    dataset: str
    dataset_hash: str
    split: str
    protocol: str
    query: Items
    gallery: Items
    ignore_same_group: bool
    drop_self: bool
    answers: Mapping[str, Answers] | None = field(default=None, repr=False)
    extras: tuple[Extra, ...] = ()
    shots: int | None = None

    @property
    def headline(self) -> str:
        """The metric that stands for the task: of revisited Oxford and Paris their own AP."""
        if self.kind in ("zero-shot", *PROBES):
            return "hit@1"
        return "mAP_trapezoidal" if "mAP_trapezoidal" in self.extras else "mAP"


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Aligned images and texts, one text an image, for metrics of the modality gap.

    ``note`` says which they are, where they are not all of the split.
    """

    image: Items
    text: Items
    note: str = ""

    def __post_init__(self) -> None:
        if len(self.image) != len(self.text):
            raise InputError(f"pairs: {len(self.image)} images but {len(self.text)} texts")


@dataclass(frozen=True, kw_only=True)
class FitData:
    """What training-free maps may be fitted on; never an item of the split that is measured.

    ``pairs`` are images and texts that belong together, where the split has any. ``prompts_of`` names where
    the class prompts come from: the split, unless they are of other classes.
    """

    split: str
    images: Items | None
    texts: Items | None
    class_prompts: Items | None
    pairs: Pairs | None = None
    prompts_of: str = ""


class Factor(NamedTuple):
    """One of the things that images of a made world vary in, known for each of them.

    ``values`` are of the images of a dataset's pairs, ``fitted`` of the images that maps are fitted on (()
    where there are none), in their order. ``named`` says whether captions may name it.
    """

    values: tuple[str, ...]
    fitted: tuple[str, ...]
    named: bool


@dataclass(frozen=True, kw_only=True)
class ProbeData:
    """Images of a split with their classes, and those of the training split that classifiers are made of.

    ``note``: sentences that end each protocol.
    """

    query: Items
    support: Items
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """One split of a dataset as tasks; ``hash`` identifies its contents.

    ``notices`` are what a user should see before its numbers: what was left out, and what looks wrong.
    ``probe`` is None where there is no training split with classes;
    :func:`crossgap.datasets.probes.probe_tasks` makes tasks of it. ``factors`` are what the images
    vary in, where that is known in full.

    Raises:
        InputError: a factor with another number of values than there are images.
    """

    name: str
    hash: str
    split: str
    tasks: tuple[Task, ...]
    pairs: Pairs | None
    fit: FitData | None
    default_template: str
    probe: ProbeData | None = None
    notices: tuple[str, ...] = ()
    factors: Mapping[str, Factor] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        paired = len(self.pairs.image) if self.pairs is not None else 0
        fitted = len(self.fit.images) if self.fit is not None and self.fit.images is not None else 0
        for name, factor in self.factors.items():
            if (len(factor.values), len(factor.fitted)) != (paired, fitted):
                raise InputError(
                    f"dataset {self.name!r}: factor {name} has {len(factor.values)} and {len(factor.fitted)} "
                    f"values; expected one of each of {paired} paired and {fitted} fitted images"
                )
