"""The picture of the findings: which route helps, whether the gap explains it, whether captions do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.designs import Ladder
from analysis.findings.questions import Findings, gains_of_routes
from analysis.leading import POINTS
from analysis.plots.style import (
    DOUBLE,
    INK,
    QUIET,
    SMALL,
    ArmStyle,
    arm_styles,
    legend_columns,
    new_figure,
    short,
    theme,
)
from analysis.responses import mentioned
from analysis.stats.evidence import Evidence, deciding
from crossgap.vocabulary import ROUTE_WORDS

HEIGHT = 3.8
# greys: colours are of arms
FAMILIES = {"inversion": INK, "placebo": "#b4b4b4", "map": "#767676"}


def draw_findings(found: Findings, modality: str = "image") -> Figure:
    """Draw three panels on one scale of mAP points: routes in the baseline, gain over gap, gain over mention.

    A world of one arm has the first alone, and one whose captions are not varied the first two. An arm has
    one look in both of the others, and the line over mention that of its arm with the baseline's captions.
    """
    looks = arm_styles(found.alike)
    ladders = mentioned(found.study)
    count = 1 + (len(looks) > 1) + bool(ladders)
    with theme():
        figure = new_figure(DOUBLE, HEIGHT)
        widths = [1.35, 1, 1][:count]
        panels = figure.subplots(1, count, sharey=True, width_ratios=widths, squeeze=False)[0]
        _draw_routes(panels[0], gains_of_routes(found, modality))
        if len(looks) > 1:
            _draw_over_gap(panels[1], found, modality, looks)
        if ladders:
            _draw_over_mention(panels[-1], found, modality, ladders, looks)
        panels[0].set_ylabel(f"Points of mAP over native,\n{modality} retrieval")
        for axes in panels:
            axes.axhline(0, color=INK, linewidth=0.8, zorder=1.5)
            axes.grid(visible=False, axis="x")
            seaborn.despine(ax=axes, left=True)
        if count > 1:
            _explain(figure, found, looks)
    return figure


def _explain(figure: Figure, found: Findings, looks: Mapping[str, ArmStyle]) -> None:
    names = [short(found.study.label(arm), 44) for arm in looks]
    handles = [
        Line2D([], [], color=look.colour, marker=look.marker, linestyle="", markeredgecolor="white")
        for look in looks.values()
    ]
    ncols = legend_columns(names, DOUBLE)
    figure.legend(handles, names, loc="outside lower center", ncols=ncols)


def _points(evidence: Evidence) -> tuple[float, float, float]:
    low, high = deciding(evidence)[0]
    return POINTS * evidence.value, POINTS * low, POINTS * high


def _draw(axes: Axes, x: float, value: tuple[float, float, float], colour: str, marker: str) -> None:
    """Draw one effect with the interval that decides."""
    axes.vlines(x, *value[1:], color=colour, linewidth=0.9, zorder=2)
    axes.plot(x, value[0], marker, color=colour, markersize=4.5, markeredgecolor="white", zorder=3)


def _draw_routes(axes: Axes, gains: Mapping[str, Evidence]) -> None:
    """Draw inversion, then its placebos, then the maps, each family in the order of its gain."""
    rows = [(route, *_points(evidence)) for route, evidence in gains.items()]
    table = pd.DataFrame(rows, columns=["route", "value", "low", "high"])
    families = table["route"].map(lambda route: ROUTE_WORDS[route].family)
    place = families.map(list(FAMILIES).index)
    ordered = table.assign(family=families, place=place).sort_values(
        ["place", "value"], ascending=[True, False], kind="stable", ignore_index=True
    )
    for x, row in ordered.iterrows():
        value = (row["value"], row["low"], row["high"])
        _draw(axes, float(str(x)), value, FAMILIES[row["family"]], "o")
    axes.set_xticks(
        range(len(ordered)), [ROUTE_WORDS[route].label for route in ordered["route"]], rotation=90,
        fontsize=SMALL,
    )  # fmt: skip
    axes.set_title("Which route helps?")
    shown = list(dict.fromkeys(ordered["family"]))
    handles = [Line2D([], [], color=FAMILIES[name], marker="o", linestyle="") for name in shown]
    axes.legend(handles, shown, fontsize=SMALL, loc="lower center")


def _draw_over_gap(axes: Axes, found: Findings, modality: str, looks: Mapping[str, ArmStyle]) -> None:
    """Draw the gain of inversion over the gap, an arm a point, of those with the baseline's captions."""
    values = found.results.values
    gap = values[values["quantity"] == "centroid_distance"].groupby("arm")["value"].mean()
    for arm, look in looks.items():
        if (modality, arm) in found.gains and arm in gap.index:
            _draw(axes, gap[arm], _points(found.gains[modality, arm]), look.colour, look.marker)
    axes.set_xlim(left=0)
    axes.set_xlabel("Modality gap of an arm\n(centroid distance)")
    axes.set_title("Does the gap explain it?")


def _draw_over_mention(
    axes: Axes, found: Findings, modality: str, ladders: Sequence[Ladder], looks: Mapping[str, ArmStyle]
) -> None:
    """Draw the gain over how often captions name each factor but the object, a line a recipe."""
    for position, ladder in enumerate(ladders):
        arms = [arm for arm in ladder.doses if (modality, arm) in found.gains]
        look = next((looks[arm] for arm in arms if arm in looks), ArmStyle(QUIET, "o"))
        shift = 0.015 * (position - (len(ladders) - 1) / 2)  # side by side: bars can be told apart
        x = [ladder.doses[arm] + shift for arm in arms]
        points = [_points(found.gains[modality, arm]) for arm in arms]
        axes.plot(x, [value for value, *_ in points], color=look.colour, zorder=2.5)
        for place, value in zip(x, points, strict=True):
            _draw(axes, place, value, look.colour, look.marker)
    axes.set_xticks(sorted({dose for ladder in ladders for dose in ladder.doses.values()}))
    axes.xaxis.set_major_formatter("{x:.2g}")
    axes.set_xlabel("Probability that captions name\nwhat is not the object")
    axes.set_title("Do captions?")
