"""``python -m ablations.sweep``: run a study with Optuna, resumably, on every core.

python -m ablations.sweep                      # the demo study into runs/demo
python -m ablations.sweep --study demo --smoke # the same path in its smallest form
"""

from __future__ import annotations

import math
import multiprocessing
import os
import sys
import threading
from dataclasses import replace
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path

import optuna
import torch
from filelock import FileLock, Timeout
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from ablations.recipes import STUDIES
from ablations.recipes import smoke as shrink
from ablations.space import Cell, cell_params, suggest_cell
from ablations.status import Display
from ablations.study import Study
from ablations.trial import TrialSpec, result_of, run_trial, trial_folder
from crossgap.command import run_command
from crossgap.encoders import resolve_device
from crossgap.errors import InputError, check_known
from crossgap.records import read_json, write_json, write_text
from crossgap.settings import check_same

_METRICS = ("native mAP", "centroid distance")


def main(
    *,
    study: str = "demo",
    smoke: bool = False,
    out: Path | None = None,
    trials: int | None = None,
    seeds: int | None = None,
    workers: int | None = None,
    threads: int = 1,
    device: str = "auto",
    dry_run: bool = False,
) -> int:
    """Run a study; the same command resumes it, and does nothing when it is finished.

    Args:
        study: name of a study.
        smoke: its smallest form; the numbers mean nothing.
        out: folder of the study; default runs/<study>, or runs/<study>-smoke.
        trials: total number of trials, counting those already done; default: every arm with every seed.
        seeds: how many seeds, counted from 0; default: the study's.
        workers: trials side by side; default: one for every --threads cores, one on a GPU.
        threads: CPU threads of a trial; results are bit-equal for the same number.
        device: auto, cpu, cuda, ...
        dry_run: list the trials and the estimated time, run nothing.
    """
    check_known(study, STUDIES, "study")
    for name, value in {"trials": trials, "seeds": seeds, "workers": workers, "threads": threads}.items():
        if value is not None and value < 1:
            raise InputError(f"--{name} must be at least 1, not {value}")
    target = resolve_device(device)
    plan = shrink(STUDIES[study]()) if smoke else STUDIES[study]()
    if seeds is not None:
        plan = replace(plan, seeds=tuple(range(seeds)))
    folder = out or Path("runs") / (f"{study}-smoke" if smoke else study)
    cells = plan.cells()[:trials]
    if workers is None:
        workers = 1 if target.type == "cuda" else max(1, _cores() // threads)
    machine = {"device": str(target), "threads": threads}
    _check_same_study(folder, plan, machine)
    specs = {
        cell: TrialSpec(
            study=plan,
            arm=cell[0],
            seed=cell[1],
            device=str(target),
            threads=threads,
            folder=trial_folder(folder, *cell),
        )
        for cell in cells
    }
    missing = [cell for cell, spec in specs.items() if result_of(spec.folder) is None]
    if dry_run:
        _print_plan(plan, specs, missing, workers)
        return 0
    if missing or not (folder / "rows.jsonl").exists():
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(folder / ".lock", timeout=0):
                write_json(
                    folder / "study.json",
                    {**replace(plan, seeds=_all_seeds(folder, plan)).as_json(), "machine": machine},
                )
                _sweep(plan, specs, folder, workers)
                _collect_rows(folder, plan)
        except Timeout as error:
            raise InputError(
                f"another sweep is running in {folder}; wait for it or choose another --out"
            ) from error
    return _summary(plan, specs, folder)


def _cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check_same_study(folder: Path, plan: Study, machine: dict[str, object]) -> None:
    path = folder / "study.json"
    if not path.exists():
        return
    before = read_json(path)
    recorded = {**before.get("definition", {}), "machine": before.get("machine")}
    check_same(folder, recorded, {**plan.definition(), "machine": machine})


def _print_plan(plan: Study, specs: dict[Cell, TrialSpec], missing: list[Cell], workers: int) -> None:
    for (arm, seed), spec in specs.items():
        result = result_of(spec.folder)
        print(f"{arm}-s{seed}: {'to run' if result is None else result['state']}")
    rounds = math.ceil(len(missing) / workers)
    minutes = rounds * plan.core_seconds / 60
    print(
        f"{len(missing)} of {len(specs)} trials to run, {workers} at a time: about {minutes:.0f} minutes "
        f"({plan.core_seconds:.0f} s a trial, as measured on one core of a two-core machine)"
    )


def _sweep(plan: Study, specs: dict[Cell, TrialSpec], folder: Path, workers: int) -> None:
    """Run the missing cells in worker processes; the caller holds the study's lock."""
    study = _open_study(folder, plan)
    _settle(study, specs)
    missing = [cell for cell, spec in specs.items() if result_of(spec.folder) is None]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ablations.trial"])
    running: dict[int, tuple[BaseProcess, Trial, TrialSpec]] = {}
    with Display(len(specs), len(specs) - len(missing)) as display:
        try:
            while True:
                while missing and len(running) < workers:
                    cell = missing.pop(0)
                    trial, spec = _ask(study, plan, cell), specs[cell]
                    process: BaseProcess = context.Process(target=_work, args=(spec,), daemon=True)
                    process.start()
                    running[process.sentinel] = (process, trial, spec)
                    display.started(spec)
                if not running:
                    return
                for sentinel in wait(list(running), timeout=1.0):
                    process, trial, spec = running.pop(int(str(sentinel)))
                    process.join()
                    _tell(study, trial, spec, process.exitcode)
                    display.finished(spec, result_of(spec.folder), process.exitcode)
                display.update()
        finally:
            for process, _, _ in running.values():
                process.terminate()


def _work(spec: TrialSpec) -> None:
    """Run a trial in a process that ends when the sweep that started it has ended."""
    threading.Thread(target=_follow_parent, daemon=True).start()
    run_trial(spec)


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _open_study(folder: Path, plan: Study) -> optuna.Study:
    """Open the study's journal; a line that a killed writer left torn is cut off."""
    journal = folder / "journal.log"
    (folder / "journal.log.lock").unlink(missing_ok=True)
    if journal.exists() and (data := journal.read_bytes()) and not data.endswith(b"\n"):
        write_text(journal, data[: data.rfind(b"\n") + 1].decode())
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(
        study_name=plan.name,
        storage=JournalStorage(JournalFileBackend(str(journal))),
        directions=["maximize", "minimize"],
        sampler=optuna.samplers.RandomSampler(seed=0),
        load_if_exists=True,
    )


def _settle(study: optuna.Study, specs: dict[Cell, TrialSpec]) -> None:
    """Bring the journal in line with the folders: nobody else runs, so a trial still running is not."""
    study.set_user_attr("metrics", list(_METRICS))
    folders = {cell: spec.folder for cell, spec in specs.items()}
    for frozen in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        cell = _cell_of(frozen)
        result = result_of(folders[cell]) if cell in folders else None
        if result is None:
            study.tell(frozen.number, state=TrialState.FAIL)
        else:
            _tell_result(study, frozen.number, result)


def _ask(study: optuna.Study, plan: Study, cell: Cell) -> Trial:
    """Let Optuna start a trial of ``cell``; one left in the queue by an interrupted sweep is closed."""
    study.enqueue_trial(cell_params(cell))
    while True:
        trial = study.ask()
        if suggest_cell(trial, plan) == cell:
            return trial
        study.tell(trial, state=TrialState.FAIL)


def _cell_of(frozen: FrozenTrial) -> Cell:
    params = {**frozen.system_attrs.get("fixed_params", {}), **frozen.params}
    return str(params["arm"]), int(params["seed"])


def _tell(study: optuna.Study, trial: Trial, spec: TrialSpec, exit_code: int | None) -> None:
    result = result_of(spec.folder)
    if result is None:
        trial.set_user_attr("reason", f"its process ended with code {exit_code} before it had a result")
        study.tell(trial, state=TrialState.FAIL)
        return
    if result["state"] == "failed":
        trial.set_user_attr("reason", result["reason"])
    _tell_result(study, trial.number, result)


def _tell_result(study: optuna.Study, number: int, result: dict[str, object]) -> None:
    values = [result.get("native_mAP"), result.get("centroid_distance")]
    if result["state"] == "failed" or None in values:
        study.tell(number, state=TrialState.FAIL)
    else:
        study.tell(number, [float(str(value)) for value in values])


def _all_seeds(folder: Path, plan: Study) -> tuple[int, ...]:
    """Return the seeds of this call and of the calls before it."""
    path = folder / "study.json"
    before = read_json(path)["seeds"] if path.exists() else []
    return tuple(sorted({*plan.seeds, *before}))


def _collect_rows(folder: Path, plan: Study) -> None:
    """Write the study's own rows: those of its complete trials, in the order of its cells."""
    cells = replace(plan, seeds=_all_seeds(folder, plan)).cells()
    paths = [trial_folder(folder, *cell) / "rows.jsonl" for cell in cells]
    write_text(folder / "rows.jsonl", "".join(path.read_text("utf-8") for path in paths if path.exists()))


def _summary(plan: Study, specs: dict[Cell, TrialSpec], folder: Path) -> int:
    results = {cell: result_of(spec.folder) for cell, spec in specs.items()}
    complete = sum(result is not None and result["state"] == "complete" for result in results.values())
    for (arm, seed), result in results.items():
        if result is None:
            print(f"{arm}-s{seed}: no result; the same command tries it again")
        elif result["state"] == "failed":
            print(f"{arm}-s{seed}: failed: {result['reason']} (to try again, remove its result.json)")
    print(f"study {plan.name}: {complete} of {len(specs)} trials complete in {folder}")
    return 0 if all(results.values()) else 1


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(run_command(main))
