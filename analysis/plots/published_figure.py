"""Published averages beside ours: native and by a route, joined by a line, in panels that stay apart."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

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
    SMALLEST,
    arms_shown,
    colours,
    new_figure,
    plain,
    short,
    theme,
)
from crossgap.vocabulary import PUBLISHED, Published

MOST_ARMS = 8
_BETWEEN = 3  # rows between two panels of a column
_COLUMNS = ["group", "name", "native", "value"]


@dataclass(frozen=True)
class PublishedInfo:
    """What the figure shows, in percent.

    ``published``: group (source, what was measured and by which route), name (the model), native, value.
    ``ours``: group (what was measured), name (the arm's label), native, value. ``left_out``: labels of arms
    that are not shown.
    """

    published: pd.DataFrame
    ours: pd.DataFrame
    left_out: tuple[str, ...] = ()


def published_info(
    ours: pd.DataFrame,
    labels: dict[str, str],
    *,
    published: tuple[Published, ...] = PUBLISHED,
    most: int = MOST_ARMS,
) -> PublishedInfo:
    """Put published averages and ours into groups that measure one thing, each published one with its source.

    Args:
        ours: columns what, arm, native, value (percent).
        labels: names of arms.
    """
    theirs = pd.DataFrame(
        [
            (
                f"{average.source}: {average.what}; {average.route}",
                _model(average.model),
                average.native,
                average.value,
            )
            for average in published
        ],
        columns=_COLUMNS,
    )
    arms, left_out = arms_shown(labels, ours["arm"], most)
    order = {arm: place for place, arm in enumerate(arms)}
    rows = ours[ours["arm"].isin(arms)]
    rows = rows.assign(group=rows["what"], name=rows["arm"].map(labels), order=rows["arm"].map(order))
    first = {group: place for place, group in reversed(list(enumerate(rows["group"])))}
    rows = rows.assign(first=rows["group"].map(first)).sort_values(["first", "order"], kind="stable")
    return PublishedInfo(
        published=theirs,
        ours=rows[_COLUMNS].reset_index(drop=True),
        left_out=left_out,
    )


def draw_published(info: PublishedInfo) -> Figure:
    """Draw published groups in two columns and ours below the second, each with its heading and changes."""
    first, second = _columns(info)
    depths = [max(_depth(frame), 4) for frame in (second, info.ours) if len(frame)]
    with theme():
        tallest = max(_depth(first), sum(depths) + _BETWEEN * (len(depths) - 1), 6)
        figure = new_figure(DOUBLE, 0.85 + 0.132 * tallest)
        rows = max(len(depths), 1)
        grid = figure.add_gridspec(rows, 2, height_ratios=depths or None)
        left = figure.add_subplot(grid[:, 0])
        right = [figure.add_subplot(grid[row, 1], sharex=left) for row in range(rows)]
        _draw_panel(left, first, max(_depth(first), 6), "Published, released models")
        if len(second):
            _draw_panel(right[0], second, depths[0], "Published (continued)")
            right[0].tick_params(labelbottom=not len(info.ours))
        if len(info.ours):
            _draw_panel(right[-1], info.ours, depths[-1], "This study")
        if not depths:
            right[0].set_axis_off()
        for axes in (left, right[-1]):
            axes.set_xlabel("percent")
        gain, loss = colours(2)
        handles = [
            Line2D([], [], color=INK, marker="o", markerfacecolor="white", linestyle="", label="native"),
            Line2D([], [], color=gain, marker=">", label="by the route: higher"),
            Line2D([], [], color=loss, marker="<", linestyle=(0, (2, 1)), label="by the route: lower"),
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def _model(name: str) -> str:
    """Shorten a model's name where the heading says the rest."""
    return name.replace("(with an image-image loss)", "(image loss)").replace("fixed temperature", "τ =")


def change(native: float, value: float) -> str:
    """Print a difference of percentages; one that rounds to nothing has no sign."""
    said = f"{value - native:+.1f}"
    return said[1:] if float(said) == 0 else said.replace("-", "−")


def _columns(info: PublishedInfo) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Divide the published groups so that the two columns are about equally long, ours below the second."""
    names = info.published["group"]
    groups = list(dict.fromkeys(names))
    ours = _depth(info.ours) + _BETWEEN
    parts = [
        (info.published[names.isin(groups[:count])], info.published[names.isin(groups[count:])])
        for count in range(1, len(groups) + 1)
    ]
    return min(
        parts or [(info.published, info.published)],
        key=lambda part: max(_depth(part[0]), _depth(part[1]) + ours),
    )


def _depth(frame: pd.DataFrame) -> int:
    groups = list(dict.fromkeys(frame["group"]))
    return len(frame) + sum(len(_heading(group)) for group in groups) + max(len(groups) - 1, 0)


def _heading(group: str) -> list[str]:
    source, _, rest = group.partition(": ")
    if not rest:
        return textwrap.wrap(plain(group), 42, break_on_hyphens=False)
    return [source, *textwrap.wrap(plain(rest), 46, break_on_hyphens=False)]


def _draw_panel(axes: Axes, frame: pd.DataFrame, depth: int, title: str) -> None:
    row = 0.0
    ticks: list[float] = []
    names: list[str] = []
    gain, loss = colours(2)
    for group, of_group in frame.groupby("group", sort=False):
        for line in _heading(str(group)):
            axes.annotate(
                line, xy=(0, row), xycoords=("axes fraction", "data"), va="center", fontsize=SMALLEST,
                fontweight="bold" if line == _heading(str(group))[0] else "normal", color=INK,
                xytext=(-106, 0), textcoords="offset points", annotation_clip=False,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.4},
            )  # fmt: skip
            row += 1
        for average in of_group.to_dict("records"):
            native, value = float(average["native"]), float(average["value"])
            up = value >= native
            colour = gain if up else loss
            axes.plot(
                [native, value], [row, row], color=colour, linestyle="-" if up else (0, (2, 1)), zorder=2
            )
            axes.plot(
                native, row, color=INK, marker="o", markerfacecolor="white", markersize=3.4, zorder=3,
                markeredgewidth=0.8,
            )  # fmt: skip
            axes.plot(value, row, color=colour, marker=">" if up else "<", markersize=3.8, zorder=4)
            if not np.isnan(value - native):
                axes.annotate(
                    change(native, value), xy=(1, row), xytext=(3, 0), va="center",
                    xycoords=("axes fraction", "data"), textcoords="offset points", fontsize=SMALLEST,
                    color=QUIET, annotation_clip=False,
                )  # fmt: skip
            ticks.append(row)
            names.append(short(str(average["name"]), 26))
            row += 1
        row += 1
    axes.annotate(
        title, xy=(0, 1), xycoords="axes fraction", xytext=(-106, 4), textcoords="offset points", va="bottom",
        fontsize=9, fontweight="bold", annotation_clip=False,
    )  # fmt: skip
    axes.set_yticks(ticks, names, fontsize=SMALLEST)
    axes.set_ylim(depth - 0.4, -0.7)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.locator_params(axis="x", nbins=6)
    seaborn.despine(ax=axes, left=True)
