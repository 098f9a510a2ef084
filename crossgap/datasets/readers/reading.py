"""How a dataset is to be read."""

from __future__ import annotations

from dataclasses import dataclass, field

from crossgap.datasets.bad import BadSamples


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Which split and how much of it, how many bad samples may be left out, and what a caption is.

    ``whole_texts``: a ``.txt`` file is one caption, not one a line.
    """

    split: str = "test"
    limit: int | None = None
    bad: BadSamples = field(default_factory=lambda: BadSamples(limit=0))
    whole_texts: bool = False
