"""The tables of where numbers come from: models and trainings, data, skipped queries, published figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.designs import changes
from analysis.results import Results
from analysis.sheets.columns import Column, Row, counts, numbers, records, sheet, words
from analysis.study import RecordedStudy
from analysis.typeset import ABSENT, Cell, Table
from crossgap.reading.quoting import MODEL, SIDE
from crossgap.reading.treatment import in_words, short, written
from crossgap.vocabulary import PUBLISHED, PUBLISHED_ENCODERS, SOURCES

TRIALS = (
    words("arm", "label"),
    words("seed", "seed"),
    Column("state", lambda row: Cell(row["state"] + _step(row["step"]))),
    words("reason", "reason"),
    Column("encoder fingerprint", lambda row: Cell(_known(row["encoder"])[:16])),
    Column("config hash", lambda row: Cell(_known(row["config_hash"]))),
    Column("pairs seen", lambda row: Cell(
        ABSENT if pd.isna(row["pairs_seen"]) else f"{int(row['pairs_seen']):,}")),
    numbers("seconds", "seconds", 0),
)  # fmt: skip


def _step(step: float | None) -> str:
    return "" if pd.isna(step) else f", step {int(step)}"


def _known(text: Any) -> str:
    return ABSENT if pd.isna(text) else str(text)


def trials(study: RecordedStudy) -> Table:
    """Show the state of every model that was wanted, with the reason where it is not complete."""
    about = study.rows.groupby(MODEL).agg(
        encoder=("encoder", "first"), config_hash=("config_hash", _distinct), measured=("pairs_seen", "max")
    )
    frame = study.trials.merge(about.reset_index(), on=MODEL, how="left")
    frame["pairs_seen"] = frame.pop("measured").fillna(frame["pairs_seen"].astype(float))
    frame["label"] = frame["arm"].map(study.label)
    return sheet("Models", TRIALS, records(frame), text_columns=6, grouped=True)


def trainings(study: RecordedStudy) -> list[Table]:
    """Show of each arm that was trained here its recipe, how it differs from it, and from a baseline."""
    differs = changes(study.configs, study.baseline)

    def changed(row: Row) -> Cell:
        of_recipe = study.changed.get(row["arm"])
        return Cell("not recorded" if of_recipe is None else _changed_words(of_recipe))

    def different(row: Row) -> Cell:
        other = "the baseline" if row["arm"] == study.baseline else "nothing"
        return Cell(in_words(differs.get(row["arm"], {})) or other)

    columns = (
        words("arm", "label"),
        Column("recipe", lambda row: Cell(str(study.configs[row["arm"]].get("recipe", ABSENT)))),
        Column("what it changes in its recipe", changed),
        *[Column("how it differs from the baseline", different)] * (study.baseline is not None),
    )
    rows = [{"arm": arm.name, "label": arm.label} for arm in study.arms if arm.name in study.configs]
    note = (
        "From the configurations beside the models. In brackets: the recipe's value. A recipe on scenes with "
        "the settings that all have there counts as itself; what a smoke run makes smaller is listed."
    )
    return (
        [sheet("How the models were trained", columns, rows, note, text_columns=len(columns))] if rows else []
    )


def _changed_words(changed: Mapping[str, Sequence[Any]]) -> str:
    listed = [
        f"{short(name)} {written(value)} ({written(recipe)})" for name, (recipe, value) in changed.items()
    ]
    return "; ".join(listed) or "nothing"


def sources(study: RecordedStudy, results: Results) -> Table:
    """Show where the numbers come from: study, data and hashes, versions, commit, intervals."""
    rows = study.rows
    bootstrap = results.bootstrap
    off = "none above 1e-9" if results.disagreement < 1e-9 else f"{results.disagreement:.1g}"
    facts = {
        "study": [study.name],
        "arms": [f"{arm.label} ({arm.name})" for arm in study.arms],
        "seeds": [", ".join(map(str, study.seeds))],
        "selection": [study.selection],
        "data": [
            f"{dataset}, split {split}, hash {digest[:16]}"
            for dataset, split, digest in dict.fromkeys(
                rows[["dataset", "split", "dataset_hash"]].itertuples(index=False, name=None)
            )
        ],
        "versions": sorted(set(rows["versions"])),
        "commit": sorted(set(rows["commit"])),
        "inversion seeds": [", ".join(f"{seed:g}" for seed in sorted(set(rows["inversion_seed"].dropna())))],
        "intervals": [
            f"{bootstrap.method} bootstrap over queries, percentile, level {bootstrap.level:g}, "
            f"{bootstrap.resamples:,} resamples, seed {bootstrap.seed}"
        ],
        "rows against per-query values": [
            f"largest difference of a row from the mean of its queries: {off}; quoted rows without per-query "
            f"values: {results.rows_without_queries}"
        ],
    }
    listed = [{"what": name, "value": text} for name, texts in facts.items() for text in texts if text]
    columns = (words("what", "what"), words("value", "value"))
    return sheet("Where the numbers come from", columns, listed, text_columns=2, grouped=True)


SKIPPED = (
    Column("task", lambda row: Cell(f"{row['task']} ({row['dataset']}, {row['split']})")),
    counts("queries measured", "n_queries"),
    counts("skipped", "n_skipped"),
    counts("gallery items", "n_gallery"),
)


def skipped(results: Results) -> list[Table]:
    """Show the tasks where queries were skipped because nothing in the gallery is relevant to them."""
    rows = results.quoted_rows[results.quoted_rows["task"] != "gap"]
    table = rows.groupby(SIDE, sort=False)[["n_queries", "n_skipped", "n_gallery"]].max().reset_index()
    table = table[table["n_skipped"] > 0]
    return [sheet("Skipped queries", SKIPPED, records(table))] if len(table) else []


PUBLISHED_COLUMNS = (
    words("source", "source"),
    words("what", "what"),
    words("model", "model"),
    words("route", "route"),
    numbers("native (%)", "native", 1),
    numbers("by the route (%)", "value", 1),
)


def published(study: RecordedStudy) -> Table | None:
    """Show published figures of released models, for context; None where none of them was measured here."""
    if not measures_published(study):
        return None
    rows = [entry._asdict() for entry in PUBLISHED]
    note = "Sources: " + " ".join(SOURCES)
    return sheet("Published figures of released models", PUBLISHED_COLUMNS, rows, note, text_columns=4)


def measures_published(study: RecordedStudy) -> bool:
    """Tell whether a model that figures were published of is among those measured here."""
    return any(arm.partition(" (")[0] in PUBLISHED_ENCODERS for arm in study.arm_names)


def _distinct(values: Sequence[str]) -> str:
    return ", ".join(sorted(set(values)))
