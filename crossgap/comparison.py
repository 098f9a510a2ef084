"""What each route reaches on a task beside native features: values, paired differences and their intervals.

The numbers behind :mod:`crossgap.summary`, from the rows and per-query values of one evaluation.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import pandas as pd
import torch

from crossgap.errors import InputError
from crossgap.jackknife import cluster_jackknife
from crossgap.records import Row
from crossgap.routes import ROUTES, Family

# The first one that a task has rows of: revisited Oxford and Paris have their own AP, zero-shot none.
HEADLINES = ("mAP_trapezoidal", "mAP", "hit@1")
NATIVE = "native"
_FAMILIES: tuple[Family, ...] = ("reference", "inversion", "placebo", "map")
# differences below this are rounding: per-query values are float64 fractions
_ROUNDING = 1e-9

Unit = Literal["classes", "queries"]
_Key = tuple[Hashable, ...]


class Estimate(NamedTuple):
    """A fraction with its 95 % interval; without one (a single query) both bounds are None."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def excludes_zero(self) -> bool:
        """Tell whether the whole interval lies on one side of 0."""
        return (
            self.low is not None
            and self.high is not None
            and (self.low > _ROUNDING or self.high < -_ROUNDING)
        )


@dataclass(frozen=True, kw_only=True)
class RouteResult:
    """A task by one route.

    Args:
        row: the row of the headline metric.
        chosen: how the setting was chosen: val, preset, or none where there is nothing to choose.
        own: of native features, the value with its interval.
        difference: value - native, paired by query; None for native itself, or where there is no native.
    """

    row: Row
    chosen: str
    own: Estimate | None = None
    difference: Estimate | None = None


@dataclass(frozen=True, kw_only=True)
class MapComparison:
    """An inversion beside the map of the highest value on the same queries: gain minus gain."""

    inversion: str
    best_map: str
    n_maps: int
    difference: Estimate


@dataclass(frozen=True, kw_only=True)
class TaskComparison:
    """A task by every route that was reported, in the order of families, then of ROUTES.

    Intervals are a jackknife over ``n_units`` classes of queries, over single queries where there is but one
    class.
    """

    dataset: str
    split: str
    task: str
    metric: str
    protocol: str
    routes: tuple[RouteResult, ...]
    maps: tuple[MapComparison, ...]
    unit: Unit
    n_units: int


def compare_routes(rows: Sequence[Row], per_query: pd.DataFrame) -> list[TaskComparison]:
    """Compare the routes of every task with native features, on the split that is reported.

    The headline of a task is its mAP, of zero-shot classification hit@1. With d_q = value of the route -
    value of native for query q, the difference is ``mean_q d_q`` with the interval of
    :func:`crossgap.jackknife.cluster_jackknife` over the queries' classes, which share their relevant items;
    with fewer than two classes over queries. An inversion is compared with the map of the highest mean in the
    same way; that map is picked on these queries, which favours it. A placebo that was measured as points of
    a curve alone is shown at its first step, under the setting of an inversion. Points of curves and rows
    of split val (where another split is reported) are no results and are left out.

    Args:
        rows: of one evaluation, of any number of datasets.
        per_query: columns as in ``crossgap.records.TABLES["per_query"]``.

    Returns:
        one comparison a dataset and task, in the order of the rows; values and bounds are fractions.

    Raises:
        InputError: a query that has two values of one route, or queries of a route that native lacks.
    """
    values = _values(per_query)
    tasks: dict[tuple[str, str, str], list[Row]] = {}
    for row in of_reported_splits(rows):
        if row.metric in HEADLINES:
            tasks.setdefault((row.dataset, row.split, row.task), []).append(row)
    return [_compare(task_rows, values) for task_rows in tasks.values()]


def of_reported_splits(rows: Sequence[Row]) -> list[Row]:
    """Leave out the rows of split val, where settings were chosen, of datasets that have another split."""
    splits: dict[str, set[str]] = {}
    for row in rows:
        splits.setdefault(row.dataset, set()).add(row.split)
    return [row for row in rows if row.split != "val" or splits[row.dataset] == {"val"}]


def _compare(rows: Sequence[Row], values: dict[_Key, pd.DataFrame]) -> TaskComparison:
    metric = next(name for name in HEADLINES if any(row.metric == name for row in rows))
    shown = _shown([row for row in rows if row.metric == metric])
    known = {row.route: values[_key(row)] for row, _ in shown if _key(row) in values}
    native = known.get(NATIVE)
    unit, clusters = _clusters(native if native is not None else next(iter(known.values()), None))
    results = []
    for row, chosen in shown:
        found = known.get(row.route)
        own = difference = None
        if row.route == NATIVE and found is not None:
            own = _estimate(found["value"], clusters)
        elif native is not None and found is not None:
            difference = _difference(found, native, clusters, row)
        results.append(RouteResult(row=row, chosen=chosen, own=own, difference=difference))
    first = rows[0]
    about = ROUTES[first.route].about if first.route in ROUTES else ""
    return TaskComparison(
        dataset=first.dataset,
        split=first.split,
        task=first.task,
        metric=metric,
        protocol=first.protocol.partition(about)[0].strip() if about else first.protocol,
        routes=tuple(results),
        maps=tuple(_beside_maps([row for row, _ in shown], known, clusters)),
        unit=unit,
        n_units=clusters.nunique(),
    )


def _beside_maps(
    rows: Sequence[Row], known: dict[str, pd.DataFrame], clusters: pd.Series
) -> Iterable[MapComparison]:
    maps = [row for row in rows if _family(row.route) == "map" and row.route in known]
    if not maps:
        return
    best = max(maps, key=lambda row: float(known[row.route]["value"].mean()))
    for row in rows:
        if _family(row.route) == "inversion" and row.route in known:
            difference = _difference(known[row.route], known[best.route], clusters, row)
            yield MapComparison(
                inversion=row.route, best_map=best.route, n_maps=len(maps), difference=difference
            )


def _difference(found: pd.DataFrame, other: pd.DataFrame, clusters: pd.Series, row: Row) -> Estimate:
    if set(found.index) != set(other.index):
        lone = min(set(found.index) ^ set(other.index))
        raise InputError(
            f"dataset {row.dataset!r}, task {row.task!r}, route {row.route!r}: query {lone!r} has a value on "
            "one side of the difference only; both sides must be judged by one relevance"
        )
    return _estimate(found["value"] - other["value"].reindex(found.index), clusters)


def _estimate(values: pd.Series, clusters: pd.Series) -> Estimate:
    values_Q = torch.tensor(values.to_numpy(dtype=float))
    names = clusters.reindex(values.index).tolist()
    if len(set(names)) < 2:
        return Estimate(float(values_Q.mean()))
    return Estimate(*cluster_jackknife(torch.mean, values_Q, clusters=names))


def _clusters(values: pd.DataFrame | None) -> tuple[Unit, pd.Series]:
    """Name the cluster of each query: its class, or itself where there is one class only."""
    if values is None:
        return "queries", pd.Series(dtype=object)
    if values["query_class"].nunique() > 1:
        return "classes", values["query_class"]
    return "queries", pd.Series(values.index, index=values.index)


def _shown(rows: Sequence[Row]) -> list[tuple[Row, str]]:
    """Pick the rows that are results, each with how its setting was chosen, in the order of the routes."""
    shown = [(row, row.selection) for row in rows if row.selection != "curve"]
    reported = {row.route for row, _ in shown}
    settings: dict[tuple[int | None, str], str] = {}
    for row, chosen in shown:
        if _family(row.route) == "inversion":
            settings.setdefault((row.num_tokens, row.setting), chosen)
    lone: dict[str, list[Row]] = {}
    for row in rows:
        here = (row.num_tokens, row.setting)
        if _family(row.route) == "placebo" and row.route not in reported and here in settings:
            lone.setdefault(row.route, []).append(row)
    for points in lone.values():
        first = min(points, key=lambda row: row.steps or 0)
        shown.append((first, settings[first.num_tokens, first.setting]))
    return sorted(shown, key=lambda one: _place(one[0].route))


def _family(route: str) -> Family | None:
    return ROUTES[route].family if route in ROUTES else None


def _place(route: str) -> tuple[int, int]:
    """Order routes by family, then as ROUTES does; unknown ones last."""
    if route not in ROUTES:
        return len(_FAMILIES), 0
    return _FAMILIES.index(ROUTES[route].family), list(ROUTES).index(route)


def _key(row: Row) -> _Key:
    steps = -1 if row.steps is None else row.steps
    num_tokens = -1 if row.num_tokens is None else row.num_tokens
    name = f"{row.route}/{row.metric}"
    return row.dataset, row.split, row.task, name, steps, num_tokens, row.setting, row.selection


def _values(per_query: pd.DataFrame) -> dict[_Key, pd.DataFrame]:
    """Sort the per-query values by what they are values of: frames of value and query_class by query_id.

    Raises:
        InputError: a query that has two values of one route.
    """
    wanted = per_query[per_query["metric"].isin(HEADLINES) & per_query["value"].notna()]
    wanted = wanted.assign(
        name=wanted["route"].astype(str) + "/" + wanted["metric"].astype(str),
        steps=_whole(wanted["steps"]),
        num_tokens=_whole(wanted["num_tokens"]),
    )
    columns = ["dataset", "split", "task", "name", "steps", "num_tokens", "setting", "selection"]
    found: dict[_Key, pd.DataFrame] = {}
    for key, group in wanted.groupby(columns, sort=False):
        twice = group["query_id"].duplicated()
        if twice.any():
            raise InputError(
                f"{dict(zip(columns, key, strict=True))}: query {group['query_id'][twice].iloc[0]!r} has two "
                "values; give the rows of one evaluation, whose datasets have different names"
            )
        found[key] = group.set_index("query_id")[["value", "query_class"]]
    return found


def _whole(column: pd.Series) -> pd.Series:
    """Turn a column of whole numbers and gaps into integers, -1 for a gap."""
    return pd.to_numeric(column).astype("Float64").fillna(-1).astype("int64")
