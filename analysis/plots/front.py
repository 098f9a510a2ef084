"""The Pareto front of two goals: which arms no other arm matches in both, and how sure that is over seeds."""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib
import numpy as np
import numpy.typing as npt
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.plots.hover import tell
from analysis.plots.place import Tag, place_tags
from analysis.plots.style import DOUBLE, INK, QUIET, new_figure, theme, wrapped
from analysis.typeset import number

FloatArray = npt.NDArray[np.float64]
_SAMPLES = 40  # along each line that names should not cover
FEWEST_SEEDS = 5  # that resampling can say something with
MOST_NAMED = 8  # arms that all have names; of more, those on the front
BOUNDS = ["x_low", "x_high", "y_low", "y_high"]


@dataclass(frozen=True)
class FrontInfo:
    """What the figure shows, in the units of its axes; higher is better on both.

    ``means``: arm, label, x, y, colour, x_low, x_high, y_low, y_high, n_seeds, on_front, on_front_share: the
    mean over seeds, whether the arm is on the front, and in which share of the resamples it is (NaN below
    five seeds). ``points``: arm, seed, x, y, colour.
    ``dominated_share``: share of the arms that another arm beats.
    """

    x: str
    y: str
    colour: str
    means: pd.DataFrame
    points: pd.DataFrame
    dominated_share: float


def front_info(
    models: pd.DataFrame, *, x: str, y: str, colour: str = "gap", resamples: int = 1000, seed: int = 0
) -> FrontInfo:
    """Average models by arm and find the arms that none dominates; resample seeds to see how firm that is.

    An arm dominates another that it at least equals in both means and beats in one. A resample draws seeds
    with replacement, the same for all arms (they are paired by seed), and finds the front of its means again.

    Args:
        models: columns arm, label, seed, x, y, gap, and optionally x_low, x_high, y_low, y_high (of the arm);
            one row a model.
        x, y, colour: what the columns x, y and gap are, for the axes.
    """
    complete = models.dropna(subset=["x", "y"])
    bounds = [name for name in BOUNDS if name in complete]
    grouped = complete.groupby("arm", sort=False)
    means = grouped.agg(
        label=("label", "first"),
        x=("x", "mean"),
        y=("y", "mean"),
        colour=("gap", "mean"),
        **{name: (name, "mean") for name in bounds},
        n_seeds=("seed", "nunique"),
    ).reset_index()
    for name in BOUNDS:
        if name not in bounds:
            means[name] = np.nan
    goals = means[["x", "y"]].to_numpy(np.float64)
    means["on_front"] = ~dominated(goals[None])[0]
    means["on_front_share"] = _shares(complete, list(means["arm"]), resamples, seed)
    points = complete[["arm", "seed", "x", "y", "gap"]].rename(columns={"gap": "colour"})
    columns = ["arm", "label", "x", "y", "colour", *BOUNDS, "n_seeds", "on_front", "on_front_share"]
    return FrontInfo(
        x=x,
        y=y,
        colour=colour,
        means=means[columns],
        points=points.reset_index(drop=True),
        dominated_share=float(1 - means["on_front"].mean()) if len(means) else float("nan"),
    )


def dominated(goals: FloatArray) -> npt.NDArray[np.bool_]:
    """Tell which rows another row dominates; an undefined row neither dominates nor is dominated.

    Args:
        goals: (S, N, 2), S samples of N arms; higher is better.

    Returns:
        (S, N).
    """
    mine, other = goals[:, :, None, :], goals[:, None, :, :]
    beaten = (other >= mine).all(axis=-1) & (other > mine).any(axis=-1)
    return np.asarray(beaten.any(axis=-1), dtype=np.bool_)


def _shares(models: pd.DataFrame, arms: list[str], resamples: int, seed: int) -> FloatArray:
    seeds = sorted(set(models["seed"]))
    if len(seeds) < FEWEST_SEEDS:
        return np.full(len(arms), np.nan)
    table = np.stack(
        [
            models.pivot_table(index="arm", columns="seed", values=goal).reindex(arms, columns=seeds)
            for goal in ("x", "y")
        ],
        axis=-1,
    )  # arms, seeds, goals
    drawn = np.random.default_rng(seed).multinomial(
        len(seeds), np.full(len(seeds), 1 / len(seeds)), size=resamples
    )
    has = ~np.isnan(table)
    counts = np.einsum("rs,asg->rag", drawn, has.astype(np.float64))
    sums = np.einsum("rs,asg->rag", drawn, np.where(has, table, 0.0))
    means = np.full(sums.shape, np.nan)
    np.divide(sums, counts, out=means, where=counts > 0)
    valued = ~np.isnan(means).any(axis=-1)
    on_front = valued & ~dominated(means)
    times = valued.sum(axis=0)
    shares = np.full(len(arms), np.nan)
    np.divide(on_front.sum(axis=0), times, out=shares, where=times > 0)
    shares[has.all(axis=-1).sum(axis=1) < FEWEST_SEEDS] = np.nan
    return shares


def draw_front(info: FrontInfo) -> Figure:
    """Draw arms coloured by the gap, the front as a step line, its arms with names and their shares.

    Of few arms all have names, where there is room for all of them.
    """
    with theme():
        figure = new_figure(DOUBLE, 3.9)
        axes = figure.subplots()
        means = info.means
        front = means[means["on_front"]].sort_values("x", kind="stable")
        # y falls along the front: between two arms the front is the lower right corner of what is reached
        axes.step(front["x"], front["y"], where="pre", color=INK, linewidth=1.0, zorder=2)
        gaps = info.means["colour"].dropna()
        low, high = (float(gaps.min()), float(gaps.max())) if len(gaps) else (0.0, 1.0)
        norm = Normalize(low, high if high > low else low + 1)
        shades = matplotlib.colormaps["viridis"](np.linspace(0, 0.92, 256))  # its yellow fades on white
        mapping = ScalarMappable(norm, LinearSegmentedColormap.from_list("gap", shades))
        axes.plot(
            info.points["x"], info.points["y"], color=QUIET, marker="o", markersize=2, linestyle="",
            alpha=0.45, markeredgecolor="none", zorder=1.5,
        )  # fmt: skip
        _join_models(axes, info)
        for row in means.to_dict("records"):
            unknown = np.isnan(row["colour"])
            face = "white" if unknown else mapping.to_rgba(row["colour"])
            edge = INK if row["on_front"] else (QUIET if unknown else face)
            for name, x, y in (("x", [row["x_low"], row["x_high"]], [row["y"]] * 2),
                               ("y", [row["x"]] * 2, [row["y_low"], row["y_high"]])):  # fmt: skip
                if not np.isnan(row[f"{name}_low"] + row[f"{name}_high"]):
                    axes.plot(x, y, color=QUIET, linewidth=0.6, alpha=0.6, zorder=1.8)
            axes.plot(
                row["x"], row["y"], marker="D" if row["on_front"] else "o", markerfacecolor=face,
                markeredgecolor=edge, markersize=6 if row["on_front"] else 4.2, linestyle="",
                markeredgewidth=1.0 if row["on_front"] else 0.6, zorder=4 if row["on_front"] else 3,
            )  # fmt: skip
        for row in means.to_dict("records"):
            reached = f"{info.x} {number(row['x'], 2)}, {info.y} {number(row['y'], 2)}"
            tell(axes, row["x"], row["y"], f"{row['label']}: {reached}, gap {number(row['colour'])}")
        axes.margins(x=0.14, y=0.08)
        axes.set(xlabel=wrapped(info.x, 70), ylabel=wrapped(info.y, 40))
        seaborn.despine(ax=axes)
        if high > low:
            bar = figure.colorbar(mapping, ax=axes, aspect=28, pad=0.02)
            bar.set_label(wrapped(info.colour, 40))
            bar.outline.set_visible(False)
        firm = front["on_front_share"].notna().any()
        handles = [
            _mark("D", INK, 5, "on the front" + (" (share of resamples of seeds)" if firm else "")),
            _mark("o", QUIET, 4, "another arm"),
            _mark("o", QUIET, 2, "one model"),
        ]
        handles[1].set_markerfacecolor(QUIET)
        handles[2].set_markerfacecolor(QUIET)
        if means["colour"].isna().any():
            handles.append(_mark("o", QUIET, 4, "no gap measured"))
        figure.legend(handles=handles, loc="outside upper left", ncols=len(handles))
        few = len(means) <= MOST_NAMED
        goals = means[["x", "y"]].to_numpy(np.float64)
        along = np.concatenate([_along(front), *([_joins(info)] if few else [])])
        place_tags(figure, axes, _tags(front), goals, along=along)
        if few:
            place_tags(figure, axes, _tags(means[~means["on_front"]]), goals, along=along, all_or_none=True)
    return figure


def _tags(means: pd.DataFrame) -> list[Tag]:
    return [
        Tag(
            row["x"], row["y"], row["label"],
            "" if np.isnan(row["on_front_share"]) else f" ({100 * row['on_front_share']:.0f} %)",
        )
        for row in means.to_dict("records")
    ]  # fmt: skip


def _join_models(axes: Axes, info: FrontInfo) -> None:
    """Join each model with the mean of its arm."""
    ends = list(_ends(info))
    axes.add_collection(LineCollection(ends, colors=QUIET, linewidths=0.4, alpha=0.4, zorder=1.4))


def _ends(info: FrontInfo) -> FloatArray:
    """List for each model where its line starts and ends: (N, 2, 2)."""
    middle = info.points[["arm"]].merge(info.means[["arm", "x", "y"]], on="arm", how="left")
    return np.stack(
        [info.points[["x", "y"]].to_numpy(np.float64), middle[["x", "y"]].to_numpy(np.float64)], axis=1
    )


def _joins(info: FrontInfo) -> FloatArray:
    """Sample the lines from models to the means of their arms."""
    ends = _ends(info)
    share = np.linspace(0, 1, _SAMPLES)[:, None, None]
    return (ends[:, 0] + share * (ends[:, 1] - ends[:, 0])).reshape(-1, 2)


def _along(front: pd.DataFrame) -> FloatArray:
    """Sample the step line, which names should not cover."""
    x, y = front["x"].to_numpy(np.float64), front["y"].to_numpy(np.float64)
    if len(x) < 2:
        return np.empty((0, 2))
    share = np.linspace(0, 1, _SAMPLES)[:, None]
    down = np.stack([np.broadcast_to(x[:-1], (_SAMPLES, len(x) - 1)), y[:-1] + share * np.diff(y)], axis=-1)
    right = np.stack([x[:-1] + share * np.diff(x), np.broadcast_to(y[1:], (_SAMPLES, len(x) - 1))], axis=-1)
    return np.concatenate([down.reshape(-1, 2), right.reshape(-1, 2)])


def _mark(marker: str, colour: str, size: float, label: str) -> Line2D:
    return Line2D(
        [],
        [],
        color=colour,
        marker=marker,
        markersize=size,
        linestyle="",
        markerfacecolor="white",
        label=label,
    )
