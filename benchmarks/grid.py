"""Inversion under twelve settings: one batch of all against twelve runs of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import product

from torch import Tensor

from benchmarks.machine import interleave, seconds
from benchmarks.products import products
from benchmarks.tables import BenchTable, Cell
from crossgap.encoders.open_clip import OpenClipEncoder
from crossgap.inversion.config import InversionConfig, Target
from crossgap.inversion.loop import Inversion, invert, invert_grid
from crossgap.vocabulary import Precision

_LEARNING_RATES = (5e-3, 1e-2, 2e-2, 4e-2)
_TOKEN_COUNTS = (1, 2, 4)
_FLOOR_STEPS = 3  # of inversion, whose products are counted and timed
_LOOKS = (1 / 15, 1 / 6, 1 / 3, 1 / 2, 2 / 3, 1)


def grid(
    encoder_in: Callable[[Precision], OpenClipEncoder],
    targets_ND: Tensor,
    ids: Sequence[str],
    *,
    into: Target,
    base: InversionConfig,
    batch_sizes: Sequence[int],
    rounds: int,
    exact_items: int,
    progress: Callable[[str], None],
) -> list[BenchTable]:
    """Time :func:`invert_grid` against the sum of single runs of the same engine, and compare the features.

    4 learning rates x 3 token counts, snapshots at 6 steps.
    """
    looks = [max(round(base.steps * share), 1) for share in _LOOKS]
    encoder = encoder_in("fp32")
    rows: list[dict[str, Cell]] = []
    compared: tuple[list[Inversion], list[Inversion]] | None = None
    for size in batch_sizes:
        configs = _settings(replace(base, batch_size=size))
        kept: dict[str, list[Inversion]] = {}

        def single(configs: list[InversionConfig] = configs, kept: dict[str, list[Inversion]] = kept) -> None:
            kept["single"] = _single(encoder, targets_ND, ids, into, configs, looks)

        def together(
            configs: list[InversionConfig] = configs, kept: dict[str, list[Inversion]] = kept
        ) -> None:
            kept["grid"] = invert_grid(
                encoder, targets_ND, into=into, configs=configs, item_ids=ids, snapshots=looks
            )

        times = interleave(
            {"single": lambda: seconds(single), "grid": lambda: seconds(together)},
            rounds,
            progress=partial(_say, progress, f"grid into {into}, batch {size}"),
        )
        few_steps = [replace(config, steps=_FLOOR_STEPS) for config in configs]
        one_batch = partial(
            invert_grid, encoder, targets_ND[:size], into=into, configs=few_steps, item_ids=ids[:size]
        )
        _, alone = products(one_batch, repeats=5)
        batches = -(-len(ids) // size)
        floor = alone / _FLOOR_STEPS * base.steps * batches
        rows.append(
            {
                "batch": size,
                "rows a step in the grid": min(size, len(ids)) * len(configs),
                **times["single"].columns("12 runs, s"),
                "grid, s": times["grid"].median,
                "grid / runs": times["grid"].over(times["single"]),
                "its products alone / runs": floor / times["single"].median,
            }
        )
        compared = compared or (kept["grid"], kept["single"])
    assert compared is not None
    few = targets_ND[:exact_items].double()
    double, exact = encoder_in("fp64"), _settings(base)
    progress(f"grid into {into}: float64, {len(few)} items")
    both = (
        invert_grid(double, few, into=into, configs=exact, item_ids=ids[:exact_items], snapshots=looks),
        _single(double, few, ids[:exact_items], into, exact, looks),
    )
    title = f"{len(exact)} settings into {into}, {len(ids)} items, {base.steps} steps"
    return [
        BenchTable(
            title=f"{title}: one batch against single runs",
            rows=rows,
            note=f"Learning rates {_LEARNING_RATES}, pseudo-tokens {_TOKEN_COUNTS}, snapshots at {looks}; "
            f"median of {rounds} interleaved rounds. A batch is of items, in the grid under each setting. "
            "The last column is the least that the grid could reach: its products and attentions, each as "
            "fast as it runs by itself.",
        ),
        BenchTable(
            title=f"{title}: differences",
            rows=[_differences(step, compared, both) for step in looks],
            note=f"float32 at batch {batch_sizes[0]}; float64 on {len(few)} items; worst setting.",
        ),
    ]


def _say(progress: Callable[[str], None], where: str, what: str) -> None:
    progress(f"{where}: {what}")


def _settings(base: InversionConfig) -> list[InversionConfig]:
    return [
        replace(base, learning_rate=rate, num_tokens=count)
        for rate, count in product(_LEARNING_RATES, _TOKEN_COUNTS)
    ]


def _single(
    encoder: OpenClipEncoder,
    targets_ND: Tensor,
    ids: Sequence[str],
    into: Target,
    configs: Sequence[InversionConfig],
    looks: Sequence[int],
) -> list[Inversion]:
    return [
        invert(encoder, targets_ND, into=into, config=config, item_ids=ids, snapshots=looks)
        for config in configs
    ]


def _differences(
    step: int,
    single_precision: tuple[list[Inversion], list[Inversion]],
    double_precision: tuple[list[Inversion], list[Inversion]],
) -> dict[str, Cell]:
    pairs = list(zip(*single_precision, strict=True))
    features = [(one.snapshots[step].double(), other.snapshots[step].double()) for one, other in pairs]
    losses = [float((one.losses[:, step] - other.losses[:, step]).mean().abs()) for one, other in pairs]
    exact = [
        float((one.snapshots[step] - other.snapshots[step]).abs().max())
        for one, other in zip(*double_precision, strict=True)
    ]
    # half the squared distance of unit rows: exact where it is tiny
    distances = [float((one - other).square().sum(dim=1).mean() / 2) for one, other in features]
    return {
        "step": step,
        "float32, 1 - mean cosine": max(distances),
        "float32, mean loss": max(losses),
        "float64, largest difference": max(exact),
    }
