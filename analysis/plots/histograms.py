"""Histograms of cosine similarity by kind of pair: a column an arm, a row a route."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.plots.style import (
    DOUBLE,
    INK,
    MOST_FACETS,
    SINGLE,
    SMALL,
    arms_shown,
    colours,
    facet_shape,
    facet_title,
    facet_width,
    hide_spare,
    legend_columns,
    new_figure,
    short,
    theme,
)
from crossgap.reading.quoting import SIDE, reported
from crossgap.vocabulary import ROUTE_WORDS

LINES: tuple[Literal["-", "--", ":", "-."], ...] = ("-", "--", ":", "-.")
ROUTES = ("native", "oti", "ovi", "centred")
MOST_COLUMNS = 4
NEGLIGIBLE = 5e-4


def _name(route: str) -> str:
    words = ROUTE_WORDS[route]
    return f"through {words.label}" if words.family == "inversion" else words.label


@dataclass(frozen=True)
class HistogramInfo:
    """What a figure shows.

    ``bins``: arm, route, kind, bin_low, bin_high, share (of the pairs of that kind, arm and route).
    ``left_out``: labels of arms that a figure of this size does not show.
    """

    task: str
    arms: tuple[str, ...]
    labels: tuple[str, ...]
    bins: pd.DataFrame
    routes: tuple[str, ...] = ("native",)
    left_out: tuple[str, ...] = ()


def histogram_infos(
    histograms: pd.DataFrame, dataset: str, labels: dict[str, str], *, routes: Sequence[str] = ROUTES
) -> list[HistogramInfo]:
    """Make one info a task: one model an arm, its first seed; at most four arms where routes are compared."""
    of_dataset = reported(histograms[(histograms["dataset"] == dataset) & histograms["route"].isin(routes)])
    of_dataset = of_dataset[of_dataset["seed"] == of_dataset.groupby("arm")["seed"].transform("min")]
    infos = []
    for (_, _, task), group in of_dataset.groupby(SIDE, sort=False):
        measured = tuple(route for route in routes if route in set(group["route"]))
        arms, left_out = arms_shown(labels, group["arm"], MOST_COLUMNS if len(measured) > 1 else MOST_FACETS)
        group = group[group["arm"].isin(arms)]
        total = group.groupby(["arm", "route", "kind"])["count"].transform("sum")
        bins = group.assign(share=group["count"] / total.where(total > 0))
        bins = bins[["arm", "route", "kind", "bin_low", "bin_high", "share"]].reset_index(drop=True)
        infos.append(
            HistogramInfo(
                task=str(task),
                arms=arms,
                labels=tuple(labels[arm] for arm in arms),
                bins=bins,
                routes=measured,
                left_out=left_out,
            )
        )
    return infos


def draw_histograms(info: HistogramInfo) -> Figure:
    """Draw the shares as steps on shared axes, cut to the similarities that occur more than rarely."""
    kinds = list(dict.fromkeys(info.bins["kind"]))
    palette = dict(zip(kinds, colours(len(kinds)), strict=True))
    several = len(info.routes) > 1
    rows, columns = (len(info.routes), len(info.arms)) if several else facet_shape(len(info.arms))
    width = (SINGLE if columns == 1 else DOUBLE) if several else facet_width(columns)
    occupied = info.bins[info.bins["share"] > NEGLIGIBLE]
    with theme():
        figure = new_figure(width, 0.85 + (1.0 if several else 1.2) * rows)
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        facets = (
            [(route, arm) for route in info.routes for arm in info.arms]
            if several
            else [(info.routes[0] if info.routes else "native", arm) for arm in info.arms]
        )
        for axes, (route, arm) in zip(grid.flat, facets, strict=False):
            bins = info.bins[(info.bins["arm"] == arm) & (info.bins["route"] == route)]
            _draw_facet(axes, bins, palette)
        for axes, label in zip(grid.flat, info.labels, strict=False):
            axes.set_title(facet_title(label, columns))
        if several:
            for axes, route in zip(grid[:, 0], info.routes, strict=True):
                axes.set_ylabel(_name(route), fontsize=SMALL, color=INK, fontweight="bold")
        if len(occupied):
            grid.flat[0].set_xlim(occupied["bin_low"].min(), occupied["bin_high"].max())
            grid.flat[0].set_ylim(0, None)
        hide_spare(grid, len(facets))
        figure.supxlabel("Cosine similarity (no unit)")
        figure.supylabel("Share of pairs" + (" " if rows > 1 else "\n") + "of that kind (%)")
        names = [short(kind, 30) for kind in kinds]
        handles = [
            Line2D([], [], color=palette[kind], linestyle=LINES[place % len(LINES)])
            for place, kind in enumerate(kinds)
        ]
        figure.legend(handles, names, loc="outside upper center", ncols=legend_columns(names, width))
    return figure


def _draw_facet(axes: Axes, bins: pd.DataFrame, palette: dict[str, str]) -> None:
    dashes = {kind: LINES[place % len(LINES)] for place, kind in enumerate(palette)}
    for kind, line in bins.groupby("kind", sort=False):
        line = line.sort_values("bin_low")
        edges = [*line["bin_low"], line["bin_high"].iloc[-1]]
        percent = 100 * line["share"]
        axes.stairs(percent, edges, fill=True, color=palette[str(kind)], alpha=0.16)
        axes.stairs(percent, edges, color=palette[str(kind)], linewidth=1.0, linestyle=dashes[str(kind)])
    seaborn.despine(ax=axes, left=True)
