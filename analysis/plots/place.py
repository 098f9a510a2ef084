"""Labels beside points of a scatter plot that lie on nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from analysis.plots.style import INK, QUIET, SMALLEST, freeze, short

_DIRECTIONS = ((1, 0), (1, 1), (1, -1), (0, 1), (0, -1), (-1, 1), (-1, -1), (-1, 0))
_DISTANCES = (6.5, 10, 14, 19, 26, 38, 52)  # points


class Tag(NamedTuple):
    """A label and the point it belongs to, in the data's units."""

    x: float
    y: float
    text: str
    suffix: str = ""  # never cut


def place_tags(
    figure: Figure,
    axes: Axes,
    tags: Sequence[Tag],
    points: npt.NDArray[np.float64],
    *,
    along: npt.NDArray[np.float64] | None = None,
    limit: int = 26,
    all_or_none: bool = False,
) -> tuple[str, ...]:
    """Write each tag near its point, off other tags, inside the axes and over as few points as can be.

    Freezes the layout, since places depend on it: call it last. Each tag in turn takes the best of 56 places.

    Args:
        points: (N, 2) in the data's units, what the tags should not cover.
        along: (M, 2), close places along a line that they should not cross.
        limit: characters of a tag; a longer one is cut.
        all_or_none: draw no tag where one finds no place.

    Returns:
        the texts for which no place was left, which are not drawn.
    """
    freeze(figure)
    renderer = FigureCanvasAgg(figure).get_renderer()
    unit = figure.dpi / 72
    inside = axes.get_window_extent(renderer).padded(-unit)
    dots, line = (
        axes.transData.transform(places) if places is not None and len(places) else np.empty((0, 2))
        for places in (points, along)
    )
    taken: list[Bbox] = [text.get_window_extent(renderer) for text in axes.texts]
    missed = []
    drawn: list[Artist] = []
    for tag in tags:
        words = axes.annotate(
            short(tag.text, limit) + tag.suffix, xy=(tag.x, tag.y), xytext=(0, 0), textcoords="offset points",
            fontsize=SMALLEST, color=INK, va="center", zorder=6, annotation_clip=False,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.4},
        )  # fmt: skip
        words.set_in_layout(False)
        extent = words.get_window_extent(renderer)
        width, height = extent.width, extent.height
        x, y = axes.transData.transform((tag.x, tag.y))
        best: tuple[float, float, float, Bbox] | None = None
        for distance in _DISTANCES:
            for right, up in _DIRECTIONS:
                left = x + right * distance * unit - width * (1 - right) / 2
                bottom = y + up * distance * unit - height / 2 + up * height / 4
                box = Bbox.from_bounds(left, bottom, width, height)
                if not _within(box, inside) or any(box.overlaps(other) for other in taken):
                    continue
                covered = box.padded(2 * unit).count_contains(dots)
                crosses = box.padded(unit).count_contains(line) > 0
                cost = 8.0 * min(covered, 6) + 16 * crosses + distance + 2 * (right < 0)
                if best is None or cost < best[0]:
                    best = (cost, left, bottom, box)
        if best is None:
            words.remove()
            missed.append(tag.text)
            continue
        _, left, bottom, box = best
        words.set_position(((left - x) / unit, (bottom + height / 2 - y) / unit))
        taken.append(box.padded(unit))
        drawn += [words, *_lead(axes, (x, y), box, unit)]
    if all_or_none and missed:
        for artist in drawn:
            artist.remove()
        return tuple(tag.text for tag in tags)
    return tuple(missed)


def _within(box: Bbox, outer: Bbox) -> bool:
    return bool(box.x0 >= outer.x0 and box.x1 <= outer.x1 and box.y0 >= outer.y0 and box.y1 <= outer.y1)


def _lead(axes: Axes, point: tuple[float, float], box: Bbox, unit: float) -> Sequence[Artist]:
    """Join a tag that had to move away with its point."""
    x, y = point
    end = (min(max(x, box.x0), box.x1), min(max(y, box.y0), box.y1))
    if np.hypot(end[0] - x, end[1] - y) <= 8 * unit:
        return ()
    ends = axes.transData.inverted().transform([point, end])
    return axes.plot(
        ends[:, 0], ends[:, 1], color=QUIET, linewidth=0.5, zorder=2.2, scalex=False, scaley=False,
        in_layout=False,
    )  # fmt: skip
