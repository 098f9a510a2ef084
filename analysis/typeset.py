"""Numbers as text, and tables as Markdown and LaTeX."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

ABSENT = "–"
MINUS = "−"


@dataclass(frozen=True)
class Cell:
    """One cell: what to read, and what bounds or explains it in smaller type."""

    text: str
    detail: str = ""


@dataclass(frozen=True)
class Table:
    """A table for readers. A row whose first cell is empty belongs to the row above it.

    ``text_columns`` counts the leading columns that hold words; the rest are numbers and align right.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    text_columns: int = 1


def number(value: float | None, digits: int = 3, *, signed: bool = False) -> str:
    """Write a number with a fixed count of digits and a true minus sign; a dash when there is none."""
    if value is None or math.isnan(value):
        return ABSENT
    text = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
    if not text.strip("+-0."):
        text = text.lstrip("+-")  # no sign on a rounded zero
    return text.replace("-", MINUS)


def points(fraction: float | None, digits: int = 1, *, signed: bool = False) -> str:
    """Write a fraction as percentage points."""
    return number(None if fraction is None else 100 * fraction, digits, signed=signed)


def interval(low: float, high: float, digits: int = 3) -> str:
    """Write ``[low, high]``; empty when there is none."""
    if math.isnan(low) or math.isnan(high):
        return ""
    return f"[{number(low, digits)}, {number(high, digits)}]"


def points_interval(low: float, high: float, digits: int = 1) -> str:
    """Write an interval of fractions in percentage points."""
    return interval(100 * low, 100 * high, digits)


def joined(names: Sequence[str]) -> str:
    """List names in a sentence: a, b and c."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


def counted(count: int, noun: str, plural: str = "") -> str:
    """Write a count with its noun: 1 seed, 2 seeds."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def markdown(tables: Sequence[Table]) -> str:
    """Write tables as Markdown pipe tables under headings."""
    parts = []
    for table in tables:
        aligned = ["---" if place < table.text_columns else "---:" for place in range(len(table.columns))]
        lines = [f"## {_markdown(table.title)}", "", _pipe([_markdown(name) for name in table.columns])]
        lines.append(_pipe(aligned))
        lines += [_pipe([_markdown(_flat(cell)) for cell in row]) for row in table.rows]
        if table.note:
            lines += ["", _markdown(table.note)]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def latex(tables: Sequence[Table]) -> str:
    """Write tables as LaTeX ``table`` environments that need no package."""
    parts = []
    for table in tables:
        alignment = "".join("l" if place < table.text_columns else "r" for place in range(len(table.columns)))
        lines = [
            r"\begin{table}",
            rf"\caption{{{_latex(table.title)}}}",
            rf"\begin{{tabular}}{{{alignment}}}",
            r"\hline",
            " & ".join(_latex(name) for name in table.columns) + r" \\",
            r"\hline",
            *(" & ".join(_latex(_flat(cell)) for cell in row) + r" \\" for row in table.rows),
            r"\hline",
            r"\end{tabular}",
            *([rf"\par {_latex(table.note)}"] if table.note else []),
            r"\end{table}",
        ]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _flat(cell: Cell) -> str:
    return " ".join(f"{cell.text} {cell.detail}".split())


def _pipe(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _markdown(text: str) -> str:
    for character in "\\`*_|[]#":
        text = text.replace(character, "\\" + character)
    return " ".join(text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").split())


_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    MINUS: "$-$",
    ABSENT: "--",
    "±": r"$\pm$",
    "×": r"$\times$",
    "→": r"$\rightarrow$",
    "τ": r"$\tau$",
}


def _latex(text: str) -> str:
    return " ".join("".join(_LATEX.get(character, character) for character in text).split())
