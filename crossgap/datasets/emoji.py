"""The embedded emoji: the same concepts by several designers, as retrieval and zero-shot tasks."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib import resources
from pathlib import Path

from crossgap.datasets.readers.shards import ShardSample, read_shards
from crossgap.datasets.stratify import stratified
from crossgap.datasets.tasks import Dataset, FitData, Items, Pairs, ProbeData, Task
from crossgap.errors import InputError, check_known
from crossgap.files import read_json
from crossgap.vocabulary import Kind

QUERY_DESIGNER = "noto"
SPLITS = ("train", "val", "test", "sealed")
TEMPLATE = "a photo of {}"


@dataclass(frozen=True, kw_only=True)
class _Concept:
    """One concept with its texts and its pictures by designer."""

    concept: str
    name: str
    keywords: str
    subgroup: str
    split: str
    pictures: dict[str, bytes]


def embedded_shards() -> list[Path]:
    """List the emoji shards inside the package, that of the query designer first."""
    return [_folder() / name for name in read_json(_folder() / "manifest.json")["shards"]]


def training_pictures() -> dict[str, dict[str, bytes]]:
    """Give the pictures of the training split's concepts: name of the concept -> designer -> image file."""
    return {concept.name: concept.pictures for concept in _concepts() if concept.split == "train"}


def load_emoji(*, split: str = "test", limit: int | None = None) -> Dataset:
    """Load one split of the emoji; ``limit`` keeps that many concepts, spread over the subgroups.

    Raises:
        InputError: an unknown split, or a shard that differs from the manifest.
    """
    check_known(split, SPLITS, "split of emoji")
    concepts = [concept for concept in _concepts() if concept.split == split]
    count = len(concepts)
    if limit is not None and limit < count:
        chosen = stratified([concept.subgroup for concept in concepts], limit)
        concepts = [concepts[index] for index in chosen]
    images, names = _images(concepts, [QUERY_DESIGNER]), _texts(concepts, "name")
    return Dataset(
        name="emoji",
        hash=_manifest_hash(),
        split=split,
        tasks=_tasks(concepts, split, count),
        pairs=Pairs(image=images, text=names),
        fit=_fit() if split != "train" else None,
        default_template=TEMPLATE,
        probe=_probe(concepts, count) if split != "train" else None,
    )


def _tasks(concepts: Sequence[_Concept], split: str, count: int) -> tuple[Task, ...]:
    others = sorted({designer for concept in concepts for designer in concept.pictures} - {QUERY_DESIGNER})
    images, drawings = _images(concepts, [QUERY_DESIGNER]), _images(concepts, others)
    names, keywords, prompts = (_texts(concepts, part) for part in ("name", "keywords", "prompt"))
    subgroups = sorted({concept.subgroup for concept in concepts})
    kinds = Items(
        modality="text",
        ids=tuple(f"subgroup/{subgroup}" for subgroup in subgroups),
        contents=tuple(TEMPLATE.format(subgroup.replace("-", " ")) for subgroup in subgroups),
        labels=tuple(subgroups),
    )

    task = partial(_task, concepts, split, count)
    drawn = f"{QUERY_DESIGNER.capitalize()} pictures query those of the other designers ({', '.join(others)})"
    said = "names query one keyword phrase a concept, which does not contain the name"
    same_concept = "relevant is the same concept; nothing is ignored."
    same_subgroup = "relevant is the same CLDR subgroup; the query's own concept is ignored."
    return (
        task("image-concept", "image-image", images, drawings, protocol=f"{drawn}; {same_concept}"),
        task(
            "image-subgroup",
            "image-image",
            images,
            drawings,
            protocol=f"{drawn}; {same_subgroup}",
            by_subgroup=True,
        ),
        task("text-concept", "text-text", names, keywords, protocol=f"{said}; {same_concept}"),
        task(
            "text-subgroup",
            "text-text",
            names,
            keywords,
            protocol=f"{said}; {same_subgroup}",
            by_subgroup=True,
        ),
        task(
            "image-text", "image-text", images, names, protocol=f"Noto pictures query names; {same_concept}"
        ),
        task(
            "text-image", "text-image", names, images, protocol=f"names query Noto pictures; {same_concept}"
        ),
        task(
            "zero-shot-subgroup",
            "zero-shot",
            images,
            kinds,
            protocol='Noto pictures against one prompt a CLDR subgroup, "a photo of" and the words of its '
            "identifier; relevant is the concept's subgroup; nothing is ignored.",
            by_subgroup=True,
        ),
        task(
            "zero-shot-concept",
            "zero-shot",
            images,
            prompts,
            protocol=f'Noto pictures against one prompt a concept, "a photo of" and the name; {same_concept}',
        ),
    )


def _task(
    concepts: Sequence[_Concept],
    split: str,
    count: int,
    name: str,
    kind: Kind,
    query: Items,
    gallery: Items,
    *,
    protocol: str,
    by_subgroup: bool = False,
) -> Task:
    subgroup_of = {concept.concept: concept.subgroup for concept in concepts}
    limited = _limited(concepts, count)
    return Task(
        name=name,
        kind=kind,
        dataset="emoji",
        dataset_hash=_manifest_hash(),
        split=split,
        protocol=f"{len(query)} queries, {len(gallery)} in the gallery: {protocol} {limited}".rstrip(),
        query=_by_subgroup(query, subgroup_of) if by_subgroup else query,
        gallery=_by_subgroup(gallery, subgroup_of) if by_subgroup and gallery.groups else gallery,
        ignore_same_group=by_subgroup and kind != "zero-shot",
        drop_self=False,
    )


def _limited(concepts: Sequence[_Concept], count: int) -> str:
    return "" if len(concepts) == count else f"Limited to {len(concepts)} of {count} concepts, by subgroup."


def _probe(concepts: Sequence[_Concept], count: int) -> ProbeData:
    """Ask for the subgroup of pictures, from those of the training concepts by the same designer."""
    train = [concept for concept in _concepts() if concept.split == "train"]
    subgroup_of = {concept.concept: concept.subgroup for concept in (*concepts, *train)}
    query, support = (
        _by_subgroup(_images(part, [QUERY_DESIGNER]), subgroup_of) for part in (concepts, train)
    )
    about = (
        f"Classes are CLDR subgroups, all pictures {QUERY_DESIGNER.capitalize()}'s; training pictures show "
    )
    note = f"{about}other concepts. {_limited(concepts, count)}".strip()
    return ProbeData(query=query, support=support, note=note)


def _fit() -> FitData:
    concepts = [concept for concept in _concepts() if concept.split == "train"]
    pairs = Pairs(image=_images(concepts, [QUERY_DESIGNER]), text=_texts(concepts, "name"))
    return FitData(
        split="train",
        images=pairs.image,
        texts=pairs.text,
        class_prompts=_texts(concepts, "prompt"),
        pairs=pairs,
    )


def _images(concepts: Sequence[_Concept], designers: Sequence[str]) -> Items:
    drawn = [
        (concept, designer) for concept in concepts for designer in designers if designer in concept.pictures
    ]
    named = tuple(concept.concept for concept, _ in drawn)
    return Items(
        modality="image",
        ids=tuple(f"{concept.concept}/{designer}" for concept, designer in drawn),
        contents=tuple(concept.pictures[designer] for concept, designer in drawn),
        labels=named,
        groups=named,
    )


def _texts(concepts: Sequence[_Concept], part: str) -> Items:
    contents = {
        "name": [concept.name for concept in concepts],
        "keywords": [concept.keywords for concept in concepts],
        "prompt": [TEMPLATE.format(concept.name) for concept in concepts],
    }
    named = tuple(concept.concept for concept in concepts)
    return Items(
        modality="text",
        ids=tuple(f"{concept}/{part}" for concept in named),
        contents=tuple(contents[part]),
        labels=named,
        groups=named,
    )


def _by_subgroup(items: Items, subgroup_of: dict[str, str]) -> Items:
    return items.relabel([subgroup_of[concept] for concept in items.groups])


@cache
def _concepts() -> tuple[_Concept, ...]:
    _check_shards()
    concepts: dict[str, _Concept] = {}
    for sample in read_shards([str(path) for path in embedded_shards()]):
        concept = concepts.setdefault(sample.meta["concept"], _concept(sample))
        assert sample.image is not None
        concept.pictures[sample.meta["designer"]] = sample.image
    return tuple(concepts.values())


def _concept(sample: ShardSample) -> _Concept:
    # captions are: name, prompt, the keyword phrase without words of the name, another phrase
    return _Concept(
        concept=sample.meta["concept"],
        name=sample.meta["name"],
        keywords=sample.captions[2],
        subgroup=sample.meta["subgroup"],
        split=sample.meta["split"],
        pictures={},
    )


def _check_shards() -> None:
    expected = read_json(_folder() / "manifest.json")["shards"]
    for path in embedded_shards():
        if not path.is_file():
            raise InputError(f"emoji shard {path}: no such file; install crossgap again")
        with path.open("rb") as stream:
            seen = hashlib.file_digest(stream, "sha256").hexdigest()
        if seen != expected[path.name]["sha256"]:
            raise InputError(
                f"emoji shard {path}: sha256 {seen} is not that of manifest.json; install crossgap again"
            )


@cache
def _manifest_hash() -> str:
    shards = read_json(_folder() / "manifest.json")["shards"]
    return hashlib.sha256("".join(shard["sha256"] for shard in shards.values()).encode()).hexdigest()


def _folder() -> Path:
    return Path(str(resources.files("crossgap"))) / "data" / "emoji"
