"""``python -m benchmarks.run``: fast paths against their slow twins, in one run on one machine.

Times depend on the machine, ratios much less; no test asserts either.

python -m benchmarks.run --only inversion --out bench.json
"""

from __future__ import annotations

import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from ablations.study.smoke import smoke
from benchmarks.encoding import encoding
from benchmarks.fidelity import Scale, fidelity
from benchmarks.grid import grid
from benchmarks.inversion import speed
from benchmarks.loading import loading
from benchmarks.machine import description
from benchmarks.memory import memory
from benchmarks.readers import readers
from benchmarks.retrieval import pairs, retrieval, scale
from benchmarks.scenes import scenes
from benchmarks.schedules import schedules
from benchmarks.shared import shared
from benchmarks.studies import studies
from benchmarks.tables import BenchTable
from benchmarks.terms import terms
from benchmarks.training import training
from crossgap.command import run_command
from crossgap.datasets.load import load_dataset
from crossgap.embeddings import encode_items
from crossgap.encoders.devices import use_threads
from crossgap.encoders.loading import load_encoder
from crossgap.encoders.open_clip import OpenClipEncoder
from crossgap.errors import InputError
from crossgap.files import write_json, write_text
from crossgap.inversion.config import InversionConfig
from crossgap.vocabulary import Precision
from pretrain.recipes import RECIPES
from pretrain.run import train


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """What the parts need: how much to do, the trained model, and where to say what is done."""

    quick: bool
    model: Path | None
    scratch: Path
    progress: Callable[[str], None]

    def encoder_in(self, precision: Precision) -> OpenClipEncoder:
        """Load the emoji baseline, trained now if none was given."""
        return load_encoder(str(self.model or self._trained()), device="cpu", precision=precision)

    def _trained(self) -> Path:
        baseline = RECIPES["baseline"]()
        steps = 60 if self.quick else baseline.steps
        if not self.scratch.exists():
            self.progress(f"emoji baseline: training, {steps} steps")
        train(replace(baseline, steps=steps), self.scratch, progress=False)
        return self.scratch


def _speed(bench: Benchmark) -> list[BenchTable]:
    if bench.quick:
        return speed(["ViT-B-32"], batch_size=2, rounds=2, round_seconds=0.2, progress=bench.progress)
    return speed(["ViT-B-32", "ViT-B-16-SigLIP"], rounds=3, round_seconds=2, progress=bench.progress)


def _memory(bench: Benchmark) -> list[BenchTable]:
    if bench.quick:
        return memory(["ViT-B-32"], batch_sizes=(2,), progress=bench.progress)
    return memory(["ViT-B-32", "ViT-B-16-SigLIP"], progress=bench.progress)


def _fidelity(bench: Benchmark) -> list[BenchTable]:
    if bench.quick:
        val, scale = (
            load_dataset("emoji", split="val", limit=40),
            Scale(steps={"text": 30, "image": 60}, exact_items=4, repeats=1),
        )
    else:
        val, scale = load_dataset("emoji", split="val"), Scale(steps={"text": 150, "image": 1000})
    return fidelity(bench.encoder_in, val, scale, progress=bench.progress)


def _grid(bench: Benchmark) -> list[BenchTable]:
    fit = load_dataset("emoji", split="val").fit
    assert fit is not None
    assert fit.images is not None
    items = fit.images.subset(range(32 if bench.quick else 500))
    return grid(
        bench.encoder_in,
        encode_items(bench.encoder_in("fp32"), items),
        items.ids,
        into="text",
        base=InversionConfig(steps=15 if bench.quick else 150),
        batch_sizes=(8,) if bench.quick else (64,),
        rounds=1,
        exact_items=2 if bench.quick else 8,
        progress=bench.progress,
    )


def _retrieval(bench: Benchmark) -> list[BenchTable]:
    if bench.quick:
        return retrieval(queries=50, gallery=2000, looped=10, rounds=1)
    return retrieval(rounds=3)


def _scale(bench: Benchmark) -> list[BenchTable]:
    if bench.quick:
        return scale((2000, 5000), queries=20, progress=bench.progress)
    return scale(progress=bench.progress)


PARTS: dict[str, Callable[[Benchmark], list[BenchTable]]] = {
    "inversion-speed": _speed,
    "inversion-memory": _memory,
    "inversion-fidelity": _fidelity,
    "inversion-grid": _grid,
    "inversion-schedules": lambda bench: (
        schedules("small", batch_size=4, paper_steps={"text": 30, "image": 40}, progress=bench.progress)
        if bench.quick
        else schedules("ViT-B-32", progress=bench.progress)
    ),
    "retrieval-speed": _retrieval,
    "retrieval-scale": _scale,
    "retrieval-shared": lambda bench: (
        shared(100, 2000, progress=bench.progress) if bench.quick else shared(progress=bench.progress)
    ),
    "readers": lambda bench: readers((200, 400) if bench.quick else (2000, 20000), progress=bench.progress),
    "pairs": lambda bench: pairs(count=500 if bench.quick else 5000),
    "training": lambda bench: training(bench.scratch, rounds=1 if bench.quick else 5),
    "loading": lambda bench: (
        loading((100, 200), steps=2, small=True, progress=bench.progress)
        if bench.quick
        else loading(progress=bench.progress)
    ),
    "encoding": lambda bench: (
        encoding({"small": 64, "ViT-B-32": 8}, held=(16, 64), rounds=1, progress=bench.progress)
        if bench.quick
        else encoding(progress=bench.progress)
    ),
    "scenes": lambda bench: scenes(bench.scratch, rounds=1 if bench.quick else 9),
    "studies": lambda bench: (
        studies(trials=4, steps=2, shrink=smoke, progress=bench.progress)
        if bench.quick
        else studies(progress=bench.progress)
    ),
    "terms": lambda bench: terms(bench.scratch, rounds=1 if bench.quick else 5, progress=bench.progress),
}


def main(
    *,
    only: tuple[str, ...] = (),
    quick: bool = False,
    model: Path | None = None,
    threads: int | None = None,
    out: Path | None = None,
    markdown: Path | None = None,
) -> int:
    """Measure the fast paths against their slow twins and print tables.

    Args:
        only: parts, or how their names begin: inversion, inversion-speed, inversion-memory,
            inversion-fidelity, inversion-grid, inversion-schedules, retrieval-speed, retrieval-scale,
            retrieval-shared, readers, pairs, training, loading, encoding, scenes, studies, terms.
        quick: smaller forms of each part, for a look at whether all is well.
        model: run directory or checkpoint of the emoji baseline; default: the baseline is trained first.
        threads: CPU threads; default: torch's choice.
        out: a JSON file for machine, command and tables.
        markdown: a file for the same as tables of a page.
    """
    names = _chosen(only)
    use_threads(threads)
    console = Console(width=None if sys.stdout.isatty() else 200)
    machine = description()
    command = f"python -m benchmarks.run {shlex.join(sys.argv[1:])}".strip()
    console.print(", ".join(machine.values()), markup=False, highlight=False)
    found: dict[str, list[BenchTable]] = {}
    spent: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch, _spoken() as progress:
        bench = Benchmark(quick=quick, model=model, scratch=Path(scratch) / "model", progress=progress)
        for name in names:
            start = time.perf_counter()
            found[name] = PARTS[name](bench)
            spent[name] = time.perf_counter() - start
            for table in found[name]:
                console.print(table.rich())
            console.print(f"{name}: {spent[name]:.0f} s")
    if out is not None:
        parts = {
            name: {"seconds": spent[name], "tables": [table.as_json() for table in tables]}
            for name, tables in found.items()
        }
        write_json(out, {"machine": machine, "command": command, "parts": parts})
    if markdown is not None:
        head = f"    {command}\n\n" + "".join(f"- {name}: {value}\n" for name, value in machine.items())
        write_text(markdown, "\n".join([head, *(t.markdown() for tables in found.values() for t in tables)]))
    return 0


def _chosen(only: tuple[str, ...]) -> list[str]:
    for start in only:
        if not any(name.startswith(start) for name in PARTS):
            raise InputError(f"no benchmark begins with {start!r}; known: {', '.join(PARTS)}")
    return [name for name in PARTS if not only or name.startswith(only)]


@contextmanager
def _spoken() -> Iterator[Callable[[str], None]]:
    """Say what is under way: on one line of a terminal, line by line elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda what: console.print(f"  {what}", markup=False, highlight=False, soft_wrap=True)
        return
    with console.status("starting") as status:
        yield status.update


if __name__ == "__main__":
    sys.exit(run_command(main))
