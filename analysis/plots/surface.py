"""A number of each model over two crossed settings, as a map of cells; one panel a level of a third."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real

import numpy as np
import pandas as pd
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from analysis.plots.style import DOUBLE, SMALLEST, hide_spare, new_figure, theme

MOST_PANELS = 8
_MOST_WRITTEN = 60  # cells, beyond which no number is written into them


@dataclass(frozen=True)
class SurfaceInfo:
    """What the figure shows: ``cells`` has panel, x, y and value, the mean over models of a combination.

    ``panels``, ``xs`` and ``ys`` are the levels in order; without a third setting there is one panel, "".
    """

    quantity: str
    unit: str
    x: str
    y: str
    panel: str
    xs: tuple[str, ...]
    ys: tuple[str, ...]
    panels: tuple[str, ...]
    cells: pd.DataFrame
    left_out: tuple[str, ...] = ()


def surface_info(
    points: pd.DataFrame, settings: Sequence[str], *, quantity: str, unit: str, most: int = MOST_PANELS
) -> SurfaceInfo:
    """Average values over models by the levels of two or three settings.

    Args:
        points: column value and a column for each setting; one row a model. Over further settings, and over
            seeds, values are averaged.
        settings: the first is on the vertical axis, the second on the horizontal one, the third has panels.
        most: levels of the third beyond these are left out and named.
    """
    y, x, *others = settings
    panel = others[0] if others else ""
    table = points.assign(**{panel: ""}) if not others else points
    levels = {name: sorted(table[name].unique(), key=_place) for name in (x, y, panel)}
    means = table.groupby([panel, y, x], sort=False)["value"].mean().reset_index()
    cells = pd.DataFrame(
        {
            "panel": means[panel].map(_said),
            "y": means[y].map(_said),
            "x": means[x].map(_said),
            "value": means["value"],
        }
    )
    panels = tuple(_said(level) for level in levels[panel])
    return SurfaceInfo(
        quantity=quantity,
        unit=unit,
        x=x,
        y=y,
        panel=panel,
        xs=tuple(_said(level) for level in levels[x]),
        ys=tuple(_said(level) for level in levels[y]),
        panels=panels[:most],
        cells=cells[cells["panel"].isin(panels[:most])].reset_index(drop=True),
        left_out=tuple(f"{panel} {level}" for level in panels[most:]),
    )


def draw_surface(info: SurfaceInfo) -> Figure:
    """Draw the cells, coloured from below zero to above it where values have both signs."""
    columns = min(len(info.panels), 4)
    rows = -(-len(info.panels) // columns)
    low, high = info.cells["value"].min(), info.cells["value"].max()
    signed = low < 0 < high
    colours = (
        {"cmap": "RdBu_r", "norm": TwoSlopeNorm(0, low, high)}
        if signed
        else {"cmap": "viridis", "vmin": low, "vmax": high}
    )
    with theme():
        figure = new_figure(DOUBLE, rows * (0.55 + 0.26 * max(len(info.ys), 3)) + 0.45)
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        written = len(info.xs) * len(info.ys) <= _MOST_WRITTEN // columns
        for axes, panel in zip(grid.flat, info.panels, strict=False):
            mine = info.cells[info.cells["panel"] == panel]
            values = mine.pivot(index="y", columns="x", values="value").reindex(
                index=list(info.ys), columns=list(info.xs)
            )
            mesh = axes.pcolormesh(np.ma.masked_invalid(values.to_numpy(float)), **colours)
            axes.set_xticks([place + 0.5 for place in range(len(info.xs))], info.xs)
            axes.set_yticks([place + 0.5 for place in range(len(info.ys))], info.ys)
            axes.tick_params(length=0)
            if panel:
                axes.set_title(f"{info.panel} {panel}")
            for (row, column), value in np.ndenumerate(values.to_numpy(float)):
                if written and np.isfinite(value):
                    red, green, blue, _ = mesh.to_rgba(value)
                    ink = "black" if 0.3 * red + 0.59 * green + 0.11 * blue > 0.5 else "white"
                    axes.text(
                        column + 0.5, row + 0.5, f"{value:.1f}", ha="center", va="center", color=ink,
                        fontsize=SMALLEST,
                    )  # fmt: skip
        hide_spare(grid.flat[len(info.panels) :])
        figure.supxlabel(info.x, fontsize="medium")
        figure.supylabel(info.y, fontsize="medium")
        figure.colorbar(mesh, ax=grid, label=f"{info.quantity}, {info.unit}", fraction=0.05, pad=0.02)
    return figure


def _place(level: object) -> tuple[int, float, str]:
    return (0, float(level), "") if isinstance(level, Real) else (1, 0.0, str(level))


def _said(level: object) -> str:
    return f"{level:g}" if isinstance(level, float) else str(level)
