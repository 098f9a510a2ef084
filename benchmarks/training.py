"""Pre-training against a plain loop in the manner of open_clip: same model, data, views and losses."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from open_clip import SimpleTokenizer
from open_clip.loss import ClipLoss
from torch import Tensor, nn

from benchmarks.machine import interleave, seconds
from benchmarks.tables import Table
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
) -> list[Table]:
    """Time steps of training and compare their losses; then say where the time of ours goes."""
    config = config or TrainConfig(recipe="bench")
    config = replace(config, model=replace(config.model, context_length=CONTEXT), steps=10_000)
    pairs = load_pairs(
        config.data,
        image_size=config.stored_size,
        context_length=CONTEXT,
        limit=config.limit,
    )
    run = Run(config, scratch, pairs, None, time.perf_counter())
    assert isinstance(run.batches, Batches)
    plain = _PlainLoop(config, run.batches)
    losses: dict[str, list[float]] = {"plain": [], "ours": []}

    def some(advance: Callable[[], float], name: str) -> Callable[[], float]:
        def updates() -> None:
            losses[name] += [advance() for _ in range(steps)]

        return lambda: seconds(updates)

    def ours() -> float:
        run.advance()
        return run.loss.total.item()

    loops = {"plain": some(plain.advance, "plain"), "ours": some(ours, "ours")}
    for loop in loops.values():  # what is allocated in the first steps
        loop()
    times = interleave(loops, rounds)
    off = max(abs(a - b) / a for a, b in zip(losses["plain"], losses["ours"], strict=True))
    pairs_a_round = steps * config.batch_size
    rows = [
        {
            "loop": name,
            "pairs a second": pairs_a_round / timing.median,
            "least": pairs_a_round / max(timing.rounds),
            "most": pairs_a_round / min(timing.rounds),
            "x plain": times["plain"].over(timing),
        }
        for name, timing in times.items()
    ]
    note = (
        f"Plain decodes images and tokenises captions anew each step, pads to {CONTEXT} tokens, runs "
        f"open_clip's towers and updates all {VOCABULARY:,} rows of the token table. Views are drawn alike. "
        f"Losses of {len(losses['ours'])} steps differ by at most {off:.1e} of theirs."
    )
    speed = Table(title=f"Training, batch {config.batch_size}, context {CONTEXT}", rows=rows, note=note)
    return [speed, _shares(run, profiled)]


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


def _shares(run: Run, steps: int) -> Table:
    """Measure the parts of a step by wrapping them, over some steps."""
    spent: dict[str, float] = {}
    with (
        _timed(Batches, "batch", "draw the batch", spent),
        _timed(Embedder, "__call__", "embed it", spent),
        _timed(torch.Tensor, "backward", "backward", spent),
        _timed(TrainingState, "clip_gradients", "clip", spent),
        _timed(TrainingState, "update", "AdamW", spent),
    ):
        started = time.perf_counter()
        for _ in range(steps):
            run.advance()
        total = time.perf_counter() - started
    spent["the rest: loss, checks"] = total - sum(spent.values())
    rows = [
        {"part": part, "ms a step": 1000 * value / steps, "share": value / total}
        for part, value in spent.items()
    ]
    return Table(title=f"Where a step of ours goes, {1000 * total / steps:.0f} ms", rows=rows)


@contextmanager
def _timed(owner: Any, name: str, part: str, spent: dict[str, float]) -> Iterator[None]:
    """Add up the time spent in a method while the context is open."""
    original = getattr(owner, name)

    def timed(*args: Any, **options: Any) -> Any:
        start = time.perf_counter()
        result = original(*args, **options)
        spent[part] = spent.get(part, 0.0) + time.perf_counter() - start
        return result

    setattr(owner, name, timed)
    try:
        yield
    finally:
        setattr(owner, name, original)
