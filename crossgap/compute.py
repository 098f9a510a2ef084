"""With what a command computes, beside its device: nothing here is a question of what is measured."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch

from crossgap.errors import InputError

# Python itself takes a tenth of the time that an image needs: more threads than this wait for each other
_MOST_WORKERS = 16


@dataclass(frozen=True, kw_only=True)
class Compute:
    """How items are encoded: ``workers`` threads decode images ahead; None: :func:`default_workers`.

    Raises:
        InputError: less than one of them.
    """

    workers: int | None = None

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise InputError(f"--workers must be at least 1, not {self.workers}")

    def workers_for(self, device: torch.device) -> int:
        """Give the threads that decode for an encoder on a device."""
        return default_workers(device) if self.workers is None else self.workers


DEFAULT = Compute()


def default_workers(device: torch.device) -> int:
    """Choose how many threads decode for an encoder on a device, from the cores of this process.

    Beside an encoder on a CPU as many as it has threads itself: the slower of the two keeps the cores busy
    while the other waits. Beside a GPU all cores but the one that feeds it. torchrun's processes on one
    machine share its cores.
    """
    here = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    cores = len(here) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    wanted = torch.get_num_threads() if device.type == "cpu" else cores - 1
    return max(1, min(wanted, cores, _MOST_WORKERS))
