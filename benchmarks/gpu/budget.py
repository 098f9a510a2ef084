"""Measurements within a time that they must not pass: parts in their order, each with a share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from benchmarks.tables import BenchTable, Cell


class BudgetRow(NamedTuple):
    """What was measured.

    Args:
        agrees: how far it is from the CPU's values, in words; "" where nothing is compared.
        seconds: of the work.
        amount: of work, in the part's unit.
        peak: the most of the device's memory, in MiB; None on a CPU.
        same_work: whether a unit of it costs what it does in the part's other rows.
    """

    agrees: str
    seconds: float
    amount: float
    peak: float | None
    same_work: bool = True


class Step(NamedTuple):
    """A measurement, and the seconds that it may take as far as is known."""

    name: str
    expected: float
    measure: Callable[[], BudgetRow]
    part: str = ""  # whose CPU it is compared with, where that is another part


class Part(NamedTuple):
    """Measurements of one kind, the first of them on the CPU; their share of the time; what is counted."""

    share: float
    unit: str
    steps: Callable[[], Iterator[Step]]


class MeasuredPart(NamedTuple):
    """A row with its part and name."""

    part: str
    name: str
    row: BudgetRow


def within(
    seconds: float,
    parts: Mapping[str, Part],
    *,
    left_out: list[str],
    failed: list[str],
    now: Callable[[], float] = time.perf_counter,
) -> Iterator[MeasuredPart]:
    """Measure part by part, each in its share of the time and in what those before it left.

    A step begins where the seconds that it may take are still there; else it is named in ``left_out``. One
    that fails is named in ``failed`` with its reason, for a machine with a GPU is not always at hand, and
    what can be measured is. Without the CPU's values the rest of a part is left out.
    """
    began, end = now(), 0.0
    compared: set[str] = set()  # parts whose CPU's values are known
    for part_name, part in parts.items():
        end += part.share * seconds
        if now() - began >= end:
            left_out.append(f"{part_name}: all of it")
            continue
        try:
            for step in part.steps():
                of, what = step.part or part_name, f"{part_name}: {step.name}"
                if now() - began + step.expected > end or not (of in compared or step.name == "CPU"):
                    left_out.append(what)
                    continue
                try:
                    row = step.measure()
                except Exception as error:
                    failed.append(f"{what} ({type(error).__name__}: {error})")
                    continue
                compared.add(of)
                yield MeasuredPart(of, step.name, row)
        except Exception as error:
            failed.append(f"{part_name}: what it needs ({type(error).__name__}: {error})")


def table(
    measured: Sequence[MeasuredPart],
    parts: Mapping[str, Part],
    left_out: Sequence[str],
    failed: Sequence[str],
    where: str,
) -> BenchTable:
    """Write the rows for a page; ``x CPU`` is what is done a second over what the CPU does."""
    reference = {found.part: found.row for found in measured if found.name == "CPU"}
    rows: list[dict[str, Cell]] = []
    for part, name, row in measured:
        rate, cpu = row.amount / row.seconds, reference[part]
        rows.append(
            {
                "part": part,
                "what": name,
                "agrees with the CPU within": row.agrees or "–",
                "s": row.seconds,
                "a second": rate,
                "unit": parts[part].unit,
                "x CPU": rate / (cpu.amount / cpu.seconds) if row.same_work else None,
                "peak, MiB": row.peak,
            }
        )
    note = where + "".join(
        f" {what}: {'; '.join(names)}."
        for what, names in (("Left out", left_out), ("Failed", failed))
        if names
    )
    return BenchTable(title="On a device against the CPU, random weights", rows=rows, note=note)
