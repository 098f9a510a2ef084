"""Show a training run: a live bar in a terminal, a plain line now and then elsewhere, or nothing."""

from __future__ import annotations

from rich.progress import TimeRemainingColumn

from crossgap.progress import Bars

LINES = 10  # plain lines over a whole run


class TrainingProgress(Bars):
    """Report steps, the parts of the loss, pairs per second and the time left, on standard error."""

    def __init__(self, title: str, *, steps: int, done: int, shown: bool) -> None:
        super().__init__(TimeRemainingColumn(), shown=shown)
        self._title = title
        self._steps = steps
        self._next_line = done
        self._task = self._bars.add_task(title, total=steps, completed=done, note="")

    def advance(self, step: int) -> None:
        """Count one step."""
        self._bars.update(self._task, completed=step)

    def report(self, step: int, parts: dict[str, float], *, pairs_per_second: float) -> None:
        """Show the parts of the loss at a step."""
        text = " ".join(f"{name} {value:.4g}" for name, value in parts.items())
        text = f"{text} · {pairs_per_second:.0f} pairs/s"
        self._bars.update(self._task, completed=step, note=text)
        if not self._live and (step >= self._next_line or step == self._steps):
            self._say(f"{self._title}: step {step}/{self._steps} {text}")
            self._next_line = step + max(1, self._steps // LINES)
