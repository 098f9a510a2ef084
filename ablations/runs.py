"""``python -m ablations.runs``: look into the folder of a study.

python -m ablations.runs status runs/demo
python -m ablations.runs export runs/demo --to rows.csv
python -m ablations.runs show runs/demo baseline-s0
python -m ablations.runs objectives
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ablations.objectives import OBJECTIVES
from crossgap.command import run_commands
from crossgap.errors import InputError, check_known
from crossgap.files import LOCK, RESULT, HeldError, atomic_path, claimed, read_json, read_lines, read_object
from crossgap.reading.setting_columns import with_inversion, with_inversions, with_settings
from crossgap.reading.treatment import configuration
from crossgap.records import read_rows

_WIDE = 100_000  # characters of a line that is written to no terminal


def status(folder: Annotated[Path, tyro.conf.Positional]) -> int:
    """List a study's trials: complete, failed with the reason, or how far they are.

    Args:
        folder: the study's folder, as runs/demo.
    """
    study = _study(folder)
    table = Table(title=f"{study['study']}: {study['description']}")
    for column in ("trial", "what it is", "state", "last step", "native mAP", "centroid distance"):
        table.add_column(column, overflow="fold")
    for name, arm in _trials(study).items():
        row = (name, arm.get("label", ""), *_state(folder / "trials" / name))
        table.add_row(*(Text(cell) for cell in row))
    _print(table)
    return 0


def export(folder: Annotated[Path, tyro.conf.Positional], *, to: Path) -> int:
    """Write a study's rows as one CSV or parquet table, with labels and a column for each varying setting.

    Args:
        folder: the study's folder, as runs/demo.
        to: file ending in .csv or .parquet.
    """
    study = _study(folder)
    writers: dict[str, Callable[[Any, Path], None]] = {
        ".csv": lambda frame, path: frame.to_csv(path, index=False),
        ".parquet": lambda frame, path: frame.to_parquet(path, index=False),
    }
    check_known(to.suffix, writers, "ending of --to")
    paths = [folder / "trials" / name / "rows.jsonl" for name in _trials(study)]
    configs: dict[str, dict[str, Any]] = {}
    for arm in study["arms"]:
        for seed in study["seeds"]:
            path = folder / "trials" / f"{arm['name']}-s{seed}" / "config.json"
            if path.exists():
                config = configuration(read_json(path))
                configs.setdefault(arm["name"], with_inversion(config, path.parent))
    rows = read_rows([path for path in paths if path.exists()])
    labels = {arm["name"]: str(arm.get("label") or arm["name"]) for arm in study["arms"]}
    frame = with_inversions(with_settings(rows, configs, labels))
    with atomic_path(to) as temporary:
        writers[to.suffix](frame, temporary)
    print(f"{to}: {len(frame)} rows")
    return 0


def show(folder: Annotated[Path, tyro.conf.Positional], trial: Annotated[str, tyro.conf.Positional]) -> int:
    """Print one trial's settings and result as JSON.

    Args:
        folder: the study's folder, as runs/demo.
        trial: its name, as baseline-s0.
    """
    trials = _trials(_study(folder))
    check_known(trial, trials, f"trial of {folder}")
    place = folder / "trials" / trial
    files = [place / name for name in ("config.json", RESULT)]
    shown = {path.stem: read_json(path) if path.exists() else None for path in files}
    about = {name: trials[trial].get(name, "") for name in ("label", "description")}
    print(json.dumps({**about, "state": _state(place)[0], **shown}, indent=2))
    return 0


def _study(folder: Path) -> dict[str, Any]:
    path = folder / "study.json"
    if not path.exists():
        raise InputError(f"{folder} is not the folder of a study: it has no study.json")
    study = read_object(path)
    arms, seeds = study.get("arms"), study.get("seeds")
    listed = isinstance(arms, list) and isinstance(seeds, list)
    if not listed or not all(isinstance(arm, dict) and "name" in arm for arm in arms or ()):
        raise InputError(f"{path} does not name arms and seeds: it is not the file of a study")
    return study


def _trials(study: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Give the trials of a study by name, each with what the study says of its arm."""
    return {f"{arm['name']}-s{seed}": arm for seed in study["seeds"] for arm in study["arms"]}


def _state(trial: Path) -> tuple[str, str, str, str]:
    metrics = trial / "metrics.jsonl"
    lines = read_lines(metrics) if metrics.exists() else []
    step = str(lines[-1]["step"]) if lines else "-"
    if not (trial / RESULT).exists():
        return _unfinished(trial, lines[-1]["step"] if lines else 0), step, "-", "-"
    result = read_json(trial / RESULT)
    if result["state"] != "complete":
        return f"{result['state']}: {result['reason']}", step, "-", "-"
    values = (result["objectives"][name] for name in ("intra_modal", "gap"))
    mean_precision, distance = ("-" if value is None else f"{value:.3f}" for value in values)
    return "complete", step, mean_precision, distance


def _unfinished(trial: Path, step: int) -> str:
    """Say of a trial without a result whether it runs, on this machine or by a lock that is seen here."""
    if not (trial / LOCK).exists():
        return "not started"
    try:
        with claimed(trial):
            return f"interrupted at step {step}" if step else "interrupted before its first step"
    except HeldError:
        return "running"


def objectives() -> int:
    """List what a study can aim at: the names for search.<mode>.objectives and at_most of a study file."""
    table = Table()
    for column in ("objective", "better", "what it is"):
        table.add_column(column, overflow="fold")
    for name, objective in OBJECTIVES.items():
        table.add_row(
            name, {"maximize": "high", "minimize": "low"}[objective.direction], objective.description
        )
    _print(table)
    return 0


def _print(table: Table) -> None:
    """Print a table, in a file or a pipe without breaking its lines."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDE)
    console.print(table)


COMMANDS: dict[str, Callable[..., int]] = {
    "status": status,
    "export": export,
    "show": show,
    "objectives": objectives,
}


if __name__ == "__main__":
    sys.exit(run_commands(COMMANDS))
