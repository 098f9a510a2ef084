"""One progress bar for item loops: items per second and time left; silent where nobody looks."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class ItemProgress:
    """Show loops over items on a terminal's standard error."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.speed:.1f}/s", style="dim"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> ItemProgress:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def start(self, what: str, count: int) -> Callable[[int], None]:
        """Open a bar over ``count`` items and return what advances it."""
        task = self._bars.add_task(what, total=count)
        return lambda done: self._bars.update(task, advance=done)
