"""``python -m analysis.term_map runs/map``: what each term of the objective does, in one small table.

Writes ``first-map.csv``, a row for each arm and quantity with its interval, and ``first-map.md``, the page
made of it. A CSV file in place of a study writes the page again, without the runs. ``--into`` puts a run of
some arms into an earlier table: the other rows stay, and the page says which are whose.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import tyro

from analysis.effects import minus_baseline
from analysis.sheets.columns import records
from analysis.study import RecordedStudy, read_runs
from analysis.typeset import ABSENT, Cell, Table, interval, markdown, number
from crossgap.command import run_command
from crossgap.errors import InputError
from crossgap.files import atomic_path, write_text
from crossgap.metrics.intervals import Bootstrap, average_models, mean_interval, paired_difference
from crossgap.reading.quoting import quoted, quoted_queries
from crossgap.reading.route_values import INTERVAL

INVERTED = {"image-subgroup": "oti", "image-concept": "oti", "text-subgroup": "ovi", "text-concept": "ovi"}
ACROSS = ("image-text", "text-image", "zero-shot-subgroup", "zero-shot-concept")
ON = ["quantity", "task", "seed"]
COLUMNS = [
    "study",
    "arm", "label", "state", "quantity", "task", *INTERVAL, "minus_baseline", "minus_low", "minus_high",
    "per_seed", "n_seeds", "n_queries", "made",
]  # fmt: skip
AGAIN = "-again"  # after the baseline's name: that of a run whose arms were put into an earlier table
TITLES = {
    "native": "native",
    "inverted": "inverted",
    "gain": "inverted − native",
    "hit@1": "hit@1",
    "distance": "centroid distance",
    "seconds": "seconds a step",
}


def term_map(study: RecordedStudy, bootstrap: Bootstrap) -> pd.DataFrame:
    """Tabulate each arm of a study and its difference to the baseline, paired by seed and query.

    Returns:
        :data:`COLUMNS`: fractions, distances and seconds; the mean over seeds with an interval over queries,
        which says nothing of other seeds; ``per_seed`` lists each seed's own difference to the baseline;
        ``made`` says from which commits its rows come. An arm of which no seed was completed has one row,
        with its state.

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
    joined["study"] = f"{study.name}, smoke" if study.smoke else study.name
    commits = study.rows.groupby("arm")["commit"].agg(lambda names: " and ".join(dict.fromkeys(names)))
    joined["made"] = joined["arm"].map(commits).fillna("")
    return _ordered(joined, study.arm_names)


def _ordered(table: pd.DataFrame, arms: Sequence[str]) -> pd.DataFrame:
    """Sort rows by arm, and within an arm in the order of the page's tables."""
    order = {key: place for place, key in enumerate(_keys())}
    keys = zip(table["quantity"].fillna(""), table["task"].fillna(""), strict=True)
    places = [order.get((str(quantity), str(task)), 0) for quantity, task in keys]
    arm_places = table["arm"].map({arm: place for place, arm in enumerate(arms)})
    sorted_ = table.assign(place=places, arm_place=arm_places).sort_values(["arm_place", "place"])
    return sorted_[COLUMNS].reset_index(drop=True)


def put_into(table: pd.DataFrame, run: pd.DataFrame) -> pd.DataFrame:
    """Put the arms of a run into an earlier table of the same study, in the place of its rows of these arms.

    Differences stay those to the run's own baseline, which becomes an arm of its own (its name with
    :data:`AGAIN`), with its difference to the table's baseline: what another machine and another commit
    change. What a step costs is left as the table has it, since all were timed side by side.

    Raises:
        InputError: another study, another baseline, or an arm of the run that was not completed.
    """
    studies = [", ".join(sorted(set(frame["study"]))) for frame in (table, run)]
    (baseline,) = _baselines(run)
    if studies[0] != studies[1] or baseline not in _baselines(table):
        raise InputError(
            f"a run of {studies[1]!r} with the baseline {baseline!r} cannot go into a table of "
            f"{studies[0]!r} with {', '.join(_baselines(table)) or 'none'}"
        )
    before = set(table.loc[table["arm"] == f"{baseline}{AGAIN}", "made"])
    if not before <= set(run["made"]):
        raise InputError(
            f"the table holds arms of another run already ({', '.join(sorted(before))}); run both together, "
            "or start from the first table"
        )
    unfinished = run.loc[run["state"] != "complete", "arm"].unique()
    if len(unfinished):
        raise InputError(
            f"arms that are not complete would take the place of others: {', '.join(unfinished)}"
        )
    keys = ["quantity", "task"]
    run = run[run["quantity"] != "seconds"].assign(task=run["task"].fillna(""))
    again = run[run["arm"] == baseline].assign(arm=f"{baseline}{AGAIN}", label=run["label"] + ", again")
    first = table[table["arm"] == baseline].assign(task=table["task"].fillna(""))
    first = first[first["quantity"].isin(again["quantity"])]
    both = pd.concat([frame[[*keys, "arm", "value"]] for frame in (first, again)])
    change = minus_baseline(both, baseline, keys).rename(columns={"value": "minus_baseline"})
    again = again.drop(columns="minus_baseline").merge(change, on=[*keys, "arm"], how="left")
    replacing = pd.concat([run[run["arm"] != baseline], again])
    replaced = table["arm"].isin(replacing["arm"]) & (table["quantity"] != "seconds")
    arms = [*dict.fromkeys(table["arm"]), *dict.fromkeys(replacing["arm"])]
    arms.insert(arms.index(baseline) + 1, f"{baseline}{AGAIN}")
    return _ordered(pd.concat([table[~replaced], replacing]), list(dict.fromkeys(arms)))


def _baselines(table: pd.DataFrame) -> list[str]:
    """Name the arms that are compared with nothing."""
    measured = table[table["value"].notna()]
    compared = measured.groupby("arm", sort=False)["minus_baseline"].apply(
        lambda values: values.notna().any()
    )
    return [str(arm) for arm, has in compared.items() if not has]


def _keys() -> list[tuple[str, str]]:
    inside = [(quantity, task) for task in INVERTED for quantity in ("native", "inverted", "gain")]
    return [("distance", ""), *inside, *(("hit@1", task) for task in ACROSS), ("seconds", "")]


def _query_values(queries: pd.DataFrame) -> pd.DataFrame:
    """Give the value of each query: native and inverted mAP and their difference, and hit@1 across."""
    columns = ["arm", *ON, "query_id", "query_class", "value"]
    parts = []
    mean_ap = queries[queries["metric"] == "mAP"]
    for task, route in INVERTED.items():
        of_task = mean_ap[mean_ap["task"] == task]
        if of_task.empty:
            continue
        native, inverted = of_task[of_task["route"] == "native"], of_task[of_task["route"] == route]
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
    means = change.groupby([*by, "seed"], sort=False, observed=True)["value"].mean().reset_index()
    per_seed = (
        means.groupby(by, sort=False, observed=True)["value"].agg(_listed).rename("per_seed").reset_index()
    )
    seeds = values.groupby(by, sort=False, observed=True)["seed"].nunique().rename("n_seeds").reset_index()
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


def _step_seconds(study: RecordedStudy) -> pd.DataFrame:
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
    reasons = {}
    compared_with = table[table["minus_baseline"].isna() & table["value"].notna()]
    base = [row["value"] for row in _found(compared_with, "hit@1", "image-text")]
    for arm, own in table.groupby("arm", sort=False):
        state = str(own["state"].iloc[0])
        hits = _found(own, "hit@1", "image-text")
        if "failed" in state:
            reasons[str(arm)] = state
        elif hits and not hits[0]["low"] > 1 / hits[0]["n_queries"]:
            reasons[str(arm)] = "finds texts for images no better than chance"
        elif hits and base and hits[0]["value"] < base[0] / 2 and hits[0]["minus_high"] < 0:
            share = hits[0]["value"] / base[0]
            reasons[str(arm)] = f"finds texts for images {share:.0%} as often as the baseline"
    return reasons


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
    lines += _origins(measured[measured["quantity"] != "seconds"])
    return "\n".join([*lines, "", markdown([_levels(measured, lost), *_differences(measured)])])


def _origins(table: pd.DataFrame) -> list[str]:
    """Say which arms come from which run, where there are several."""
    runs = table.groupby("arm", sort=False)["made"].first()
    first = str(runs.loc[_baselines(table)[0]])
    others = [str(name) for name in runs.unique() if name != first]
    if not others:
        return []
    lines = ["", f"Rows come from more than one run. Baseline and other arms: {first or 'not recorded'}."]
    for run in others:
        arms = [str(arm) for arm in runs.index[runs == run]]
        named = ", ".join(f"`{arm}`" for arm in arms if not arm.endswith(AGAIN))
        lines.append(
            f"Those of {named}: {run or 'not recorded'}; they are compared with the baseline of their own "
            'run, which stands below as "again" beside its difference to the first. The time of a step is '
            "that of the first run in all rows."
        )
    return lines


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
            measured = _found(own, quantity, task)
            if not measured:
                cells.append(Cell(ABSENT))
            elif quantity == "seconds":
                cells.append(Cell(number(measured[0]["value"] / base[0]["value"], 2)))
            else:
                unit = (1, 3) if quantity == "distance" else (100, 1)
                cells.append(Cell(number(unit[0] * measured[0]["value"], unit[1])))
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
                measured = _found(own, quantity, task)
                cells.append(_difference(measured[0], quantity) if measured else Cell(ABSENT))
            rows.append(tuple(cells))
        titles = [_title(*key) for key in keys]
        tables.append(Table(f"Minus the baseline: {side}", ("arm", *titles), tuple(rows), DIFFERENCES_NOTE))
    return tables


def _difference(row: dict[str, object], quantity: str) -> Cell:
    scale, digits = (1, 3) if quantity == "distance" else (100, 1)
    value, low, high = (
        scale * float(str(row[name])) for name in ("minus_baseline", "minus_low", "minus_high")
    )
    listed = row["per_seed"] if isinstance(row["per_seed"], str) else ""
    seeds = ", ".join(number(scale * float(part), digits, signed=True) for part in listed.split(";") if part)
    around = [interval(low, high, digits), f"({seeds})" if seeds else ""]
    return Cell(number(value, digits, signed=True), " ".join(filter(None, around)))


def _title(quantity: str, task: str) -> str:
    if quantity == "seconds":
        return "step, x baseline"
    return f"{task} {TITLES[quantity]}".strip()


HEADER = """
# A first map of the terms

What each recipe of `pretrain/recipes` does at its default weight, at the size of the demo: small CLIPs (4
layers of width 128), 500 steps of 128 pairs of the embedded emoji, measured on the 371 concepts of the test
split, inverted with one pseudo-token by the fast schedule. A map of where to look, not a result: the models
are small, the seeds few, and of so many intervals some lie off zero by chance.

    python -m ablations.sweep --study map      # resumable; about two hours of two cores
    python -m analysis.term_map runs/map --out docs

Some of its arms anew, beside the baseline, and put into the table:

    python -m ablations.sweep --study examples/studies/part_of_map.py --out runs/part
    python -m analysis.term_map runs/part --into docs/first-map.csv --out docs
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
    into: Path | None = None,
    made: str | None = None,
) -> int:
    """Write the map of a study: first-map.csv and first-map.md.

    Args:
        run: the study's folder, or a first-map.csv from which only the page is written.
        out: folder for both; default: beside what was read.
        into: an earlier first-map.csv, whose rows of the run's arms the run replaces; the others stay.
        made: where the rows of the run come from, as "3969e2a2062b, AMD EPYC"; default: their commits.
    """
    of_table = run.suffix == ".csv"
    if of_table and into is not None:
        raise InputError(f"--into {into} with the table {run}: only a study's folder goes into another table")
    table, folder = (read_map(run), out or run.parent) if of_table else (_measured(run), out or run)
    if made is not None:
        table = table.assign(made=made)
    if into is not None:
        table = put_into(read_map(into), table)
    if not of_table or made is not None:
        with atomic_path(folder / "first-map.csv") as temporary:
            table.to_csv(temporary, index=False, float_format="%.6g")
        table = read_map(folder / "first-map.csv")
    write_text(folder / "first-map.md", page(table))
    print(folder / "first-map.md")
    return 0


def _measured(run: Path) -> pd.DataFrame:
    return term_map(read_runs([run]), Bootstrap())


def read_map(path: Path) -> pd.DataFrame:
    """Read what :func:`term_map` made; a table of before it said where rows come from has none of that.

    Raises:
        InputError: no such file, or it has other columns.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file; give a study's folder or the CSV made of one")
    table = pd.read_csv(path, keep_default_na=True, dtype={"made": str})
    if list(table.columns) == COLUMNS[:-1]:
        table["made"] = ""
    if list(table.columns) != COLUMNS:
        raise InputError(f"{path}: its columns are {list(table.columns)}, expected {COLUMNS}")
    return table.assign(made=table["made"].fillna(""))


if __name__ == "__main__":
    sys.exit(run_command(main))
