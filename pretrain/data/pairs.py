"""Image-text pairs that can be indexed, and batches; step and seed alone decide a batch of such pairs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from crossgap.datasets.bad import BadSamples
from crossgap.datasets.emoji import embedded_shards
from crossgap.datasets.readers.packed import is_plain_file
from crossgap.datasets.readers.shards import ShardSample, expand_shards, read_shards
from crossgap.datasets.scenes.options import is_scenes
from crossgap.errors import InputError
from pretrain.data.images import ImagesInMemory, ImagesInShards, square
from pretrain.data.shards import manifest_shards
from pretrain.data.tokens import Tokens, clip_tokens


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
    tokens: Tokens | None = None,
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
        tokens: what makes captions token ids; by default CLIP's tokenizer.

    Raises:
        InputError: no pair, shards whose images cannot stay there, more bad samples than ``bad`` tolerates,
        or what :func:`crossgap.datasets.readers.shards.read_shards` refuses.
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
        tokens=tokens,
    )


def pairs_of(
    images: ImagesInMemory | ImagesInShards,
    captions: Sequence[Sequence[str]],
    concepts: Sequence[str | None],
    *,
    context_length: int,
    digest: str,
    tokens: Tokens | None = None,
) -> TrainingPairs:
    """Put images and what is said of each together, and tokenise each caption once."""
    tokens = tokens or clip_tokens(context_length)
    told = [caption for of_image in captions for caption in of_image]
    distinct = sorted(set(told))
    place = {caption: index for index, caption in enumerate(distinct)}
    ids_ML, lengths_M = tokens(distinct)
    if tokens.vocabulary is None:
        vocabulary_V, indices_ML = ids_ML.unique(return_inverse=True)
    else:
        vocabulary_V, indices_ML = torch.arange(tokens.vocabulary), ids_ML
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


def _numbered(names: Sequence[str | None]) -> Tensor | None:
    named = [name for name in names if name is not None]
    if len(named) < len(names):
        return None
    place = {name: number for number, name in enumerate(dict.fromkeys(named))}
    return torch.tensor([place[name] for name in named])


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


def _samples(data: str | Sequence[str], bad: BadSamples, whole_texts: bool) -> Iterator[ShardSample]:
    if data == "emoji":
        return (sample for sample in read_shards(shards_of(data)) if sample.meta["split"] == "train")
    return read_shards(shards_of(data), bad=bad.add, whole_texts=whole_texts)


class _Decoded:
    """Collects decoded images."""

    def __init__(self, image_size: int) -> None:
        self._size = image_size
        self._pixels = bytearray()

    def add(self, sample: ShardSample) -> None:
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

    def add(self, sample: ShardSample) -> None:
        assert sample.image is not None
        if not self._shards or self._shards[-1] != sample.shard:
            self._shards.append(sample.shard)
        assert sample.place is not None
        self._rows.append((len(self._shards) - 1, sample.place.start, len(sample.image)))
        self.digest.update(sample.image)

    def done(self, image_size: int, workers: int, bad: BadSamples) -> ImagesInShards:
        columns = torch.tensor(self._rows).unbind(1)
        return ImagesInShards(self._shards, *columns, image_size=image_size, workers=workers, bad=bad)
