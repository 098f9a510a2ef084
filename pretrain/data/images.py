"""Images of a training: decoded once into memory, or read from their shards ahead of the step."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from crossgap.datasets.bad import BadSamples
from crossgap.datasets.readers.image_formats import decode_image
from crossgap.datasets.readers.shards import ShardSample, scan_shard
from crossgap.datasets.readers.stored import StoredImage, read_bytes
from crossgap.errors import InputError

_PIECE = 16  # images that a thread decodes at a time
_Decoded = Tensor | InputError


def square(data: bytes, size: int, *, where: str) -> Image.Image:
    """Decode an image; one of another size is resized by its shorter side and cropped in the middle.

    Raises:
        InputError: it cannot be decoded; names ``where``.
    """
    image = decode_image(data, where=where)
    if image.size == (size, size):
        return image
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    box = (left, top, left + side, top + side)
    return image.resize((size, size), Image.Resampling.BILINEAR, box=box)


def pixels_of(image: Image.Image) -> Tensor:
    """Give the pixels of an RGB image, uint8 (H, W, 3)."""
    return torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(image.height, image.width, 3)


class ImagesInMemory:
    """N decoded images, uint8 (N, S, S, 3), on some device."""

    def __init__(self, pixels_NHWC: Tensor) -> None:
        self.pixels_NHWC = pixels_NHWC

    def __len__(self) -> int:
        return len(self.pixels_NHWC)

    def to(self, device: torch.device) -> ImagesInMemory:
        """Move them to a device."""
        return ImagesInMemory(self.pixels_NHWC.to(device))

    def rows(self, indices_B: Tensor, following_B: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the indices and their images, (B, S, S, 3)."""
        return indices_B, self.pixels_NHWC[indices_B.to(self.pixels_NHWC.device)]


class ImagesInShards:
    """N images that stay in their shards, of which a byte offset and a size are kept.

    Threads decode the images of the following step while the model works on this one; how many there are
    changes nothing. An image that cannot be decoded is counted by ``bad``, and the sample after it is drawn
    in its place.
    """

    def __init__(
        self, shards: Sequence[str], shard_N: Tensor, start_N: Tensor, bytes_N: Tensor, *,
        image_size: int, workers: int, bad: BadSamples, device: torch.device | None = None,
    ) -> None:  # fmt: skip
        self._shards = shards
        self._places = (shard_N, start_N, bytes_N)
        self._size = image_size
        self._bad = bad
        self._bad_indices: set[int] = set()
        self._device = device or torch.device("cpu")
        self._workers = max(1, workers)
        self._threads = ThreadPoolExecutor(self._workers, thread_name_prefix="decode")
        self._ahead: dict[tuple[int, ...], list[Future[list[_Decoded]]]] = {}

    def __len__(self) -> int:
        return len(self._places[0])

    def to(self, device: torch.device) -> ImagesInShards:
        """Give images that arrive on a device."""
        return ImagesInShards(
            self._shards, *self._places, image_size=self._size, workers=self._workers, bad=self._bad,
            device=device,
        )  # fmt: skip

    def rows(self, indices_B: Tensor, following_B: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Read images, (B, S, S, 3), and return them after the indices of the samples that they are of.

        Args:
            indices_B: those wanted.
            following_B: those that will be wanted next; their decoding starts.

        Raises:
            InputError: more bad images than are tolerated.
        """
        wanted = tuple(indices_B.tolist())
        pieces = self._ahead.pop(wanted, None) or self._start(wanted)
        self._ahead.clear()
        if following_B is not None:
            following = tuple(following_B.tolist())
            self._ahead[following] = self._start(following)
        decoded = [image for piece in pieces for image in piece.result()]
        kept, images = [], []
        for index, image in zip(wanted, decoded, strict=True):
            place = index
            while isinstance(image, InputError):
                if place not in self._bad_indices:
                    self._bad_indices.add(place)
                    self._bad.add(self._shards[int(self._places[0][place])], self._named(place, image))
                place = (place + 1) % len(self)
                if place == index:
                    raise InputError("no image of the data can be decoded") from image
                image = self._decode(place)
            kept.append(place)
            images.append(image)
        return torch.tensor(kept), torch.stack(images).to(self._device)

    def _start(self, indices: tuple[int, ...]) -> list[Future[list[_Decoded]]]:
        return [
            self._threads.submit(
                lambda piece: [self._decode(index) for index in piece], indices[k : k + _PIECE]
            )
            for k in range(0, len(indices), _PIECE)
        ]

    def _decode(self, index: int) -> _Decoded:
        stored = self._stored(index)
        try:
            where = f"{stored.path}, the image at byte {stored.start}"
            return pixels_of(square(read_bytes(stored), self._size, where=where))
        except InputError as error:
            return error

    def _stored(self, index: int) -> StoredImage:
        shard, start, size = (int(part[index]) for part in self._places)
        return StoredImage(Path(self._shards[shard]), start, size)

    def _named(self, index: int, error: InputError) -> InputError:
        """Say which sample it was: keys are not kept, so the shard is looked through again."""
        stored = self._stored(index)
        for sample in scan_shard(str(stored.path), need=()):
            if isinstance(sample, ShardSample) and sample.place == stored:
                return InputError(f"sample {sample.key!r}: {error}")
        return error
