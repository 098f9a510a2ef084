"""Training curves: the parts of the loss by step, and the temperature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd
import seaborn
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from analysis.folder import VALIDATED
from analysis.plots.style import (
    DOUBLE,
    MOST_FACETS,
    QUIET,
    ArmStyle,
    arm_styles,
    colours,
    facet_shape,
    facet_title,
    facet_width,
    hide_spare,
    legend_columns,
    new_figure,
    plain,
    short,
    spread,
    theme,
)

TOTAL = "total"


@dataclass(frozen=True)
class TrainingInfo:
    """What the figures show.

    ``losses``: arm, seed, step, part ("total" or a term's name), loss (as weighted in the objective).
    ``temperatures``: arm, seed, step, temperature. ``validation``: arm, seed, step, metric, value, of
    checkpoints on the validation split.
    """

    arms: tuple[str, ...]
    labels: tuple[str, ...]
    losses: pd.DataFrame
    temperatures: pd.DataFrame
    validation: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def facets(self) -> dict[str, str]:
        """Name the arms whose losses are drawn, with labels: not all of many, evenly in their order."""
        return dict(spread(list(zip(self.arms, self.labels, strict=True)), MOST_FACETS))

    @property
    def left_out(self) -> tuple[str, ...]:
        """Name the arms whose losses are not drawn."""
        shown = self.facets
        return tuple(label for arm, label in zip(self.arms, self.labels, strict=True) if arm not in shown)


@dataclass(frozen=True)
class Course:
    """Arms whose temperature takes the same course, and what the legend calls them."""

    arms: tuple[str, ...]
    label: str


def courses(info: TrainingInfo) -> tuple[Course, ...]:
    """Put together the arms whose temperature takes the same course, to three digits at each step."""
    groups: dict[tuple[object, ...], list[int]] = {}
    by_arm = dict(iter(info.temperatures.groupby("arm", sort=False)))
    for place, arm in enumerate(info.arms):
        if arm in by_arm:
            of_arm = by_arm[arm].sort_values(["step", "seed"])
            steps = (0, len(of_arm) // 2, len(of_arm) - 1)
            digits = tuple(f"{of_arm['temperature'].iloc[step]:.3g}" for step in steps)
            groups.setdefault((*digits, of_arm["step"].iloc[-1]), []).append(place)
    return tuple(
        Course(
            tuple(info.arms[place] for place in places),
            info.labels[places[0]] + (f" and {len(places) - 1} more" if len(places) > 1 else ""),
        )
        for places in groups.values()
    )


def training_info(training: pd.DataFrame, labels: dict[str, str]) -> TrainingInfo:
    """Bring the lines of metrics.jsonl into long form; a term with one part is its total and not repeated."""
    keys = ["arm", "seed", "step"]
    weighted = [column for column in training.columns if column.startswith("weighted/")]
    long = training[[*keys, "loss", *weighted]].melt(keys, var_name="part", value_name="loss_value")
    long = long.dropna(subset=["loss_value"]).rename(columns={"loss_value": "loss"})
    long["part"] = long["part"].str.removeprefix("weighted/").where(long["part"] != "loss", TOTAL)
    parts = long.groupby("arm")["part"].transform("nunique")
    long = long[(parts != 2) | (long["part"] == TOTAL)].reset_index(drop=True)
    temperatures = training[[*keys, "temperature"]].dropna().reset_index(drop=True)
    present = set(training["arm"])
    arms = tuple(arm for arm in labels if arm in present)
    looked = [column for column in training.columns if column.startswith(VALIDATED)]
    validation = training[[*keys, *looked]].melt(keys, var_name="metric").dropna(subset=["value"])
    validation["metric"] = validation["metric"].str.removeprefix(VALIDATED)
    return TrainingInfo(
        arms, tuple(labels[arm] for arm in arms), long, temperatures, validation.reset_index(drop=True)
    )


def draw_losses(info: TrainingInfo) -> Figure:
    """Draw the loss and its weighted parts, one facet an arm, one line a seed."""
    shown = info.facets
    rows, columns = facet_shape(len(shown))
    losses = info.losses[info.losses["arm"].isin(shown)]
    parts = [TOTAL, *dict.fromkeys(part for part in losses["part"] if part != TOTAL)]
    palette = dict(zip(parts, ["#22272e", *colours(len(parts) - 1)], strict=True))
    dashes = dict(zip(parts, ["", *[(4, 1.5), (1, 1), (6, 1, 1, 1), (3, 1)] * len(parts)], strict=False))
    with theme():
        names = [plain(part) for part in parts]
        width = facet_width(columns)
        ncols = legend_columns(names, width)
        figure = new_figure(width, 0.6 + 1.45 * rows + 0.14 * (-(-len(names) // ncols)))
        grid = figure.subplots(rows, columns, sharex=True, squeeze=False)
        for axes, arm, label in zip(grid.flat, shown, shown.values(), strict=False):
            of_arm = losses[losses["arm"] == arm]
            seaborn.lineplot(
                data=of_arm, x="step", y="loss", hue="part", style="part", hue_order=parts, style_order=parts,
                palette=palette, dashes=dashes, units="seed", estimator=None, linewidth=0.9, legend=False,
                ax=axes,
            )  # fmt: skip
            axes.set(title=facet_title(label, columns), xlabel="", ylabel="")
            seaborn.despine(ax=axes, left=True)
        hide_spare(grid, len(shown))
        figure.supxlabel("Training step")
        figure.supylabel("Loss (nats)," + (" " if rows > 1 else "\n") + "parts as weighted")
        handles = [
            Line2D([], [], color=palette[part], linestyle=(0, dashes[part] or (1, 0)), label=name)
            for part, name in zip(parts, names, strict=True)
        ]
        figure.legend(handles=handles, loc="outside upper center", ncols=ncols)
    return figure


def draw_temperatures(info: TrainingInfo, all_arms: Sequence[str]) -> Figure:
    """Draw the temperature of every model on one logarithmic axis.

    Of more arms than a legend can hold, those of one course share a line of it; further courses are grey.
    """
    styles = arm_styles(all_arms)
    groups: tuple[Course, ...] = tuple(map(Course, ((arm,) for arm in info.arms), info.labels))
    if len(groups) > MOST_FACETS:
        groups = courses(info)
    named = spread(groups, MOST_FACETS)
    rest = len(groups) - len(named)
    labels = [short(group.label, 44) for group in named] + ([f"{rest} other courses"] if rest else [])
    with theme():
        ncols = legend_columns(labels, DOUBLE)
        figure = new_figure(DOUBLE, 2.5 + 0.14 * (-(-len(labels) // ncols)))
        axes = figure.subplots()
        handles = []
        for position, group in enumerate(groups):
            style = styles[group.arms[0]] if group in named else ArmStyle(QUIET, "none")
            of_arm = info.temperatures[info.temperatures["arm"] == group.arms[0]]
            for _, line in of_arm.groupby("seed"):
                axes.plot(
                    line["step"], line["temperature"], markevery=_spread(position, len(line)),
                    markersize=4, markeredgecolor="white", linewidth=1.0, zorder=2 + (group in named),
                    color=style.colour, marker=style.marker,
                )  # fmt: skip
            if group in named:
                handles.append(Line2D([], [], markersize=4, color=style.colour, marker=style.marker))
        if rest:
            handles.append(Line2D([], [], color=QUIET))
        if (info.temperatures["temperature"] > 0).all():
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9), numticks=12))
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
            low, high = axes.get_ylim()
            if high > 12 * low:
                axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=12))
        axes.set(xlabel="Training step", ylabel="Temperature τ (no unit)")
        seaborn.despine(ax=axes, left=True)
        figure.legend(handles, labels, loc="outside upper center", ncols=ncols)
    return figure


def draw_validation(info: TrainingInfo, all_arms: Sequence[str]) -> Figure:
    """Draw what checkpoints are worth on the validation split: the gap, and retrieval, one line a model."""
    styles = arm_styles(all_arms)
    gap = info.validation["metric"].str.startswith("gap/")
    panels = [
        (data, label)
        for data, label in (
            (info.validation[gap], "Modality gap (distance of the means)"),
            (info.validation[~gap], "Retrieval (share)"),
        )
        if not data.empty
    ]
    metrics = list(dict.fromkeys(info.validation.loc[~gap, "metric"]))
    dashes: list[tuple[float, ...]] = [(1, 0), (4, 1.5), (1, 1), (6, 1, 1, 1), (3, 1, 1, 1, 1, 1), (8, 2)]
    with theme():
        names = [plain(metric.replace("/", " ")) for metric in metrics]
        ncols = legend_columns(names or [""], DOUBLE)
        figure = new_figure(DOUBLE, 2.5 + 0.14 * (-(-len(names) // ncols)))
        grid = figure.subplots(1, len(panels), squeeze=False)
        for axes, (data, label) in zip(grid.flat, panels, strict=True):
            for (arm, metric, _), line in data.groupby(["arm", "metric", "seed"], sort=False):
                place = metrics.index(metric) if metric in metrics else 0
                style = styles[str(arm)]
                axes.plot(
                    line["step"], line["value"], color=style.colour, marker=style.marker, markersize=3,
                    markeredgecolor="white", linewidth=1.0,
                    linestyle=(0, dashes[place % len(dashes)]),
                )  # fmt: skip
            axes.set(xlabel="Training step", ylabel=label)
            axes.set_ylim(0, 1.05 * data["value"].max() or 1)
            seaborn.despine(ax=axes, left=True)
        handles = [
            Line2D([], [], color=QUIET, linestyle=(0, dashes[place % len(dashes)]))
            for place in range(len(metrics))
        ]
        if handles:
            figure.legend(handles, names, loc="outside upper center", ncols=ncols)
    return figure


def _spread(position: int, count: int) -> tuple[int, int]:
    """Start each arm's markers elsewhere, so that lines on top of each other are all seen."""
    step = max(1, count // 6)
    return (position * max(1, step // 4)) % step, step
