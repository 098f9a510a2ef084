"""Misalignment against gap: the inversion gain of each model over its modality gap, beside the controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.leading import CONTROLS, POINTS, Headline, added_to_native, at, model_gaps
from analysis.plots.hover import tell
from analysis.plots.place import Tag, place_tags
from analysis.plots.style import (
    DOUBLE,
    INK,
    QUIET,
    SINGLE,
    SMALLEST,
    ArmStyle,
    arm_styles,
    legend_columns,
    new_figure,
    short,
    theme,
)
from analysis.typeset import counted, interval, number
from crossgap.metrics.intervals import Bootstrap
from crossgap.reading.route_values import route_difference
from crossgap.vocabulary import ROUTE_WORDS

GAP_STEP = 0.1  # of the gap, for which slopes are told here and in their table
GAP_AXIS = (
    "Modality gap: distance between the centroids\nof image and text embeddings (unit vectors; 0 = none)"
)
GAP_AXIS_COLUMN = "Modality gap: distance between the centroids\nof image and text embeddings (0 = none)"
MOST_ARMS = 12  # that a legend of arms and bars side by side can hold
MOST_GROUPS = 20


@dataclass(frozen=True)
class FittedLine:
    """A line through the models: gain = intercept + slope gap, and an interval of the slope.

    In mAP points for each unit of the gap.
    """

    slope: float
    intercept: float
    low: float
    high: float


class Group(NamedTuple):
    """Arms that share a colour, a marker and a line of the legend."""

    label: str
    arms: tuple[str, ...]
    ladder: bool = False  # the arms differ in the strength of one thing: a line joins them


@dataclass(frozen=True)
class HeadlineInfo:
    """What the figure shows, in mAP points.

    ``points``: arm, seed, gap, gap_low, gap_high, gain, low, high, n_queries: one row a model.
    ``controls``: arm, route, gain, low, high, n_seeds: the inversion and the controls, mean over seeds.
    ``baseline``: the arm that is drawn larger (None: the study's first). ``slope``: a line to draw.
    ``ladders``: arms that differ in the strength of one thing, by what that is.
    """

    where: Headline
    arms: tuple[str, ...]
    labels: tuple[str, ...]
    points: pd.DataFrame
    controls: pd.DataFrame
    baseline: str | None = None
    slope: FittedLine | None = None
    ladders: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def gain_axis(self) -> str:
        """Name the gain with its unit."""
        route = self.where.route.upper()
        return f"Inversion gain in mAP points:\nmAP({route}) − mAP(native)"


def headline_info(
    quoted_rows: pd.DataFrame,
    queries: pd.DataFrame,
    measured: pd.DataFrame,
    where: Headline,
    labels: dict[str, str],
    *,
    bootstrap: Bootstrap,
    baseline: str | None = None,
    slope: FittedLine | None = None,
    ladders: Mapping[str, tuple[str, ...]] | None = None,
) -> HeadlineInfo:
    """Compute gain and gap of each model, and select the gains of the controls of each arm.

    Args:
        measured: rows of :func:`crossgap.reading.route_values.measurements` on the task.
    """
    at_task = at(queries, where)
    model = ["arm", "seed"]
    gains = route_difference(at_task, where.route, "native", model, bootstrap=bootstrap)
    gains = gains.rename(columns={"value": "gain"})
    points = gains.merge(model_gaps(quoted_rows, where.dataset, where.split), on=model, how="left")
    points[["gain", "low", "high"]] *= POINTS
    added = added_to_native(measured)
    parts = [added[added["route"] == route] for route in (where.route, *CONTROLS)]
    controls = pd.concat(parts, ignore_index=True).rename(columns={"value": "gain"})
    controls[["gain", "low", "high"]] *= POINTS
    present = set(points["arm"]) | set(controls["arm"])
    arms = tuple(arm for arm in labels if arm in present)
    columns = [*model, "gap", "gap_low", "gap_high", "gain", "low", "high", "n_queries"]
    return HeadlineInfo(
        where=where,
        arms=arms,
        labels=tuple(labels[arm] for arm in arms),
        points=points[columns],
        controls=controls[["arm", "route", "gain", "low", "high", "n_seeds"]],
        baseline=baseline,
        slope=slope,
        ladders=ladders or {},
    )


def groups(info: HeadlineInfo, all_arms: Sequence[str]) -> tuple[Group, ...]:
    """Decide what the legend names: each arm, or of many arms the ladders, or those at the edges.

    The baseline comes first and stands alone. Where
    ladders do not make the legend short, the arms with the extreme gains and gaps are named, and the others
    are one group without a name of its own.
    """
    labels = dict(zip(info.arms, info.labels, strict=True))
    first = _baseline(info, all_arms)
    own = [Group(f"{labels[first]} (baseline)", (first,))] if first in labels else []
    others = [arm for arm in info.arms if arm != first]
    if len(info.arms) <= MOST_ARMS:
        return (*own, *(Group(labels[arm], (arm,)) for arm in others))
    of_arm = {arm: name for name, members in info.ladders.items() for arm in members if arm in others}
    named: dict[str, list[str]] = {}
    for arm in others:
        named.setdefault(of_arm.get(arm, labels[arm]), []).append(arm)
    if len(named) <= min(MOST_GROUPS, 0.75 * len(others)):
        lines = (Group(name, tuple(arms), ladder=len(arms) > 1) for name, arms in named.items())
        return (*own, *lines)
    edges = edge_arms(info.points, others)
    rest = tuple(arm for arm in others if arm not in edges)
    return (*own, *(Group(labels[arm], (arm,)) for arm in edges), Group(f"{len(rest)} other arms", rest))


def edge_arms(points: pd.DataFrame, arms: Sequence[str], *, each: int = 3) -> tuple[str, ...]:
    """List the arms, in their order, whose mean gain or gap is among the ``each`` lowest or highest."""
    means = points.groupby("arm")[["gap", "gain"]].mean().reindex(list(arms))
    edges: set[str] = set()
    for column in ("gap", "gain"):
        ordered = means[column].dropna().sort_values(kind="stable").index
        edges |= {*ordered[:each], *ordered[-each:]}
    return tuple(arm for arm in arms if arm in edges)


def _baseline(info: HeadlineInfo, all_arms: Sequence[str]) -> str:
    return info.baseline if info.baseline is not None else next(iter(all_arms), "")


def draw_headline(info: HeadlineInfo, all_arms: Sequence[str], *, column: bool = False) -> Figure:
    """Draw gain over gap, one point a model, and beside it the controls on the same scale.

    Up to twelve arms have a colour, a marker and a line of the legend each; of more arms see :func:`groups`.

    Args:
        column: one above the other, as wide as a column of a journal.
    """
    shown = groups(info, all_arms)
    dense = len(info.arms) > MOST_ARMS
    looks = _looks(info, shown, all_arms, dense=dense)
    sizes = {arm: 1.6 if arm == _baseline(info, all_arms) else 1.0 for arm in info.arms}
    with theme():
        width = SINGLE if column else DOUBLE
        names = [short(group.label, 52) for group in shown]
        ncols = legend_columns(names, width) if names else 1
        height = 2.8 if len(info.points) == 1 else 3.25  # one point needs little room
        figure = new_figure(width, height * (1.5 if column else 1) + 0.145 * (-(-len(names) // ncols)))
        if column:
            models, controls = figure.subplots(2, 1, sharey=True)
        else:
            models, controls = figure.subplots(1, 2, sharey=True, width_ratios=[1.2, 1])
        _draw_models(models, info, shown, looks, sizes, dense=dense)
        _draw_controls(controls, info, shown, looks, sizes, dense=dense)
        for axes in (models, controls):
            axes.axhline(0, color=INK, linewidth=0.8, zorder=1.5)
            seaborn.despine(ax=axes, left=True)
        models.set_xlabel(GAP_AXIS_COLUMN if column else GAP_AXIS)
        models.set_ylabel(info.gain_axis)
        controls.set_ylabel(
            "Gain over native,\nin mAP points" if column else "Gain over native, in mAP points"
        )
        controls.tick_params(labelleft=True)
        handles = [
            _point([], [], looks[group.arms[0]], sizes[group.arms[0]], joined=group.ladder) for group in shown
        ]
        if handles:
            figure.legend(handles, names, loc="outside lower center", ncols=ncols)
        if dense and not any(group.ladder for group in shown):
            _tag_edges(figure, models, info, shown)
    return figure


def _looks(
    info: HeadlineInfo, shown: Sequence[Group], all_arms: Sequence[str], *, dense: bool
) -> dict[str, ArmStyle]:
    """Give arms their look: as in the other figures, or of many arms one a group, the rest in grey."""
    if not dense:
        return {arm: style for arm, style in arm_styles(all_arms).items() if arm in info.arms}
    looks = {}
    for group, style in zip(shown, arm_styles([group.label for group in shown]).values(), strict=True):
        quiet = len(group.arms) > 1 and not group.ladder
        looks.update(dict.fromkeys(group.arms, ArmStyle("#a3a9b3", "o") if quiet else style))
    return looks


def _point(
    x: Sequence[float], y: Sequence[float], look: ArmStyle, size: float, *, joined: bool = False
) -> Line2D:
    return Line2D(
        x, y, color=look.colour, marker=look.marker, markersize=4.6 * size, linestyle="-" if joined else "",
        markeredgecolor=INK if size > 1 else "white", markeredgewidth=0.9 if size > 1 else 0.5, linewidth=0.8,
    )  # fmt: skip


def _draw_models(
    axes: Axes, info: HeadlineInfo, shown: Sequence[Group], looks: dict[str, ArmStyle],
    sizes: dict[str, float], *, dense: bool,
) -> None:  # fmt: skip
    points = info.points.dropna(subset=["gap", "gain"])
    for group in shown:
        of_group = points[points["arm"].isin(group.arms)]
        look = looks[group.arms[0]]
        size = sizes[group.arms[0]]
        axes.errorbar(
            of_group["gap"], of_group["gain"],
            xerr=_reach(of_group, "gap", "gap_low", "gap_high"), yerr=_reach(of_group, "gain", "low", "high"),
            fmt="none", ecolor=look.colour, elinewidth=0.5 if dense else 0.9, alpha=0.35 if dense else 0.8,
            zorder=2,
        )  # fmt: skip
        if group.ladder:
            path = of_group.groupby("arm")[["gap", "gain"]].mean().reindex(list(group.arms)).dropna()
            axes.plot(path["gap"], path["gain"], color=look.colour, linewidth=0.8, alpha=0.7, zorder=2.5)
        small = 0.75 if dense and size == 1 else size
        line = _point(list(of_group["gap"]), list(of_group["gain"]), look, small)
        line.set_zorder(4 if size > 1 else 3)
        axes.add_line(line)
    axes.autoscale_view()
    axes.margins(y=0.08)
    axes.set_xlim(*_gap_limits(points))
    if info.slope is not None and len(points):
        _draw_slope(axes, info.slope, points)
    labels = dict(zip(info.arms, info.labels, strict=True))
    for row in points.to_dict("records"):
        gap = f"gap {row['gap']:.3f}{_span(row['gap_low'], row['gap_high'], 3)}"
        gain = f"gain {number(row['gain'], 2, signed=True)} points{_span(row['low'], row['high'])}"
        words = f"{labels[row['arm']]}, seed {row['seed']}: {gap}, {gain}, {row['n_queries']:,} queries"
        tell(axes, row["gap"], row["gain"], words)
    axes.set_title(f"{info.where.modality.capitalize()} retrieval: one point a model")


def _draw_slope(axes: Axes, line: FittedLine, points: pd.DataFrame) -> None:
    """Draw the line over the models' gaps; the band turns it about their middle through the interval."""
    ends = np.linspace(points["gap"].min(), points["gap"].max(), 50)
    middle = float(points["gap"].mean())
    height = line.intercept + line.slope * middle
    edges = [height + slope * (ends - middle) for slope in (line.low, line.high)]
    axes.fill_between(ends, np.minimum(*edges), np.maximum(*edges), color=QUIET, alpha=0.15, lw=0, zorder=1)
    axes.plot(ends, line.intercept + line.slope * ends, color=QUIET, linestyle=(0, (5, 2)), zorder=1.6)
    step, low, high = (GAP_STEP * slope for slope in (line.slope, line.low, line.high))
    interval = "" if np.isnan(low + high) else f" [{low:.2f}, {high:.2f}]"
    axes.annotate(
        f"slope: {step:+.2f}{interval} points for .1 more gap".replace("-", "−"), xy=(0, 1),
        xycoords="axes fraction", xytext=(3, -3), textcoords="offset points", va="top", fontsize=SMALLEST,
        color=QUIET, bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.6}, zorder=5,
    )  # fmt: skip


def _tag_edges(figure: Figure, axes: Axes, info: HeadlineInfo, shown: Sequence[Group]) -> None:
    means = info.points.dropna(subset=["gap", "gain"]).groupby("arm")[["gap", "gain"]].mean()
    names = dict(zip(info.arms, info.labels, strict=True))
    tags = [
        Tag(
            x=float(means["gap"].loc[group.arms[0]]),
            y=float(means["gain"].loc[group.arms[0]]),
            text=names[group.arms[0]],
            suffix="" if place else " (baseline)",
        )
        for place, group in enumerate(shown)
        if len(group.arms) == 1 and group.arms[0] in means.index
    ]
    place_tags(figure, axes, tags, means.to_numpy(), limit=24)


def _gap_limits(points: pd.DataFrame) -> tuple[float, float]:
    """Start the axis at no gap, so that a lone model or a close group does not fill it."""
    if points.empty:
        return 0.0, 1.0
    high = max(float(points[["gap", "gap_high"]].max().max()), 0.1)
    return 0.0, 1.06 * high


def _draw_controls(
    axes: Axes, info: HeadlineInfo, shown: Sequence[Group], looks: dict[str, ArmStyle],
    sizes: dict[str, float], *, dense: bool,
) -> None:  # fmt: skip
    measured = set(info.controls["route"])
    routes = [route for route in (info.where.route, *CONTROLS) if route in measured]
    places = {route: float(place) for place, route in enumerate(routes)}
    arms = [arm for group in shown for arm in group.arms]
    labels = dict(zip(info.arms, info.labels, strict=True))
    offsets = np.linspace(-0.34, 0.34, len(arms)) if len(arms) > 1 else np.zeros(1)
    for arm, offset in zip(arms, offsets, strict=False):
        of_arm = info.controls[info.controls["arm"] == arm]
        positions = of_arm["route"].map(places).astype(float) + offset
        size = sizes[arm]
        if not dense or size > 1:
            axes.errorbar(
                positions, of_arm["gain"], yerr=_reach(of_arm, "gain", "low", "high"), fmt="none",
                ecolor=looks[arm].colour, elinewidth=0.9, zorder=2,
            )  # fmt: skip
        line = _point(list(positions), list(of_arm["gain"]), looks[arm], size if not dense else 0.6 * size)
        line.set_zorder(4 if size > 1 else 3)
        axes.add_line(line)
        for place, row in zip(positions, of_arm.to_dict("records"), strict=True):
            gain = f"gain {number(row['gain'], 2, signed=True)} points{_span(row['low'], row['high'])}"
            seeds = counted(row["n_seeds"], "seed")
            tell(
                axes, place, row["gain"], f"{labels[arm]}, {ROUTE_WORDS[row['route']].label}: {gain}, {seeds}"
            )
    axes.autoscale_view()
    if dense:
        for route, place in places.items():
            middle = info.controls.loc[info.controls["route"] == route, "gain"].median()
            axes.plot([place - 0.42, place + 0.42], [middle] * 2, color=INK, linewidth=1.1, zorder=3.5)
    for edge in range(1, len(routes)):
        axes.axvline(edge - 0.5, color=QUIET, linewidth=0.5, linestyle=":", zorder=1)
    names = [ROUTE_WORDS[route].tick or ROUTE_WORDS[route].label.replace(" ", "\n") for route in routes]
    long = len(routes) > 6
    if long:
        names = [name.replace("-\n", "-").replace("\n", " ") for name in names]
    axes.set_xticks(range(len(routes)), names, rotation=90 if long else 0, fontsize=SMALLEST)
    axes.set_xlim(-0.5, max(len(routes), 1) - 0.5)
    axes.grid(visible=False, axis="x")
    axes.set_xlabel("How the query was made (bar: median of arms)" if dense else "How the query was made")
    axes.set_title("Beside controls: means over seeds")


def _span(low: float, high: float, digits: int = 2) -> str:
    """Write an interval behind its value; nothing where there is none."""
    said = interval(low, high, digits)
    return said and f" {said}"


def _reach(frame: pd.DataFrame, value: str, low: str, high: str) -> np.ndarray:
    """Give errorbar its (2, n) distances; a missing bound draws no bar."""
    return np.stack([frame[value] - frame[low], frame[high] - frame[value]]).clip(min=0)
