"""Figures saved beside other work are the same files, and a failure is told."""

from __future__ import annotations

import os
import signal
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


@pytest.mark.parametrize("cores", [1, 2])
def test_files_are_those_of_saving_at_once(tmp_path: Path, cores: int) -> None:
    with Saver(cores=cores) as saver:
        saver.save(drawn(1), tmp_path / "later", "f1")
        saver.start()
        for number in (2, 3):
            saver.save(drawn(number), tmp_path / "later", f"f{number}")
    for number in (1, 2, 3):
        save_figure(drawn(number)(), tmp_path / "once", f"f{number}")
    names = sorted(path.name for path in (tmp_path / "once").iterdir())
    assert len(names) == 3 * len(KINDS)
    assert sorted(path.name for path in (tmp_path / "later").iterdir()) == names
    for name in names:
        assert (tmp_path / "later" / name).read_bytes() == (tmp_path / "once" / name).read_bytes(), name


@pytest.mark.parametrize("cores", [1, 2])
def test_a_figure_that_cannot_be_written_is_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], cores: int
) -> None:
    (tmp_path / "f2.pdf").mkdir()  # in the way of a file

    def lost() -> None:
        with Saver(cores=cores) as saver:
            for number in (1, 2, 3):
                saver.save(drawn(number), tmp_path, f"f{number}")

    with pytest.raises(OSError, match="figure f2 could not be drawn and written" if cores > 1 else "f2.pdf"):
        lost()
    assert (tmp_path / "f1.pdf").is_file()
    assert cores == 1 or ("IsADirectoryError" in capfd.readouterr().err and (tmp_path / "f3.pdf").is_file())


def _killed() -> Figure:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def test_a_figure_whose_process_was_killed_is_told(tmp_path: Path) -> None:
    def lost() -> None:
        with Saver(cores=2) as saver:
            saver.save(_killed, tmp_path, "f1")
            saver.save(drawn(2), tmp_path, "f2")

    with pytest.raises(OSError, match="figure f1 could not be drawn and written"):
        lost()
    assert (tmp_path / "f2.pdf").is_file()


def test_an_error_of_the_work_beside_it_goes_first_and_nothing_more_is_begun(tmp_path: Path) -> None:
    def stopped() -> None:
        with Saver(cores=2) as saver:
            saver.save(drawn(1), tmp_path, "f1")
            saver.start()
            saver.save(drawn(2), tmp_path, "f2")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert (tmp_path / "f1.pdf").is_file()
    assert not (tmp_path / "f2.pdf").exists()
