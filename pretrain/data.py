"""Image-text pairs in memory and the batches drawn from them; step and seed alone decide a batch."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from open_clip import SimpleTokenizer
from PIL import Image
from torch import Tensor

from crossgap.datasets import embedded_shards
from crossgap.datasets.shards import Sample, decode_image, read_shards
from crossgap.errors import InputError
from pretrain.augment import AugmentConfig, drop_words, random_view
from pretrain.bad import BadSamples
from pretrain.prepare import manifest_shards
from pretrain.streams import stream


@dataclass(frozen=True, kw_only=True)
class TrainingPairs:
    """N images with their captions, decoded and tokenised once.

    ``ids_ML`` holds the M distinct captions as indices into ``vocabulary_V``, the token ids that occur;
    image k has the captions ``caption_of_K[first_N[k] : first_N[k] + count_N[k]]``. ``captions_M`` are the
    texts. ``concept_N`` numbers the concepts, None where a sample names none. ``digest`` is a SHA-256 over
    pixels and captions. ``semantic_MS`` are unit rows that say how alike captions are, where a term needs it.
    """

    images_NHWC: Tensor
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
        return len(self.images_NHWC)

    def to(self, device: torch.device) -> TrainingPairs:
        """Move the images to a device; the captions stay, batches of text are packed on the CPU."""
        return replace(self, images_NHWC=self.images_NHWC.to(device))


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
) -> TrainingPairs:
    """Decode and tokenise a data set.

    Args:
        data: ``emoji``, the embedded data, of which the training split is read; or shards (a pattern with
            braces, or several) or a folder that ``pretrain.prepare`` wrote, which are read whole.
        image_size: side in pixels of the stored images; others are resized (shorter side) and cropped.
        context_length: captions are cut to so many tokens.
        limit: read no more pairs than this.
        bad: counts samples that cannot be used; by default none is tolerated.

    Raises:
        InputError: no pair, more bad samples than ``bad`` tolerates, or what
        :func:`crossgap.datasets.shards.read_shards` refuses.
    """
    bad = bad or BadSamples(limit=0)
    pixels = bytearray()
    captions: list[str] = []
    counts: list[int] = []
    concepts: list[str | None] = []
    for sample in _samples(data, bad):
        try:
            pixels += _square(sample, image_size).tobytes()
        except InputError as error:
            bad.add(sample.shard, error)
            continue
        captions.extend(sample.captions)
        counts.append(len(sample.captions))
        concept = sample.meta.get("concept", sample.meta.get("label"))
        concepts.append(None if concept is None else str(concept))
        if len(counts) == limit:
            break
    if not counts:
        raise InputError(f"data {data!r}: no pair of image and caption to train on")
    distinct = sorted(set(captions))
    place = {caption: index for index, caption in enumerate(distinct)}
    ids_ML = SimpleTokenizer(context_length=context_length)(distinct)
    lengths_M = ids_ML.argmax(1) + 1  # the end-of-text token has the highest id
    vocabulary_V, indices_ML = ids_ML.unique(return_inverse=True)
    count_N = torch.tensor(counts)
    digest = hashlib.sha256(pixels)
    digest.update(repr((captions, counts)).encode())
    return TrainingPairs(
        images_NHWC=torch.frombuffer(pixels, dtype=torch.uint8).view(len(counts), image_size, image_size, 3),
        ids_ML=indices_ML,
        lengths_M=lengths_M,
        vocabulary_V=vocabulary_V,
        caption_of_K=torch.tensor([place[caption] for caption in captions]),
        first_N=count_N.cumsum(0) - count_N,
        count_N=count_N,
        captions_M=tuple(distinct),
        concept_N=_numbered(concepts),
        digest=digest.hexdigest(),
    )


@dataclass(frozen=True, kw_only=True)
class Batches:
    """Draw the batch of a step: a pure function of the seed, the step and the settings.

    An epoch is a shuffled order cut into whole batches; what is left over waits for another epoch's shuffle.
    Order, captions, crops and dropped words come from separate streams, and each view has its own: an
    objective without second views sees exactly the first views of one that has them. Views of images after
    the first are made by ``extra_augment`` where it is not None.
    """

    pairs: TrainingPairs
    batch_size: int
    image_size: int
    augment: AugmentConfig
    seed: int
    extra_augment: AugmentConfig | None = None

    def __post_init__(self) -> None:
        if not 2 <= self.batch_size <= len(self.pairs):
            raise InputError(
                f"batch_size={self.batch_size}: must lie between 2 and the number of pairs, "
                f"{len(self.pairs)}; give a smaller batch or more data"
            )

    def indices(self, step: int) -> Tensor:
        """Give the pairs of a step, all different."""
        epoch, place = divmod(step, len(self.pairs) // self.batch_size)
        order_N = torch.randperm(len(self.pairs), generator=stream(self.seed, "order", epoch))
        return order_N[place * self.batch_size : (place + 1) * self.batch_size]

    def batch(
        self, step: int, parts: Collection[str] = ("image", "text"), *, rows: slice = slice(None)
    ) -> Batch:
        """Make the parts of a step, pixels on the device of the images.

        With ``rows``, a slice with both ends, only those of the batch are made: equal to them among all.

        Raises:
            InputError: ``concept_B`` of data without concepts.
        """
        indices_B = self.indices(step)
        images_BHWC = self.pairs.images_NHWC[indices_B.to(self.pairs.images_NHWC.device)]
        first_B, other_B = self._captions(indices_B, step)
        batch = Batch({}, {}, {})
        for part in parts:
            if part == "local_images":
                keys = [("local", k) for k in range(self._extra.local_views)]
                views = [self._view(images_BHWC, step, key, rows) for key in keys]
                batch.images[part] = torch.stack(views, dim=1)
            elif part in _IMAGES:
                batch.images[part] = self._view(images_BHWC, step, (_IMAGES.index(part),), rows)
            elif part == "text":
                batch.texts[part] = self._captions_at(first_B)
            elif part == "second_text":
                batch.texts[part] = self._second_text(first_B, other_B, step)
            elif part == "fewer_words":
                batch.texts[part] = self._fewer_words(first_B, step, "fewer")
            elif part == "concept_B":
                batch.given[part] = concepts_of(self.pairs)[indices_B]
            else:
                assert part == "semantic_BS"
                assert self.pairs.semantic_MS is not None
                batch.given[part] = self.pairs.semantic_MS[first_B]
        first, end, _ = rows.indices(self.batch_size)  # views of images hold these rows alone already
        return batch._replace(images={}).rows(first, end)._replace(images=batch.images)

    @property
    def _extra(self) -> AugmentConfig:
        return self.extra_augment or self.augment

    def _view(self, images_BHWC: Tensor, step: int, view: tuple[str | int, ...], rows: slice) -> Tensor:
        generator = stream(self.seed, "view", step, *view)
        config = self.augment if view == (0,) else self._extra
        if "local" in view:
            config = replace(config, area=config.local_area)
        return random_view(images_BHWC, self.image_size, config, generator, rows=rows)

    def _captions_at(self, caption_B: Tensor) -> Captions:
        return Captions(self.pairs.ids_ML[caption_B], self.pairs.lengths_M[caption_B])

    def _captions(self, indices_B: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Choose a caption of each pair and another one; the same again where a pair has only one."""
        draws_2B = torch.rand(2, len(indices_B), generator=stream(self.seed, "caption", step))
        count_B = self.pairs.count_N[indices_B]
        chosen_B = (draws_2B[0] * count_B).long()
        shift_B = torch.where(count_B > 1, 1 + (draws_2B[1] * (count_B - 1)).long(), 0)
        start_B = self.pairs.first_N[indices_B]
        return (
            self.pairs.caption_of_K[start_B + chosen_B],
            self.pairs.caption_of_K[start_B + (chosen_B + shift_B) % count_B],
        )

    def _second_text(self, first_B: Tensor, other_B: Tensor, step: int) -> Captions:
        ids_BL, lengths_B = self._captions_at(other_B)
        fewer_BL, fewer_B = self._fewer_words(other_B, step, "words")
        same_B = first_B == other_B
        return Captions(
            torch.where(same_B[:, None], fewer_BL, ids_BL), torch.where(same_B, fewer_B, lengths_B)
        )

    def _fewer_words(self, caption_B: Tensor, step: int, name: str) -> Captions:
        ids_BL, lengths_B = self._captions_at(caption_B)
        return Captions(
            *drop_words(ids_BL, lengths_B, self.augment.drop_words, stream(self.seed, name, step))
        )


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


def _samples(data: str | Sequence[str], bad: BadSamples) -> Iterator[Sample]:
    if data == "emoji":
        shards = [str(path) for path in embedded_shards()]
        return (sample for sample in read_shards(shards) if sample.meta["split"] == "train")
    if isinstance(data, str) and Path(data).is_dir():
        data = manifest_shards(Path(data))
    return read_shards(data, bad=bad.add)


def _square(sample: Sample, size: int) -> Image.Image:
    assert sample.image is not None
    image = decode_image(sample.image, where=sample.where)
    if image.size == (size, size):
        return image
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    box = (left, top, left + side, top + side)
    return image.resize((size, size), Image.Resampling.BILINEAR, box=box)
