"""Effects of a factorial study: main effects and interactions as a forest, one panel a quantity."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.plots.seed_effects import finish_forest, interval
from analysis.plots.style import (
    DOUBLE,
    QUIET,
    SINGLE,
    SMALLEST,
    characters,
    colours,
    hide_spare,
    new_figure,
    theme,
    wrapped,
)
from analysis.typeset import p_value

MOST_QUANTITIES = 6


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
    here = effects[effects["quantity"].isin(quantities)]
    orders = {str(term): int(order) for term, order in zip(here["term"], here["order"], strict=True)}
    terms = tuple(sorted(orders, key=lambda term: orders[term]))
    columns = ["quantity", "term", "order", "estimate", "low", "high", "p"]
    return FactorialInfo(
        quantities=quantities,
        units=tuple(units[quantity] for quantity in quantities),
        terms=terms,
        orders=tuple(orders[term] for term in terms),
        effects=here[columns].reset_index(drop=True),
        left_out=tuple(units)[most:],
    )


def draw_factorial(info: FactorialInfo) -> Figure:
    """Draw estimates with their intervals and p values; filled where the interval leaves out zero."""
    columns = min(max(len(info.quantities), 1), 3)
    rows = max(-(-len(info.quantities) // columns), 1)
    width = SINGLE if columns == 1 else DOUBLE
    main, second = colours(2)
    with theme():
        figure = new_figure(width, rows * (0.75 + 0.19 * max(len(info.terms), 2)) + 0.25)
        grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
        room = (width - 1.5) / columns - 0.4
        for axes, quantity, unit in zip(grid.flat, info.quantities, info.units, strict=False):
            effects = info.effects[info.effects["quantity"] == quantity]
            place = {term: position for position, term in enumerate(info.terms)}
            for is_main, colour in ((True, main), (False, second)):
                mine = effects[(effects["order"] == 1) == is_main]
                interval(axes, mine, mine["term"].map(place).astype(float), "estimate", colour)
            for term, p in zip(effects["term"], effects["p"], strict=True):
                if not pd.isna(p):
                    axes.annotate(
                        _p_words(float(p)), xy=(1, place[str(term)]), xytext=(3, 0), va="center",
                        xycoords=("axes fraction", "data"), textcoords="offset points", fontsize=SMALLEST,
                        color=QUIET, annotation_clip=False,
                    )  # fmt: skip
            _part(axes, info)
            axes.set_title(wrapped(quantity, characters(room + 0.3, 9), 3))
            axes.set_xlabel(wrapped(f"effect, {unit}", characters(room + 0.3, 8)))
        for row in grid:
            finish_forest(list(row), [wrapped(term, 26) for term in info.terms])
        hide_spare(grid.flat[len(info.quantities) :])
        handles = [
            Line2D([], [], color=main, marker="D", markersize=3.2, label="main effect"),
            Line2D([], [], color=second, marker="D", markersize=3.2, label="interaction"),
            Line2D(
                [], [], color=QUIET, marker="D", markersize=3.2, markerfacecolor="white", linestyle="",
                label="zero is inside",
            ),
        ]  # fmt: skip
        if set(info.orders) == {1}:
            del handles[1]
        figure.legend(handles=handles, loc="outside upper right", ncols=len(handles))
    return figure


def _p_words(p: float) -> str:
    words = p_value(p)
    return f"p {words}" if words.startswith("<") else f"p = {words}"


def _part(axes: Axes, info: FactorialInfo) -> None:
    mains = info.orders.count(1)
    if 0 < mains < len(info.orders):
        axes.axhline(mains - 0.5, color=QUIET, linewidth=0.5, linestyle=":")
    for order in set(info.orders):
        if order > 2:
            axes.axhline(info.orders.index(order) - 0.5, color=QUIET, linewidth=0.5, linestyle=":")
