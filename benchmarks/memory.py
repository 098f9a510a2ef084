"""Inversion, peak memory above the resting process, measured in a fresh process for each loop and precision.

python -m benchmarks.memory --tower ViT-B-32 --loop ours --precision fp32 --batch-sizes 1 64
"""

from __future__ import annotations

import gc
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import torch

from benchmarks.tables import BenchTable, Cell
from benchmarks.towers import LOOPS, Loop, find_tower, in_precision, runner
from crossgap.command import run_command
from crossgap.errors import InputError
from crossgap.inversion.config import InversionConfig, Target
from crossgap.vocabulary import Precision

Peaks = dict[str, dict[str, float]]
_PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")
# glibc keeps freed blocks below a threshold that moves; fixed, every tensor of size goes back to the system
_ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


def memory(
    names: Sequence[str],
    *,
    batch_sizes: Sequence[int] = (),
    measure: Callable[[str, Loop, Precision, Sequence[int]], Peaks] | None = None,
    progress: Callable[[str], None],
) -> list[BenchTable]:
    """Compare the peaks of plain and ours over one step (forward, backward, update, forward).

    Args:
        names: towers.
        batch_sizes: default: those of each tower.
        measure: how one loop's peaks are found; default: :func:`peaks` in a fresh process.
    """
    return [
        _tower(name, batch_sizes or find_tower(name).memory_batches, measure or _fresh, progress)
        for name in names
    ]


def _tower(
    name: str,
    batch_sizes: Sequence[int],
    measure: Callable[[str, Loop, Precision, Sequence[int]], Peaks],
    progress: Callable[[str], None],
) -> BenchTable:
    found: dict[tuple[str, str], Peaks] = {}
    for precision in _PRECISIONS:
        for loop in LOOPS:
            progress(f"{name}, peak memory: {loop} {precision}")
            found[loop, precision] = measure(name, loop, precision, batch_sizes)
    rows: list[dict[str, Cell]] = []
    for into in get_args(Target):
        for size in batch_sizes:
            row: dict[str, Cell] = {"into": into, "batch": size}
            for precision in _PRECISIONS:
                plain, ours = (found[loop, precision][into][str(size)] for loop in LOOPS)
                row |= {
                    f"plain {precision}, MiB": plain,
                    f"ours {precision}, MiB": ours,
                    f"ours / plain {precision}": ours / plain if plain else None,
                }
            rows.append(row)
    return BenchTable(
        title=f"{name}: peak memory above the resting process",
        rows=rows,
        note="One fresh process a loop and precision; resting is after a first step at batch 1 has come and "
        "gone, so libraries do not count, and our copies of weights in bf16 do.",
    )


def _fresh(name: str, loop: Loop, precision: Precision, batch_sizes: Sequence[int]) -> Peaks:
    """Find the peaks in a process of their own."""
    given = ["--tower", name, "--loop", loop, "--precision", precision]
    found: Peaks = in_fresh_process("benchmarks.memory", *given, "--batch-sizes", *map(str, batch_sizes))
    return found


def in_fresh_process(module: str, *arguments: str) -> Any:
    """Run a module with this process's thread count; return the JSON on the last line that it prints.

    Where it fails, this process ends with the same exit code.
    """
    command = ["-m", module, "--threads", str(torch.get_num_threads()), *arguments]
    done = subprocess.run(
        [sys.executable, *command],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **_ALLOCATOR},
    )
    if done.returncode:  # it has said why
        sys.exit(done.returncode)
    return json.loads(done.stdout.splitlines()[-1])


def peaks(name: str, loop: Loop, precision: Precision, batch_sizes: Sequence[int]) -> Peaks:
    """Return direction -> batch size -> MiB above this process at rest."""
    encoder = in_precision(find_tower(name).encoder(), precision)
    for into in get_args(Target):  # what libraries load and compile once is at rest
        runner(loop, encoder, into, InversionConfig(), 1)(1)
    gc.collect()
    resting = resident()
    found: Peaks = {}
    for into in get_args(Target):
        found[into] = {}
        for size in batch_sizes:
            run = runner(loop, encoder, into, InversionConfig(), size)
            forget_peak()
            run(1)
            found[into][str(size)] = (peak() - resting) / 2**20
            gc.collect()
    return found


def main(
    *, tower: str, loop: Loop, precision: Precision, batch_sizes: tuple[int, ...], threads: int = 1
) -> None:
    """Print the peaks of one loop as JSON: direction -> batch size -> MiB above the resting process.

    Args:
        tower: one of those that are known.
        loop: plain or ours.
        precision: fp32 or bf16.
        batch_sizes: in ascending order.
        threads: CPU threads.
    """
    if not batch_sizes or min(batch_sizes) < 1:
        raise InputError(
            f"--batch-sizes must be at least 1, not {', '.join(map(str, batch_sizes)) or 'none'}"
        )
    torch.set_num_threads(threads)
    # the allocator reads its environment once, when a process starts
    measure = peaks if _ALLOCATOR.items() <= os.environ.items() else _fresh
    print(json.dumps(measure(tower, loop, precision, batch_sizes)))


def forget_peak() -> None:
    """Let the peak begin again at what is resident now, where the system can; else it is the process's."""
    path = Path("/proc/self/clear_refs")
    if path.exists():
        path.write_text("5")


def resident() -> int:
    """Return what this process holds in memory now, in bytes."""
    return _status("VmRSS") or _lifetime_peak()


def peak() -> int:
    """Return the most that this process held since :func:`forget_peak`, in bytes."""
    return _status("VmHWM") or _lifetime_peak()


def _lifetime_peak() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _status(name: str) -> int | None:
    path = Path("/proc/self/status")
    lines = path.read_text().splitlines() if path.exists() else []
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")]
    return found[0] if found else None


if __name__ == "__main__":
    sys.exit(run_command(main))
