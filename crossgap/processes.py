"""Several processes that do one thing together: who they are, what they agree on, how they end."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

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

    def told(self, flag: bool) -> bool:
        """Tell what the first process sees, so that all go the same way where files come and go."""
        return self.any(flag and self.first)

    def whole(self, own: Tensor) -> Tensor:
        """Put together what each process wrote into its rows of zeros; all hold it then, to the bit.

        Shape: any, of 32 or 64 bits, the same in all processes and on the CPU; changed in place.
        """
        if self.size > 1:
            bits = own.view(torch.int64 if own.element_size() == 8 else torch.int32)
            dist.all_reduce(bits)  # of a bit that is set nowhere else; a sum of numbers would lose -0
        return own

    @contextmanager
    def alike(self) -> Iterator[None]:
        """Leave a block in all processes alike: where some raise an InputError, all raise that of the first.

        Unlike :meth:`together` for blocks whose error may be caught, and stands in what is written.
        """
        refused: InputError | None = None
        try:
            yield
        except InputError as error:
            if self.size == 1:
                raise
            refused = error
        if not self.any(refused is not None):
            return
        message = str(refused).encode() if refused is not None else b""
        who = torch.tensor(self.size if refused is None else self.rank)
        dist.all_reduce(who, dist.ReduceOp.MIN)
        length = torch.tensor(len(message))
        dist.broadcast(length, int(who))
        text = torch.zeros(int(length), dtype=torch.uint8)
        if self.rank == int(who):
            text = torch.frombuffer(bytearray(message), dtype=torch.uint8)
        dist.broadcast(text, int(who))
        raise InputError(bytes(text.tolist()).decode()) from refused

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
        if not self.agree(value):
            raise InputError(message)

    def agree(self, value: str) -> bool:
        """Tell, in all processes alike, whether all of them hold the same value."""
        if self.size == 1:
            return True
        number = int.from_bytes(hashlib.sha256(value.encode()).digest()[:7], "big")
        bounds = torch.tensor([number, -number])
        dist.all_reduce(bounds, dist.ReduceOp.MAX)
        return int(bounds.sum()) == 0


ALONE = Processes()
# between two moments in which processes that share items meet, each may have long to do
PATIENCE = timedelta(days=7)


@contextmanager
def joined(device: str, *, patience: timedelta | None = None) -> Iterator[Processes]:
    """Join the processes that ``torchrun`` started: CUDA tensors go by NCCL, all others by gloo.

    Without torchrun there is one process. Where ``device`` is ``auto`` or ``cuda`` and there is CUDA, each
    process gets the device of its local rank. ``patience`` is how long one waits for the others, by default
    as long as torch does: half an hour. One that died is not waited for, as torchrun ends the others.
    """
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        yield ALONE
        return
    on_cuda = resolve_device(device).type == "cuda"
    own = f"cuda:{os.environ['LOCAL_RANK']}" if on_cuda and device in ("auto", "cuda") else None
    if own is not None:
        torch.cuda.set_device(own)
    dist.init_process_group("cpu:gloo,cuda:nccl" if on_cuda else "gloo", timeout=patience)
    try:
        yield Processes(dist.get_rank(), dist.get_world_size(), own)
    finally:
        dist.destroy_process_group()
