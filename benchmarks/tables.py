"""What a benchmark found: a table for the terminal, for a page, and for other programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich import box
from rich.table import Table as RichTable

Cell = str | int | float | None


@dataclass(frozen=True, kw_only=True)
class BenchTable:
    """Rows with the same columns. ``note`` says how they were measured."""

    title: str
    rows: Sequence[dict[str, Cell]]
    note: str = ""

    def __post_init__(self) -> None:
        assert self.rows, f"{self.title}: no rows"
        assert all(list(row) == list(self.rows[0]) for row in self.rows), f"{self.title}: columns differ"

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def rich(self) -> RichTable:
        """Draw it for the terminal."""
        table = RichTable(
            title=self.title,
            caption=self.note or None,
            box=box.SIMPLE,
            pad_edge=False,
            caption_justify="left",
        )
        for name, value in self.rows[0].items():
            table.add_column(name, justify="left" if isinstance(value, str) else "right")
        for row in self.rows:
            table.add_row(*(shown(value) for value in row.values()))
        return table

    def markdown(self) -> str:
        """Write it for a page."""
        header = list(self.rows[0])
        marks = ["---" if isinstance(value, str) else "---:" for value in self.rows[0].values()]
        lines = [header, marks, *([shown(value) for value in row.values()] for row in self.rows)]
        body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        note = f"\n\n{self.note}" if self.note else ""
        return f"**{self.title}**\n\n{body}{note}\n"


def shown(value: Cell) -> str:
    """Write a cell: three digits of a float, a dash for what there is not."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.0f}" if 1000 <= abs(value) < 1e6 else f"{value:#.3g}".removesuffix(".")
    return str(value)
