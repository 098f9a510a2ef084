"""A picture of a training: its loss, temperature, and what its checkpoints are worth."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from crossgap.files import atomic_path
from pretrain.looking.summary import Lines

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CURVES = "curves.png"


def write_curves(path: Path, title: str, metrics: Lines, validation: Lines) -> None:
    """Draw the lines of ``metrics.jsonl`` and ``validation.jsonl`` into a PNG file, whole or not at all."""
    # only now: a training that draws nothing does without the second that it takes to load
    from matplotlib.figure import Figure

    panels: list[tuple[str, Lines, Callable[[str], bool]]] = [
        ("loss and its parts, as weighted", metrics, lambda name: name.startswith(("loss", "weighted/"))),
        ("temperature", metrics, lambda name: name == "temperature"),
        ("gap, validation split", validation, lambda name: name.startswith("gap/")),
        ("retrieval, validation split", validation, lambda name: "/" in name and not name.startswith("gap/")),
    ]
    shown = [panel for panel in panels if panel[1]]
    columns = 2
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(4.5 * columns, 3.0 * rows), dpi=120, layout="constrained")
    figure.suptitle(title)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, (label, lines, wanted) in zip(grid.flat, shown, strict=True):
        _draw(axes, lines, wanted)
        axes.set(xlabel="step", ylabel=label)
    with atomic_path(path) as temporary:
        figure.savefig(temporary)


def _draw(axes: Axes, lines: Lines, wanted: Callable[[str], bool]) -> None:
    names = list(dict.fromkeys(name for line in lines for name in line if wanted(name)))
    for name in names:
        points = [(line["step"], line[name]) for line in lines if name in line]
        marker = "o" if len(points) < 20 else None
        steps, values = zip(*points, strict=True)
        axes.plot(steps, values, label=name.removeprefix("weighted/"), marker=marker, markersize=3)
    axes.grid(alpha=0.3)
    if len(names) > 1:
        axes.legend(fontsize="small")
