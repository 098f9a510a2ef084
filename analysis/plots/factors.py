"""Which factor of a made world similarity follows: native images against inverted ones, a panel an arm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.plots.style import (
    INK,
    MARKERS,
    MOST_FACETS,
    arms_shown,
    colours,
    facet_shape,
    facet_title,
    facet_width,
    hide_spare,
    new_figure,
    theme,
)

_APART = 0.17  # of the distance between two factors, up and down, where the two routes stand
_ROUTES = {"native": "native images", "oti": "images inverted by OTI"}


@dataclass(frozen=True)
class FactorInfo:
    """What the figure shows: standard deviations by which cosine rises where two images share a factor.

    ``slopes``: arm, label, factor, route, value, low, high (mean over seeds), a row each.
    """

    arms: tuple[str, ...]
    factors: tuple[str, ...]
    slopes: pd.DataFrame
    left_out: tuple[str, ...]


def factor_info(slopes: pd.DataFrame, labels: Mapping[str, str], *, most: int = MOST_FACETS) -> FactorInfo:
    """Choose arms and order factors, the ones that similarity follows most on the whole first.

    Args:
        slopes: columns arm, factor, route, value, low, high: one row each.
        labels: label by arm, in the order of the study.
        most: arms that are shown; of more, some spread evenly over them.
    """
    arms, left_out = arms_shown(labels, slopes["arm"], most)
    of_shown = slopes[slopes["arm"].isin(arms)]
    strength = of_shown.groupby("factor")["value"].apply(lambda values: values.abs().mean())
    return FactorInfo(
        arms=arms,
        factors=tuple(strength.sort_values(ascending=False, kind="stable").index),
        slopes=of_shown.assign(label=of_shown["arm"].map(labels)).reset_index(drop=True),
        left_out=left_out,
    )


def draw_factors(info: FactorInfo) -> Figure:
    """Draw for each arm the factors from top to bottom, native and inverted beside each other."""
    rows, columns = facet_shape(len(info.arms))
    height = 0.6 + rows * (0.45 + 0.21 * len(info.factors))
    with theme():
        figure = new_figure(facet_width(columns), height)
        panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for axes, arm in zip(panels.flat, info.arms, strict=False):
            of_arm = info.slopes[info.slopes["arm"] == arm]
            for position, route in enumerate(_ROUTES):
                _draw_route(axes, info.factors, of_arm[of_arm["route"] == route], position)
            axes.axvline(0, color=INK, linewidth=0.7, zorder=1.5)
            axes.set_title(facet_title(str(of_arm["label"].iloc[0]), columns))
            axes.set_yticks(range(len(info.factors)), info.factors)
            axes.set_ylim(len(info.factors) - 0.5, -0.5)
            seaborn.despine(ax=axes, left=True)
        hide_spare(panels, len(info.arms))
        figure.supxlabel("Rise of the cosine where two images share the factor (standard deviations)")
        handles = [_key(position) for position in range(len(_ROUTES))]
        figure.legend(handles, list(_ROUTES.values()), loc="outside upper center", ncols=len(_ROUTES))
    return figure


def _key(position: int) -> Line2D:
    return Line2D(
        [], [], color=colours(2)[position], marker=MARKERS[position], linestyle="", markersize=4,
        markeredgecolor="white", markeredgewidth=0.4,
    )  # fmt: skip


def _draw_route(axes: Axes, factors: Sequence[str], slopes: pd.DataFrame, position: int) -> None:
    places = np.array([factors.index(factor) for factor in slopes["factor"]]) + _APART * (2 * position - 1)
    colour = colours(2)[position]
    axes.hlines(places, slopes["low"], slopes["high"], color=colour, linewidth=1.0, zorder=2)
    axes.plot(
        slopes["value"], places, color=colour, marker=MARKERS[position], linestyle="", markersize=4,
        markeredgecolor="white", markeredgewidth=0.4, zorder=3,
    )  # fmt: skip
