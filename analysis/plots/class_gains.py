"""Which classes gain from inversion and which lose, one panel an arm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from analysis.plots.headline import POINTS
from analysis.plots.style import (
    DOUBLE,
    INK,
    QUIET,
    SINGLE,
    SMALLEST,
    characters,
    colours,
    hide_spare,
    new_figure,
    short,
    theme,
    wrapped,
)

MOST_ARMS = 4


@dataclass(frozen=True)
class ClassGainInfo:
    """What the figure shows, in mAP points.

    ``classes``: arm, query_class, value (mean over queries, then over seeds), n_queries, n_seeds, place (row
    from the top, largest gain first; -1: not shown). ``seeds``: arm, seed, query_class, value.
    ``shares``: share of an arm's classes whose mean gain is above zero. ``left_out``: labels of further arms.
    """

    arms: tuple[str, ...]
    labels: tuple[str, ...]
    classes: pd.DataFrame
    seeds: pd.DataFrame
    shares: tuple[float, ...]
    most: int
    left_out: tuple[str, ...] = ()


def class_gain_info(
    differences: pd.DataFrame, labels: dict[str, str], *, most: int = 15, most_arms: int = MOST_ARMS
) -> ClassGainInfo:
    """Average the gains of each class, and choose the ``most`` largest gains and losses of each arm.

    Args:
        differences: columns arm, seed, query_class, query_id, value (mAP inverted minus native, a fraction).
        labels: names of arms, the baseline first.
        most: of more than twice as many classes, so many from each end are shown.
    """
    valued = differences.dropna(subset=["value"])
    present = [arm for arm in labels if arm in set(valued["arm"])]
    arms = tuple(present[:most_arms])
    of_shown = valued[valued["arm"].isin(arms)]
    seeds = (
        of_shown.groupby(["arm", "seed", "query_class"], sort=True, observed=True)["value"]
        .mean()
        .reset_index()
    )
    seeds["value"] *= POINTS
    grouped = seeds.groupby(["arm", "query_class"], sort=True, observed=True)
    classes = grouped.agg(value=("value", "mean"), n_seeds=("seed", "nunique")).reset_index()
    counts = (
        of_shown.groupby(["arm", "query_class"], observed=True)["query_id"]
        .nunique()
        .rename("n_queries")
        .reset_index()
    )
    classes = classes.merge(counts, on=["arm", "query_class"])
    order = pd.Categorical(classes["arm"], categories=list(arms))
    classes = classes.assign(order=order).sort_values(
        ["order", "value"], ascending=[True, False], kind="stable"
    )
    rank = classes.groupby("arm", sort=False, observed=True).cumcount()
    size = classes.groupby("arm", sort=False, observed=True)["value"].transform("size")
    shown = (size <= 2 * most) | (rank < most) | (rank >= size - most)
    place = np.where(rank < most, rank, np.where(size <= 2 * most, rank, rank - size + 2 * most))
    classes["place"] = np.where(shown, place, -1)
    gaining = {
        str(arm): float((of_arm["value"] > 0).mean()) for arm, of_arm in classes.groupby("arm", observed=True)
    }
    columns = ["arm", "query_class", "value", "n_queries", "n_seeds", "place"]
    return ClassGainInfo(
        arms=arms,
        labels=tuple(labels[arm] for arm in arms),
        classes=classes[columns].reset_index(drop=True),
        seeds=seeds,
        shares=tuple(gaining[arm] for arm in arms),
        most=most,
        left_out=tuple(labels[arm] for arm in present[most_arms:]),
    )


def draw_class_gains(info: ClassGainInfo) -> Figure:
    """Draw a bar a class and a dot a seed; a line of dots where the classes between are not shown."""
    columns = 1 if len(info.arms) < 2 else 2
    rows = max(-(-len(info.arms) // columns), 1)
    width = SINGLE if columns == 1 else DOUBLE
    depth = int(info.classes["place"].max()) + 1 if len(info.classes) else 1
    with theme():
        figure = new_figure(width, 0.6 + rows * (0.5 + 0.118 * max(depth, 6)))
        grid = figure.subplots(rows, columns, sharex=True, squeeze=False)
        for axes, arm, label, share in zip(grid.flat, info.arms, info.labels, info.shares, strict=False):
            count = int((info.classes["arm"] == arm).sum())
            _draw_arm(axes, info, arm)
            said = f"{100 * share:.0f} % of {count} classes gain"
            axes.set_title(f"{wrapped(label, characters(width / columns - 1.4, 9))}\n{said}")
        hide_spare(grid, len(info.arms))
        figure.supxlabel("Gain of inversion over native, in mAP points")
        gain, loss = _colours()
        handles = [
            Patch(color=gain, label="gain"),
            Patch(facecolor="white", edgecolor=loss, hatch="//////", label="loss"),
            Line2D([], [], color=INK, marker="o", markersize=2, linestyle="", label="one seed"),
        ]
        figure.legend(handles=handles, loc="outside upper right", ncols=3)
    return figure


def _colours() -> tuple[str, str]:
    first, second, *_ = colours(4)
    return first, second


def _draw_arm(axes: Axes, info: ClassGainInfo, arm: str) -> None:
    gain, loss = _colours()
    of_arm = info.classes[info.classes["arm"] == arm]
    shown = of_arm[of_arm["place"] >= 0].sort_values("place")
    up, down = shown[shown["value"] > 0], shown[shown["value"] <= 0]
    axes.barh(up["place"], up["value"], height=0.72, color=gain, linewidth=0, zorder=2)
    axes.barh(
        down["place"], down["value"], height=0.72, facecolor="white", edgecolor=loss, hatch="//////",
        linewidth=0.6, zorder=2,
    )  # fmt: skip
    place = dict(zip(shown["query_class"], shown["place"], strict=True))
    dots = info.seeds[(info.seeds["arm"] == arm) & info.seeds["query_class"].isin(place)]
    axes.plot(
        dots["value"], dots["query_class"].map(place).astype(float), color=INK, marker="o", markersize=1.9,
        linestyle="", markeredgecolor="white", markeredgewidth=0.25, zorder=3,
    )  # fmt: skip
    if len(shown) < len(of_arm):
        axes.axhline(info.most - 0.5, color=QUIET, linewidth=0.9, linestyle=(0, (1, 2)), zorder=4)
    axes.axvline(0, color=INK, linewidth=0.7, zorder=2.5)
    names = [
        f"{short(str(name), 23)} ({count})"
        for name, count in zip(shown["query_class"], shown["n_queries"], strict=True)
    ]
    axes.set_yticks(list(shown["place"]), names, fontsize=SMALLEST)
    axes.set_ylim(max(len(shown), 1) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    seaborn.despine(ax=axes, left=True)
