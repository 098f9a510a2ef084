"""Misalignment against gap: the inversion gain of each model over its modality gap, beside the controls."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.plots.style import INK, QUIET, arm_styles, legend_columns, new_figure, plain, theme
from analysis.stats.bootstrap import Bootstrap
from analysis.tables import CONTROLS, Headline, at, model_gaps, route_difference

POINTS = 100  # mAP points in a fraction
GAP_AXIS = (
    "Modality gap: distance between the centroids of image and text\nembeddings (unit vectors; 0 = none)"
)
ROUTE_TICKS = {
    "oti": "OTI\n(inversion)",
    "ovi": "OVI\n(inversion)",
    "class_pca": "class-name\nPCA",
    "isoclip": "IsoCLIP\nband",
    "ridge": "ridge",
    "centred": "centred",
    "random_subspace": "random\nsubspace",
}


@dataclass(frozen=True)
class HeadlineInfo:
    """What the figure shows, in mAP points.

    ``points``: arm, seed, gap, gap_low, gap_high, gain, low, high, n_queries: one row a model.
    ``controls``: arm, route, gain, low, high, n_seeds: the inversion and the controls, mean over seeds.
    """

    where: Headline
    arms: tuple[str, ...]
    labels: tuple[str, ...]
    points: pd.DataFrame
    controls: pd.DataFrame

    @property
    def gain_axis(self) -> str:
        """Name the gain with its unit."""
        route = self.where.route.upper()
        return f"Inversion gain: mAP({route}) − mAP(native), in mAP points"


def headline_info(
    quoted_rows: pd.DataFrame,
    queries: pd.DataFrame,
    where: Headline,
    labels: dict[str, str],
    *,
    bootstrap: Bootstrap,
) -> HeadlineInfo:
    """Compute gain and gap of each model and the gains of the controls of each arm."""
    here = at(queries, where)
    model = ["arm", "seed"]
    gains = route_difference(here, where.route, "native", model, bootstrap=bootstrap)
    gains = gains.rename(columns={"value": "gain"})
    points = gains.merge(model_gaps(quoted_rows, where.dataset, where.split), on=model, how="left")
    points[["gain", "low", "high"]] *= POINTS
    parts = [
        route_difference(here, route, "native", ["arm"], bootstrap=bootstrap).assign(route=route)
        for route in (where.route, *CONTROLS)
    ]
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
    )


def draw_headline(info: HeadlineInfo, all_arms: list[str]) -> Figure:
    """Draw gain over gap, one point a model, and beside it the controls on the same scale."""
    styles = arm_styles(all_arms)
    with theme():
        figure = new_figure(11, 6)
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=[1.35, 1])
        _draw_models(left, info, all_arms)
        _draw_controls(right, info, all_arms)
        for axes in (left, right):
            axes.axhline(0, color=INK, linewidth=1.1, zorder=1.5)
            seaborn.despine(ax=axes, left=True)
        left.set_ylabel(info.gain_axis)
        right.set_ylabel("Gain over native, in mAP points")
        right.tick_params(labelleft=True)
        labels = [plain(label) for label in info.labels]
        handles = [
            Line2D(
                [], [], color=styles[arm].colour, marker=styles[arm].marker, linestyle="none", markersize=8,
                markeredgecolor="white", label=label,
            )
            for arm, label in zip(info.arms, labels, strict=True)
        ]  # fmt: skip
        figure.legend(handles=handles, loc="outside lower center", ncols=legend_columns(labels, 11))
    return figure


def _draw_models(axes: Axes, info: HeadlineInfo, all_arms: list[str]) -> None:
    styles = arm_styles(all_arms)
    points = info.points.dropna(subset=["gap", "gain"])
    for arm, group in points.groupby("arm", sort=False):
        axes.errorbar(
            group["gap"], group["gain"],
            xerr=_reach(group, "gap", "gap_low", "gap_high"), yerr=_reach(group, "gain", "low", "high"),
            fmt="none", ecolor=styles[str(arm)].colour, elinewidth=1.4, alpha=0.75, zorder=2,
        )  # fmt: skip
    seaborn.scatterplot(
        data=points, x="gap", y="gain", hue="arm", style="arm", hue_order=list(info.arms),
        style_order=list(info.arms), palette={arm: styles[arm].colour for arm in info.arms},
        markers={arm: styles[arm].marker for arm in info.arms}, s=80, edgecolor="white", linewidth=0.8,
        legend=False, ax=axes, zorder=3,
    )  # fmt: skip
    axes.set_xlim(*_gap_limits(points))
    axes.margins(y=0.08)
    axes.set_xlabel(GAP_AXIS)
    axes.set_title(f"{info.where.modality.capitalize()} retrieval: gain over gap, one point a model")


def _gap_limits(points: pd.DataFrame) -> tuple[float, float]:
    """Start the axis at no gap, so that a lone model or a close group does not fill it."""
    if points.empty:
        return 0.0, 1.0
    high = max(float(points[["gap", "gap_high"]].max().max()), 0.1)
    return 0.0, 1.06 * high


def _draw_controls(axes: Axes, info: HeadlineInfo, all_arms: list[str]) -> None:
    styles = arm_styles(all_arms)
    measured = set(info.controls["route"])
    routes = [route for route in (info.where.route, *CONTROLS) if route in measured]
    offsets = np.linspace(-0.32, 0.32, len(info.arms)) if len(info.arms) > 1 else np.zeros(1)
    for arm, offset in zip(info.arms, offsets, strict=True):
        group = info.controls[info.controls["arm"] == arm]
        positions = group["route"].map({route: place for place, route in enumerate(routes)}) + offset
        axes.errorbar(
            positions, group["gain"], yerr=_reach(group, "gain", "low", "high"), color=styles[arm].colour,
            fmt=styles[arm].marker, markersize=6.5, markeredgecolor="white", markeredgewidth=0.7,
            elinewidth=1.4, zorder=3,
        )  # fmt: skip
    for edge in range(1, len(routes)):
        axes.axvline(edge - 0.5, color=QUIET, linewidth=0.6, linestyle=":", zorder=1)
    axes.set_xticks(range(len(routes)), [ROUTE_TICKS[route] for route in routes])
    axes.set_xlim(-0.5, max(len(routes), 1) - 0.5)
    axes.grid(visible=False, axis="x")
    axes.set_xlabel("How the query was made (mean over seeds)")
    axes.set_title("The same gain beside controls, by arm")


def _reach(frame: pd.DataFrame, value: str, low: str, high: str) -> np.ndarray:
    """Give errorbar its (2, n) distances; a missing bound draws no bar."""
    return np.stack([frame[value] - frame[low], frame[high] - frame[value]]).clip(min=0)
