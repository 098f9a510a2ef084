"""The look that all figures share, and how they become files that are equal byte by byte."""

from __future__ import annotations

import contextlib
import io
import textwrap
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import matplotlib
import seaborn
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font

from crossgap.records import atomic_path

MARKERS = ("o", "s", "^", "D", "v", "<", ">", "p", "P", "h", "X")
INK = "#22272e"
QUIET = "#6b7280"
GRID = "#e3e6ea"

_SETTINGS = {
    "font.family": "DejaVu Sans",  # shipped with matplotlib: the same file on every machine
    "font.size": 10,
    "text.parse_math": False,  # labels come from data: a dollar sign is a dollar sign
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#9aa1ab",
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 10,
    "grid.color": GRID,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "savefig.dpi": 150,
    "svg.hashsalt": "crossgap",
    "svg.fonttype": "path",
}


class ArmStyle(NamedTuple):
    """Colour and marker of an arm, the same in every figure."""

    colour: str
    marker: str


def arm_styles(arms: Sequence[str]) -> dict[str, ArmStyle]:
    """Give each arm, by its position in the study, a colour-blind-safe colour and a marker of its own.

    Eight colours and eleven markers: up to 88 arms get different pairs. Seaborn's palette without its pale
    pink and yellow, which fade on white.
    """
    palette = colours(8)
    return {
        arm: ArmStyle(palette[position % len(palette)], MARKERS[position % len(MARKERS)])
        for position, arm in enumerate(arms)
    }


def colours(count: int) -> list[str]:
    """List ``count`` colour-blind-safe colours that hold on white, repeating after eight."""
    palette = seaborn.color_palette("colorblind").as_hex()
    dark = [colour for position, colour in enumerate(palette) if position not in (6, 8)]
    return [dark[position % len(dark)] for position in range(count)]


@contextlib.contextmanager
def theme() -> Iterator[None]:
    """Apply the look while drawing or saving, and leave matplotlib's settings as they were."""
    with matplotlib.rc_context({**seaborn.axes_style("whitegrid"), **_SETTINGS}):  # type: ignore[dict-item]
        yield


def new_figure(width: float, height: float) -> Figure:
    """Make an empty figure (inches) that no global state knows of; legends marked ``outside`` take room."""
    return Figure(figsize=(width, height), layout="constrained")


def plain(text: str) -> str:
    """Replace characters that the figures' font lacks (emoji, say) by a box."""
    known = _characters()
    return "".join(character if character in known or character == "\n" else "▯" for character in text)


@cache
def _characters() -> frozenset[str]:
    font = get_font(findfont(FontProperties(family="DejaVu Sans")))
    return frozenset(map(chr, font.get_charmap()))


def facet_shape(count: int) -> tuple[int, int]:
    """Choose rows and columns for ``count`` facets: at most four columns, few empty places."""
    columns = {1: 1, 2: 2, 3: 3, 4: 4, 5: 3, 6: 3, 9: 3}.get(count, 4)
    return -(-count // columns), columns


def facet_title(label: str, columns: int) -> str:
    """Break a facet's title so that it does not run into its neighbour's."""
    return textwrap.fill(plain(label), {1: 70, 2: 44, 3: 34}.get(columns, 26), max_lines=2, placeholder=" …")


def legend_columns(labels: Sequence[str], width: float) -> int:
    """Choose how many legend columns fit a figure ``width`` inches wide."""
    longest = max(len(label) for label in labels)
    return max(1, min(len(labels), int(width / (0.08 * longest + 0.55))))


def figure_bytes(figure: Figure, kind: str) -> bytes:
    """Render a figure as ``svg`` or ``png`` without a date or a version in it."""
    metadata: dict[str, None] = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
    buffer = io.BytesIO()
    with theme():
        figure.savefig(buffer, format=kind, metadata=metadata)
    return buffer.getvalue()


def save_figure(figure: Figure, folder: Path, name: str) -> bytes:
    """Write ``name.svg`` and ``name.png`` into ``folder``, each atomically; return the SVG."""
    svg = figure_bytes(figure, "svg")
    for kind, content in (("svg", svg), ("png", figure_bytes(figure, "png"))):
        with atomic_path(folder / f"{name}.{kind}") as temporary:
            temporary.write_bytes(content)
    return svg
