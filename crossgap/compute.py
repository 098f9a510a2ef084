"""With what a command computes, beside its device: threads that decode, items side by side."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch

from crossgap.cores import own_cores
from crossgap.errors import InputError
from crossgap.processes import ALONE, Processes

# Python itself takes a tenth of the time that an image needs: more threads than this wait for each other
_MOST_WORKERS = 16


class Side(NamedTuple):
    """Items side by side by default: ``least`` on a CPU, and on CUDA so many for each ``gib`` of memory."""

    least: int
    gib: int


# Another number changes the last bits of what is made: Adam makes more of them.
ENCODED, INVERTED = Side(256, 16), Side(64, 32)


@dataclass(frozen=True, kw_only=True)
class Compute:
    """How items are encoded and inverted.

    Args:
        workers: threads that decode images ahead; None: :func:`default_workers`.
        batch_size: items side by side; None: :func:`default_batch_size`.
        processes: those that share the items.

    Raises:
        InputError: less than one of them.
    """

    workers: int | None = None
    batch_size: int | None = None
    processes: Processes = ALONE

    def __post_init__(self) -> None:
        for option, count in (("--workers", self.workers), ("--batch-size", self.batch_size)):
            if count is not None and count < 1:
                raise InputError(f"{option} must be at least 1, not {count}")

    def encoded_at_once(self, device: torch.device) -> int:
        """Give the items that a device encodes side by side."""
        return default_batch_size(device, ENCODED) if self.batch_size is None else self.batch_size

    def inverted_at_once(self, device: torch.device) -> int:
        """Give the items that a device inverts side by side, each under as many settings as are compared."""
        return default_batch_size(device, INVERTED) if self.batch_size is None else self.batch_size

    def settings(self, device: torch.device) -> dict[str, object]:
        """Say what the bits of results depend on, for comparison with another run.

        Of processes that have a device each it is the first one's; threads matter on a CPU alone.
        """
        name = str(device) if self.processes.device is None else f"{device.type}:0"
        return {"device": name, "threads": torch.get_num_threads() if device.type == "cpu" else None}

    def workers_for(self, device: torch.device) -> int:
        """Give the threads that decode for an encoder on a device."""
        return default_workers(device) if self.workers is None else self.workers


DEFAULT = Compute()


def default_workers(device: torch.device) -> int:
    """Choose how many threads decode for an encoder on a device, from the cores of this process.

    Beside an encoder on a CPU as many as it has threads itself; where both fill the cores they take turns
    (:func:`crossgap.encoders.pixels.pixels_ahead`). Beside a GPU all cores but the one that feeds it.
    torchrun's processes on one machine share its cores.
    """
    cores = own_cores()
    wanted = torch.get_num_threads() if device.type == "cpu" else cores - 1
    return max(1, min(wanted, cores, _MOST_WORKERS))


def default_batch_size(device: torch.device, side: Side) -> int:
    """Choose how many items a device works on side by side: the least, doubled as its memory grows."""
    if device.type != "cuda":
        return side.least
    gib = torch.cuda.get_device_properties(device).total_memory / 2**30
    return int(side.least * 2 ** max(0, math.floor(math.log2(gib / side.gib))))
