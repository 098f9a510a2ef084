"""Image-text pairs that can be indexed, and batches; step and seed alone decide a batch of such pairs."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch
from open_clip import SimpleTokenizer
from torch import Tensor

from crossgap.datasets import embedded_shards
from crossgap.datasets.bad import BadSamples
from crossgap.datasets.packed import is_plain_file
from crossgap.datasets.scenes import is_scenes
from crossgap.datasets.shards import Sample, expand_shards, read_shards
from crossgap.errors import InputError
from crossgap.long_words import remember_long_words
from pretrain.augment import AugmentConfig, Place, drop_words, random_view, uniform
from pretrain.images import ImagesInMemory, ImagesInShards, square
from pretrain.prepare import manifest_shards
from pretrain.streams import stream


@dataclass(frozen=True, kw_only=True)
class TrainingPairs:
    """N images with their captions, tokenised once.

    ``ids_ML`` holds the M distinct captions as indices into ``vocabulary_V``, the token ids that occur; image
    k has the captions ``caption_of_K[first_N[k] : first_N[k] + count_N[k]]``. ``captions_M`` are the texts.
    ``concept_N`` numbers the concepts, None where a sample names none. ``digest`` is a SHA-256 over pixels
    (of images in shards: their bytes) and captions. ``semantic_MS`` are unit rows that say how alike captions
    are, where a term needs it.
    """

    images: ImagesInMemory | ImagesInShards
    ids_ML: Tensor
    lengths_M: Tensor
    vocabulary_V: Tensor
    caption_of_K: Tensor
    first_N: Tensor
    count_N: Tensor
    captions_M: tuple[str, ...]
    concept_N: Tensor | None
    digest: str
    semantic_MS: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device) -> TrainingPairs:
        """Move the images to a device; the captions stay, batches of text are packed on the CPU."""
        return replace(self, images=self.images.to(device))


class Captions(NamedTuple):
    """Token ids of B captions, padded, and their lengths, the end-of-text token included."""

    ids_BL: Tensor
    lengths_B: Tensor


class Batch(NamedTuple):
    """The parts of B pairs that were asked for, rows ``first_row`` and on of a larger batch.

    ``images`` are pixels in [0, 1], (B, C, H, W), or (B, K, C, H, W) for ``local_images``; ``texts`` are
    captions; ``given`` is what is not embedded, a row a pair.
    """

    images: dict[str, Tensor]
    texts: dict[str, Captions]
    given: dict[str, Tensor]
    first_row: int = 0

    def rows(self, first: int, end: int) -> Batch:
        """Cut out the pairs from ``first`` to before ``end``."""
        return Batch(
            {name: pixels[first:end] for name, pixels in self.images.items()},
            {
                name: Captions(ids[first:end], lengths[first:end])
                for name, (ids, lengths) in self.texts.items()
            },
            {name: values[first:end] for name, values in self.given.items()},
            self.first_row + first,
        )


def load_pairs(
    data: str | Sequence[str],
    *,
    image_size: int,
    context_length: int,
    limit: int | None = None,
    bad: BadSamples | None = None,
    keep_in_shards: bool = False,
    workers: int = 1,
    whole_texts: bool = False,
) -> TrainingPairs:
    """Decode and tokenise a data set.

    Args:
        data: ``emoji``, the embedded data, of which the training split is read; or shards (a pattern with
            braces, or several) or a folder that ``pretrain.prepare`` wrote, which are read whole.
        image_size: side in pixels of the stored images; others are resized (shorter side) and cropped.
        context_length: captions are cut to so many tokens.
        limit: read no more pairs than this.
        bad: counts samples that cannot be used; by default none is tolerated.
        keep_in_shards: read the shards through, but decode images when they are drawn: only for local shards
            that are not packed. The batches are the same.
        workers: threads that then decode.
        whole_texts: a ``.txt`` part is one caption, not one a line.

    Raises:
        InputError: no pair, shards whose images cannot stay there, more bad samples than ``bad`` tolerates,
        or what :func:`crossgap.datasets.shards.read_shards` refuses.
    """
    bad = bad or BadSamples(limit=0)
    packed = [shard for shard in shards_of(data) if not is_plain_file(shard)] if keep_in_shards else []
    if packed:
        raise InputError(
            f"shard {packed[0]} is packed or not local: its images cannot stay in it; "
            "use --loading resampled, or put it here, unpacked"
        )
    images = _Placed() if keep_in_shards else _Decoded(image_size)
    captions: list[Sequence[str]] = []
    concepts: list[str | None] = []
    for sample in _samples(data, bad, whole_texts):
        try:
            images.add(sample)
        except InputError as error:
            bad.add(sample.shard, error)
            continue
        captions.append(sample.captions)
        concept = sample.meta.get("concept", sample.meta.get("label"))
        concepts.append(None if concept is None else str(concept))
        if len(captions) == limit:
            break
    if not captions:
        raise InputError(f"data {data!r}: no pair of image and caption to train on")
    digest = images.digest
    told = [caption for of_image in captions for caption in of_image]
    digest.update(repr((told, [len(of_image) for of_image in captions])).encode())
    return pairs_of(
        images.done(image_size, workers, bad),
        captions,
        concepts,
        context_length=context_length,
        digest=digest.hexdigest(),
    )


def pairs_of(
    images: ImagesInMemory | ImagesInShards,
    captions: Sequence[Sequence[str]],
    concepts: Sequence[str | None],
    *,
    context_length: int,
    digest: str,
) -> TrainingPairs:
    """Put images and what is said of each together, and tokenise each caption once."""
    told = [caption for of_image in captions for caption in of_image]
    distinct = sorted(set(told))
    place = {caption: index for index, caption in enumerate(distinct)}
    tokenize = SimpleTokenizer(context_length=context_length)
    remember_long_words(tokenize, distinct)
    ids_ML = tokenize(distinct)
    lengths_M = ids_ML.argmax(1) + 1  # the end-of-text token has the highest id
    vocabulary_V, indices_ML = ids_ML.unique(return_inverse=True)
    count_N = torch.tensor([len(of_image) for of_image in captions])
    return TrainingPairs(
        images=images,
        ids_ML=indices_ML,
        lengths_M=lengths_M,
        vocabulary_V=vocabulary_V,
        caption_of_K=torch.tensor([place[caption] for caption in told]),
        first_N=count_N.cumsum(0) - count_N,
        count_N=count_N,
        captions_M=tuple(distinct),
        concept_N=_numbered(concepts),
        digest=digest,
    )


class Drawn(NamedTuple):
    """What a step drew, before views are made of it: rows at a place of a batch, images in uint8.

    ``other_text`` is a second caption, the same again where ``same_B`` says so.
    """

    images_BHWC: Tensor
    text: Captions
    other_text: Captions
    same_B: Tensor
    given: dict[str, Tensor]
    place: Place


@dataclass(frozen=True, kw_only=True)
class ViewMaker:
    """Make the parts of a batch of what was drawn: a pure function of that, the seed and the step.

    Crops and dropped words come from separate streams, and each view has its own: an objective without second
    views sees exactly the first views of one that has them. Views of images after the first are made by
    ``extra_augment`` where it is not None. ``batch_size`` is that of all processes.
    """

    batch_size: int
    image_size: int
    augment: AugmentConfig
    seed: int
    extra_augment: AugmentConfig | None = None

    def make(self, drawn: Drawn, parts: Collection[str], step: int) -> Batch:
        """Make the named parts."""
        batch = Batch({}, {}, {}, drawn.place.first)
        for part in parts:
            if part == "local_images":
                keys = [("local", k) for k in range(self._extra.local_views)]
                batch.images[part] = torch.stack([self._view(drawn, step, key) for key in keys], dim=1)
            elif part in _IMAGES:
                batch.images[part] = self._view(drawn, step, (_IMAGES.index(part),))
            elif part == "text":
                batch.texts[part] = drawn.text
            elif part == "second_text":
                batch.texts[part] = self._second_text(drawn, step)
            elif part == "fewer_words":
                batch.texts[part] = self._fewer_words(drawn.text, drawn.place, step, "fewer")
            else:
                batch.given[part] = drawn.given[part]
        return batch

    def close(self) -> None:
        """End what draws ahead, where something does; the next batch would start it again."""

    @property
    def _extra(self) -> AugmentConfig:
        return self.extra_augment or self.augment

    def _view(self, drawn: Drawn, step: int, view: tuple[str | int, ...]) -> Tensor:
        generator = stream(self.seed, "view", step, *view)
        config = self.augment if view == (0,) else self._extra
        if "local" in view:
            config = replace(config, area=config.local_area)
        return random_view(drawn.images_BHWC, self.image_size, config, generator, place=drawn.place)

    def _second_text(self, drawn: Drawn, step: int) -> Captions:
        ids_BL, lengths_B = drawn.other_text
        fewer_BL, fewer_B = self._fewer_words(drawn.other_text, drawn.place, step, "words")
        return Captions(
            torch.where(drawn.same_B[:, None], fewer_BL, ids_BL),
            torch.where(drawn.same_B, fewer_B, lengths_B),
        )

    def _fewer_words(self, text: Captions, place: Place, step: int, name: str) -> Captions:
        generator = stream(self.seed, name, step)
        return Captions(*drop_words(*text, self.augment.drop_words, generator, place=place))


@dataclass(frozen=True, kw_only=True)
class Batches(ViewMaker):
    """Draw the batch of a step: a pure function of the seed, the step and the settings.

    An epoch is a shuffled order cut into whole batches; what is left over waits for another epoch's shuffle.
    Order and captions come from streams of their own.
    """

    pairs: TrainingPairs

    def __post_init__(self) -> None:
        if not 2 <= self.batch_size <= len(self.pairs):
            raise InputError(
                f"batch_size={self.batch_size}: must lie between 2 and the number of pairs, "
                f"{len(self.pairs)}; give a smaller batch or more data"
            )

    def indices(self, step: int) -> Tensor:
        """Give the pairs of a step, all different."""
        epoch, place = divmod(step, len(self.pairs) // self.batch_size)
        order_N = _order(len(self.pairs), self.seed, epoch)
        return order_N[place * self.batch_size : (place + 1) * self.batch_size]

    def batch(
        self, step: int, parts: Collection[str] = ("image", "text"), *, rows: slice = slice(None)
    ) -> Batch:
        """Make the parts of a step, pixels on the device of the images.

        With ``rows``, a slice with both ends, only those of the batch are made: equal to them among all.

        Raises:
            InputError: ``concept_B`` of data without concepts.
        """
        first, end, _ = rows.indices(self.batch_size)
        indices_B, images_BHWC = self.pairs.images.rows(
            self.indices(step)[first:end], self.indices(step + 1)[first:end]
        )
        place = Place(first, self.batch_size)
        first_B, other_B = self._captions(indices_B, step, place)
        given = {}
        if "concept_B" in parts:
            given["concept_B"] = concepts_of(self.pairs)[indices_B]
        if "semantic_BS" in parts:
            assert self.pairs.semantic_MS is not None
            given["semantic_BS"] = self.pairs.semantic_MS[first_B]
        text, other_text = self._captions_at(first_B), self._captions_at(other_B)
        drawn = Drawn(images_BHWC, text, other_text, first_B == other_B, given, place)
        return self.make(drawn, parts, step)

    def _captions_at(self, caption_B: Tensor) -> Captions:
        return Captions(self.pairs.ids_ML[caption_B], self.pairs.lengths_M[caption_B])

    def _captions(self, indices_B: Tensor, step: int, place: Place | None = None) -> tuple[Tensor, Tensor]:
        """Choose a caption of each pair and another one; the same again where a pair has only one."""
        generator = stream(self.seed, "caption", step)
        draws_2B = uniform(2, count=len(indices_B), place=place, generator=generator)
        count_B = self.pairs.count_N[indices_B]
        chosen_B = (draws_2B[0] * count_B).long()
        shift_B = torch.where(count_B > 1, 1 + (draws_2B[1] * (count_B - 1)).long(), 0)
        start_B = self.pairs.first_N[indices_B]
        return (
            self.pairs.caption_of_K[start_B + chosen_B],
            self.pairs.caption_of_K[start_B + (chosen_B + shift_B) % count_B],
        )


@lru_cache(maxsize=2)  # a step looks into its own epoch and into that of the following one
def _order(count: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(count, generator=stream(seed, "order", epoch))


def concepts_of(pairs: TrainingPairs) -> Tensor:
    """Return the number of each pair's concept.

    Raises:
        InputError: not every sample names one.
    """
    if pairs.concept_N is None:
        raise InputError(
            "a term of the objective compares concepts, but not every sample of the data names one; put "
            '"concept" or "label" into the .json part of each'
        )
    return pairs.concept_N


_IMAGES = ("image", "second_image", "third_image")


def _numbered(names: Sequence[str | None]) -> Tensor | None:
    known = [name for name in names if name is not None]
    if len(known) < len(names):
        return None
    place = {name: number for number, name in enumerate(dict.fromkeys(known))}
    return torch.tensor([place[name] for name in known])


def shards_of(data: str | Sequence[str]) -> list[str]:
    """List the shards of a data set: ``emoji``, patterns, or a folder that ``pretrain.prepare`` wrote.

    Scenes have none.
    """
    if isinstance(data, str) and is_scenes(data):
        return []
    if data == "emoji":
        return [str(path) for path in embedded_shards()]
    if isinstance(data, str) and Path(data).is_dir():
        return manifest_shards(Path(data))
    return expand_shards(data)


def _samples(data: str | Sequence[str], bad: BadSamples, whole_texts: bool) -> Iterator[Sample]:
    if data == "emoji":
        return (sample for sample in read_shards(shards_of(data)) if sample.meta["split"] == "train")
    return read_shards(shards_of(data), bad=bad.add, whole_texts=whole_texts)


class _Decoded:
    """Collects decoded images."""

    def __init__(self, image_size: int) -> None:
        self._size = image_size
        self._pixels = bytearray()

    def add(self, sample: Sample) -> None:
        assert sample.image is not None
        self._pixels += square(sample.image, self._size, where=sample.where).tobytes()

    @property
    def digest(self) -> hashlib._Hash:
        return hashlib.sha256(self._pixels)

    def done(self, image_size: int, workers: int, bad: BadSamples) -> ImagesInMemory:
        pixels = torch.frombuffer(self._pixels, dtype=torch.uint8)
        return ImagesInMemory(pixels.view(-1, image_size, image_size, 3))


class _Placed:
    """Collects where images lie."""

    def __init__(self) -> None:
        self.digest = hashlib.sha256()
        self._shards: list[str] = []
        self._rows: list[tuple[int, int, int]] = []

    def add(self, sample: Sample) -> None:
        assert sample.image is not None
        if not self._shards or self._shards[-1] != sample.shard:
            self._shards.append(sample.shard)
        assert sample.place is not None
        self._rows.append((len(self._shards) - 1, sample.place.start, len(sample.image)))
        self.digest.update(sample.image)

    def done(self, image_size: int, workers: int, bad: BadSamples) -> ImagesInShards:
        columns = torch.tensor(self._rows).unbind(1)
        return ImagesInShards(self._shards, *columns, image_size=image_size, workers=workers, bad=bad)
