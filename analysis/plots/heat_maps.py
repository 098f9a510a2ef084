"""Maps of cells: a number over crossed settings of training and inversion, a gain over mention and steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from analysis.plots.style import (
    DOUBLE,
    INK,
    QUIET,
    SMALLEST,
    facet_shape,
    facet_title,
    facet_width,
    hide_spare,
    new_figure,
    theme,
)

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
            cells = info.cells[info.cells["panel"] == panel]
            values = cells.pivot(index="y", columns="x", values="value").reindex(
                index=list(info.ys), columns=list(info.xs)
            )
            mesh = _draw_cells(axes, values, colours, _on_colour if written else None)
            if panel:
                axes.set_title(f"{info.panel} {panel}")
        hide_spare(grid, len(info.panels))
        figure.supxlabel(info.x, fontsize="medium")
        figure.supylabel(info.y, fontsize="medium")
        figure.colorbar(mesh, ax=grid, label=f"{info.quantity}, {info.unit}", fraction=0.05, pad=0.02)
    return figure


def draw_mention_and_steps(gains: pd.DataFrame) -> Figure:
    """Draw a panel a line: the gain in points after some steps (up) by mention (right).

    Cells whose interval holds 0 are grey figures, the others bold.

    Args:
        gains: columns line, mention, steps, value, low, high.
    """
    lines = tuple(dict.fromkeys(gains["line"]))
    rows, columns = facet_shape(len(lines))
    most = max(float(gains["value"].abs().max()), 1e-9)
    colours = {"cmap": seaborn.color_palette("vlag", as_cmap=True), "vmin": -most, "vmax": most}
    with theme():
        figure = new_figure(facet_width(columns), 0.5 + rows * (0.45 + 0.17 * gains["steps"].nunique()))
        panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for axes, line in zip(panels.flat, lines, strict=False):
            wide = gains[gains["line"] == line].pivot(index="steps", columns="mention")
            decided = ((wide["low"] > 0) | (wide["high"] < 0)).to_numpy()

            def written(place: tuple[int, int], value: float, _: Any, decided: Any = decided) -> _Words:
                look: dict[str, Any] = (
                    {"color": INK, "fontweight": "bold"} if decided[place] else {"color": QUIET}
                )
                return f"{value:+.1f}", look

            named = wide["value"].rename(index="{:g}".format, columns="{:g}".format)
            _draw_cells(axes, named, colours, written)
            axes.set_title(facet_title(line, columns))
        hide_spare(panels, len(lines))
        figure.supxlabel("Probability that a caption names each factor but the object")
        figure.supylabel("Inversion steps")
    return figure


_Words = tuple[str, dict[str, Any]]  # what is written into a cell, and how it looks


def _draw_cells(
    axes: Axes,
    values: pd.DataFrame,
    colours: Mapping[str, Any],
    written: Callable[[tuple[int, int], float, Any], _Words] | None,
) -> QuadMesh:
    """Draw a table as coloured cells, its first row lowest, with words in them where there are any."""
    mesh = axes.pcolormesh(np.ma.masked_invalid(values.to_numpy(float)), **colours)
    axes.set_xticks(np.arange(values.shape[1]) + 0.5, list(values.columns))
    axes.set_yticks(np.arange(values.shape[0]) + 0.5, list(values.index))
    axes.tick_params(length=0)
    axes.grid(visible=False)
    for (row, column), value in np.ndenumerate(values.to_numpy(float)):
        if written is not None and np.isfinite(value):
            words, look = written((row, column), value, mesh.to_rgba(value))
            axes.text(column + 0.5, row + 0.5, words, ha="center", va="center", fontsize=SMALLEST, **look)
    return mesh


def _on_colour(_: tuple[int, int], value: float, colour: tuple[float, float, float, float]) -> _Words:
    red, green, blue, _alpha = colour
    return f"{value:.1f}", {"color": "black" if 0.3 * red + 0.59 * green + 0.11 * blue > 0.5 else "white"}


def _place(level: object) -> tuple[int, float, str]:
    return (0, float(level), "") if isinstance(level, Real) else (1, 0.0, str(level))


def _said(level: object) -> str:
    return f"{level:g}" if isinstance(level, float) else str(level)
