"""Batches of image-text pairs: step and seed alone decide a batch."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from crossgap.errors import InputError
from pretrain.data.augment import Place, drop_words, random_view, uniform
from pretrain.data.pairs import TrainingPairs, concepts_of
from pretrain.data.streams import stream
from pretrain.data.tokens import CLIPS_EDGES, Edges
from pretrain.settings import AugmentConfig


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


class DrawnPairs(NamedTuple):
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
    ``extra_augment`` where it is not None. ``batch_size`` is that of all processes; ``edges`` is what the
    tokenizer puts around the words of a caption.
    """

    batch_size: int
    image_size: int
    augment: AugmentConfig
    seed: int
    extra_augment: AugmentConfig | None = None
    edges: Edges = CLIPS_EDGES

    def make(self, drawn: DrawnPairs, parts: Collection[str], step: int) -> Batch:
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

    def _view(self, drawn: DrawnPairs, step: int, view: tuple[str | int, ...]) -> Tensor:
        generator = stream(self.seed, "view", step, *view)
        config = self.augment if view == (0,) else self._extra
        if "local" in view:
            config = replace(config, area=config.local_area)
        return random_view(drawn.images_BHWC, self.image_size, config, generator, place=drawn.place)

    def _second_text(self, drawn: DrawnPairs, step: int) -> Captions:
        ids_BL, lengths_B = drawn.other_text
        fewer_BL, fewer_B = self._fewer_words(drawn.other_text, drawn.place, step, "words")
        return Captions(
            torch.where(drawn.same_B[:, None], fewer_BL, ids_BL),
            torch.where(drawn.same_B, fewer_B, lengths_B),
        )

    def _fewer_words(self, text: Captions, place: Place, step: int, name: str) -> Captions:
        generator = stream(self.seed, name, step)
        share = self.augment.drop_words
        return Captions(*drop_words(*text, share, generator, place=place, edges=self.edges))


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
        drawn = DrawnPairs(images_BHWC, text, other_text, first_B == other_B, given, place)
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


_IMAGES = ("image", "second_image", "third_image")
