"""Pre-training against a plain loop in the manner of open_clip: same model, data, views and losses."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import torch
from open_clip import SimpleTokenizer
from open_clip.loss import ClipLoss
from torch import Tensor, nn

from benchmarks.machine import Clock, interleave, seconds
from benchmarks.products import products
from benchmarks.tables import BenchTable
from crossgap.datasets.emoji import embedded_shards
from crossgap.datasets.readers.image_formats import decode_image
from crossgap.datasets.readers.shards import read_shards
from pretrain.config import TrainConfig
from pretrain.data.augment import random_view
from pretrain.data.batches import Batches
from pretrain.data.pairs import load_pairs
from pretrain.data.streams import stream
from pretrain.data.views import Embedder
from pretrain.loop import Run
from pretrain.model import build_model
from pretrain.settings import VOCABULARY
from pretrain.state import TrainingState

CONTEXT = 77  # open_clip's


def training(
    scratch: Path, *, config: TrainConfig | None = None, steps: int = 5, rounds: int, profiled: int = 10
) -> list[BenchTable]:
    """Time steps of training and compare their losses; then say where the time of ours goes."""
    config = config or TrainConfig(recipe="bench")
    config = replace(config, model=replace(config.model, context_length=CONTEXT), steps=10_000)
    pairs = load_pairs(
        config.data,
        image_size=config.stored_size,
        context_length=CONTEXT,
        limit=config.limit,
    )
    run = Run(config, scratch / "fp32", pairs, None, time.perf_counter())
    narrow, cast = (
        Run(replace(config, precision="bf16"), scratch / name, pairs, None, time.perf_counter())
        for name in ("bf16", "autocast")
    )
    assert isinstance(run.batches, Batches)
    plain = _PlainLoop(config, run.batches)
    losses: dict[str, list[float]] = {"plain": [], "fp32": [], "bf16": [], "autocast": []}

    def some(advance: Callable[[], float], name: str) -> Callable[[], float]:
        def updates() -> None:
            losses[name] += [advance() for _ in range(steps)]

        return lambda: seconds(updates)

    def advance(ours: Run) -> float:
        ours.advance()
        return ours.loss.total.item()

    def by_autocast() -> float:
        with patch.object(Embedder, "_narrow", False):
            return advance(cast)

    loops = {
        "plain": some(plain.advance, "plain"),
        "fp32": some(lambda: advance(run), "fp32"),
        "bf16": some(lambda: advance(narrow), "bf16"),
        "autocast": some(by_autocast, "autocast"),
    }
    for loop in loops.values():  # what is allocated in the first steps
        loop()
    times = interleave(loops, rounds)
    off = {
        name: max(abs(a - b) / a for a, b in zip(losses["plain"], curve, strict=True))
        for name, curve in losses.items()
    }
    pairs_a_round = steps * config.batch_size
    rows = [
        {
            "loop": name,
            "pairs a second": pairs_a_round / timing.median,
            "least": pairs_a_round / max(timing.rounds),
            "most": pairs_a_round / min(timing.rounds),
            "x plain": times["plain"].over(timing),
            "x fp32": times["fp32"].over(timing),
            "loss off": off[name],
        }
        for name, timing in times.items()
    ]
    note = (
        f"Plain decodes images and tokenises captions anew each step, pads to {CONTEXT} tokens, runs "
        f"open_clip's towers and updates all {VOCABULARY:,} rows of the token table. Views are drawn alike. "
        f"Loss off: how far losses of {len(losses['fp32'])} steps lie from the plain loop's, of theirs. "
        "bf16 makes products alone in bfloat16; autocast, which a GPU runs, casts all that it knows."
    )
    speed = BenchTable(title=f"Training, batch {config.batch_size}, context {CONTEXT}", rows=rows, note=note)
    return [speed, _shares(run, profiled), _floor(run, times["fp32"].median / steps)]


class _PlainLoop:
    """One process, nothing kept between steps but the encoded images and the captions' texts."""

    def __init__(self, config: TrainConfig, batches: Batches) -> None:
        shards = read_shards([str(path) for path in embedded_shards()])
        self.images = [s.image for s in shards if s.meta["split"] == "train"][: config.limit]
        self.config = config
        self.batches = batches
        objective = config.objective.temperature
        self.model = build_model(config.model, seed=config.seed, temperature=objective.initial).train()
        self.model.logit_scale.requires_grad_(False)
        self.tokenize = SimpleTokenizer(context_length=CONTEXT)
        self.loss = ClipLoss()
        kept, decayed = [], []
        for name, parameter in self.model.named_parameters():
            (decayed if parameter.ndim >= 2 and "embedding" not in name else kept).append(parameter)
        groups = [{"params": kept, "weight_decay": 0.0}, {"params": decayed}]
        self.optimizer = torch.optim.AdamW(groups, betas=config.betas, weight_decay=config.weight_decay)
        self.step = 0

    def advance(self) -> float:
        """Make one update and return its loss."""
        config, batches = self.config, self.batches
        indices_B = batches.indices(self.step)
        pixels_BCHW = self._pixels(indices_B)
        first_B, _ = batches._captions(indices_B, self.step)
        tokens_BL = self.tokenize([batches.pairs.captions_M[index] for index in first_B.tolist()])
        self.optimizer.zero_grad()
        image_BD = self.model.encode_image(pixels_BCHW, normalize=True)
        text_BD = self.model.encode_text(tokens_BL, normalize=True)
        loss = self.loss(image_BD, text_BD, self.model.logit_scale.exp())
        loss.backward()
        if config.gradient_clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), config.gradient_clip)
        for group in self.optimizer.param_groups:
            group["lr"] = config.rate(self.step)
        self.optimizer.step()
        self.step += 1
        return float(loss.item())

    def _pixels(self, indices_B: Tensor) -> Tensor:
        config = self.config
        decoded = []
        for index in indices_B.tolist():
            image = decode_image(self.images[index] or b"", where=str(index))
            pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
            decoded.append(pixels.view(image.height, image.width, 3))
        generator = stream(config.seed, "view", self.step, 0)
        view = random_view(torch.stack(decoded), config.model.image_size, config.augment, generator)
        mean, std = (torch.tensor(config.model.preprocess[name])[:, None, None] for name in ("mean", "std"))
        return (view - mean) / std


def _floor(run: Run, step: float) -> BenchTable:
    """Say what of a step in fp32 is products, at the rate that these shapes reach by themselves."""
    operations, alone = products(run.advance)
    row = {
        "GFLOP a step": operations / 1e9,
        "ms a step": 1000 * step,
        "ms of products alone": 1000 * alone,
        "GFLOP/s of these": operations / alone / 1e9,
        "share": alone / step,
        "x at most": step / alone,
    }
    note = "x at most: a step that did nothing but its products, each as fast as it runs by itself."
    return BenchTable(title="How much faster a step in fp32 could be", rows=[row], note=note)


def _shares(run: Run, steps: int) -> BenchTable:
    """Measure the parts of a step by wrapping them, over some steps."""
    clock = Clock(time.perf_counter)
    with (
        clock.of(Batches, "batch", "draw the batch"),
        clock.of(Embedder, "__call__", "embed it"),
        clock.of(torch.Tensor, "backward", "backward"),
        clock.of(TrainingState, "clip_gradients", "clip"),
        clock.of(TrainingState, "update", "AdamW"),
    ):
        started = time.perf_counter()
        for _ in range(steps):
            run.advance()
        total = time.perf_counter() - started
    spent = clock.spent
    spent["the rest: loss, checks"] = total - sum(spent.values())
    rows = [
        {"part": part, "ms a step": 1000 * value / steps, "share": value / total}
        for part, value in spent.items()
    ]
    return BenchTable(title=f"Where a step of ours goes, {1000 * total / steps:.0f} ms", rows=rows)
