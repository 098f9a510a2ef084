"""A study from its plan to its rows: what is there already, what is to be done, and how it ended."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch

from ablations.running.folder import STUDY, collect_rows, held, machine
from ablations.running.spec import TrialSpec, result_of, trial_folder
from ablations.running.storage import OWN, open_storage, quiet_optuna, storage_name
from ablations.study.study import Study
from crossgap.cores import own_cores
from crossgap.encoders.devices import resolve_device
from crossgap.errors import InputError
from crossgap.files import read_json
from crossgap.settings.same import check_same


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Where and how a study runs: options of the command."""

    folder: Path
    trials: int | None
    workers: int | None
    threads: int
    device: str
    storage: str
    heartbeat: int
    time_limit: float | None
    memory_limit: float | None


def run_study(plan: Study, run: RunOptions, *, dry_run: bool) -> int:
    """Run what of a study is missing, or only say what that would be; return the exit code.

    Raises:
        InputError: the folder holds another study, what this one asks for cannot be had, or the disk is
            full.
    """
    torch.set_num_threads(1)
    target = resolve_device(run.device)
    pool = _pool(run.device, target)
    _check_same_study(run.folder, plan, machine(target.type, run.threads, storage_name(run.storage)))
    total = min(run.trials or len(plan.cells()), len(plan.cells()))
    if plan.mode != "grid":
        total = run.trials or plan.search.trials
    finished = _finished(plan, run.folder, total)
    if finished and not dry_run:
        return _summary(plan, run.folder, total)
    workers = run.workers
    if workers is None:
        workers = max(1, len(pool)) if target.type == "cuda" else max(1, own_cores() // run.threads)
    template = TrialSpec(
        study=plan.name,
        arm=plan.arm(plan.baseline),
        seed=0,
        evaluation=plan.evaluation,
        dataset=plan.dataset,
        limit=plan.limit,
        split=plan.search.split,
        processes=plan.processes,
        device=target.type,
        threads=run.threads,
        folder=run.folder,
        stages=run.folder.parent / ".stages",
    )
    if not finished:
        from ablations.study.checks import check_study

        for line in check_study(plan):
            print(line, file=sys.stderr)
    if dry_run:
        from ablations.running.estimate import print_plan

        print_plan(plan, run.folder, template, total=total, workers=workers)
        return 0
    return _run_missing(plan, run, template, total=total, workers=workers, pool=pool)


def _run_missing(
    plan: Study, run: RunOptions, template: TrialSpec, *, total: int, workers: int, pool: tuple[int, ...]
) -> int:
    from ablations.running.coordinator import Coordinator, Interrupted
    from ablations.running.supervisor import Limits, Supervisor

    folder = run.folder
    quiet_optuna()
    supervisor = Supervisor(Limits(seconds=run.time_limit, memory=run.memory_limit), pool)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with (
            held(folder) if run.storage in OWN else nullcontext(),
            closing(open_storage(run.storage, folder, heartbeat=run.heartbeat)) as opened,
        ):
            Coordinator(plan, folder, total, template, opened, workers, supervisor).run()
            collect_rows(folder)
    except Interrupted as error:
        print("stopped; the same command goes on", file=sys.stderr)
        return error.code
    return _summary(plan, folder, total)


def _pool(device: str, target: torch.device) -> tuple[int, ...]:
    """Number the CUDA devices that trials are spread over."""
    if target.type != "cuda":
        return ()
    return (target.index,) if target.index is not None else tuple(range(torch.cuda.device_count()))


def _check_same_study(folder: Path, plan: Study, about: dict[str, object]) -> None:
    path = folder / STUDY
    if not path.exists():
        return
    before = read_json(path)
    mode = before.get("mode", "grid")
    if (before["smoke"], mode) != (plan.smoke, plan.mode):
        raise InputError(
            f"{folder} holds the study in mode {mode}{', smoke form' if before['smoke'] else ''}, now it is "
            f"{plan.mode}{', smoke form' if plan.smoke else ''}; give another --out"
        )
    recorded = {**before.get("definition", {}), "machine": before.get("machine")}
    check_same(folder, recorded, {**plan.definition(), "machine": about})


def _finished(plan: Study, folder: Path, total: int) -> bool:
    """Tell whether all that is asked for is there already."""
    if not (folder / "rows.jsonl").exists():
        return False
    if plan.mode == "grid":
        return all(result_of(trial_folder(folder, *cell)) is not None for cell in plan.cells()[:total])
    points = [arm["name"] for arm in read_json(folder / STUDY)["arms"] if arm["name"] != plan.baseline]
    names = [plan.baseline, *points[:total]]
    return len(points) >= total and all(
        result_of(trial_folder(folder, name, seed)) is not None for name in names for seed in plan.seeds
    )


def _summary(plan: Study, folder: Path, total: int) -> int:
    """Say what came of the study; 1 if something has no result, or nothing is complete."""
    cells = plan.cells()[:total]
    if plan.mode != "grid":
        arms = [arm["name"] for arm in read_json(folder / STUDY)["arms"]]
        cells = [(arm, seed) for arm in arms for seed in plan.seeds]
    results = {f"{arm}-s{seed}": result_of(trial_folder(folder, arm, seed)) for arm, seed in cells}
    for name, result in results.items():
        if result is None:
            print(f"{name}: no result; the same command tries it again")
        elif result["state"] == "failed":
            print(f"{name}: failed: {result['reason']} (to try again, remove its result.json)")
    if plan.mode != "grid":
        from ablations.outcome import OUTCOME, lines

        for line in lines(read_json(folder / OUTCOME)):
            print(line)
    for line in _not_measured(plan, folder, results):
        print(line)
    states = [result["state"] for result in results.values() if result is not None]
    done, of = states.count("complete"), len(results)
    others = "".join(f", {states.count(state)} {state}" for state in ("pruned", "skipped") if state in states)
    print(f"study {plan.name}: {done} of {of} trials complete{others} in {folder}")
    return 0 if len(states) == of and done else 1


def _not_measured(plan: Study, folder: Path, trials: Iterable[str]) -> list[str]:
    """Name the routes that were asked for and that trials do not have, with the reason."""
    reasons: Counter[tuple[str, str]] = Counter()
    for trial in trials:
        path = folder / "trials" / trial / "evaluation.json"
        skipped = read_json(path)["skipped"] if path.exists() else {}
        reasons.update(
            (name, reason)
            for name, reason in skipped.items()
            if name.rsplit("/", 1)[-1] in plan.evaluation.routes
        )
    return [
        f"not measured: {name}: {reason} ({count} trial{'s' * (count > 1)})"
        for (name, reason), count in reasons.items()
    ]
