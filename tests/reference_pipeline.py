"""Slow twin of the arithmetic of benchmarks.plan: batches that go through stages with bounded queues."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence


def plain_pipeline(batches: int, stages: Sequence[float], *, places: int, tick: float) -> float:
    """Let time pass tick by tick: a stage takes the next batch of its queue, waits while the next is full.

    ``places`` are those of each queue between two stages. Durations are whole multiples of ``tick``.
    """
    queues = [deque(range(batches)), *(deque[int]() for _ in stages)]
    left = [0] * len(stages)  # ticks that a stage still works; it holds a batch until the next queue takes it
    held: list[int | None] = [None] * len(stages)
    passed = 0
    while len(queues[-1]) < batches:
        for stage in reversed(range(len(stages))):
            if held[stage] is not None and left[stage] == 0:
                last = stage == len(stages) - 1
                if last or len(queues[stage + 1]) < places:
                    queues[stage + 1].append(held[stage] or 0)
                    held[stage] = None
        for stage, seconds in enumerate(stages):
            if held[stage] is None and queues[stage]:
                held[stage], left[stage] = queues[stage].popleft(), round(seconds / tick)
        if len(queues[-1]) == batches:
            break
        left = [max(0, more - 1) for more in left]
        passed += 1
    return passed * tick
