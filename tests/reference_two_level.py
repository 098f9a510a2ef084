"""The two-level t from a frame of queries, by grouping: a slow twin."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.stats.seeds import two_way_t
from crossgap.errors import InputError
from crossgap.metrics.intervals import FloatArray


def two_level_t_interval(
    frame: pd.DataFrame, by: Sequence[str], *, level: float = 0.95, strata: str | None = None
) -> pd.DataFrame:
    """Bound a mean over seeds and queries, for other seeds and other query classes at once, by a t interval.

    The slow twin of :func:`analysis.stats.seeds.two_way_t`, which has the formulas and their source, from a
    frame of single queries.

    Args:
        frame: columns ``by``, ``strata``, seed, query_class, query_id, value (paired differences; NaN:
            skipped).
        by: the columns that tell groups apart; groups keep their order of first appearance.
        strata: the column that tells strata apart, such as "dataset"; classes and query ids of two strata are
            never the same ones. None: there is one stratum.

    Returns:
        columns ``by``, value, low, high, p, n_seeds, n_classes, n_queries. NaN bounds and p with fewer than
        two seeds, or fewer than two classes in a stratum. Where all values are equal within strata the
        interval shrinks to the value and p is NaN (there is nothing to divide by).

    Raises:
        InputError: a query stands twice in a seed or has no class, or the seeds of a group answered different
            queries; a level outside (0, 1).
    """
    if not 0 < level < 1:
        raise InputError(f"level={level}: an interval's level lies between 0 and 1")
    inside = [strata] if strata else []
    results: list[dict[Hashable, object]] = []
    for key, group in (
        frame.groupby(list(by), sort=False, dropna=False, observed=True) if by else [((), frame)]
    ):
        where: dict[Hashable, object] = dict(zip(by, key, strict=True))
        crossing = _cross(group, inside, where)
        value, low, high, p = two_way_t(*crossing, level=level)
        results.append(
            {
                **where,
                "value": value,
                "low": low,
                "high": high,
                "p": p,
                "n_seeds": len(crossing.sums_SC),
                "n_classes": len(crossing.counts_C),
                "n_queries": int(crossing.counts_C.sum()),
            }
        )
    return pd.DataFrame(
        results, columns=[*by, "value", "low", "high", "p", "n_seeds", "n_classes", "n_queries"]
    )


class _Crossing(NamedTuple):
    """Sums and counts of the queries of each class (C) in each seed (S), and the stratum of each class."""

    sums_SC: FloatArray
    counts_C: FloatArray
    stratum_C: npt.NDArray[np.intp]


def _cross(group: pd.DataFrame, inside: list[str], where: dict[Hashable, object]) -> _Crossing:
    if group.duplicated(["seed", *inside, "query_id"]).any():
        raise InputError(f"{where}: a query id stands twice in one seed; keep one value a query and seed")
    classes = [*inside, "query_class"]
    if group[classes].isna().any(axis=None):
        raise InputError(f"{where}: a query without a class; give each its own if there are none")
    valued = group[group["value"].notna()]
    n_seeds = valued["seed"].nunique()
    per_query = valued.groupby([*classes, "query_id"], observed=True)["seed"].nunique()
    odd = per_query[per_query != n_seeds]
    if len(odd):
        raise InputError(
            f"{where}: query {odd.index[0]!r} has a value in {odd.iloc[0]} of {n_seeds} seeds; seeds and "
            "queries can be told apart only where every seed answered the same ones"
        )
    per_class = valued.groupby([*classes, "seed"], observed=True)["value"].sum().unstack("seed")
    names = per_class.index.get_level_values(0) if inside else [""] * len(per_class)
    return _Crossing(
        np.asarray(per_class, dtype=np.float64).T,
        np.asarray(per_query.groupby(level=classes, observed=True).size(), dtype=np.float64),
        pd.factorize(np.asarray(names))[0],
    )
