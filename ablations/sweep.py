"""``python -m ablations.sweep``: run a study with Optuna, resumably, on every core.

python -m ablations.sweep                      # the demo study into runs/demo
python -m ablations.sweep --study demo --smoke # the same path in its smallest form
"""

from __future__ import annotations

import inspect
import sys
from dataclasses import replace
from itertools import chain, count, islice
from pathlib import Path
from typing import Annotated

import tyro

from ablations.search import Mode
from ablations.study.changed import SETTINGS, changed_study
from ablations.study.files import find_study
from ablations.study.named import STUDIES
from ablations.study.smoke import smoke as shrink
from ablations.study.study import Study
from crossgap.command import run_command
from crossgap.errors import InputError
from crossgap.files import check_place
from crossgap.settings.changes import as_table, nested, overlaid
from crossgap.settings.documents import write_yaml
from crossgap.settings.options import NO_CHANGES, Changes

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
        seeds: how many seeds: the study's first ones, then those that follow its last; default: the study's.
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
    folder = out or Path("runs") / "-".join(
        (plan.name, *filter(None, (data, mode)), *(("smoke",) if smoke else ()))
    )
    check_place(folder, own="study.json")
    # only now, so that --help answers at once: this loads torch
    from ablations.running.run import RunOptions, run_study

    run = RunOptions(
        folder=folder,
        trials=trials,
        workers=workers,
        threads=threads,
        device=device,
        storage=storage,
        heartbeat=heartbeat,
        time_limit=time_limit,
        memory_limit=memory_limit,
    )
    return run_study(plan, run, dry_run=dry_run)


def _plan(study: str, data: str | None, mode: Mode | None, *, smoke: bool, seeds: int | None) -> Study:
    whole = plan = find_study(study, data)
    if smoke:
        plan = shrink(plan)
    if seeds is not None:
        later = count(max(plan.seeds) + 1)
        plan = replace(plan, seeds=tuple(islice(chain(plan.seeds, later), seeds)))
    if smoke:
        print(_smaller(whole, plan), file=sys.stderr)
    return plan if mode in (None, plan.mode) else plan.in_mode(mode)


def _resolved(plan: Study) -> list[str]:
    """Write the inversion plans that a study comes to, presets and smoke form filled in, line by line."""
    own = [arm.name for arm in plan.arms if arm.evaluation is not None]
    lines = ["what the inversion plans come to (read back from these lines is nothing):"]
    for into, inversion in plan.evaluation.plans.items():
        values = as_table(inversion, inversion)
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


# what --set changes; the rest has options of its own
PATHS = tuple(name for name in SETTINGS if name not in inspect.signature(main).parameters)
EXAMPLE = "model.width=64 evaluation.text.steps=20"

if __name__ == "__main__":
    sys.exit(run_command(main, settings=PATHS, example=EXAMPLE))
