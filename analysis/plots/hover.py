"""What a figure says of a point where the pointer rests on it: titles in its SVG, nothing in PNG and PDF."""

from __future__ import annotations

import re

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

_TITLE = "title: "  # before the words in the id of an artist's group, which matplotlib writes escaped
_GROUP = re.compile(rf'<g id="{_TITLE}([^"]*)">'.encode())
REACH = 9.0  # points across: more than any marker


def tell(axes: Axes, x: float, y: float, words: str) -> None:
    """Say ``words`` where the pointer rests on a point; nothing that can be seen is drawn."""
    spot = Line2D([x], [y], marker="o", markersize=REACH, linestyle="", alpha=0, zorder=10)
    spot.set_gid(f"{_TITLE}{words}")
    spot.set_in_layout(False)
    axes.add_artist(spot)  # not add_line: the limits of the axes stay as they are


def with_titles(svg: bytes) -> bytes:
    """Turn the ids that :func:`tell` left into the titles that browsers show."""
    return _GROUP.sub(rb"<g>\n<title>\1</title>", svg)
