"""What each route reaches on a task beside native features: values, paired differences and their intervals.

The numbers behind :mod:`crossgap.evaluation.summary`, from the rows and per-query values of one evaluation;
a report takes the same numbers from the same functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from crossgap.evaluation.routes import ROUTES
from crossgap.metrics.intervals import Bootstrap, average_models, mean_interval
from crossgap.reading.quoting import SIDE, quoted, quoted_queries
from crossgap.reading.route_values import measurements, to_reference
from crossgap.reading.support import OVER_QUERIES, supported_classes
from crossgap.records import Row, numeric, row_frame
from crossgap.vocabulary import ROUTE_WORDS, Family

# The first one that a task has rows of: revisited Oxford and Paris have their own AP, zero-shot none.
HEADLINES = ("mAP_trapezoidal", "mAP", "hit@1")
NATIVE = "native"
_FAMILIES: tuple[Family, ...] = ("reference", "inversion", "placebo", "map")
# differences below this are rounding: per-query values are float64 fractions
_ROUNDING = 1e-9


class Estimate(NamedTuple):
    """A fraction with its interval; without one (queries of a single class) both bounds are None."""

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
        value: its value, the mean over queries.
        chosen: how the setting was chosen: val, preset, or none where there is nothing to choose.
        own: of native features, the value with its interval.
        difference: value - native, paired by query; None for native itself, or where there is no native.
    """

    row: Row
    value: float
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
    """A task by every route that was quoted, in the order of families, then of ROUTES.

    Intervals resample ``n_classes`` classes of queries; ``decides`` tells whether these are enough for an
    interval to decide anything (:func:`crossgap.reading.support.supported_classes`).
    """

    dataset: str
    split: str
    task: str
    metric: str
    protocol: str
    routes: tuple[RouteResult, ...]
    maps: tuple[MapComparison, ...]
    n_classes: int
    decides: bool


def compare_routes(
    rows: Sequence[Row], per_query: pd.DataFrame, bootstrap: Bootstrap | None = None
) -> list[TaskComparison]:
    """Compare the routes of every task with native features, on the split that is reported.

    Which rows count, and at which setting, is decided by :func:`crossgap.reading.quoting.quoted`; values,
    differences and intervals are those of :func:`crossgap.reading.route_values.measurements`: a report shows
    the same. The headline of a task is its mAP, of zero-shot classification hit@1. An inversion is compared
    with the map of the highest mean in the same way; that map is picked on these queries, which favours it.

    Args:
        rows: of one evaluation, of any number of datasets.
        per_query: columns as in ``crossgap.records.TABLES["per_query"]``.
        bootstrap: how intervals are made; default: as a report makes them.

    Returns:
        one comparison a dataset and task, in the order of the rows; values and bounds are fractions.

    Raises:
        InputError: two rows of one measurement, a query that has two values of one route, or queries of a
            route that are not those of native features.
    """
    bootstrap = bootstrap or Bootstrap()
    kept = headline_rows(quoted(row_frame(rows)))
    queries = quoted_queries(numeric(per_query), kept)
    values = {
        metric: measurements(kept, queries, metric, bootstrap=bootstrap) for metric in set(kept["metric"])
    }
    beside = {
        metric: _beside_maps(table, queries[queries["metric"] == metric], bootstrap)
        for metric, table in values.items()
    }
    comparisons = []
    for key, of_task in kept.groupby(SIDE, sort=False):
        shown = [rows[place] for place in of_task.drop_duplicates("route").index]
        shown.sort(key=lambda row: _place(row.route))
        at_task, maps = (_at(tables[shown[0].metric], key) for tables in (values, beside))
        comparisons.append(_compare(shown, at_task, maps))
    return comparisons


def headline_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Keep, of each task, the rows of its headline metric."""
    frame = frame[frame["metric"].isin(HEADLINES)]
    place = frame["metric"].map({metric: place for place, metric in enumerate(HEADLINES)})
    return frame[place == place.groupby([frame[name] for name in SIDE]).transform("min")]


def _at(frame: pd.DataFrame, key: Any) -> dict[str, dict[str, Any]]:
    """Give the rows of one dataset, split and task by route."""
    at_task = frame[(frame[SIDE] == list(key)).all(axis=1)]
    rows = at_task.to_dict("records")
    return {str(row["route"]): {str(name): value for name, value in row.items()} for row in rows}


def _beside_maps(values: pd.DataFrame, queries: pd.DataFrame, bootstrap: Bootstrap) -> pd.DataFrame:
    """Compare each inversion with the map of the highest mean, task by task, paired by query.

    Returns:
        columns dataset, split, task, route (the inversion), best_map, n_maps, value, low, high.
    """
    by = [*SIDE, "route"]
    families = values["route"].map(family_of)
    maps = values[(families == "map") & values["n_clusters"].notna()]
    best = maps.loc[maps.groupby(SIDE, sort=False)["value"].idxmax(), by]
    best = best.merge(maps.groupby(SIDE, sort=False).size().rename("n_maps").reset_index(), on=SIDE)
    inverted = queries[queries["route"].map(family_of) == "inversion"]
    change = to_reference(inverted, queries.merge(best[by], on=by))
    table = mean_interval(average_models(change, by), by, bootstrap=bootstrap)
    return table.merge(best.rename(columns={"route": "best_map"}), on=SIDE)


def _compare(
    shown: Sequence[Row], values: dict[str, dict[str, Any]], beside: dict[str, dict[str, Any]]
) -> TaskComparison:
    inversions = [row for row in shown if family_of(row.route) == "inversion"]
    counts = [row["n_clusters"] for row in values.values() if pd.notna(row["n_clusters"])]
    n_classes = int(max(counts, default=0))
    first = shown[0]
    about = ROUTES[first.route].about if first.route in ROUTES else ""
    return TaskComparison(
        dataset=first.dataset,
        split=first.split,
        task=first.task,
        metric=first.metric,
        protocol=first.protocol.partition(about)[0].strip() if about else first.protocol,
        routes=tuple(_result(row, values[row.route], _chosen(row, inversions)) for row in shown),
        maps=tuple(
            MapComparison(
                inversion=row.route,
                best_map=str(over_map["best_map"]),
                n_maps=int(over_map["n_maps"]),
                difference=_estimate(over_map, "value", "low", "high"),
            )
            for row in inversions
            if row.route in beside
            for over_map in [beside[row.route]]
        ),
        n_classes=n_classes,
        decides=supported_classes(OVER_QUERIES, n_classes),
    )


def _result(row: Row, measured: dict[str, Any], chosen: str) -> RouteResult:
    own = difference = None
    if row.route == NATIVE and pd.notna(measured["n_clusters"]):
        own = _estimate(measured, "value", "low", "high")
    elif pd.notna(measured["difference"]):
        difference = _estimate(measured, "difference", "difference_low", "difference_high")
    return RouteResult(row=row, value=float(measured["value"]), chosen=chosen, own=own, difference=difference)


def _chosen(row: Row, inversions: Sequence[Row]) -> str:
    """Say how a setting was chosen; a placebo quoted from a curve takes the setting of an inversion."""
    if row.selection != "curve":
        return row.selection
    setting = (row.num_tokens, row.setting)
    alike = (other.selection for other in inversions if (other.num_tokens, other.setting) == setting)
    return next(alike, "none")


def _estimate(measured: dict[str, Any], value: str, low: str, high: str) -> Estimate:
    if pd.isna(measured[low]):
        return Estimate(float(measured[value]))
    return Estimate(*(float(measured[name]) for name in (value, low, high)))


def family_of(route: str) -> Family | None:
    """Name the family of a route; None of one that is none of ours."""
    return ROUTE_WORDS[route].family if route in ROUTE_WORDS else None


def _place(route: str) -> tuple[int, int]:
    """Order routes by family, then as they are listed; unknown ones last."""
    family = family_of(route)
    if family is None:
        return len(_FAMILIES), 0
    return _FAMILIES.index(family), list(ROUTE_WORDS).index(route)
