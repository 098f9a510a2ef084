"""The world of scenes as a dataset: one split as retrieval by each factor, by truth, and zero-shot."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from PIL import Image

from crossgap.datasets.build import MAX_PAIRS
from crossgap.datasets.scenes.captions import (
    Said,
    SceneCaptions,
    caption_scenes,
    phrases_of,
    true_of,
    with_article,
)
from crossgap.datasets.scenes.objects import object_names
from crossgap.datasets.scenes.options import SceneOptions, split_size
from crossgap.datasets.scenes.render import render
from crossgap.datasets.scenes.world import COLOURS, FACTORS, PLACES, Scenes, draw_scenes, factor_values
from crossgap.datasets.stratify import stratified
from crossgap.datasets.tasks import Answers, Dataset, Factor, FitData, Items, Pairs, ProbeData, Task
from crossgap.vocabulary import Kind

TEMPLATE = "a {}"
NOTHING = "nothing"  # the value of the factor "second" where a scene has no second thing
_BLOCK = 512  # captions whose truth is looked up at once


class _Shown(NamedTuple):
    """Scenes of one split with what is seen of them and said about them."""

    scenes: Scenes
    images: Items
    captions: tuple[SceneCaptions, SceneCaptions]
    values: Mapping[str, Sequence[str]]
    digest: str


def load_scenes(name: str, *, split: str = "test", limit: int | None = None) -> Dataset:
    """Load one split of a world of scenes; ``limit`` keeps that many scenes, spread over the objects.

    Captions of measured scenes are true: ``caption_noise`` concerns training alone. What maps are fitted on
    is split fit, under the same limit. The hash is the SHA-256 over the options, the split, and the pixels
    and captions of both.

    Raises:
        InputError: an unknown option or split, or a value out of range.
    """
    options = replace(SceneOptions.parse(name), caption_noise=0.0)
    shown = _shown(options, split, limit)
    fitted = _shown(options, "fit", limit) if split != "fit" else None
    full_name = SceneOptions.parse(name).name
    parts = [full_name, split, shown.digest, *([fitted.digest] if fitted is not None else [])]
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    count = split_size(options, split)
    note = "Captions are true; labels are those of the scene's first thing."
    if len(shown.images) < count:
        note += f" Limited to {len(shown.images)} of {count} scenes, two an object in turn."
    tasks = _Tasks(full_name, split, digest, note)
    _add_image_tasks(tasks, shown)
    _add_text_tasks(tasks, shown)
    _add_cross_modal(tasks, shown)
    _add_zero_shot(tasks, shown, options)
    kept = _spread(len(shown.images))
    return Dataset(
        name=full_name,
        hash=digest,
        split=split,
        tasks=tuple(tasks.made),
        pairs=_pairs(shown, kept),
        fit=_fit(fitted, options) if fitted is not None else None,
        probe=ProbeData(query=shown.images, support=fitted.images) if fitted is not None else None,
        default_template=TEMPLATE,
        factors=_factors(shown, kept, fitted),
    )


class _Tasks:
    """Collect tasks that share dataset, split and the end of their protocol."""

    def __init__(self, name: str, split: str, digest: str, note: str) -> None:
        self._name, self._split, self._digest, self._note = name, split, digest, note
        self.made: list[Task] = []

    def add(
        self,
        name: str,
        kind: Kind,
        query: Items,
        gallery: Items,
        protocol: str,
        *,
        drop_self: bool = False,
        same_scene: bool = False,
        answers: Mapping[str, Answers] | None = None,
    ) -> None:
        self.made.append(
            Task(
                name=name,
                kind=kind,
                dataset=self._name,
                dataset_hash=self._digest,
                split=self._split,
                protocol=f"{len(query)} queries, {len(gallery)} in the gallery: {protocol} {self._note}",
                query=query,
                gallery=gallery,
                ignore_same_group=same_scene,
                drop_self=drop_self,
                answers=answers,
            )
        )


def _add_image_tasks(tasks: _Tasks, shown: _Shown) -> None:
    images = shown.images
    everyone = "each scene queries all scenes of the split"
    for factor, what in (("object", "object"), ("colour", "colour of the ground"), ("place", "place")):
        also = (
            " A second thing does not count: a scene that shows the query's object second is wrong."
            if factor == "object"
            else ""
        )
        tasks.add(
            f"image-{factor}",
            "image-image",
            images.relabel(shown.values[factor]),
            images.relabel(shown.values[factor]),
            f"{everyone}; relevant is the same {what}; the query itself is ignored.{also}",
            drop_self=True,
        )
    tasks.add(
        "image-object-unlike",
        "image-image",
        images,
        images,
        f"{everyone}; relevant is the same object on a ground of another colour, in another size and at "
        "another place; the query itself and scenes of the same object that share its colour, size or place "
        "are ignored, and nothing else: scenes of other objects are wrong whatever they share with it.",
        answers=_unlike(shown.scenes, images.ids),
    )


def _unlike(scenes: Scenes, ids: Sequence[str]) -> dict[str, Answers]:
    """List for each scene those of its object that share neither colour, size nor place, and the others."""
    first = scenes.first
    others_N3 = np.stack([scenes.colour_N, first.size_N, first.place_N], axis=1)
    answers = {}
    for thing in np.unique(first.object_N):
        members = np.flatnonzero(first.object_N == thing)
        for member in members.tolist():
            unlike = (others_N3[members] != others_N3[member]).all(axis=1)
            answers[ids[member]] = Answers(_named(ids, members[unlike]), _named(ids, members[~unlike]))
    return {name: answers[name] for name in ids}


def _add_text_tasks(tasks: _Tasks, shown: _Shown) -> None:
    asked, answered = shown.captions
    for factor, values in (("object", object_names()), ("colour", tuple(COLOURS)), ("place", PLACES)):
        sides = [
            _captions(shown, captions, number, factor, values)
            for number, captions in enumerate((asked, answered))
        ]
        query, gallery = sides
        if query is None or gallery is None:
            continue
        which = "" if factor == "object" else f" among captions that state the {factor}"
        tasks.add(
            f"text-{factor}",
            "text-text",
            query,
            gallery,
            f"the first caption of each scene queries the second captions{which}; relevant is what states "
            f"the same {factor}; the caption of the query's own scene is ignored.",
            same_scene=True,
        )


def _captions(
    shown: _Shown, captions: SceneCaptions, number: int, factor: str, values: Sequence[str]
) -> Items | None:
    """Return the captions that state a factor, labelled by it; None where none does."""
    said_N = getattr(captions.said, f"{factor}_N")
    kept = np.flatnonzero(said_N >= 0).tolist()
    if not kept:
        return None
    return Items(
        modality="text",
        ids=tuple(f"{shown.images.ids[index]}/{number}" for index in kept),
        contents=tuple(captions.words[index] for index in kept),
        labels=_named(values, said_N[kept]),
        groups=_named(shown.images.ids, kept),
    )


def _add_cross_modal(tasks: _Tasks, shown: _Shown) -> None:
    first = shown.captions[0]
    places = {words: place for place, words in reversed(list(enumerate(first.words)))}
    distinct = sorted(places.values())
    said = Said(*(column[distinct] for column in first.said))
    captions = Items(
        modality="text",
        ids=tuple(f"{shown.images.ids[place]}/0" for place in distinct),
        contents=tuple(first.words[place] for place in distinct),
        labels=_named(object_names(), said.object_N),
    )
    true_of_captions, told_of_scenes = _truth(said, shown.scenes)
    truth = "with either of a scene's two things as what it names first; nothing is ignored."
    tasks.add(
        "image-text",
        "image-text",
        shown.images,
        captions,
        "scenes query the distinct first captions; relevant is every caption that is true of the scene, "
        f"{truth}",
        answers={
            name: Answers(_named(captions.ids, told))
            for name, told in zip(shown.images.ids, told_of_scenes, strict=True)
        },
    )
    tasks.add(
        "text-image",
        "text-image",
        captions,
        shown.images,
        "distinct first captions query the scenes; relevant is every scene of which the caption is true, "
        f"{truth}",
        answers={
            name: Answers(_named(shown.images.ids, true))
            for name, true in zip(captions.ids, true_of_captions, strict=True)
        },
    )


def _truth(said: Said, scenes: Scenes) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """List for each caption the scenes that it is true of, and for each scene the captions."""
    captions, places = map(np.concatenate, zip(*_true_pairs(said, scenes), strict=True))
    by_scene = np.argsort(places, kind="stable")
    return (
        np.split(places, np.searchsorted(captions, np.arange(1, len(said)))),
        np.split(captions[by_scene], np.searchsorted(places[by_scene], np.arange(1, len(scenes)))),
    )


def _true_pairs(said: Said, scenes: Scenes) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for start in range(0, len(said), _BLOCK):
        block = Said(*(column[start : start + _BLOCK] for column in said))
        captions, places = np.nonzero(true_of(block, scenes))
        yield captions + start, places


def _add_zero_shot(tasks: _Tasks, shown: _Shown, options: SceneOptions) -> None:
    things = sorted(set(shown.scenes.first.object_N.tolist()))
    tasks.add(
        "zero-shot-object",
        "zero-shot",
        shown.images,
        _object_prompts(things),
        'scenes query one prompt an object that the split shows ("a turtle", "an octopus"); relevant is the '
        "object; nothing is ignored.",
    )
    for factor in ("colour", "place"):
        if not options.mentions(factor):
            continue
        values = shown.values[factor]
        phrases = {value: said for value, said in phrases_of(factor).items() if value in values}
        example = next(iter(phrases.values()))
        tasks.add(
            f"zero-shot-{factor}",
            "zero-shot",
            shown.images.relabel(values),
            Items(
                modality="text",
                ids=tuple(f"{factor}/{value}" for value in phrases),
                contents=tuple(phrases.values()),
                labels=tuple(phrases),
            ),
            f"scenes query the {factor}s, each the mean of the phrases that captions have for it "
            f"({', '.join(example)}); relevant is the scene's; nothing is ignored.",
        )


def _object_prompts(things: Sequence[int]) -> Items:
    names = _named(object_names(), things)
    return Items(
        modality="text",
        ids=tuple(f"object/{name}" for name in names),
        contents=tuple(with_article(name) for name in names),
        labels=names,
    )


def _pairs(shown: _Shown, kept: Sequence[int]) -> Pairs:
    """Pair each kept scene with its first caption."""
    count = len(shown.images)
    images = shown.images.subset(kept)
    return Pairs(
        image=images,
        text=Items(
            modality="text",
            ids=tuple(f"{name}/0" for name in images.ids),
            contents=_named(shown.captions[0].words, kept),
            labels=images.labels,
        ),
        note="" if len(kept) == count else f", evenly spread over {count}",
    )


def _spread(count: int) -> list[int]:
    """Choose the pairs that the gap is measured on: all, or as many as elsewhere."""
    return (
        [place * count // MAX_PAIRS for place in range(MAX_PAIRS)] if count > MAX_PAIRS else [*range(count)]
    )


def _fit(fitted: _Shown, options: SceneOptions) -> FitData:
    pairs = _pairs(fitted, range(len(fitted.images)))
    return FitData(
        split="fit",
        images=pairs.image,
        texts=pairs.text,
        class_prompts=_object_prompts(range(options.objects)),
        pairs=pairs,
    )


def _factors(shown: _Shown, kept: Sequence[int], fitted: _Shown | None) -> dict[str, Factor]:
    named = FACTORS | {"second": True}
    return {
        name: Factor(
            values=_named(shown.values[name], kept),
            fitted=() if fitted is None else tuple(fitted.values[name]),
            named=named[name],
        )
        for name in named
    }


def _shown(options: SceneOptions, split: str, limit: int | None) -> _Shown:
    index_N = np.arange(split_size(options, split))
    scenes = draw_scenes(options, split, index_N)
    if limit is not None and limit < len(index_N):
        kept = stratified([str(thing) for thing in scenes.first.object_N], limit)
        scenes = draw_scenes(options, split, index_N[kept])
    captions = caption_scenes(options, split, scenes, 0), caption_scenes(options, split, scenes, 1)
    drawn = SceneOptions(world=options.world, objects=options.objects, second=options.second)
    pictures, pixels = _pictures(drawn, split, tuple(scenes.index_N.tolist()))
    values: dict[str, Sequence[str]] = dict(factor_values(scenes, split))
    values["second"] = [object_names()[thing] if thing >= 0 else NOTHING for thing in scenes.second.object_N]
    images = Items(
        modality="image",
        ids=tuple(f"{split}/{index:06d}" for index in scenes.index_N),
        contents=pictures,
        labels=tuple(values["object"]),
    )
    told = hashlib.sha256("\n".join([pixels, *images.ids, *captions[0].words, *captions[1].words]).encode())
    return _Shown(scenes, images, captions, values, told.hexdigest())


@lru_cache(maxsize=8)  # the splits of an evaluation, in worlds that differ in what captions say
def _pictures(drawn: SceneOptions, split: str, indices: tuple[int, ...]) -> tuple[tuple[bytes, ...], str]:
    """Paint scenes and encode them without loss; return them with the SHA-256 over their pixels.

    The hash is not over the files: another version of zlib packs the same pixels otherwise.
    """
    scenes = draw_scenes(drawn, split, np.array(indices, dtype=np.int64))
    digest, pictures = hashlib.sha256(), []
    for pixels_HW3 in render(scenes, held_out_designer=split == "test-designer"):
        digest.update(pixels_HW3.tobytes())
        stream = io.BytesIO()
        Image.fromarray(pixels_HW3).save(stream, "PNG", compress_level=1)
        pictures.append(stream.getvalue())
    return tuple(pictures), digest.hexdigest()


def _named(names: Sequence[str], places: Sequence[int] | np.ndarray) -> tuple[str, ...]:
    return tuple(names[place] for place in places)
