"""What differs between studies that share a report: their settings, and arm by arm what these change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from analysis import MARGIN
from analysis.effects import CELL, COLUMNS, completed
from analysis.folder import JoinedStudy
from analysis.leading import POINTS, Headline, at, by_modality, of_headline
from analysis.quantities import FRACTION, query_values
from analysis.stats.evidence import gather
from analysis.stats.families import benjamini_hochberg
from analysis.stats.unpaired import gather_unpaired, welch
from analysis.study import RecordedStudy
from analysis.typeset import joined
from crossgap.metrics.intervals import Bootstrap, paired_difference
from crossgap.reading.treatment import Value, differing, flat, short, written
from crossgap.vocabulary import CROSS_TASKS, INVERSIONS

# of a run's settings, what its initialisation and the order of its data depend on ...
_START = ("model", "data", "batch_size", "limit", "stored_size", "encoder", "pretrained", "accumulate")
# ... except what captions say of the same scenes
_CAPTIONS = ("data.mention", "data.caption_noise", "data.num_captions")
_ROOMS = {"data": "world", "model": "model", "objective": "terms", "evaluation": "evaluation"}
ACROSS = "hit@1 across"
FURTHER = ["study", "reference_study", "reference_arm", "paired"]


class Pair(NamedTuple):
    """The same arm of two studies, by its names in the report; whether equal seeds start alike."""

    own: str
    first: str
    second: str
    paired: bool
    changed: Mapping[str, tuple[Value, Value]]


def pairs(study: RecordedStudy, first: JoinedStudy, second: JoinedStudy) -> list[Pair]:
    """Find the arms that two studies have by one name, and their baselines; one model is no pair."""
    names = {own: (arm, second.arms[own]) for own, arm in first.arms.items() if own in second.arms}
    if not names and first.baseline and second.baseline:
        names = {"baseline": (first.baseline, second.baseline)}
    paired = []
    for own, (first_arm, second_arm) in names.items():
        if first_arm != second_arm:
            settings = [flat(study.configs.get(arm, {})) for arm in (first_arm, second_arm)]
            changed = differing(*settings)
            starts = [name for name in changed if name.partition(".")[0] in _START]
            alike = all(name.startswith(_CAPTIONS) for name in starts) and all(settings)
            paired.append(Pair(own, first_arm, second_arm, alike, changed))
    return paired


def what_differs(study: RecordedStudy) -> list[str]:
    """Say in what each further study differs from the first: settings of shared arms, then arms."""
    sentences = []
    for second in study.parts[1:]:
        first = study.parts[0]
        shared = pairs(study, first, second)
        every = [dict(pair.changed) for pair in shared]
        common = {name: pair for name, pair in (every[0] if every else {}).items()
                  if all(changed.get(name) == pair for changed in every)}  # fmt: skip
        said = [f"in its {room}: {words}" for room, words in _by_room(common)]
        opening = f"{second.name} differs from {first.name}"
        if said:
            sentences.append(f"{opening} {'; '.join(said)}.")
        elif shared:
            sentences.append(f"{opening} in no setting that all arms of one name share.")
        for pair in shared:
            own = {name: values for name, values in pair.changed.items() if name not in common}
            if own:
                words = "; ".join(f"{room}: {words}" for room, words in _by_room(own))
                sentences.append(f"The arm {pair.own} differs further in its {words}.")
        sentences += [
            f"Only {part.name} has {joined([study.label(part.arms[arm]) for arm in alone])}."
            for part, beside in ((first, second), (second, first))
            if (alone := [arm for arm in part.arms if arm not in beside.arms])
        ]
        if shared:
            sentences.append(_pairing(shared))
    return sentences


def _pairing(shared: list[Pair]) -> str:
    apart = [pair.own for pair in shared if not pair.paired]
    alike = "Equal seeds start alike in both (initialisation and order of data), so arms are compared seed by"
    if not apart:
        return f"{alike} seed where both have one."
    if len(apart) == len(shared):
        return "Equal seeds do not start alike in both, so means over seeds are compared, unpaired."
    return f"{alike} seed, but for {joined(apart)}, where they do not."


def _by_room(changed: Mapping[str, tuple[Value, Value]]) -> Iterator[tuple[str, str]]:
    """Say settings with both values, by what they belong to."""
    rooms: dict[str, list[str]] = {}
    for name, (before, after) in changed.items():
        room = _ROOMS.get(name.partition(".")[0], "training")
        rooms.setdefault(room, []).append(f"{short(name)} {written(after)} instead of {written(before)}")
    for room in (*_ROOMS.values(), "training"):
        if room in rooms:
            yield room, ", ".join(rooms[room])


def between(
    study: RecordedStudy,
    values: pd.DataFrame,
    queries: pd.DataFrame,
    wheres: Sequence[Headline],
    *,
    bootstrap: Bootstrap,
    margin: float = MARGIN,
) -> pd.DataFrame:
    """Subtract the first study from each other one, arm by arm, in gain, native mAP, gap and hit@1 across.

    Of leading tasks the first of each modality and study counts. Arms whose equal seeds start alike are
    paired by seed, and by query; others are compared by means over seeds, with queries paired where both
    answered the same ones (:func:`analysis.stats.unpaired.gather_unpaired`).

    Args:
        values, queries, wheres, margin: as of :func:`analysis.effects.effects`.

    Returns:
        its columns and :data:`FURTHER`: study, reference_study (their names), reference_arm, paired. ``arm``
        is that of ``study``; ``q``: Benjamini-Hochberg over all rows. Empty of one study.
    """
    rows: list[dict[str, Any]] = []
    by_query = query_values(queries, wheres) if study.parts else pd.DataFrame()
    for second in study.parts[1:]:
        first = study.parts[0]
        for pair in pairs(study, first, second):
            about = {"study": second.name, "reference_study": first.name, "arm": pair.second,
                     "reference_arm": pair.first, "contrast": f"minus {first.name}"}  # fmt: skip
            leading = _leading(pair, values, by_query, wheres, bootstrap)
            for row in (*leading, *_whole(pair, values, bootstrap)):
                done = completed(about | row, bootstrap, margin)
                if done["n_seeds"] < 2:
                    done["p"] = float("nan")  # one model a side tells no studies apart
                rows.append(done)
    table = pd.DataFrame(rows, columns=[*COLUMNS, *FURTHER])
    table["q"] = benjamini_hochberg(table["p"].to_numpy(float))
    return table


def in_units(table: pd.DataFrame) -> pd.DataFrame:
    """Give what :func:`between` returns in the units and words of a figure.

    Returns:
        columns quantity, unit, arm (with its study), label, value, low, high (over models and queries at
        once, where there is such an interval, else over seeds), n_seeds, per_seed.
    """
    rows = []
    for row in table.to_dict("records"):
        scale, unit = (POINTS, "points") if row["unit"] == FRACTION else (1, row["unit"])
        both = "both" if pd.notna(row["both_low"]) else "seeds"
        name = {"centroid_distance": "modality gap", "native": f"native mAP, {row['modality']}s"}
        gain = f"{INVERSIONS.get(row['modality'], '').upper()} gain"
        rows.append({
            "quantity": gain if row["quantity"] == "gain" else name.get(row["quantity"], row["quantity"]),
            "unit": unit, "arm": (row["arm"], row["study"]), "study": row["study"],
            "value": scale * row["estimate"], "n_seeds": row["n_seeds"],
            "low": scale * row[f"{both}_low"], "high": scale * row[f"{both}_high"],
            "per_seed": tuple((seed, scale * value) for seed, value in row["per_seed"]),
        })  # fmt: skip
    return pd.DataFrame(rows)


def _leading(
    pair: Pair, values: pd.DataFrame, by_query: pd.DataFrame, wheres: Sequence[Headline], bootstrap: Bootstrap
) -> Iterator[dict[str, Any]]:
    """Compare gain and native mAP on the first leading task of each modality that a study measured."""
    arms = pair.first, pair.second
    measured_on = [set(_of_arm(values, arm)["dataset"]) for arm in arms]
    for of_modality in by_modality(wheres).values():
        leads = [
            next((where for where in of_modality if where.dataset in datasets), None)
            for datasets in measured_on
        ]
        own = [where for where in leads if where is not None]
        if len(own) < 2:
            continue
        about = own[1]._asdict() | {"route": None, "unit": FRACTION}
        sides = list(zip(own, arms, strict=True))
        for quantity in ("gain", "native"):
            of_quantity = by_query[by_query["quantity"] == quantity]
            yield from _compared(
                about | {"quantity": quantity},
                [
                    _of_arm(of_headline(values, where, quantity), arm)
                    for where, arm in zip(own, arms, strict=True)
                ],
                [_of_arm(at(of_quantity, where), arm) for where, arm in sides],
                pair.paired and own[0] == own[1],
                bootstrap,
            )


def _whole(pair: Pair, values: pd.DataFrame, bootstrap: Bootstrap) -> Iterator[dict[str, Any]]:
    """Compare the gap, and the mean hit@1 across modalities, on the first dataset of each."""
    gaps = values[values["quantity"] == "centroid_distance"]
    across = values[(values["quantity"] == "native") & values["task"].isin(CROSS_TASKS)]
    for quantity, frame, task in (("centroid_distance", gaps, "gap"), (ACROSS, across, "both ways")):
        sides = [_first_dataset(_of_arm(frame, arm)) for arm in (pair.first, pair.second)]
        if all(len(side) for side in sides):
            datasets = [side["dataset"].iloc[0] for side in sides]
            names = {name: sides[1][name].iloc[0] for name in ("dataset", "split", "unit")}
            about = names | {"quantity": quantity, "task": task, "modality": ""}
            means = [side.groupby("seed", observed=True)["value"].mean().reset_index() for side in sides]
            yield from _compared(about, means, [], pair.paired and len(set(datasets)) == 1, bootstrap)


def _of_arm(frame: pd.DataFrame, arm: str) -> pd.DataFrame:
    return frame[frame["arm"] == arm]


def _first_dataset(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["dataset"] == frame["dataset"].iloc[0]] if len(frame) else frame


def _compared(
    about: dict[str, Any],
    values: Sequence[pd.DataFrame],
    queries: Sequence[pd.DataFrame],
    paired: bool,
    bootstrap: Bootstrap,
) -> Iterator[dict[str, Any]]:
    """Compare two sides of models (seed, value), and of their queries where there are any."""
    first, second = (frame.groupby("seed")["value"].mean() for frame in values)
    seeds = [seed for seed in second.index if paired and seed in first.index]
    evidence = None
    if seeds:
        of_seeds = [frame[frame["seed"].isin(seeds)] for frame in queries]
        if of_seeds and all(set(frame["seed"]) == set(seeds) for frame in of_seeds):
            evidence = gather(
                paired_difference(of_seeds[1], of_seeds[0], on=CELL, by=CELL), bootstrap=bootstrap
            )
        differences = tuple((seed, float(second[seed] - first[seed])) for seed in seeds)
        yield about | {"paired": True, "per_seed": differences, "evidence": evidence}
    elif len(first) and len(second):
        models = welch(first.to_numpy(float), second.to_numpy(float), level=bootstrap.level)
        if queries:
            evidence = gather_unpaired(queries[0], queries[1], bootstrap=bootstrap)
        yield about | {"paired": False, "per_seed": (), "evidence": evidence, "models": models}
