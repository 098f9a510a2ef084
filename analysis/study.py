"""What was run: studies and single models, read from their folders and put together as one study."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.folder import BY_ARM, FRAMES, JoinedStudy, RecordedArm, RecordedStudy, concat, read_run
from crossgap.errors import InputError, check_known, naming
from crossgap.reading.treatment import flat, treatment_hash


def read_runs(
    folders: Sequence[Path],
    *,
    baseline: str | None = None,
    labels: Mapping[str, str] | None = None,
    title: str | None = None,
) -> RecordedStudy:
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
    read = _short_names([read_run(folder) for folder in folders])
    studies = _one_arm_a_training(read)
    names = [folder.name for folder in folders]
    if len(studies) > 1:
        names = _distinct_names(folders)
        clashes = _clashes(studies)
        studies = [
            _rename_arms(study, {arm: f"{arm} ({name})" for arm in study.arm_names if arm in clashes}, name)
            for study, name in zip(studies, names, strict=True)
        ]
    arms_of = {str(folder): study.arm_names for folder, study in zip(folders, studies, strict=True)}
    whole = replace(_joined(studies), parts=_parts(read, studies, names))
    if baseline is not None:
        whole = replace(whole, baseline=_arm_called(whole, arms_of, baseline, "--baseline"))
    elif whole.baseline is None and len(whole.arms) > 1:
        whole = replace(whole, baseline=whole.arms[0].name)
    named = {_arm_called(whole, arms_of, who, "--label"): label for who, label in (labels or {}).items()}
    arms = _told_apart(replace(arm, label=named.get(arm.name, arm.label)) for arm in whole.arms)
    return replace(whole, arms=arms, title=title or "")


def of_arms(study: RecordedStudy, arms: Collection[str]) -> RecordedStudy:
    """Leave out all arms but these."""
    frames: dict[str, Any] = {name: getattr(study, name) for name in FRAMES}
    for name, frame in frames.items():
        if "arm" in frame:
            frames[name] = frame[frame["arm"].isin(arms)].reset_index(drop=True)
    by_arm: dict[str, Any] = {
        kind: {arm: entry for arm, entry in getattr(study, kind).items() if arm in arms} for kind in BY_ARM
    }
    kept = tuple(arm for arm in study.arms if arm.name in arms)
    return replace(study, arms=kept, **by_arm, **frames)


def _parts(
    read: Sequence[RecordedStudy], studies: Sequence[RecordedStudy], names: Sequence[str]
) -> tuple[JoinedStudy, ...]:
    """Tell which arms came from which study, by their names there and here; runs of one model are none."""
    if len(read) < 2 or not all(study.baseline for study in read):
        return ()
    return tuple(
        JoinedStudy(
            name=name, arms=dict(zip(own.arm_names, study.arm_names, strict=True)), baseline=study.baseline
        )
        for name, own, study in zip(names, read, studies, strict=True)
    )


def _joined(studies: Sequence[RecordedStudy]) -> RecordedStudy:
    """Put studies together whose arms of one name are the same arm."""
    if len(studies) == 1:
        return studies[0]
    frames: dict[str, Any] = {name: concat([getattr(study, name) for study in studies]) for name in FRAMES}
    # a model that was measured on several datasets is one model, with one curve
    frames["trials"] = frames["trials"].drop_duplicates(["arm", "seed"], ignore_index=True)
    if len(frames["training"]):
        frames["training"] = frames["training"].drop_duplicates(["arm", "seed", "step"], ignore_index=True)
    sentences = dict.fromkeys(study.selection for study in studies if study.selection)
    modes = {study.mode for study in studies}
    arms: dict[str, RecordedArm] = {}
    by_arm: dict[str, Any] = {kind: {} for kind in BY_ARM}
    for study in studies:
        for arm in study.arms:
            arms.setdefault(arm.name, arm)
        for kind in BY_ARM:
            by_arm[kind] = {**getattr(study, kind), **by_arm[kind]}
    return RecordedStudy(
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


def _one_arm_a_training(studies: Sequence[RecordedStudy]) -> list[RecordedStudy]:
    """Give arms whose trainings differ in their seeds alone one name, that of the first of them."""
    first: dict[str, RecordedArm] = {}
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


def _clashes(studies: Sequence[RecordedStudy]) -> set[str]:
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


def _arm_called(study: RecordedStudy, arms_of: Mapping[str, Sequence[str]], who: str, option: str) -> str:
    """Find an arm by its name, its label, or the folder of its run."""
    by_folder = {
        name: arms[0]
        for folder, arms in arms_of.items()
        if len(arms) == 1
        for name in (folder, folder.rstrip("/"), Path(folder).name)
    }
    by_name = by_folder | {arm.label: arm.name for arm in study.arms} | {arm: arm for arm in study.arm_names}
    with naming(option):
        return by_name[check_known(who, by_name, "arm, label or folder of a run")]


def _told_apart(arms: Iterable[RecordedArm]) -> tuple[RecordedArm, ...]:
    """Add its name to a label that several arms have."""
    listed = list(arms)
    count = pd.Series([arm.label for arm in listed]).value_counts()
    return tuple(
        replace(arm, label=f"{arm.label} ({arm.name})") if count[arm.label] > 1 else arm for arm in listed
    )


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


def _short_names(studies: Sequence[RecordedStudy]) -> list[RecordedStudy]:
    """Shorten names of arms and datasets that are paths to their last two parts, where that is unique."""
    arms = _last_parts({arm for study in studies for arm in study.arm_names})
    datasets = _last_parts({name for study in studies for name in study.rows.get("dataset", ())})
    shortened = []
    for study in studies:
        frames: dict[str, Any] = {
            name: _with_names(getattr(study, name), {"arm": arms, "dataset": datasets}) for name in FRAMES
        }
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


def _rename_arms(study: RecordedStudy, names: dict[str, str], run: str) -> RecordedStudy:
    """Rename arms that another run has too; their labels say the run."""
    labelled = tuple(
        replace(arm, label=f"{arm.label} ({run})") if arm.name in names else arm for arm in study.arms
    )
    return _renamed(replace(study, arms=labelled), names)


def _renamed(study: RecordedStudy, names: Mapping[str, str]) -> RecordedStudy:
    arms = tuple(replace(arm, name=names.get(arm.name, arm.name)) for arm in study.arms)
    frames: dict[str, Any] = {name: _with_names(getattr(study, name), {"arm": names}) for name in FRAMES}
    baseline = names.get(study.baseline, study.baseline) if study.baseline else None
    return replace(study, arms=arms, baseline=baseline, **_renamed_settings(study, names), **frames)


def _with_names(frame: pd.DataFrame, names: Mapping[str, Mapping[str, str]]) -> pd.DataFrame:
    """Rename values of columns: column -> old name -> new name."""
    there = {column: new for column, new in names.items() if new and column in frame.columns}
    return frame.assign(
        **{
            column: frame[column].map(lambda name, new=new: new.get(name, name))
            for column, new in there.items()
        }
    )


def _renamed_settings(study: RecordedStudy, names: Mapping[str, str]) -> dict[str, Any]:
    return {field: {names.get(arm, arm): of for arm, of in getattr(study, field).items()} for field in BY_ARM}
