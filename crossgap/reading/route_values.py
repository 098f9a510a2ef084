"""What routes reach on each task, and what they add to native features, with intervals. Imports no torch.

The numbers of an evaluation's printed tables and of a report's, from one place.
"""

from __future__ import annotations

import pandas as pd

from crossgap.metrics.intervals import Bootstrap, average_models, mean_interval, paired_difference
from crossgap.reading.quoting import MODEL, SETTING, SIDE

INTERVAL = ["value", "low", "high"]


def measurements(
    quoted_rows: pd.DataFrame, queries: pd.DataFrame, metric: str, *, bootstrap: Bootstrap
) -> pd.DataFrame:
    """Tabulate a metric by task, arm and route: mean over seeds, interval over queries, difference to native.

    Each query's value is averaged over the seeds of an arm first; the interval resamples queries and says
    nothing of other seeds. ``seed_sd`` is the standard deviation of the seeds' means (NaN for one seed).
    Where no per-query values were written, the value is the mean of the rows and there is no interval.

    Returns:
        columns dataset, split, task, arm, route, value, low, high, macro, macro_low, macro_high, difference,
        difference_low, difference_high (route minus native, paired by seed and query), seed_sd, n_seeds,
        n_queries, n_skipped, n_gallery, n_clusters, settings (distinct (steps, num_tokens, setting) of the
        seeds).
    """
    by = [*SIDE, "arm", "route"]
    rows = quoted_rows[quoted_rows["metric"] == metric]
    inverted = zip(*(rows[column] for column in SETTING), strict=True)
    rows = rows.assign(inverted=pd.Series(inverted, index=rows.index, dtype=object))
    queries = queries[queries["metric"] == metric]
    grouped = rows.groupby(by, sort=False)
    table = grouped.agg(
        value=("value", "mean"),
        n_seeds=("seed", "nunique"),
        n_queries=("n_queries", "max"),
        n_skipped=("n_skipped", "max"),
        n_gallery=("n_gallery", "max"),
        settings=("inverted", _distinct),
    ).reset_index()
    means = rows.groupby([*by, "seed"], sort=False)["value"].mean()
    spread = means.groupby(level=by, sort=False).std().rename("seed_sd").reset_index()
    table = table.merge(spread, on=by, how="left")
    inside = mean_interval(average_models(queries, by), by, bootstrap=bootstrap)
    micro = inside.drop(columns=["n_queries", "n_skipped"]).rename(columns={"value": "query_value"})
    table = table.merge(micro, on=by, how="left")
    table["value"] = table.pop("query_value").fillna(table["value"])
    change = mean_interval(average_models(to_native(queries), by), by, bootstrap=bootstrap)
    change = change.rename(
        columns={"value": "difference", "low": "difference_low", "high": "difference_high"}
    )[[*by, "difference", "difference_low", "difference_high"]]
    return table.merge(change, on=by, how="left")


def _distinct(settings: pd.Series) -> tuple[tuple[int, int, str], ...]:
    inverted = [setting for setting in settings if setting[0] == setting[0]]  # maps have no steps
    return tuple(dict.fromkeys((int(steps), int(tokens), words) for steps, tokens, words in inverted))


def to_native(queries: pd.DataFrame) -> pd.DataFrame:
    """Subtract each query's native value from its value by every other route of the same model and task.

    Returns:
        columns dataset, split, task, arm, seed, inversion_seed, route, query_id, query_class, value.
    """
    is_native = queries["route"] == "native"
    return to_reference(queries[~is_native], queries[is_native])


def to_reference(queries: pd.DataFrame, reference: pd.DataFrame) -> pd.DataFrame:
    """Subtract the value of ``reference`` from the value by each route of the same model, task and query.

    Args:
        queries: per-query values by routes.
        reference: those of one route a model and task.

    Returns:
        columns dataset, split, task, arm, seed, inversion_seed, route, query_id, query_class, value.
    """
    on = [*SIDE, *MODEL]
    return paired_difference(queries, reference, on=on, by=[*on, "inversion_seed", "route"])


def route_difference(
    queries: pd.DataFrame, route: str, reference: str, by: list[str], *, bootstrap: Bootstrap
) -> pd.DataFrame:
    """Bound mAP(route) - mAP(reference), paired by model and query, for each group of ``by``.

    Args:
        queries: quoted per-query values of one task.
        by: ``["arm", "seed"]`` for each model, ``["arm"]`` for the mean over the seeds of an arm.

    Returns:
        columns ``by``, value, low, high, n_queries, n_skipped, n_seeds: fractions, not points.
    """
    values = queries[queries["metric"] == "mAP"]
    change = to_reference(values[values["route"] == route], values[values["route"] == reference])
    seeds = change.groupby(by, sort=False, observed=True)["seed"].nunique().rename("n_seeds").reset_index()
    table = mean_interval(average_models(change, by), by, bootstrap=bootstrap)
    return table[[*by, *INTERVAL, "n_queries", "n_skipped"]].merge(seeds, on=by, how="left")
