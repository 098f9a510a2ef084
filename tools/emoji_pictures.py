"""Turn the designers' files into 64-pixel pictures and find the drawings that are the same."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = 64
WEBP = {"quality": 85, "method": 6, "lossless": False, "exact": False}
SAME_DRAWING = 1.0  # mean absolute difference of two pictures, in grey levels of 255


def find_files(folder: Path) -> dict[str, Path]:
    """Map the code of each emoji to its file; joiners and variation selectors are left out of the code."""
    return {bare(path.stem): path for path in sorted(folder.iterdir())}


def bare(code: str) -> str:
    """Write a code in lower case without joiners and variation selectors, which file names treat freely."""
    return "-".join(part for part in code.lower().split("-") if part not in ("fe0f", "200d"))


def render(path: Path) -> Image.Image:
    """Read an SVG, PNG or WebP file as a picture of SIZE x SIZE, RGB on white, centred when not square."""
    if path.suffix == ".svg":
        import resvg_py

        png = resvg_py.svg_to_bytes(svg_path=str(path), width=SIZE, height=SIZE, skip_system_fonts=True)
        drawn = Image.open(io.BytesIO(bytes(png)))
    else:
        drawn = Image.open(path)
    with drawn:
        return on_white_square(drawn).resize((SIZE, SIZE), Image.Resampling.LANCZOS)


def on_white_square(drawn: Image.Image) -> Image.Image:
    """Put a picture, with its transparency, in the middle of a white square of its longer side."""
    side = max(drawn.size)
    square = Image.new("RGBA", (side, side), "white")
    corner = ((side - drawn.width) // 2, (side - drawn.height) // 2)
    square.alpha_composite(drawn.convert("RGBA"), corner)
    return square.convert("RGB")


def encode(picture: Image.Image) -> bytes:
    """Encode a picture as WebP with the fixed settings of :data:`WEBP`."""
    stream = io.BytesIO()
    picture.save(stream, "WEBP", **WEBP)
    return stream.getvalue()


def same_drawings(pictures: Mapping[str, Image.Image]) -> list[tuple[str, str]]:
    """List the pairs of concepts that one designer draws the same, as (earlier, later)."""
    concepts = list(pictures)
    pixels_NP = np.stack([np.asarray(pictures[concept], dtype=np.int16).ravel() for concept in concepts])
    coarse_NC = np.stack([_coarse(pictures[concept]) for concept in concepts])
    pairs = []
    for later in range(1, len(concepts)):
        # the mean over cells never differs by more than the mean over pixels, so nothing is missed
        near = np.flatnonzero(np.abs(coarse_NC[:later] - coarse_NC[later]).mean(1) <= SAME_DRAWING)
        for earlier in near:
            if np.abs(pixels_NP[earlier] - pixels_NP[later]).mean() <= SAME_DRAWING:
                pairs.append((concepts[earlier], concepts[later]))
    return pairs


def repeated_concepts(same: Sequence[Sequence[tuple[str, str]]], weight: Mapping[str, int]) -> dict[str, str]:
    """Return repeated -> kept for the pairs of concepts that at least two designers draw the same.

    ``same`` holds the pairs of each designer. Of a pair the concept of the larger ``weight`` is kept, the
    earlier one of equals.
    """
    counts = Counter(pair for pairs in same for pair in pairs)
    repeated: dict[str, str] = {}
    for (earlier, later), count in counts.items():
        if count < 2 or earlier in repeated or later in repeated:
            continue
        lesser, kept = (earlier, later) if weight[later] > weight[earlier] else (later, earlier)
        repeated[lesser] = kept
    return repeated


def _coarse(picture: Image.Image) -> np.ndarray:
    cell = 8
    pixels = np.asarray(picture, dtype=np.float32)
    return pixels.reshape(SIZE // cell, cell, SIZE // cell, cell, 3).mean((1, 3)).ravel()
