"""The leading tasks of a report, and their numbers: gains along curves, settings, gaps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

import pandas as pd

from crossgap.metrics.intervals import Bootstrap, average_models, mean_interval, paired_difference
from crossgap.reading.quoting import KEYS, MODEL, SETTING, SIDE
from crossgap.reading.route_values import INTERVAL, to_native
from crossgap.vocabulary import INVERSIONS, is_cross_modal, leading_place

POINTS = 100  # mAP points in a fraction
_SLOPE = "similarity_by_"
CONTROLS = ("class_pca", "isoclip", "ridge", "centred", "random_subspace")


class Headline(NamedTuple):
    """The task within one modality whose inversion gain the report leads with."""

    modality: Literal["image", "text"]
    dataset: str
    split: str
    task: str
    route: str


def headlines(quoted_rows: pd.DataFrame) -> list[Headline]:
    """List, for each dataset and modality, the task to lead with: a leading one, else the first."""
    leads = []
    retrieval = quoted_rows[
        (quoted_rows["metric"] == "mAP") & ~quoted_rows["task"].map(is_cross_modal).astype(bool)
    ]
    modalities: tuple[Literal["image", "text"], ...] = ("image", "text")
    for modality in modalities:
        route = INVERSIONS[modality]
        for dataset, group in retrieval.groupby("dataset", sort=False):
            both = [
                (str(split), str(task))
                for (split, task), rows in group.groupby(["split", "task"], sort=False)
                if {route, "native"} <= set(rows["route"])
            ]
            both.sort(key=lambda key: (leading_place(key[1]), key[0] != "test"))
            if both:
                leads.append(Headline(modality, str(dataset), *both[0], route))
    return leads


def by_modality(wheres: Iterable[Headline]) -> dict[str, list[Headline]]:
    """Group leading tasks by their modality."""
    groups: dict[str, list[Headline]] = {}
    for where in wheres:
        groups.setdefault(where.modality, []).append(where)
    return groups


def at(frame: pd.DataFrame, where: Headline) -> pd.DataFrame:
    """Select the rows of a headline's dataset, split and task."""
    there = (
        (frame["dataset"] == where.dataset) & (frame["split"] == where.split) & (frame["task"] == where.task)
    )
    return frame[there]


def leading_first(wheres: Iterable[Headline], frame: pd.DataFrame) -> pd.DataFrame:
    """Put the rows of the leading tasks first and leave the order as it is otherwise."""
    leading = {where.task for where in wheres}
    return frame.sort_values("task", key=lambda tasks: ~tasks.isin(leading), kind="stable")


def of_headline(values: pd.DataFrame, where: Headline, quantity: str) -> pd.DataFrame:
    """Select one quantity of the models on a leading task: columns arm, seed, value."""
    rows = at(values[values["quantity"] == quantity], where)
    return rows[[*MODEL, "value"]].reset_index(drop=True)


def added_to_native(measured: pd.DataFrame) -> pd.DataFrame:
    """Give what routes add to native, of arms that have per-query values: measurements in the usual names.

    Args:
        measured: rows of :func:`crossgap.reading.route_values.measurements`.

    Returns:
        columns arm, route, value, low, high, n_queries, n_seeds.
    """
    names = {"difference": "value", "difference_low": "low", "difference_high": "high"}
    table = measured[["arm", "route", *names, "n_queries", "n_seeds"]].rename(columns=names)
    return table.dropna(subset=["value"]).reset_index(drop=True)


def query_gains(queries: pd.DataFrame, route: str) -> pd.DataFrame:
    """Subtract native mAP from that by ``route`` for each model and query of one task.

    Returns:
        columns arm, seed, query_class, query_id, value (fractions), averaged over inversion seeds.
    """
    change = to_native(queries[(queries["metric"] == "mAP") & queries["route"].isin(["native", route])])
    return (
        change.groupby([*MODEL, "query_class", "query_id"], sort=False, observed=True)["value"]
        .mean()
        .reset_index()
    )


def curve_gains(
    rows: pd.DataFrame, per_query: pd.DataFrame, where: Headline, *, bootstrap: Bootstrap
) -> pd.DataFrame:
    """Tabulate the inversion gain over native by arm, token count, steps and setting, averaged over seeds.

    Step 0 is the route of untrained tokens. Where no per-query values of the curve exist, the gain comes from
    the rows and has no interval.

    Returns:
        columns arm, num_tokens, steps, setting, value, low, high (mAP fractions), n_queries, n_seeds.
    """
    routes = [where.route, "untrained_tokens"]
    by = ["arm", "num_tokens", "steps", "setting"]
    points = at(rows[(rows["metric"] == "mAP") & rows["route"].isin(routes)], where)
    points = points.assign(steps=points["steps"].fillna(0)).dropna(subset=["num_tokens"])
    points = points.drop_duplicates([*MODEL, "inversion_seed", *SETTING])
    native = at(rows[(rows["metric"] == "mAP") & (rows["route"] == "native")], where)
    joined = points.merge(native[[*MODEL, "value"]], on=MODEL, suffixes=("", "_native"))
    joined["value"] = joined["value"] - joined["value_native"]
    table = (
        joined.groupby(by)
        .agg(value=("value", "mean"), n_seeds=("seed", "nunique"), n_queries=("n_queries", "max"))
        .reset_index()
    )
    values = at(per_query[per_query["metric"] == "mAP"], where)
    inverted = values[values["route"].isin(routes)]
    inverted = inverted.assign(steps=inverted["steps"].fillna(0)).dropna(subset=["num_tokens"])
    inverted = inverted.drop_duplicates([*MODEL, "inversion_seed", *SETTING, "query_id"])
    change = paired_difference(
        inverted,
        values[values["route"] == "native"],
        on=[*SIDE, *MODEL],
        by=[*SIDE, *MODEL, "inversion_seed", *SETTING],
    )
    inside = mean_interval(average_models(change, by), by, bootstrap=bootstrap)
    inside = inside[[*by, *INTERVAL]].rename(columns={"value": "query_value"})
    table = table.merge(inside, on=by, how="left")
    table["value"] = table.pop("query_value").fillna(table["value"])
    return table[[*by, *INTERVAL, "n_queries", "n_seeds"]]


def settings(rows: pd.DataFrame, quoted_rows: pd.DataFrame, where: Headline) -> pd.DataFrame:
    """Tabulate, for each model, the setting quoted and how far the best setting of the curve lies above it.

    ``optimism`` = gain of the best setting on the reported split - gain of the quoted setting there: what
    choosing on that split itself would have added.

    Returns:
        columns arm, seed, steps, num_tokens, setting, selection, loss (1 - cosine after inversion, NaN when
        not written), gain_val, gain, best_steps, best_num_tokens, best_setting, best_gain, optimism (mAP
        fractions).
    """
    of_task = (rows["dataset"] == where.dataset) & (rows["metric"] == "mAP") & (rows["task"] == where.task)
    native = rows[of_task & (rows["route"] == "native")].drop_duplicates(["split", *MODEL])
    curve = rows[of_task & (rows["route"] == where.route)].merge(
        native[["split", *MODEL, "value"]], on=["split", *MODEL], suffixes=("", "_native")
    )
    curve["gain"] = curve["value"] - curve["value_native"]
    gains = curve.groupby(["split", *MODEL, *SETTING])["gain"].mean().reset_index()
    reported = gains[gains["split"] == where.split].drop(columns="split")
    on_val = gains[gains["split"] == "val"].drop(columns="split").rename(columns={"gain": "gain_val"})
    best = reported.loc[reported.groupby(MODEL)["gain"].idxmax()]
    best = best.rename(columns={name: f"best_{name}" for name in (*SETTING, "gain")})
    loss = rows[
        (rows["task"] == f"{where.route}-loss")
        & (rows["dataset"] == where.dataset)
        & (rows["split"] == where.split)
    ]
    losses = loss.groupby([*MODEL, *SETTING])["value"].mean().rename("loss").reset_index()
    table = at(quoted_rows[(quoted_rows["metric"] == "mAP") & (quoted_rows["route"] == where.route)], where)
    table = table[[*MODEL, *SETTING, "selection"]].drop_duplicates()
    keys = [*MODEL, *SETTING]
    table = table.merge(losses, on=keys, how="left").merge(on_val, on=keys, how="left")
    table = table.merge(reported, on=keys).merge(best, on=MODEL)
    table["optimism"] = table["best_gain"] - table["gain"]
    whole = ["steps", "num_tokens", "best_steps", "best_num_tokens"]
    return table.astype(dict.fromkeys(whole, "int64"))


def grid_gains(lines: pd.DataFrame, gains: pd.DataFrame) -> pd.DataFrame:
    """Put what the settings chosen on validation gain beside the best setting of the reported split itself.

    The second is the highest of many and so too high: it is optimistic, its interval as well.

    Args:
        lines: what :func:`curve_gains` returns.
        gains: gain at the quoted settings by arm, what :func:`route_difference` returns.

    Returns:
        one row an arm with several settings: columns arm, n_points (settings x token counts x steps above 0),
        value, low, high (chosen on validation, each seed its own), best_setting, best_num_tokens, best_steps,
        best, best_low, best_high (one for all seeds).
    """
    trained = lines[lines["steps"] > 0]
    several = trained.groupby("arm", sort=False)["setting"].nunique()
    trained = trained[trained["arm"].isin(several[several > 1].index)]
    best = trained.loc[trained.groupby("arm", sort=False)["value"].idxmax()]
    names = {"value": "best", "low": "best_low", "high": "best_high"}
    names |= {column: f"best_{column}" for column in SETTING}
    counts = trained.groupby("arm", sort=False).size().rename("n_points").reset_index()
    table = counts.merge(gains[["arm", *INTERVAL]], on="arm")
    return table.merge(best.rename(columns=names)[["arm", *names.values()]], on="arm")


def gap_values(quoted_rows: pd.DataFrame) -> pd.DataFrame:
    """Select what was measured of the gap and of same/other-class overlap, one row a model and quantity.

    Returns:
        columns dataset, split, arm, seed, route, metric, unit, value, low, high; the overlap is named
        ``same_other_auc <task>``.
    """
    overlap = quoted_rows["metric"] == "same_other_auc"
    table = quoted_rows[(quoted_rows["task"] == "gap") | overlap].copy()
    table["metric"] = table["metric"].where(table["task"] == "gap", table["metric"] + " " + table["task"])
    columns = ["dataset", "split", *MODEL, "route", "metric", "unit", *INTERVAL]
    return table[columns].reset_index(drop=True)


def factor_slopes(quoted_rows: pd.DataFrame) -> pd.DataFrame:
    """Average over seeds by how much similarity rises where two images share a factor, natively and by OTI.

    Each bound is averaged as the value is: an interval over queries for the seeds that there are.

    Returns:
        columns dataset, split, arm, route, factor, value, low, high (standard deviations), n_seeds.
    """
    by_factor = quoted_rows["metric"].str.startswith(_SLOPE)
    table = quoted_rows[(quoted_rows["task"] == "factors") & by_factor]
    table = table.assign(factor=table["metric"].str.removeprefix(_SLOPE))
    by = ["dataset", "split", "arm", "route", "factor"]
    bounds: dict[str, Any] = {name: (name, "mean") for name in INTERVAL}
    return table.groupby(by, sort=False).agg(**bounds, n_seeds=("seed", "nunique")).reset_index()


def model_gaps(quoted_rows: pd.DataFrame, dataset: str, split: str) -> pd.DataFrame:
    """Select the centroid distance of each model: columns arm, seed, gap, gap_low, gap_high."""
    gaps = quoted_rows[
        (quoted_rows["task"] == "gap")
        & (quoted_rows["metric"] == "centroid_distance")
        & (quoted_rows["route"] == "native")
        & (quoted_rows["dataset"] == dataset)
    ]
    if (gaps["split"] == split).any():
        gaps = gaps[gaps["split"] == split]
    names = {"value": "gap", "low": "gap_low", "high": "gap_high"}
    return gaps.drop_duplicates(MODEL).rename(columns=names)[[*MODEL, *names.values()]].reset_index(drop=True)


def disagreement(quoted_rows: pd.DataFrame, queries: pd.DataFrame) -> tuple[float, int]:
    """Check rows against their per-query values: the largest difference of means, and rows without any.

    Counted are the rows that tables show: mAP within a modality, hit@1 across. The expected value of a random
    order (route ``chance``) need not be written per query.
    """
    keys = [*KEYS, *SETTING]
    shown = quoted_rows["task"].map(is_cross_modal).map({True: "hit@1", False: "mAP"})
    rows = quoted_rows[(quoted_rows["metric"] == shown) & (quoted_rows["route"] != "chance")]
    means = (
        queries.groupby(keys, dropna=False, observed=True)["value"].mean().rename("query_mean").reset_index()
    )
    joined = rows[[*keys, "value"]].merge(means, on=keys, how="left")
    off = (joined["value"] - joined["query_mean"]).abs()
    return float(off.max()) if off.notna().any() else 0.0, int(off.isna().sum())
