"""Image-text pairs in memory and the batches drawn from them; step and seed alone decide a batch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from open_clip import SimpleTokenizer
from PIL import Image
from torch import Tensor

from crossgap.datasets import embedded_shards
from crossgap.datasets.shards import Sample, decode_image, read_shards
from crossgap.errors import InputError
from pretrain.augment import AugmentConfig, drop_words, random_view
from pretrain.streams import stream
from pretrain.towers import PackedText, pack_text


@dataclass(frozen=True, kw_only=True)
class TrainingPairs:
    """N images with their captions, decoded and tokenised once.

    ``ids_ML`` holds the M distinct captions as indices into ``vocabulary_V``, the token ids that occur;
    image k has the captions ``caption_of_K[first_N[k] : first_N[k] + count_N[k]]``. ``digest`` is a SHA-256
    over pixels and captions.
    """

    images_NHWC: Tensor
    ids_ML: Tensor
    lengths_M: Tensor
    vocabulary_V: Tensor
    caption_of_K: Tensor
    first_N: Tensor
    count_N: Tensor
    digest: str

    def __len__(self) -> int:
        return len(self.images_NHWC)

    def to(self, device: torch.device) -> TrainingPairs:
        """Move the images to a device; the captions stay, batches of text are packed on the CPU."""
        return replace(self, images_NHWC=self.images_NHWC.to(device))


class Batch(NamedTuple):
    """Views of the same B pairs; pixels are in [0, 1]. A second view that nobody needs is None."""

    image_BCHW: Tensor
    text: PackedText
    second_image_BCHW: Tensor | None
    second_text: PackedText | None


def load_pairs(
    data: str | Sequence[str], *, image_size: int, context_length: int, limit: int | None = None
) -> TrainingPairs:
    """Decode and tokenise a data set.

    Args:
        data: ``emoji``, the embedded data, of which the training split is read; or shards (a pattern with
            braces, or several), which are read whole.
        image_size: side in pixels of the stored images; others are resized (shorter side) and cropped.
        context_length: captions are cut to so many tokens.
        limit: read no more pairs than this.

    Raises:
        InputError: no pair, or what :func:`crossgap.datasets.shards.read_shards` refuses.
    """
    pixels = bytearray()
    captions: list[str] = []
    counts: list[int] = []
    for sample in _samples(data):
        pixels += _square(sample, image_size).tobytes()
        captions.extend(sample.captions)
        counts.append(len(sample.captions))
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
        digest=digest.hexdigest(),
    )


@dataclass(frozen=True, kw_only=True)
class Batches:
    """Draw the batch of a step: a pure function of the seed, the step and the settings.

    An epoch is a shuffled order cut into whole batches; what is left over waits for another epoch's shuffle.
    Order, captions, crops and dropped words come from separate streams, and each view has its own: an
    objective without second views sees exactly the first views of one that has them.
    """

    pairs: TrainingPairs
    batch_size: int
    image_size: int
    augment: AugmentConfig
    seed: int

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

    def batch(self, step: int, *, second_image: bool = False, second_text: bool = False) -> Batch:
        """Make the views of a step, on the device of the images except for the text."""
        indices_B = self.indices(step)
        images_BHWC = self.pairs.images_NHWC[indices_B.to(self.pairs.images_NHWC.device)]
        first_B, other_B = self._captions(indices_B, step)
        return Batch(
            self._view(images_BHWC, step, 0),
            pack_text(self.pairs.ids_ML[first_B], self.pairs.lengths_M[first_B]),
            self._view(images_BHWC, step, 1) if second_image else None,
            self._second_text(first_B, other_B, step) if second_text else None,
        )

    def _view(self, images_BHWC: Tensor, step: int, view: int) -> Tensor:
        generator = stream(self.seed, "view", step, view)
        return random_view(images_BHWC, self.image_size, self.augment, generator)

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

    def _second_text(self, first_B: Tensor, other_B: Tensor, step: int) -> PackedText:
        ids_BL, lengths_B = self.pairs.ids_ML[other_B], self.pairs.lengths_M[other_B]
        generator = stream(self.seed, "words", step)
        fewer_BL, fewer_B = drop_words(ids_BL, lengths_B, self.augment.drop_words, generator)
        same_B = first_B == other_B
        return pack_text(
            torch.where(same_B[:, None], fewer_BL, ids_BL), torch.where(same_B, fewer_B, lengths_B)
        )


def _samples(data: str | Sequence[str]) -> Iterator[Sample]:
    if data == "emoji":
        shards = [str(path) for path in embedded_shards()]
        return (sample for sample in read_shards(shards) if sample.meta["split"] == "train")
    return read_shards(data)


def _square(sample: Sample, size: int) -> Image.Image:
    assert sample.image is not None
    image = decode_image(sample.image, where=sample.where)
    if image.size == (size, size):
        return image
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    box = (left, top, left + side, top + side)
    return image.resize((size, size), Image.Resampling.BILINEAR, box=box)
