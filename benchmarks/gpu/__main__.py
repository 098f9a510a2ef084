"""``python -m benchmarks.gpu``: what was never run on CUDA, against the CPU and timed, in six minutes.

Models have random weights and nothing is downloaded. It ends with a table for docs/scale.md, whose column "a
second" holds rates that benchmarks.plan takes.

python -m benchmarks.gpu --markdown gpu.md
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch
from rich.console import Console

from benchmarks.gpu.budget import MeasuredPart, table, within
from benchmarks.gpu.parts import QUICK, WHOLE, Bench, parts_of
from benchmarks.machine import description
from benchmarks.retrieval import WIDTH
from benchmarks.tables import shown
from crossgap.command import run_command
from crossgap.encoders.devices import resolve_device
from crossgap.errors import InputError
from crossgap.files import write_json, write_text


def main(
    *,
    device: str = "cuda",
    minutes: float = 6.0,
    quick: bool = False,
    out: Path | None = None,
    markdown: Path | None = None,
) -> int:
    """Compare what was never run on a CUDA device with the CPU's values, time it, and print a table.

    Exit code 1: something failed, and the table's note says what.

    Args:
        device: cuda, cuda:1, ...; cpu only together with --quick.
        minutes: that it may take; what does not fit is named.
        quick: the same path in its smallest form.
        out: a JSON file for machine and rows.
        markdown: a file for the table, for docs/scale.md.
    """
    if device != "cpu" and not torch.cuda.is_available():
        raise InputError(
            f"--device {device}: this machine has no CUDA device that torch can use, so there is nothing to "
            "measure; --device cpu --quick walks the same path in its smallest form"
        )
    if device == "cpu" and not quick:
        raise InputError("--device cpu compares the CPU with itself: add --quick to see whether all runs")
    if not 0 < minutes < float("inf"):
        raise InputError(f"--minutes must be above 0, not {minutes}")
    target = resolve_device(device)
    console = Console(width=None if sys.stdout.isatty() else 200)
    name = torch.cuda.get_device_name(target) if target.type == "cuda" else "CPU"
    machine = {"device": name, **description()}
    console.print(", ".join(machine.values()), markup=False, highlight=False)
    left_out: list[str] = []
    failed: list[str] = []
    measured: list[MeasuredPart] = []
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(device=target, size=QUICK if quick else WHOLE, scratch=Path(scratch))
        parts = parts_of(bench)
        for found in within(60 * minutes, parts, left_out=left_out, failed=failed):
            measured.append(found)
            said = f"{found.part}: {found.name}, {shown(found.row.seconds)} s {found.row.agrees}"
            console.print(said, markup=False, highlight=False)
    if not measured:
        raise InputError(
            f"--minutes {minutes}: nothing fits into it; the first measurement takes half a minute"
        )
    where = f"{', '.join(machine.values())}. {bench.size.tower}, features of {WIDTH} numbers in retrieval."
    page = table(measured, parts, left_out, failed, where)
    if out is not None:
        write_json(out, {"machine": machine, "left out": left_out, "failed": failed, "table": page.as_json()})
    if markdown is not None:
        write_text(markdown, page.markdown())
    console.print(page.markdown(), markup=False, highlight=False, soft_wrap=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(run_command(main))
