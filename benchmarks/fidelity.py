"""Inversion of a trained model: what the plain loop finds against what ours finds, and how soon."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import get_args

import pandas as pd
import torch
from torch import Tensor

from benchmarks.machine import seconds
from benchmarks.tables import BenchTable, Cell
from crossgap.datasets.tasks import Dataset, Items, Task
from crossgap.embeddings import encode_items
from crossgap.encoders.open_clip import OpenClipEncoder
from crossgap.inversion.config import InversionConfig, Target
from crossgap.inversion.loop import Inversion, invert
from crossgap.inversion.presets import preset
from crossgap.metrics.intervals import Bootstrap, mean_interval, paired_difference
from crossgap.metrics.relevance import relevance_of
from crossgap.metrics.retrieval import retrieval_metrics
from crossgap.metrics.similarity import cosine_scores
from crossgap.vocabulary import Precision
from tests.reference import plain_inversion

TASKS: dict[Target, str] = {"text": "image-subgroup", "image": "text-subgroup"}
_SHARES = (0, 1 / 30, 1 / 15, 1 / 6, 1 / 3, 2 / 3, 1)
_DRIFT_STEPS = (10, 50, 150)
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_SUMMED_TOKENS = (1, 3)


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How large the comparison is.

    Steps of the plain loop by direction, items compared in float64, items of the batch whose loss is summed
    or averaged.
    """

    steps: dict[Target, int]
    exact_items: int = 32
    summed_items: int = 64
    repeats: int = 3


@dataclass(frozen=True)
class _Found:
    """What one loop found, and the seconds it took."""

    features: Tensor
    losses: Tensor
    snapshots: dict[int, Tensor]
    seconds: float


def fidelity(
    encoder_in: Callable[[Precision], OpenClipEncoder],
    dataset: Dataset,
    scale: Scale,
    *,
    progress: Callable[[str], None],
) -> list[BenchTable]:
    """Compare the plain loop in float32 with ours by both methods, in three precisions."""
    tables = []
    for into in get_args(Target):
        task = next(task for task in dataset.tasks if task.name == TASKS[into])
        tables += _Comparison(encoder_in, task, into, scale, progress).tables()
    return tables


class _Comparison:
    """One direction on one task: the runs, then the tables that are read off them."""

    def __init__(
        self,
        encoder_in: Callable[[Precision], OpenClipEncoder],
        task: Task,
        into: Target,
        scale: Scale,
        progress: Callable[[str], None],
    ) -> None:
        self._encoder_in = encoder_in
        self._encoder = encoder_in("fp32")
        self._task = task
        self._into: Target = into
        self._scale = scale
        self._say = lambda what: progress(f"emoji baseline into {into}: {what}")
        steps = scale.steps[into]
        self._paper = replace(preset(self._encoder.name, into), steps=steps)
        self._quick = replace(self._paper, method="lbfgs", weight_decay=0.0, steps=max(steps // 3, 1))
        self._looks = sorted({round(steps * share) for share in _SHARES})
        self._direction = "OTI" if into == "text" else "OVI"
        self._targets = encode_items(self._encoder, task.query)
        self._gallery = encode_items(self._encoder, task.gallery)
        self._relevance = relevance_of(task)

    def tables(self) -> list[BenchTable]:
        plain = self._timed("plain", self._encoder, self._paper)
        ours = self._timed("ours", self._encoder, self._paper)
        bf16 = self._timed("ours", self._encoder_in("bf16"), self._paper)
        quick = self._timed("ours", self._encoder, self._quick)
        return [
            self._targets_reached(plain, ours, bf16, quick),
            self._curve({"plain": plain, "ours": ours, "ours bf16": bf16, "lbfgs": quick}),
            self._distribution({"plain": plain, "ours": ours, "ours bf16": bf16, "lbfgs": quick}),
            self._drift(plain, ours),
            self._summed(),
        ]

    def _timed(self, loop: str, encoder: OpenClipEncoder, config: InversionConfig) -> _Found:
        self._say(f"{loop} {encoder.precision}, {config.method}, {config.steps} steps")
        looks = [step for step in self._looks + list(_DRIFT_STEPS) if step <= config.steps]
        found: list[_Found] = []
        spent = seconds(
            lambda: found.append(self._run(loop, encoder, config, self._targets, self._task.query, looks))
        )
        return replace(found[0], seconds=spent)

    def _run(
        self,
        loop: str,
        encoder: OpenClipEncoder,
        config: InversionConfig,
        targets_ND: Tensor,
        items: Items,
        looks: Sequence[int],
    ) -> _Found:
        if loop == "plain":
            features_ND, losses_NS, kept = plain_inversion(
                encoder, targets_ND, self._into, config, items.ids, looks
            )
            return _Found(features_ND, losses_NS, kept, seconds=0.0)
        result: Inversion = invert(
            encoder, targets_ND, into=self._into, config=config, item_ids=items.ids, snapshots=looks
        )
        return _Found(result.features, result.losses, result.snapshots, 0.0)

    def _targets_reached(self, plain: _Found, ours: _Found, bf16: _Found, quick: _Found) -> BenchTable:
        """Tell when each loop has the plain loop's final mean loss, and what its features then retrieve."""
        goal = float(plain.losses[:, -1].mean())
        reached = _first_at(quick, goal)
        rows = [
            self._row("plain fp32", self._paper.steps, plain, plain),
            self._row("ours fp32", self._paper.steps, ours, plain),
            self._row("ours bf16", self._paper.steps, bf16, plain),
        ]
        if reached is None:
            rows.append(self._row("ours fp32, lbfgs (loss not reached)", self._quick.steps, quick, plain))
        else:
            config = replace(self._quick, steps=reached)
            runs = [self._timed("ours", self._encoder, config) for _ in range(self._scale.repeats)]
            middle = sorted(runs, key=lambda run: run.seconds)[len(runs) // 2]
            rows.append(self._row("ours fp32, lbfgs", reached, middle, plain))
        return BenchTable(
            title=f"{self._direction}, emoji baseline: to the plain loop's loss, {self._paper.steps} steps",
            rows=rows,
            note=f"{len(self._task.query)} queries, {len(self._task.gallery)} in the gallery, task "
            f"{self._task.name}, split {self._task.split}, batch {self._paper.batch_size}. mAP in points; "
            "low and high bound its difference to plain (paired bootstrap over queries, 95 %).",
        )

    def _row(self, name: str, steps: int, found: _Found, plain: _Found) -> dict[str, Cell]:
        difference = self._difference(found.features, plain.features)
        return {
            "loop": name,
            "steps": steps,
            "s": found.seconds,
            "of plain's time": found.seconds / plain.seconds,
            "mean loss": float(found.losses[:, -1].mean()),
            "mAP": 100 * float(self._average_precision(found.features).nanmean()),
            "difference": 100 * difference["value"],
            "low": 100 * difference["low"],
            "high": 100 * difference["high"],
        }

    def _average_precision(self, features_QD: Tensor) -> Tensor:
        scores_QG = cosine_scores(features_QD.float(), self._gallery)
        return retrieval_metrics(scores_QG, self._relevance)["mAP"]

    def _difference(self, features_QD: Tensor, reference_QD: Tensor) -> dict[str, float]:
        frames = [
            pd.DataFrame(
                {
                    "query_id": self._task.query.ids,
                    "query_class": self._task.query.labels,
                    "value": self._average_precision(values_QD).tolist(),
                }
            )
            for values_QD in (features_QD, reference_QD)
        ]
        paired = paired_difference(*frames, on=[], by=[])
        interval = mean_interval(paired, [], bootstrap=Bootstrap(method="query"))
        return {name: float(interval[name].iloc[0]) for name in ("value", "low", "high")}

    def _curve(self, found: dict[str, _Found]) -> BenchTable:
        rows: list[dict[str, Cell]] = []
        for step in self._looks:
            row: dict[str, Cell] = {"step": step}
            for name, run in found.items():
                row[f"loss, {name}"] = float(run.losses[:, step].mean()) if step in run.snapshots else None
            for name, run in found.items():
                precision = run.snapshots.get(step)
                row[f"mAP, {name}"] = (
                    None if precision is None else 100 * float(self._average_precision(precision).nanmean())
                )
            rows.append(row)
        native = 100 * float(self._average_precision(self._targets).nanmean())
        return BenchTable(
            title=f"{self._direction}, emoji baseline: mean loss and mAP by step",
            rows=rows,
            note=f"The native features, not inverted: mAP {native:.2f}.",
        )

    def _distribution(self, found: dict[str, _Found]) -> BenchTable:
        rows: list[dict[str, Cell]] = []
        for name, run in found.items():
            values = run.losses[:, -1].double()
            marks = torch.quantile(values, torch.tensor(_QUANTILES, dtype=torch.float64)).tolist()
            named = {f"{100 * share:.0f} %": value for share, value in zip(_QUANTILES, marks, strict=True)}
            rows.append({"loop": name, "step": run.losses.shape[1] - 1, **named})
        return BenchTable(
            title=f"{self._direction}, emoji baseline: quantiles of the final loss over items", rows=rows
        )

    def _drift(self, plain: _Found, ours: _Found) -> BenchTable:
        """Compare features step by step: in float32 on all items, against float64 on some."""
        count = min(self._scale.exact_items, len(self._task.query))
        items, targets_ND = self._task.query.subset(range(count)), self._targets[:count]
        looks = [step for step in _DRIFT_STEPS if step <= self._paper.steps] or [self._paper.steps]
        config = replace(self._paper, steps=looks[-1])
        double = self._encoder_in("fp64")
        self._say(f"float64, {count} items, {config.steps} steps")
        exact_plain, exact_ours = (
            self._run(loop, double, config, targets_ND.double(), items, looks) for loop in ("plain", "ours")
        )
        single_plain, single_ours = (
            self._run(loop, self._encoder, config, targets_ND, items, looks) for loop in ("plain", "ours")
        )
        rows: list[dict[str, Cell]] = []
        for step in looks:
            exact = exact_plain.snapshots[step]
            rows.append(
                {
                    "step": step,
                    "float64, largest difference": float((exact - exact_ours.snapshots[step]).abs().max()),
                    "float32, 1 - mean cosine": (
                        _distance(plain.snapshots[step], ours.snapshots[step])
                        if step in plain.snapshots
                        else None
                    ),
                    "plain float32 to float64": _distance(single_plain.snapshots[step], exact),
                    "ours float32 to float64": _distance(single_ours.snapshots[step], exact),
                }
            )
        return BenchTable(
            title=f"{self._direction}, emoji baseline: ours against the plain loop at the same step",
            rows=rows,
            note=f"float32 on {len(self._task.query)} items; columns with float64 on {count} items, 1 - mean "
            "cosine unless it says otherwise.",
        )

    def _summed(self) -> BenchTable:
        """Compare the plain loop that sums its losses with the published one, which averages them."""
        count = min(self._scale.summed_items, len(self._task.query))
        items, targets_ND = self._task.query.subset(range(count)), self._targets[:count].double()
        steps = min(self._paper.steps, _DRIFT_STEPS[-1])
        looks = sorted({step for step in _DRIFT_STEPS if step <= steps} | {steps})
        double = self._encoder_in("fp64")
        rows: list[dict[str, Cell]] = []
        for num_tokens in _SUMMED_TOKENS:
            config = replace(self._paper, steps=steps, num_tokens=num_tokens, batch_size=count)
            self._say(f"float64, loss summed and averaged, {num_tokens} tokens, {steps} steps")
            (_, losses, summed), (_, mean_losses, averaged) = (
                plain_inversion(double, targets_ND, self._into, config, items.ids, looks, averaged=mean)
                for mean in (False, True)
            )
            for step in looks:
                apart_N = _distances(summed[step], averaged[step])
                rows.append(
                    {
                        "tokens": num_tokens,
                        "step": step,
                        "1 - cosine, median": float(apart_N.median()),
                        "95 %": float(torch.quantile(apart_N, 0.95)),
                        "largest": float(apart_N.max()),
                        "mean loss, summed": float(losses[:, step].mean()),
                        "mean loss, averaged": float(mean_losses[:, step].mean()),
                    }
                )
        return BenchTable(
            title=f"{self._direction}, emoji baseline: the loss summed against averaged, batch of {count}",
            rows=rows,
            note="The plain loop in float64, AdamW: the scale of the loss counts through its epsilon alone.",
        )


def _first_at(found: _Found, goal: float) -> int | None:
    """Return the first step whose mean loss is at most ``goal``."""
    reached = (found.losses.mean(dim=0) <= goal).nonzero().flatten()
    return int(reached[0]) if len(reached) else None


def _distance(first_ND: Tensor, second_ND: Tensor) -> float:
    """Return 1 - mean cosine of unit rows, as half their squared distance: exact where it is tiny."""
    return float(_distances(first_ND, second_ND).mean())


def _distances(first_ND: Tensor, second_ND: Tensor) -> Tensor:
    return (first_ND.double() - second_ND.double()).square().sum(dim=1) / 2
