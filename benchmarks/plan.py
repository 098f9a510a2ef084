"""``python -m benchmarks.plan``: what a job takes by arithmetic: its parts, their limit, memory and disk.

A job is what crossgap.encode, invert and evaluate do together: each image is digested, decoded and encoded,
each query inverted and ranked against all images, and what is made is written.

python -m benchmarks.plan --images 100000 --devices 1 8 --decode 250
"""

from __future__ import annotations

import contextlib
import io
import math
import re
import shlex
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from rich.console import Console

from benchmarks.rates import MACHINES, MODELS, Machine, Model
from benchmarks.tables import BenchTable, Cell
from crossgap.command import run_command
from crossgap.datasets.readers.stored import REMEMBERED
from crossgap.encoders.pixels import _AHEAD
from crossgap.errors import InputError, check_known
from crossgap.files import write_text
from crossgap.inversion.config import Target

Part = Literal["start", "digest", "decode", "encode", "invert", "score", "write"]
PARTS: tuple[Part, ...] = get_args(Part)
_FLOAT = 4  # bytes of a number
_PIXELS = 3 * 224 * 224
_ACTIVATIONS = 10  # tensors of positions x width that encoding holds at once
_GIB, _MIB, _KIB = 2**30, 2**20, 2**10
_TABLES = re.compile(r"(<!-- python -m benchmarks\.plan([^\n]*?) -->\n).*?(<!-- end -->)", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class PlannedJob:
    """So many images and queries, on so many devices of a machine's kind, by a model.

    Rates are the machine's. ``workers`` decode for each device, ``queries`` are inverted and ranked,
    ``rankings`` times each: native and inverted are two.
    """

    images: int
    queries: int
    devices: int
    workers: int
    into: Target
    steps: int
    rankings: int
    file_kib: float
    machine: Machine
    model: Model

    @property
    def turns(self) -> int:
        """Batches that the busiest device encodes: whole batches are shared, never parts of one."""
        return _turns(self.images, self.machine.encoded, self.devices)

    @property
    def batch(self) -> int:
        return min(self.images, self.machine.encoded)

    @property
    def hashed(self) -> int:
        """Files that are read to be hashed: what exceeds the digests that are remembered, twice."""
        return self.images + max(0, self.images - REMEMBERED)

    @property
    def features(self) -> int:
        """Bytes of the features of all images."""
        return self.images * self.model.embed * _FLOAT

    @property
    def inverted(self) -> int:
        """Bytes that crossgap.invert writes: features, pseudo-token, losses, step of each query."""
        return self.queries * (
            (self.model.embed + self.model.tower(self.into).width + self.steps + 1) * _FLOAT + 8
        )


def seconds_of(job: PlannedJob) -> dict[Part, float]:
    """Give the seconds that each part takes on its busiest device, as if it were alone.

    decode: batches x images / (workers x rate); encode: batches x images / rate;
    invert: batches x steps x max(least step, queries / rate); score: blocks x rankings x queries x images /
    rate; digest: files / (devices x workers x rate). What is digested or decoded is read, too, by all
    processes together no faster than the file system gives it. Start and write are not shared by processes.

    Unit: s.
    """
    machine = job.machine
    rate = {name: rate.value for name, rate in machine.rates_of(job.model, job.into).items()}
    encoded = job.turns * job.batch
    at_once = min(job.queries, machine.inverted)
    step = max(rate["least step"], at_once / rate["invert"])
    rows = min(job.queries, max(1, machine.block // (machine.bytes_a_score * job.images)))
    blocks = _turns(job.queries, rows, job.devices)
    file, read = job.file_kib * _KIB / _MIB, rate["read"]
    return {
        "start": rate["start"],
        "digest": job.hashed * file / min(job.devices * job.workers * rate["digest"], read),
        "decode": max(encoded / (job.workers * rate["decode"]), job.images * file / read),
        "encode": encoded / rate["encode"],
        "invert": _turns(job.queries, machine.inverted, job.devices) * job.steps * step,
        "score": job.rankings * blocks * rows * job.images / (rate["score"] * 1e6),
        # chunks first, then the files that are made of them
        "write": 2 * (job.features + job.inverted) / (rate["write"] * _MIB),
    }


def pipelined(batches: int, *stages: float) -> float:
    """Give the time of equal batches through stages one after another, each at work on another batch.

    The first batch goes through all stages, every later one leaves the slowest: sum_s t_s + (n - 1) max_s
    t_s. As all batches are alike, a queue between two stages of one place or more changes nothing.

    Shape: n batches, stages with t seconds a batch -> seconds.
    """
    return sum(stages) + (batches - 1) * max(stages)


def total(job: PlannedJob) -> float:
    """Give the seconds of the whole job: decoding and encoding overlap, unless they share the cores."""
    parts = seconds_of(job)
    decode, encode = (parts[name] / job.turns for name in ("decode", "encode"))
    both = parts["decode"] + parts["encode"]
    if not job.machine.shared_cores:
        both = pipelined(job.turns, decode, encode)
    return both + sum(parts[name] for name in PARTS if name not in ("decode", "encode"))


def limit(job: PlannedJob) -> Part:
    """Name the part that takes longest."""
    parts = seconds_of(job)
    return max(PARTS, key=parts.__getitem__)


def device_bytes(job: PlannedJob) -> dict[str, float]:
    """Give the bytes that a device holds in each part: the weights, and what the part needs beside them.

    A batch that is encoded: its pixels as bytes and as numbers, and ten tensors of positions x width; one
    that is inverted: so many a layer, as measured on a CPU; ranking: both sides and a block of scores.
    """
    image, own = job.model.tower("image"), job.model.tower(job.into)
    weights = job.model.parameters * _FLOAT
    encode = job.batch * (_PIXELS * (1 + _FLOAT) + _ACTIVATIONS * image.positions * image.width * _FLOAT)
    kept = own.kept * own.layers * own.own * own.width * _FLOAT
    block = min(job.machine.block, job.machine.bytes_a_score * job.queries * job.images)
    sides = job.features + job.queries * job.model.embed * _FLOAT
    return {
        "encode": weights + encode,
        "invert": weights + min(job.queries, job.machine.inverted) * kept,
        "score": weights + sides + block,
    }


def process_bytes(job: PlannedJob) -> dict[str, float]:
    """Give the bytes that processes hold beside what is on a device: the first one, and each of the others.

    Each holds names, labels and digests of all images, batches of bytes that are decoded ahead, and in
    crossgap.evaluate all features, twice while they are put in order; the first one in crossgap.encode three
    times: its chunks, joined, and in order. On a CPU what a device would hold comes to it.
    """
    names = job.images * job.machine.names_kib.value * _KIB + (1 + _AHEAD) * job.batch * _PIXELS
    device = max(device_bytes(job).values()) if job.machine.shared_cores else 0
    return {
        "first": names + max(3 * job.features, 2 * job.features + device),
        "other": names + 2 * job.features + device,
    }


def disk_bytes(job: PlannedJob) -> dict[str, float]:
    """Give the bytes on disk: features, what is inverted, and the most, with the chunks of a command."""
    most = max(2 * job.features, job.features + 2 * job.inverted)
    return {"features": job.features, "inverted": job.inverted, "most": most}


def _turns(items: int, size: int, devices: int) -> int:
    """Count the batches of the device that gets most of them."""
    return math.ceil(math.ceil(items / size) / devices)


def tables(jobs: list[PlannedJob]) -> list[BenchTable]:
    """Write what jobs of one machine and model take: time by part, memory and disk, and the rates."""
    machine, model, into = jobs[0].machine, jobs[0].model, jobs[0].into
    times: list[dict[str, Cell]] = []
    for job in jobs:
        parts = seconds_of(job)
        row: dict[str, Cell] = {"images": f"{job.images:,}", "devices": job.devices}
        times.append(row | {**parts} | {"all": spoken(total(job)), "limit": limit(job)})
    sizes: list[dict[str, Cell]] = []
    for job in {job.images: job for job in jobs}.values():
        device, process, disk = device_bytes(job), process_bytes(job), disk_bytes(job)
        held = {} if machine.shared_cores else {f"device: {part}": n for part, n in device.items()}
        held |= {f"{which} process": n for which, n in process.items()}
        held |= {f"disk: {what}": n for what, n in disk.items()} | {"files": job.images * job.file_kib * _KIB}
        sizes.append({"images": f"{job.images:,}"} | {f"{name}, GiB": n / _GIB for name, n in held.items()})
    rates: list[dict[str, Cell]] = [
        {"rate": name, "value": rate.value, "unit": rate.unit, "from": rate.source}
        for name, rate in machine.rates_of(model, into).items()
    ]
    way = {"text": "OTI", "image": "OVI"}[into]
    most = max(job.queries for job in jobs)
    asked = (
        ("every image a query" if into == "text" else "as many texts as images")
        if most == max(job.images for job in jobs)
        else f"at most {most:,} queries"
    )
    overlap = "add up: they share the cores" if machine.shared_cores else "overlap"
    head = f"{model.name}, {machine.name}"
    return [
        BenchTable(
            title=f"Seconds by part: {head}, {way} of {jobs[0].steps} steps, {asked}",
            rows=times,
            note=f"{jobs[0].workers} workers a device, {machine.encoded} images and {machine.inverted} "
            f"queries side by side, {jobs[0].rankings} rankings a query. Decoding and encoding {overlap}.",
        ),
        BenchTable(title=f"Memory and disk: {head}", rows=sizes),
        BenchTable(title=f"Rates: {head}", rows=rates),
    ]


def spoken(seconds: float) -> str:
    """Say a span in the unit that people would."""
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def renewed(page: str) -> str:
    """Write the tables of a page anew, each between a comment with its command and ``<!-- end -->``."""

    def anew(found: re.Match[str]) -> str:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            code = run_command(main, [*shlex.split(found[2]), "--format", "md"])
        if code:
            raise InputError(f"the page's command fails: python -m benchmarks.plan{found[2]}")
        return f"{found[1]}\n{printed.getvalue().strip()}\n\n{found[3]}"

    return _TABLES.sub(anew, page)


def main(
    *,
    machine: str = "gpu",
    model: str = "ViT-B-32",
    images: tuple[int, ...] = (1_000, 100_000, 10_000_000),
    devices: tuple[int, ...] = (1, 8, 64),
    queries: int | None = None,
    workers: int | None = None,
    into: Target = "text",
    steps: int | None = None,
    rankings: int = 2,
    file_kib: float = 110.0,
    decode: float | None = None,
    encode: float | None = None,
    invert: float | None = None,
    score: float | None = None,
    digest: float | None = None,
    read: float | None = None,
    write: float | None = None,
    least_step: float | None = None,
    start: float | None = None,
    show: tuple[Literal["time", "size", "rates"], ...] = ("time", "size", "rates"),
    format: Literal["rich", "md"] = "rich",
    page: Path | None = None,
) -> int:
    """Print the seconds of each part of a job, which is the limit, memory, disk, and the rates behind them.

    Args:
        machine: whose rates: gpu (guessed) or cpu (two cores, mostly measured).
        model: ViT-B-32 or ViT-L-14.
        images: of each job.
        devices: of each job.
        queries: that are inverted and ranked, of each job at most; default: all images.
        workers: threads that decode for each device; default: the machine's.
        into: text is OTI, image is OVI.
        steps: of inversion; default: 150 into text, 1000 into image.
        rankings: of each query against all images; native and inverted are two.
        file_kib: KiB of an image's file.
        decode: images a second of a worker.
        encode: images a second of a device.
        invert: queries times steps a second of a device.
        score: million scores a second of a device.
        digest: MiB of files a second that a thread reads and digests.
        read: MiB a second that the file system gives to all processes together.
        write: MiB a second that the file system takes.
        least_step: seconds that a step of inversion takes, however few are side by side.
        start: seconds before the first image.
        show: which tables.
        format: for a terminal or, md, for a page.
        page: write the tables of this page anew instead, where it names their commands.
    """
    if page is not None:
        write_text(page, renewed(page.read_text("utf-8")))
        return 0
    kind = MACHINES[check_known(machine, MACHINES, "machine")]
    known = MODELS[check_known(model, MODELS, "model")]
    given = {"decode": decode, "encode": encode, "invert": invert, "score": score}
    given |= {"digest": digest, "read": read, "write": write, "least step": least_step, "start": start}
    _check_positive({**given, "rankings": rankings, "file_kib": file_kib, "workers": workers, "steps": steps})
    _check_positive({"queries": queries, "images": min(images, default=0)})
    _check_positive({"devices": min(devices, default=0)})
    kind = kind.given({name: value for name, value in given.items() if value is not None})
    first = PlannedJob(
        images=images[0],
        queries=0,
        devices=devices[0],
        workers=workers or kind.workers,
        into=into,
        steps=steps or {"text": 150, "image": 1000}[into],
        rankings=rankings,
        file_kib=file_kib,
        machine=kind,
        model=known,
    )
    jobs = [
        replace(first, images=count, queries=min(count, queries or count), devices=number)
        for count in images
        for number in devices
    ]
    console = Console(width=None if sys.stdout.isatty() else 200)
    for name, table in zip(("time", "size", "rates"), tables(jobs), strict=True):
        if name in show and format == "md":
            print(table.markdown())
        elif name in show:
            console.print(table.rich())
    return 0


def _check_positive(given: dict[str, Any]) -> None:
    for name, value in given.items():
        if value is not None and not 0 < value < float("inf"):
            raise InputError(
                f"--{name.replace('_', '-').replace(' ', '-')} must be above 0 and finite, not {value}"
            )


if __name__ == "__main__":
    sys.exit(run_command(main))
