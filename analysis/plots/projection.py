"""A 2-D picture of both modalities' embeddings, one facet an arm."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import seaborn
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from analysis.plots.style import (
    SMALLEST,
    arms_shown,
    facet_shape,
    facet_title,
    facet_width,
    hide_spare,
    new_figure,
    short,
    theme,
)

MOST_MODELS = 6  # each a picture of thousands of points
MODALITIES = {"image": ("#0173b2", "o"), "text": ("#de8f05", "^")}


@dataclass(frozen=True)
class ProjectionInfo:
    """What the figure shows: ``points`` with arm, modality, x, y of one model an arm (its first seed).

    ``left_out``: labels of arms that a figure of so many facets does not show.
    """

    arms: tuple[str, ...]
    labels: tuple[str, ...]
    seeds: tuple[int, ...]
    method: str
    points: pd.DataFrame
    left_out: tuple[str, ...] = ()


def projection_info(
    projection: pd.DataFrame, dataset: str, labels: dict[str, str], *, most: int = MOST_MODELS
) -> ProjectionInfo:
    """Take the first seed of each arm; of several methods or splits the first written."""
    points = projection[projection["dataset"] == dataset]
    points = points[
        (points["method"] == points["method"].iloc[0]) & (points["split"] == points["split"].iloc[0])
    ]
    first = points.groupby("arm")["seed"].min()
    points = points[points["seed"] == points["arm"].map(first)]
    arms, left_out = arms_shown(labels, first.index, most)
    points = points[points["arm"].isin(arms)]
    return ProjectionInfo(
        arms=arms,
        labels=tuple(labels[arm] for arm in arms),
        seeds=tuple(int(first[arm]) for arm in arms),
        method=str(points["method"].iloc[0]),
        points=points[["arm", "modality", "x", "y"]].reset_index(drop=True),
        left_out=left_out,
    )


def draw_projection(info: ProjectionInfo) -> Figure:
    """Draw the points of both modalities; each facet has its own axes, since each model has its own plane."""
    rows, columns = facet_shape(len(info.arms))
    with theme():
        width = facet_width(columns)
        figure = new_figure(width, 0.65 + (0.95 * width / columns + 0.1) * rows)
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes, arm, label in zip(grid.flat, info.arms, info.labels, strict=False):
            seaborn.scatterplot(
                data=info.points[info.points["arm"] == arm], x="x", y="y", hue="modality", style="modality",
                hue_order=list(MODALITIES), style_order=list(MODALITIES),
                palette={name: colour for name, (colour, _) in MODALITIES.items()},
                markers={name: marker for name, (_, marker) in MODALITIES.items()},
                s=4, linewidth=0, alpha=0.55, legend=False, rasterized=True, ax=axes,
            )  # fmt: skip
            axes.set_aspect("equal", adjustable="datalim")
            axes.set_title(facet_title(label, columns))
            axes.set(xlabel="", ylabel="")
            axes.tick_params(labelsize=SMALLEST)
            axes.xaxis.set_major_locator(MaxNLocator(3))
            axes.yaxis.set_major_locator(MaxNLocator(3))
        hide_spare(grid, len(info.arms))
        figure.supxlabel(f"First coordinate of {short(info.method, 30 if columns > 1 else 20)} (no unit)")
        figure.supylabel("Second coordinate (no unit)")
        handles = [
            Line2D([], [], color=colour, marker=marker, linestyle="none", label=name)
            for name, (colour, marker) in MODALITIES.items()
        ]
        figure.legend(handles=handles, loc="outside upper center", ncols=2)
    return figure
