"""Drawing and saving figures beside the work that goes on."""

from __future__ import annotations

import gc
import multiprocessing
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from ctypes import c_bool, c_int
from multiprocessing.process import BaseProcess
from multiprocessing.sharedctypes import Synchronized, SynchronizedArray
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from matplotlib.figure import Figure

from analysis.plots.style import KINDS, save_figure

Draw = Callable[[], Figure]


class _Wanted(NamedTuple):
    """A figure to be drawn, and the files to write."""

    draw: Draw
    folder: Path
    name: str
    kinds: tuple[str, ...]

    def write(self) -> None:
        save_figure(self.draw(), self.folder, self.name, self.kinds)


class _Batch(NamedTuple):
    """Figures that processes draw: the place of the following one, which are written, and who draws.

    Memory that processes share is free again when the parent drops it: it is held until they have ended.
    """

    figures: tuple[_Wanted, ...]
    following: Synchronized[int]
    written: SynchronizedArray[bool]
    processes: tuple[BaseProcess, ...]

    def missing(self) -> list[str]:
        """Wait for the processes; name the figures that are not there."""
        for process in self.processes:
            process.join()
        return [figure.name for place, figure in enumerate(self.figures) if not self.written[place]]


class Saver:
    """Draws figures and writes their files, all of them there when the ``with`` statement ends.

    A third of a report's time goes into figures, which need nothing of each other: on Linux forked processes
    draw them, which have what they draw without being sent it. Elsewhere, and on one core, each is drawn at
    once, with the same bytes.

    Args:
        kinds: formats to write each in.
        cores: how many processes draw; default: as many as there are cores.
    """

    def __init__(self, kinds: Sequence[str] = KINDS, *, cores: int | None = None) -> None:
        self._kinds = tuple(kinds)
        self._cores = (cores or len(os.sched_getaffinity(0))) if sys.platform == "linux" else 1
        self._waiting: list[_Wanted] = []
        self._batches: list[_Batch] = []

    def __enter__(self) -> Saver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.finish()
        else:  # what was begun is written to its end, nothing else
            self._join()

    def save(self, draw: Draw, folder: Path, name: str, *, only: str | None = None) -> None:
        """Have the figure that ``draw`` gives written as ``name`` in each format, by the end at the latest.

        Args:
            only: the one format that is wanted, where it is among them.

        Raises:
            OSError: it could not be written.
        """
        kinds = tuple(kind for kind in self._kinds if only in (None, kind))
        if not kinds:
            return
        figure = _Wanted(draw, folder, name, kinds)
        if self._cores == 1:
            figure.write()
        else:
            self._waiting.append(figure)

    def start(self) -> None:
        """Begin to draw what waits, beside whatever is done next."""
        figures, self._waiting = tuple(self._waiting), []
        if not figures:
            return
        context = multiprocessing.get_context("fork")
        following, written = context.Value(c_int, 0), context.Array(c_bool, len(figures))
        processes = tuple(
            context.Process(target=_draw_in_child, args=(figures, following, written))
            for _ in range(min(self._cores, len(figures)))
        )
        with warnings.catch_warnings():  # newer Pythons warn of threads: the child touches none of them
            warnings.simplefilter("ignore", DeprecationWarning)
            for process in processes:
                process.start()
        self._batches.append(_Batch(figures, following, written, processes))

    def finish(self) -> None:
        """Wait until all figures are written.

        Raises:
            OSError: some could not be.
        """
        self.start()
        missing = self._join()
        if missing:
            raise OSError(f"figure {', '.join(missing)} could not be drawn and written; see the error above")

    def _join(self) -> list[str]:
        """Wait for what was begun; name the figures that are not there."""
        batches, self._batches = self._batches, []
        return [name for batch in batches for name in batch.missing()]


def _draw_in_child(
    figures: Sequence[_Wanted], following: Synchronized[int], written: SynchronizedArray[bool]
) -> None:
    gc.disable()  # a process of seconds: looking through all that the parent has costs more than it frees
    while True:
        with following.get_lock():
            place = following.value
            following.value += 1
        if place >= len(figures):
            return
        try:
            figures[place].write()
        except Exception:  # the parent names the figure; the others are drawn all the same
            traceback.print_exc()
        else:
            written[place] = True
