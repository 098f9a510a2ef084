"""What the page knows of figures: their files, their words, and which stand where."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from analysis.plots.neighbours import StripsInfo
from analysis.plots.saving import Draw


@dataclass(frozen=True)
class Picture:
    """A figure on the page: its file, and what it shows in words; the file may be written later.

    ``reading``: how it is to be read, for whom the caption is not enough. ``narrow``: the figure as it is
    drawn for a column, or a telephone.
    """

    path: Path
    caption: str
    alt: str
    reading: str = ""
    narrow: Path | None = None

    @property
    def anchor(self) -> str:
        """Where the figure stands on the page."""
        return f"figure-{self.path.stem}"


class Shown(NamedTuple):
    """A figure: how it is drawn, the name of its files, and its words as in :class:`Picture`."""

    draw: Draw
    name: str
    caption: str
    alt: str
    reading: str = ""
    narrow: Draw | None = None


@dataclass(frozen=True)
class DrawnFigures:
    """The figures of a report: ``of_study`` by key of the page, ``within`` one entry a leading task, ``more``
    by section of the page; of the nearest neighbours the page makes strips of its own."""

    of_study: dict[str, list[Picture]]
    within: list[dict[str, Picture | None]]
    histograms: list[Picture]
    strips: dict[str, list[StripsInfo]]
    more: dict[str, list[Picture]]

    def with_more(self, more: dict[str, list[Picture]]) -> DrawnFigures:
        """Add figures by section of the page."""
        return replace(self, more={**self.more, **more})
