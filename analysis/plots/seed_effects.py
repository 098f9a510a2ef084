"""Arms minus the baseline over seeds: a forest of dots, one panel a quantity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

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

FEWEST = 3  # seeds for an interval that is drawn
MANY, MOST_OF_MANY = 24, 4
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


def seed_effects_info(comparisons: pd.DataFrame, *, most_arms: int = 57, most: int = 6) -> SeedEffectsInfo:
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
    here = comparisons[comparisons["arm"].isin(arms) & comparisons["quantity"].isin(quantities)]
    effects = here[["quantity", "arm", "value", "low", "high", "n_seeds"]].reset_index(drop=True)
    few = effects["n_seeds"] < FEWEST
    effects.loc[few, ["low", "high"]] = np.nan
    dots = [
        (quantity, arm, seed, value)
        for quantity, arm, seeds in zip(here["quantity"], here["arm"], here["per_seed"], strict=True)
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
    rows = -(-count // columns)
    width = SINGLE if columns == 1 else DOUBLE
    with theme():
        row = _WIDE_ROW if len(info.arms) <= 12 else _ROW
        height = (1.2 if columns > 1 else 1.4) + row * max(len(info.arms), 2)
        figure = new_figure(width, min(height, _TALLEST) + (rows - 1) * (height - 0.4))
        grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
        main, other = colours(1)[0], "#a3a9b3"
        room = (width - 1.9) / columns if columns > 1 else 1.9
        for axes, quantity, unit in zip(grid.flat, info.quantities, info.units, strict=False):
            effects = info.effects[info.effects["quantity"] == quantity]
            dots = info.dots[info.dots["quantity"] == quantity]
            place = {arm: position for position, arm in enumerate(info.arms)}
            axes.plot(
                dots["value"], dots["arm"].map(place) + 0.27, color=other, marker="o", markersize=2.6,
                linestyle="", markeredgecolor="none", zorder=2,
            )  # fmt: skip
            interval(axes, effects, effects["arm"].map(place).astype(float), "value", main)
            axes.set_title(wrapped(quantity, characters(room, 9), 3))
            axes.set_xlabel(wrapped(f"difference, {unit}" if columns < 3 else unit, characters(room, 8)))
        for line in grid:
            finish_forest(list(line), [short(label, 27) for label in info.labels])
        hide_spare(grid.flat[len(info.quantities) :])
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


def interval(axes: Axes, frame: pd.DataFrame, rows: pd.Series, value: str, colour: str) -> None:
    """Draw horizontal intervals and a diamond each, hollow where the interval holds zero or is missing."""
    low, high = frame["low"].to_numpy(float), frame["high"].to_numpy(float)
    known = ~np.isnan(low) & ~np.isnan(high)
    axes.hlines(rows[known], low[known], high[known], color=colour, linewidth=1.2, zorder=3)
    clear = known & ((low > 0) | (high < 0))
    for which, face in ((clear, colour), (~clear, "white")):
        axes.plot(
            frame[value].to_numpy(float)[which], rows.to_numpy(float)[which], color=colour, marker="D",
            markersize=3.2, markerfacecolor=face, markeredgecolor=colour, markeredgewidth=0.9, linestyle="",
            zorder=4,
        )  # fmt: skip


def finish_forest(grid: list[Axes], labels: list[str]) -> None:
    """Name the rows, first on top, and draw the line of no effect."""
    for axes in grid:
        axes.axvline(0, color=INK, linewidth=0.8, zorder=1.5)
        low, high = axes.get_xlim()
        reach = 0.05 * (high - low)
        axes.set_xlim(min(low, -reach), max(high, reach))
        axes.locator_params(axis="x", nbins=4)
        axes.tick_params(axis="y", length=0)
        seaborn.despine(ax=axes, left=True)
    grid[0].set_yticks(range(len(labels)), labels, fontsize=SMALLEST if len(labels) > 20 else SMALL)
    grid[0].set_ylim(len(labels) - 0.4, -0.6)
