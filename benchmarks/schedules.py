"""Whole inversions: the paper's schedule against the fast one, to the same loss, on many kinds of towers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import get_args

import torch

from benchmarks.machine import seconds
from benchmarks.tables import BenchTable, Cell
from benchmarks.towers import find_tower, random_targets
from crossgap.encoders.open_clip import OpenClipEncoder
from crossgap.inversion.config import InversionConfig, Target
from crossgap.inversion.loop import Inversion, invert
from crossgap.inversion.presets import preset
from tests.reference import plain_inversion
from tests.tiny_towers import FAMILIES

# Kinds of towers that released models are of: what they are -> the tiny one of tests/tiny_towers.py.
KINDS = {
    "CLIP": "clip",
    "CLIP, QuickGELU": "clip-quickgelu",
    "CLIPA": "clipa",
    "SigLIP": "siglip",
    "SigLIP 2": "siglip2",
    "CoCa": "coca",
    "EVA-02": "eva02",
    "PE core": "pe-core",
    "XLM-RoBERTa, ViT": "xlm-roberta",
}
CLOSE = 1e-3  # of 1 - cosine: an item whose loss lies above the paper's by less has reached it


def schedules(
    name: str,
    *,
    batch_size: int | None = None,
    paper_steps: Mapping[Target, int] | None = None,
    kinds: Sequence[str] = tuple(KINDS),
    items: int = 16,
    progress: Callable[[str], None],
) -> list[BenchTable]:
    """Time one whole OTI on a tower, then compare the two schedules' losses on tiny towers of each kind.

    Args:
        name: the tower that is timed.
        batch_size: default: the tower's.
        paper_steps: of the paper's schedule by direction; default: 150 and 1000.
        kinds: of :data:`KINDS`.
        items: targets on each tiny tower, random directions.
    """
    steps = dict(paper_steps or {into: preset("default", into).steps for into in get_args(Target)})
    tower = find_tower(name)
    return [
        _whole(name, tower.encoder(), batch_size or tower.batch_size, steps["text"], progress),
        _by_kind(kinds, items, steps, progress),
    ]


def _whole(
    name: str, encoder: OpenClipEncoder, size: int, steps: int, progress: Callable[[str], None]
) -> BenchTable:
    """Time one batch from start to end: what is prepared once counts too."""
    targets_ND, ids = random_targets(encoder, size)
    paper = replace(preset("default", "text"), steps=steps, batch_size=size)
    fast = replace(preset("default", "text", "fast"), batch_size=size)

    def ours(config: InversionConfig) -> Callable[[], float]:
        def run() -> float:
            found = invert(encoder, targets_ND, into="text", config=config, item_ids=ids)
            return float(found.losses[:, -1].mean())

        return run

    def plain() -> float:
        return float(plain_inversion(encoder, targets_ND, "text", paper, ids)[1][:, -1].mean())

    rows: list[dict[str, Cell]] = []

    def add(loop: str, steps: int, run: Callable[[], float]) -> None:
        progress(f"{name} into text, batch {size}: {loop}, {steps} steps")
        losses: list[float] = []
        spent = seconds(lambda: losses.append(run()))
        first = float(str(rows[0]["s"])) if rows else spent
        rows.append({"loop": loop, "steps": steps, "s": spent, "x plain": first / spent, "loss": losses[0]})

    add("plain, AdamW", steps, plain)
    add("ours, AdamW", steps, ours(paper))
    longer = replace(fast, steps=max(steps, fast.steps))
    curve_S = invert(encoder, targets_ND, into="text", config=longer, item_ids=ids).losses.mean(dim=0)
    reached = (curve_S <= float(str(rows[0]["loss"]))).nonzero().flatten()
    until = int(reached[0]) if len(reached) else longer.steps
    add("ours, L-BFGS to that loss", until, ours(replace(fast, steps=until)))
    add("ours, --schedule fast", fast.steps, ours(fast))
    missed = "" if len(reached) else " L-BFGS did not reach the plain loop's loss."
    return BenchTable(
        title=f"{name}, random weights: {size} images into text, from start to end, fp32",
        rows=rows,
        note=f"Loss: mean 1 - cosine after the last step; random targets; one run each.{missed}",
    )


def _by_kind(
    kinds: Sequence[str], items: int, steps: Mapping[Target, int], progress: Callable[[str], None]
) -> BenchTable:
    rows: list[dict[str, Cell]] = []
    for kind in kinds:
        family = FAMILIES[KINDS[kind]]
        encoder = OpenClipEncoder(family.model(torch.float32), family.tokenizer(), name=kind)
        targets_ND, ids = random_targets(encoder, items)
        for into in get_args(Target):
            if into == "image" and family.no_patches:
                continue
            progress(f"{kind} into {into}, paper and fast")
            paper, fast = (
                invert(encoder, targets_ND, into=into, config=config, item_ids=ids)
                for config in (
                    replace(preset("default", into), steps=steps[into]),
                    preset("default", into, "fast"),
                )
            )
            rows.append({"kind of towers": kind, "into": into, **_compared(paper, fast)})
    return BenchTable(
        title="Loss of the paper's schedule and of the fast one, tiny towers of random weights",
        rows=rows,
        note=f"Mean 1 - cosine over {items} random targets. Reached: the share of items whose loss under the "
        f"fast schedule is at most {CLOSE:g} above the paper's; behind: the most that an item is above it.",
    )


def _compared(paper: Inversion, fast: Inversion) -> dict[str, Cell]:
    ends = [found.losses[:, -1] for found in (paper, fast)]
    behind_N = ends[1] - ends[0]
    return {
        "start": float(paper.losses[:, 0].mean()),
        "AdamW": float(ends[0].mean()),
        "steps": paper.losses.shape[1] - 1,
        "L-BFGS": float(ends[1].mean()),
        "its steps": fast.losses.shape[1] - 1,
        "reached": float((behind_N <= CLOSE).float().mean()),
        "behind": max(0.0, float(behind_N.max())),
    }
