"""From factors to pixels: whole-number arithmetic alone, so that every machine gives the same bytes."""

from __future__ import annotations

from functools import cache

import numpy as np

from crossgap.datasets.scenes.names import HELD_OUT_DESIGNER, SIDE
from crossgap.datasets.scenes.objects import SIZES, TURNS, Sprite, designers_of, object_names, sprite
from crossgap.datasets.scenes.world import COLOURS, TINTS, Drawing, Scenes

_BEYOND = max(SIZES) // 10  # pixels by which a cut-out may stand out of its scene


def render(scenes: Scenes, *, held_out_designer: bool = False) -> np.ndarray:
    """Paint scenes, uint8 (N, 64, 64, 3): the ground, the first thing, then the second over it.

    Args:
        held_out_designer: everything is drawn by the designer whom training never shows.
    """
    ground_N3 = _grounds()[scenes.colour_N, scenes.tint_N]
    wide = SIDE + 2 * _BEYOND
    images_NHW3 = np.empty((len(scenes), wide, wide, 3), dtype=np.uint8)
    images_NHW3[:] = ground_N3[:, None, None, :]
    for drawing in (scenes.first, scenes.second):
        _paste(images_NHW3, drawing, held_out_designer)
    return np.ascontiguousarray(images_NHW3[:, _BEYOND:-_BEYOND, _BEYOND:-_BEYOND])


def _paste(images_NHW3: np.ndarray, drawing: Drawing, held_out_designer: bool) -> None:
    columns = zip(*(column.tolist() for column in drawing), strict=True)
    for image_HW3, (thing, designer, size, _, turn, mirror, y, x) in zip(images_NHW3, columns, strict=True):
        if thing < 0:
            continue
        colour_SS3, clear_SS1 = _sprite(thing, -1 if held_out_designer else designer, size, turn, mirror)
        side = len(clear_SS1)
        top, left = y + _BEYOND, x + _BEYOND
        patch_SS3 = image_HW3[top : top + side, left : left + side]
        patch_SS3[:] = colour_SS3 + ((patch_SS3 * clear_SS1 + 127) // 255)


@cache
def _sprite(thing: int, designer: int, size: int, turn: int, mirror: int) -> Sprite:
    name = object_names()[thing]
    by = HELD_OUT_DESIGNER if designer < 0 else designers_of(name)[designer]
    drawn = sprite(name, by, SIZES[size], TURNS[turn])
    return Sprite(*(part[:, ::-1] for part in drawn)) if mirror else drawn


@cache
def _grounds() -> np.ndarray:
    """Colours of the grounds by colour and tint, uint8."""
    tinted = np.array(list(COLOURS.values()))[:, None, :] * np.array(TINTS)[None, :, None]
    return tinted.round().clip(0, 255).astype(np.uint8)
