"""The look that all figures share, and how they become files that are equal byte by byte."""

from __future__ import annotations

import contextlib
import io
import re
import textwrap
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple, TypeVar

import matplotlib
import numpy as np
import numpy.typing as npt
import seaborn
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.layout_engine import ConstrainedLayoutEngine

from analysis.plots.hover import with_titles
from crossgap.files import atomic_path

MARKERS = ("o", "s", "^", "D", "v", "<", ">", "p", "P", "h", "X")
INK = "#22272e"
QUIET = "#6b7280"
GRID = "#e3e6ea"

DOUBLE, SINGLE = 7.0, 3.4  # inches: the widths of a journal's page and column; figures are drawn at this size
TEXT, SMALL, SMALLEST = 8.0, 7.0, 6.5  # points
MOST_FACETS = 12
Item = TypeVar("Item")
Names = tuple[str, ...]
_INCHES_A_CHARACTER = 0.6 / 72  # of DejaVu Sans, an inch for each point of its size
_BOLD = 1.2  # how much wider

_SETTINGS = {
    "font.family": "DejaVu Sans",  # shipped with matplotlib: the same file on every machine
    "font.size": TEXT,
    "text.parse_math": False,  # labels come from data: a dollar sign is a dollar sign
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#9aa1ab",
    "axes.linewidth": 0.6,
    "axes.titlesize": TEXT,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 4,
    "axes.titley": 1.0,  # no figure has ticks on top: looking for them takes a fifth of the time
    "axes.labelsize": TEXT,
    "axes.labelpad": 3,
    "figure.labelsize": TEXT,
    "figure.titlesize": TEXT,
    "grid.color": GRID,
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.1,
    "lines.markersize": 3.5,
    "lines.markeredgewidth": 0.5,
    "patch.linewidth": 0.6,
    "hatch.linewidth": 0.5,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "xtick.major.pad": 2.5,
    "ytick.major.pad": 2.5,
    "legend.frameon": False,
    "legend.fontsize": SMALL,
    "legend.handlelength": 1.8,
    "legend.handletextpad": 0.5,
    "legend.columnspacing": 1.2,
    "legend.labelspacing": 0.35,
    "figure.dpi": 200,  # the layout is computed at the resolution of the PNG
    "figure.constrained_layout.h_pad": 0.04,
    "figure.constrained_layout.w_pad": 0.04,
    "image.composite_image": False,  # thumbnails are embedded as they are, not at the figure's resolution
    "svg.hashsalt": "crossgap",
    "svg.fonttype": "path",
    "pdf.fonttype": 42,  # text stays text, which journals ask for
}
KINDS = ("svg", "png", "pdf")
_METADATA: dict[str, dict[str, None]] = {
    "svg": {"Date": None, "Creator": None},
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
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
    drawable = _characters()
    return "".join(character if character in drawable or character == "\n" else "▯" for character in text)


@cache
def _characters() -> frozenset[str]:
    font = get_font(findfont(FontProperties(family="DejaVu Sans")))
    return frozenset(map(chr, font.get_charmap()))


def characters(inches: float, size: float = SMALL) -> int:
    """Say about how many characters of ``size`` points fit into ``inches``."""
    return max(int(inches / (size * _INCHES_A_CHARACTER)), 4)


def short(text: str, limit: int) -> str:
    """Cut a label in its middle, since labels of one study often differ at their ends; one line."""
    text = " ".join(plain(text).split())
    if len(text) <= limit:
        return text
    tail = (limit - 1) // 2
    return text[: limit - 1 - tail].rstrip() + "…" + text[len(text) - tail :].lstrip()


def wrapped(text: str, width: int, lines: int = 2) -> str:
    """Break a label into at most ``lines`` lines of ``width`` characters; what is too long is cut."""
    text = re.sub(r"\b(x|n) (?=[\d.])", "\\1\N{NO-BREAK SPACE}", short(text, width * lines))
    broken = textwrap.wrap(text, width)
    if len(broken) > lines:  # words did not fall well
        text = short(text, max(width * lines - width // 2, width))
        broken = textwrap.wrap(text, width)
    return "\n".join(broken if len(broken) <= lines else [*broken[: lines - 1], broken[-1][:width]])


def spread(items: Sequence[Item], most: int) -> tuple[Item, ...]:
    """Take at most ``most`` items, the first and the last among them, evenly in their order."""
    if len(items) <= most:
        return tuple(items)
    return tuple(items[round(place * (len(items) - 1) / max(most - 1, 1))] for place in range(most))


def arms_shown(labels: Mapping[str, str], measured: Collection[str], most: int) -> tuple[Names, Names]:
    """Choose at most ``most`` of the measured arms, spread over their order; add the labels of the others."""
    present = [arm for arm in labels if arm in set(measured)]
    arms = spread(present, most)
    return arms, tuple(labels[arm] for arm in present if arm not in arms)


def facet_shape(count: int) -> tuple[int, int]:
    """Choose rows and columns for ``count`` facets: at most four columns, few empty places."""
    columns = {0: 1, 1: 1, 2: 2, 3: 3, 4: 4, 5: 3, 6: 3, 9: 3}.get(count, 4)
    return max(-(-count // columns), 1), columns


def facet_width(columns: int) -> float:
    """Choose a figure's width: one facet needs a column of a journal only."""
    return SINGLE if columns == 1 else DOUBLE


def facet_title(label: str, columns: int) -> str:
    """Break a facet's title so that it does not run into its neighbour's."""
    width = (facet_width(columns) - 0.55) / columns - 0.1
    return wrapped(label, characters(width, TEXT * _BOLD), 3)


def legend_columns(labels: Sequence[str], width: float) -> int:
    """Choose how many legend columns fit a figure ``width`` inches wide."""
    longest = max((len(label) for label in labels), default=1)
    room = longest * SMALL * _INCHES_A_CHARACTER + 0.4
    most = max(1, min(len(labels), int((width - 0.1) / room)))
    rows = -(-len(labels) // most)
    return -(-len(labels) // rows)


def hide_spare(grid: npt.NDArray[np.object_], count: int) -> None:
    """Take the places of a grid beyond ``count`` facets away, and label the lowest of each column."""
    for axes in grid.flat[count:]:
        axes.set_axis_off()
    for column in grid.T:
        for lowest in [axes for axes in column if axes.axison][-1:]:
            lowest.tick_params(labelbottom=True)


def freeze(figure: Figure) -> Figure:
    """Compute the layout once and keep it, so that saving in several formats does not compute it again."""
    engine = figure.get_layout_engine()
    if isinstance(engine, ConstrainedLayoutEngine):
        with theme():
            engine.execute(figure)
        figure.set_layout_engine("none")
    return figure


def figure_bytes(figure: Figure, kind: str) -> bytes:
    """Render a figure as ``svg``, ``png`` or ``pdf`` without a date or a version in it.

    Calls the backends themselves: ``savefig`` draws everything once more for the sake of the layout, which is
    frozen here.
    """
    freeze(figure)
    buffer = io.BytesIO()
    dpi = figure.dpi
    with theme():
        if kind == "svg":
            FigureCanvasSVG(figure).print_svg(buffer, metadata=_METADATA[kind])
        elif kind == "pdf":
            FigureCanvasPdf(figure).print_pdf(buffer, metadata=_METADATA[kind])
        else:
            FigureCanvasAgg(figure).print_png(buffer, metadata=_METADATA[kind])
    figure.set_dpi(dpi)  # the vector formats leave their own
    return with_titles(buffer.getvalue()) if kind == "svg" else buffer.getvalue()


def save_figure(figure: Figure, folder: Path, name: str, kinds: Sequence[str] = KINDS) -> dict[str, bytes]:
    """Write ``name`` in each of ``kinds`` into ``folder``, each atomically; return their contents."""
    contents = {kind: figure_bytes(figure, kind) for kind in kinds}
    for kind, content in contents.items():
        with atomic_path(folder / f"{name}.{kind}") as temporary:
            temporary.write_bytes(content)
    return contents
