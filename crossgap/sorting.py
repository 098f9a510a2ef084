"""Sorting bare numbers: numpy's sort of them is many times torch's on a CPU."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor


def sort_rows(values_BN: Tensor) -> Tensor:
    """Return rows in ascending order; a tensor on the CPU is sorted in place."""
    if values_BN.device.type != "cpu":
        return values_BN.sort(dim=1).values
    array = values_BN.numpy()
    threads = min(torch.get_num_threads(), len(array))
    if threads < 2:
        array.sort(axis=1)
        return values_BN
    parts = [array[first::threads] for first in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(lambda part: part.sort(axis=1), parts):
            pass
    return values_BN
