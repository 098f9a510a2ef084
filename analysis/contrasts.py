"""What arms change: each arm minus the baseline, paired by seed and query, as one frame.

The one place that subtracts a baseline arm; the report, its figures, its claims and the map of terms read it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from analysis.comparisons import EFFECT, FRACTION, MARGIN, WHAT
from analysis.evidence import Evidence, average_arms, gather
from analysis.stats.crossing import complete_crossing
from analysis.stats.equivalence import equivalence
from analysis.stats.families import benjamini_hochberg
from analysis.stats.power import seeds_needed
from analysis.stats.seeds import Paired, paired_seeds, win_tie_loss
from analysis.tables import Headline, at
from crossgap.metrics.intervals import Bootstrap, paired_difference
from crossgap.vocabulary import is_cross_modal

MINUS_BASELINE = "minus baseline"
CELL = ["seed", "dataset"]
COLUMNS = [
    "quantity", "contrast", "arm", "modality", "dataset", "split", "task", "unit", "estimate", "queries_low",
    "queries_high", "seeds_low", "seeds_high", "both_low", "both_high", "p", "q", "sd", "effect_size", "p_t",
    "p_flip", "p_flip_least", "p_equivalence", "equivalent", "wins", "ties", "losses", "seeds_needed",
    "n_seeds", "n_queries", "n_classes", "n_datasets", "n_left_out", "per_seed",
]  # fmt: skip
_NAN = float("nan")


def minus_baseline(values: pd.DataFrame, baseline: str | None, on: Sequence[str]) -> pd.DataFrame:
    """Subtract the baseline's ``value`` from that of every other arm that shares the columns ``on``.

    Args:
        values: columns ``on`` (seed among them), arm, value: one row a model, or with query_id and
            query_class one row a model and query.
        baseline: the arm that is subtracted; None, or one that was not measured: there is no row.

    Returns:
        columns ``on``, arm, value, and query_id, query_class if there were any. What the baseline lacks is
        left out.

    Raises:
        InputError: a model and the baseline's answered different queries.
    """
    by_query = "query_id" in values
    whole = values if by_query else values.assign(query_id="", query_class="")
    is_baseline = whole["arm"] == baseline
    changes = paired_difference(whole[~is_baseline], whole[is_baseline], on=on, by=[*on, "arm"])
    return changes if by_query else changes.drop(columns=["query_id", "query_class"])


def between(values: pd.DataFrame, arms: Sequence[str], references: Sequence[str]) -> pd.DataFrame:
    """Subtract the mean over reference arms from that over arms, paired by seed, dataset and query.

    Each mean is over a complete crossing of its arms and seeds; seeds that one side lacks are left out.

    Args:
        values: columns arm, seed, dataset, query_id, query_class, value.

    Returns:
        columns seed, dataset, query_id, query_class, value.

    Raises:
        InputError: both sides of a seed and dataset answered different queries.
    """
    sides = (average_arms(values, names) for names in (arms, references))
    return paired_difference(*sides, on=CELL, by=CELL)


def over_seeds_of(changes: pd.DataFrame, by: Sequence[str], *, level: float) -> pd.DataFrame:
    """Summarise differences of models over seeds, one row a group of ``by``.

    Returns:
        columns ``by``, value, low, high (t over seeds), sd, effect_size, p_t, p_flip, p_flip_least, n_seeds,
        wins, ties, losses (seeds), per_seed (tuple of (seed, difference)).
    """
    found = []
    for key, group in changes.groupby(list(by), sort=False, dropna=False):
        group = group.sort_values("seed")
        differences = group["value"].tolist()
        row = dict(zip(by, key, strict=True)) | paired_seeds(differences, level=level)._asdict()
        row["n_seeds"] = row.pop("n")
        row |= win_tie_loss(differences)._asdict()
        found.append(row | {"per_seed": tuple(zip(group["seed"], differences, strict=True))})
    paired = [name for name in Paired._fields if name != "n"]
    columns = [*by, *paired, "n_seeds", "wins", "ties", "losses", "per_seed"]
    return pd.DataFrame(found, columns=columns)


def contrasts(
    values: pd.DataFrame,
    queries: pd.DataFrame,
    wheres: Sequence[Headline],
    baseline: str | None,
    *,
    bootstrap: Bootstrap,
    margin: float = MARGIN,
) -> pd.DataFrame:
    """Subtract the baseline from every arm, quantity by quantity, with all that bounds the difference.

    Of each dataset: paired by seed, and by query where there are per-query values of all these seeds. Of
    several datasets with a leading task in one modality also the mean over them (``native`` and ``gain``):
    only the largest complete crossing of seeds and datasets counts, so that datasets weigh alike in every
    seed; an arm that shares fewer than two datasets with the baseline has no such row.

    Args:
        values: what :func:`analysis.comparisons.model_values` returns.
        queries: what :func:`analysis.comparisons.query_values` returns.
        wheres: the leading task of each dataset and modality.
        margin: what counts as nothing, a fraction.

    Returns:
        :data:`COLUMNS`. ``estimate`` in the unit of the row. ``queries_*`` bound it over queries (whole
        classes resampled), ``seeds_*`` by t over seeds, ``both_*`` over both at once where so few seeds
        support it; ``p`` is that of what decides (:class:`analysis.evidence.Evidence`), of values without
        queries that of t; missing of one seed, which tells no arms apart. ``q``: Benjamini-Hochberg, over
        the rows of single datasets and over those of means apart (exploration: nobody declared one of them
        beforehand). ``equivalent``: whether a test of
        equivalence (TOST, at half of 1 - level: the simulation finds that at .05 it claims too much) finds
        the difference within ``margin``, fractions alone. ``seeds_needed``: for a difference of one point at
        power .8. wins, ties, losses: seeds, of a mean datasets. ``dataset`` names the dataset, or is empty of
        a mean over ``n_datasets``; ``n_left_out``: cells (seed, dataset) of the arm that do not count.
        ``per_seed``: tuple of (seed, difference). Empty without a baseline that was measured.
    """
    by = [*WHAT, "unit", "arm"]
    on = [*WHAT, "unit", "seed"]
    of_models = over_seeds_of(minus_baseline(values, baseline, on), by, level=bootstrap.level)
    of_queries = minus_baseline(queries, baseline, on)
    groups = dict(list(of_queries.groupby(by, sort=False, dropna=False)))
    rows = [
        _row(row, _evidence(groups.get(tuple(row[name] for name in by)), row, bootstrap), bootstrap, margin)
        for row in of_models.to_dict("records")
    ]
    means = [
        _row(row, evidence, bootstrap, margin)
        for row, evidence in _means(of_queries, queries, wheres, bootstrap)
    ]
    families = (pd.DataFrame(found, columns=COLUMNS) for found in (rows, means))
    tables = [
        table.assign(q=benjamini_hochberg(table["p"].to_numpy(float))) for table in families if len(table)
    ]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=COLUMNS)


def of_one_dataset(table: pd.DataFrame) -> pd.DataFrame:
    """Select the contrasts of single datasets."""
    return table[table["dataset"] != ""]


def over_datasets_of(table: pd.DataFrame) -> pd.DataFrame:
    """Select the contrasts that are means over datasets."""
    return table[table["dataset"] == ""]


def evidence_of(row: pd.Series) -> Evidence:
    """Give a row of :func:`contrasts` as the evidence that verdicts are made of."""
    models = Paired(
        value=row["estimate"],
        low=row["seeds_low"],
        high=row["seeds_high"],
        n=int(row["n_seeds"]),
        **{name: row[name] for name in ("sd", "effect_size", "p_t", "p_flip", "p_flip_least")},
    )
    return Evidence(
        value=row["estimate"],
        low=row["queries_low"],
        high=row["queries_high"],
        models=models,
        **{name: row[name] for name in ("both_low", "both_high", "p")},
        **{name: int(row[name]) for name in ("n_queries", "n_classes", "n_datasets")},
    )


def _evidence(changes: pd.DataFrame | None, row: dict[Any, Any], bootstrap: Bootstrap) -> Evidence | None:
    """Gather the differences of queries where every seed that counts has them."""
    evidence = None if changes is None else gather(changes, bootstrap=bootstrap)
    return evidence if evidence is not None and evidence.models.n == row["n_seeds"] else None


def _means(
    changes: pd.DataFrame, queries: pd.DataFrame, wheres: Sequence[Headline], bootstrap: Bootstrap
) -> Iterator[tuple[dict[str, Any], Evidence]]:
    """Average over the datasets of a modality: a row about each mean, and what bounds it."""
    for modality in dict.fromkeys(where.modality for where in wheres):
        here = [where for where in wheres if where.modality == modality]
        if len(here) < 2:
            continue
        leading, measured = (pd.concat([at(frame, where) for where in here]) for frame in (changes, queries))
        cells = measured.dropna(subset=["value"])[["quantity", "arm", *CELL]].drop_duplicates()
        for quantity in ("native", "gain"):
            for arm, mine in leading[leading["quantity"] == quantity].groupby("arm", sort=False):
                kept = complete_crossing(mine.dropna(subset=["value"]), *CELL, least=2)
                evidence = gather(kept, bootstrap=bootstrap)
                if evidence is None:
                    continue
                there = int(((cells["quantity"] == quantity) & (cells["arm"] == arm)).sum())
                by_seed = kept.groupby(CELL)["value"].mean().groupby("seed").mean()
                row: dict[str, Any] = {"quantity": quantity, "arm": arm, "modality": modality}
                row |= {"dataset": "", "split": "", "task": "", "unit": FRACTION}
                row |= evidence.models._asdict() | {"n_seeds": evidence.models.n}
                row |= win_tie_loss(kept.groupby("dataset")["value"].mean().tolist())._asdict()
                row["n_left_out"] = there - len(kept[CELL].drop_duplicates())
                row["per_seed"] = tuple(by_seed.items())
                yield row, evidence


def _row(
    row: dict[Any, Any], evidence: Evidence | None, bootstrap: Bootstrap, margin: float
) -> dict[str, Any]:
    found = {name: row.get(name) for name in COLUMNS}
    found |= {"contrast": MINUS_BASELINE, "estimate": row["value"], "n_left_out": row.get("n_left_out", 0)}
    found |= {"seeds_low": row["low"], "seeds_high": row["high"], "p": row["p_t"]}
    found["modality"] = row.get("modality") or _modality(row["task"])
    found |= dict.fromkeys(("queries_low", "queries_high", "both_low", "both_high", "p_equivalence"), _NAN)
    found |= {"n_queries": 0, "n_classes": 0, "n_datasets": 1}
    if evidence is not None:
        found |= {"queries_low": evidence.low, "queries_high": evidence.high, "p": evidence.p}
        names = ("both_low", "both_high", "n_queries", "n_classes", "n_datasets")
        found |= {name: getattr(evidence, name) for name in names}
    if row["n_seeds"] < 2:  # what queries of one pair of models say is no test of what the arms differ in
        found["p"] = _NAN
    if row["unit"] == FRACTION and row["n_seeds"] > 1:
        differences = [value for _, value in row["per_seed"]]
        test = equivalence(differences, margin, alpha=(1 - bootstrap.level) / 2)
        found |= {"p_equivalence": test.p, "equivalent": test.equivalent}
        found["seeds_needed"] = seeds_needed(row["sd"], EFFECT, alpha=1 - bootstrap.level)
    return found


def _modality(task: str) -> str:
    """Name the modality within which a task retrieves; '' of one that compares the two."""
    within = task.partition("-")[0]
    return within if within in ("image", "text") and not is_cross_modal(task) else ""
