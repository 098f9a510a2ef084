"""Progress on standard error: live bars on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn

Tick = Callable[[int], None]


class Bars:
    """Live bars with a count and a ``note``; ``more`` are columns after them."""

    def __init__(self, *more: ProgressColumn, shown: bool = True) -> None:
        self._console = Console(stderr=True, quiet=not shown)
        self._live = shown and self._console.is_terminal
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            *more,
            TextColumn("{task.fields[note]}"),
            console=self._console,
            disable=not self._live,
        )

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def _say(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)


class ItemProgress(Bars):
    """Report loops over items: how many are done, items per second, time left.

    Without a terminal a loop writes a line every ``seconds_between`` at most, and one when it ends.
    """

    def __init__(self, *, seconds_between: float = 30) -> None:
        super().__init__()
        self._seconds_between = seconds_between

    def start(self, what: str, count: int, done: int = 0) -> Tick:
        """Open a loop over ``count`` items, ``done`` of them before now; return what counts more of them."""
        task = self._bars.add_task(what, total=count, completed=done, note="")
        started = last_line = time.monotonic()
        now_done = done

        def tick(more: int) -> None:
            nonlocal now_done, last_line
            now_done += more
            now = time.monotonic()
            note = _pace(now_done - done, count - now_done, now - started)
            self._bars.update(task, completed=now_done, note=note)
            if not self._live and (now_done == count or now - last_line >= self._seconds_between):
                self._say(f"{what}: {now_done} of {count} items, {note}")
                last_line = now

        return tick


def _pace(done: int, left: int, seconds: float) -> str:
    speed = done / max(seconds, 1e-9)
    if not left:
        return f"{speed:.1f}/s, {_clock(seconds)} in all"
    return f"{speed:.1f}/s, {_clock(left / speed)} left" if done else ""


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
