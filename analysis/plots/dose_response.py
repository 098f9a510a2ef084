"""Dose and response: quantities over the strength of what was varied, a panel each, a line a ladder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.plots.seed_effects import FEWEST
from analysis.plots.style import (
    DOUBLE,
    INK,
    MARKERS,
    QUIET,
    SINGLE,
    SMALLEST,
    characters,
    colours,
    hide_spare,
    legend_columns,
    new_figure,
    short,
    theme,
    wrapped,
)
from analysis.stats.seeds import t_interval

Dash = Literal["-"] | tuple[float, tuple[float, ...]]
DASHES: tuple[Dash, ...] = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)))
MOST_LADDERS = 8
MOST_PANELS = 6
_BASELINE = "0\n(baseline)"


@dataclass(frozen=True)
class DoseInfo:
    """What the figure shows, in the quantities' units.

    ``points``: ladder, dose, arm, seed, quantity, value. ``means``: ladder, dose, arm, label, quantity,
    value, low, high, n_seeds. ``left_out``: ladders and quantities that are not shown.
    """

    ladders: tuple[str, ...]
    quantities: tuple[str, ...]
    units: tuple[str, ...]
    points: pd.DataFrame
    means: pd.DataFrame
    left_out: tuple[str, ...] = ()

    @property
    def doses(self) -> tuple[float, ...]:
        """List the doses above 0."""
        return tuple(sorted({float(dose) for dose in self.points["dose"] if dose > 0}))


def dose_info(
    points: pd.DataFrame,
    labels: dict[str, str],
    summary: pd.DataFrame | None = None,
    *,
    ladders: Sequence[str] | None = None,
    most: int = MOST_LADDERS,
    most_quantities: int = MOST_PANELS,
) -> DoseInfo:
    """Average the seeds of each ladder's doses; intervals are those given, or Student's t.

    Args:
        points: columns ladder, dose (0: the baseline, once for each ladder), arm, seed, quantity, unit,
            value; one row a model and quantity.
        labels: names of arms for readers.
        summary: columns ladder, dose, arm, quantity, value, low, high: used in place of means over seeds.
        ladders: those to show, in their order; default: the first ``most`` that occur.

    Raises:
        ValueError: a negative dose.
    """
    if (points["dose"] < 0).any():
        raise ValueError(f"dose={points['dose'].min()}: doses are not negative; 0 is the baseline")
    every = tuple(dict.fromkeys(points["ladder"]))
    shown = tuple(ladders) if ladders is not None else every[:most]
    units = dict(zip(points["quantity"], points["unit"], strict=True))
    quantities = tuple(units)[:most_quantities]
    here = points[points["ladder"].isin(shown) & points["quantity"].isin(quantities)]
    means = average(here, ["ladder", "dose", "arm", "quantity"], summary)
    means.insert(3, "label", [labels.get(arm, arm) for arm in means["arm"]])
    return DoseInfo(
        ladders=shown,
        quantities=quantities,
        units=tuple(units[quantity] for quantity in quantities),
        points=here[["ladder", "dose", "arm", "seed", "quantity", "value"]].reset_index(drop=True),
        means=means,
        left_out=(
            *(ladder for ladder in every if ladder not in shown),
            *tuple(units)[most_quantities:],
        ),
    )


def average(points: pd.DataFrame, by: Sequence[str], summary: pd.DataFrame | None) -> pd.DataFrame:
    """Average ``value`` over seeds, with Student's interval; a summary goes before.

    Fewer than three seeds have no interval: that of two reaches 12.7 standard errors, and nothing else would
    be seen beside it.

    Returns:
        columns ``by``, value, low, high, n_seeds.
    """
    rows: list[dict[str, object]] = []
    for key, group in points.groupby(list(by), sort=False):
        values = group["value"].dropna().to_numpy(np.float64)
        low, high = t_interval(values) if len(values) > 1 else (np.nan, np.nan)
        mean = float(values.mean()) if len(values) else np.nan
        counted = {"value": mean, "low": low, "high": high, "n_seeds": len(values)}
        rows.append({**dict(zip(by, key, strict=True)), **counted})
    means = pd.DataFrame(rows, columns=[*by, "value", "low", "high", "n_seeds"])
    bounds = ["value", "low", "high"]
    if summary is not None and len(means):
        known_once = summary[[*by, *bounds]].drop_duplicates(list(by))
        given = means[list(by)].merge(known_once, on=list(by), how="left", indicator=True)
        known = (given["_merge"] == "both").to_numpy()
        for column in bounds:
            means[column] = np.where(known, given[column], means[column])
    means.loc[means["n_seeds"] < FEWEST, ["low", "high"]] = np.nan
    return means


def draw_doses(info: DoseInfo) -> Figure:
    """Draw the means with intervals over a logarithmic axis of doses, the baseline apart at its left."""
    columns = min(max(len(info.quantities), 1), 3 if len(info.quantities) != 4 else 2)
    rows = max(-(-len(info.quantities) // columns), 1)
    width = SINGLE if columns == 1 else DOUBLE
    names = [short(ladder, 40) for ladder in info.ladders]
    with theme():
        ncols = legend_columns([name + "----" for name in names], width)
        figure = new_figure(width, 0.55 + 1.75 * rows + 0.14 * (-(-len(names) // ncols)))
        grid = figure.subplots(rows, columns, sharex=True, squeeze=False)
        room = width / columns - 0.6
        place = _Places(info.doses, room)
        for axes, quantity, unit in zip(grid.flat, info.quantities, info.units, strict=False):
            for ladder in info.ladders:
                _draw_ladder(axes, info, quantity, ladder, place)
            axes.set_title(wrapped(quantity, characters(room + 0.3, 9)))
            axes.set_ylabel(wrapped(unit, 24))
            axes.axvline(place.edge, color=QUIET, linewidth=0.5, linestyle=":", zorder=1)
            axes.grid(visible=False, axis="x")
            seaborn.despine(ax=axes, left=True)
        place.tick(grid.flat[0])
        hide_spare(grid.flat[len(info.quantities) :])
        for column in range(columns):
            [axes for axes in grid[:, column] if axes.axison][-1].tick_params(labelbottom=True)
        figure.supxlabel("Strength (logarithmic)")
        handles = [ladder_line([], [], position, len(info.ladders)) for position in range(len(info.ladders))]
        figure.legend(handles, names, loc="outside upper center", ncols=ncols)
    return figure


def ladder_line(x: Sequence[float], y: Sequence[float], position: int, count: int) -> Line2D:
    return Line2D(
        x, y, color=colours(count)[position], marker=MARKERS[position % len(MARKERS)], markersize=3.6,
        linestyle=DASHES[position % len(DASHES)], markeredgecolor="white", markeredgewidth=0.4, zorder=3,
    )  # fmt: skip


class _Places:
    """Where doses stand on the axis: log2 above 0, and 0 apart at the left."""

    def __init__(self, doses: tuple[float, ...], room: float) -> None:
        self.doses, self.room = doses, room
        places = np.log2(doses) if doses else np.zeros(1)
        self.low, self.high = float(places.min()), float(places.max())
        self.step = max(0.24 * (self.high - self.low), 0.8)
        self.zero, self.edge = self.low - self.step, self.low - self.step / 2

    def of(self, doses: pd.Series) -> npt.NDArray[np.float64]:
        positive = doses.to_numpy(np.float64)
        return np.where(positive > 0, np.log2(np.where(positive > 0, positive, 1.0)), self.zero)

    def tick(self, axes: Axes) -> None:
        margin = 0.25 * self.step
        axes.set_xlim(self.zero - margin - 0.1 * self.step, self.high + margin)
        inch = self.room / (self.high - self.zero + 2.2 * margin)
        ticks, labels = [self.zero], [_BASELINE]
        reached = self.zero * inch + 0.32
        for dose in self.doses:
            label = f"{dose:.3g}"
            half = len(label) * SMALLEST * 0.66 / 144 + 0.03
            if np.log2(dose) * inch - half > reached:
                ticks.append(float(np.log2(dose)))
                labels.append(label)
                reached = np.log2(dose) * inch + half
        axes.set_xticks(ticks, labels, fontsize=SMALLEST)


def _draw_ladder(axes: Axes, info: DoseInfo, quantity: str, ladder: str, place: _Places) -> None:
    count, position = len(info.ladders), info.ladders.index(ladder)
    colour, marker = colours(count)[position], MARKERS[position % len(MARKERS)]
    shift = 0.05 * place.step * (position - (count - 1) / 2)
    dots = info.points[(info.points["quantity"] == quantity) & (info.points["ladder"] == ladder)]
    axes.plot(
        place.of(dots["dose"]) + shift + 0.05 * place.step, dots["value"], color=colour, marker=marker,
        markersize=2.4, linestyle="", markeredgecolor="none", alpha=0.4, zorder=2,
    )  # fmt: skip
    line = info.means[(info.means["quantity"] == quantity) & (info.means["ladder"] == ladder)]
    line = line.sort_values("dose")
    x = place.of(line["dose"]) + shift
    axes.vlines(x, line["low"], line["high"], color=colour, linewidth=0.9, zorder=2.5)
    axes.add_line(ladder_line(list(x), list(line["value"]), position, count))
    axes.autoscale_view()
    start = line["dose"].to_numpy() == 0
    if start.any():  # the baseline is not a member of the ladder
        axes.plot(
            x[start], line["value"].to_numpy()[start], color="white", marker="o", markersize=4.2,
            markeredgecolor=INK, markeredgewidth=0.9, linestyle="", zorder=4,
        )  # fmt: skip
