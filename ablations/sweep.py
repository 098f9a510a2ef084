"""``python -m ablations.sweep``: run a study with Optuna, resumably, on every core.

python -m ablations.sweep                      # the demo study into runs/demo
python -m ablations.sweep --study demo --smoke # the same path in its smallest form
"""

from __future__ import annotations

import inspect
import os
import sys
from collections import Counter
from collections.abc import Iterable
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import tyro

from ablations.outcome import OUTCOME, lines
from ablations.running.coordinator import Coordinator, Interrupted
from ablations.running.estimate import print_plan
from ablations.running.folder import STUDY, collect_rows, held, machine
from ablations.running.storage import OWN, open_storage, quiet_optuna, storage_name
from ablations.running.supervisor import Limits, Supervisor
from ablations.running.trial import TrialSpec, result_of, trial_folder
from ablations.search import Mode
from ablations.study.changed import SETTINGS, changed_study
from ablations.study.checks import check_study
from ablations.study.files import find_study
from ablations.study.named import STUDIES
from ablations.study.smoke import smoke as shrink
from ablations.study.study import Study
from crossgap.command import run_command
from crossgap.encoders.devices import resolve_device
from crossgap.errors import InputError
from crossgap.files import check_place, read_json
from crossgap.settings.changes import as_table, nested, overlaid
from crossgap.settings.documents import write_yaml
from crossgap.settings.options import NO_CHANGES, Changes
from crossgap.settings.same import check_same

_STUDIES = (
    f"name of a study ({', '.join(STUDIES)}), or a file that describes one (.toml, .yaml, .py; "
    "docs/studies.md)."
)


def main(
    *,
    study: Annotated[str, tyro.conf.arg(help=_STUDIES)] = "demo",
    data: str | None = None,
    mode: Mode | None = None,
    smoke: bool = False,
    out: Path | None = None,
    trials: int | None = None,
    seeds: int | None = None,
    workers: int | None = None,
    threads: int = 1,
    device: str = "auto",
    storage: str = "journal",
    heartbeat: int = 60,
    time_limit: float | None = None,
    memory_limit: float | None = None,
    dry_run: bool = False,
    changes: Changes = NO_CHANGES,
) -> int:
    """Run a study; the same command resumes it, and does nothing when it is finished.

    Args:
        data: world of a named study: scenes or emoji; default: scenes, of map emoji.
        mode: grid (designed arms), qmc (points spread evenly), tune (the best point) or pareto (the best
            compromises); default: the study's.
        smoke: its smallest form, with one or two of its seeds; the numbers mean nothing.
        out: folder of the study; default runs/<study>, with -<data>, -<mode> and -smoke where given.
        trials: total number of trials, counting those already done: cells (arm and seed) of a grid, by
            default all; points of a search, each with every seed.
        seeds: how many seeds, counted from 0; default: the study's.
        workers: trials side by side; default: one for every --threads cores, one for each GPU.
        threads: CPU threads of a trial; results are bit-equal for the same number.
        device: auto, cpu, cuda (all GPUs, a trial on each), ...
        storage: where Optuna keeps the study: journal or sqlite, in its folder; or, for several machines,
            env:NAME of an environment variable that holds a database's URL.
        heartbeat: seconds between life signs of running trials in a database; after three without one,
            another machine takes the trial over.
        time_limit: seconds by the clock after which a trial is ended and counts as failed.
        memory_limit: GiB that a trial may hold, with all its processes.
        dry_run: list the trials and the estimated time, train nothing.
    """
    counts = {"trials": trials, "seeds": seeds, "workers": workers, "threads": threads}
    for name, value in {**counts, "heartbeat": heartbeat}.items():
        if value is not None and value < 1:
            raise InputError(f"--{name} must be at least 1, not {value}")
    for name, limit in {"time-limit": time_limit, "memory-limit": memory_limit}.items():
        if limit is not None and limit <= 0:
            raise InputError(f"--{name} must be above 0, not {limit:g}")
    settings = overlaid(changes.file, changes.given)
    plan = changed_study(_plan(study, data, mode, smoke=smoke, seeds=seeds), settings)
    if changes.show:
        changes.print(nested(settings))
        print("".join(f"# {line}\n" for line in _resolved(plan)), end="")
        return 0
    target = resolve_device(device)
    pool = _pool(device, target)
    folder = out or Path("runs") / "-".join(
        (plan.name, *filter(None, (data, mode)), *(("smoke",) if smoke else ()))
    )
    check_place(folder)
    if workers is None:
        workers = max(1, len(pool)) if target.type == "cuda" else max(1, _cores() // threads)
    about = machine(target.type, threads, storage_name(storage))
    _check_same_study(folder, plan, about)
    total = min(trials or len(plan.cells()), len(plan.cells()))
    if plan.mode != "grid":
        total = trials or plan.search.trials
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
        threads=threads,
        folder=folder,
        stages=folder.parent / ".stages",
    )
    finished = _finished(plan, folder, total)
    if not finished:
        for line in check_study(plan):
            print(line, file=sys.stderr)
    if dry_run:
        print_plan(plan, folder, template, total=total, workers=workers)
        return 0
    if not finished:
        quiet_optuna()
        supervisor = Supervisor(Limits(seconds=time_limit, memory=memory_limit), pool)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with (
                held(folder) if storage in OWN else nullcontext(),
                closing(open_storage(storage, folder, heartbeat=heartbeat)) as opened,
            ):
                Coordinator(plan, folder, total, template, opened, workers, supervisor).run()
                collect_rows(folder)
        except Interrupted as error:
            print("stopped; the same command goes on", file=sys.stderr)
            return error.code
    return _summary(plan, folder, total)


def _plan(study: str, data: str | None, mode: Mode | None, *, smoke: bool, seeds: int | None) -> Study:
    whole = plan = find_study(study, data)
    if smoke:
        plan = shrink(plan)
    if seeds is not None:
        plan = replace(plan, seeds=tuple(range(seeds)))
    if smoke:
        print(_smaller(whole, plan), file=sys.stderr)
    return plan if mode in (None, plan.mode) else plan.in_mode(mode)


def _resolved(plan: Study) -> list[str]:
    """Write the inversion plans that a study comes to, presets and smoke form filled in, line by line."""
    own = [arm.name for arm in plan.arms if arm.evaluation is not None]
    lines = ["what the inversion plans come to (read back from these lines is nothing):"]
    for into, made in plan.evaluation.plans.items():
        values = as_table(made, made)
        settings = values.pop("config") | {name: value for name, value in values.items() if value != []}
        lines += write_yaml({into: settings}).splitlines()
    return lines + ([f"with plans of their own: {', '.join(own)}"] if own else [])


def _smaller(whole: Study, small: Study) -> str:
    """Say what the smoke form of a study leaves out."""
    kept = ", ".join(map(str, small.seeds))
    seeds = f"seed{'s' * (len(small.seeds) > 1)} {kept}"
    if len(small.seeds) < len(whole.seeds):
        seeds += f" of {len(whole.seeds)} (--seeds {len(whole.seeds)} runs them all)"
    steps = small.arm(small.baseline).train.steps
    return (
        f"smoke form of {whole.name}: {seeds}, {steps} steps of training, {small.limit} items a task; its "
        "numbers mean nothing"
    )


def _cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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


# what --set changes, but for what has an option of its own
PATHS = tuple(name for name in SETTINGS if name not in inspect.signature(main).parameters)
EXAMPLE = "model.width=64 evaluation.text.steps=20"

if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(run_command(main, settings=PATHS, example=EXAMPLE))
