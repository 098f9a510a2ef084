"""Intervals over queries: a cluster bootstrap of means and of paired differences. Frame in, frame out.

What an evaluation prints and what a report shows is bounded by these functions. Imports no torch.
"""

from __future__ import annotations

import functools
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from crossgap.errors import InputError, check_known

MOST_CLUSTERS = 1_000  # beyond, groups of whole clusters are resampled: time and memory stay bounded
FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]


@dataclass(frozen=True, kw_only=True)
class Bootstrap:
    """How an interval is made: the unit that is resampled, the level, the number of resamples, the seed."""

    method: Literal["cluster", "query"] = "cluster"
    level: float = 0.95
    resamples: int = 10_000
    seed: int = 0

    def __post_init__(self) -> None:
        check_known(self.method, ("cluster", "query"), "bootstrap method")
        if not 0 < self.level < 1:
            raise InputError(f"level={self.level}: an interval's level lies between 0 and 1")
        if self.resamples < 1:
            raise InputError(f"resamples={self.resamples}: at least one resample is needed")


class _Clusters(NamedTuple):
    sums: FloatArray  # per cluster, over the queries that have a value
    counts: FloatArray


def resample_counts(n_clusters: int, bootstrap: Bootstrap) -> FloatArray:
    """Draw how often each of ``n_clusters`` clusters enters each resample.

    Returns:
        counts of shape (resamples, n_clusters), not to be written to; every row sums to ``n_clusters``. The
        same arguments give the same counts, so statistics over the same clusters share their resamples.
    """
    return _drawn(n_clusters, bootstrap.resamples, bootstrap.seed)


@functools.lru_cache(maxsize=8)  # a report draws for few sizes again and again
def _drawn(n_clusters: int, resamples: int, seed: int) -> FloatArray:
    shares = np.full(n_clusters, 1.0 / n_clusters)
    counts = np.random.default_rng(seed).multinomial(n_clusters, shares, size=resamples).astype(np.float64)
    counts.flags.writeable = False
    return counts


def resampled_means(sums_CG: FloatArray, counts_CG: FloatArray, bootstrap: Bootstrap) -> FloatArray:
    """Compute sum over count in each resample of C clusters, for G groups that share the draws.

    Above :data:`MOST_CLUSTERS` clusters, so many groups of whole clusters are resampled instead, each
    cluster in the group of its place: the spread of their sums estimates the same variance, as the groups
    are as independent as the clusters.

    Returns:
        means, shape (resamples, G).
    """
    drawn = resample_counts(min(len(sums_CG), MOST_CLUSTERS), bootstrap)
    return (drawn @ _pooled(sums_CG)) / (drawn @ _pooled(counts_CG))


def _pooled(values_CG: FloatArray) -> FloatArray:
    if len(values_CG) <= MOST_CLUSTERS:
        return values_CG
    pooled = np.zeros((MOST_CLUSTERS, values_CG.shape[1]))
    np.add.at(pooled, np.arange(len(values_CG)) % MOST_CLUSTERS, values_CG)
    return pooled


def groups(frame: pd.DataFrame, by: Sequence[str]) -> list[tuple[tuple[Hashable, ...], IntArray]]:
    """List the keys of groups, in order of first appearance, with the places of their rows."""
    if not by:
        return [((), np.arange(len(frame)))]
    numbers = frame.groupby(list(by), sort=False, dropna=False, observed=True).ngroup().to_numpy()
    order = np.argsort(numbers, kind="stable")
    starts = np.flatnonzero(np.diff(numbers[order], prepend=-1))
    firsts = frame[list(by)].iloc[order[starts]].itertuples(index=False, name=None)
    return list(zip(firsts, np.split(order, starts[1:]), strict=True)) if len(frame) else []


def mean_interval(
    frame: pd.DataFrame, by: Sequence[str], *, bootstrap: Bootstrap | None = None
) -> pd.DataFrame:
    """Average ``value`` over the queries of each group and bound the average by a bootstrap over queries.

    value = sum_q v_q / Q;  macro = mean over classes of the class means;  low, high = percentiles of the same
    statistic when whole query classes (``method="cluster"``) or single queries (``"query"``) are resampled
    with replacement. Queries of one class share their relevant items, so they are not independent: the
    cluster form is the default. The macro mean treats classes alike, so its interval resamples
    classes in both cases. A query without a value (NaN: nothing relevant in the gallery) is skipped and
    counted.

    [0] Davison and Hinkley, Bootstrap Methods and their Application, 1997, sections 3.8 and 5.3

    Args:
        frame: columns ``by``, query_id, query_class, value; one row a query within a group.
        by: the columns that tell groups apart; groups keep their order of first appearance.

    Returns:
        columns ``by``, value, low, high, macro, macro_low, macro_high, n_queries (with a value), n_skipped,
        n_clusters (with a value). Fewer than two clusters give no interval (NaN).

    Raises:
        ValueError: a query stands twice in one group.
    """
    bootstrap = bootstrap or Bootstrap()
    results: list[dict[Hashable, object]] = []
    clusters: list[tuple[_Clusters, _Clusters]] = []
    values = frame["value"].to_numpy(np.float64)
    classes, queries = (_codes(frame[column]) for column in ("query_class", "query_id"))
    for key, places in groups(frame, by):
        if len(np.unique(queries[places])) < len(places):
            raise ValueError(f"{dict(zip(by, key, strict=True))}: a query id stands twice in this group")
        valued = places[~np.isnan(values[places])]
        per_class = _clusters(values[valued], classes[valued])
        unit = per_class if bootstrap.method == "cluster" else _clusters(values[valued], queries[valued])
        clusters.append((unit, _Clusters(per_class.sums / per_class.counts, np.ones_like(per_class.counts))))
        results.append(
            {
                **dict(zip(by, key, strict=True)),
                "n_queries": len(valued),
                "n_skipped": len(places) - len(valued),
                "n_clusters": len(unit.counts),
            }
        )
    table = pd.DataFrame(results, columns=[*by, "n_queries", "n_skipped", "n_clusters"])
    micro = _bounds([pair[0] for pair in clusters], bootstrap)
    macro = _bounds([pair[1] for pair in clusters], bootstrap)
    for position, name in enumerate(("value", "low", "high")):
        table[name] = micro[:, position]
    for position, name in enumerate(("macro", "macro_low", "macro_high")):
        table[name] = macro[:, position]
    numbers = [
        "value",
        "low",
        "high",
        "macro",
        "macro_low",
        "macro_high",
        "n_queries",
        "n_skipped",
        "n_clusters",
    ]
    return table[[*by, *numbers]]


def paired_difference(
    frame: pd.DataFrame, reference: pd.DataFrame, *, on: Sequence[str], by: Sequence[str]
) -> pd.DataFrame:
    """Subtract from each query's value the value that the same query has in ``reference``.

    Rows are joined by ``on`` and the query id, never by position. A group of ``frame`` that ``reference``
    does not hold at all is left out of the result.

    Args:
        frame: columns ``by``, query_id, query_class, value.
        reference: columns ``on``, query_id, value; one row for each ``on`` and query id.
        on: columns that select a query's reference, a subset of ``by``.
        by: columns that tell the groups of ``frame`` apart.

    Returns:
        columns ``by``, query_id, query_class, value (the difference; NaN where either side is).

    Raises:
        InputError: a group and its reference hold different queries.
    """
    keys = [*on, "query_id"]
    right = reference[[*keys, "value"]].rename(columns={"value": "reference_value"})
    columns = [*by, "query_id", "query_class", "value"]
    joined = frame[columns].merge(right, on=keys, how="left", validate="m:1", indicator="side")
    if not on:
        sizes = pd.Series(len(right), index=joined.index)
    else:
        counted = right.groupby(list(on), sort=False, dropna=False, observed=True).size().rename("size")
        sizes = joined[list(on)].merge(counted.reset_index(), on=list(on), how="left")["size"].fillna(0)
    joined["size"] = sizes.to_numpy()
    joined = joined[joined["size"] > 0]
    matched, wanted = (joined["side"] == "both").to_numpy(), joined["size"].to_numpy()
    for key, places in groups(joined, by):
        if not matched[places].all() or len(places) != wanted[places[0]]:
            strangers = places[~matched[places]]
            strange = sorted(joined["query_id"].iloc[strangers])[:3]
            raise InputError(
                f"{dict(zip(by, key, strict=True))}: {len(places)} queries against "
                f"{int(wanted[places[0]])} of the reference, {len(strangers)} unknown there {strange}; a "
                "paired difference needs the same queries on both sides"
            )
    joined["value"] = joined["value"] - joined["reference_value"]
    return joined[columns].reset_index(drop=True)


def average_models(frame: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Average each query's value over the models (seeds) of a group, so that queries stay the sampled unit.

    Args:
        frame: columns ``by``, seed, query_id, query_class, value; one row for each model and query.

    Returns:
        columns ``by``, query_id, query_class, value, n_models.

    Raises:
        InputError: the models of a group were measured on different queries.
    """
    keys = [*by, "query_id", "query_class"]
    grouped = frame.groupby(keys, sort=False, dropna=False, observed=True)["value"]
    result = grouped.agg(value="mean", n_models="size").reset_index()
    if by:
        spread = result.groupby(list(by), sort=False, dropna=False, observed=True)["n_models"].nunique()
        uneven = [key for key, count in spread.items() if count > 1]
    else:
        uneven = [()] if result["n_models"].nunique() > 1 else []
    if uneven:
        raise InputError(f"{uneven[0]!r}: the seeds of this group were measured on different queries")
    return result


def _codes(column: pd.Series) -> IntArray:
    """Number the distinct values of a column in sorted order."""
    return pd.factorize(column, sort=True)[0]


def _clusters(values: FloatArray, codes: IntArray) -> _Clusters:
    distinct, places = np.unique(codes, return_inverse=True)
    sums = np.bincount(places, weights=values, minlength=len(distinct))
    return _Clusters(sums.astype(np.float64), np.bincount(places, minlength=len(distinct)).astype(np.float64))


def _bounds(clusters: Sequence[_Clusters], bootstrap: Bootstrap) -> FloatArray:
    """Return (value, low, high) of sum/count by group; groups of equally many clusters share draws."""
    bounds = np.full((len(clusters), 3), np.nan)
    sizes = np.array([len(group.counts) for group in clusters], dtype=np.int64)
    tail = 50 * (1 - bootstrap.level)
    for size in np.unique(sizes[sizes > 0]):
        members = [place for place, count in enumerate(sizes) if count == size]
        sums = np.stack([clusters[member].sums for member in members], axis=1)
        counts = np.stack([clusters[member].counts for member in members], axis=1)
        bounds[members, 0] = sums.sum(axis=0) / counts.sum(axis=0)
        if size > 1:
            means_RG = resampled_means(sums, counts, bootstrap)
            bounds[members, 1:] = np.percentile(means_RG, [tail, 100 - tail], axis=0).T
    return bounds
