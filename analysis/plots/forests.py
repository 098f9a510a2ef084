"""Forests, one panel a quantity: arms minus the baseline over seeds, and effects of a factorial study."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.plots.hover import tell
from analysis.plots.style import (
    DOUBLE,
    INK,
    QUIET,
    SINGLE,
    SMALL,
    SMALLEST,
    characters,
    colours,
    hide_spare,
    legend_columns,
    new_figure,
    short,
    theme,
    wrapped,
)
from analysis.typeset import interval, number, p_value

FEWEST = 3  # seeds for an interval that is drawn
MANY, MOST_OF_MANY = 24, 4
MOST_QUANTITIES = 6
ABSENT = {
    1: "one seed: no interval",
    2: "two seeds: interval too wide to draw (12.7 standard errors to each side), see the tables",
}  # by the number of seeds
_TALLEST = 8.6  # inches
_ROW, _WIDE_ROW = 0.145, 0.21


@dataclass(frozen=True)
class SeedEffectsInfo:
    """What the figure shows, in the quantities' units.

    ``effects``: quantity, arm, value, low, high, n_seeds. ``dots``: quantity, arm, seed, value.
    ``note``: what must be said of intervals that are missing. ``left_out``: quantities and labels not shown.
    """

    quantities: tuple[str, ...]
    units: tuple[str, ...]
    arms: tuple[str, ...]
    labels: tuple[str, ...]
    effects: pd.DataFrame
    dots: pd.DataFrame
    note: str = ""
    left_out: tuple[str, ...] = ()


def seed_effects_info(
    comparisons: pd.DataFrame, *, most_arms: int = 57, most: int = MOST_QUANTITIES
) -> SeedEffectsInfo:
    """Bring the comparisons into the figure's order; of fewer than three seeds no interval is drawn.

    Args:
        comparisons: columns quantity, arm, label, value, low, high, n_seeds, per_seed (tuple of (seed, value)
            for each row), unit; one row a quantity and arm.
        most_arms: arms beyond these, in order, are left out and named.
        most: quantities beyond these, in order, are left out and named; of more than 24 arms at most four
            quantities are shown, since a page holds one row of panels.
    """
    labels = dict(zip(comparisons["arm"], comparisons["label"], strict=True))
    units = dict(zip(comparisons["quantity"], comparisons["unit"], strict=True))
    arms = tuple(labels)[:most_arms]
    most = min(most, MOST_OF_MANY) if len(arms) > MANY else most
    quantities = tuple(units)[:most]
    shown = comparisons[comparisons["arm"].isin(arms) & comparisons["quantity"].isin(quantities)]
    effects = shown[["quantity", "arm", "value", "low", "high", "n_seeds"]].reset_index(drop=True)
    few = effects["n_seeds"] < FEWEST
    effects.loc[few, ["low", "high"]] = np.nan
    dots = [
        (quantity, arm, seed, value)
        for quantity, arm, seeds in zip(shown["quantity"], shown["arm"], shown["per_seed"], strict=True)
        for seed, value in seeds
    ]
    note = ""
    if few.any():
        counts = sorted(set(effects.loc[few, "n_seeds"].astype(int)))
        note = "; ".join(ABSENT[count] for count in counts)
    return SeedEffectsInfo(
        quantities=quantities,
        units=tuple(units[quantity] for quantity in quantities),
        arms=arms,
        labels=tuple(labels[arm] for arm in arms),
        effects=effects,
        dots=pd.DataFrame(dots, columns=["quantity", "arm", "seed", "value"]),
        note=note,
        left_out=(*tuple(units)[most:], *(labels[arm] for arm in tuple(labels)[most_arms:])),
    )


def draw_seed_effects(info: SeedEffectsInfo) -> Figure:
    """Draw a row an arm: the seeds as dots, their mean, and the interval where there are seeds enough."""
    count = max(len(info.quantities), 1)
    columns = count if count <= MOST_OF_MANY else 3
    width = SINGLE if columns == 1 else DOUBLE
    row = _WIDE_ROW if len(info.arms) <= 12 else _ROW
    height = (1.2 if columns > 1 else 1.4) + row * max(len(info.arms), 2)
    main, other = colours(1)[0], "#a3a9b3"
    place = {arm: position for position, arm in enumerate(info.arms)}

    def draw(axes: Axes, quantity: str) -> None:
        effects = info.effects[info.effects["quantity"] == quantity]
        dots = info.dots[info.dots["quantity"] == quantity]
        axes.plot(
            dots["value"], dots["arm"].map(place) + 0.27, color=other, marker="o", markersize=2.6,
            linestyle="", markeredgecolor="none", zorder=2,
        )  # fmt: skip
        _interval(axes, effects, effects["arm"].map(place).astype(float), "value", main)
        named = dict(zip(info.arms, info.labels, strict=True))
        for row in dots.to_dict("records"):
            words = f"{named[row['arm']]}, seed {row['seed']}: {number(row['value'], 3, signed=True)}"
            tell(axes, row["value"], place[row["arm"]] + 0.27, words)
        for row in effects.to_dict("records"):
            bounds = interval(row["low"], row["high"])
            words = f"{named[row['arm']]}: mean {number(row['value'], 3, signed=True)} {bounds}"
            tell(axes, row["value"], place[row["arm"]], words.strip())

    with theme():
        figure = new_figure(width, min(height, _TALLEST) + (-(-count // columns) - 1) * (height - 0.4))
        room = (width - 1.9) / columns if columns > 1 else 1.9
        words = [f"difference, {unit}" if columns < 3 else unit for unit in info.units]
        labels = [short(label, 27) for label in info.labels]
        _draw_forest(figure, columns, info.quantities, words, labels, room, draw)
        bounded = info.effects["low"].notna().any()
        handles = [
            _key(main, main, "mean and 95 % t interval", "-") if bounded else _key(main, "white", "mean"),
            Line2D([], [], color=other, marker="o", markersize=2.6, linestyle="", label="one seed"),
        ]
        if bounded:
            handles.insert(1, _key(main, "white", "no difference is inside, or none is drawn"))
        names = [str(handle.get_label()) for handle in handles]
        figure.legend(handles=handles, loc="outside upper right", ncols=legend_columns(names, width))
        if info.note:
            note = wrapped(info.note, characters(width, SMALLEST), 3)
            figure.supxlabel(note, fontsize=SMALLEST, color=QUIET, x=0.99, ha="right")
    return figure


@dataclass(frozen=True)
class FactorialInfo:
    """What the figure shows, in the quantities' units.

    ``terms``: main effects, then interactions of two factors, then of more. ``effects``: quantity, term,
    order, estimate, low, high, p. ``left_out``: quantities that are not shown.
    """

    quantities: tuple[str, ...]
    units: tuple[str, ...]
    terms: tuple[str, ...]
    orders: tuple[int, ...]
    effects: pd.DataFrame
    left_out: tuple[str, ...] = ()


def factorial_info(effects: pd.DataFrame, *, most: int = MOST_QUANTITIES) -> FactorialInfo:
    """Put terms in order: main effects above interactions, otherwise as they come.

    Args:
        effects: columns quantity, term, order (1 main, 2 interaction), estimate, low, high, p, unit.
        most: quantities beyond these, in order, are left out and named.
    """
    units = dict(zip(effects["quantity"], effects["unit"], strict=True))
    quantities = tuple(units)[:most]
    shown = effects[effects["quantity"].isin(quantities)]
    orders = {str(term): int(order) for term, order in zip(shown["term"], shown["order"], strict=True)}
    terms = tuple(sorted(orders, key=lambda term: orders[term]))
    columns = ["quantity", "term", "order", "estimate", "low", "high", "p"]
    return FactorialInfo(
        quantities=quantities,
        units=tuple(units[quantity] for quantity in quantities),
        terms=terms,
        orders=tuple(orders[term] for term in terms),
        effects=shown[columns].reset_index(drop=True),
        left_out=tuple(units)[most:],
    )


def draw_factorial(info: FactorialInfo) -> Figure:
    """Draw estimates with their intervals and p values; filled where the interval leaves out zero."""
    columns = min(max(len(info.quantities), 1), 3)
    rows = max(-(-len(info.quantities) // columns), 1)
    width = SINGLE if columns == 1 else DOUBLE
    main, second = colours(2)
    place = {term: position for position, term in enumerate(info.terms)}

    def draw(axes: Axes, quantity: str) -> None:
        effects = info.effects[info.effects["quantity"] == quantity]
        for is_main, colour in ((True, main), (False, second)):
            of_kind = effects[(effects["order"] == 1) == is_main]
            _interval(axes, of_kind, of_kind["term"].map(place).astype(float), "estimate", colour)
        for term, p in zip(effects["term"], effects["p"], strict=True):
            if not pd.isna(p):
                axes.annotate(
                    _p_words(float(p)), xy=(1, place[str(term)]), xytext=(3, 0), va="center",
                    xycoords=("axes fraction", "data"), textcoords="offset points", fontsize=SMALLEST,
                    color=QUIET, annotation_clip=False,
                )  # fmt: skip
        mains = info.orders.count(1)
        parts = [mains] * (0 < mains < len(info.orders))
        for edge in parts + [info.orders.index(order) for order in set(info.orders) if order > 2]:
            axes.axhline(edge - 0.5, color=QUIET, linewidth=0.5, linestyle=":")

    with theme():
        figure = new_figure(width, rows * (0.75 + 0.19 * max(len(info.terms), 2)) + 0.25)
        room = (width - 1.5) / columns - 0.1
        words = [f"effect, {unit}" for unit in info.units]
        labels = [wrapped(term, 26) for term in info.terms]
        _draw_forest(figure, columns, info.quantities, words, labels, room, draw)
        handles = [
            _key(main, main, "main effect", "-"),
            _key(second, second, "interaction", "-"),
            _key(QUIET, "white", "zero is inside"),
        ]
        if set(info.orders) == {1}:
            del handles[1]
        figure.legend(handles=handles, loc="outside upper right", ncols=len(handles))
    return figure


def _p_words(p: float) -> str:
    words = p_value(p)
    return f"p {words}" if words.startswith("<") else f"p = {words}"


def _draw_forest(
    figure: Figure,
    columns: int,
    quantities: Sequence[str],
    units: Sequence[str],
    labels: Sequence[str],
    room: float,
    draw: Callable[[Axes, str], None],
) -> None:
    """Draw a panel a quantity, ``columns`` of them beside each other; their rows are named at the left."""
    rows = max(-(-len(quantities) // columns), 1)
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axes, quantity, unit in zip(grid.flat, quantities, units, strict=False):
        draw(axes, quantity)
        axes.set_title(wrapped(quantity, characters(room, 9), 3))
        axes.set_xlabel(wrapped(unit, characters(room, 8)))
    for line in grid:
        _finish(line, labels)
    hide_spare(grid, len(quantities))


def _key(colour: str, face: str, label: str, linestyle: Literal["-", ""] = "") -> Line2D:
    return Line2D(
        [],
        [],
        color=colour,
        marker="D",
        markersize=3.2,
        markerfacecolor=face,
        linestyle=linestyle,
        label=label,
    )


def _interval(axes: Axes, frame: pd.DataFrame, rows: pd.Series, value: str, colour: str) -> None:
    """Draw horizontal intervals and a diamond each, hollow where the interval holds zero or is missing."""
    low, high = frame["low"].to_numpy(float), frame["high"].to_numpy(float)
    bounded = ~np.isnan(low) & ~np.isnan(high)
    axes.hlines(rows[bounded], low[bounded], high[bounded], color=colour, linewidth=1.2, zorder=3)
    clear = bounded & ((low > 0) | (high < 0))
    for which, face in ((clear, colour), (~clear, "white")):
        axes.plot(
            frame[value].to_numpy(float)[which], rows.to_numpy(float)[which], color=colour, marker="D",
            markersize=3.2, markerfacecolor=face, markeredgecolor=colour, markeredgewidth=0.9, linestyle="",
            zorder=4,
        )  # fmt: skip


def _finish(grid: Sequence[Axes], labels: Sequence[str]) -> None:
    """Name the rows, first on top, and draw the line of no effect."""
    for axes in grid:
        axes.axvline(0, color=INK, linewidth=0.8, zorder=1.5)
        low, high = axes.get_xlim()
        reach = 0.05 * (high - low)
        axes.set_xlim(min(low, -reach), max(high, reach))
        axes.locator_params(axis="x", nbins=4)
        axes.tick_params(axis="y", length=0)
        seaborn.despine(ax=axes, left=True)
    grid[0].set_yticks(range(len(labels)), list(labels), fontsize=SMALLEST if len(labels) > 20 else SMALL)
    grid[0].set_ylim(len(labels) - 0.4, -0.6)
