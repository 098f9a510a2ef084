"""The things that scenes show: which emoji they are, by which designers, and their cut-out drawings."""

from __future__ import annotations

import hashlib
from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage

from crossgap.datasets.emoji import training_pictures
from crossgap.datasets.readers.image_formats import decode_image
from crossgap.datasets.scenes.names import HELD_OUT_DESIGNER, NAMES

SIZES = (30, 40, 50)  # pixels of a cut-out's side on a scene of 64; the drawing fills four fifths of it
_ROOM = 1.25  # side of a cut-out over that of its drawing, so that turning it cuts nothing off
TURNS = (-10, 0, 10)  # degrees
_WHITE = 244  # a channel at least this bright in all three is the paper that a drawing stands on


@cache
def object_names() -> tuple[str, ...]:
    """List the objects in the order of the SHA-256 of their names: any number of them is a fair sample."""
    return tuple(sorted(NAMES, key=lambda name: hashlib.sha256(name.encode()).digest()))


@cache
def designers_of(name: str) -> tuple[str, ...]:
    """List the designers who drew an object, the held-out one left out, in alphabetical order."""
    return tuple(sorted(set(_pictures()[name]) - {HELD_OUT_DESIGNER}))


class Sprite(NamedTuple):
    """A cut-out drawing of S x S pixels, uint16: colours times their opacity, and 255 minus the opacity."""

    colour_SS3: np.ndarray
    clear_SS1: np.ndarray


@cache
def sprite(name: str, designer: str, size: int, turn: int) -> Sprite:
    """Cut a drawing out of its paper, turn it and shrink it to ``size`` pixels a side."""
    shrunk = np.asarray(
        _turned(name, designer, turn).resize((size, size), Image.Resampling.BOX), dtype=np.uint16
    )
    opacity_SS1 = shrunk[:, :, 3:]
    return Sprite((shrunk[:, :, :3] * opacity_SS1 + 127) // 255, 255 - opacity_SS1)


@lru_cache(maxsize=64)  # its sizes are asked for together
def _turned(name: str, designer: str, turn: int) -> Image.Image:
    return _cut_out(name, designer).rotate(turn, Image.Resampling.BILINEAR)


@cache
def _cut_out(name: str, designer: str) -> Image.Image:
    """Decode a drawing and make the paper around it transparent, RGBA.

    Paper is what is nearly white and reaches the edge of the picture; the rim of the drawing, where the
    designer's smoothing mixed it with paper, is half transparent.
    """
    pixels_HW3 = np.asarray(decode_image(_pictures()[name][designer], where=f"{name}/{designer}"))
    white_HW = np.pad(pixels_HW3.min(axis=2) >= _WHITE, 1, constant_values=True)
    parts_HW, _ = ndimage.label(white_HW)
    paper_HW = parts_HW == parts_HW[0, 0]
    rim_HW = ndimage.binary_dilation(paper_HW) & ~paper_HW
    opacity_HW = np.where(paper_HW, 0, np.where(rim_HW, 128, 255))[1:-1, 1:-1].astype(np.uint8)
    return _framed(Image.fromarray(np.dstack([pixels_HW3, opacity_HW]), "RGBA"))


def _framed(cut: Image.Image) -> Image.Image:
    """Put a drawing in the middle of a square with room to turn, however small it was drawn."""
    box = cut.getchannel("A").getbbox()
    assert box is not None, "a drawing has ink"
    inner = cut.crop(box)
    side = round(_ROOM * max(inner.size))
    square = Image.new("RGBA", (side, side))
    square.paste(inner, ((side - inner.width) // 2, (side - inner.height) // 2))
    return square


@cache
def _pictures() -> dict[str, dict[str, bytes]]:
    return training_pictures()
