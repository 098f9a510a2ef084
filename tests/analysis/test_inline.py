"""Figures on the page are smaller than their files and draw the same."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from PIL import Image

from analysis.page.inline import Inliner
from analysis.plots.hover import tell
from analysis.plots.style import new_figure, save_figure, theme

NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def inlined(tmp_path: Path, draw: Callable[[Axes], object]) -> tuple[str, str]:
    """Draw on one pair of axes; give the file's SVG and the page's."""
    with theme():
        figure = new_figure(3.4, 2)
        draw(figure.subplots())
    save_figure(figure, tmp_path, "f", ("svg",))
    path = tmp_path / "f.svg"
    return path.read_text(encoding="utf-8"), str(Inliner().figure(path, "words", "drawn"))


def places(path: str) -> np.ndarray:
    """Follow a path of straight lines; give its points."""
    numbers = np.array([float(number) for number in NUMBER.findall(path)]).reshape(-1, 2)
    return numbers.cumsum(axis=0) if " l " in path else numbers


def test_a_long_line_is_written_by_its_steps_and_ends_where_it_ended(tmp_path: Path) -> None:
    heights = np.random.default_rng(0).normal(size=400).cumsum()
    full, small = inlined(tmp_path, lambda axes: axes.plot(np.arange(400), heights))
    line = max(re.findall(r' d="([^"]*)"', full), key=len)
    steps = max(re.findall(r' d="([^"]*)"', small), key=len)
    assert steps.startswith("M ")
    assert len(steps) < 0.6 * len(line)
    np.testing.assert_allclose(places(steps), places(line), atol=0.0051)


@pytest.mark.parametrize("curved", [True, False])
def test_short_paths_and_curves_stay_as_they_are(tmp_path: Path, curved: bool) -> None:
    _, small = inlined(
        tmp_path,
        lambda axes: axes.scatter([1, 2], [1, 2], s=900) if curved else axes.plot([1, 2]),
    )
    assert " l " not in small


def test_what_an_invisible_spot_tells_needs_no_paint(tmp_path: Path) -> None:
    full, small = inlined(tmp_path, lambda axes: tell(axes, 0.5, 0.5, "seed 3"))
    assert "opacity: 0" in full
    spot = re.search(r"<title>seed 3</title>.*?</g>", small)
    assert spot is not None
    assert ' opacity="0"' in spot[0]
    assert "stroke" not in spot[0]


def test_a_picture_of_points_has_a_palette_and_looks_the_same(tmp_path: Path) -> None:
    x, y = np.random.default_rng(0).normal(size=(2, 2000))
    full, small = inlined(
        tmp_path, lambda axes: axes.scatter(x, y, s=4, alpha=0.5, rasterized=True, linewidths=0)
    )
    before, after = (re.search(r"base64,([^\"]+)\"", svg) for svg in (full, small))
    assert before is not None
    assert after is not None
    pictures = [
        Image.open(io.BytesIO(base64.b64decode(found[1]))).convert("RGBA") for found in (before, after)
    ]
    assert len(after[1]) < 0.5 * len(before[1])
    on_white = [
        np.asarray(Image.alpha_composite(Image.new("RGBA", one.size, "white"), one), dtype=float)
        for one in pictures
    ]
    assert np.abs(on_white[0] - on_white[1]).mean() < 1
    assert np.abs(on_white[0] - on_white[1]).max() < 60
