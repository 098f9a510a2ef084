"""Figures saved beside other work are the same files, and a failure is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from analysis.plots.saving import Saver
from analysis.plots.style import KINDS, new_figure, save_figure, theme


def drawn(number: int) -> Callable[[], Figure]:
    def draw() -> Figure:
        with theme():
            figure = new_figure(3.4, 2)
            figure.subplots().plot([0, number], [1, 2], label=f"line {number}")
        return figure

    return draw


@pytest.mark.parametrize("most", [0, 1, 2])
def test_files_are_those_of_saving_at_once(tmp_path: Path, most: int) -> None:
    with Saver() as saver:
        saver._most = most
        for number in (1, 2, 3):
            saver.save(drawn(number), tmp_path / "later", f"f{number}")
    for number in (1, 2, 3):
        save_figure(drawn(number)(), tmp_path / "once", f"f{number}")
    names = sorted(path.name for path in (tmp_path / "once").iterdir())
    assert len(names) == 3 * len(KINDS)
    assert sorted(path.name for path in (tmp_path / "later").iterdir()) == names
    for name in names:
        assert (tmp_path / "later" / name).read_bytes() == (tmp_path / "once" / name).read_bytes(), name


def test_a_figure_that_cannot_be_written_is_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def lost() -> None:
        with Saver() as saver:
            saver._most = 1
            saver.save(drawn(1), tmp_path, "f1")
            saver._running[0].join()
            (tmp_path / "f2.pdf").mkdir()  # in the way of a file
            saver.save(drawn(2), tmp_path, "f2")

    with pytest.raises(OSError, match="figure f2 could not be drawn and written"):
        lost()
    assert "IsADirectoryError" in capfd.readouterr().err


def test_an_error_of_the_work_beside_it_goes_first(tmp_path: Path) -> None:
    def stopped() -> None:
        with Saver() as saver:
            saver.save(drawn(1), tmp_path, "f1")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert (tmp_path / "f1.pdf").exists()
