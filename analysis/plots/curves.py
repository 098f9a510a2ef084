"""Inversion curves: the gain over native by number of steps.

A facet an arm and a line a token count; of arms inverted under several settings a row of panels an arm, a
panel a token count and a line a setting.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.leading import POINTS, Headline, curve_gains, settings
from analysis.plots.hover import tell
from analysis.plots.style import (
    DOUBLE,
    INK,
    MOST_FACETS,
    QUIET,
    SINGLE,
    SMALLEST,
    facet_shape,
    facet_title,
    facet_width,
    hide_spare,
    legend_columns,
    new_figure,
    plain,
    spread,
    theme,
)
from analysis.typeset import counted, interval, number
from crossgap.inversion.words import AXES, read_axes
from crossgap.metrics.intervals import Bootstrap

Dash = Literal["-", "--", ":", "-."]
LINES: tuple[tuple[str, Dash], ...] = (("o", "-"), ("s", "--"), ("^", ":"), ("D", "-."), ("v", "-"))
QUOTED = "quoted setting"
PLAIN = "as configured"  # a plan that compares nothing beyond tokens and steps


@dataclass(frozen=True)
class CurvesInfo:
    """What the figure shows, in mAP points.

    ``lines``: arm, num_tokens, steps, setting, value, low, high, n_queries, n_seeds.
    ``chosen``: arm, num_tokens, steps, setting, n_models, value: those quoted elsewhere, on their line.
    ``left_out``: labels of arms that a figure of so many facets does not show.
    """

    where: Headline
    arms: tuple[str, ...]
    labels: tuple[str, ...]
    lines: pd.DataFrame
    chosen: pd.DataFrame
    left_out: tuple[str, ...] = ()


def curves_info(
    rows: pd.DataFrame,
    quoted_rows: pd.DataFrame,
    per_query: pd.DataFrame,
    where: Headline,
    labels: dict[str, str],
    *,
    bootstrap: Bootstrap,
) -> CurvesInfo:
    """Compute gains along the curve and the settings that were chosen."""
    lines = curve_gains(rows, per_query, where, bootstrap=bootstrap)
    lines[["value", "low", "high"]] *= POINTS
    lines[["num_tokens", "steps"]] = lines[["num_tokens", "steps"]].astype(int)
    by = ["arm", "num_tokens", "steps", "setting"]
    chosen = settings(rows, quoted_rows, where).groupby(by).size().rename("n_models").reset_index()
    chosen = chosen.merge(lines[[*by, "value"]], on=by, how="left")
    arms = tuple(arm for arm in labels if arm in set(lines["arm"]))
    return CurvesInfo(where, arms, tuple(labels[arm] for arm in arms), lines, chosen)


def plain_curves(info: CurvesInfo, *, most: int = MOST_FACETS) -> CurvesInfo:
    """Select the arms inverted under one setting, at most ``most``, evenly in the study's order.

    Lines of several settings need a panel a token count: :func:`setting_curves_info`.
    """
    counts = info.lines.groupby("arm")["setting"].nunique()
    fitting = [(arm, label) for arm, label in zip(info.arms, info.labels, strict=True) if counts[arm] == 1]
    kept = spread(fitting, most)
    arms = tuple(arm for arm, _ in kept)
    lines, chosen = (frame[frame["arm"].isin(arms)] for frame in (info.lines, info.chosen))
    left_out = tuple(label for arm, label in fitting if arm not in arms)
    return CurvesInfo(info.where, arms, tuple(label for _, label in kept), lines, chosen, left_out)


@dataclass(frozen=True)
class SettingCurvesInfo:
    """What the figure shows, in mAP points.

    ``settings``: the lines in their order, as rows write them; ``legend`` the words for readers. ``lines``
    and ``chosen``: as in :class:`CurvesInfo`, of the arms that have several settings.
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
    ordered = [values.get(axis, "") for axis in AXES]
    return tuple((value, 0.0) if isinstance(value, str) else ("", value) for value in ordered)


class _Look(NamedTuple):
    """How a line of the curves looks, and what the legend calls it."""

    colour: str
    marker: str
    dash: Dash
    words: str


class _Panel(NamedTuple):
    """What one panel shows: its title, its lines, and the settings that are quoted elsewhere."""

    title: str
    lines: pd.DataFrame
    chosen: pd.DataFrame


def draw_curves(info: CurvesInfo) -> Figure:
    """Draw one facet an arm on shared axes.

    Untrained tokens usually lie far below: the axis is then cut above them and their gain is written there.
    """
    shape = facet_shape(len(info.arms))
    tokens = sorted(set(info.lines["num_tokens"]))
    panels = [
        _Panel(label, *(frame[frame["arm"] == arm] for frame in (info.lines, info.chosen)))
        for arm, label in zip(info.arms, info.labels, strict=True)
    ]
    looks = _looks({count: f"{count} token" + ("s" if count > 1 else "") for count in tokens})
    width, height = facet_width(shape[1]), 0.85 + (1.55 if shape[0] > 1 else 1.9) * shape[0]
    return _draw(info.where, panels, "num_tokens", looks, shape, (width, height), 3.2, 0.18)


def draw_setting_curves(info: SettingCurvesInfo) -> Figure:
    """Draw the panels on shared axes; untrained tokens far below are named where the axis is cut."""
    shape = len(info.arms), len(info.token_counts)
    panels = []
    for arm, label in zip(info.arms, info.labels, strict=True):
        for tokens in info.token_counts:
            counted = f"{tokens} token" + "s" * (tokens > 1)
            frames = (
                frame[(frame["arm"] == arm) & (frame["num_tokens"] == tokens)]
                for frame in (info.lines, info.chosen)
            )
            panels.append(_Panel(counted if shape[0] == 1 else f"{label}: {counted}", *frames))
    looks = _looks(dict(zip(info.settings, info.legend, strict=True)))
    width = SINGLE if shape[1] == 1 else DOUBLE
    names = [*info.legend, QUOTED]
    legend = 0.14 * (-(-len(names) // legend_columns(names, width)))
    return _draw(info.where, panels, "setting", looks, shape, (width, 0.7 + 1.6 * shape[0] + legend), 3, 0.14)


def _looks(words: Mapping[object, str]) -> dict[object, _Look]:
    shades = seaborn.color_palette("viridis", len(words) + 1).as_hex()
    return {
        key: _Look(shades[place], *LINES[place % len(LINES)], said)
        for place, (key, said) in enumerate(words.items())
    }


def _draw(
    where: Headline, panels: Sequence[_Panel], by: str, looks: Mapping[object, _Look],
    shape: tuple[int, int], size: tuple[float, float], markersize: float, alpha: float,
) -> Figure:  # fmt: skip
    """Draw panels with a line for each value of ``by`` on shared axes."""
    rows, columns = shape
    bottom, top, cut = limits(pd.concat([panel.lines for panel in panels]))
    with theme():
        figure = new_figure(*size)
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for axes, panel in zip(grid.flat, panels, strict=False):
            for key, look in looks.items():
                line = panel.lines[panel.lines[by] == key]
                axes.fill_between(
                    line["steps"], line["low"], line["high"], color=look.colour, alpha=alpha, lw=0
                )
                axes.plot(
                    line["steps"], line["value"], color=look.colour, marker=look.marker, linestyle=look.dash,
                    markersize=markersize,
                )  # fmt: skip
                _tell_line(axes, line, f"{panel.title}, {look.words}")
            axes.add_line(ring(list(panel.chosen["steps"]), list(panel.chosen["value"])))
            axes.axhline(0, color=INK, linewidth=0.7, zorder=1.5)
            axes.set_title(facet_title(panel.title, columns))
            axes.set_ylim(bottom, top)
            if cut:
                name_what_is_below(axes, panel.lines, bottom, lines_of_text=2 if columns > 2 else 1)
            seaborn.despine(ax=axes, left=True)
        hide_spare(grid, len(panels))
        figure.supxlabel("Inversion steps (0 = untrained tokens)")
        figure.supylabel(gain_axis(where.route, lines=1 if rows > 1 else 2))
        handles = [
            Line2D([], [], color=look.colour, marker=look.marker, linestyle=look.dash, label=look.words)
            for look in looks.values()
        ]
        handles.append(ring([], [], label=QUOTED))
        ncols = legend_columns([str(handle.get_label()) for handle in handles], size[0])
        figure.legend(handles=handles, loc="outside upper center", ncols=ncols)
    return figure


def _tell_line(axes: Axes, line: pd.DataFrame, name: str) -> None:
    for row in line.to_dict("records"):
        gain = f"{number(row['value'], 2, signed=True)} points {interval(row['low'], row['high'], 2)}".strip()
        counts = f"{counted(row['steps'], 'step')}, {counted(row['n_seeds'], 'seed')}"
        tell(axes, row["steps"], row["value"], f"{name}, {counts}: {gain}")


def gain_axis(route: str, *, lines: int = 1) -> str:
    """Name the gain of a route with its unit."""
    return f"mAP({route.upper()}) − mAP(native)" + (", " if lines == 1 else "\n") + "in mAP points"


def limits(lines: pd.DataFrame) -> tuple[float, float, bool]:
    """Choose the limits of the gain's axis, and whether they cut off untrained tokens far below."""
    bounds = lines[["value", "low", "high"]]
    trained = bounds[lines["steps"] > 0]
    shown = trained if len(trained) else bounds
    low, high = min(0.0, float(shown.min().min())), max(0.0, float(shown.max().max()))
    reach = max(high - low, 1.0)
    everything = float(bounds.min().min())
    if everything > low - 0.5 * reach:
        low = min(low, everything)
        return low - 0.08 * reach, high + 0.08 * reach, False
    return low - 0.3 * reach, high + 0.08 * reach, True


def ring(x: list[float], y: list[float], label: str = "") -> Line2D:
    """Make the mark around quoted settings."""
    return Line2D(
        x, y, color="none", marker="o", markersize=7.5, markerfacecolor="none", markeredgecolor="#c1121f",
        markeredgewidth=1.2, zorder=4, label=label,
    )  # fmt: skip


def name_what_is_below(axes: Axes, lines: pd.DataFrame, bottom: float, *, lines_of_text: int = 1) -> None:
    """Write the gain of untrained tokens below a cut axis."""
    below = lines[(lines["steps"] == 0) & (lines["value"] < bottom)]
    if len(below):
        low, high = np.round([below["value"].min(), below["value"].max()], 1) + 0.0
        separator = "\n" if lines_of_text > 1 else " "
        values = f"{low:.1f}" if low == high else f"{low:.1f} to {high:.1f}"
        axes.annotate(
            f"▼ untrained tokens:{separator}{values}".replace("-", "−"), xy=(1, 0), xycoords="axes fraction",
            xytext=(-1, 2), ha="right", textcoords="offset points", fontsize=SMALLEST, color=QUIET,
            linespacing=1.1,
        )  # fmt: skip
