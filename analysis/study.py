"""What was run: one study, or single evaluated models, read from their folders into frames."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from crossgap.errors import InputError, check_known, naming
from crossgap.records import TABLES, numeric, read_json, read_lines, read_object, read_rows, read_table
from crossgap.setting_columns import with_inversion
from crossgap.treatment import configuration, flat, treatment_hash

TRIAL_COLUMNS = ("arm", "seed", "state", "reason", "step", "seconds", "log")
QUOTED_METRICS = ("mAP", "hit@1")  # of per_query.parquet; the others are read from rows


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One arm of a study: the name used in rows, the label for readers, what it changes."""

    name: str
    label: str
    description: str = ""


@dataclass(frozen=True, kw_only=True)
class Study:
    """Everything that a report draws from.

    Models are identified by (arm, seed). ``trials`` has one row for each model that was wanted, with its
    state: complete, failed (with the reason, and how its log ends), unfinished (no result yet) or missing (no
    folder). Rows and tables hold complete models only; ``training`` holds the curves of all, ``configs``
    the training's configuration by arm, where it was written, and ``acts_on`` what each term of its objective
    acts on (image, text, both, across), where the training wrote that, and ``changed`` what it changed in its
    recipe (setting -> the recipe's value, its own). ``mode`` says how the arms were drawn
    ("grid").
    """

    name: str
    description: str
    arms: tuple[Arm, ...]
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


def read_runs(
    folders: Sequence[Path],
    *,
    baseline: str | None = None,
    labels: Mapping[str, str] | None = None,
    title: str | None = None,
) -> Study:
    """Read one or more study or run folders as one study.

    Runs whose trainings differ in nothing but the seed are one arm; all others are arms of their own, and an
    arm name met in several gets its folder's name added. The baseline is that of a study among them, else
    the first arm of several.

    Args:
        baseline: another baseline, by its arm's name, its label or the folder of its run.
        labels: what to call arms, by the same.
        title: of the report, in place of the runs' studies.

    Raises:
        InputError: no folder given, a folder is missing, it is neither a study nor an evaluated run, no
            row was written by the evaluation, or an arm that none of them has.
    """
    if not folders:
        raise InputError("no run given: name a study folder or the --out folder of an evaluation")
    studies = _one_arm_a_training(_short_names([_read_run(folder) for folder in folders]))
    if len(studies) > 1:
        names = _distinct_names(folders)
        clashes = _clashes(studies)
        studies = [
            _rename_arms(study, {arm: f"{arm} ({name})" for arm in study.arm_names if arm in clashes}, name)
            for study, name in zip(studies, names, strict=True)
        ]
    arms_of = {str(folder): study.arm_names for folder, study in zip(folders, studies, strict=True)}
    whole = _joined(studies)
    if baseline is not None:
        whole = replace(whole, baseline=_arm_called(whole, arms_of, baseline, "--baseline"))
    elif whole.baseline is None and len(whole.arms) > 1:
        whole = replace(whole, baseline=whole.arms[0].name)
    named = {_arm_called(whole, arms_of, who, "--label"): label for who, label in (labels or {}).items()}
    arms = _told_apart(replace(arm, label=named.get(arm.name, arm.label)) for arm in whole.arms)
    return replace(whole, arms=arms, title=title or "")


def _joined(studies: Sequence[Study]) -> Study:
    """Put studies together whose arms of one name are the same arm."""
    if len(studies) == 1:
        return studies[0]
    frames: dict[str, Any] = {name: _concat([getattr(study, name) for study in studies]) for name in FRAMES}
    # a model that was measured on several datasets is one model, with one curve
    frames["trials"] = frames["trials"].drop_duplicates(["arm", "seed"], ignore_index=True)
    if len(frames["training"]):
        frames["training"] = frames["training"].drop_duplicates(["arm", "seed", "step"], ignore_index=True)
    sentences = dict.fromkeys(study.selection for study in studies if study.selection)
    modes = {study.mode for study in studies}
    arms: dict[str, Arm] = {}
    by_arm: dict[str, Any] = {kind: {} for kind in BY_ARM}
    for study in studies:
        for arm in study.arms:
            arms.setdefault(arm.name, arm)
        for kind in BY_ARM:
            by_arm[kind] = {**getattr(study, kind), **by_arm[kind]}
    return Study(
        name=", ".join(dict.fromkeys(study.name for study in studies)),
        description=" ".join(dict.fromkeys(study.description for study in studies if study.description)),
        arms=tuple(arms.values()),
        baseline=next((study.baseline for study in studies if study.baseline), None),
        seeds=tuple(sorted({seed for study in studies for seed in study.seeds})),
        smoke=any(study.smoke for study in studies),
        selection=" ".join(sentences),
        mode=modes.pop() if len(modes) == 1 else "",
        **by_arm,
        **frames,
    )


def _one_arm_a_training(studies: Sequence[Study]) -> list[Study]:
    """Give arms whose trainings differ in their seeds alone one name, that of the first of them."""
    first: dict[str, Arm] = {}
    merged = []
    for study in studies:
        names = {}
        for arm in study.arms:
            if arm.name in study.configs:
                of_training = first.setdefault(treatment_hash(flat(study.configs[arm.name])), arm)
                names[arm.name] = of_training.name
        changed = {arm: name for arm, name in names.items() if arm != name}
        # two arms of one study may be trained alike, and stay apart
        apart = len(set(names.values())) < len(names) or set(changed.values()) & set(study.arm_names)
        merged.append(study if apart or not changed else _renamed(study, changed))
    return merged


def _clashes(studies: Sequence[Study]) -> set[str]:
    """Name the arms that several studies have without being one: other trainings, or the same model twice."""
    clashes = set()
    for name in dict.fromkeys(arm for study in studies for arm in study.arm_names):
        having = [study for study in studies if name in study.arm_names]
        trainings = {
            treatment_hash(flat(study.configs[name])) if name in study.configs else None for study in having
        }
        rows = [study.rows[study.rows["arm"] == name] for study in having]
        measured = pd.concat([of_run[["seed", "dataset"]].drop_duplicates() for of_run in rows])
        twice = bool(measured.duplicated().any())
        if len(having) > 1 and (len(trainings) > 1 or None in trainings or twice):
            clashes.add(name)
    return clashes


def _arm_called(study: Study, arms_of: Mapping[str, Sequence[str]], who: str, option: str) -> str:
    """Find an arm by its name, its label, or the folder of its run."""
    by_folder = {
        name: arms[0]
        for folder, arms in arms_of.items()
        if len(arms) == 1
        for name in (folder, folder.rstrip("/"), Path(folder).name)
    }
    known = by_folder | {arm.label: arm.name for arm in study.arms} | {arm: arm for arm in study.arm_names}
    with naming(option):
        return known[check_known(who, known, "arm, label or folder of a run")]


def _told_apart(arms: Iterable[Arm]) -> tuple[Arm, ...]:
    """Add its name to a label that several arms have."""
    listed = list(arms)
    count = pd.Series([arm.label for arm in listed]).value_counts()
    return tuple(
        replace(arm, label=f"{arm.label} ({arm.name})") if count[arm.label] > 1 else arm for arm in listed
    )


def _read_run(folder: Path) -> Study:
    if not folder.is_dir():
        raise InputError(
            f"{folder}: no such folder; give a study folder or the --out folder of an evaluation"
        )
    if (folder / "study.json").exists():
        return _read_study(folder)
    if not (folder / "rows.jsonl").exists():
        raise InputError(
            f"{folder}: neither study.json nor rows.jsonl lies here, so it is not a study and not an "
            "evaluated run; sweep or evaluate first, or name another folder"
        )
    rows = _read_rows([folder])
    if rows.empty:
        raise InputError(f"{folder / 'rows.jsonl'}: no row was written into it; evaluate again")
    models = rows[["arm", "seed"]].drop_duplicates()
    trials = pd.DataFrame(
        [(arm, seed, "complete", "", None, None, "") for arm, seed in models.itertuples(index=False)],
        columns=list(TRIAL_COLUMNS),
    )
    config = folder / "config.json"
    about = read_json(config) if config.exists() else {}
    label = about.get("label") if about.get("arm") in set(rows["arm"]) else None
    arms = tuple(Arm(name=arm, label=str(label or arm)) for arm in dict.fromkeys(rows["arm"]))
    training = _training(folder, str(rows["arm"].iloc[0]), int(rows["seed"].iloc[0]))
    return Study(
        name=", ".join(dict.fromkeys(rows["study"])) or folder.name,
        description="",
        arms=arms,
        baseline=None,
        seeds=tuple(sorted(set(models["seed"]))),
        smoke=False,
        selection="",
        trials=trials,
        rows=rows,
        training=pd.DataFrame() if training is None else training,
        **_settings((str(arm), folder) for arm in dict.fromkeys(rows["arm"])),
        **_read_tables([folder]),
    )


def _read_study(folder: Path) -> Study:
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
    known = [arm.name for arm in arms]
    arms += tuple(
        Arm(name=name, label=name) for name in dict.fromkeys(key[0] for key in wanted) if name not in known
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
    return Study(
        name=str(document.get("study", folder.name)),
        description=str(document.get("description", "")),
        arms=arms,
        baseline=document.get("baseline"),
        seeds=tuple(sorted({key[1] for key in keys})),
        smoke=bool(document.get("smoke", False)),
        selection=str(document.get("selection", "")),
        trials=trials,
        rows=rows,
        training=_concat(training),
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


def _arms(document: Any, path: Path) -> tuple[Arm, ...]:
    try:
        arms = tuple(
            Arm(
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
        return (arm, seed, "missing", "not started", None, None, "")
    if not (folder / "result.json").exists():
        reason = "running or interrupted: no result yet"
        return (arm, seed, "unfinished", reason, _last_step(folder), None, "")
    result = read_object(folder / "result.json")
    state = str(result.get("state", "unfinished"))
    seconds = result.get("seconds", result.get("train_seconds"))
    if state == "complete" and not (folder / "rows.jsonl").exists():
        return (arm, seed, "unfinished", "trained, not evaluated: no rows.jsonl", None, seconds, "")
    log = "\n".join(map(str, result.get("log_tail", ())))
    return (arm, seed, state, str(result.get("reason") or ""), result.get("step"), seconds, log)


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
    frame.insert(0, "arm", arm)
    frame.insert(1, "seed", seed)
    return frame


def _read_rows(folders: Sequence[Path]) -> pd.DataFrame:
    return numeric(read_rows(folder / "rows.jsonl" for folder in folders))


def _read_tables(folders: Sequence[Path]) -> dict[str, Any]:
    tables: dict[str, Any] = {}
    for name, columns in TABLES.items():
        frames = []
        for folder in folders:
            frame = read_table([folder], name)
            if set(frame.columns) != set(columns):
                raise InputError(
                    f"{folder / name}.parquet: columns {sorted(set(frame.columns) ^ set(columns))} differ "
                    "from the table that this version reads; evaluate again"
                )
            if name == "per_query":
                frame = frame[frame["metric"].isin(QUOTED_METRICS)]
            if len(frame):
                frames.append(frame)
        tables[name] = numeric(_concat(frames) if frames else pd.DataFrame(columns=list(columns)))
    return tables


def _concat(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    filled = [frame for frame in frames if len(frame)]
    if filled:
        return pd.concat(filled, ignore_index=True)
    return frames[0] if frames else pd.DataFrame()


def _distinct_names(folders: Sequence[Path]) -> list[str]:
    resolved = [folder.resolve() for folder in folders]
    if len(set(resolved)) < len(resolved):
        raise InputError(f"the same run is given twice: {', '.join(str(folder) for folder in folders)}")
    depth = 1
    while True:
        names = ["/".join(folder.parts[-depth:]) for folder in resolved]
        if len(set(names)) == len(names):
            return names
        depth += 1


def _short_names(studies: Sequence[Study]) -> list[Study]:
    """Shorten names of arms and datasets that are paths to their last two parts, where that is unique."""
    arms = _last_parts({arm for study in studies for arm in study.arm_names})
    datasets = _last_parts({name for study in studies for name in study.rows.get("dataset", ())})
    shortened = []
    for study in studies:
        frames = {}
        for name in FRAMES:
            frame = getattr(study, name).copy()
            for column, names in (("arm", arms), ("dataset", datasets)):
                if column in frame.columns:
                    frame[column] = frame[column].replace(names)
            frames[name] = frame
        renamed = tuple(
            replace(arm, name=arms.get(arm.name, arm.name), label=arms.get(arm.label, arm.label))
            for arm in study.arms
        )
        baseline = arms.get(study.baseline, study.baseline) if study.baseline else None
        settings = _renamed_settings(study, arms)
        shortened.append(replace(study, arms=renamed, baseline=baseline, **settings, **frames))
    return shortened


def _last_parts(names: set[str]) -> dict[str, str]:
    short = {name: "/".join(Path(name).parts[-2:]) if name.count("/") > 1 else name for name in names}
    shared = [text for text in short.values() if list(short.values()).count(text) > 1]
    return {name: text for name, text in short.items() if text != name and text not in shared}


def _rename_arms(study: Study, names: dict[str, str], run: str) -> Study:
    """Rename arms that another run has too; their labels say the run."""
    labelled = tuple(
        replace(arm, label=f"{arm.label} ({run})") if arm.name in names else arm for arm in study.arms
    )
    return _renamed(replace(study, arms=labelled), names)


def _renamed(study: Study, names: Mapping[str, str]) -> Study:
    arms = tuple(replace(arm, name=names.get(arm.name, arm.name)) for arm in study.arms)
    frames = {}
    for name in FRAMES:
        frame = getattr(study, name).copy()
        if "arm" in frame.columns:
            frame["arm"] = frame["arm"].replace(names)
        frames[name] = frame
    baseline = names.get(study.baseline, study.baseline) if study.baseline else None
    return replace(study, arms=arms, baseline=baseline, **_renamed_settings(study, names), **frames)


def _renamed_settings(study: Study, names: Mapping[str, str]) -> dict[str, Any]:
    return {field: {names.get(arm, arm): of for arm, of in getattr(study, field).items()} for field in BY_ARM}
