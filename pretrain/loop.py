"""The training loop: what happens from one step to the next, and what is written on the way."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from rich.progress import TimeRemainingColumn

from crossgap.datasets.bad import BadSamples
from crossgap.files import append_line, read_lines, write_text
from crossgap.processes import ALONE, Processes
from crossgap.progress import Bars
from pretrain.card import model_card
from pretrain.checkpoint import Checkpoint, name_best, save_checkpoint
from pretrain.config import TrainConfig
from pretrain.data.pairs import TrainingPairs
from pretrain.data.resampled import ShardStream
from pretrain.data.scenes import EndlessScenes
from pretrain.start import Start
from pretrain.tracking import Trackers
from pretrain.update import Updates
from pretrain.validation import BEST_BY, validate

VALIDATION = "validation.jsonl"
_LINES = 10  # plain lines of progress over a whole run


class Stopped(SystemExit):
    """The process was asked to end and wrote a checkpoint; its exit code is 143 (SIGTERM) or 130 (Ctrl-C)."""

    def __init__(self, step: int, by: int = signal.SIGTERM) -> None:
        super().__init__(128 + by)
        self.step = step


class _Stop:
    """While it is open, SIGTERM or one Ctrl-C ask the run to end after its step; a second Ctrl-C ends it."""

    def __init__(self) -> None:
        self.asked = False
        self.by: int = signal.SIGTERM

    def __enter__(self) -> _Stop:
        self._before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            self._before[signal.SIGTERM] = signal.signal(signal.SIGTERM, self._ask)
            if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
                self._before[signal.SIGINT] = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, _: object) -> None:
        if number == signal.SIGINT:
            signal.signal(number, self._before[number])
        self.asked, self.by = True, number


class Run(Updates):
    """One process's share of a training run: from a checkpoint, or from the start, to the last step.

    ``started`` is the reading of ``time.perf_counter`` from which its seconds count, ``label`` what a study
    calls the model.
    """

    def __init__(
        self,
        config: TrainConfig,
        out: Path,
        pairs: TrainingPairs | ShardStream | EndlessScenes,
        checkpoint: Checkpoint | None,
        started: float,
        processes: Processes = ALONE,
        *,
        start: Start | None = None,
        bad: BadSamples | None = None,
        label: str | None = None,
    ) -> None:
        super().__init__(config, pairs, processes, start=start, bad=bad)
        self.label = label
        self.trackers = Trackers({}, lambda what: None)
        self.out = out
        self.seconds_before = 0.0
        self.started = started
        if checkpoint is not None:
            self.state.restore(checkpoint.weights, checkpoint.state)
            self.step = checkpoint.progress["step"]
            self.seconds_before = checkpoint.progress["seconds"]

    @property
    def used(self) -> dict[str, Any]:
        """What the run turned out to use, where its settings leave it open: model, device, threads."""
        return {
            "model": self.start.model_cfg,
            "preprocess": self.start.preprocess_cfg,
            "parameters": sum(weight.numel() for weight in self.model.parameters()),
            # of the terms' own too; of the token embedding the rows of words that the data have
            "trained": sum(weight.numel() for weight in self.state.parameters),
            "device": str(self.device),
            "threads": torch.get_num_threads(),
            "processes": self.processes.size,
            "forward": "packed" if self.start.why_whole is None else f"its own: {self.start.why_whole}",
        }

    @property
    def seconds(self) -> float:
        return self.seconds_before + time.perf_counter() - self.started

    def train(self, progress: bool, trackers: Trackers | None = None) -> None:
        config = self.config
        self.trackers = trackers or self.trackers
        lines = self.out / "metrics.jsonl"
        if self.processes.first:
            _cut_metrics(lines, self.step)
        title = f"{config.recipe} seed {config.seed}"
        with (
            open(lines if self.processes.first else os.devnull, "a", encoding="utf-8") as metrics,
            TrainingProgress(
                title, steps=config.steps, done=self.step, shown=progress and self.processes.first
            ) as shown,
            closing(self.batches),
            _Stop() as stop,
        ):
            logged_step, logged_time = self.step, time.perf_counter()
            while self.step < config.steps:
                self._schedule_temperature()
                used = self.model.logit_scale.detach().neg().exp()
                self.advance()
                shown.advance(self.step)
                last = self.step == config.steps
                if self.step % config.log_every == 0 or last:
                    self._check_finite()
                    now = time.perf_counter()
                    speed = (self.step - logged_step) * config.batch_size / (now - logged_time)
                    logged_step, logged_time = self.step, now
                    raw = {name: value.item() for name, value in self.loss.raw.items()}
                    line = self._line(raw, used.item(), speed)
                    append_line(metrics, line)
                    self.trackers.log(self.step, line)
                    shown.report(self.step, raw, pairs_per_second=speed)
                stopped = self.processes.any(stop.asked)
                if self.step % config.checkpoint_every == 0 or last or stopped:
                    self._check_finite()
                    if self.processes.first:
                        os.fsync(metrics.fileno())
                        self._validate(self._save())
                if stopped and not last:
                    self.processes.wait()
                    raise Stopped(self.step, stop.by)

    def _line(self, raw: dict[str, float], temperature: float, pairs_per_second: float) -> dict[str, Any]:
        return {
            "step": self.step,
            "loss": self.loss.total.item(),
            "temperature": temperature,
            "learning_rate": self.config.rate(self.step - 1),
            "gradient_norm": self.gradient_norm.item(),
            "pairs_per_second": pairs_per_second,
            "seconds": self.seconds,
            **{f"raw/{name}": value for name, value in raw.items()},
            **{f"weighted/{name}": value.item() for name, value in self.loss.weighted.items()},
            **{f"gradient/{name}": norm for name, norm in self.term_gradients.items()},
        }

    def _save(self) -> Path:
        checkpoint = Checkpoint(
            open_clip_config={
                "model_cfg": self.start.model_cfg,
                "preprocess_cfg": self.start.preprocess_cfg,
            },
            weights=self.state.weights(),
            state=self.state.moments(),
            progress={
                "step": self.step,
                "pairs_seen": self.step * self.config.batch_size,
                "seconds": self.seconds,
                "bad": self.bad.reasons,
            },
            averaged=self.state.averaged_weights(),
            tokenizer=self.start.tokenizer_files,
        )
        card = model_card(self.config, step=self.step, amount=self.amount, used=self.used, label=self.label)
        return save_checkpoint(self.out / "checkpoints", checkpoint, card)

    def _validate(self, saved: Path) -> None:
        """Measure a checkpoint, where the run validates, and name it if it is the best."""
        if self.config.validation is None:
            return
        measured = validate(saved, self.config.validation, str(self.device))
        path = self.out / VALIDATION
        _cut_metrics(path, self.step - 1)
        with path.open("a", encoding="utf-8") as lines:
            append_line(lines, {"step": self.step, **measured})
        self.trackers.log(self.step, {f"validation/{name}": value for name, value in measured.items()})
        if BEST_BY in measured:
            name_best(saved, BEST_BY, measured[BEST_BY])


def _cut_metrics(path: Path, step: int) -> None:
    """Leave out the lines after ``step``, which the run will write again, and a torn last line."""
    kept = [line for line in read_lines(path) if line["step"] <= step] if path.exists() else []
    write_text(path, "".join(json.dumps(line) + "\n" for line in kept))


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
            self._next_line = step + max(1, self._steps // _LINES)
