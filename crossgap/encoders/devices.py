"""Which device computes."""

from __future__ import annotations

import time

import torch
from torch.nn import functional as F

from crossgap.errors import InputError


def resolve_device(device: str) -> torch.device:
    """Return the device of that name; ``auto`` is CUDA, then Apple's MPS, then the CPU.

    Raises:
        InputError: no such device, or this machine, or this build of torch, has none of its kind or number.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        resolved = torch.device(device)
        if resolved.type == "meta":  # it holds no values
            raise RuntimeError("no values")
    except RuntimeError as error:
        raise InputError(f"unknown device {device!r}; use auto, cpu, cuda, cuda:0 or mps") from error
    if not _is_there(resolved):
        kind = "CUDA" if resolved.type == "cuda" else resolved.type
        count = torch.cuda.device_count() if resolved.type == "cuda" else 0
        has = f"has {count} CUDA devices, numbered from 0" if count else f"has no {kind} device"
        raise InputError(
            f"device {device!r} was asked for, but this machine {has} that torch can use; use cpu or auto"
        )
    return resolved


def _is_there(device: torch.device) -> bool:
    if device.type == "cuda":  # asked without touching it: a process that did cannot be forked
        return torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count()
    try:
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError, ImportError):
        return False  # each kind of device says in its own way that there is none
    return True


def time_of_bf16(device: torch.device) -> float:
    """Time a product of a small tower in bf16 over the same in fp32, within about a tenth of a second.

    A CPU without tiles or instructions for bf16 needs several times as long, one with them a fraction.

    Unit: ratio. Range: (0, inf); below 1 bf16 is faster.
    """
    rows, width = (8192, 1024) if device.type == "cuda" else (1024, 256)
    least = {}
    for dtype in (torch.float32, torch.bfloat16):
        x_BD = torch.ones(rows, width, device=device, dtype=dtype)
        weight_WD = torch.ones(width, width, device=device, dtype=dtype)
        F.linear(x_BD, weight_WD)
        spent: list[float] = []
        while len(spent) < 2 or sum(spent) < 0.04:
            start = time.perf_counter()
            F.linear(x_BD, weight_WD)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            spent.append(time.perf_counter() - start)
        least[dtype] = min(spent)
    return least[torch.bfloat16] / least[torch.float32]


def use_threads(count: int | None) -> int:
    """Let torch use ``count`` CPU threads, or as many as it chooses, and return the number.

    Raises:
        InputError: less than one.
    """
    if count is not None:
        if count < 1:
            raise InputError(f"--threads must be at least 1, not {count}")
        torch.set_num_threads(count)
    return torch.get_num_threads()
