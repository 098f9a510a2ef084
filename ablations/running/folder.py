"""The folder of a study: who holds it, what ``study.json`` says, its rows, and how often a trial began."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ablations.running.spec import TrialSpec, result_of, trial_folder, write_failure
from ablations.running.storage import MOST_RETRIES
from ablations.study.axes import Settings
from ablations.study.study import Study
from crossgap.errors import InputError
from crossgap.files import HeldError, claimed, read_json, write_json, write_text

STUDY = "study.json"
_COORDINATOR = ".coordinator.json"
_ATTEMPTS = "attempts.json"
_MOST_WAIT = 120  # seconds; a coordinator writes study.json in a few milliseconds


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the folder of a study as its only coordinator.

    Raises:
        InputError: another process does, named by its id.
    """
    folder.mkdir(parents=True, exist_ok=True)
    about = folder / _COORDINATOR
    try:
        with claimed(folder):
            write_json(about, {"pid": os.getpid(), "host": socket.gethostname()})
            yield
    except HeldError as error:
        holder = read_json(about) if about.exists() else {}
        who = f"process {holder.get('pid', '?')} on {holder.get('host', 'an unknown machine')}"
        raise InputError(
            f"another sweep ({who}) is running in {folder}; wait for it, or choose another --out"
        ) from error


def machine(device: str, threads: int, storage: str) -> dict[str, object]:
    """Say what of a machine decides bits, and where the study is kept."""
    return {"device": device, "threads": threads, "storage": storage}


def collect_rows(folder: Path) -> None:
    """Write the study's own rows: those of its complete trials, in the order of its arms and seeds."""
    study = read_json(folder / STUDY)
    paths = [
        trial_folder(folder, arm["name"], seed) / "rows.jsonl"
        for seed in study["seeds"]
        for arm in study["arms"]
    ]
    text = "".join(path.read_text("utf-8") for path in paths if path.exists())
    if not (folder / "rows.jsonl").exists() or (folder / "rows.jsonl").read_text("utf-8") != text:
        write_text(folder / "rows.jsonl", text)


@contextmanager
def held_for_a_moment(folder: Path, *, shared: bool) -> Iterator[None]:
    """Keep other coordinators from the files of a study; one whose storage is not shared holds it anyway.

    Raises:
        InputError: another one does not let go of them, as when it was stopped (Ctrl-Z) in the middle.
    """
    with ExitStack() as stack:
        if shared:
            try:
                stack.enter_context(claimed(folder, wait=_MOST_WAIT))
            except HeldError as error:
                raise InputError(
                    f"another sweep has held the files of {folder} for {_MOST_WAIT} s; end it (perhaps "
                    "it was stopped by Ctrl-Z), and the same command goes on"
                ) from error
        yield


def write_study(
    folder: Path, plan: Study, machine_here: Mapping[str, object], points: Mapping[int, Settings]
) -> None:
    """Write ``study.json``: what was asked for here and before, and the points drawn so far."""
    path = folder / STUDY
    before = read_json(path) if path.exists() else {}
    seeds = tuple(sorted({*plan.seeds, *before.get("seeds", [])}))
    document: dict[str, Any] = {**replace(plan, seeds=seeds).as_json(), "machine": machine_here}
    names = [axis.name for axis in plan.axes]
    for number, params in sorted(points.items()):
        arm = plan.point(number, {name: params[name] for name in names if name in params})
        about = {"name": arm.name, "label": arm.label, "description": arm.description}
        document["arms"].append(about)
    if document != before:
        write_json(path, document)


def progress(folder: Path, plan: Study, total: int) -> tuple[int, int]:
    """Count the models of a study that are finished, and those that there will be."""
    if plan.mode != "grid":
        done = len(list(folder.glob("trials/*/result.json")))
        return done, max(done, (total + 1) * len(plan.seeds))
    cells = plan.cells()[:total]
    return sum(result_of(trial_folder(folder, *cell)) is not None for cell in cells), len(cells)


def try_again(spec: TrialSpec) -> bool:
    """Count a start of a trial; after two retries of one that never ended it is given up."""
    path = spec.folder / _ATTEMPTS
    started = read_json(path)["started"] if path.exists() else 0
    if started > MOST_RETRIES:
        reason = (
            f"given up: {started} times its process or the study's ended before it had a result; "
            f"to try again, remove {_ATTEMPTS} and result.json"
        )
        write_failure(spec, reason)
        return False
    write_json(path, {"started": started + 1})
    return True


def forget_attempt(folder: Path) -> None:
    """Take back the count of a trial that was stopped cleanly."""
    path = folder / _ATTEMPTS
    if path.exists():
        write_json(path, {"started": max(0, read_json(path)["started"] - 1)})
