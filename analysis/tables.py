"""The numbers of the report: which rows may be quoted, their intervals, and what is compared with what."""

from __future__ import annotations

from typing import Literal, NamedTuple

import pandas as pd

from analysis.stats.bootstrap import Bootstrap, average_models, mean_interval, paired_difference
from crossgap.errors import InputError

MODEL = ["arm", "seed"]
SIDE = ["dataset", "split", "task"]  # what was asked of a model
KEYS = [*MODEL, "inversion_seed", *SIDE, "route", "metric"]
SETTING = ["steps", "num_tokens", "setting"]
SELECTION_ORDER = {"val": 0, "preset": 1, "none": 2, "curve": 3}

INVERSIONS = {
    "image": "oti",
    "text": "ovi",
}  # the route that inverts the query of a task within this modality
CONTROLS = ("class_pca", "isoclip", "ridge", "centred", "random_subspace")
PREFERRED_TASKS = {"image": ("image-subgroup", "image-object"), "text": ("text-subgroup", "text-object")}
CROSS_TASKS = ("image-text", "text-image")
INTERVAL = ["value", "low", "high"]


class Headline(NamedTuple):
    """The task within one modality whose inversion gain the report leads with."""

    modality: Literal["image", "text"]
    dataset: str
    split: str
    task: str
    route: str


def quoted(rows: pd.DataFrame) -> pd.DataFrame:
    """Select the rows that may be quoted as results: one setting for each measurement, no validation split.

    A setting chosen on the validation split goes before a preset one. Points of a curve were chosen by nobody
    and are left out, except untrained tokens (step 0), taken at the token count and setting of the quoted
    inversion.
    Rows of the validation split are quoted only for a dataset that has no other split.

    Raises:
        InputError: two rows claim the same measurement.
    """
    kept = reported(rows)
    rank = kept["selection"].map(SELECTION_ORDER)
    best = rank.groupby([kept[key] for key in KEYS], dropna=False).transform("min")
    untrained = kept["route"] == "untrained_tokens"
    chosen = kept[(rank == best) & (rank < SELECTION_ORDER["curve"]) & ~untrained]
    result = pd.concat([chosen, _untrained_rows(kept[untrained], chosen)]).sort_index()
    twice = result[result.duplicated(KEYS, keep=False)]
    if len(twice):
        raise InputError(
            f"two rows claim the same measurement: {twice[[*KEYS, *SETTING]].iloc[0].to_dict()}; give each "
            "run once"
        )
    return result


def reported(frame: pd.DataFrame) -> pd.DataFrame:
    """Leave out the validation split, except of a dataset that has no other."""
    elsewhere = set(frame.loc[frame["split"] != "val", "dataset"])
    return frame[(frame["split"] != "val") | ~frame["dataset"].isin(elsewhere)]


def _untrained_rows(untrained: pd.DataFrame, chosen: pd.DataFrame) -> pd.DataFrame:
    if untrained.empty:
        return untrained
    where = [*MODEL, *SIDE]
    inverted = chosen[chosen["route"].isin(INVERSIONS.values()) & chosen["num_tokens"].notna()]
    inverted = inverted.sort_values("num_tokens", kind="stable").drop_duplicates(where)
    wanted = untrained[where].merge(inverted[[*where, "num_tokens", "setting"]], on=where, how="left")
    off = (untrained["num_tokens"] - wanted["num_tokens"].to_numpy()).abs()
    order = untrained.assign(
        off=off.fillna(untrained["num_tokens"]).fillna(0),
        other=untrained["setting"] != wanted["setting"].to_numpy(),
        rank=untrained["selection"].map(SELECTION_ORDER),
    )
    order = order.sort_values(["off", "num_tokens", "other", "rank"], kind="stable").drop_duplicates(KEYS)
    return untrained.loc[order.index]


def quoted_queries(per_query: pd.DataFrame, quoted_rows: pd.DataFrame) -> pd.DataFrame:
    """Select the per-query values behind quoted rows: same model, task, route, metric and setting."""
    keys = [*KEYS, *SETTING]
    wanted = quoted_rows[keys].drop_duplicates()
    joined = per_query.merge(wanted, on=keys, how="inner")
    return joined.drop_duplicates([*KEYS, "query_id"], ignore_index=True)


def headlines(quoted_rows: pd.DataFrame) -> list[Headline]:
    """List, for each dataset and modality, the task to lead with: a preferred one, else the first."""
    found = []
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
            both.sort(key=lambda key: (key[1] not in PREFERRED_TASKS[modality], key[0] != "test"))
            if both:
                found.append(Headline(modality, str(dataset), *both[0], route))
    return found


def is_cross_modal(task: str) -> bool:
    """Tell whether a task compares an image with a text (retrieval across modalities, zero-shot)."""
    return task in CROSS_TASKS or task.startswith("zero-shot")


def at(frame: pd.DataFrame, where: Headline) -> pd.DataFrame:
    """Select the rows of a headline's dataset, split and task."""
    here = (
        (frame["dataset"] == where.dataset) & (frame["split"] == where.split) & (frame["task"] == where.task)
    )
    return frame[here]


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
    known = [one for one in settings if one[0] == one[0]]  # maps have no steps
    return tuple(dict.fromkeys((int(steps), int(tokens), words) for steps, tokens, words in known))


def to_native(queries: pd.DataFrame) -> pd.DataFrame:
    """Subtract each query's native value from its value by every other route of the same model and task.

    Returns:
        columns dataset, split, task, arm, seed, inversion_seed, route, query_id, query_class, value.
    """
    on = [*SIDE, *MODEL]
    native = queries[queries["route"] == "native"]
    return paired_difference(
        queries[queries["route"] != "native"], native, on=on, by=[*on, "inversion_seed", "route"]
    )


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
    on = [*SIDE, *MODEL]
    change = paired_difference(
        values[values["route"] == route],
        values[values["route"] == reference],
        on=on,
        by=[*on, "inversion_seed"],
    )
    seeds = change.groupby(by, sort=False)["seed"].nunique().rename("n_seeds").reset_index()
    table = mean_interval(average_models(change, by), by, bootstrap=bootstrap)
    return table[[*by, *INTERVAL, "n_queries", "n_skipped"]].merge(seeds, on=by, how="left")


def query_gains(queries: pd.DataFrame, route: str) -> pd.DataFrame:
    """Subtract native mAP from that by ``route`` for each model and query of one task.

    Returns:
        columns arm, seed, query_class, query_id, value (fractions), averaged over inversion seeds.
    """
    change = to_native(queries[(queries["metric"] == "mAP") & queries["route"].isin(["native", route])])
    return change.groupby([*MODEL, "query_class", "query_id"], sort=False)["value"].mean().reset_index()


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
    here = (rows["dataset"] == where.dataset) & (rows["metric"] == "mAP") & (rows["task"] == where.task)
    native = rows[here & (rows["route"] == "native")].drop_duplicates(["split", *MODEL])
    curve = rows[here & (rows["route"] == where.route)].merge(
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


def model_gaps(quoted_rows: pd.DataFrame, dataset: str, split: str) -> pd.DataFrame:
    """Select the centroid distance of each model: columns arm, seed, gap, gap_low, gap_high."""
    here = quoted_rows[
        (quoted_rows["task"] == "gap")
        & (quoted_rows["metric"] == "centroid_distance")
        & (quoted_rows["route"] == "native")
        & (quoted_rows["dataset"] == dataset)
    ]
    if (here["split"] == split).any():
        here = here[here["split"] == split]
    names = {"value": "gap", "low": "gap_low", "high": "gap_high"}
    return here.drop_duplicates(MODEL).rename(columns=names)[[*MODEL, *names.values()]].reset_index(drop=True)


def baseline_differences(
    quoted_rows: pd.DataFrame, queries: pd.DataFrame, baseline: str, *, bootstrap: Bootstrap
) -> pd.DataFrame:
    """Compare each arm with the baseline arm, paired by seed and query.

    Quantities: ``native`` (mAP within a modality, hit@1 across) and ``gain`` (inverted minus native mAP, so
    its row is a difference of differences) on every task that leads; ``gap`` (centroid distance, paired by
    seed alone: no interval).

    Returns:
        columns quantity, dataset, split, task, arm, value, low, high, n_seeds, n_queries, per_seed (tuple of
        (seed, difference)); fractions, and the distance's own unit for the gap.
    """
    on = ["quantity", *SIDE, "seed"]
    by = ["quantity", *SIDE, "arm"]
    values = _baseline_quantities(quoted_rows, queries)
    reference = values[values["arm"] == baseline]
    change = paired_difference(values[values["arm"] != baseline], reference, on=on, by=[*on, "arm"])
    table = mean_interval(average_models(change, by), by, bootstrap=bootstrap)[[*by, *INTERVAL, "n_queries"]]
    per_seed = _per_seed(change.groupby([*by, "seed"], sort=False)["value"].mean().reset_index(), by)
    return pd.concat(
        [table.merge(per_seed, on=by), _gap_differences(quoted_rows, baseline)], ignore_index=True
    )


def _baseline_quantities(quoted_rows: pd.DataFrame, queries: pd.DataFrame) -> pd.DataFrame:
    columns = ["quantity", *SIDE, *MODEL, "query_id", "query_class", "value"]
    parts = []
    for where in headlines(quoted_rows):
        here = at(queries[queries["metric"] == "mAP"], where)
        native = here[here["route"] == "native"]
        parts.append(native.assign(quantity="native")[columns])
        on = [*SIDE, *MODEL]
        gain = paired_difference(
            here[here["route"] == where.route], native, on=on, by=[*on, "inversion_seed"]
        )
        gain = average_models(gain, on)
        parts.append(gain.assign(quantity="gain")[columns])
    across = queries[(queries["metric"] == "hit@1") & (queries["route"] == "native")]
    parts.append(across[across["task"].map(is_cross_modal).astype(bool)].assign(quantity="native")[columns])
    return pd.concat(parts, ignore_index=True)


def _gap_differences(quoted_rows: pd.DataFrame, baseline: str) -> pd.DataFrame:
    by = ["quantity", *SIDE, "arm"]
    gaps = quoted_rows[
        (quoted_rows["task"] == "gap")
        & (quoted_rows["metric"] == "centroid_distance")
        & (quoted_rows["route"] == "native")
    ].assign(quantity="gap")
    reference = gaps[gaps["arm"] == baseline][[*SIDE, "seed", "value"]]
    paired = gaps[gaps["arm"] != baseline].merge(reference, on=[*SIDE, "seed"], suffixes=("", "_baseline"))
    paired["value"] = paired["value"] - paired["value_baseline"]
    means = paired.groupby(by, sort=False)["value"].mean().reset_index()
    return means.merge(_per_seed(paired, by), on=by).assign(low=float("nan"), high=float("nan"), n_queries=0)


def _per_seed(means: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    result = [
        (*key, tuple(zip(group["seed"], group["value"], strict=True)), len(group))
        for key, group in means.groupby(by, sort=False)
    ]
    return pd.DataFrame(result, columns=[*by, "per_seed", "n_seeds"])


def disagreement(quoted_rows: pd.DataFrame, queries: pd.DataFrame) -> tuple[float, int]:
    """Check rows against their per-query values: the largest difference of means, and rows without any.

    Counted are the rows that tables show: mAP within a modality, hit@1 across. The expected value of a random
    order (route ``chance``) need not be written per query.
    """
    keys = [*KEYS, *SETTING]
    shown = quoted_rows["task"].map(is_cross_modal).map({True: "hit@1", False: "mAP"})
    rows = quoted_rows[(quoted_rows["metric"] == shown) & (quoted_rows["route"] != "chance")]
    means = queries.groupby(keys, dropna=False)["value"].mean().rename("query_mean").reset_index()
    joined = rows[[*keys, "value"]].merge(means, on=keys, how="left")
    off = (joined["value"] - joined["query_mean"]).abs()
    return float(off.max()) if off.notna().any() else 0.0, int(off.isna().sum())
