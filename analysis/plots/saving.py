"""Drawing and saving figures beside the work that goes on."""

from __future__ import annotations

import gc
import multiprocessing
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType

from matplotlib.figure import Figure

from analysis.plots.style import KINDS, save_figure

Draw = Callable[[], Figure]


class Saver:
    """Draws figures and writes their files, all of them there when the ``with`` statement ends.

    Most of a report's time goes into figures, which need nothing of each other: on Linux each is drawn by a
    forked process, which has what it draws without being sent it. Elsewhere, and on one core, each is drawn
    at once, with the same bytes.

    Args:
        kinds: formats to write each in.
    """

    def __init__(self, kinds: Sequence[str] = KINDS) -> None:
        self._kinds = tuple(kinds)
        cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1
        self._most = cores if cores > 1 else 0
        self._running: list[BaseProcess] = []

    def __enter__(self) -> Saver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish(quiet=error is not None)

    def finish(self, *, quiet: bool = False) -> None:
        """Wait until all figures are written; ``quiet``: whether they could be or not.

        Raises:
            OSError: one could not be written.
        """
        while self._running:
            self._wait(quiet=quiet)

    def save(self, draw: Draw, folder: Path, name: str, *, only: str | None = None) -> None:
        """Write the figure that ``draw`` gives as ``name`` in each format, now or by the end.

        Args:
            only: the one format that is wanted, where it is among them.

        Raises:
            OSError: this or an earlier figure could not be written.
        """
        kinds = tuple(kind for kind in self._kinds if only in (None, kind))
        if not kinds:
            return
        if not self._most:
            _draw_and_save(draw, folder, name, kinds)
            return
        while len(self._running) >= self._most:
            self._wait()
        process = multiprocessing.get_context("fork").Process(
            target=_draw_in_child, args=(draw, folder, name, kinds), name=name
        )
        with warnings.catch_warnings():  # newer Pythons warn of threads: the child touches none of them
            warnings.simplefilter("ignore", DeprecationWarning)
            process.start()
        self._running.append(process)

    def _wait(self, *, quiet: bool = False) -> None:
        process = self._running.pop(0)
        process.join()
        if process.exitcode and not quiet:
            raise OSError(f"figure {process.name} could not be drawn and written; see the error above")


def _draw_in_child(draw: Draw, folder: Path, name: str, kinds: Sequence[str]) -> None:
    gc.disable()  # a process of seconds: looking through all that the parent has costs more than it frees
    _draw_and_save(draw, folder, name, kinds)


def _draw_and_save(draw: Draw, folder: Path, name: str, kinds: Sequence[str]) -> None:
    save_figure(draw(), folder, name, kinds)
