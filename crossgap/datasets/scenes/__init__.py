"""Scenes: an endless embedded world of drawings on grounds, with captions that say as much as one asks."""

from __future__ import annotations

from crossgap.datasets.scenes.options import PREFIX, SceneOptions, is_scenes, option_lines
from crossgap.datasets.scenes.world import FACTORS, SPLITS, Scenes, draw_scenes, split_size

__all__ = [
    "FACTORS",
    "PREFIX",
    "SPLITS",
    "SceneOptions",
    "Scenes",
    "draw_scenes",
    "is_scenes",
    "option_lines",
    "split_size",
]
