"""Several processes that do one thing together: who they are, what they agree on, how they end."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.distributed as dist

from crossgap.encoders.devices import resolve_device
from crossgap.errors import InputError


class Processes(NamedTuple):
    """This process among those that torchrun started: the first of them writes files and speaks.

    ``device`` is its own, None for the one that was asked for.
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
