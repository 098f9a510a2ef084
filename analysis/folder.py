"""One study, or one evaluated model, read from its folder into frames."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from crossgap.errors import InputError
from crossgap.files import RESULT, read_json, read_lines, read_object
from crossgap.reading.query_table import join, read_queries
from crossgap.reading.setting_columns import with_inversion
from crossgap.reading.treatment import configuration
from crossgap.records import TABLES, check_columns, numeric, read_rows, read_table

TRIAL_COLUMNS = ("arm", "seed", "state", "reason", "step", "seconds", "log", "pairs_seen")
VALIDATED = "validation/"  # before a column of training that a checkpoint was measured for
QUOTED_METRICS = ("mAP", "hit@1")  # of per_query.parquet; the others are read from rows


@dataclass(frozen=True, kw_only=True)
class RecordedArm:
    """One arm of a study: the name used in rows, the label for readers, what it changes."""

    name: str
    label: str
    description: str = ""


@dataclass(frozen=True, kw_only=True)
class JoinedStudy:
    """One of the studies that share a report: ``arms``, its own names of them -> those in the report."""

    name: str
    arms: Mapping[str, str]
    baseline: str | None


@dataclass(frozen=True, kw_only=True)
class RecordedStudy:
    """Everything that a report draws from.

    Models are identified by (arm, seed). ``trials`` has one row for each model that was wanted, with its
    state: complete, trained (not measured), failed (with the reason, and how its log ends), unfinished (no
    result yet) or missing (no folder). Rows and tables hold complete models only; ``training`` holds the
    curves of all, ``configs`` the training's configuration by arm, where it was written, and ``acts_on`` what
    each term of its objective acts on (image, text, both, across), where the training wrote that, and
    ``changed`` what it changed in its recipe (setting -> the recipe's value, its own). ``mode`` says how the
    arms were drawn ("grid"). ``parts``: the studies that it was joined from, where there are several.
    """

    name: str
    description: str
    arms: tuple[RecordedArm, ...]
    baseline: str | None
    seeds: tuple[int, ...]
    smoke: bool
    selection: str
    trials: pd.DataFrame
    rows: pd.DataFrame
    per_query: pd.DataFrame
    neighbours: pd.DataFrame
    projection: pd.DataFrame
    histograms: pd.DataFrame
    training: pd.DataFrame
    mode: str = ""
    configs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    acts_on: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    changed: Mapping[str, Mapping[str, Sequence[Any]]] = field(default_factory=dict)
    title: str = ""
    parts: tuple[JoinedStudy, ...] = ()

    @property
    def heading(self) -> str:
        """What a report is called: its title, or the name of what was run."""
        return self.title or self.name

    def label(self, arm: str) -> str:
        """Return the label of an arm."""
        return self.labels[arm]

    @property
    def labels(self) -> dict[str, str]:
        """Labels by arm, in the order of the study."""
        return {arm.name: arm.label for arm in self.arms}

    @property
    def arm_names(self) -> list[str]:
        """Names of the arms in the order of the study."""
        return [arm.name for arm in self.arms]


# what is known of each arm, and under which key config.json has it
BY_ARM = {"configs": "config", "acts_on": "acts_on", "changed": "changed"}
FRAMES = ("trials", "rows", "per_query", "neighbours", "projection", "histograms", "training")


def read_run(folder: Path) -> RecordedStudy:
    """Read a study, the --out folder of an evaluation, or a training that nothing was measured of.

    Raises:
        InputError: it is none of them, or no row was written by the evaluation.
    """
    if not folder.is_dir():
        raise InputError(
            f"{folder}: no such folder; give a study folder or the --out folder of an evaluation"
        )
    if (folder / "study.json").exists():
        return _read_study(folder)
    if not (folder / "rows.jsonl").exists():
        if (folder / "metrics.jsonl").exists() and (folder / "config.json").exists():
            return _read_training(folder)
        raise InputError(
            f"{folder}: neither study.json nor rows.jsonl nor metrics.jsonl lies here, so it is not a study, "
            "not an evaluated run and not a training; sweep, evaluate or train first, or name another folder"
        )
    rows = _read_rows([folder])
    if rows.empty:
        raise InputError(f"{folder / 'rows.jsonl'}: no row was written into it; evaluate again")
    models = rows[["arm", "seed"]].drop_duplicates()
    trials = pd.DataFrame(
        [(arm, seed, "complete", "", None, None, "", None) for arm, seed in models.itertuples(index=False)],
        columns=list(TRIAL_COLUMNS),
    )
    config = folder / "config.json"
    about = read_json(config) if config.exists() else {}
    label = about.get("label") if about.get("arm") in set(rows["arm"]) else None
    arms = tuple(RecordedArm(name=arm, label=str(label or arm)) for arm in dict.fromkeys(rows["arm"]))
    training = _training(folder, str(rows["arm"].iloc[0]), int(rows["seed"].iloc[0]))
    return RecordedStudy(
        name=", ".join(dict.fromkeys(rows["study"])) or folder.name,
        description="",
        arms=arms,
        baseline=None,
        seeds=tuple(sorted(set(models["seed"]))),
        smoke=bool(rows["study"].str.endswith(", smoke").any()),
        selection="",
        trials=trials,
        rows=rows,
        training=pd.DataFrame() if training is None else training,
        **_settings((str(arm), folder) for arm in dict.fromkeys(rows["arm"])),
        **_read_tables([folder]),
    )


def _read_training(folder: Path) -> RecordedStudy:
    """Read a training alone: its curves, and what was trained."""
    path = folder / "config.json"
    document = read_object(path)
    config = document.get("config")
    if not isinstance(config, Mapping) or "seed" not in config:
        raise InputError(f"{path} is not the config of a training run; name the folder of one")
    arm, seed = str(document.get("arm", config.get("recipe", folder.name))), int(config["seed"])
    training = _training(folder, arm, seed)
    if training is None:
        raise InputError(f"{folder / 'metrics.jsonl'}: no step was written into it yet; wait for the first")
    trial = _trial(arm, seed, folder)
    return RecordedStudy(
        name=folder.name,
        description="A training of which nothing was measured yet: python -m crossgap.evaluate measures it.",
        arms=(RecordedArm(name=arm, label=str(document.get("label", arm))),),
        baseline=None,
        seeds=(seed,),
        smoke=False,
        selection="",
        trials=pd.DataFrame([trial], columns=list(TRIAL_COLUMNS)),
        rows=_read_rows([]),
        training=training,
        **_settings([(arm, folder)]),
        **_read_tables([]),
    )


def _read_study(folder: Path) -> RecordedStudy:
    path = folder / "study.json"
    document = read_object(path)
    arms = _arms(document, path)
    try:
        seeds = tuple(int(seed) for seed in document.get("seeds", ()))
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: 'seeds' must be a list of whole numbers ({error})") from error
    wanted: dict[tuple[str, int], Path] = {}
    for trial in sorted((folder / "trials").glob("*")):
        match = re.fullmatch(r"(?P<arm>.+)-s(?P<seed>\d+)", trial.name)
        if trial.is_dir() and match:
            wanted[match["arm"], int(match["seed"])] = trial
    for arm in arms:
        for seed in seeds:
            wanted.setdefault((arm.name, seed), folder / "trials" / f"{arm.name}-s{seed}")
    named = [arm.name for arm in arms]
    arms += tuple(
        RecordedArm(name=name, label=name)
        for name in dict.fromkeys(key[0] for key in wanted)
        if name not in named
    )
    order = {arm.name: position for position, arm in enumerate(arms)}
    keys = sorted(wanted, key=lambda key: (order[key[0]], key[1]))
    trials = pd.DataFrame([_trial(*key, wanted[key]) for key in keys], columns=list(TRIAL_COLUMNS))
    complete = [wanted[key] for key, state in zip(keys, trials["state"], strict=True) if state == "complete"]
    training = [frame for key in keys if (frame := _training(wanted[key], *key)) is not None]
    rows = _read_rows(complete)
    strangers = sorted(set(rows["arm"]) - set(order))
    if strangers:
        raise InputError(f"{folder}: rows of the arms {strangers}, which no trial folder or study.json names")
    return RecordedStudy(
        name=str(document.get("study", folder.name)),
        description=str(document.get("description", "")),
        arms=arms,
        baseline=document.get("baseline"),
        seeds=tuple(sorted({key[1] for key in keys})),
        smoke=bool(document.get("smoke", False)),
        selection=str(document.get("selection", "")),
        trials=trials,
        rows=rows,
        training=concat(training),
        mode=str(document.get("mode", "")),
        **_settings((key[0], wanted[key]) for key in keys),
        **_read_tables(complete),
    )


def _settings(folders: Iterable[tuple[str, Path]]) -> dict[str, Any]:
    """Read configuration and what terms act on of each arm, from the first of its models that has them.

    What an arm's inversion has one value of stands in the configuration under ``evaluation``.
    """
    settings: dict[str, dict[str, Mapping[str, Any]]] = {field: {} for field in BY_ARM}
    for arm, folder in folders:
        path = folder / "config.json"
        if not path.exists():
            continue
        document = read_object(path)
        if isinstance(document.get("config"), Mapping):
            document["config"] = with_inversion(configuration(document), folder)
        for name, key in BY_ARM.items():
            if isinstance(document.get(key), Mapping):
                settings[name].setdefault(arm, document[key])
    return settings


def _arms(document: Any, path: Path) -> tuple[RecordedArm, ...]:
    try:
        arms = tuple(
            RecordedArm(
                name=arm["name"],
                label=arm.get("label") or arm["name"],
                description=arm.get("description", ""),
            )
            for arm in document["arms"]
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: 'arms' must be a list of objects with a 'name' ({error!r})") from error
    baseline = document.get("baseline")
    if baseline is not None and baseline not in [arm.name for arm in arms]:
        raise InputError(
            f"{path}: the baseline {baseline!r} is not among the arms {[arm.name for arm in arms]}"
        )
    return arms


def _trial(arm: str, seed: int, folder: Path) -> tuple[object, ...]:
    if not folder.is_dir():
        return (arm, seed, "missing", "not started", None, None, "", None)
    if not (folder / RESULT).exists():
        reason = "running or interrupted: no result yet"
        return (arm, seed, "unfinished", reason, _last_step(folder), None, "", None)
    result = read_object(folder / RESULT)
    state = str(result.get("state", "unfinished"))
    pairs = result.get("pairs_seen")
    seconds = result.get("seconds", result.get("train_seconds"))
    if state == "complete" and not (folder / "rows.jsonl").exists():
        return (arm, seed, "trained", "not measured: no rows.jsonl", None, seconds, "", pairs)
    log = "\n".join(map(str, result.get("log_tail", ())))
    return (arm, seed, state, str(result.get("reason") or ""), result.get("step"), seconds, log, pairs)


def _last_step(folder: Path) -> int | None:
    path = folder / "metrics.jsonl"
    lines = read_lines(path) if path.exists() else []
    return lines[-1].get("step") if lines else None


def _training(folder: Path, arm: str, seed: int) -> pd.DataFrame | None:
    path = folder / "metrics.jsonl"
    lines = read_lines(path) if path.exists() else []
    if not lines:
        return None
    frame = pd.DataFrame(lines)
    validation = folder / "validation.jsonl"
    looked = read_lines(validation) if validation.exists() else []
    if looked:
        named = pd.DataFrame(looked).rename(
            columns=lambda name: name if name == "step" else f"{VALIDATED}{name}"
        )
        frame = frame.merge(named, on="step", how="outer").sort_values("step", ignore_index=True)
    frame.insert(0, "arm", arm)
    frame.insert(1, "seed", seed)
    return frame


def _read_rows(folders: Sequence[Path]) -> pd.DataFrame:
    return numeric(read_rows(folder / "rows.jsonl" for folder in folders))


def _read_tables(folders: Sequence[Path]) -> dict[str, Any]:
    tables: dict[str, Any] = {"per_query": read_queries(folders, QUOTED_METRICS)}
    for name, columns in TABLES.items():
        if name in tables:
            continue
        frames = []
        for folder in folders:
            frame = read_table([folder], name)
            check_columns(folder / f"{name}.parquet", name, frame.columns)
            if len(frame):
                frames.append(frame)
        tables[name] = numeric(concat(frames) if frames else pd.DataFrame(columns=list(columns)))
    return tables


def concat(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Put frames below each other; empty ones, which know no types, are left out."""
    filled = [frame for frame in frames if len(frame)]
    if filled:
        return join(filled)
    return frames[0] if frames else pd.DataFrame()
