"""Progress on standard error: live bars on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn

Tick = Callable[[int], None]
SILENT = 2.0  # seconds that a command may work without a word
_PULSE = 0.5  # seconds between looks at the clock
_LONGEST_SILENCE = 30.0


class Bars:
    """Live bars with a count and a ``note``; ``more`` are columns after them."""

    def __init__(self, *more: ProgressColumn, shown: bool = True) -> None:
        shown = shown and speaks()
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

    Without a terminal the loop that is under way writes a line after ``seconds_before_first``, then one every
    ``seconds_between`` at most, also where an item takes longer than that, and one when it ends.
    """

    def __init__(self, *, seconds_between: float = 30, seconds_before_first: float = SILENT) -> None:
        super().__init__()
        self._between, self._before_first = seconds_between, min(seconds_before_first, seconds_between)
        self._loops: list[_Loop] = []
        self._ended = threading.Event()
        self._pulse = threading.Thread(target=self._keep_telling, daemon=True)

    def __enter__(self) -> Self:
        super().__enter__()
        _under_way.append(self)
        if not self._live:
            self._pulse.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        _under_way.remove(self)
        super().__exit__(kind, error, trace)

    def start(self, what: str, count: int, done: int = 0) -> Tick:
        """Open a loop over ``count`` items, ``done`` of them before now; return what counts more of them."""
        loop = _Loop(what, count, done, now_done=done, next_line=time.monotonic() + self._before_first)
        self._loops.append(loop)
        task = self._bars.add_task(what, total=count, completed=done, note="")

        def tick(more: int) -> None:
            loop.now_done += more
            self._bars.update(task, completed=loop.now_done, note=loop.note)
            if not self._live and (loop.now_done == count or time.monotonic() >= loop.next_line):
                self._tell(loop)

        return tick

    def _tell(self, loop: _Loop) -> None:
        loop.next_line = time.monotonic() + self._between
        self._say(f"{loop.what}: {loop.now_done} of {loop.count} items, {loop.note}")

    def _keep_telling(self) -> None:
        """Speak for a loop whose next item takes long."""
        while not self._ended.wait(_PULSE):
            running = [loop for loop in self._loops if loop.now_done < loop.count]
            if running and time.monotonic() >= running[-1].next_line:
                self._tell(running[-1])


@dataclass
class _Loop:
    what: str
    count: int
    done: int
    now_done: int
    next_line: float
    started: float = field(default_factory=time.monotonic)

    @property
    def note(self) -> str:
        seconds = time.monotonic() - self.started
        return _pace(self.now_done - self.done, self.count - self.now_done, seconds)


@contextlib.contextmanager
def told(what: str, *, after: float = SILENT) -> Iterator[None]:
    """Say on standard error what is under way once it takes longer than ``after`` seconds, and now and then.

    Where another one, or a loop over items, is under way within it, that one alone speaks.
    """
    if not speaks():
        yield
        return
    me = object()
    ended = threading.Event()
    started = time.monotonic()

    def keep_telling() -> None:
        wait = after
        while not ended.wait(wait):
            if _under_way[-1:] == [me]:
                # written in one piece past Python's own streams: a process may be forked meanwhile
                os.write(2, f"{what} ... {_clock(time.monotonic() - started)}\n".encode())
            wait = min(max(2 * wait, after), _LONGEST_SILENCE)

    _under_way.append(me)
    thread = threading.Thread(target=keep_telling, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        _under_way.remove(me)
        thread.join()


# what is under way, the innermost last
_under_way: list[object] = []


def _pace(done: int, left: int, seconds: float) -> str:
    speed = done / max(seconds, 1e-9)
    if not left:
        return f"{speed:.1f}/s, {_clock(seconds)} in all"
    return f"{speed:.1f}/s, {_clock(left / speed)} left" if done else f"{_clock(seconds)} so far"


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def shared(tick: Tick, count: int, size: int) -> Tick:
    """Count for ``size`` processes that share ``count`` items alike what one of them has done."""
    left = count

    def counted(more: int) -> None:
        nonlocal left
        done = min(more * size, left)
        left -= done
        tick(done)

    return counted


def speaks() -> bool:
    """Tell whether this process speaks: of those that torchrun started the first alone."""
    return os.environ.get("RANK", "0") == "0" or "WORLD_SIZE" not in os.environ


def say(line: str) -> None:
    """Print a result; of several processes the first one does."""
    if speaks():
        print(line)


def say_notices(dataset: str, notices: Iterable[str]) -> None:
    """Tell a user what of a dataset was left out, and what looks wrong in it."""
    for notice in notices if speaks() else ():
        print(f"warning: {dataset}: {notice}", file=sys.stderr)
