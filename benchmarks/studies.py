"""What running a study costs beside its trials, and what a second worker brings."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import torch

from ablations.running import trial
from ablations.running.coordinator import Coordinator
from ablations.running.folder import held
from ablations.running.spec import TrialSpec
from ablations.running.storage import open_storage, quiet_optuna
from ablations.running.supervisor import Supervisor
from ablations.study.named import demo
from ablations.study.smoke import smoke
from ablations.study.study import Study
from benchmarks.machine import Clock
from benchmarks.tables import BenchTable, Cell
from crossgap import embeddings
from crossgap.evaluation import choices
from crossgap.evaluation import run as evaluation
from crossgap.evaluation.result import Evaluation
from crossgap.files import RESULT, read_json, write_json
from crossgap.inversion.loop import Inverter


def studies(
    *,
    trials: int = 24,
    steps: int = 60,
    shrink: Callable[[Study], Study] = lambda study: study,
    progress: Callable[[str], None],
) -> list[BenchTable]:
    """Time trials that do nothing, a small study with one worker and with two, and the parts of a trial.

    Args:
        shrink: makes the demo smaller, whose baseline is the trial that is timed by parts.
    """
    quiet_optuna()
    return [_overhead(trials, progress), _workers(steps, progress), parts_of_a_trial(shrink, progress)]


def nothing(spec: TrialSpec) -> None:
    """Be a trial that is done at once."""
    about = {"state": "complete", "arm": spec.arm.name, "seed": spec.seed}
    write_json(spec.folder / RESULT, {**about, "objectives": {"intra_modal": 0.5, "gap": 1.0}})


def _overhead(trials: int, progress: Callable[[str], None]) -> BenchTable:
    plan = smoke(demo())
    plan = replace(plan, arms=plan.arms[:1], seeds=tuple(range(trials)))
    rows: list[dict[str, Cell]] = []
    for storage in ("journal", "sqlite"):
        progress(f"{trials} trials that do nothing: {storage}")
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "study"
            with held(folder):
                opened = open_storage(storage, folder)
                supervisor = _Clocked(work=nothing)
                made = Coordinator(plan, folder, trials, _template(plan, folder), opened, 1, supervisor)
                made.run()
                opened.close()
        first, *others = [b - a for a, b in zip(supervisor.starts, supervisor.starts[1:], strict=False)]
        rows.append(
            {
                "storage": storage,
                "trials": trials,
                "first, s": first,
                "a trial once warm, s": statistics.median(others),
                "most, s": max(others),
            }
        )
    return BenchTable(
        title="From the start of a trial that does nothing to the start of the next",
        rows=rows,
        note="One worker. The first waits for the server from which trials are forked to import torch.",
    )


class _Clocked(Supervisor):
    """Notes when each trial starts."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.starts: list[float] = []

    def start(self, spec: TrialSpec):  # type: ignore[no-untyped-def]
        self.starts.append(time.perf_counter())
        return super().start(spec)


def _template(plan: Study, folder: Path) -> TrialSpec:
    return TrialSpec(
        study=plan.name, arm=plan.arms[0], seed=0, evaluation=plan.evaluation, dataset=plan.dataset,
        limit=plan.limit, split="test", processes=1, device="cpu", threads=1, folder=folder,
        stages=folder.parent / ".stages",
    )  # fmt: skip


_PARTS = (
    (trial, "load_dataset", "read the worlds that are measured"),
    (trial, "train", "train, with reading the pairs"),
    (embeddings, "encode_items", "encode"),
    (Inverter, "run", "invert"),
    (evaluation, "fit_parts", "fit maps"),
    (evaluation, "pair_records", "gap and factors"),
    (evaluation, "measure", "retrieve, classify and rank"),
    (choices, "measure", "retrieve, classify and rank"),
    (evaluation, "task_pictures", "neighbours and histograms"),
    (Evaluation, "write", "write rows and tables"),
)
_STUDY = """
name = "bench"
seeds = [0]
train = {{ steps = {steps}, checkpoint_every = {steps} }}
axes = [{{ name = "objective.weights.image_ntxent", choices = [0.0, 0.5, 1.0, 1.5, 2.0, 2.5] }}]
cross = true
evaluation = {{ routes = ["chance", "native", "centred"] }}
"""


def _workers(steps: int, progress: Callable[[str], None]) -> BenchTable:
    rows: list[dict[str, Cell]] = []
    for workers in (1, 2):
        progress(f"a study with {workers} workers")
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch) / "bench.toml"
            file.write_text(_STUDY.format(steps=steps))
            command = [
                sys.executable, "-m", "ablations.sweep", "--study", str(file), "--out", f"{scratch}/out",
                "--workers", str(workers),
            ]  # fmt: skip
            started = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            rows.append({"workers": workers, "seconds": time.perf_counter() - started})
    for row in rows:
        row["x one worker"] = float(str(rows[0]["seconds"])) / float(str(row["seconds"]))
    return BenchTable(
        title="Six trials of one thread each, one and two side by side",
        rows=rows,
        note=f"{steps} steps and an evaluation a trial, start of the command and its imports included.",
    )


def parts_of_a_trial(shrink: Callable[[Study], Study], progress: Callable[[str], None]) -> BenchTable:
    """Train and measure the demo's baseline in this process, and say where its processor time goes."""
    plan = shrink(demo())
    progress(f"a trial: {plan.baseline}")
    clock = Clock(time.process_time)
    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as held_open:
        for owner, name, part in _PARTS:
            held_open.enter_context(clock.of(owner, name, part))
        spec = replace(_template(plan, Path(scratch) / "trials" / "trial"), evaluation=plan.evaluation)
        started = time.process_time()
        trial.run_trial(spec)
        total = time.process_time() - started
        ended = read_json(spec.folder / RESULT)
    if ended["state"] != "complete":
        raise RuntimeError(f"the trial that was timed failed: {ended['reason']}")
    torch.set_num_threads(threads)
    spent = clock.spent | {"the rest": total - sum(clock.spent.values())}
    return BenchTable(
        title=f"Where a trial of the demo goes, {total:.0f} s of one core",
        rows=[{"part": part, "s": value, "share": value / total} for part, value in spent.items()],
        note="Processor seconds, each part without those within it; imports are the server's.",
    )
