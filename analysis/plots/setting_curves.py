"""Inversion curves of several settings: a row of panels an arm, a panel a token count, a line a setting."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import seaborn
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.plots.curves import LINES, CurvesInfo, gain_axis, limits, name_what_is_below, ring
from analysis.plots.style import (
    DOUBLE,
    INK,
    SINGLE,
    facet_title,
    legend_columns,
    new_figure,
    plain,
    spread,
    theme,
)
from analysis.tables import Headline
from crossgap.inversion.words import AXES, read_axes

PLAIN = "as configured"  # a plan that compares nothing beyond tokens and steps


@dataclass(frozen=True)
class SettingCurvesInfo:
    """What the figure shows, in mAP points.

    ``settings``: the lines in their order, as rows write them; ``legend`` the words for readers. ``lines``
    and ``chosen``: as in :class:`analysis.plots.curves.CurvesInfo`, of the arms that have several settings.
    ``left_out``: labels of such arms that are not shown.
    """

    where: Headline
    arms: tuple[str, ...]
    labels: tuple[str, ...]
    settings: tuple[str, ...]
    legend: tuple[str, ...]
    token_counts: tuple[int, ...]
    lines: pd.DataFrame
    chosen: pd.DataFrame
    left_out: tuple[str, ...] = ()


def setting_curves_info(curves: CurvesInfo, *, most: int = 4) -> SettingCurvesInfo:
    """Select at most ``most`` arms inverted under several settings, and put the settings in order by axis."""
    counts = curves.lines.groupby("arm")["setting"].nunique()
    fitting = [arm for arm in curves.arms if counts[arm] > 1]
    several = spread(fitting, most)
    names = dict(zip(curves.arms, curves.labels, strict=True))
    lines = curves.lines[curves.lines["arm"].isin(several)].reset_index(drop=True)
    settings = tuple(sorted(set(lines["setting"]), key=_order))
    return SettingCurvesInfo(
        where=curves.where,
        arms=several,
        labels=tuple(names[arm] for arm in several),
        settings=settings,
        legend=tuple(plain(setting) or PLAIN for setting in settings),
        token_counts=tuple(sorted(set(lines["num_tokens"]))),
        lines=lines,
        chosen=curves.chosen[curves.chosen["arm"].isin(several)].reset_index(drop=True),
        left_out=tuple(names[arm] for arm in fitting if arm not in several),
    )


def _order(setting: str) -> tuple[tuple[str, float], ...]:
    """Order settings by the axes of :data:`AXES`, numbers by size; a plain plan comes first."""
    values = read_axes(setting)
    found = [values.get(axis, "") for axis in AXES]
    return tuple((value, 0.0) if isinstance(value, str) else ("", value) for value in found)


def draw_setting_curves(info: SettingCurvesInfo) -> Figure:
    """Draw the panels on shared axes; untrained tokens far below are named where the axis is cut."""
    rows, columns = len(info.arms), len(info.token_counts)
    shades = seaborn.color_palette("viridis", len(info.settings) + 1).as_hex()
    looks = {
        setting: (shades[place], *LINES[place % len(LINES)]) for place, setting in enumerate(info.settings)
    }
    bottom, top, cut = limits(info.lines)
    with theme():
        width = SINGLE if columns == 1 else DOUBLE
        names = [*info.legend, "quoted setting"]
        ncols = legend_columns(names, width)
        figure = new_figure(width, 0.7 + 1.6 * rows + 0.14 * (-(-len(names) // ncols)))
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for row, (arm, label) in enumerate(zip(info.arms, info.labels, strict=True)):
            for column, tokens in enumerate(info.token_counts):
                axes = grid[row, column]
                mine = info.lines[(info.lines["arm"] == arm) & (info.lines["num_tokens"] == tokens)]
                for setting, (colour, marker, dash) in looks.items():
                    line = mine[mine["setting"] == setting]
                    axes.fill_between(
                        line["steps"], line["low"], line["high"], color=colour, alpha=0.14, lw=0
                    )
                    axes.plot(
                        line["steps"], line["value"], color=colour, marker=marker, linestyle=dash,
                        markersize=3,
                    )  # fmt: skip
                here = info.chosen[(info.chosen["arm"] == arm) & (info.chosen["num_tokens"] == tokens)]
                axes.add_line(ring(list(here["steps"]), list(here["value"])))
                axes.axhline(0, color=INK, linewidth=0.7, zorder=1.5)
                counted = f"{tokens} token" + "s" * (tokens > 1)
                axes.set_title(facet_title(counted if rows == 1 else f"{label}: {counted}", columns))
                axes.set_ylim(bottom, top)
                if cut:
                    name_what_is_below(axes, mine, bottom, lines_of_text=2 if columns > 2 else 1)
                seaborn.despine(ax=axes, left=True)
        figure.supxlabel("Inversion steps (0 = untrained tokens)")
        figure.supylabel(gain_axis(info.where.route, lines=1 if rows > 1 else 2))
        handles = [
            Line2D([], [], color=colour, marker=marker, linestyle=dash, label=words)
            for (colour, marker, dash), words in zip(looks.values(), info.legend, strict=True)
        ]
        handles.append(ring([], [], label="quoted setting"))
        figure.legend(handles=handles, loc="outside upper center", ncols=ncols)
    return figure
