"""The tables of the report as readers see them: rounded, with units, intervals below the numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.design import changes
from analysis.results import Results, Within
from analysis.study import Study
from analysis.tables import at
from analysis.typeset import ABSENT, Cell, Table, interval, number, points, points_interval
from crossgap.probes.shots import probe_columns
from crossgap.reading.quoting import SIDE
from crossgap.reading.route_values import INTERVAL
from crossgap.reading.treatment import in_words, short, written
from crossgap.vocabulary import (
    CROSS_TASKS,
    PUBLISHED,
    PUBLISHED_ENCODERS,
    ROUTE_WORDS,
    SOURCES,
    is_cross_modal,
)

_ROUTE_ORDER = {route: position for position, route in enumerate(ROUTE_WORDS)}
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
QUANTITIES = {"native": "native", "gain": "inversion gain"}


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """List the rows of a frame as dictionaries."""
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]


def glance(study: Study, results: Results) -> Table | None:
    """Show each arm in one line: gap, native mAP, gains with those of the control, hit@1, zero-shot."""
    gaps = results.gaps[(results.gaps["metric"] == "centroid_distance") & (results.gaps["route"] == "native")]
    datasets = list(dict.fromkeys(results.quoted_rows["dataset"]))
    several = len(datasets) > 1
    measured = (
        [dataset for dataset in datasets if (gaps["dataset"] == dataset).any()] if several else datasets
    )
    columns = ["arm", "seeds", *(f"{dataset}: gap" if several else "gap" for dataset in measured)]
    makers = []
    for within in results.within:
        native = at(results.mean_ap[results.mean_ap["route"] == "native"], within.where)
        route = within.where.route.upper()
        modality = within.where.modality
        name = f"{within.where.dataset}, {modality}" if several else modality
        prefix = f"{name}: " if several else ""
        columns += [
            f"{name}: native mAP (%)",
            f"{prefix}{route} gain (points)",
            f"{name}: class-PCA gain (points)",
        ]
        if within.settings["loss"].notna().any():
            columns.append(f"{prefix}{route} 1 − cosine")
        makers.append((native, within))
    across = results.hit_at_1[results.hit_at_1["route"] == "native"]
    pairs = list(dict.fromkeys(zip(across["dataset"], across["task"], strict=True)))
    chosen = []
    for dataset in datasets:
        tasks = [task for where, task in pairs if where == dataset and is_cross_modal(task)]
        zero_shot = [task for task in tasks if task.startswith("zero-shot")][:1]
        chosen += [(dataset, task) for task in [t for t in tasks if t in CROSS_TASKS] + zero_shot]
    columns += [f"{f'{dataset}, ' if several else ''}{task}: hit@1 (%)" for dataset, task in chosen]
    rows = []
    counts = results.quoted_rows.groupby("arm")["seed"].nunique()
    for arm in [arm for arm in study.arm_names if arm in counts.index]:
        cells = [
            Cell(study.label(arm)),
            Cell(str(counts[arm])),
            *(
                Cell(number(gaps.loc[(gaps["arm"] == arm) & (gaps["dataset"] == dataset), "value"].mean(), 2))
                for dataset in measured
            ),
        ]
        for native, within in makers:
            cells.append(_level(native[native["arm"] == arm]))
            for route in (within.where.route, "class_pca"):
                mine = within.headline.controls
                mine = mine[(mine["arm"] == arm) & (mine["route"] == route)]
                cells.append(_points_cell(mine, "gain", scale=0.01))
            losses = within.settings.set_index("arm")["loss"]
            if losses.notna().any():
                cells.append(Cell(number(losses[losses.index == arm].mean(), 2)))
        mine = across[across["arm"] == arm]
        cells += [_level(mine[(mine["dataset"] == where) & (mine["task"] == task)]) for where, task in chosen]
        rows.append(tuple(cells))
    if not rows:
        return None
    return Table(
        "Arms at a glance",
        tuple(columns),
        tuple(rows),
        "Means over seeds. Gap: distance between the centroids of image and text embeddings. 1 − cosine: of "
        "the inverted feature to its target, 0 where inversion reaches it. Brackets: "
        f"{level_words(results)} intervals over queries.",
    )


def leading_first(results: Results, frame: pd.DataFrame) -> pd.DataFrame:
    """Put the rows of the leading tasks first and leave the order as it is otherwise."""
    leading = {within.where.task for within in results.within}
    return frame.sort_values("task", key=lambda tasks: ~tasks.isin(leading), kind="stable")


def arms(study: Study, results: Results) -> list[Table]:
    """Show every task within one modality: each arm and route with intervals and its difference to native."""
    tables = []
    within = results.mean_ap[~results.mean_ap["task"].map(is_cross_modal).astype(bool)]
    within = leading_first(results, within)
    for (dataset, split, task), group in within.groupby(SIDE, sort=False):
        columns = ("arm", "route", "steps × tokens", "mAP (%)", "macro mAP (%)", "route − native (points)",
                   "SD over seeds (points)", "seeds", "queries", "skipped")  # fmt: skip
        tables.append(
            Table(
                f"{task} ({dataset}, {split})",
                columns,
                _route_rows(study, group),
                f"{group['n_gallery'].max():,} gallery items. Brackets: {level_words(results)} intervals "
                "over queries, whole classes resampled; macro: mean over classes. Skipped: queries with "
                "nothing relevant in the gallery.",
                text_columns=3,
            )
        )
    return tables


def across(study: Study, results: Results) -> list[Table]:
    """Show retrieval across modalities and zero-shot classification: hit@1 by arm and route."""
    tables = []
    table = results.hit_at_1[results.hit_at_1["task"].map(is_cross_modal).astype(bool)]
    for (dataset, split, task), group in table.groupby(SIDE, sort=False):
        zero_shot = str(task).startswith("zero-shot")
        what = "top-1 accuracy (%)" if zero_shot else "hit@1 (%)"
        columns = ("arm", "route", "steps × tokens", what, f"macro {what}", "route − native (points)",
                   "SD over seeds (points)", "seeds", "queries", "skipped")  # fmt: skip
        note = f"{group['n_gallery'].max():,} gallery items. Brackets: {level_words(results)} intervals."
        if zero_shot:
            note += (
                " Native compares across modalities; an inverted side makes the comparison intra-modal, "
                "which the misalignment hypothesis expects to hurt."
            )
        rows = _route_rows(study, group)
        tables.append(Table(f"{task} ({dataset}, {split})", columns, rows, note, text_columns=3))
    return tables


def probes(study: Study, results: Results) -> list[Table]:
    """Show classification by labelled training images: accuracy by arm and route, in columns by shots."""
    tables = []
    table = results.hit_at_1[results.hit_at_1["task"].isin(probe_columns())]
    for (dataset, split), group in table.groupby(["dataset", "split"], sort=False):
        names = [name for name in probe_columns() if name in set(group["task"])]
        rows = []
        for arm in [arm for arm in study.arm_names if arm in set(group["arm"])]:
            mine = group[group["arm"] == arm]
            routes = sorted(set(mine["route"]), key=lambda route: _ROUTE_ORDER.get(route, len(_ROUTE_ORDER)))
            for position, route in enumerate(routes):
                by_task = {row["task"]: row for row in records(mine[mine["route"] == route])}
                rows.append(
                    (
                        Cell(study.label(arm) if position == 0 else ""),
                        Cell(route_label(route)),
                        *(_probe_cell(by_task.get(name)) for name in names),
                    )
                )
        tables.append(
            Table(
                f"Images by labelled training images ({dataset}, {split}): accuracy (%), higher is better",
                ("arm", "route", *(probe_columns()[name] for name in names)),
                tuple(rows),
                "Shots: training images a class, whose mean unit feature a query is compared with by cosine. "
                "Linear probe: logistic regression on all training images, or as many as the protocol says, "
                "for native features and maps that take directions away. Below: the "
                f"{level_words(results)} interval of native accuracy over queries, of the other routes their "
                "difference to native in points, paired by seed and query.",
                text_columns=2,
            )
        )
    return tables


def _probe_cell(row: dict[str, Any] | None) -> Cell:
    if row is None:
        return Cell(ABSENT)
    if row["route"] == "chance":
        return Cell(points(row["value"]))
    if row["route"] == "native":
        return Cell(points(row["value"]), points_interval(row["low"], row["high"]))
    bounds = points_interval(row["difference_low"], row["difference_high"])
    return Cell(points(row["value"]), f"{points(row['difference'], signed=True)} {bounds}".strip())


def _route_rows(study: Study, group: pd.DataFrame) -> tuple[tuple[Cell, ...], ...]:
    rows = []
    for arm in [arm for arm in study.arm_names if arm in set(group["arm"])]:
        mine = records(group[group["arm"] == arm])
        mine.sort(key=lambda row: _ROUTE_ORDER.get(row["route"], len(_ROUTE_ORDER)))
        for position, row in enumerate(mine):
            change = Cell(
                points(row["difference"], 2, signed=True),
                points_interval(row["difference_low"], row["difference_high"], 2),
            )
            rows.append(
                (
                    Cell(study.label(arm) if position == 0 else ""),
                    Cell(route_label(row["route"])),
                    Cell(_settings(row["settings"])),
                    Cell(points(row["value"]), points_interval(row["low"], row["high"])),
                    Cell(points(row["macro"]), points_interval(row["macro_low"], row["macro_high"])),
                    change if row["route"] != "native" else Cell(ABSENT),
                    Cell(ABSENT if row["route"] == "chance" else points(row["seed_sd"], 2)),
                    Cell(str(row["n_seeds"])),
                    Cell(f"{row['n_queries']:,}"),
                    Cell(f"{row['n_skipped']:,}"),
                )
            )
    return tuple(rows)


def _settings(settings: tuple[tuple[int, int, str], ...]) -> str:
    return "; ".join(f"{steps} × {tokens}" + f", {words}" * bool(words) for steps, tokens, words in settings)


def gaps(study: Study, results: Results) -> list[Table]:
    """Show the gap metrics and the same/other-class overlap, one line a model."""
    tables = []
    overlap = results.gaps["metric"].str.startswith(OVERLAP)
    for (dataset, split), group in results.gaps[~overlap].groupby(["dataset", "split"], sort=False):
        native = group[group["route"] == "native"]
        metrics = [metric for metric in GAP_NAMES if metric in set(native["metric"])]
        units = dict(zip(native["metric"], native["unit"], strict=True))
        names = {metric: f"{GAP_NAMES[metric]} ({units[metric]})" for metric in metrics}
        note = (
            "Brackets: 95 % intervals over pairs, where evaluation wrote them. rows.jsonl has more metrics."
        )
        title = f"Gap and geometry ({dataset}, {split})"
        tables.append(_by_model(study, native.assign(column=native["metric"]), names, title, note))
    for (dataset, split), group in results.gaps[overlap].groupby(["dataset", "split"], sort=False):
        shown = group[group["route"].isin(["native", "oti", "ovi"])]
        shown = shown.assign(task=shown["metric"].str.removeprefix(f"{OVERLAP} "))
        shown["column"] = shown["task"] + ", " + shown["route"].map(route_label)
        names = {column: column for column in dict.fromkeys(leading_first(results, shown)["column"])}
        note = (
            "Over all pairs of query and gallery item: the chance that a pair of one class is more "
            "similar than a pair of two classes. .5 is chance, 1 a clean separation. Unchanged by any "
            "increasing map."
        )
        title = f"Same class above other class ({dataset}, {split}), probability"
        tables.append(_by_model(study, shown, names, title, note))
    return tables


def _by_model(study: Study, frame: pd.DataFrame, names: dict[str, str], title: str, note: str) -> Table:
    rows = []
    for arm in [arm for arm in study.arm_names if arm in set(frame["arm"])]:
        seeds = sorted(set(frame.loc[frame["arm"] == arm, "seed"]))
        for position, seed in enumerate(seeds):
            mine = frame[(frame["arm"] == arm) & (frame["seed"] == seed)]
            cells = [Cell(study.label(arm) if position == 0 else ""), Cell(str(seed))]
            for column in names:
                found = records(mine[mine["column"] == column])
                values = [found[0][name] for name in INTERVAL] if found else [float("nan")] * 3
                cells.append(Cell(number(values[0], 3), interval(values[1], values[2], 3)))
            rows.append(tuple(cells))
    return Table(title, ("arm", "seed", *names.values()), tuple(rows), note)


def grid(study: Study, results: Results, within: Within) -> Table | None:
    """Show, for each arm inverted under several settings, the choice on validation and the best point."""
    if within.grid.empty:
        return None
    route, split = within.where.route.upper(), within.where.split
    columns = ("arm", "chosen on val, by seed", f"best on {split}", "points compared",
               f"gain of the choice on {split} (points)",
               f"gain of the best (points): chosen on {split}, optimistic")  # fmt: skip
    rows = []
    by_arm = {row["arm"]: row for row in records(within.grid)}
    for row in [by_arm[arm] for arm in study.arm_names if arm in by_arm]:
        mine = records(within.settings[within.settings["arm"] == row["arm"]].sort_values("seed"))
        chosen = [(one["steps"], one["num_tokens"], one["setting"]) for one in mine]
        best = (int(row["best_steps"]), int(row["best_num_tokens"]), row["best_setting"])
        rows.append(
            (
                Cell(study.label(row["arm"])),
                Cell("; ".join(_settings((one,)) for one in dict.fromkeys(chosen))),
                Cell(_settings((best,))),
                Cell(f"{row['n_points']:,}"),
                Cell(points(row["value"], 2, signed=True), points_interval(row["low"], row["high"], 2)),
                Cell(
                    points(row["best"], 2, signed=True), points_interval(row["best_low"], row["best_high"], 2)
                ),
            )
        )
    return Table(
        f"{route} over its settings on {within.where.task} ({within.where.dataset})",
        columns,
        tuple(rows),
        "Settings are steps × tokens, then what else was compared. Means over seeds, each with the setting "
        f"that its own validation chose; brackets: {level_words(results)} intervals over queries. The best "
        "is one setting for all seeds, picked on the reported split as the highest of all points: neither "
        "its gain nor its interval is a result.",
        text_columns=3,
    )


def chosen_settings(study: Study, within: Within) -> Table:
    """Show, for each model, the inversion setting quoted and what the best setting would have given."""
    route = within.where.route.upper()
    worded = bool((within.settings[["setting", "best_setting"]] != "").to_numpy().any())
    columns = ("arm", "seed", "steps", "tokens", *["setting"] * worded, "chosen on",
               "1 − cosine after inversion", "gain on val (points)",
               f"gain on {within.where.split} (points)", f"best steps × tokens on {within.where.split}",
               "its gain (points)")  # fmt: skip
    rows = []
    previous = None
    for row in records(within.settings):
        rows.append(
            (
                Cell("" if row["arm"] == previous else study.label(row["arm"])),
                Cell(str(row["seed"])),
                Cell(str(row["steps"])),
                Cell(str(row["num_tokens"])),
                *[Cell(row["setting"])] * worded,
                Cell({"val": "val", "preset": "fixed beforehand"}.get(row["selection"], row["selection"])),
                Cell(number(row["loss"], 3)),
                Cell(points(row["gain_val"], 2, signed=True)),
                Cell(points(row["gain"], 2, signed=True)),
                Cell(_settings(((row["best_steps"], row["best_num_tokens"], row["best_setting"]),))),
                Cell(points(row["best_gain"], 2, signed=True)),
            )
        )
        previous = row["arm"]
    return Table(
        f"Settings of {route} on {within.where.task} ({within.where.dataset})",
        columns,
        tuple(rows),
        "The best setting is found on the reported split itself: it shows what the choice on validation "
        "gives up, and is not a result.",
    )


def trials(study: Study) -> Table:
    """Show the state of every model that was wanted, with the reason where it is not complete."""
    rows = []
    previous = None
    about = study.rows.groupby(["arm", "seed"]).agg(
        encoder=("encoder", "first"), config_hash=("config_hash", _distinct), pairs_seen=("pairs_seen", "max")
    )
    for row in records(study.trials):
        key = (row["arm"], row["seed"])
        facts = about.loc[key] if key in about.index else None
        step = "" if pd.isna(row["step"]) else f"step {int(row['step'])}"
        state = row["state"] if not step else f"{row['state']}, {step}"
        pairs = None if facts is None else facts["pairs_seen"]
        rows.append(
            (
                Cell("" if row["arm"] == previous else study.label(row["arm"])),
                Cell(str(row["seed"])),
                Cell(state),
                Cell(str(row["reason"])),
                Cell(ABSENT if facts is None else str(facts["encoder"])[:16]),
                Cell(ABSENT if facts is None else str(facts["config_hash"])),
                Cell(ABSENT if pairs is None or pd.isna(pairs) else f"{int(pairs):,}"),
                Cell(number(row["seconds"], 0)),
            )
        )
        previous = row["arm"]
    columns = (
        "arm",
        "seed",
        "state",
        "reason",
        "encoder fingerprint",
        "config hash",
        "pairs seen",
        "seconds",
    )
    return Table("Models", columns, tuple(rows), text_columns=6)


def trainings(study: Study) -> list[Table]:
    """Show of each arm that was trained here its recipe, and how it differs from it and from the baseline."""
    differs = changes(study.configs, study.baseline)
    rows = [
        (
            Cell(study.label(arm)),
            Cell(str(study.configs[arm].get("recipe", ABSENT))),
            Cell(_changed_words(study.changed[arm]) if arm in study.changed else "not recorded"),
            Cell(in_words(differs.get(arm, {})) or ("the baseline" if arm == study.baseline else "nothing")),
        )
        for arm in study.arm_names
        if arm in study.configs
    ]
    if not rows:
        return []
    columns = ("arm", "recipe", "what it changes in its recipe", "how it differs from the baseline")
    note = (
        "From the configurations beside the models. In brackets: the recipe's value. A recipe on scenes with "
        "the settings that all have there counts as itself; what a smoke run makes smaller is listed."
    )
    return [Table("How the models were trained", columns, tuple(rows), note, text_columns=4)]


def _changed_words(changed: Mapping[str, Sequence[Any]]) -> str:
    listed = [
        f"{short(name)} {written(here)} ({written(recipe)})" for name, (recipe, here) in changed.items()
    ]
    return "; ".join(listed) or "nothing"


def sources(study: Study, results: Results) -> Table:
    """Show where the numbers come from: study, data and hashes, versions, commit, intervals."""
    rows = study.rows
    data = [
        f"{dataset}, split {split}, hash {digest[:16]}"
        for dataset, split, digest in dict.fromkeys(
            rows[["dataset", "split", "dataset_hash"]].itertuples(index=False, name=None)
        )
    ]
    bootstrap = results.bootstrap
    facts = [
        ("study", [study.name]),
        ("arms", [f"{study.label(arm)} ({arm})" for arm in study.arm_names]),
        ("seeds", [", ".join(map(str, study.seeds))]),
        ("selection", [study.selection]),
        ("data", data),
        ("versions", sorted(set(rows["versions"]))),
        ("commit", sorted(set(rows["commit"]))),
        (
            "inversion seeds",
            [", ".join(str(int(seed)) for seed in sorted(set(rows["inversion_seed"].dropna())))],
        ),
        (
            "intervals",
            [
                f"{bootstrap.method} bootstrap over queries, percentile, level {bootstrap.level:g}, "
                f"{bootstrap.resamples:,} resamples, seed {bootstrap.seed}"
            ],
        ),
        (
            "rows against per-query values",
            [
                "largest difference of a row from the mean of its queries: "
                f"{_difference(results.disagreement)}; quoted rows without per-query values: "
                f"{results.rows_without_queries}"
            ],
        ),
    ]
    cells = tuple(
        (Cell(name if position == 0 else ""), Cell(text))
        for name, texts in facts
        for position, text in enumerate(texts)
        if text
    )
    return Table("Where the numbers come from", ("what", "value"), cells, text_columns=2)


def skipped(results: Results) -> Table | None:
    """Show the tasks where queries were skipped because nothing in the gallery is relevant to them."""
    rows = results.quoted_rows[results.quoted_rows["task"] != "gap"]
    table = rows.groupby(SIDE, sort=False)[["n_queries", "n_skipped", "n_gallery"]].max().reset_index()
    table = table[table["n_skipped"] > 0]
    if table.empty:
        return None
    cells = tuple(
        (
            Cell(f"{row['task']} ({row['dataset']}, {row['split']})"),
            *(Cell(f"{row[name]:,}") for name in ("n_queries", "n_skipped", "n_gallery")),
        )
        for row in records(table)
    )
    return Table("Skipped queries", ("task", "queries measured", "skipped", "gallery items"), cells)


def published(study: Study) -> Table | None:
    """Show published figures of released models, for context; None where none of them was measured here."""
    if not measures_published(study):
        return None
    rows = tuple(
        (
            Cell(entry.source),
            Cell(entry.what),
            Cell(entry.model),
            Cell(entry.route),
            Cell(number(entry.native, 1)),
            Cell(number(entry.value, 1)),
        )
        for entry in PUBLISHED
    )
    note = "Sources: " + " ".join(SOURCES)
    columns = ("source", "what", "model", "route", "native (%)", "by the route (%)")
    return Table("Published figures of released models", columns, rows, note, text_columns=4)


def measures_published(study: Study) -> bool:
    """Tell whether a model that figures were published of is among those measured here."""
    return any(arm.partition(" (")[0] in PUBLISHED_ENCODERS for arm in study.arm_names)


def _level(frame: pd.DataFrame) -> Cell:
    if frame.empty:
        return Cell(ABSENT)
    row = frame.iloc[0]
    return Cell(points(row["value"]), points_interval(row["low"], row["high"]))


def _points_cell(frame: pd.DataFrame, column: str, *, scale: float) -> Cell:
    if frame.empty:
        return Cell(ABSENT)
    row = frame.iloc[0]
    value, low, high = (scale * row[name] for name in (column, "low", "high"))
    return Cell(points(value, 2, signed=True), points_interval(low, high, 2))


def route_label(route: str) -> str:
    return ROUTE_WORDS[route].label if route in ROUTE_WORDS else route


def level_words(results: Results) -> str:
    return f"{100 * results.bootstrap.level:g} %"


def _distinct(values: Sequence[str]) -> str:
    return ", ".join(sorted(set(values)))


def _difference(value: float) -> str:
    return "none above 1e-9" if value < 1e-9 else f"{value:.1g}"
