"""The training loop: what happens from one step to the next, and what is written on the way."""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path
from typing import Any

import torch
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from torch import Tensor

from crossgap.encoders import resolve_device
from crossgap.records import append_line, read_lines, write_text
from pretrain.checkpoint import Checkpoint, save_checkpoint
from pretrain.config import TrainConfig
from pretrain.data import Batch, Batches, TrainingPairs
from pretrain.model import build_model
from pretrain.objective import clamp_logit_scale, evaluate_objective
from pretrain.progress import TrainingProgress
from pretrain.state import TrainingState
from pretrain.terms import Views
from pretrain.towers import PackedText, encode_images, encode_text


class NonFiniteLoss(RuntimeError):  # noqa: N818  (it names what the loss is)
    """The loss or its gradient became infinite or NaN; the message names the step and the parts."""

    def __init__(self, step: int, parts: dict[str, float]) -> None:
        listed = ", ".join(f"{name}={value:.6g}" for name, value in parts.items())
        super().__init__(f"step {step}: the loss is not finite: {listed}")
        self.step = step
        self.parts = parts

    def __reduce__(self) -> tuple[Any, ...]:
        return NonFiniteLoss, (self.step, self.parts)


class Run:
    """One process's share of a training run: from a checkpoint, or from the start, to the last step.

    ``started`` is the reading of ``time.perf_counter`` from which its seconds count.
    """

    def __init__(
        self,
        config: TrainConfig,
        out: Path,
        pairs: TrainingPairs,
        checkpoint: Checkpoint | None,
        started: float,
    ) -> None:
        self.config = config
        self.out = out
        self.device = resolve_device(config.device)
        self.batches = Batches(
            pairs=pairs.to(self.device),
            batch_size=config.batch_size,
            image_size=config.model.image_size,
            augment=config.augment,
            seed=config.seed,
        )
        temperature = config.objective.temperature
        self.model = build_model(config.model, seed=config.seed, temperature=temperature.initial)
        self.model.logit_scale.requires_grad_(temperature.regime == "learnable")
        self.model.train().to(self.device)
        self.state = TrainingState(
            self.model,
            pairs.vocabulary_V,
            weight_decay=config.weight_decay,
            betas=config.betas,
            temperature_rate=temperature.rate,
        )
        self.step = 0
        self.seconds_before = 0.0
        self.started = started
        if checkpoint is not None:
            self.state.restore(checkpoint.weights, checkpoint.state)
            self.step = checkpoint.progress["step"]
            self.seconds_before = checkpoint.progress["seconds"]
        colours = torch.tensor([OPENAI_DATASET_MEAN, OPENAI_DATASET_STD], device=self.device)
        self.mean_C11, self.std_C11 = colours[:, :, None, None]
        self.pending: list[tuple[int, list[str], Tensor]] = []

    @property
    def seconds(self) -> float:
        return self.seconds_before + time.perf_counter() - self.started

    def train(self, progress: bool) -> None:
        config = self.config
        lines = self.out / "metrics.jsonl"
        _cut_metrics(lines, self.step)
        title = f"{config.recipe} seed {config.seed}"
        with (
            lines.open("a", encoding="utf-8") as metrics,
            TrainingProgress(title, steps=config.steps, done=self.step, shown=progress) as shown,
        ):
            logged_step, logged_time = self.step, time.perf_counter()
            while self.step < config.steps:
                self._schedule_temperature()
                used = self.model.logit_scale.detach().neg().exp()
                self._advance()
                shown.advance(self.step)
                last = self.step == config.steps
                if self.step % config.log_every == 0 or last:
                    self._check_finite()
                    now = time.perf_counter()
                    speed = (self.step - logged_step) * config.batch_size / (now - logged_time)
                    logged_step, logged_time = self.step, now
                    raw = {name: value.item() for name, value in self.loss.raw.items()}
                    append_line(metrics, self._line(raw, used.item(), speed))
                    shown.report(self.step, raw, pairs_per_second=speed)
                if self.step % config.checkpoint_every == 0 or last:
                    self._check_finite()
                    os.fsync(metrics.fileno())
                    self._save()

    def _schedule_temperature(self) -> None:
        """Set the temperature of the step to come, where it follows a schedule."""
        temperature = self.config.objective.temperature
        if temperature.scheduled:
            now = temperature.at(self.step, self.config.steps)
            with torch.no_grad():
                self.model.logit_scale.fill_(-math.log(now))

    def _advance(self) -> None:
        """Make one update: draw, embed, evaluate, differentiate, step."""
        objective = self.config.objective
        batch = self.batches.batch(
            self.step,
            second_image=objective.needs("second_image_BD"),
            second_text=objective.needs("second_text_BD"),
        )
        self.state.optimizer.zero_grad(set_to_none=True)
        views = self._embed(batch)
        self.loss = evaluate_objective(views, objective, temperature=self.model.logit_scale.neg().exp())
        self.loss.total.backward()
        self.gradient_norm = self.state.clip_gradients(self.config.gradient_clip)
        names = ["loss", *self.loss.raw, "gradient_norm"]
        values = torch.stack([self.loss.total, *self.loss.raw.values(), self.gradient_norm]).detach()
        self.pending.append((self.step + 1, names, values))
        if self.device.type == "cpu":  # elsewhere a look waits for the device: once a logged step
            self._check_finite()
        self.state.update(self.config.rate(self.step))
        if objective.temperature.regime == "learnable":
            clamp_logit_scale(self.model.logit_scale)
        self.step += 1

    def _embed(self, batch: Batch) -> Views:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            return Views(
                self._embed_images(batch.image_BCHW),
                self._embed_text(batch.text),
                None if batch.second_image_BCHW is None else self._embed_images(batch.second_image_BCHW),
                None if batch.second_text is None else self._embed_text(batch.second_text),
            )

    def _embed_images(self, pixels_BCHW: Tensor) -> Tensor:
        return encode_images(self.model, (pixels_BCHW - self.mean_C11) / self.std_C11).float()

    def _embed_text(self, text: PackedText) -> Tensor:
        return encode_text(self.model, text.to(self.device), self.state.table_VW).float()

    def _check_finite(self) -> None:
        for step, names, values in self.pending:
            if not bool(values.isfinite().all()):
                raise NonFiniteLoss(step, dict(zip(names, values.tolist(), strict=True)))
        self.pending.clear()

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
        }

    def _save(self) -> None:
        model = self.config.model
        checkpoint = Checkpoint(
            open_clip_config={"model_cfg": model.open_clip, "preprocess_cfg": model.preprocess},
            weights=self.state.weights(),
            state=self.state.moments(),
            progress={
                "step": self.step,
                "pairs_seen": self.step * self.config.batch_size,
                "seconds": self.seconds,
            },
        )
        save_checkpoint(self.out / "checkpoints", checkpoint)


def _cut_metrics(path: Path, step: int) -> None:
    """Leave out the lines after ``step``, which the run will write again, and a torn last line."""
    kept = [line for line in read_lines(path) if line["step"] <= step] if path.exists() else []
    write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
