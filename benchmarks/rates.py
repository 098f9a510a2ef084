"""What :mod:`benchmarks.plan` reckons with: sizes of models, rates of machines, and where each is from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from crossgap.inversion.config import Target
from crossgap.metrics.streaming import _BYTES_A_SCORE, _ON_A_DEVICE, DEVICE_MEMORY, MEMORY
from crossgap.vocabulary import Modality


class Rate(NamedTuple):
    """A number and whether it was measured, counted or guessed, and how."""

    value: float
    unit: str
    source: str


@dataclass(frozen=True, kw_only=True)
class Tower:
    """Sizes of a transformer, and of inversion into it.

    Args:
        layers: with four products each: (W, 3W), (W, W), (W, 4W), (4W, W).
        width: W.
        positions: that attention sees: patches and the class token; tokens of "a photo of {}".
        own: positions that inversion computes anew in each step; the others are constant.
        kept: numbers that a step of inversion keeps for each layer, own position and W.
    """

    layers: int
    width: int
    positions: int
    own: int
    kept: float

    def forward(self, inputs: int, outputs: int) -> float:
        """Count the operations of a forward pass of one item.

        2 positions (12 layers W^2 + inputs W) + 4 layers positions^2 W + 2 W outputs, with ``inputs`` numbers
        a patch and ``outputs`` a feature; the class token has no patch.

        Unit: FLOP.
        """
        products = self.positions * 12 * self.layers * self.width**2 + self.width * outputs
        products += (self.positions - 1) * inputs * self.width
        return 2 * products + 4 * self.layers * self.positions**2 * self.width

    def step(self, outputs: int) -> float:
        """Count the operations of a step of inversion, forward and backward, of one item.

        4 own (12 (layers - 1) + 2) W^2 + 40 W^2 + 4 W outputs, and attention's 14 ((layers - 1) own + 1)
        positions W: the last layer has one query, and its keys and values of all.

        Unit: FLOP.
        """
        width, before = self.width, self.layers - 1
        products = self.own * (12 * before + 2) * width**2 + 10 * width**2 + width * outputs
        return 4 * products + 14 * (before * self.own + 1) * self.positions * width


@dataclass(frozen=True, kw_only=True)
class Model:
    """Sizes of a CLIP with images of 224 pixels."""

    name: str
    embed: int
    parameters: int
    patch: int
    image: Tower
    text: Tower

    def tower(self, modality: Modality | Target) -> Tower:
        return self.image if modality == "image" else self.text

    @property
    def encoded(self) -> float:
        """The operations of encoding an image, in FLOP."""
        return self.image.forward(3 * self.patch**2, self.embed)


@dataclass(frozen=True, kw_only=True)
class Machine:
    """How fast the parts of a job go, and how much is worked on side by side.

    Args:
        flops: of the image tower and of the text tower's steps.
        score: million scores a second that are made and ranked.
        decode: images a second of one thread.
        least_step: seconds that a step of inversion takes, however small.
        start: seconds before the first item.
        digest: MiB of files a second that a thread reads and hashes.
        read: MiB a second that the file system gives to all processes together.
        write: MiB a second of the file system, by all processes together.
        names_kib: that a process holds for an image: id, label, digest, place.
        workers: threads that decode for a device, by default.
        encoded: images side by side.
        inverted: queries side by side.
        block: bytes of the scores that are ranked at once.
        bytes_a_score: that ranking takes.
        shared_cores: decoding and encoding share the cores: their times add up.
        instead: rates that were given in place of these.
    """

    name: str
    flops: Mapping[str, Rate]
    score: Rate
    decode: Rate
    least_step: Rate
    start: Rate
    digest: Rate
    read: Rate
    write: Rate
    names_kib: Rate
    workers: int
    encoded: int
    inverted: int
    block: int
    bytes_a_score: int
    shared_cores: bool
    instead: Mapping[str, float] = field(default_factory=dict)

    def given(self, rates: Mapping[str, float]) -> Machine:
        """Return the machine with some of its rates replaced."""
        return replace(self, instead=rates)

    def rates_of(self, model: Model, into: Target) -> dict[str, Rate]:
        """Return every rate, for a model and a direction, with those that were given in their places."""
        image, steps = self.flops["image"], self.flops[into]
        step = model.tower(into).step(model.embed)
        made = {
            "decode": self.decode,
            "encode": _per_item(image, model.encoded, "images/s a device"),
            "invert": _per_item(steps, step, "queries x steps/s a device"),
            "score": self.score,
            "digest": self.digest,
            "read": self.read,
            "write": self.write,
            "least step": self.least_step,
            "start": self.start,
            "names": self.names_kib,
        }
        return made | {name: Rate(value, made[name].unit, "given") for name, value in self.instead.items()}


def _per_item(flops: Rate, operations: float, unit: str) -> Rate:
    each = f"{operations / 1e9:.3g} GFLOP each"
    return Rate(flops.value * 1e12 / operations, unit, f"{each}, {flops.value:.3g} TFLOP/s: {flops.source}")


_PEAK = Rate(20, "TFLOP/s", "guess, .3 of the 67 TFLOP/s that an H100 SXM has in fp32 by its data sheet")
_NAMES = Rate(1.0, "KiB an image", "measured, docs/measurement.md, class folders")
_START = Rate(
    5, "s", "measured, docs/inversion.md: imports and a small model; weights from a disk take longer"
)
_DIGEST = Rate(500, "MiB/s a thread", "guess: SHA-256 by instructions of the processor")
_FILES = Rate(500, "MiB/s of all processes", "guess; a network's file system may be slower")
_INVERSION = "measured, docs/inversion.md, ViT-B-32"

MACHINES = {
    "gpu": Machine(
        name="H100 with 80 GiB, fp32 (guessed, not run)",
        flops={"image": _PEAK, "text": _PEAK},
        score=Rate(1000, "million/s a device", "guess: some 1000 bytes moved a score, at 1 TB/s"),
        decode=Rate(
            150, "images/s a worker", "guess for JPEG of 500 x 375: a core of a Xeon made 137 to 165"
        ),
        least_step=Rate(0.004, "s", "guess: 374 operations, counted for ViT-B-32 into text, of 10 us"),
        start=_START,
        digest=_DIGEST,
        read=Rate(
            5000, "MiB/s of all processes", "guess for a cluster's file system; a disk alone gives less"
        ),
        write=_FILES,
        names_kib=_NAMES,
        workers=15,
        encoded=1024,
        inverted=128,
        block=DEVICE_MEMORY,
        bytes_a_score=_ON_A_DEVICE,
        shared_cores=False,
    ),
    "cpu": Machine(
        name="two cores of a Xeon, fp32",
        flops={
            "image": Rate(0.203, "TFLOP/s", f"{_INVERSION}, into image"),
            "text": Rate(0.105, "TFLOP/s", f"{_INVERSION}, into text"),
        },
        score=Rate(34.2, "million/s a device", "measured, docs/measurement.md, a gallery of 1.28 million"),
        decode=Rate(
            137, "images/s a worker", "measured, docs/measurement.md, two workers, JPEG of 500 x 375"
        ),
        least_step=Rate(0, "s", "not needed"),
        start=_START,
        digest=_DIGEST,
        read=Rate(1000, "MiB/s of all processes", "guess; what was read before is given faster"),
        write=_FILES,
        names_kib=_NAMES,
        workers=2,
        encoded=256,
        inverted=64,
        block=MEMORY,
        bytes_a_score=_BYTES_A_SCORE,
        shared_cores=True,
    ),
}

# kept: MiB of the peaks in docs/inversion.md at batch 64 over layers x own positions x width x 4 bytes
MODELS = {
    "ViT-B-32": Model(
        name="ViT-B-32",
        embed=512,
        parameters=151_277_313,
        patch=32,
        image=Tower(layers=12, width=768, positions=50, own=50, kept=10.1),
        text=Tower(layers=12, width=512, positions=6, own=2, kept=16.9),
    ),
    "ViT-L-14": Model(
        name="ViT-L-14",
        embed=768,
        parameters=427_616_513,
        patch=14,
        image=Tower(layers=24, width=1024, positions=257, own=257, kept=10.1),
        text=Tower(layers=12, width=768, positions=6, own=2, kept=16.9),
    ),
}
