"""Inversion curves: the gain over native by number of steps, one line a token count, one facet an arm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.plots.headline import POINTS
from analysis.plots.style import (
    INK,
    MOST_FACETS,
    QUIET,
    SMALLEST,
    facet_shape,
    facet_title,
    facet_width,
    hide_spare,
    legend_columns,
    new_figure,
    spread,
    theme,
)
from analysis.tables import Headline, curve_gains, settings
from crossgap.metrics.intervals import Bootstrap

Dash = Literal["-", "--", ":", "-."]
LINES: tuple[tuple[str, Dash], ...] = (("o", "-"), ("s", "--"), ("^", ":"), ("D", "-."), ("v", "-"))


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

    Lines of several settings need a panel a token count: :mod:`analysis.plots.setting_curves`.
    """
    counts = info.lines.groupby("arm")["setting"].nunique()
    fitting = [(arm, label) for arm, label in zip(info.arms, info.labels, strict=True) if counts[arm] == 1]
    kept = spread(fitting, most)
    arms = tuple(arm for arm, _ in kept)
    lines, chosen = (frame[frame["arm"].isin(arms)] for frame in (info.lines, info.chosen))
    left_out = tuple(label for arm, label in fitting if arm not in arms)
    return CurvesInfo(info.where, arms, tuple(label for _, label in kept), lines, chosen, left_out)


def draw_curves(info: CurvesInfo) -> Figure:
    """Draw one facet an arm on shared axes.

    Untrained tokens usually lie far below: the axis is then cut above them and their gain is written there.
    """
    rows, columns = facet_shape(len(info.arms))
    tokens = sorted(set(info.lines["num_tokens"]))
    colours = dict(zip(tokens, seaborn.color_palette("viridis", len(tokens) + 1).as_hex(), strict=False))
    shapes = {count: LINES[position % len(LINES)] for position, count in enumerate(tokens)}
    bottom, top, cut = limits(info.lines)
    with theme():
        width = facet_width(columns)
        figure = new_figure(width, 0.85 + (1.55 if rows > 1 else 1.9) * rows)
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for axes, arm, label in zip(grid.flat, info.arms, info.labels, strict=False):
            mine = info.lines[info.lines["arm"] == arm]
            for count in tokens:
                marker, dash = shapes[count]
                line = mine[mine["num_tokens"] == count]
                axes.fill_between(
                    line["steps"], line["low"], line["high"], color=colours[count], alpha=0.18, lw=0
                )
                axes.plot(
                    line["steps"], line["value"], color=colours[count], marker=marker, linestyle=dash,
                    markersize=3.2,
                )  # fmt: skip
            _mark(axes, info, arm)
            axes.axhline(0, color=INK, linewidth=0.7, zorder=1.5)
            axes.set_title(facet_title(label, columns))
            axes.set_ylim(bottom, top)
            if cut:
                name_what_is_below(axes, mine, bottom, lines_of_text=2 if columns > 2 else 1)
            seaborn.despine(ax=axes, left=True)
        hide_spare(grid.flat[len(info.arms) :])
        for column in range(columns):
            lowest = [axes for axes in grid[:, column] if axes.axison][-1]
            lowest.tick_params(labelbottom=True)
        figure.supxlabel("Inversion steps (0 = untrained tokens)")
        figure.supylabel(gain_axis(info.where.route, lines=1 if rows > 1 else 2))
        handles = [
            Line2D(
                [], [], color=colours[count], marker=shapes[count][0], linestyle=shapes[count][1],
                label=f"{count} token" + ("s" if count > 1 else ""),
            )
            for count in tokens
        ]  # fmt: skip
        handles.append(ring([], [], label="quoted setting"))
        figure.legend(
            handles=handles,
            loc="outside upper center",
            ncols=legend_columns([str(handle.get_label()) for handle in handles], width),
        )
    return figure


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


def _mark(axes: Axes, info: CurvesInfo, arm: str) -> None:
    chosen = info.chosen[info.chosen["arm"] == arm]
    axes.add_line(ring(list(chosen["steps"]), list(chosen["value"])))


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
