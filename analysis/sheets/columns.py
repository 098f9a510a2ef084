"""What a column of a table is: its title, and how a row of numbers becomes a cell of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from analysis.study import RecordedStudy
from analysis.typeset import ABSENT, Cell, Table, interval, number, p_value
from crossgap.vocabulary import ROUTE_WORDS

Row = Mapping[str, Any]
ROUTE_ORDER = {route: position for position, route in enumerate(ROUTE_WORDS)}


class Column(NamedTuple):
    """A column of a table."""

    title: str
    cell: Callable[[Row], Cell]


def sheet(
    title: str,
    columns: Sequence[Column],
    rows: Iterable[Row],
    note: str = "",
    *,
    text_columns: int = 1,
    grouped: bool = False,
) -> Table:
    """Make a table of rows; ``grouped``: a first cell like the one above it stays empty."""
    cells = []
    above = None
    for row in rows:
        first, *others = (column.cell(row) for column in columns)
        cells.append((Cell("") if grouped and first == above else first, *others))
        above = first
    titles = tuple(column.title for column in columns)
    return Table(title, titles, tuple(cells), note, text_columns)


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """List the rows of a frame as dictionaries."""
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]


def by_arm(study: RecordedStudy, frame: pd.DataFrame) -> list[dict[str, Any]]:
    """List the rows of a frame with the labels of their arms, in the order of the study and of its routes."""
    places = {arm: place for place, arm in enumerate(study.arm_names)}
    rows = [row | {"label": study.label(row["arm"])} for row in records(frame) if row["arm"] in places]
    last = len(ROUTE_ORDER)
    rows.sort(key=lambda row: (places[row["arm"]], ROUTE_ORDER.get(row.get("route", ""), last)))
    return rows


def route_label(route: str) -> str:
    """Name a route for readers."""
    return ROUTE_WORDS[route].label if route in ROUTE_WORDS else route


def words(title: str, name: str) -> Column:
    """Make a column that shows a value as it is."""
    return Column(title, lambda row: Cell(str(row[name])))


def counts(title: str, name: str) -> Column:
    """Make a column of whole numbers, with commas between thousands."""
    return Column(title, lambda row: Cell(f"{row[name]:,}"))


def numbers(
    title: str,
    name: str,
    digits: int,
    *,
    scale: float = 1,
    signed: bool = False,
    bounds: tuple[str, str] | None = None,
) -> Column:
    """Make a column of numbers, with the interval between the columns ``bounds`` in smaller type."""

    def cell(row: Row) -> Cell:
        low, high = (scale * row[bound] for bound in bounds) if bounds else (float("nan"),) * 2
        value = None if row[name] is None else scale * row[name]
        return Cell(number(value, digits, signed=signed), interval(low, high, digits))

    return Column(title, cell)


def spans(title: str, bounds: tuple[str, str], digits: int, *, scale: float = 1) -> Column:
    """Make a column of intervals."""

    def cell(row: Row) -> Cell:
        low, high = (scale * row[bound] for bound in bounds)
        return Cell(interval(low, high, digits) or ABSENT)

    return Column(title, cell)


def p_values(title: str, name: str) -> Column:
    """Make a column of p values."""
    return Column(title, lambda row: Cell(p_value(row[name])))


def fractions(title: str, names: Sequence[str]) -> Column:
    """Make a column that counts cases, as "3 / 0 / 2"."""
    return Column(title, lambda row: Cell(" / ".join(str(row[name]) for name in names)))


ARM = words("arm", "label")
ROUTE = Column("route", lambda row: Cell(route_label(row["route"])))
SEEDS = words("seeds", "n_seeds")
