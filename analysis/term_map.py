"""``python -m analysis.term_map runs/map``: what each term of the objective does, in one small table.

Writes ``first-map.csv``, a row for each arm and quantity with its interval, and ``first-map.md``, the page
made of it. A CSV file in place of a study writes the page again, without the runs.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import tyro

from analysis.contrasts import minus_baseline
from analysis.sheets import records
from analysis.study import Study, read_runs
from analysis.typeset import ABSENT, Cell, Table, interval, markdown, number
from crossgap.command import run_command
from crossgap.errors import InputError
from crossgap.intervals import Bootstrap, average_models, mean_interval, paired_difference
from crossgap.quoting import quoted, quoted_queries
from crossgap.records import atomic_path, write_text
from crossgap.route_values import INTERVAL

INVERTED = {"image-subgroup": "oti", "image-concept": "oti", "text-subgroup": "ovi", "text-concept": "ovi"}
ACROSS = ("image-text", "text-image", "zero-shot-subgroup", "zero-shot-concept")
ON = ["quantity", "task", "seed"]
COLUMNS = [
    "study",
    "arm", "label", "state", "quantity", "task", *INTERVAL, "minus_baseline", "minus_low", "minus_high",
    "per_seed", "n_seeds", "n_queries",
]  # fmt: skip
TITLES = {
    "native": "native",
    "inverted": "inverted",
    "gain": "inverted − native",
    "hit@1": "hit@1",
    "distance": "centroid distance",
    "seconds": "seconds a step",
}


def term_map(study: Study, bootstrap: Bootstrap) -> pd.DataFrame:
    """Tabulate each arm of a study and its difference to the baseline, paired by seed and query.

    Returns:
        :data:`COLUMNS`: fractions, distances and seconds; the mean over seeds with an interval over queries,
        which says nothing of other seeds; ``per_seed`` lists each seed's own difference to the baseline. An
        arm of which no seed was completed has one row, with its state.

    Raises:
        InputError: a study without a measured baseline.
    """
    if study.baseline is None or study.baseline not in set(study.rows["arm"]):
        raise InputError(f"study {study.name}: no measured baseline to compare the arms with")
    rows = quoted(study.rows)
    values = _query_values(quoted_queries(study.per_query, rows))
    table = _compared(values, study.baseline, bootstrap)
    gaps = rows[
        (rows["task"] == "gap") & (rows["metric"] == "centroid_distance") & (rows["route"] == "native")
    ]
    table = pd.concat(
        [
            table,
            _by_seed(gaps, "distance", study.baseline),
            _by_seed(_step_seconds(study), "seconds", study.baseline),
        ],
        ignore_index=True,
    )
    about = pd.DataFrame(
        [
            (arm, study.label(arm), _state(study.trials[study.trials["arm"] == arm]))
            for arm in study.arm_names
        ],
        columns=["arm", "label", "state"],
    )
    joined = about.merge(table, on="arm", how="left")
    # what the frame holds is sorted by arm; within an arm, in the order of the tables
    order = {key: place for place, key in enumerate(_keys())}
    found = zip(joined["quantity"].fillna(""), joined["task"].fillna(""), strict=True)
    joined["place"] = [order.get((str(quantity), str(task)), 0) for quantity, task in found]
    joined["arm_place"] = joined["arm"].map({arm: place for place, arm in enumerate(study.arm_names)})
    joined["study"] = f"{study.name}, smoke" if study.smoke else study.name
    return joined.sort_values(["arm_place", "place"])[COLUMNS]


def _keys() -> list[tuple[str, str]]:
    inside = [(quantity, task) for task in INVERTED for quantity in ("native", "inverted", "gain")]
    return [("distance", ""), *inside, *(("hit@1", task) for task in ACROSS), ("seconds", "")]


def _query_values(queries: pd.DataFrame) -> pd.DataFrame:
    """Give the value of each query: native and inverted mAP and their difference, and hit@1 across."""
    columns = ["arm", *ON, "query_id", "query_class", "value"]
    parts = []
    mean_ap = queries[queries["metric"] == "mAP"]
    for task, route in INVERTED.items():
        here = mean_ap[mean_ap["task"] == task]
        if here.empty:
            continue
        native, inverted = here[here["route"] == "native"], here[here["route"] == route]
        on = ["arm", "seed", "task"]
        gain = paired_difference(inverted, native, on=on, by=on)
        named = {"native": native, "inverted": inverted, "gain": gain}
        parts += [frame.assign(quantity=name)[columns] for name, frame in named.items()]
    across = queries[(queries["metric"] == "hit@1") & queries["task"].isin(ACROSS)]
    parts.append(across[across["route"] == "native"].assign(quantity="hit@1")[columns])
    return pd.concat(parts, ignore_index=True)


def _compared(values: pd.DataFrame, baseline: str, bootstrap: Bootstrap) -> pd.DataFrame:
    by = ["arm", "quantity", "task"]
    levels = mean_interval(average_models(values, by), by, bootstrap=bootstrap)
    change = minus_baseline(values, baseline, ON)
    minus = mean_interval(average_models(change, by), by, bootstrap=bootstrap)[[*by, *INTERVAL]]
    minus = minus.rename(columns={"value": "minus_baseline", "low": "minus_low", "high": "minus_high"})
    means = change.groupby([*by, "seed"], sort=False)["value"].mean().reset_index()
    per_seed = means.groupby(by, sort=False)["value"].agg(_listed).rename("per_seed").reset_index()
    seeds = values.groupby(by, sort=False)["seed"].nunique().rename("n_seeds").reset_index()
    table = levels[[*by, *INTERVAL, "n_queries"]]
    return table.merge(minus, on=by, how="left").merge(per_seed, on=by, how="left").merge(seeds, on=by)


def _by_seed(frame: pd.DataFrame, quantity: str, baseline: str) -> pd.DataFrame:
    """Tabulate what has one value a model, no interval: the mean over seeds, of seconds the least."""
    pivot = frame.pivot(index="arm", columns="seed", values="value")
    summary = pivot.min(axis=1) if quantity == "seconds" else pivot.mean(axis=1)
    minus = minus_baseline(frame[["arm", "seed", "value"]], baseline, ["seed"]).sort_values("seed")
    rows = []
    for arm in pivot.index:
        own = {"arm": arm, "quantity": quantity, "task": "", "value": summary[arm]}
        own["n_seeds"] = int(pivot.loc[arm].notna().sum())
        if arm != baseline:
            differences = minus.loc[minus["arm"] == arm, "value"]
            own |= {"minus_baseline": differences.mean(), "per_seed": _listed(differences)}
        rows.append(own)
    return pd.DataFrame(rows)


def _step_seconds(study: Study) -> pd.DataFrame:
    """Take the fastest tenth of the logged steps: what else the machine did in a while does not count."""
    training = study.training[study.training["step"] > 0]
    pairs = study.rows.groupby(["arm", "seed"])["pairs_seen"].max()
    steps = training.groupby(["arm", "seed"])["step"].max()
    speed = training.groupby(["arm", "seed"])["pairs_per_second"].quantile(0.9)
    return ((pairs / steps) / speed).rename("value").dropna().reset_index()


def _listed(values: pd.Series) -> str:
    return "; ".join(f"{value:+.6f}" for value in values)


def _state(trials: pd.DataFrame) -> str:
    """Say how an arm's trials ended: complete, or how many are not, or why one failed."""
    failed = trials[trials["state"] == "failed"]
    if len(failed):
        return f"{len(failed)} of {len(trials)} trials failed: {failed['reason'].iloc[0]}"
    open_ = int((trials["state"] != "complete").sum())
    return f"{open_} of {len(trials)} trials not finished" if open_ else "complete"


def broken(table: pd.DataFrame) -> dict[str, str]:
    """Say of each broken arm how: a trial failed, or it hardly finds texts for images.

    That is: its hit@1, in the mean over seeds, has an interval that reaches chance (one over the number of
    queries), or is less than half of the baseline's with an interval of the difference below zero.
    """
    found = {}
    compared_with = table[table["minus_baseline"].isna() & table["value"].notna()]
    base = [row["value"] for row in _found(compared_with, "hit@1", "image-text")]
    for arm, own in table.groupby("arm", sort=False):
        state = str(own["state"].iloc[0])
        hits = _found(own, "hit@1", "image-text")
        if "failed" in state:
            found[str(arm)] = state
        elif hits and not hits[0]["low"] > 1 / hits[0]["n_queries"]:
            found[str(arm)] = "finds texts for images no better than chance"
        elif hits and base and hits[0]["value"] < base[0] / 2 and hits[0]["minus_high"] < 0:
            share = hits[0]["value"] / base[0]
            found[str(arm)] = f"finds texts for images {share:.0%} as often as the baseline"
    return found


def page(table: pd.DataFrame) -> str:
    """Write the page of a map: what it is, what broke, and its tables."""
    labels = dict(zip(table["arm"], table["label"], strict=True))
    study = str(table["study"].iloc[0])
    lines = [HEADER.strip() if study == "map" else f"# What the arms of the study {study} do"]
    lost = broken(table)
    if lost:
        lines += [
            "",
            "Broken at their default weight, as far as bringing images and texts together goes:",
            "",
        ]
        lines += [f"- **{labels[arm]}** (`{arm}`): {why}." for arm, why in lost.items()]
    measured = table[table["value"].notna()]
    unfinished = list(dict.fromkeys(table.loc[table["state"].str.contains("not finished"), "arm"]))
    if unfinished:
        lines += ["", f"Not finished, and left out or short of seeds: {', '.join(unfinished)}."]
    elif not lost:
        lines += ["", "No arm is broken: all find texts for images."]
    return "\n".join([*lines, "", markdown([_levels(measured, lost), *_differences(measured)])])


def _found(frame: pd.DataFrame, quantity: str, task: str) -> list[dict[str, Any]]:
    return records(frame[(frame["quantity"] == quantity) & (frame["task"].fillna("") == task)])


def _levels(table: pd.DataFrame, lost: dict[str, str]) -> Table:
    steps = table[table["quantity"] == "seconds"]
    base = records(steps[steps["minus_baseline"].isna()])  # the baseline has nothing to be compared with
    rows = []
    for arm, own in table.groupby("arm", sort=False):
        cells = [Cell(own["label"].iloc[0] + (" (broken)" if arm in lost else ""))]
        for quantity, task in _keys():
            if quantity == "gain":
                continue
            found = _found(own, quantity, task)
            if not found:
                cells.append(Cell(ABSENT))
            elif quantity == "seconds":
                cells.append(Cell(number(found[0]["value"] / base[0]["value"], 2)))
            else:
                unit = (1, 3) if quantity == "distance" else (100, 1)
                cells.append(Cell(number(unit[0] * found[0]["value"], unit[1])))
        rows.append(tuple(cells))
    names = [_title(quantity, task) for quantity, task in _keys() if quantity != "gain"]
    return Table("Each arm, mean over seeds", ("arm", *names), tuple(rows), LEVELS_NOTE)


def _differences(table: pd.DataFrame) -> list[Table]:
    sides = {
        "images": [("distance", ""), ("native", "image-subgroup"), ("gain", "image-subgroup"),
                   ("native", "image-concept"), ("gain", "image-concept")],
        "texts": [("native", "text-subgroup"), ("gain", "text-subgroup"), ("native", "text-concept"),
                  ("gain", "text-concept")],
        "images and texts": [("hit@1", task) for task in ACROSS],
    }  # fmt: skip
    tables = []
    for side, keys in sides.items():
        rows = []
        for _, own in table.groupby("arm", sort=False):
            if own["minus_baseline"].isna().all():
                continue
            cells = [Cell(own["label"].iloc[0])]
            for quantity, task in keys:
                found = _found(own, quantity, task)
                cells.append(_difference(found[0], quantity) if found else Cell(ABSENT))
            rows.append(tuple(cells))
        titles = [_title(*key) for key in keys]
        tables.append(Table(f"Minus the baseline: {side}", ("arm", *titles), tuple(rows), DIFFERENCES_NOTE))
    return tables


def _difference(row: dict[str, object], quantity: str) -> Cell:
    scale, digits = (1, 3) if quantity == "distance" else (100, 1)
    value, low, high = (
        scale * float(str(row[name])) for name in ("minus_baseline", "minus_low", "minus_high")
    )
    seeds = ", ".join(
        number(scale * float(one), digits, signed=True) for one in str(row["per_seed"]).split(";")
    )
    return Cell(number(value, digits, signed=True), f"{interval(low, high, digits)} ({seeds})".strip())


def _title(quantity: str, task: str) -> str:
    if quantity == "seconds":
        return "step, x baseline"
    return f"{task} {TITLES[quantity]}".strip()


HEADER = """
# A first map of the terms

What each recipe of `pretrain/recipes.py` does at its default weight, at the size of the demo: small CLIPs (4
layers of width 128), 500 steps of 128 pairs of the embedded emoji, measured on the 371 concepts of the test
split, inverted with one pseudo-token by the fast schedule. A map of where to look, not a result: the models
are small, the seeds few, and of so many intervals some lie off zero by chance.

    python -m ablations.sweep --study map      # resumable; about two hours of two cores
    python -m analysis.term_map runs/map --out docs
"""
LEVELS_NOTE = (
    "mAP and hit@1 in percent; the gap is the distance of the centroids of unit rows. Inverted: queries "
    "by OTI (images) or OVI (texts), galleries native. The last column is the time of a step over that of "
    "the baseline, each in the fastest tenth of its logged steps of the faster seed, two trials side by "
    "side; benchmarks, part terms, times all in one run."
)
DIFFERENCES_NOTE = (
    "Points, the distance in its own unit. Brackets: 95 % intervals over queries, resampled by class, "
    "paired by seed and query; they do not cover seeds. In parentheses each seed's own difference. A gain "
    "is inverted minus native, so its column is a difference of differences."
)


def main(
    run: Annotated[Path, tyro.conf.Positional],
    /,
    *,
    out: Path | None = None,
) -> int:
    """Write the map of a study: first-map.csv and first-map.md.

    Args:
        run: the study's folder, or a first-map.csv from which only the page is written.
        out: folder for both; default: beside what was read.
    """
    if run.suffix == ".csv":
        if not run.exists():
            raise InputError(f"{run}: no such file; give a study's folder or the CSV made of one")
        table, folder = read_map(run), out or run.parent
    else:
        table, folder = term_map(read_runs([run]), Bootstrap()), out or run
        with atomic_path(folder / "first-map.csv") as temporary:
            table.to_csv(temporary, index=False, float_format="%.6g")
        table = read_map(folder / "first-map.csv")
    write_text(folder / "first-map.md", page(table))
    print(folder / "first-map.md")
    return 0


def read_map(path: Path) -> pd.DataFrame:
    """Read what :func:`term_map` made.

    Raises:
        InputError: the file has other columns.
    """
    table = pd.read_csv(path, keep_default_na=True)
    if list(table.columns) != COLUMNS:
        raise InputError(f"{path}: its columns are {list(table.columns)}, expected {COLUMNS}")
    return table


if __name__ == "__main__":
    sys.exit(run_command(main))
