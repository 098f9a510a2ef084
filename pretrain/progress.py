"""Show a training run: a live bar in a terminal, a plain line now and then elsewhere, or nothing."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LINES = 10  # plain lines over a whole run


class TrainingProgress:
    """Report steps, the parts of the loss, pairs per second and the time left, on standard error."""

    def __init__(self, title: str, *, steps: int, done: int, shown: bool) -> None:
        self._title = title
        self._steps = steps
        self._console = Console(stderr=True, quiet=not shown)
        self._live = shown and self._console.is_terminal
        self._next_line = done
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[parts]}"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._live,
        )
        self._task = self._bar.add_task(title, total=steps, completed=done, parts="")

    def __enter__(self) -> TrainingProgress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def advance(self, step: int) -> None:
        """Count one step."""
        self._bar.update(self._task, completed=step)

    def report(self, step: int, parts: dict[str, float], *, pairs_per_second: float) -> None:
        """Show the parts of the loss at a step."""
        text = " ".join(f"{name} {value:.4g}" for name, value in parts.items())
        text = f"{text} · {pairs_per_second:.0f} pairs/s"
        self._bar.update(self._task, completed=step, parts=text)
        if not self._live and (step >= self._next_line or step == self._steps):
            self._console.print(
                f"{self._title}: step {step}/{self._steps} {text}", highlight=False, soft_wrap=True
            )
            self._next_line = step + max(1, self._steps // LINES)
