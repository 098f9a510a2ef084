"""The machine: what it is, how fast it multiplies matrices, and how to time on one that is not quiet."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn import functional as F

from crossgap.provenance import commit, versions

# Distinct weights per product, as a tower has layers: one alone would stay in the processor's cache.
_LAYERS = 12


@dataclass(frozen=True)
class Timing:
    """Seconds of one thing measured several times, in the order of the rounds."""

    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    def over(self, other: Timing) -> float:
        """Median over the rounds of both of self / other: what they met in the same round cancels."""
        return statistics.median(self.ratios(other))

    def ratios(self, other: Timing) -> list[float]:
        """Return self / other for each round of both."""
        return [a / b for a, b in zip(self.rounds, other.rounds, strict=False)]

    def columns(self, unit: str = "s") -> dict[str, float]:
        """Return median, least and most as columns of a table."""
        return {unit: self.median, "min": min(self.rounds), "max": max(self.rounds)}


class Clock:
    """Adds up what functions take, each without what those within it take.

    Args:
        now: seconds by the clock, or of the processor.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self.spent: dict[str, float] = {}
        self._now = now
        self._within = [0.0]

    @contextmanager
    def of(self, owner: Any, name: str, part: str) -> Iterator[None]:
        """Time a function of a class or module while the context is open; a generator is run to its end."""
        original = getattr(owner, name)

        def timed(*args: Any, **options: Any) -> Any:
            start = self._now()
            self._within.append(0.0)
            result = original(*args, **options)
            if isinstance(result, Generator):
                result = iter(list(result))
            whole = self._now() - start
            self.spent[part] = self.spent.get(part, 0.0) + whole - self._within.pop()
            self._within[-1] += whole
            return result

        with patch.object(owner, name, timed):
            yield


def description() -> dict[str, str]:
    """Name the processor, its cores and memory, and the versions that matter."""
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "memory": _memory(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": versions(),
        "commit": commit(),
    }


def interleave(
    runs: Mapping[str, Callable[[], float]],
    rounds: int,
    *,
    once: Collection[str] = (),
    progress: Callable[[str], None] = lambda _name: None,
) -> dict[str, Timing]:
    """Measure each run once a round, A B A B: drift of the machine meets all of them alike.

    Runs named in ``once`` are measured in the first round alone.
    """
    found: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds):
        for name, run in runs.items():
            if number == 0 or name not in once:
                progress(name)
                found[name].append(run())
    return {name: Timing(tuple(values)) for name, values in found.items()}


def seconds(run: Callable[[], object]) -> float:
    """Time one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def multiply_rate(rows: int, width: int, dtype: torch.dtype, *, least: float = 0.5) -> float:
    """Measure FLOP/s of the four products of a transformer block, forward and backward.

    Products: rows (R, W) by (W, 3W), (W, W), (W, 4W) and (R, 4W) by (4W, W), then the gradients of each with
    respect to its rows. FLOPs: 2 directions x 2 x R x 12 W^2. The fastest of the passes in ``least`` seconds,
    or of five if they take less than ten times as long, after one that is not counted.
    """
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(dtype)

    sizes = ((3 * width, width), (width, width), (4 * width, width), (width, 4 * width))
    inward = {size: random(rows, size) for size in (width, 4 * width)}
    outward = {size: random(rows, size) for size in (width, 3 * width, 4 * width)}
    layers = [[random(*size) for size in sizes] for _ in range(_LAYERS)]

    def multiply() -> None:
        for weights in layers:
            for weight in weights:
                F.linear(inward[weight.shape[1]], weight)
                outward[weight.shape[0]] @ weight

    multiply()
    times = [seconds(multiply)]
    while sum(times) < least or (len(times) < 5 and sum(times) < 10 * least):
        times.append(seconds(multiply))
    return _LAYERS * 2 * 2 * rows * 12 * width**2 / min(times)


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


def _memory() -> str:
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return "unknown"
    return f"{total / 2**30:.0f} GiB"
