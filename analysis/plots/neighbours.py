"""Nearest-neighbour strips: a query, its native neighbours, its neighbours through inversion."""

from __future__ import annotations

import io
import textwrap
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image, UnidentifiedImageError

from analysis.plots.style import INK, QUIET, new_figure, plain, theme

RELEVANT, IRRELEVANT = "#1a7f37", "#c1121f"
ROUTE_NAMES = {"native": "native", "oti": "through OTI", "ovi": "through OVI"}


@dataclass(frozen=True)
class Card:
    """One item: its encoded thumbnail if it is an image, its text, its class; relevance for a neighbour."""

    item_id: str
    label: str
    image: bytes | None
    text: str
    relevant: bool | None = None
    score: float | None = None


@dataclass(frozen=True)
class Strip:
    """The neighbours of one query by one route, nearest first."""

    route: str
    query: Card
    neighbours: tuple[Card, ...]


@dataclass(frozen=True)
class StripsInfo:
    """Strips of one model on one task, queries in the order written, routes native first."""

    dataset: str
    task: str
    arm: str
    label: str
    seed: int
    strips: tuple[Strip, ...]


def strips_infos(
    neighbours: pd.DataFrame, labels: dict[str, str], *, n_queries: int = 4, n_neighbours: int = 6
) -> list[StripsInfo]:
    """Take, for each task and arm, the first queries of the first seed: none is picked by its outcome."""
    infos = []
    order = {arm: position for position, arm in enumerate(labels)}
    shown = neighbours[neighbours["route"].isin(ROUTE_NAMES) & (neighbours["split"] != "val")]
    for (dataset, _, task), at_task in shown.groupby(["dataset", "split", "task"], sort=False):
        arms = sorted(set(at_task["arm"]), key=lambda arm: order[arm])
        for arm in arms:
            mine = at_task[at_task["arm"] == arm]
            seed = int(mine["seed"].min())
            mine = mine[mine["seed"] == seed]
            strips = []
            for query_id in list(dict.fromkeys(mine["query_id"]))[:n_queries]:
                for route in ROUTE_NAMES:
                    group = mine[(mine["query_id"] == query_id) & (mine["route"] == route)]
                    if len(group):
                        group = group.sort_values("rank", kind="stable").head(n_neighbours)
                        strips.append(_strip(route, group))
            infos.append(StripsInfo(str(dataset), str(task), arm, labels[arm], seed, tuple(strips)))
    return infos


def _strip(route: str, group: pd.DataFrame) -> Strip:
    first = group.iloc[0]
    query = Card(
        first["query_id"], str(first["query_class"]), _bytes(first["query_image"]), _text(first["query_text"])
    )
    cards = tuple(
        Card(
            item_id=row.neighbour_id,
            label=str(row.neighbour_class),
            image=_bytes(row.neighbour_image),
            text=_text(row.neighbour_text),
            relevant=None if pd.isna(row.relevant) else bool(row.relevant),
            score=None if pd.isna(row.score) else float(row.score),
        )
        for row in group.itertuples(index=False)
    )
    return Strip(route, query, cards)


def _bytes(value: object) -> bytes | None:
    return bytes(value) if isinstance(value, (bytes, bytearray, memoryview)) and len(value) else None


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def decode(image: bytes | None) -> np.ndarray | None:
    """Decode a thumbnail to RGB; None for one that is absent or not an image."""
    if image is None:
        return None
    try:
        with Image.open(io.BytesIO(image), formats=("PNG", "JPEG", "WEBP")) as picture:
            return np.asarray(picture.convert("RGB"))
    except (UnidentifiedImageError, OSError):
        return None


def draw_strips(info: StripsInfo) -> Figure:
    """Draw a row for each query and route; relevant neighbours have a solid green frame and a tick, others a
    dashed red frame and a cross."""
    columns = 1 + max(len(strip.neighbours) for strip in info.strips)
    with theme():
        figure = new_figure(1.35 * columns + 1.0, 1.62 * len(info.strips) + 0.5)
        figure.suptitle(plain(f"{info.label}, seed {info.seed}, {info.task}"), fontsize=11, fontweight="bold")
        grid = figure.subplots(len(info.strips), columns, squeeze=False)
        previous = None
        for line, strip in zip(grid, info.strips, strict=True):
            for axes in line:
                axes.set_xticks([])
                axes.set_yticks([])
                axes.grid(visible=False)
                axes.spines[:].set_visible(False)
            if strip.query.item_id != previous:
                _draw_card(line[0], strip.query)
                previous = strip.query.item_id
            line[0].set_ylabel(ROUTE_NAMES[strip.route], fontsize=9)
            for axes, card in zip(line[1:], strip.neighbours, strict=False):
                _draw_card(axes, card)
    return figure


def _draw_card(axes: Axes, card: Card) -> None:
    pixels = decode(card.image)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_aspect("equal")
    if pixels is None:
        text = textwrap.fill(plain(card.text or card.item_id), 15, max_lines=5, placeholder=" …")
        axes.text(0.5, 0.5, text, ha="center", va="center", fontsize=7.5)
    else:
        axes.imshow(pixels, extent=(0.06, 0.94, 0.06, 0.94), interpolation="nearest", zorder=1)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
    axes.set_xlabel(_short(plain(card.label)), fontsize=7, color=QUIET)
    colour, dash, sign = {
        True: (RELEVANT, "-", "✓"),
        False: (IRRELEVANT, (0, (3, 2)), "✗"),
        None: (INK, ":", ""),
    }[card.relevant]
    axes.spines[:].set_visible(True)
    axes.spines[:].set(color=colour, linestyle=dash, linewidth=2 if card.relevant is not None else 1)
    axes.text(
        0.93, 0.93, sign, ha="right", va="top", fontsize=11, fontweight="bold", color=colour, zorder=3,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.6},
    ) if sign else None  # fmt: skip


def _short(label: str, limit: int = 20) -> str:
    return label if len(label) <= limit else label[: limit - 1] + "…"
