"""The tables of what was measured: tasks by arm and route, gaps, probes, the settings of inversion."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from analysis.leading import at, leading_first
from analysis.results import Results, Within
from analysis.sheets.columns import (
    ARM,
    ROUTE,
    SEEDS,
    Column,
    Row,
    by_arm,
    counts,
    numbers,
    records,
    sheet,
    words,
)
from analysis.sheets.inferred import level_words
from analysis.study import RecordedStudy
from analysis.typeset import ABSENT, Cell, Table, points, points_interval
from crossgap.probes.shots import probe_columns
from crossgap.reading.quoting import SIDE
from crossgap.reading.route_values import INTERVAL
from crossgap.vocabulary import CROSS_TASKS, is_cross_modal

GAP_NAMES = {
    "centroid_distance": "centroid distance",
    "mean_pair_cosine": "cosine of true pairs",
    "RMG": "RMG",
    "linear_separability": "linear separability",
    "alignment": "alignment",
    "uniformity_image": "uniformity, images",
    "uniformity_text": "uniformity, texts",
    "modality_mixing@10": "modality mixing, 10 neighbours",
    "mutual_knn@10": "mutual kNN, 10 neighbours",
    "cknna@10": "CKNNA, 10 neighbours",
    "effective_rank_image": "effective rank, images",
    "effective_rank_text": "effective rank, texts",
}
OVERLAP = "same_other_auc"
BOUNDS, OF_DIFFERENCE = ("low", "high"), ("difference_low", "difference_high")


def _level(title: str, name: str = "value") -> Column:
    """Make a column of percentages with their intervals."""
    bounds = BOUNDS if name == "value" else (f"{name}_low", f"{name}_high")
    return numbers(title, name, 1, scale=100, bounds=bounds)


def _points(title: str, name: str, bounds: tuple[str, str] | None = None) -> Column:
    """Make a column of differences in points."""
    return numbers(title, name, 2, scale=100, signed=True, bounds=bounds)


def _of_arm(frame: pd.DataFrame, column: Column) -> Column:
    """Make a column that shows of each arm its first row of another frame."""
    rows = {row["arm"]: row for row in reversed(records(frame))}
    return Column(
        column.title, lambda row: column.cell(rows[row["arm"]]) if row["arm"] in rows else Cell(ABSENT)
    )


def glance(study: RecordedStudy, results: Results) -> list[Table]:
    """Show each arm in one line: gap, native mAP, gains with those of the control, hit@1, zero-shot."""
    datasets = list(dict.fromkeys(results.quoted_rows["dataset"]))
    several = len(datasets) > 1
    gaps = results.gaps[(results.gaps["metric"] == "centroid_distance") & (results.gaps["route"] == "native")]
    columns = [ARM, SEEDS]
    for dataset in datasets:
        of_dataset = gaps[gaps["dataset"] == dataset]
        if len(of_dataset) or not several:
            means = of_dataset.groupby("arm", sort=False)["value"].mean().reset_index()
            columns.append(_of_arm(means, numbers(f"{dataset}: gap" if several else "gap", "value", 2)))
    for within in results.within:
        name = within.where.modality
        columns += _glance_within(
            results, within, f"{within.where.dataset}, {name}" if several else name, several
        )
    across = results.hit_at_1[results.hit_at_1["route"] == "native"]
    for dataset in datasets:
        of_dataset = across[across["dataset"] == dataset]
        tasks = [task for task in dict.fromkeys(of_dataset["task"]) if is_cross_modal(task)]
        zero_shot = [task for task in tasks if task.startswith("zero-shot")][:1]
        for task in [task for task in tasks if task in CROSS_TASKS] + zero_shot:
            title = f"{f'{dataset}, ' if several else ''}{task}: hit@1 (%)"
            columns.append(_of_arm(of_dataset[of_dataset["task"] == task], _level(title)))
    seeds = results.quoted_rows.groupby("arm")["seed"].nunique().rename("n_seeds").reset_index()
    note = (
        "Means over seeds. Gap: distance between the centroids of image and text embeddings. 1 − cosine: of "
        "the inverted feature to its target, 0 where inversion reaches it. Brackets: "
        f"{level_words(results)} intervals over queries."
    )
    return [sheet("Arms at a glance", columns, by_arm(study, seeds), note)] if len(seeds) else []


def _glance_within(results: Results, within: Within, name: str, several: bool) -> list[Column]:
    """Give the columns of one leading task: native mAP, gains, and how close inversions came."""
    measured = at(results.mean_ap, within.where)
    route = within.where.route.upper()
    prefix = f"{name}: " if several else ""

    def of_route(route: str, column: Column) -> Column:
        return _of_arm(measured[measured["route"] == route], column)

    columns = [
        of_route("native", _level(f"{name}: native mAP (%)")),
        of_route(within.where.route, _points(f"{prefix}{route} gain (points)", "difference", OF_DIFFERENCE)),
        of_route("class_pca", _points(f"{name}: class-PCA gain (points)", "difference", OF_DIFFERENCE)),
    ]
    losses = within.settings.groupby("arm", sort=False)["loss"].mean().dropna().reset_index()
    if len(losses):
        columns.append(_of_arm(losses, numbers(f"{prefix}{route} 1 − cosine", "loss", 2)))
    return columns


def arms(study: RecordedStudy, results: Results) -> list[Table]:
    """Show every task within one modality: each arm and route with intervals and its difference to native."""
    within = results.mean_ap[~results.mean_ap["task"].map(is_cross_modal).astype(bool)]
    note = (
        f"Brackets: {level_words(results)} intervals over queries, whole classes resampled; macro: mean over "
        "classes. Skipped: queries with nothing relevant in the gallery."
    )
    return [
        _by_route(study, group, "mAP (%)", note)
        for _, group in leading_first(results.wheres, within).groupby(SIDE, sort=False)
    ]


def across(study: RecordedStudy, results: Results) -> list[Table]:
    """Show retrieval across modalities and zero-shot classification: hit@1 by arm and route."""
    tables = []
    table = results.hit_at_1[results.hit_at_1["task"].map(is_cross_modal).astype(bool)]
    for (_, _, task), group in table.groupby(SIDE, sort=False):
        note = f"Brackets: {level_words(results)} intervals."
        zero_shot = str(task).startswith("zero-shot")
        if zero_shot:
            note += (
                " Native compares across modalities; an inverted side makes the comparison intra-modal, "
                "which the misalignment hypothesis expects to hurt."
            )
        tables.append(_by_route(study, group, "top-1 accuracy (%)" if zero_shot else "hit@1 (%)", note))
    return tables


def _by_route(study: RecordedStudy, group: pd.DataFrame, what: str, note: str) -> Table:
    difference = _points("route − native (points)", "difference", OF_DIFFERENCE)
    spread = numbers("SD over seeds (points)", "seed_sd", 2, scale=100)
    columns = (
        ARM,
        ROUTE,
        Column("steps × tokens", lambda row: Cell(_settings(row["settings"]))),
        _level(what),
        _level(f"macro {what}", "macro"),
        _without(difference, "native"),
        _without(spread, "chance"),
        SEEDS,
        counts("queries", "n_queries"),
        counts("skipped", "n_skipped"),
    )
    title = "{task} ({dataset}, {split})".format(**group.iloc[0])
    note = f"{group['n_gallery'].max():,} gallery items. {note}"
    return sheet(title, columns, by_arm(study, group), note, text_columns=3, grouped=True)


def _without(column: Column, route: str) -> Column:
    """Leave a column empty for one route."""
    return Column(column.title, lambda row: Cell(ABSENT) if row["route"] == route else column.cell(row))


def _settings(settings: Iterable[tuple[int, int, str]]) -> str:
    return "; ".join(f"{steps} × {tokens}" + f", {said}" * bool(said) for steps, tokens, said in settings)


def probes(study: RecordedStudy, results: Results) -> list[Table]:
    """Show classification by labelled training images: accuracy by arm and route, in columns by shots."""
    tables = []
    table = results.hit_at_1[results.hit_at_1["task"].isin(probe_columns())]
    for (dataset, split), group in table.groupby(["dataset", "split"], sort=False):
        by_task = {(row["arm"], row["route"], row["task"]): row for row in records(group)}
        names = [name for name in probe_columns() if name in set(group["task"])]
        columns = (ARM, ROUTE, *(_probe(probe_columns()[name], name, by_task) for name in names))
        rows = by_arm(study, group.drop_duplicates(["arm", "route"]))
        title = f"Images by labelled training images ({dataset}, {split}): accuracy (%), higher is better"
        note = (
            "Shots: training images a class, whose mean unit feature a query is compared with by cosine. "
            "Linear probe: logistic regression on all training images, or as many as the protocol says, "
            "for native features and maps that take directions away. Below: the "
            f"{level_words(results)} interval of native accuracy over queries, of the other routes their "
            "difference to native in points, paired by seed and query."
        )
        tables.append(sheet(title, columns, rows, note, text_columns=2, grouped=True))
    return tables


def _probe(title: str, task: str, by_task: dict[tuple[str, str, str], dict[str, Any]]) -> Column:
    def cell(row: Row) -> Cell:
        probed = by_task.get((row["arm"], row["route"], task))
        if probed is None:
            return Cell(ABSENT)
        detail = ""
        if probed["route"] == "native":
            detail = points_interval(probed["low"], probed["high"])
        elif probed["route"] != "chance":
            bounds = points_interval(probed["difference_low"], probed["difference_high"])
            detail = f"{points(probed['difference'], signed=True)} {bounds}".strip()
        return Cell(points(probed["value"]), detail)

    return Column(title, cell)


def gaps(study: RecordedStudy, results: Results) -> list[Table]:
    """Show the gap metrics and the same/other-class overlap, one line a model."""
    tables = []
    overlap = results.gaps["metric"].str.startswith(OVERLAP)
    for (dataset, split), group in results.gaps[~overlap].groupby(["dataset", "split"], sort=False):
        native = group[group["route"] == "native"]
        units = dict(zip(native["metric"], native["unit"], strict=True))
        names = {metric: f"{name} ({units[metric]})" for metric, name in GAP_NAMES.items() if metric in units}
        note = (
            "Brackets: 95 % intervals over pairs, where evaluation wrote them. rows.jsonl has more metrics."
        )
        title = f"Gap and geometry ({dataset}, {split})"
        tables.append(_by_model(study, native.assign(column=native["metric"]), names, title, note))
    for (dataset, split), group in results.gaps[overlap].groupby(["dataset", "split"], sort=False):
        shown = group[group["route"].isin(["native", "oti", "ovi"])]
        shown = shown.assign(task=shown["metric"].str.removeprefix(f"{OVERLAP} "))
        shown["column"] = [f"{row['task']}, {ROUTE.cell(row).text}" for row in records(shown)]
        names = {column: column for column in dict.fromkeys(leading_first(results.wheres, shown)["column"])}
        note = (
            "Over all pairs of query and gallery item: the chance that a pair of one class is more "
            "similar than a pair of two classes. .5 is chance, 1 a clean separation. Unchanged by any "
            "increasing map."
        )
        title = f"Same class above other class ({dataset}, {split}), probability"
        tables.append(_by_model(study, shown, names, title, note))
    return tables


def _by_model(
    study: RecordedStudy, frame: pd.DataFrame, names: dict[str, str], title: str, note: str
) -> Table:
    """Show a row a model: the values that a frame in long form has in ``column``."""
    measured = {(row["arm"], row["seed"], row["column"]): row for row in reversed(records(frame))}
    empty = dict.fromkeys(INTERVAL, float("nan"))

    def column(name: str, title: str) -> Column:
        shown = numbers(title, "value", 3, bounds=BOUNDS)
        return Column(title, lambda row: shown.cell(measured.get((row["arm"], row["seed"], name), empty)))

    models = frame[["arm", "seed"]].drop_duplicates().sort_values("seed", kind="stable")
    columns = (ARM, words("seed", "seed"), *(column(*named) for named in names.items()))
    return sheet(title, columns, by_arm(study, models), note, grouped=True)


def grid(study: RecordedStudy, results: Results, within: Within) -> list[Table]:
    """Show, for each arm inverted under several settings, the choice on validation and the best point."""
    if within.grid.empty:
        return []
    split = within.where.split

    def chosen(row: Row) -> Cell:
        of_arm = within.settings[within.settings["arm"] == row["arm"]].sort_values("seed")
        by_seed = of_arm[["steps", "num_tokens", "setting"]].itertuples(index=False, name=None)
        return Cell("; ".join(_settings((setting,)) for setting in dict.fromkeys(by_seed)))

    columns = (
        ARM,
        Column("chosen on val, by seed", chosen),
        Column(f"best on {split}", _best),
        counts("points compared", "n_points"),
        _points(f"gain of the choice on {split} (points)", "value", BOUNDS),
        _points(
            f"gain of the best (points): chosen on {split}, optimistic", "best", ("best_low", "best_high")
        ),
    )
    note = (
        "Settings are steps × tokens, then what else was compared. Means over seeds, each with the setting "
        f"that its own validation chose; brackets: {level_words(results)} intervals over queries. The best "
        "is one setting for all seeds, picked on the reported split as the highest of all points: neither "
        "its gain nor its interval is a result."
    )
    where = within.where
    title = f"{where.route.upper()} over its settings on {where.task} ({where.dataset})"
    return [sheet(title, columns, by_arm(study, within.grid), note, text_columns=3)]


def _best(row: Row) -> Cell:
    return Cell(_settings(((int(row["best_steps"]), int(row["best_num_tokens"]), row["best_setting"]),)))


def _selection(row: Row) -> Cell:
    return Cell("fixed beforehand" if row["selection"] == "preset" else str(row["selection"]))


def chosen_settings(study: RecordedStudy, within: Within) -> Table:
    """Show, for each model, the inversion setting quoted and what the best setting would have given."""
    split = within.where.split
    worded = bool((within.settings[["setting", "best_setting"]] != "").to_numpy().any())
    columns: Sequence[Column] = (
        ARM,
        words("seed", "seed"),
        words("steps", "steps"),
        words("tokens", "num_tokens"),
        *[words("setting", "setting")] * worded,
        Column("chosen on", _selection),
        numbers("1 − cosine after inversion", "loss", 3),
        _points("gain on val (points)", "gain_val"),
        _points(f"gain on {split} (points)", "gain"),
        Column(f"best steps × tokens on {split}", _best),
        _points("its gain (points)", "best_gain"),
    )
    note = (
        "The best setting is found on the reported split itself: it shows what the choice on validation "
        "gives up, and is not a result."
    )
    title = f"Settings of {within.where.route.upper()} on {within.where.task} ({within.where.dataset})"
    rows = [row | {"label": study.label(row["arm"])} for row in records(within.settings)]
    return sheet(title, columns, rows, note, grouped=True)
