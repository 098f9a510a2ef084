"""``python -m benchmarks.run``: fast paths against their slow twins, in one run; prints ratios.

Times depend on the machine, ratios much less; no test asserts either.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable

import open_clip
import torch
from rich.console import Console
from rich.table import Table

from crossgap.encoders import OpenClipEncoder
from crossgap.inversion import InversionConfig, invert
from crossgap.relevance import Relevance
from crossgap.retrieval import retrieval_metrics
from pretrain.config import TrainConfig
from pretrain.data import Batches, load_pairs
from pretrain.model import build_model
from pretrain.state import TrainingState
from pretrain.towers import encode_images, encode_text
from tests.reference import plain_retrieval


class _WholeContext(OpenClipEncoder):
    """The same encoder without the cut after end-of-text."""

    @property
    def causal(self) -> bool:
        return False


def seconds(run: Callable[[], object], repeats: int = 3) -> float:
    """Return the fastest of a few runs after one that is not counted."""
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def inversion() -> tuple[str, float, float]:
    """OTI on a random ViT-B-32: text cut after end-of-text against all 77 positions."""
    model = open_clip.create_model("ViT-B-32", pretrained=None).eval().requires_grad_(False)
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    config = InversionConfig(steps=2)
    targets = torch.randn(32, 512, generator=torch.Generator().manual_seed(0))
    ids = [str(number) for number in range(32)]

    def run(encoder: OpenClipEncoder) -> None:
        invert(encoder, targets, into="text", config=config, item_ids=ids)

    fast, slow = OpenClipEncoder(model, tokenizer), _WholeContext(model, tokenizer)
    title = "OTI, ViT-B-32, batch 32, 2 steps: text cut | 77 positions"
    return title, seconds(lambda: run(fast)), seconds(lambda: run(slow), repeats=1)


def retrieval() -> tuple[str, float, float]:
    """All retrieval metrics of 50 queries against 400 items: tensors against plain loops."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(50, 400, generator=generator)
    relevant = torch.rand(50, 400, generator=generator) < 0.05
    relevance = Relevance(relevant_QG=relevant, ignored_QG=torch.zeros_like(relevant))
    rows = [(scores[row].tolist(), relevant[row].tolist(), [False] * 400, (1, 5, 10)) for row in range(50)]
    title = "retrieval metrics, 50 x 400: tensors | plain loops"
    slow = seconds(lambda: [plain_retrieval(*row) for row in rows], repeats=1)
    return title, seconds(lambda: retrieval_metrics(scores, relevance)), slow


def training_step() -> tuple[str, float, float]:
    """One update of the small CLIP: packed text and used token rows against open_clip's own towers."""
    config = TrainConfig(recipe="bench")
    pairs = load_pairs(config.data, image_size=config.stored_size, context_length=config.model.context_length)
    batches = Batches(
        pairs=pairs,
        batch_size=config.batch_size,
        image_size=config.model.image_size,
        augment=config.augment,
        seed=0,
    )
    batch = batches.batch(0, second_image=False, second_text=False)
    fast_model = build_model(config.model, seed=0, temperature=0.07).train()
    state = TrainingState(fast_model, pairs.vocabulary_V, weight_decay=0.1, betas=(0.9, 0.98))

    def fast() -> None:
        state.optimizer.zero_grad(set_to_none=True)
        image, text = (
            encode_images(fast_model, batch.image_BCHW),
            encode_text(fast_model, batch.text, state.table_VW),
        )
        _contrast(image, text).backward()
        state.update(1e-3)

    plain_model = build_model(config.model, seed=0, temperature=0.07).train()
    optimizer = torch.optim.AdamW(plain_model.parameters(), lr=1e-3)
    tokens = torch.zeros(config.batch_size, config.model.context_length, dtype=torch.long)
    rows = torch.repeat_interleave(torch.arange(config.batch_size), batch.text.lengths_B)
    tokens[rows, batch.text.positions_T] = pairs.vocabulary_V[batch.text.tokens_T]

    def plain() -> None:
        optimizer.zero_grad(set_to_none=True)
        image = plain_model.encode_image(batch.image_BCHW, normalize=True)
        text = plain_model.encode_text(tokens, normalize=True)
        _contrast(image, text).backward()
        optimizer.step()

    title = (
        f"pre-training update, batch {config.batch_size}: ours | open_clip's towers and AdamW over all rows"
    )
    return title, seconds(fast), seconds(plain)


def _contrast(image_BD: torch.Tensor, text_BD: torch.Tensor) -> torch.Tensor:
    logits_BB = image_BD @ text_BD.T / 0.07
    target_B = torch.arange(len(image_BD))
    return torch.nn.functional.cross_entropy(logits_BB, target_B)


def main() -> None:
    """Run every benchmark and print one table."""
    title = f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    table = Table(title=title)
    for column in ("what: fast | slow", "fast, s", "slow, s", "ratio"):
        table.add_column(column)
    for benchmark in (inversion, retrieval, training_step):
        what, fast, slow = benchmark()
        table.add_row(what, f"{fast:.4f}", f"{slow:.4f}", f"{slow / fast:.1f}x")
    Console().print(table)


if __name__ == "__main__":
    main()
