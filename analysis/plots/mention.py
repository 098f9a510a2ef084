"""What captions say: quantities over how often captions name a factor, a panel each, a line an arm."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.plots.dose_response import ladder_line
from analysis.plots.style import (
    DOUBLE,
    INK,
    MARKERS,
    QUIET,
    SMALL,
    SMALLEST,
    characters,
    colours,
    facet_shape,
    facet_title,
    facet_width,
    hide_spare,
    legend_columns,
    new_figure,
    short,
    theme,
    wrapped,
)


@dataclass(frozen=True)
class MentionInfo:
    """What the figure shows, in the quantities' units.

    ``lines``: arms that differ in mention alone share one. ``points``: line, mention, arm, seed, quantity,
    value. ``means``: line, mention, arm, quantity, value, low, high (NaN without an interval).
    """

    lines: tuple[str, ...]
    quantities: tuple[str, ...]
    units: tuple[str, ...]
    points: pd.DataFrame
    means: pd.DataFrame


def mention_info(points: pd.DataFrame, means: pd.DataFrame) -> MentionInfo:
    """Order what is drawn.

    Args:
        points: columns line, mention, arm, seed, quantity, unit, value; a row a model and quantity.
        means: columns line, mention, arm, quantity, value, low, high; a row an arm and quantity.

    Raises:
        ValueError: a mention outside [0, 1].
    """
    outside = points.loc[~points["mention"].between(0, 1), "mention"]
    if len(outside):
        raise ValueError(f"mention={outside.iloc[0]}: a probability lies between 0 and 1")
    units = dict(zip(points["quantity"], points["unit"], strict=True))
    return MentionInfo(
        lines=tuple(dict.fromkeys(points["line"])),
        quantities=tuple(units),
        units=tuple(units.values()),
        points=points.drop(columns="unit").reset_index(drop=True),
        means=means.sort_values("mention", kind="stable").reset_index(drop=True),
    )


def draw_mention(info: MentionInfo) -> Figure:
    """Draw a panel a quantity: means joined along mention, their intervals, models as dots."""
    names = [short(line, 44) for line in info.lines]
    count = len(info.quantities)
    with theme():
        ncols = legend_columns([f"{name}----" for name in names], DOUBLE)
        figure = new_figure(DOUBLE, 2.35 + 0.14 * (-(-len(names) // ncols)))
        panels = figure.subplots(1, max(count, 1), squeeze=False)[0]
        for axes, quantity, unit in zip(panels, info.quantities, info.units, strict=False):
            for position, line in enumerate(info.lines):
                _draw_line(axes, info, quantity, line, position)
            if "gain" in quantity:
                axes.axhline(0, color=INK, linewidth=0.7, zorder=1.5)
            axes.set_title(wrapped(quantity, characters(DOUBLE / max(count, 1) - 0.5, 9)))
            axes.set_ylabel(unit)
            axes.set_xticks(sorted(set(info.points["mention"])))
            axes.tick_params(axis="x", labelsize=SMALL)
            axes.xaxis.set_major_formatter("{x:.2g}")
            seaborn.despine(ax=axes, left=True)
        figure.supxlabel("Probability that a caption names each factor but the object")
        handles = [ladder_line([], [], position, len(names)) for position in range(len(names))]
        figure.legend(handles, names, loc="outside upper center", ncols=ncols)
    return figure


def draw_mention_and_steps(gains: pd.DataFrame) -> Figure:
    """Draw a panel a line: the gain in points after some steps (up) by mention (right).

    Cells whose interval holds 0 are grey figures, the others bold.

    Args:
        gains: columns line, mention, steps, value, low, high.
    """
    lines = tuple(dict.fromkeys(gains["line"]))
    rows, columns = facet_shape(len(lines))
    steps = gains["steps"].nunique()
    most = max(float(gains["value"].abs().max()), 1e-9)
    with theme():
        figure = new_figure(facet_width(columns), 0.5 + rows * (0.45 + 0.17 * steps))
        panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for axes, line in zip(panels.flat, lines, strict=False):
            here = gains[gains["line"] == line]
            table = here.pivot(index="steps", columns="mention", values="value").sort_index(ascending=False)
            colours_of = seaborn.color_palette("vlag", as_cmap=True)
            axes.imshow(table, cmap=colours_of, vmin=-most, vmax=most, aspect="auto")
            axes.grid(visible=False)
            places = {name: place for place, name in enumerate(table.columns)}
            heights = {name: place for place, name in enumerate(table.index)}
            for cell in here.itertuples():
                decided = cell.low > 0 or cell.high < 0
                axes.text(
                    places[cell.mention], heights[cell.steps], f"{cell.value:+.1f}",
                    ha="center", va="center", fontsize=SMALLEST, color=INK if decided else QUIET,
                    fontweight="bold" if decided else "normal",
                )  # fmt: skip
            axes.set_xticks(range(len(places)), [f"{name:g}" for name in places])
            axes.set_yticks(range(len(heights)), [f"{name:g}" for name in heights])
            axes.set_title(facet_title(line, columns))
        hide_spare(panels.flat[len(lines) :])
        figure.supxlabel("Probability that a caption names each factor but the object")
        figure.supylabel("Inversion steps")
    return figure


def _draw_line(axes: Axes, info: MentionInfo, quantity: str, line: str, position: int) -> None:
    count = len(info.lines)
    shift = 0.008 * (position - (count - 1) / 2)  # lines beside each other, so that bars can be told apart
    colour = colours(count)[position]
    dots, means = (
        table[(table["quantity"] == quantity) & (table["line"] == line)]
        for table in (info.points, info.means)
    )
    axes.plot(
        dots["mention"] + shift, dots["value"], color=colour, marker=MARKERS[position % len(MARKERS)],
        markersize=2.2, linestyle="", markeredgecolor="none", alpha=0.4, zorder=2,
    )  # fmt: skip
    x = means["mention"] + shift
    axes.vlines(x, means["low"], means["high"], color=colour, linewidth=0.9, zorder=2.5)
    axes.add_line(ladder_line(list(x), list(means["value"]), position, count))
    axes.autoscale_view()
