"""Inversion, seconds a step: the plain loop against ours, by tower, direction and precision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, get_args

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from benchmarks.machine import interleave, multiply_rate, seconds
from benchmarks.tables import BenchTable, Cell
from benchmarks.towers import LOOPS, engine_of, find_tower, in_precision, runner
from crossgap.encoders.open_clip import OpenClipEncoder
from crossgap.inversion.config import InversionConfig, Target
from crossgap.vocabulary import Precision

_DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}
# More steps a round would not make a number better.
_MOST_STEPS = 64
# So many times a round's seconds before the first step: a tower at work, not its preparation.
_SLOW = 2


def speed(
    names: Sequence[str],
    *,
    batch_size: int | None = None,
    rounds: int,
    round_seconds: float,
    progress: Callable[[str], None],
) -> list[BenchTable]:
    """Time a step of each loop on each tower, and say what share of the machine's products it is.

    A step is forward, backward and update: (t(n steps) - t(0 steps)) / n, so that what happens once (prefix,
    check, tokenisation) is not in it. n is such that a round takes about ``round_seconds`` and
    twice what happens once, 1 at the least.

    Args:
        names: towers.
        batch_size: default: that of each tower.
        rounds: how often each is measured.
    """
    tables = []
    for name in names:
        tower = find_tower(name)
        encoder = tower.encoder()
        for into in get_args(Target):
            size = batch_size or tower.batch_size
            tables.append(_direction(name, encoder, into, size, rounds, round_seconds, progress))
    return tables


def _direction(
    name: str,
    encoder: OpenClipEncoder,
    into: Target,
    batch_size: int,
    rounds: int,
    round_seconds: float,
    progress: Callable[[str], None],
) -> BenchTable:
    """Measure one direction of one tower."""
    config = InversionConfig()
    width = encoder.text_width if into == "text" else encoder.image_width
    positions = {loop: _positions(loop, encoder, into, config) for loop in LOOPS}
    rates = {
        (count, precision): multiply_rate(batch_size * count, width, dtype, least=round_seconds / 2)
        for precision, dtype in _DTYPES.items()
        for count in set(positions.values())
    }
    # a processor without arithmetic in bf16 imitates it: slow, and no column to look at closely
    imitated = rates[positions["plain"], "bf16"] < rates[positions["plain"], "fp32"]
    encoders = {precision: in_precision(encoder, precision) for precision in _DTYPES}
    timed: dict[str, Callable[[], float]] = {}
    for precision, wrapped in encoders.items():
        for loop in LOOPS:
            progress(f"{name} into {into}: {loop} {precision}, first run")
            timed[f"{loop} {precision}"] = _timed(
                runner(loop, wrapped, into, config, batch_size), round_seconds
            )
    # plain under autocast is a further column, slow on some towers: looked at once
    once = ["plain bf16", "ours bf16"] if imitated else ["plain bf16"]
    times = interleave(
        timed, rounds, once=once, progress=lambda what: progress(f"{name} into {into}: {what}")
    )
    rows: list[dict[str, Cell]] = []
    for loop in LOOPS:
        # products grow with the batch exactly, so one item is counted
        one = runner(loop, encoder, into, config, 1)
        flops = batch_size * (count_flops(lambda: one(1)) - count_flops(lambda: one(0)))  # noqa: B023
        for precision in _DTYPES:
            timing = times[f"{loop} {precision}"]
            rows.append(
                {
                    "loop": loop,
                    "precision": precision,
                    **timing.columns("s a step"),
                    "x plain fp32": times["plain fp32"].over(timing),
                    "x plain, same precision": times[f"plain {precision}"].over(timing),
                    "GFLOP a step": flops / 1e9,
                    "GFLOP/s": flops / 1e9 / timing.median,
                    "share of the rate": flops / timing.median / rates[positions["plain"], precision],
                    "share at its rows": flops / timing.median / rates[positions[loop], precision],
                }
            )
    engine = engine_of(encoder, into)
    shapes = ", ".join(f"{loop} {batch_size * count} rows" for loop, count in positions.items())
    speeds = ", ".join(
        f"{precision} {rates[positions['plain'], precision] / 1e9:.0f} and "
        f"{rates[positions['ours'], precision] / 1e9:.0f}"
        for precision in _DTYPES
    )
    return BenchTable(
        title=f"{name}, into {into}, batch {batch_size}, 1 pseudo-token",
        rows=rows,
        note=f"Median, least and most of {rounds} interleaved rounds ({' and '.join(once)}: one); "
        "ratios are medians over rounds. "
        f"Engine of ours: {engine}. Width {width}, {shapes}; GFLOP/s of products of the tower's shapes at "
        f"plain's rows and at ours: {speeds}.",
    )


def _timed(run: Callable[[int], object], round_seconds: float) -> Callable[[], float]:
    """Warm up, choose a number of steps, and return a function that gives seconds a step."""
    once = seconds(lambda: run(0))
    steps = 1
    if once < _SLOW * round_seconds:  # a slower one needs one step, and time for no more
        once = seconds(lambda: run(0))
        # long enough that noise in what happens once does not matter
        wanted = max(round_seconds, 2 * once)
        while steps < _MOST_STEPS and seconds(partial(run, steps)) - once < wanted / 2:
            steps *= 4

    def measure() -> float:
        # what happens once is measured in the same round
        before = seconds(lambda: run(0))
        return (seconds(lambda: run(steps)) - before) / steps

    return measure


def _positions(loop: str, encoder: OpenClipEncoder, into: Target, config: InversionConfig) -> int:
    """Count the positions that an item occupies in the layers before the last."""
    if into == "image":
        return encoder.num_patches + (0 if hasattr(encoder.image_tower, "trunk") else 1)
    if loop == "plain" or not encoder.causal:
        return encoder.context_length
    prompt = encoder.prompt(config.template, config.num_tokens)
    return prompt.length - int(prompt.positions[0])


def count_flops(run: Callable[[], object]) -> int:
    """Count the floating-point operations of every matrix product and attention that ``run`` executes.

    2 m k n for (m, k) by (k, n), forward and backward alike; attention of q queries to k keys over width c:
    4 q k c forward and 10 q k c backward (it computes the scores anew). Norms, activations and the optimizer
    are not counted.
    """
    counter = FlopCounterMode(
        display=False,
        custom_mapping={
            torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
            torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
        },
    )
    with counter:
        run()
    return int(counter.get_total_flops())


def _attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(query, key, value))


def _attention_backward(_gradient: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    batch, heads, queries, width = query
    return int(10 * batch * heads * queries * key[2] * width)
