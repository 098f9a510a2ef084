"""Which device computes."""

from __future__ import annotations

import torch

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
