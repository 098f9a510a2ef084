"""What is measured of each model, and of each model and query: native values, gains, gaps."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from analysis.leading import Headline, at, headlines
from crossgap.reading.quoting import MODEL, SIDE
from crossgap.reading.route_values import to_reference
from crossgap.vocabulary import INVERSIONS, is_cross_modal

WHAT = ["quantity", *SIDE]
OBJECT_BIAS = "object bias"
GAPS = ("centroid_distance", "RMG")
FRACTION = "fraction"  # the unit that is printed as points
QUERY = ["query_id", "query_class"]


def model_values(quoted_rows: pd.DataFrame) -> pd.DataFrame:
    """List what was measured of each model, one row a model and quantity.

    Quantities: ``native`` (mAP within a modality on every task, hit@1 across), ``gain`` (inverted minus
    native mAP) and ``gain over class_pca`` on the leading tasks, ``oti change`` and ``ovi change`` (of
    zero-shot hit@1), the gap by its metrics, and of made worlds the ``object bias``: how much more native
    similarity follows the object than the colour (``similarity_by_object`` minus ``similarity_by_colour``).

    Returns:
        columns quantity, dataset, split, task, unit, arm, seed, value; fractions where the unit is one.
    """
    rows = quoted_rows.assign(unit=quoted_rows["unit"].fillna(FRACTION), query_id="", query_class="")
    return _quantities(rows, headlines(quoted_rows)).drop(columns=QUERY)


def query_values(queries: pd.DataFrame, wheres: Sequence[Headline]) -> pd.DataFrame:
    """List the same quantities of each model and query, of what is measured by query.

    Args:
        queries: quoted per-query values.
        wheres: the leading task of each dataset and modality.

    Returns:
        columns quantity, dataset, split, task, unit, arm, seed, query_id, query_class, value.
    """
    return _quantities(queries.assign(unit=FRACTION), wheres)


def _quantities(frame: pd.DataFrame, wheres: Sequence[Headline]) -> pd.DataFrame:
    across = frame["task"].map(is_cross_modal).astype(bool)
    of_task = frame[frame["metric"] == across.map({True: "hit@1", False: "mAP"})]
    parts = [of_task[of_task["route"] == "native"].assign(quantity="native")]
    for where in wheres:
        at_task = at(of_task, where)
        for reference, quantity in (("native", "gain"), ("class_pca", "gain over class_pca")):
            parts.append(_change(at_task, where.route, reference, quantity))
    zero_shot = of_task[of_task["task"].str.startswith("zero-shot")]
    for route in INVERSIONS.values():
        parts.append(_change(zero_shot, route, "native", f"{route} change"))
    gaps = frame[(frame["task"] == "gap") & (frame["route"] == "native") & frame["metric"].isin(GAPS)]
    parts.append(gaps.assign(quantity=gaps["metric"]))
    parts.append(_object_bias(frame))
    keys = [*WHAT, "unit", *MODEL, *QUERY]
    values = pd.concat(
        [part[[*keys, "value"]] for part in parts if len(part)] or [parts[0][[*keys, "value"]]]
    )
    return values.groupby(keys, sort=False, dropna=False, observed=True)["value"].mean().reset_index()


def _change(frame: pd.DataFrame, route: str, reference: str, quantity: str) -> pd.DataFrame:
    mine, other = (frame[frame["route"] == name] for name in (route, reference))
    return to_reference(mine, other).assign(quantity=quantity, unit=FRACTION)


def _object_bias(frame: pd.DataFrame) -> pd.DataFrame:
    native = frame[(frame["task"] == "factors") & (frame["route"] == "native")]
    by_object, by_colour = (
        native[native["metric"] == f"similarity_by_{factor}"] for factor in ("object", "colour")
    )
    on = [*SIDE, *MODEL]
    colour = by_colour[[*on, "value"]].rename(columns={"value": "colour"})
    both = by_object.merge(colour, on=on)
    return both.assign(value=both["value"] - both["colour"], quantity=OBJECT_BIAS)
