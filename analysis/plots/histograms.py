"""Histograms of cosine similarity by kind of pair, one facet an arm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pandas as pd
import seaborn
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.plots.style import colours, facet_shape, facet_title, new_figure, plain, theme
from analysis.tables import SIDE, reported

LINES: tuple[Literal["-", "--", ":", "-."], ...] = ("-", "--", ":", "-.")

NEGLIGIBLE = 5e-4


@dataclass(frozen=True)
class HistogramInfo:
    """What a figure shows: ``bins`` with arm, kind, bin_low, bin_high, share (of the pairs of that kind)."""

    task: str
    arms: tuple[str, ...]
    labels: tuple[str, ...]
    bins: pd.DataFrame


def histogram_infos(histograms: pd.DataFrame, dataset: str, labels: dict[str, str]) -> list[HistogramInfo]:
    """Make one info a task from the native route: one model an arm, its first seed."""
    here = reported(histograms[(histograms["dataset"] == dataset) & (histograms["route"] == "native")])
    first = here.groupby("arm")["seed"].min()
    here = here[here["seed"] == here["arm"].map(first)]
    infos = []
    for (_, _, task), group in here.groupby(SIDE, sort=False):
        total = group.groupby(["arm", "kind"])["count"].transform("sum")
        bins = group.assign(share=group["count"] / total.where(total > 0))
        bins = bins[["arm", "kind", "bin_low", "bin_high", "share"]].reset_index(drop=True)
        arms = tuple(arm for arm in labels if arm in set(bins["arm"]))
        infos.append(HistogramInfo(str(task), arms, tuple(labels[arm] for arm in arms), bins))
    return infos


def draw_histograms(info: HistogramInfo) -> Figure:
    """Draw the shares as steps on shared axes, cut to the similarities that occur more than rarely."""
    rows, columns = facet_shape(len(info.arms))
    kinds = list(dict.fromkeys(info.bins["kind"]))
    palette = dict(zip(kinds, colours(len(kinds)), strict=True))
    dashes = {kind: LINES[position % len(LINES)] for position, kind in enumerate(kinds)}
    occupied = info.bins[info.bins["share"] > NEGLIGIBLE]
    with theme():
        figure = new_figure(11 if columns > 1 else 7, 1.1 + 2.3 * rows)
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for axes, arm, label in zip(grid.flat, info.arms, info.labels, strict=False):
            for kind, line in info.bins[info.bins["arm"] == arm].groupby("kind", sort=False):
                line = line.sort_values("bin_low")
                edges = [*line["bin_low"], line["bin_high"].iloc[-1]]
                percent = 100 * line["share"]
                axes.stairs(percent, edges, fill=True, color=palette[kind], alpha=0.16)
                axes.stairs(percent, edges, color=palette[kind], linewidth=1.5, linestyle=dashes[kind])
            axes.set_title(facet_title(label, columns))
            seaborn.despine(ax=axes, left=True)
        if len(occupied):
            grid.flat[0].set_xlim(occupied["bin_low"].min(), occupied["bin_high"].max())
            grid.flat[0].set_ylim(0, None)
        for axes in grid.flat[len(info.arms) :]:
            axes.set_axis_off()
        for column in range(columns):
            [axes for axes in grid[:, column] if axes.axison][-1].tick_params(labelbottom=True)
        figure.supxlabel("Cosine similarity (no unit)", fontsize=10)
        figure.supylabel("Share of pairs of that kind (%)", fontsize=10)
        handles = [
            Line2D([], [], color=palette[kind], linestyle=dashes[kind], label=f"{plain(kind)}")
            for kind in kinds
        ]
        figure.legend(handles=handles, loc="outside upper center", ncols=len(kinds))
    return figure
