"""Saving figures beside the work that goes on: the page needs the SVG at once, the other files later."""

from __future__ import annotations

import multiprocessing
import os
import sys
import warnings
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType

from matplotlib.figure import Figure

from analysis.plots.style import KINDS, save_figure

LATER = tuple(kind for kind in KINDS if kind != "svg")


class Saver:
    """Saves figures; the files that nobody waits for are written by forked processes, on Linux.

    Half of a report's time goes into PNG and PDF. A forked process has the figure without being sent it.
    Elsewhere, and on one core, all is written at once, with the same bytes.
    """

    def __init__(self) -> None:
        cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1
        self._most = cores if cores > 1 else 0
        self._running: list[BaseProcess] = []

    def __enter__(self) -> Saver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._running:
            self._wait(quiet=error is not None)

    def save(self, figure: Figure, folder: Path, name: str) -> bytes:
        """Write ``name`` in all formats and return the SVG; PNG and PDF may come later, by the end at last.

        Raises:
            OSError: a file of this or of an earlier figure could not be written.
        """
        svg = save_figure(figure, folder, name, kinds=("svg",))["svg"]
        if not self._most:
            save_figure(figure, folder, name, kinds=LATER)
            return svg
        while len(self._running) >= self._most:
            self._wait()
        process = multiprocessing.get_context("fork").Process(
            target=save_figure, args=(figure, folder, name), kwargs={"kinds": LATER}, name=name
        )
        with warnings.catch_warnings():  # newer Pythons warn of threads: the child touches none of them
            warnings.simplefilter("ignore", DeprecationWarning)
            process.start()
        self._running.append(process)
        return svg

    def _wait(self, *, quiet: bool = False) -> None:
        process = self._running.pop(0)
        process.join()
        if process.exitcode and not quiet:
            raise OSError(f"figure {process.name}: its PNG and PDF could not be written; see the error above")
