"""What a running sweep shows: trials done, each running trial's phase, time left."""

from __future__ import annotations

import time
from typing import Any

from rich.progress import TaskID, TimeElapsedColumn

from ablations.running.spec import TrialSpec
from crossgap.files import read_lines
from crossgap.progress import Bars


class Display(Bars):
    """One bar for the study and one for each running trial; plain lines where there is no terminal."""

    def __init__(self, total: int, done: int) -> None:
        super().__init__(TimeElapsedColumn())
        self._started = time.monotonic()
        self._before = done
        self._study = self._bars.add_task("trials", total=total, completed=done, note="")
        self._running: dict[str, tuple[TrialSpec, TaskID]] = {}

    def started(self, spec: TrialSpec) -> None:
        """Open a bar over the training steps of a trial."""
        name = spec.folder.name
        bar = self._bars.add_task(name, total=spec.train_config().steps, note="starting")
        self._running[name] = (spec, bar)
        self._say(f"{name}: started")

    def update(self) -> None:
        """Read how far the running trials are from the files they write."""
        for spec, bar in self._running.values():
            path = spec.folder / "metrics.jsonl"
            lines = read_lines(path) if path.exists() else []
            if lines:
                last = lines[-1]
                trained = last["step"] >= spec.train_config().steps
                note = (
                    "measuring"
                    if trained
                    else f"loss {last['loss']:.3f}, {last['pairs_per_second']:.0f} pairs/s"
                )
                self._bars.update(bar, completed=last["step"], note=note)

    def finished(self, spec: TrialSpec, result: dict[str, Any] | None, how: str) -> None:
        """Close a trial's bar, say how it ended (``how``, without a result), and how long the rest takes."""
        _, bar = self._running.pop(spec.folder.name)
        self._bars.remove_task(bar)
        if result is None:
            self._say(f"{spec.folder.name}: {how}")
            return
        self._bars.advance(self._study)
        task = next(task for task in self._bars.tasks if task.id == self._study)
        done, total = int(task.completed), int(task.total or 0)
        seconds = time.monotonic() - self._started
        left = seconds / max(1, done - self._before) * (total - done)
        how = result["state"] + (f" ({result['reason']})" if "reason" in result else "")
        how += "".join(f"; {said}" for said in _reused(result.get("reused", {})))
        self._say(f"{spec.folder.name}: {how}; {done} of {total} trials, about {left / 60:.0f} min left")
        self._bars.update(self._study, note=f"about {left / 60:.0f} min left")


def _reused(reused: dict[str, Any]) -> list[str]:
    """Say which stages of a trial were there already."""
    said = [f"{stage} reused from {reused[stage]}" for stage in ("train", "evaluate") if stage in reused]
    for made, read, what in (
        ("encoded", "features_read", "features"),
        ("inverted", "inversions_read", "inversions"),
    ):
        if reused.get(read):
            said.append(f"{what} reused" + ("" if not reused.get(made) else " in part"))
    return said
