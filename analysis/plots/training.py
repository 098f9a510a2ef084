"""Training curves: the parts of the loss by step, and the temperature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import seaborn
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from analysis.plots.style import (
    arm_styles,
    colours,
    facet_shape,
    facet_title,
    legend_columns,
    new_figure,
    plain,
    theme,
)

TOTAL = "total"


@dataclass(frozen=True)
class TrainingInfo:
    """What the figures show.

    ``losses``: arm, seed, step, part ("total" or a term's name), loss (as weighted in the objective).
    ``temperatures``: arm, seed, step, temperature.
    """

    arms: tuple[str, ...]
    labels: tuple[str, ...]
    losses: pd.DataFrame
    temperatures: pd.DataFrame


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
    return TrainingInfo(arms, tuple(labels[arm] for arm in arms), long, temperatures)


def draw_losses(info: TrainingInfo) -> Figure:
    """Draw the loss and its weighted parts, one facet an arm, one line a seed."""
    rows, columns = facet_shape(len(info.arms))
    parts = [TOTAL, *dict.fromkeys(part for part in info.losses["part"] if part != TOTAL)]
    palette = dict(zip(parts, ["#22272e", *colours(len(parts) - 1)], strict=True))
    dashes = dict(zip(parts, ["", *[(4, 1.5), (1, 1), (6, 1, 1, 1), (3, 1)] * len(parts)], strict=False))
    with theme():
        figure = new_figure(11 if columns > 1 else 7, 1.1 + 2.5 * rows)
        grid = figure.subplots(rows, columns, sharex=True, squeeze=False)
        for axes, arm, label in zip(grid.flat, info.arms, info.labels, strict=False):
            mine = info.losses[info.losses["arm"] == arm]
            seaborn.lineplot(
                data=mine, x="step", y="loss", hue="part", style="part", hue_order=parts, style_order=parts,
                palette=palette, dashes=dashes, units="seed", estimator=None, linewidth=1.2, legend=False,
                ax=axes,
            )  # fmt: skip
            axes.set(title=facet_title(label, columns), xlabel="", ylabel="")
            seaborn.despine(ax=axes, left=True)
        for axes in grid.flat[len(info.arms) :]:
            axes.set_axis_off()
        for column in range(columns):
            [axes for axes in grid[:, column] if axes.axison][-1].tick_params(labelbottom=True)
        figure.supxlabel("Training step", fontsize=10)
        figure.supylabel("Loss (nats), parts as weighted", fontsize=10)
        names = [plain(part) for part in parts]
        handles = [
            Line2D([], [], color=palette[part], linestyle=(0, dashes[part] or (1, 0)), label=name)
            for part, name in zip(parts, names, strict=True)
        ]
        figure.legend(handles=handles, loc="outside upper center", ncols=legend_columns(names, 11))
    return figure


def draw_temperatures(info: TrainingInfo, all_arms: Sequence[str]) -> Figure:
    """Draw the temperature of every model on one logarithmic axis."""
    styles = arm_styles(all_arms)
    with theme():
        figure = new_figure(9, 4.2)
        axes = figure.subplots()
        for position, arm in enumerate(info.arms):
            mine = info.temperatures[info.temperatures["arm"] == arm]
            for _, line in mine.groupby("seed"):
                axes.plot(
                    line["step"], line["temperature"], color=styles[arm].colour, marker=styles[arm].marker,
                    markevery=_spread(position, len(line)), markersize=5, markeredgecolor="white",
                    linewidth=1.3,
                )  # fmt: skip
        if (info.temperatures["temperature"] > 0).all():
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9), numticks=12))
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set(xlabel="Training step", ylabel="Temperature τ (no unit)")
        seaborn.despine(ax=axes, left=True)
        labels = [plain(label) for label in info.labels]
        handles = [
            Line2D([], [], color=styles[arm].colour, marker=styles[arm].marker, label=label)
            for arm, label in zip(info.arms, labels, strict=True)
        ]
        figure.legend(handles=handles, loc="outside upper center", ncols=legend_columns(labels, 9))
    return figure


def _spread(position: int, count: int) -> tuple[int, int]:
    """Start each arm's markers elsewhere, so that lines on top of each other are all seen."""
    step = max(1, count // 6)
    return (position * max(1, step // 4)) % step, step
