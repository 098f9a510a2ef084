"""Nearest-neighbour strips: a query, its native neighbours, its neighbours through inversion."""

from __future__ import annotations

import io
import textwrap
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image, UnidentifiedImageError

from analysis.plots.style import DOUBLE, QUIET, SMALLEST, TEXT, new_figure, short, spread, theme
from crossgap.reading.quoting import reported
from crossgap.vocabulary import INVERSIONS, ROUTE_WORDS

RELEVANT, IRRELEVANT = "#1a7f37", "#c1121f"
_MARKS = {True: (RELEVANT, "-", "✓"), False: (IRRELEVANT, (0, (3, 2)), "✗"), None: (QUIET, ":", "")}
MOST_ARMS = 4  # pictures are what a page holds most of
_SIDE, _ROW, _GAP = 0.88, 1.16, 0.25  # of a card, from row to row, between the query and its neighbours
_LEFT = 0.55  # inches for the names of the routes
_EDGE = 0.04  # room for the frames of the outermost cards
_ACROSS = 6 + _GAP + _SIDE  # what a figure is wide for: a query and six neighbours
ROUTE_NAMES = {
    route: ("through " if words.family == "inversion" else "") + words.label
    for route, words in ROUTE_WORDS.items()
    if route in ("native", *INVERSIONS.values())
}


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

    @property
    def by_query(self) -> list[list[Strip]]:
        """Group the strips of each query, in the order written."""
        groups: dict[str, list[Strip]] = {}
        for strip in self.strips:
            groups.setdefault(strip.query.item_id, []).append(strip)
        return list(groups.values())


def strips_infos(
    neighbours: pd.DataFrame,
    labels: dict[str, str],
    *,
    n_queries: int = 4,
    n_neighbours: int = 6,
    most: int = MOST_ARMS,
) -> list[StripsInfo]:
    """Take, for each task and arm, the first queries of the first seed: none is picked by its outcome.

    Args:
        most: how many arms at most, spread over their order.
    """
    infos = []
    order = {arm: position for position, arm in enumerate(labels)}
    shown = reported(neighbours[neighbours["route"].isin(ROUTE_NAMES)])
    for (dataset, _, task), at_task in shown.groupby(["dataset", "split", "task"], sort=False):
        arms = sorted(set(at_task["arm"]), key=lambda arm: order[arm])
        for arm in spread(arms, most):
            of_arm = at_task[at_task["arm"] == arm]
            seed = int(of_arm["seed"].min())
            of_arm = of_arm[of_arm["seed"] == seed]
            strips = []
            for query_id in list(dict.fromkeys(of_arm["query_id"]))[:n_queries]:
                for route in ROUTE_NAMES:
                    group = of_arm[(of_arm["query_id"] == query_id) & (of_arm["route"] == route)]
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
            item_id=str(row["neighbour_id"]),
            label=str(row["neighbour_class"]),
            image=_bytes(row["neighbour_image"]),
            text=_text(row["neighbour_text"]),
            relevant=None if pd.isna(row["relevant"]) else bool(row["relevant"]),
            score=None if pd.isna(row["score"]) else float(row["score"]),
        )
        for row in group.to_dict("records")
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
    """Draw a row for each query and route, the query first.

    A relevant neighbour has a solid green frame and a tick, another a dashed red frame and a cross.
    """
    depth = max(len(strip.neighbours) for strip in info.strips)
    pitch = min(max((_ACROSS - _GAP - _SIDE) / max(depth, 1), 1), 1.3)  # fewer neighbours stand wider apart
    across = max(depth * pitch + _GAP + _SIDE, _ACROSS)
    rows = _ROW * len(info.strips)
    with theme():
        figure = new_figure(DOUBLE, (DOUBLE - _LEFT) / across * rows + 0.35)
        axes = figure.subplots()
        axes.set(xlim=(-_EDGE, across + _EDGE), ylim=(rows, -_EDGE), aspect="equal", xticks=[])
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        axes.set_title(f"{short(info.label, 50)}, seed {info.seed}, {short(info.task, 30)}")
        axes.set_yticks(
            [_ROW * place + _SIDE / 2 for place in range(len(info.strips))],
            [ROUTE_NAMES[strip.route].replace(" ", "\n") for strip in info.strips],
        )
        axes.tick_params(length=0)
        previous = None
        for place, strip in enumerate(info.strips):
            top = _ROW * place
            if strip.query.item_id != previous:
                _draw_card(axes, strip.query, 0.0, top)
                previous = strip.query.item_id
            for rank, card in enumerate(strip.neighbours):
                _draw_card(axes, card, (rank + 1) * pitch + _GAP, top)
    return figure


def _draw_card(axes: Axes, card: Card, left: float, top: float) -> None:
    side, inner = _SIDE, 0.07
    colour, dash, sign = _MARKS[card.relevant]
    middle = left + side / 2
    axes.add_patch(
        Rectangle(
            (left, top), side, side, facecolor="none", edgecolor=colour, linestyle=dash,
            linewidth=0.7 if card.relevant is None else 1.3, zorder=2,
        )
    )  # fmt: skip
    pixels = decode(card.image)
    if pixels is None:
        words = [short(word, 12) for word in (card.text or card.item_id).split()]
        text = textwrap.fill(" ".join(words), 12, max_lines=5, placeholder=" …")
        axes.text(middle, top + side / 2, text, ha="center", va="center", fontsize=SMALLEST)
    else:
        extent = (left + inner, left + side - inner, top + side - inner, top + inner)
        axes.imshow(pixels, extent=extent, interpolation="none", zorder=1)
        axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())
    axes.text(
        middle,
        top + side + 0.03,
        short(card.label, 15),
        ha="center",
        va="top",
        fontsize=SMALLEST,
        color=QUIET,
    )
    if sign:
        axes.text(
            left + side - 0.05, top + 0.04, sign, ha="right", va="top", fontsize=TEXT, fontweight="bold",
            color=colour, zorder=3,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.4},
        )  # fmt: skip
