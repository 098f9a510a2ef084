"""Training in several processes: rows are gathered before the loss, gradients averaged after it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from crossgap.encoders.devices import resolve_device
from crossgap.errors import InputError
from pretrain.terms.views import Views


class Processes(NamedTuple):
    """This process among those that train one model: the first of them writes files and speaks.

    ``device`` is its own, None for that of the config.
    """

    rank: int = 0
    size: int = 1
    device: str | None = None

    @property
    def first(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    def share(self, rows: int) -> slice:
        """Give the rows of a batch that are this process's: equal parts, in the order of the ranks."""
        own = rows // self.size
        return slice(self.rank * own, (self.rank + 1) * own)

    def wait(self) -> None:
        """Wait until all processes are here."""
        self.any(False)

    def any(self, flag: bool) -> bool:
        """Tell whether the flag is set in any process. It goes by gloo: no device is waited for."""
        if self.size == 1:
            return flag
        flags = torch.tensor(int(flag))
        dist.all_reduce(flags, dist.ReduceOp.MAX)
        return bool(flags)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Leave a block in all processes alike: where one raises an InputError, all do, and none waits.

        Raises:
            InputError: this process's own, or one that says that another's was refused.
        """
        try:
            yield
        except InputError:
            self.any(True)
            raise
        if self.any(False):
            raise InputError(
                f"process {self.rank} ends because another one of the {self.size} was refused; "
                "its message says why"
            )

    def check_same(self, value: str, message: str) -> None:
        """Refuse to go on where processes hold different values.

        Raises:
            InputError: with the message, in all of them.
        """
        if self.size == 1:
            return
        number = int.from_bytes(hashlib.sha256(value.encode()).digest()[:7], "big")
        bounds = torch.tensor([number, -number])
        dist.all_reduce(bounds, dist.ReduceOp.MAX)
        if int(bounds.sum()) != 0:
            raise InputError(message)


ALONE = Processes()


@contextmanager
def joined(device: str) -> Iterator[Processes]:
    """Join the processes that ``torchrun`` started: CUDA tensors go by NCCL, all others by gloo.

    Without torchrun there is one process. Where ``device`` is ``auto`` or ``cuda`` and there is CUDA, each
    process gets the device of its local rank.
    """
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        yield ALONE
        return
    on_cuda = resolve_device(device).type == "cuda"
    own = f"cuda:{os.environ['LOCAL_RANK']}" if on_cuda and device in ("auto", "cuda") else None
    if own is not None:
        torch.cuda.set_device(own)
    dist.init_process_group("cpu:gloo,cuda:nccl" if on_cuda else "gloo")
    try:
        yield Processes(dist.get_rank(), dist.get_world_size(), own)
    finally:
        dist.destroy_process_group()


def check_shares(batch_size: int, accumulate: int, processes: Processes) -> None:
    """Refuse a batch that cannot be cut into equal parts for all processes.

    Raises:
        InputError: names batch, processes and parts.
    """
    if batch_size % (processes.size * accumulate):
        raise InputError(
            f"batch_size={batch_size}: cannot be cut into equal parts for {processes.size} processes x "
            f"accumulate={accumulate}; --batch-size is that of all processes together"
        )


def gather_views(views: Views) -> Views:
    """Put the rows of all processes together, in the order of their ranks, on each of them.

    Every process then computes the loss of the whole batch, and the gradient of a row is the sum over
    processes: with :func:`average` of the gradients after it, each parameter gets what one process with the
    whole batch would give it, be it a tower's or a term's own. All processes must hold equally many rows.
    """
    return {name: _Gathered.apply(rows) for name, rows in views.items()}


@torch.no_grad()
def average(gradients: Sequence[Tensor]) -> None:
    """Replace each gradient by its mean over the processes, which hold the same list."""
    together = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(together)
    together /= dist.get_world_size()
    parts = together.split([gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        gradient = gradients[0].contiguous()
        dist.all_reduce(gradient)
        return gradient.chunk(dist.get_world_size())[dist.get_rank()]
