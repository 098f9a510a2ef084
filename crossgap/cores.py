"""How many processor cores this process may use. Imports no torch."""

from __future__ import annotations

import os


def own_cores() -> int:
    """Count the cores that this process may run on; those that torchrun starts on one machine share them."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, here // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
