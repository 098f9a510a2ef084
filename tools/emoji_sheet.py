"""Draw the sheet of example pictures: a row a designer, a column a concept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

NAMES = (
    "grinning face",
    "thumbs up",
    "cook",
    "woman cook",
    "dog face",
    "octopus",
    "strawberry",
    "castle",
    "bicycle",
    "guitar",
    "light bulb",
    "flag: Brazil",
)
CELL, MARGIN, LABEL_WIDTH, HEADER = 64, 14, 84, 24


def draw_sheet(
    path: Path, pictures: Mapping[str, Mapping[str, Image.Image]], concepts: Mapping[str, str]
) -> None:
    """Draw the pictures of NAMES by every designer into a PNG; ``concepts`` maps a name to its id."""
    step = CELL + 2 * MARGIN
    sheet = Image.new("RGB", (LABEL_WIDTH + step * len(NAMES), HEADER + step * len(pictures)), "white")
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=12)
    for column, name in enumerate(NAMES):
        centre = LABEL_WIDTH + step * column + step // 2
        pen.text((centre, HEADER - 8), name, fill="#333333", font=font, anchor="ms")
    for row, (designer, drawings) in enumerate(pictures.items()):
        top = HEADER + step * row
        pen.text((8, top + step // 2), designer, fill="#333333", font=font, anchor="lm")
        for column, name in enumerate(NAMES):
            left = LABEL_WIDTH + step * column
            if concepts[name] in drawings:
                sheet.paste(drawings[concepts[name]], (left + MARGIN, top + MARGIN))
            else:
                pen.text(
                    (left + step // 2, top + step // 2), "not drawn", fill="#999999", font=font, anchor="mm"
                )
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, optimize=True)
