"""The ladder of temperatures: gap, mAP, inversion gain and retrieval across modalities on one axis."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from analysis.plots.dose_response import DASHES, average
from analysis.plots.style import (
    DOUBLE,
    INK,
    SINGLE,
    SMALL,
    SMALLEST,
    characters,
    colours,
    hide_spare,
    new_figure,
    short,
    theme,
    wrapped,
)

_MARKERS = ("o", "s", "^", "D")
_KEYS = ["temperature", "arm", "quantity"]


@dataclass(frozen=True)
class LadderInfo:
    """What the figure shows, in the quantities' units.

    ``panels``: the quantities that share a panel, with its title and its unit. ``points``: temperature, arm,
    seed, quantity, value, learnable. ``means``: temperature, arm, quantity, learnable, value, low, high,
    n_seeds: a row an arm; a learnable temperature is the mean of its seeds' final ones.
    """

    panels: tuple[tuple[str, str, tuple[str, ...]], ...]  # title, unit, quantities
    points: pd.DataFrame
    means: pd.DataFrame


def ladder_info(points: pd.DataFrame, summary: pd.DataFrame | None = None) -> LadderInfo:
    """Put quantities into panels: native and inverted mAP share one, and so do the hit@1 across modalities.

    Args:
        points: columns temperature, arm, seed, quantity, unit, value, and optionally learnable (whether the
            temperature is the final one of training that learned it); one row a model and quantity.
        summary: columns arm, quantity, value, low, high: used in place of means over seeds.

    Raises:
        ValueError: a temperature that is not positive.
    """
    if not (points["temperature"] > 0).all():
        raise ValueError(f"temperature={points['temperature'].min()}: temperatures are positive")
    units = dict(zip(points["quantity"], points["unit"], strict=True))
    panels: dict[str, list[str]] = {}
    for quantity in units:
        panels.setdefault(_panel(quantity), []).append(quantity)
    learnable = points["learnable"] if "learnable" in points else pd.Series(False, index=points.index)
    here = points.assign(learnable=learnable.astype(bool))
    columns = ["temperature", "arm", "seed", "quantity", "value", "learnable"]
    means = average(here, ["arm", "quantity", "learnable"], None)
    if summary is not None:
        means = average(here, ["arm", "quantity"], summary).merge(
            here[["arm", "quantity", "learnable"]].drop_duplicates(), on=["arm", "quantity"]
        )
    middle = here.groupby(["arm", "quantity"])["temperature"].mean().reset_index()
    means = means.merge(middle, on=["arm", "quantity"])
    order = [*_KEYS, "learnable", "value", "low", "high", "n_seeds"]
    means = means[order].sort_values(["temperature"], kind="stable").reset_index(drop=True)
    return LadderInfo(
        panels=tuple(
            (title if len(names) > 1 else names[0], units[names[0]], tuple(names))
            for title, names in panels.items()
        ),
        points=here[columns].reset_index(drop=True),
        means=means,
    )


def _panel(quantity: str) -> str:
    if "hit@1" in quantity:
        return "hit@1 across modalities"
    if "mAP" in quantity and "gain" not in quantity:
        return "mAP"
    return quantity


def draw_ladder(info: LadderInfo) -> Figure:
    """Draw the panels on one logarithmic axis; a learnable temperature has a hollow diamond and no line."""
    columns = 1 if len(info.panels) < 2 else 2
    rows = max(-(-len(info.panels) // columns), 1)
    width = SINGLE if columns == 1 else DOUBLE
    learnt = bool(info.points["learnable"].any())
    with theme():
        figure = new_figure(width, 0.45 + 1.65 * rows + 0.15 * learnt)
        grid = figure.subplots(rows, columns, sharex=True, squeeze=False)
        for axes, (title, unit, quantities) in zip(grid.flat, info.panels, strict=False):
            for position, quantity in enumerate(quantities):
                _draw_quantity(axes, info, quantity, position)
            axes.set_title(wrapped(title, characters(width / columns - 0.4, 9)))
            axes.set_ylabel(wrapped(unit, 24))
            if any("gain" in quantity for quantity in quantities):
                axes.axhline(0, color=INK, linewidth=0.7, zorder=1.5)
            if len(quantities) > 1:
                low, high = axes.get_ylim()
                axes.set_ylim(low, high + 0.2 * (high - low))  # room for the legend above all that is drawn
                axes.legend(loc="upper right", handlelength=2.2, ncols=len(quantities), borderaxespad=0.1)
            seaborn.despine(ax=axes, left=True)
        _temperature_axis(grid.flat[0], info, width / columns - 0.6)
        hide_spare(grid.flat[len(info.panels) :])
        for column in range(columns):
            [axes for axes in grid[:, column] if axes.axison][-1].tick_params(labelbottom=True)
        figure.supxlabel("Temperature τ (no unit, logarithmic)")
        if learnt:
            handle = Line2D(
                [], [], color=INK, marker="D", linestyle="", markerfacecolor="white", markersize=4,
                label="learnable temperature, at its final value",
            )  # fmt: skip
            figure.legend(handles=[handle], loc="outside upper right")
    return figure


def _draw_quantity(axes: Axes, info: LadderInfo, quantity: str, position: int) -> None:
    colour = colours(4)[position % 4]
    marker, dash = _MARKERS[position % 4], DASHES[position % len(DASHES)]
    points = info.points[info.points["quantity"] == quantity]
    axes.plot(
        points["temperature"], points["value"], color=colour, marker=marker, markersize=2.4, linestyle="",
        alpha=0.4, markeredgecolor="none", zorder=2,
    )  # fmt: skip
    means = info.means[info.means["quantity"] == quantity]
    axes.vlines(means["temperature"], means["low"], means["high"], color=colour, linewidth=0.9, zorder=2.5)
    fixed = means[~means["learnable"]]
    axes.plot(
        fixed["temperature"], fixed["value"], color=colour, marker=marker, linestyle=dash, markersize=3.8,
        markeredgecolor="white", markeredgewidth=0.4, zorder=3, label=short(quantity, 30),
    )  # fmt: skip
    learnt = means[means["learnable"]]
    axes.plot(
        learnt["temperature"], learnt["value"], color=colour, marker="D", markerfacecolor="white",
        markersize=4, markeredgewidth=1.0, linestyle="", zorder=4,
    )  # fmt: skip


def _temperature_axis(axes: Axes, info: LadderInfo, room: float) -> None:
    """Mark the temperatures that were fixed, as far as their names have room."""
    axes.set_xscale("log")
    known = sorted(set(info.means.loc[~info.means["learnable"], "temperature"]))
    if len(known) < 3:
        known = sorted(set(info.means["temperature"]))
    every = info.points["temperature"]
    low, high = (float(every.min()), float(every.max())) if len(every) else (0.01, 1.0)
    ratio = max((high / low) ** 0.06, 1.15)
    axes.set_xlim(low / ratio, high * ratio)
    inch = room / np.log(high * ratio**2 / low)
    ticks: list[float] = []
    reached = -np.inf
    for value in known:
        half = len(f"{value:.3g}") * SMALL * 0.66 / 144 + 0.03
        if np.log(value) * inch - half > reached:
            ticks.append(value)
            reached = np.log(value) * inch + half
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:.3g}"))
    axes.tick_params(axis="x", labelsize=SMALLEST)
