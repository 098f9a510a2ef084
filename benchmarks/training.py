"""Pre-training: one update of the small CLIP against open_clip's own towers and AdamW over all rows."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.machine import interleave, seconds
from benchmarks.tables import Table
from pretrain.config import TrainConfig
from pretrain.data import Batches, load_pairs
from pretrain.model import build_model
from pretrain.state import TrainingState
from pretrain.towers import encode_images, encode_text, pack_text


def training(*, config: TrainConfig | None = None, rounds: int) -> list[Table]:
    """Time one update: packed text and used token rows against what open_clip computes."""
    config = config or TrainConfig(recipe="bench")
    pairs = load_pairs(
        config.data,
        image_size=config.stored_size,
        context_length=config.model.context_length,
        limit=config.limit,
    )
    batches = Batches(
        pairs=pairs,
        batch_size=config.batch_size,
        image_size=config.model.image_size,
        augment=config.augment,
        seed=0,
    )
    batch = batches.batch(0)
    pixels_BCHW, text = batch.images["image"], pack_text(*batch.texts["text"])
    model = build_model(config.model, seed=0, temperature=0.07).train()
    state = TrainingState(model, pairs.vocabulary_V, weight_decay=0.1, betas=(0.9, 0.98))

    def ours() -> None:
        state.optimizer.zero_grad(set_to_none=True)
        image_BD = encode_images(model, pixels_BCHW)
        text_BD = encode_text(model, text, state.table_VW)
        _contrast(image_BD, text_BD).backward()
        state.update(1e-3)

    plain_model = build_model(config.model, seed=0, temperature=0.07).train()
    optimizer = torch.optim.AdamW(plain_model.parameters(), lr=1e-3)
    tokens_BL = torch.zeros(config.batch_size, config.model.context_length, dtype=torch.long)
    rows = torch.repeat_interleave(torch.arange(config.batch_size), text.lengths_B)
    tokens_BL[rows, text.positions_T] = pairs.vocabulary_V[text.tokens_T]

    def plain() -> None:
        optimizer.zero_grad(set_to_none=True)
        image_BD = plain_model.encode_image(pixels_BCHW, normalize=True)
        text_BD = plain_model.encode_text(tokens_BL, normalize=True)
        _contrast(image_BD, text_BD).backward()
        optimizer.step()

    ours()
    plain()
    times = interleave(
        {"open_clip's towers, AdamW over all rows": lambda: seconds(plain), "ours": lambda: seconds(ours)},
        rounds,
    )
    slow = next(iter(times.values()))
    return [
        Table(
            title=f"Pre-training update, batch {config.batch_size}",
            rows=[
                {"what": name, **timing.columns(), "x plain": slow.over(timing)}
                for name, timing in times.items()
            ],
        )
    ]


def _contrast(image_BD: Tensor, text_BD: Tensor) -> Tensor:
    logits_BB = image_BD @ text_BD.T / 0.07
    return F.cross_entropy(logits_BB, torch.arange(len(image_BD)))
