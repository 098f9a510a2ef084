"""Draw a sheet of scenes with what their first captions say.

python tools/scenes_sheet.py --out docs/scenes-sheet.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from crossgap.command import run_command
from crossgap.datasets.scenes.captions import caption_scenes
from crossgap.datasets.scenes.names import SIDE
from crossgap.datasets.scenes.options import PREFIX, SceneOptions
from crossgap.datasets.scenes.render import render
from crossgap.datasets.scenes.world import draw_scenes

COLUMNS, ROWS = 6, 4
ZOOM, MARGIN, TEXT = 2, 12, 46  # pixels of a scene's pixel, between scenes, and of the room for a caption
LINES = 3
COLOURS = 160  # of the palette


def main(*, out: Path, dataset: str = PREFIX, split: str = "train", start: int = 0) -> int:
    """Draw 24 scenes with their first captions below them into a PNG.

    Args:
        out: file to write.
        dataset: scenes with options, as scenes:mention=0.6.
        split: of the world.
        start: index of the first scene.
    """
    options = SceneOptions.parse(dataset)
    scenes = draw_scenes(options, split, np.arange(start, start + COLUMNS * ROWS))
    captions = caption_scenes(options, split, scenes, 0).words
    pictures = render(scenes, held_out_designer=split == "test-designer")
    side = ZOOM * SIDE
    size = MARGIN + COLUMNS * (side + MARGIN), MARGIN + ROWS * (side + TEXT)
    sheet = Image.new("RGB", size, "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=11)
    for number, (pixels_HW3, caption) in enumerate(zip(pictures, captions, strict=True)):
        row, column = divmod(number, COLUMNS)
        left, top = MARGIN + column * (side + MARGIN), MARGIN + row * (side + TEXT)
        picture = Image.fromarray(pixels_HW3).resize((side, side), Image.Resampling.NEAREST)
        sheet.paste(picture, (left, top))
        pen.multiline_text(
            (left, top + side + 3), wrapped(caption, font, side), fill="#222222", font=font, spacing=1
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    sheet.quantize(COLOURS, dither=Image.Dither.NONE).save(out, optimize=True)
    return 0


def wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """Break a text at spaces into lines that fit ``width`` pixels."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".lstrip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    assert len(lines) <= LINES, f"{text!r} needs {len(lines)} lines"
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(run_command(main))
