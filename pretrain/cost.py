"""What a training costs before it is run, and what to lower when it does not fit."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from crossgap.errors import InputError
from crossgap.progress import told
from pretrain.config import TrainConfig
from pretrain.data.images import ImagesInMemory
from pretrain.data.pairs import pairs_of
from pretrain.objective import Moment, evaluate_objective
from pretrain.start import Start, start_model
from pretrain.terms.views import VIEWS
from pretrain.update import Updates

CAPTION_TOKENS = 16  # of a caption, start and end included: what those of CC3M have, about
SHARE_OF_PEAK = 0.4  # of a GPU's peak that a training of this kind reaches, if it does not wait for data
# dense products on tensor cores (bf16) and without them (fp32), operations a second, by the makers' sheets
PEAKS = {"bf16": {"A100": 312e12, "H100": 989e12}, "fp32": {"A100": 19.5e12, "H100": 67e12}}
_PAIRS = (2, 4, 6)  # batches that are counted: a cost is a + b B + c B^2 in the batch B


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one step costs: operations (a product and a sum are two), and bytes that lie in memory at once.

    ``kept`` are weights, gradients, moments and what else stays from step to step; ``activations`` what the
    backward pass needs of the pairs that go through the towers at once. ``caption_tokens``: those of a
    caption that go through the text tower, all of its context where the model runs its own pass.
    """

    parameters: int
    operations: int
    kept: int
    activations: int
    caption_tokens: int


def step_cost(config: TrainConfig) -> Cost:
    """Count what a step costs, on this machine with a few pairs, extended to the batch.

    Operations and bytes are polynomials of the second degree in the number of pairs, which three small
    batches decide. Captions are taken to have :data:`CAPTION_TOKENS` tokens. What is not counted: pixels and
    captions in memory, the loader, the allocator's rest, and buffers of single operations.
    """
    few = replace(
        config, device="cpu", data="emoji", loading="memory", limit=None, accumulate=1, validation=None,
        compiled=False, semantics=None, threads=None,
    )  # fmt: skip
    with told("counting what a step costs"):
        start = start_model(few)
        counted = [_counted(few, start, pairs) for pairs in _PAIRS]
    forward, backward, held = zip(*counted, strict=True)
    at_once = config.batch_size // config.accumulate
    passes = 1 if config.accumulate == 1 else 2  # of the towers, forward
    updates = _updates(few, start, _PAIRS[0])
    trained = sum(parameter.numel() for parameter in updates.state.parameters)
    table = start.table_VW.numel() if start.why_whole is None else 0  # whose rows that occur are few here
    total = sum(parameter.numel() for parameter in updates.model.parameters())
    extra = sum(tensor.numel() for tensor in updates.state.extra.state_dict().values())
    bytes_each = 12 + 4 * (config.ema is not None)  # a gradient and two moments, and an average
    return Cost(
        parameters=total,
        operations=passes * _extended(forward, config.batch_size) + _extended(backward, config.batch_size),
        kept=4 * (total + extra) + bytes_each * (trained + table),
        activations=_extended(held, at_once),
        caption_tokens=start.context_length if start.why_whole else min(CAPTION_TOKENS, start.context_length),
    )


def in_words(config: TrainConfig, cost: Cost) -> str:
    """Say what a run costs: parameters, operations, memory, and hours on some GPUs."""
    precision = "fp32" if config.precision == "auto" else config.precision  # the slower one may be taken
    hours = ", ".join(
        f"{_duration(config.steps * cost.operations / (SHARE_OF_PEAK * peak))} on one {name}"
        for name, peak in PEAKS[precision].items()
    )
    at_once = config.batch_size // config.accumulate
    return "\n".join(
        [
            f"parameters:  {cost.parameters / 1e6:.1f} million",
            f"operations:  {_scaled(cost.operations, 1000, 'FLOP')} a step of {config.batch_size:,} pairs, "
            f"{_scaled(cost.operations / config.batch_size, 1000, 'FLOP')} a pair, forward and backward",
            f"memory:      {_scaled(cost.kept + cost.activations, 1024, 'B')} at least: "
            f"{_scaled(cost.kept, 1024, 'B')} for weights, gradients and moments, "
            f"{_scaled(cost.activations, 1024, 'B')} for activations of {at_once:,} pairs",
            f"time:        {config.steps:,} steps, {config.steps * config.batch_size:,} pairs: {hours}, at "
            f"{100 * SHARE_OF_PEAK:.0f} % of its peak in {precision}",
            f"Counted on {max(_PAIRS)} pairs with captions of {cost.caption_tokens} tokens and extended by "
            "arithmetic: a training that waits for its data takes longer. Nothing was trained.",
        ]
    )


def _scaled(value: float, step: int, unit: str) -> str:
    """Write a number with the prefix that leaves it below ``step``: 1000, or 1024 for bytes."""
    prefixes = ("", "k", "M", "G", "T", "P", "E")
    place = min(int(math.log(max(value, 1), step)), len(prefixes) - 1)
    binary = "i" if step == 1024 and place else ""
    return f"{value / step**place:.3g} {prefixes[place].upper() if binary else prefixes[place]}{binary}{unit}"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return "less than a minute"
    return f"{seconds / 60:.0f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


@contextmanager
def memory_named(config: TrainConfig) -> Iterator[None]:
    """Say which settings to lower where the memory did not suffice.

    Raises:
        InputError: in place of torch's and Python's errors.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch.OutOfMemoryError is a RuntimeError
        if not _is_out_of_memory(error):
            raise
        said = str(error).strip().partition("\n")[0] or type(error).__name__
        raise InputError(
            f"out of memory ({said}); lower one of: {'; '.join(_to_lower(config))}. Nothing is half written: "
            "without a checkpoint the same --out takes other settings, with one give another"
        ) from error


def _to_lower(config: TrainConfig) -> Iterator[str]:
    share = config.batch_size // config.accumulate
    if config.accumulate * 2 <= config.batch_size:
        yield (
            f"the pairs that go through the towers at once, {share} now (--accumulate "
            f"{2 * config.accumulate}: the same loss, in more time)"
        )
    if not config.recompute:
        yield "the activations that are kept (--recompute: the same bits, in more time)"
    yield f"the batch (--batch-size, {config.batch_size} now)"
    size = config.image_size if config.architecture is not None else config.model.image_size
    if config.encoder is None:
        where = "image_size" if config.architecture is not None else "model.image_size"
        yield f"the images (--set {where}, {'as its architecture has it' if size is None else size} now)"
    if config.loading == "memory":
        yield "the images in memory (--loading indexed or resampled)"


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    said = str(error)
    return "can't allocate memory" in said or "not enough memory" in said  # torch's allocator on a CPU


def _counted(config: TrainConfig, start: Start, pairs: int) -> tuple[int, int, int]:
    """Count operations forward and backward, and bytes that the backward pass keeps, of so many pairs."""
    updates = _updates(config, start, pairs)
    parts = dict.fromkeys(VIEWS[name].part for name in config.objective.views)
    batch = updates.batches.batch(0, parts)
    of_model = {tensor.untyped_storage().data_ptr() for tensor in updates.model.state_dict().values()}
    held: dict[int, Tensor] = {}  # kept alive, so that no address is used twice

    def keep(tensor: Tensor) -> Tensor:
        held.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    forward, backward = FlopCounterMode(display=False), FlopCounterMode(display=False)
    with forward, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        views = updates.embed(batch, config.objective.views, step=0)
        loss = evaluate_objective(
            views,
            config.objective,
            temperature=updates.model.logit_scale.neg().exp(),
            moment=Moment(0, config.steps, config.seed),
            modules=updates.modules,
        )
    kept = sum(
        tensor.untyped_storage().nbytes() for address, tensor in held.items() if address not in of_model
    )
    with backward:
        loss.total.backward()
    updates.state.optimizer.zero_grad(set_to_none=True)
    return forward.get_total_flops(), backward.get_total_flops(), kept


def _updates(config: TrainConfig, start: Start, pairs: int) -> Updates:
    """Set up a run on blank pictures whose captions are of one length."""
    side = max(config.stored_size, start.image_size)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = min(CAPTION_TOKENS, start.context_length) - 2
    captions = [[" ".join(letters[(pair + k) % 26] for k in range(words))] for pair in range(pairs)]
    data = pairs_of(
        ImagesInMemory(torch.zeros(pairs, side, side, 3, dtype=torch.uint8)),
        captions,
        [str(pair) for pair in range(pairs)],
        context_length=start.context_length,
        digest="",
        tokens=start.tokens,
    )
    return Updates(replace(config, batch_size=pairs), data, start=start)


def _extended(values: Sequence[int], pairs: int) -> int:
    """Give the value at a batch of the parabola through those of :data:`_PAIRS`, by Lagrange."""
    total = 0.0
    for place, value in zip(_PAIRS, values, strict=True):
        weight = 1.0
        for other in _PAIRS:
            if other != place:
                weight *= (pairs - other) / (place - other)
        total += weight * value
    return round(total)
