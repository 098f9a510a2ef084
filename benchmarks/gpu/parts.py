"""What is compared with the CPU and timed on a device: encoding, inversion, retrieval, training."""

from __future__ import annotations

import copy
import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from benchmarks.encoding import write_photos
from benchmarks.gpu.budget import BudgetRow, Part, Step
from benchmarks.retrieval import KS, made
from benchmarks.towers import find_tower, in_precision
from crossgap.compute import ENCODED, INVERTED, Compute, default_batch_size, default_workers
from crossgap.datasets.load import load_dataset
from crossgap.datasets.tasks import Items
from crossgap.embeddings import encode_items
from crossgap.encoders.open_clip import OpenClipEncoder
from crossgap.inversion.config import InversionConfig, Target
from crossgap.inversion.loop import Inversion, Inverter
from crossgap.metrics.streaming import streamed_metrics
from pretrain.config import TrainConfig, smoke
from pretrain.data.pairs import load_pairs
from pretrain.loop import Run
from pretrain.settings import ModelConfig
from tests.reference import plain_encoding

_Made = TypeVar("_Made")
_CPU = torch.device("cpu")
_COMPILING = 60.0  # seconds that are kept for it
_SHORT = 20  # steps of inversion at a device's own batch size


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is done.

    Args:
        tower: of :data:`benchmarks.towers.TOWERS`.
        photos: written; encoded on the CPU; encoded by the loop that waits.
        repeats: how often the photos come again where they are decoded ahead.
        inverted: direction -> items compared with the CPU, and the steps looked at.
        retrieved: queries compared with the CPU, queries on the device, gallery.
        training: steps that are compared, and as many that are timed.
        large: model that fills a device, and its batch.
        compiled: whether that is looked at, too.
        shrink: makes the compared training of the baseline's.
    """

    tower: str
    photos: tuple[int, int, int]
    repeats: int
    inverted: Mapping[Target, tuple[int, tuple[int, ...]]]
    retrieved: tuple[int, int, int]
    training: int
    large: tuple[ModelConfig, int]
    compiled: bool
    shrink: Callable[[TrainConfig], TrainConfig] = replace


WHOLE = Size(
    tower="ViT-B-32",
    photos=(512, 64, 256),
    repeats=16,
    inverted={"text": (64, (10, 50, 150)), "image": (8, (10, 30))},
    retrieved=(200, 5_000, 200_000),
    training=5,
    large=(ModelConfig(width=512, layers=12, heads=8, embed_dim=512), 1024),
    compiled=True,
)
QUICK = Size(
    tower="tiny",
    photos=(8, 4, 8),
    repeats=2,
    inverted={"text": (3, (1, 3)), "image": (2, (1, 2))},
    retrieved=(4, 8, 60),
    training=2,
    large=(ModelConfig(width=48, layers=2, heads=2, embed_dim=32), 16),
    compiled=False,
    shrink=smoke,
)


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What the parts need: the device, how much to do, and a folder that is removed afterwards.

    ``inverted`` is what the CPU found in each direction.
    """

    device: torch.device
    size: Size
    scratch: Path
    inverted: dict[Target, Inversion] = field(default_factory=dict)

    @cached_property
    def on_cpu(self) -> OpenClipEncoder:
        return find_tower(self.size.tower).encoder()

    @cached_property
    def encoder(self) -> OpenClipEncoder:
        """The same weights on the device."""
        return OpenClipEncoder(copy.deepcopy(self.on_cpu.model).to(self.device), self.on_cpu.tokenizer)

    def timed(self, run: Callable[[], _Made], *, warm: bool = True) -> tuple[_Made, float, float | None]:
        """Give what a call returns, its seconds, the device's peak; ``warm``: one before it is not timed."""
        on_cuda = self.device.type == "cuda"
        if warm:
            run()
        if on_cuda:
            gc.collect()  # what is no longer used would count as held
            torch.cuda.synchronize(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
        began = time.perf_counter()
        result = run()
        if on_cuda:
            torch.cuda.synchronize(self.device)
        spent = time.perf_counter() - began
        return result, spent, torch.cuda.max_memory_allocated(self.device) / 2**20 if on_cuda else None


def encoding(bench: Bench) -> Iterator[Step]:
    """Encode photos: on the CPU, by the loop that waits for its images, and with images decoded ahead."""
    written, checked, waited = bench.size.photos
    write_photos(bench.scratch / "photos", written)
    items = load_dataset(str(bench.scratch / "photos")).tasks[0].query
    workers = default_workers(bench.device)
    at_once = default_batch_size(bench.device, ENCODED)
    kept: dict[str, Tensor] = {}

    def encode(name: str, count: int, run: Callable[[], Tensor]) -> BudgetRow:
        run_of = bench if name != "CPU" else replace(bench, device=_CPU)
        features_ND, spent, peak = run_of.timed(run, warm=name != "CPU")
        kept[name] = features_ND[:waited].float()
        if name == "CPU":
            return BudgetRow("", spent, count, peak)
        agrees = f"1 - cosine {_apart(kept[name][:checked], kept['CPU'])}"
        if name == "1 worker ahead" and "waits for images" in kept:
            same = torch.equal(kept[name], kept["waits for images"])
            agrees += ", the waiting loop's bits" if same else ", NOT the waiting loop's bits"
        return BudgetRow(agrees, spent, count, peak)

    def ahead(encoder: OpenClipEncoder, chosen: Items, threads: int) -> Callable[[], Tensor]:
        return lambda: encode_items(encoder, chosen, compute=Compute(workers=threads))

    first, few = items.subset(range(checked)), items.subset(range(waited))
    many = _repeated(items, bench.size.repeats)
    encoder, half = bench.encoder, in_precision(bench.encoder, "bf16")
    runs: dict[str, tuple[float, int, Callable[[], Tensor]]] = {
        "CPU": (10, checked, ahead(bench.on_cpu, first, 1)),
        "waits for images": (6, waited, lambda: plain_encoding(encoder, few, at_once)),
        "1 worker ahead": (6, waited, ahead(encoder, few, 1)),
        f"{workers} workers ahead, {len(many)} photos": (12, len(many), ahead(encoder, many, workers)),
        f"bf16, {workers} workers ahead, {len(many)} photos": (12, len(many), ahead(half, many, workers)),
    }
    for name, (expected, count, run) in runs.items():
        yield Step(name, expected, partial(encode, name, count, run))
    pixels_BCHW = encoder.preprocess([items.image(place) for place in range(checked)]).to(bench.device)
    whole_BCHW = pixels_BCHW.repeat(math.ceil(at_once / checked), 1, 1, 1)[:at_once]
    for what, chosen in (("encoder alone", encoder), ("bf16, encoder alone", half)):
        yield Step(what, 5, partial(encode, what, len(whole_BCHW), partial(_no_grad, chosen, whole_BCHW)))


def inversion(bench: Bench, into: Target) -> Iterator[Step]:
    """Invert random targets in each arithmetic, as on the CPU, then as many at once as a device takes."""
    count, looks = bench.size.inverted[into]
    at_once, short = default_batch_size(bench.device, INVERTED), min(_SHORT, looks[0])
    half = in_precision(bench.encoder, "bf16")
    yield Step("CPU", 25, partial(_inverted, bench, into, bench.on_cpu, count, looks[-1], first=True))
    for name, encoder in (("fp32", bench.encoder), ("bf16", half)):
        yield Step(name, 8, partial(_inverted, bench, into, encoder, count, looks[-1]))
    for name, encoder in (("fp32", bench.encoder), ("bf16", half)):
        what = f"{name}, {at_once} side by side"
        yield Step(what, 8, partial(_inverted, bench, into, encoder, at_once, short))


def compiling(bench: Bench) -> Iterator[Step]:
    """Invert by compiled towers what the CPU inverted."""
    for into in bench.inverted if bench.size.compiled else ():
        count, looks = bench.size.inverted[into]
        run = partial(_inverted, bench, into, bench.encoder, count, looks[-1], compiled=True)
        yield Step("fp32, compiled", _COMPILING, run, part=INVERSIONS[into])


def _inverted(
    bench: Bench,
    into: Target,
    encoder: OpenClipEncoder,
    count: int,
    steps: int,
    *,
    first: bool = False,
    compiled: bool = False,
) -> BudgetRow:
    """Invert ``count`` random targets; ``first`` is what the others are compared with."""
    looks = bench.size.inverted[into][1]
    config = InversionConfig(steps=steps, batch_size=count)
    targets_ND = torch.randn(count, encoder.embed_dim, generator=torch.Generator().manual_seed(0))
    inverter = Inverter(encoder, into=into, configs=[config], compiled=compiled)
    ids = [f"item-{number}" for number in range(count)]
    run = partial(inverter.run, targets_ND, item_ids=ids, snapshots=[at for at in looks if at <= steps])
    (found,), spent, peak = replace(bench, device=encoder.device).timed(run, warm=not first)
    if first:
        bench.inverted[into] = found
    compared = not first and steps == looks[-1]
    agrees = _agreement(found, bench.inverted[into], looks) if compared else ""
    return BudgetRow(agrees, spent, count * steps, peak)


def training(bench: Bench) -> Iterator[Step]:
    """Train the emoji baseline as on the CPU, then a model that fills a device."""
    base = bench.size.shrink(TrainConfig(recipe="bench"))
    base = replace(base, steps=10_000)
    pairs = load_pairs(
        base.data, image_size=base.stored_size, context_length=base.model.context_length, limit=base.limit
    )
    steps, losses = bench.size.training, dict[str, list[float]]()

    def train(name: str, config: TrainConfig) -> BudgetRow:
        run = Run(config, bench.scratch, pairs, None, time.perf_counter())

        def some() -> list[float]:
            values = []
            for _ in range(steps):
                run.advance()
                values.append(run.loss.total.detach())
            return torch.stack(values).tolist()

        first = some()
        losses[name] = first
        _, spent, peak = replace(bench, device=run.device).timed(some, warm=False)
        pairs_seen = steps * config.batch_size
        if config.model != base.model:
            return BudgetRow("", spent, pairs_seen, peak, same_work=False)
        off = max(abs(a - b) / a for a, b in zip(losses["CPU"], first, strict=True))
        return BudgetRow(
            "" if name == "CPU" else f"{steps} losses {off:.1g} of theirs", spent, pairs_seen, peak
        )

    model, batch_size = bench.size.large
    there = replace(base, device=str(bench.device))
    large = replace(there, model=model, batch_size=batch_size)
    yield Step("CPU", 8, partial(train, "CPU", replace(base, device="cpu")))
    for precision in ("fp32", "bf16"):
        yield Step(precision, 4, partial(train, precision, replace(there, precision=precision)))
    for precision in ("fp32", "bf16"):
        what = f"{precision}, width {model.width}, {model.layers} layers, batch {batch_size}"
        yield Step(what, 6, partial(train, what, replace(large, precision=precision)))


def retrieval(bench: Bench) -> Iterator[Step]:
    """Rank a gallery for some queries on both, then for many on the device."""
    few, many, gallery = bench.size.retrieved
    sides = made(few, gallery)[:3]
    values: dict[str, dict[str, Tensor]] = {}

    def rank(name: str, queries: int, device: torch.device) -> BudgetRow:
        query_QD, gallery_GD, relevance = sides if queries == few else made(queries, gallery)[:3]
        run = partial(streamed_metrics, query_QD, gallery_GD, relevance, ks=KS, device=device)
        values[name], spent, peak = replace(bench, device=device).timed(run, warm=name != "CPU")
        millions = queries * gallery / 1e6
        if name == "CPU" or queries != few:
            return BudgetRow("", spent, millions, peak)
        off = max(_difference(found_Q, values["CPU"][metric]) for metric, found_Q in values[name].items())
        return BudgetRow(f"any value {off:.1g}", spent, millions, peak)

    yield Step("CPU", 5, partial(rank, "CPU", few, _CPU))
    yield Step(f"{few} queries", 4, partial(rank, f"{few} queries", few, bench.device))
    yield Step(f"{many} queries", 10, partial(rank, f"{many} queries", many, bench.device))


INVERSIONS: dict[Target, str] = {"text": "inversion into text", "image": "inversion into images"}


def parts_of(bench: Bench) -> dict[str, Part]:
    """Give the parts in their order; compiling comes last, as how long it takes is known least."""
    steps = "queries x steps"
    return {
        INVERSIONS["text"]: Part(0.2, steps, partial(inversion, bench, "text")),
        "encoding": Part(0.2, "images", partial(encoding, bench)),
        "retrieval": Part(0.1, "million scores", partial(retrieval, bench)),
        "training": Part(0.1, "pairs", partial(training, bench)),
        INVERSIONS["image"]: Part(0.2, steps, partial(inversion, bench, "image")),
        "compiled": Part(0.2, steps, partial(compiling, bench)),
    }


def _repeated(items: Items, times: int) -> Items:
    """Let items come again under other ids."""
    return Items(
        modality=items.modality,
        ids=tuple(f"{again}-{item}" for again in range(times) for item in items.ids),
        contents=items.contents * times,
        labels=items.labels * times,
    )


@torch.no_grad()
def _no_grad(encoder: OpenClipEncoder, pixels_BCHW: Tensor) -> Tensor:
    return encoder.encode_image(pixels_BCHW).cpu()


def _difference(found_Q: Tensor, expected_Q: Tensor) -> float:
    """Give the largest difference; what is NaN on one side alone is infinitely far."""
    neither_Q = found_Q.isnan() & expected_Q.isnan()
    return float((found_Q - expected_Q).abs().nan_to_num(nan=torch.inf).masked_fill(neither_Q, 0).max())


def _apart(some_ND: Tensor, others_ND: Tensor) -> str:
    """Say the largest 1 - cosine of unit rows, as half their squared distance: exact where it is tiny."""
    return f"{float((some_ND.cpu().double() - others_ND.double()).square().sum(dim=1).max()) / 2:.1g}"


def _agreement(found: Inversion, reference: Inversion, looks: Sequence[int]) -> str:
    """Say how far features and mean losses are apart at the steps looked at."""
    features = [_apart(found.snapshots[step], reference.snapshots[step]) for step in looks]
    losses_S = (found.losses.cpu().double().mean(dim=0) - reference.losses.double().mean(dim=0)).abs()
    losses = [f"{float(losses_S[step]):.1g}" for step in looks]
    steps = ", ".join(map(str, looks))
    return f"1 - cosine {', '.join(features)} and mean loss {', '.join(losses)} at steps {steps}"
