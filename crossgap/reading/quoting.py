"""Which rows may be quoted as results, and the per-query values behind them. Imports no torch.

What an evaluation prints and what a report shows is read through these functions: they quote the same rows.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from crossgap.errors import InputError
from crossgap.metrics.intervals import groups
from crossgap.vocabulary import INVERSIONS

MODEL = ["arm", "seed"]
SIDE = ["dataset", "split", "task"]  # what was asked of a model
KEYS = [*MODEL, "inversion_seed", *SIDE, "route", "metric"]
SETTING = ["steps", "num_tokens", "setting"]
SELECTION_ORDER = {"val": 0, "preset": 1, "none": 2, "curve": 3}


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
    """Select the per-query values behind quoted rows: same model, task, route, metric and setting.

    Raises:
        InputError: a query has two values of one measurement.
    """
    if per_query.empty:
        return per_query
    keys = [*KEYS, *SETTING]
    wanted = quoted_rows[keys].drop_duplicates()
    for name, kind in per_query[keys].dtypes.items():
        if isinstance(kind, pd.CategoricalDtype):
            wanted = wanted[wanted[name].isin(kind.categories)].astype({name: kind})
    kept = []
    for _, places in groups(per_query, MODEL):  # one model at a time: a join of all takes gigabytes
        of_model = per_query.iloc[places][[*keys, "query_id", "value"]].assign(place=places)
        joined = of_model.merge(wanted, on=keys, how="inner")
        # a point of a curve that was chosen is written under both selections, with one value
        once = joined.drop_duplicates([*KEYS, "query_id", "value"])
        twice = once[once.duplicated([*KEYS, "query_id"])]
        if len(twice):
            raise InputError(
                f"{twice[[*SIDE, 'route']].iloc[0].to_dict()}: query {twice['query_id'].iloc[0]!r} has two "
                "values; give each run once, and different names to datasets that are measured together"
            )
        kept.append(once["place"].to_numpy())
    return per_query.iloc[np.sort(np.concatenate(kept))].reset_index(drop=True)
