"""Quantities along what was varied, a panel each: strengths of terms, temperatures, what captions say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from analysis.plots.forests import FEWEST
from analysis.plots.style import (
    DOUBLE,
    INK,
    MARKERS,
    QUIET,
    SINGLE,
    SMALL,
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
    means: pd.DataFrame,
    labels: dict[str, str],
    *,
    ladders: Sequence[str] | None = None,
    most: int = MOST_LADDERS,
    most_quantities: int = MOST_PANELS,
) -> DoseInfo:
    """Choose what is shown along each ladder's doses.

    Args:
        points: columns ladder, dose (0: the baseline, once for each ladder), arm, seed, quantity, unit,
            value; one row a model and quantity.
        means: columns ladder, dose, arm, quantity, value, low, high, n_seeds.
        labels: names of arms for readers.
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
    of_shown, means = (
        frame[frame["ladder"].isin(shown) & frame["quantity"].isin(quantities)].reset_index(drop=True)
        for frame in (points, means)
    )
    means.insert(3, "label", [labels.get(arm, arm) for arm in means["arm"]])
    return DoseInfo(
        ladders=shown,
        quantities=quantities,
        units=tuple(units[quantity] for quantity in quantities),
        points=of_shown[["ladder", "dose", "arm", "seed", "quantity", "value"]],
        means=_bounded(means),
        left_out=(
            *(ladder for ladder in every if ladder not in shown),
            *tuple(units)[most_quantities:],
        ),
    )


def _bounded(means: pd.DataFrame) -> pd.DataFrame:
    """Leave the intervals of fewer than three seeds away.

    That of two reaches 12.7 standard errors, and nothing else would be seen beside it.
    """
    few = means["n_seeds"] < FEWEST
    return means.assign(**{name: means[name].mask(few) for name in ("low", "high")})


def draw_doses(info: DoseInfo) -> Figure:
    """Draw the means with intervals over a logarithmic axis of doses, the baseline apart at its left."""
    count, n_ladders = max(len(info.quantities), 1), len(info.ladders)
    columns = min(count, 3 if count != 4 else 2)
    width = SINGLE if columns == 1 else DOUBLE
    names = [short(ladder, 40) for ladder in info.ladders]
    place = _Places(info.doses, width / columns - 0.6)

    def draw(axes: Axes, panel: int) -> None:
        for position, ladder in enumerate(info.ladders):
            dots, line = (
                frame[(frame["quantity"] == info.quantities[panel]) & (frame["ladder"] == ladder)]
                for frame in (info.points, info.means.sort_values("dose", kind="stable"))
            )
            shift = 0.05 * place.step * (position - (n_ladders - 1) / 2)
            x = place.of(line["dose"]) + shift
            _draw_series(
                axes, place.of(dots["dose"]) + shift + 0.05 * place.step, dots, x, line, position, n_ladders
            )
            start = line["dose"].to_numpy() == 0
            if start.any():  # the baseline is not a member of the ladder
                axes.plot(
                    x[start], line["value"].to_numpy()[start], color="white", marker="o", markersize=4.2,
                    markeredgecolor=INK, markeredgewidth=0.9, linestyle="", zorder=4,
                )  # fmt: skip
        axes.axvline(place.edge, color=QUIET, linewidth=0.5, linestyle=":", zorder=1)
        axes.grid(visible=False, axis="x")

    with theme():
        ncols = legend_columns([name + "----" for name in names], width)
        legend = 0.14 * (-(-len(names) // ncols))
        figure = new_figure(width, 0.55 + 1.75 * (-(-count // columns)) + legend)
        titles = list(zip(info.quantities, info.units, strict=True))
        first = _draw_panels(figure, columns, titles, width / columns - 0.3, draw)
        place.tick(first)
        figure.supxlabel("Strength (logarithmic)")
        handles = [series_line([], [], position, n_ladders) for position in range(n_ladders)]
        figure.legend(handles, names, loc="outside upper center", ncols=ncols)
    return figure


def _draw_panels(
    figure: Figure,
    columns: int,
    panels: Sequence[tuple[str, str]],
    room: float,
    draw: Callable[[Axes, int], None],
) -> Axes:
    """Draw panels of a title and a unit on one horizontal axis; return the first."""
    grid = figure.subplots(max(-(-len(panels) // columns), 1), columns, sharex=True, squeeze=False)
    for place, (axes, (title, unit)) in enumerate(zip(grid.flat, panels, strict=False)):
        draw(axes, place)
        axes.set_title(wrapped(title, characters(room, 9)))
        axes.set_ylabel(wrapped(unit, 24))
        seaborn.despine(ax=axes, left=True)
    hide_spare(grid, len(panels))
    first: Axes = grid[0, 0]
    return first


def series_line(x: Sequence[float], y: Sequence[float], position: int, count: int) -> Line2D:
    """Make the line that joins the means of a series."""
    return Line2D(
        x, y, color=colours(count)[position], marker=MARKERS[position % len(MARKERS)], markersize=3.6,
        linestyle=DASHES[position % len(DASHES)], markeredgecolor="white", markeredgewidth=0.4, zorder=3,
    )  # fmt: skip


def _draw_series(
    axes: Axes, x_dots: npt.ArrayLike, dots: pd.DataFrame, x: npt.ArrayLike, means: pd.DataFrame,
    position: int, count: int,
) -> None:  # fmt: skip
    """Draw models as dots, and their means with intervals, joined by a line."""
    colour = colours(count)[position]
    axes.plot(
        x_dots, dots["value"], color=colour, marker=MARKERS[position % len(MARKERS)], markersize=2.4,
        linestyle="", markeredgecolor="none", alpha=0.4, zorder=2,
    )  # fmt: skip
    axes.vlines(x, means["low"], means["high"], color=colour, linewidth=0.9, zorder=2.5)
    axes.add_line(series_line(list(np.asarray(x)), list(means["value"]), position, count))
    axes.autoscale_view()


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


@dataclass(frozen=True)
class MentionInfo:
    """What the figure shows, in the quantities' units.

    ``lines``: arms that differ in mention alone share one. ``points``: line, mention, arm, seed, quantity,
    value. ``means``: line, mention, arm, quantity, value, low, high (NaN without an interval).
    """

    lines: tuple[str, ...]
    quantities: tuple[str, ...]
    units: tuple[str, ...]
    points: pd.DataFrame
    means: pd.DataFrame


def mention_info(points: pd.DataFrame, means: pd.DataFrame) -> MentionInfo:
    """Order what is drawn.

    Args:
        points: columns line, mention, arm, seed, quantity, unit, value; a row a model and quantity.
        means: columns line, mention, arm, quantity, value, low, high; a row an arm and quantity.

    Raises:
        ValueError: a mention outside [0, 1].
    """
    outside = points.loc[~points["mention"].between(0, 1), "mention"]
    if len(outside):
        raise ValueError(f"mention={outside.iloc[0]}: a probability lies between 0 and 1")
    units = dict(zip(points["quantity"], points["unit"], strict=True))
    return MentionInfo(
        lines=tuple(dict.fromkeys(points["line"])),
        quantities=tuple(units),
        units=tuple(units.values()),
        points=points.drop(columns="unit").reset_index(drop=True),
        means=means.sort_values("mention", kind="stable").reset_index(drop=True),
    )


def draw_mention(info: MentionInfo) -> Figure:
    """Draw a panel a quantity: means joined along mention, their intervals, models as dots."""
    names = [short(line, 44) for line in info.lines]
    n_lines, columns = len(names), max(len(info.quantities), 1)

    def draw(axes: Axes, panel: int) -> None:
        quantity = info.quantities[panel]
        for position, line in enumerate(info.lines):
            dots, means = (
                frame[(frame["quantity"] == quantity) & (frame["line"] == line)]
                for frame in (info.points, info.means)
            )
            shift = 0.008 * (position - (n_lines - 1) / 2)  # side by side: bars can be told apart
            _draw_series(
                axes, dots["mention"] + shift, dots, means["mention"] + shift, means, position, n_lines
            )
        if "gain" in quantity:
            axes.axhline(0, color=INK, linewidth=0.7, zorder=1.5)
        axes.set_xticks(sorted(set(info.points["mention"])))
        axes.tick_params(axis="x", labelsize=SMALL)
        axes.xaxis.set_major_formatter("{x:.2g}")

    with theme():
        ncols = legend_columns([f"{name}----" for name in names], DOUBLE)
        figure = new_figure(DOUBLE, 2.35 + 0.14 * (-(-n_lines // ncols)))
        titles = list(zip(info.quantities, info.units, strict=True))
        _draw_panels(figure, columns, titles, DOUBLE / columns - 0.5, draw)
        figure.supxlabel("Probability that a caption names each factor but the object")
        handles = [series_line([], [], position, n_lines) for position in range(n_lines)]
        figure.legend(handles, names, loc="outside upper center", ncols=ncols)
    return figure


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


def ladder_info(points: pd.DataFrame, means: pd.DataFrame) -> LadderInfo:
    """Put quantities into panels: native and inverted mAP share one, and so do the hit@1 across modalities.

    Args:
        points: columns temperature, arm, seed, quantity, unit, value, and optionally learnable (whether the
            temperature is the final one of training that learned it); one row a model and quantity.
        means: columns arm, quantity, value, low, high, n_seeds.

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
    points = points.assign(learnable=learnable.astype(bool)).reset_index(drop=True)
    about = points.groupby(["arm", "quantity", "learnable"], sort=False)["temperature"].mean().reset_index()
    means = about.merge(means[["arm", "quantity", "value", "low", "high", "n_seeds"]], on=["arm", "quantity"])
    order = ["temperature", "arm", "quantity", "learnable", "value", "low", "high", "n_seeds"]
    return LadderInfo(
        panels=tuple(
            (title if len(names) > 1 else names[0], units[names[0]], tuple(names))
            for title, names in panels.items()
        ),
        points=points[["temperature", "arm", "seed", "quantity", "value", "learnable"]],
        means=_bounded(means)[order].sort_values("temperature", kind="stable").reset_index(drop=True),
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
    width = SINGLE if columns == 1 else DOUBLE
    learnt = bool(info.points["learnable"].any())

    def draw(axes: Axes, panel: int) -> None:
        quantities = info.panels[panel][2]
        for position, quantity in enumerate(quantities):
            _draw_quantity(axes, info, quantity, position)
        if any("gain" in quantity for quantity in quantities):
            axes.axhline(0, color=INK, linewidth=0.7, zorder=1.5)
        if len(quantities) > 1:
            low, high = axes.get_ylim()
            axes.set_ylim(low, high + 0.2 * (high - low))  # room for the legend above all that is drawn
            handles = [series_line([], [], position, position + 1) for position in range(len(quantities))]
            axes.legend(
                handles, [short(name, 30) for name in quantities], loc="upper right", handlelength=2.2,
                ncols=len(quantities), borderaxespad=0.1,
            )  # fmt: skip

    with theme():
        rows = max(-(-len(info.panels) // columns), 1)
        figure = new_figure(width, 0.45 + 1.65 * rows + 0.15 * learnt)
        titles = [(title, unit) for title, unit, _ in info.panels]
        first = _draw_panels(figure, columns, titles, width / columns - 0.4, draw)
        _temperature_axis(first, info, width / columns - 0.6)
        figure.supxlabel("Temperature τ (no unit, logarithmic)")
        if learnt:
            handle = Line2D(
                [], [], color=INK, marker="D", linestyle="", markerfacecolor="white", markersize=4,
                label="learnable temperature, at its final value",
            )  # fmt: skip
            figure.legend(handles=[handle], loc="outside upper right")
    return figure


def _draw_quantity(axes: Axes, info: LadderInfo, quantity: str, position: int) -> None:
    points, means = (frame[frame["quantity"] == quantity] for frame in (info.points, info.means))
    fixed, learnt = means[~means["learnable"]], means[means["learnable"]]
    _draw_series(axes, points["temperature"], points, fixed["temperature"], fixed, position, position + 1)
    colour = colours(position + 1)[position]
    axes.vlines(learnt["temperature"], learnt["low"], learnt["high"], color=colour, linewidth=0.9, zorder=2.5)
    axes.plot(
        learnt["temperature"], learnt["value"], color=colour, marker="D", markerfacecolor="white",
        markersize=4, markeredgewidth=1.0, linestyle="", zorder=4,
    )  # fmt: skip


def _temperature_axis(axes: Axes, info: LadderInfo, room: float) -> None:
    """Mark the temperatures that were fixed, as far as their names have room."""
    axes.set_xscale("log")
    fixed = sorted(set(info.means.loc[~info.means["learnable"], "temperature"]))
    if len(fixed) < 3:
        fixed = sorted(set(info.means["temperature"]))
    every = info.points["temperature"]
    low, high = (float(every.min()), float(every.max())) if len(every) else (0.01, 1.0)
    ratio = max((high / low) ** 0.06, 1.15)
    axes.set_xlim(low / ratio, high * ratio)
    inch = room / np.log(high * ratio**2 / low)
    ticks: list[float] = []
    reached = -np.inf
    for value in fixed:
        half = len(f"{value:.3g}") * SMALL * 0.66 / 144 + 0.03
        if np.log(value) * inch - half > reached:
            ticks.append(value)
            reached = np.log(value) * inch + half
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:.3g}"))
    axes.tick_params(axis="x", labelsize=SMALLEST)
