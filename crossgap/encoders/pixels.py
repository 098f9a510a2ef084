"""From pictures to pixels, ahead of the encoder: threads decode and resize while it works, or by turns.

Threads and not processes: Pillow lets others run while it decodes and resizes, which is nine tenths of the
time of an image, and threads share what is open, end at Ctrl-C, and need nothing pickled.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import Normalize, ToTensor

from crossgap.cores import own_cores

_AHEAD = 2  # batches that may be under way beside the one that is encoded
_PIECE = 4  # images that a thread takes at once

Read = Callable[[int], Image.Image]


class Preparation(Protocol):
    """What is done to each image by a thread, and to a batch of such images on the encoder's device."""

    def prepare(self, image: Image.Image) -> Tensor: ...
    def finish(self, prepared_BCHW: Tensor) -> Tensor: ...


class WholePreprocessing:
    """An encoder's own preprocessing, image by image."""

    def __init__(self, preprocess: Callable[[Sequence[Image.Image]], Tensor]) -> None:
        self._preprocess = preprocess

    def prepare(self, image: Image.Image) -> Tensor:
        """Give the pixels of an image: (C, H, W)."""
        return self._preprocess([image])[0]

    def finish(self, prepared_BCHW: Tensor) -> Tensor:
        """Leave them as they are."""
        return prepared_BCHW


class SplitPreprocessing:
    """A transform of open_clip's in two halves: Pillow's of each image, and what numbers its bytes become.

    A fourth of the memory is held and moved, and no thread that decodes starts threads of torch. On a CPU the
    second half runs on whole batches. Elsewhere division may round otherwise: there a table that the second
    half fills on the CPU gives the same bits, for a number depends on its byte and its channel alone.

    Raises:
        ValueError: the transform does not end as open_clip's do.
    """

    def __init__(self, transform: Any) -> None:
        *self._of_pillow, to_tensor, normalize = transform.transforms
        if not (isinstance(to_tensor, ToTensor) and isinstance(normalize, Normalize)):
            raise ValueError(f"no transform of open_clip's: it ends in {to_tensor} and {normalize}")
        self._normalize = Normalize(normalize.mean, normalize.std, inplace=True)
        every_byte = np.arange(256, dtype=np.uint8)[None, :, None].repeat(3, axis=2)
        self._table_CV = normalize(to_tensor(Image.fromarray(every_byte)))[:, 0]

    def prepare(self, image: Image.Image) -> Tensor:
        """Resize and crop an image: its bytes (C, H, W)."""
        for step in self._of_pillow:
            image = step(image)
        return torch.from_numpy(np.asarray(image).transpose(2, 0, 1).copy())

    def finish(self, prepared_BCHW: Tensor) -> Tensor:
        """Make numbers of bytes: pixels_BCHW, float32."""
        if prepared_BCHW.device.type == "cpu":
            return self._normalize(prepared_BCHW.to(torch.float32).div_(255))
        return self._looked_up(prepared_BCHW)

    def _looked_up(self, prepared_BCHW: Tensor) -> Tensor:
        self._table_CV = self._table_CV.to(prepared_BCHW.device)
        pixels_BCHW = torch.empty(prepared_BCHW.shape, device=prepared_BCHW.device)
        for channel, table_V in enumerate(self._table_CV):
            bytes_BHW = prepared_BCHW[:, channel]
            looked_up = table_V.index_select(0, bytes_BHW.flatten().int())
            pixels_BCHW[:, channel] = looked_up.view(bytes_BHW.shape)
        return pixels_BCHW


def pixels_ahead(
    read: Read,
    batches: Sequence[Sequence[int]],
    preprocessing: Preparation,
    *,
    device: torch.device,
    workers: int,
) -> Generator[Tensor, None, None]:
    """Yield the pixels_BCHW of each batch on ``device``; the batches after it are read meanwhile.

    At most :data:`_AHEAD` batches are under way beside the one that was yielded, however many there are; none
    where these threads fill all cores and those of an encoder on a CPU do too, for then each would wait for
    the other within every product, and taking turns is faster.

    The pixels of an image depend on nothing but the image. What ``read`` raises is raised here when its batch
    is due, of several the first in the order of the batch; then, and when the generator is closed, threads
    end with the image that they are at.
    """
    under_way: deque[list[Future[list[Tensor]]]] = deque()
    threads = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    ended = False
    fill_cores = device.type == "cpu" and min(workers, torch.get_num_threads()) >= own_cores()
    ahead = 0 if fill_cores else _AHEAD

    def prepared(indices: Sequence[int]) -> list[Tensor]:
        return [preprocessing.prepare(read(index)) for index in indices if not ended]

    def started(batch: Sequence[int]) -> list[Future[list[Tensor]]]:
        starts = range(0, len(batch), _PIECE)
        return [threads.submit(prepared, batch[start : start + _PIECE]) for start in starts]

    try:
        for number in range(len(batches)):
            while len(under_way) <= ahead and number + len(under_way) < len(batches):
                under_way.append(started(batches[number + len(under_way)]))
            images = [image for piece in under_way.popleft() for image in piece.result()]
            yield preprocessing.finish(_moved(images, device))
    finally:
        ended = True
        threads.shutdown(cancel_futures=True)


def batches_of(count: int, size: int, first: int = 0) -> list[range]:
    """Cut ``count`` places from ``first`` on into batches of ``size``; the last may be smaller."""
    return [range(start, min(start + size, first + count)) for start in range(first, first + count, size)]


def _moved(images: list[Tensor], device: torch.device) -> Tensor:
    """Stack images and move them; to CUDA from pinned memory, without waiting until they are there."""
    on_cuda = device.type == "cuda"
    shape = (len(images), *images[0].shape)
    batch = torch.stack(images, out=torch.empty(shape, dtype=images[0].dtype, pin_memory=on_cuda))
    return batch.to(device, non_blocking=on_cuda)
