"""Features of items and of inverted items: each collection made once, read where it was kept before."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from crossgap.compute import DEFAULT, Compute
from crossgap.datasets.readers.feature_files import FeatureTable
from crossgap.datasets.tasks import Items
from crossgap.embeddings import embed, feature_path
from crossgap.encoders.pixels import batches_of
from crossgap.encoders.protocol import Encoder
from crossgap.evaluation.plan import InversionPlan
from crossgap.inversion.config import InversionBatch, InversionConfig, Target
from crossgap.inversion.kept import InvertedItems, load_inversions, path_of, save_inversions
from crossgap.inversion.loop import Inverter
from crossgap.processes import ALONE, Processes
from crossgap.progress import Tick, shared

_CPU = torch.device("cpu")
DIRECTIONS: dict[Target, str] = {"text": "OTI", "image": "OVI"}


class Progress(Protocol):
    """Open a loop over a number of items; what it returns counts them."""

    def __call__(self, what: str, count: int) -> Callable[[int], None]: ...


def silent(what: str, count: int) -> Callable[[int], None]:
    """Show no progress."""
    del what, count
    return lambda _done: None


class Ranked(NamedTuple):
    """Where scores are made and ranked: on which device, and by which processes, which share the queries."""

    device: torch.device = _CPU
    processes: Processes = ALONE


class Features:
    """Features of items by one model, or from a table; ``reused`` counts what was encoded and what read."""

    def __init__(
        self,
        source: Encoder | FeatureTable,
        cache: Path | None = None,
        progress: Progress = silent,
        compute: Compute = DEFAULT,
    ) -> None:
        self._source = source
        self._cache = cache
        self._progress = progress
        self._compute = compute
        self._made: dict[str, Tensor] = {}
        device = _CPU if isinstance(source, FeatureTable) else source.device
        # of the devices beside the CPU the others lack what that takes, float64
        self.ranked = Ranked(device if device.type == "cuda" else _CPU, compute.processes)
        self.reused = {"encoded": 0, "features_read": 0}

    def of(self, items: Items) -> Tensor:
        """Return the features_ND of items in their order."""
        key = items.content_hash
        if key not in self._made:
            self._made[key] = self._embed(items)
        return self._made[key]

    def _embed(self, items: Items) -> Tensor:
        if isinstance(self._source, FeatureTable):
            return self._source.embed(items)
        cache = self._cache
        cached = cache is not None and feature_path(self._source, items, cache, self._compute).exists()
        self.reused["features_read" if cached else "encoded"] += 1
        tick = self._progress(f"encode {items.modality}s", len(items))
        return embed(self._source, items, cache=cache, progress=tick, compute=self._compute).join(items.ids)


class Inversions:
    """Items inverted by one model; ``reused`` counts the batches that were inverted and those read."""

    def __init__(
        self,
        encoder: Encoder,
        cache: Path | None = None,
        progress: Progress = silent,
        compute: Compute = DEFAULT,
    ) -> None:
        self._encoder = encoder
        self._processes = compute.processes
        self._cache = cache
        self._progress = progress
        self._inverters: dict[InversionBatch, Inverter] = {}
        self._planned: dict[tuple[str, Target, InversionPlan], dict[InversionConfig, InvertedItems]] = {}
        self._single: dict[tuple[str, InversionBatch, str], InvertedItems] = {}
        self.reused = {"inverted": 0, "inversions_read": 0}

    def planned(
        self, items: Items, targets_ND: Tensor, into: Target, plan: InversionPlan
    ) -> dict[InversionConfig, InvertedItems]:
        """Invert the items of a side once, however many tasks share it, under all settings of a plan."""
        key = (items.content_hash, into, plan)
        if key not in self._planned:
            by_config: dict[InversionConfig, InvertedItems] = {}
            for batch, places in plan.made_in(into):
                inverted = self._invert(items, targets_ND, batch, DIRECTIONS[into])
                by_config |= {config: inverted[place].at(plan.snapshots) for config, place in places.items()}
            self._planned[key] = {config: by_config[config] for config in plan.configs}
        return self._planned[key]

    def single(self, items: Items, targets_ND: Tensor, batch: InversionBatch, what: str) -> InvertedItems:
        """Invert towards given targets under the one setting of a batch, once for what several tasks share.

        ``what`` tells these targets of the items from others, and is what progress says.
        """
        key = (items.content_hash, batch, what)
        if key not in self._single:
            (self._single[key],) = self._invert(items, targets_ND, batch, what)
        return self._single[key]

    def _invert(
        self, items: Items, targets_ND: Tensor, batch: InversionBatch, what: str
    ) -> list[InvertedItems]:
        """Invert under every setting of a batch, or read what was kept of the same."""
        path = None
        if self._cache is not None:
            path = path_of(batch, self._cache, self._encoder, items, targets_ND)
            kept = load_inversions(batch, path)
            if not self._processes.any(kept is None) and kept is not None:
                self.reused["inversions_read"] += 1
                return kept
        tick = self._progress(what, len(items))
        start = time.perf_counter()
        if batch not in self._inverters:
            self._inverters[batch] = Inverter(
                self._encoder, into=batch.into, configs=batch.configs, engine=batch.engine
            )
        results = self._run(self._inverters[batch], items, targets_ND, batch, tick)
        seconds = (time.perf_counter() - start) / len(results)
        all_inverted = [InvertedItems(features, losses, seconds) for features, losses in results]
        self.reused["inverted"] += 1
        if path is not None and self._processes.first:
            save_inversions(batch, path, all_inverted)
        return all_inverted

    def _run(
        self, inverter: Inverter, items: Items, targets_ND: Tensor, batch: InversionBatch, tick: Tick
    ) -> list[tuple[dict[int, Tensor], dict[int, float]]]:
        """Give features and mean loss by step under each setting; processes share the batches of items."""
        processes, encoder, steps = self._processes, self._encoder, batch.steps
        cut = batches_of(len(items), batch.configs[0].batch_size)
        own = [place for part in cut[processes.rank :: processes.size] for place in part]
        features = torch.zeros(
            len(batch.configs), len(steps), len(items), encoder.embed_dim, dtype=encoder.dtype
        )
        losses = torch.zeros(len(batch.configs), len(steps), len(items), dtype=encoder.dtype)
        with processes.alike():
            inversions = (
                inverter.run(
                    targets_ND[own],
                    item_ids=[items.ids[place] for place in own],
                    snapshots=batch.snapshots,
                    progress=shared(tick, len(items), processes.size),
                )
                if own
                else []
            )
            for number, inversion in enumerate(inversions):
                for place, step in enumerate(steps):
                    features[number, place, own] = inversion.snapshots[step].cpu()
                    losses[number, place, own] = inversion.losses[:, step].cpu()
        features, losses = processes.whole(features), processes.whole(losses)
        return [
            (
                {step: features[number, place] for place, step in enumerate(steps)},
                {step: float(losses[number, place].mean()) for place, step in enumerate(steps)},
            )
            for number in range(len(batch.configs))
        ]
