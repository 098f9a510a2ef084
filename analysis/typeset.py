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


def p_value(p: float) -> str:
    """Write a p value; none smaller than .001 is told apart from it."""
    return "< .001" if p < 0.001 else number(p, 3).removeprefix("0")


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
    """Write tables as LaTeX ``table`` environments; the first lines name the packages they need.

    Long words are broken into lines, and a table that is too wide still is scaled down to the line. A little
    space parts the groups of rows.
    """
    return "\n".join([_PREAMBLE, *(_latex_table(table) for table in tables)])


def _latex_table(table: Table) -> str:
    texts = [[_flat(cell) for cell in row] for row in table.rows]
    widths = [max(map(len, column)) for column in zip(table.columns, *texts, strict=True)]
    words = widths[: table.text_columns]
    alignment = "".join("l" if width <= _LONG else r"p{0.4\linewidth}" for width in words)
    alignment += "r" * (len(widths) - len(words))
    scaled = sum(min(width, _LONG) for width in words) + sum(widths[len(words) :]) + 2 * len(widths) > _LINE
    grouped = any(not row[0].text for row in table.rows)
    body = []
    for position, (row, text) in enumerate(zip(table.rows, texts, strict=True)):
        if grouped and position and row[0].text:
            body.append(r"\addlinespace")
        body.append(_latex_row(text))
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_latex(table.title)}}}",
        *([r"\resizebox{\linewidth}{!}{%"] if scaled else []),
        rf"\begin{{tabular}}{{{alignment}}}",
        r"\toprule",
        _latex_row(table.columns),
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}" + "}" * scaled,
        *([rf"\par\smallskip{{\footnotesize {_latex(table.note)}\par}}"] if table.note else []),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _latex_row(texts: Sequence[str]) -> str:
    # a bracket or star that opens a row would be read as an argument of the command above it
    start = "{}" if texts[0].startswith(("[", "*")) else ""
    return start + " & ".join(map(_latex, texts)) + r" \\"


def _flat(cell: Cell) -> str:
    apart = " " if cell.detail.startswith(("[", "(")) or not cell.text else "; "
    return " ".join(f"{cell.text}{apart * bool(cell.detail)}{cell.detail}".split())


def _pipe(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _markdown(text: str) -> str:
    for character in "\\`*_|[]#":
        text = text.replace(character, "\\" + character)
    return " ".join(text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").split())


_LINE = 90  # characters that fit in a line of an article, roughly
_LONG = 44  # characters from which words are broken into lines
_PREAMBLE = r"""% Needs \usepackage{booktabs} and, for wide tables, \usepackage{graphicx}.
% Names in other scripts than Latin need LuaLaTeX or XeLaTeX and a font that has them.
"""
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
    "|": r"\textbar{}",
    '"': r"\char34{}",
    MINUS: "$-$",
    ABSENT: "--",
    "—": "---",
    "±": r"$\pm$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "→": r"$\rightarrow$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "≈": r"$\approx$",
    "∞": r"$\infty$",
    "²": r"$^2$",
    "Δ": r"$\Delta$",
    **{
        letter: rf"$\{name}$"
        for letter, name in zip(
            "αβγδηκλμρστχ",
            ("alpha", "beta", "gamma", "delta", "eta", "kappa", "lambda", "mu", "rho", "sigma", "tau", "chi"),
            strict=True,
        )
    },
}


def _latex(text: str) -> str:
    text = "".join(
        _LATEX.get(character, character) for character in " ".join(text.replace("--", "-\0-").split())
    )
    return text.replace("\0", "{}")  # two hyphens stay two hyphens
