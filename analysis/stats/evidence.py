"""How sure a mean is: over other queries, over other seeds, and whether both agree on its sign."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.stats.crossing import complete_crossing
from analysis.stats.equivalence import equivalent_within
from analysis.stats.seeds import Paired, flip_p_values, paired_seeds, two_way_t
from crossgap.errors import InputError
from crossgap.metrics.intervals import Bootstrap, FloatArray, resampled_means
from crossgap.reading.support import OVER_QUERIES, supported, supported_classes

Verdict = Literal["supported", "contradicted", "undecided", "not measured"]
TWO_LEVEL = "two-level t"
QUERY = ["dataset", "query_id", "query_class"]


class Evidence(NamedTuple):
    """A mean paired difference with what bounds it.

    ``value`` is the mean over datasets of the mean over queries, averaged over models; ``low`` and ``high``
    bound it over queries (whole classes resampled, within each dataset), ``models`` over models: the seeds of
    an arm, or released models. ``both_low`` and ``both_high`` bound it over models and queries at once, where
    the simulation supports such an interval for so few models (else NaN). ``p`` belongs to what decides: that
    of the t over models and queries at once, else the larger of that of flipping the signs of whole classes
    and, of several models, that of the t over models. ``n_classes`` is the number of classes that the
    interval over queries is worth: that of one dataset, of several their degrees of freedom together.
    """

    value: float
    low: float
    high: float
    models: Paired
    both_low: float
    both_high: float
    n_queries: int
    n_classes: int
    n_datasets: int
    p: float


def gather(differences: pd.DataFrame, *, bootstrap: Bootstrap) -> Evidence | None:
    """Summarise paired differences, one row a model, dataset and query; None without any.

    Every model counts with the same datasets and queries: only the largest complete crossing of models and
    datasets counts (:func:`analysis.stats.crossing.complete_crossing`), then the queries that all models
    answered.

    Args:
        differences: columns dataset, seed, query_id, query_class, value (NaN: skipped). What is called seed
            tells the models apart.

    Raises:
        InputError: a query stands twice in a seed or has no class.
    """
    valued = complete_crossing(differences.dropna(subset=["value"]), "seed", "dataset")
    by_query = valued.groupby(["dataset", "query_id"], sort=False, observed=True)
    query_N, seed_N = by_query.ngroup().to_numpy(), pd.factorize(valued["seed"], sort=True)[0]
    n_seeds = int(seed_N.max(initial=-1)) + 1
    if len(np.unique(query_N * n_seeds + seed_N)) < len(valued):
        raise InputError("a query id stands twice in one seed; keep one value a query and seed")
    answered_Q = np.bincount(query_N) == n_seeds
    if not answered_Q.any():
        return None
    values_SQ = np.zeros((n_seeds, len(answered_Q)))
    values_SQ[seed_N, query_N] = valued["value"].to_numpy(np.float64)
    values_SQ = values_SQ[:, answered_Q]
    first = valued.iloc[np.unique(query_N, return_index=True)[1][answered_Q]]
    if first["query_class"].isna().any():
        raise InputError("a query without a class; give each its own if there are none")
    classes = _classes(values_SQ, first)
    share_C = 1 / (classes.n_queries_D.size * classes.n_queries_D[classes.stratum_C])  # what a query counts
    models = paired_seeds(classes.sums_SC @ share_C, level=bootstrap.level)
    sums_C = classes.sums_SC.mean(axis=0)
    low, high = _over_queries(classes, sums_C, bootstrap)
    both_low = both_high = float("nan")
    if supported(TWO_LEVEL, models.n):
        _, both_low, both_high, p = two_way_t(*classes[:3], level=bootstrap.level)
    else:
        flipped = float(flip_p_values((sums_C * share_C)[None])[0])
        p = float(np.fmax(flipped, models.p_t))
    return Evidence(
        value=models.value,
        low=low,
        high=high,
        models=models,
        both_low=both_low,
        both_high=both_high,
        n_queries=values_SQ.shape[1],
        n_classes=_worth(classes, sums_C),
        n_datasets=classes.n_queries_D.size,
        p=p,
    )


class _Classes(NamedTuple):
    """Sums over the queries of each class (C) in each seed (S), in the order of datasets (D) and classes."""

    sums_SC: FloatArray
    counts_C: FloatArray
    stratum_C: npt.NDArray[np.intp]
    n_queries_D: FloatArray


def _classes(values_SQ: FloatArray, queries: pd.DataFrame) -> _Classes:
    """Add up queries by class within their dataset."""
    dataset_Q, class_Q = (pd.factorize(queries[name], sort=True)[0] for name in ("dataset", "query_class"))
    classes, place_Q = np.unique(dataset_Q * (class_Q.max() + 1) + class_Q, return_inverse=True)
    sums = [np.bincount(place_Q, weights=values_Q, minlength=len(classes)) for values_Q in values_SQ]
    stratum_C = classes // (class_Q.max() + 1)
    return _Classes(
        np.stack(sums), np.bincount(place_Q).astype(np.float64), stratum_C,
        np.bincount(dataset_Q).astype(np.float64),
    )  # fmt: skip


def deciding(evidence: Evidence) -> list[tuple[float, float]]:
    """List the intervals that have to agree.

    That over models and queries at once, if there is one; else that over queries and, of several models, that
    over models.
    """
    if not np.isnan(evidence.both_low):
        return [(evidence.both_low, evidence.both_high)]
    over_queries = [(evidence.low, evidence.high)]
    return over_queries + [(evidence.models.low, evidence.models.high)] * (evidence.models.n > 1)


def side(evidence: Evidence, *, beyond: float = 0.0) -> int:
    """Tell on which side of zero all deciding intervals lie: 1, -1, or 0 where they do not or include it.

    ``beyond``: how far from zero they must lie at least. An interval over queries of so few classes that the
    simulation finds it too narrow decides nothing.
    """
    bounds = deciding(evidence)
    if too_few_classes(evidence):
        return 0
    if all(low > beyond for low, _ in bounds):
        return 1
    return -1 if all(high < -beyond for _, high in bounds) else 0


def negligible(evidence: Evidence, margin: float) -> bool:
    """Tell whether all deciding intervals lie within the margin: two one-sided tests at half of 1 - level.

    Half, because the simulation finds that at .05 the test claims too much where seeds are skewed.
    """
    return not too_few_classes(evidence) and all(
        equivalent_within(low, high, margin) for low, high in deciding(evidence)
    )


def too_few_classes(evidence: Evidence) -> bool:
    """Tell whether an interval over queries has to decide and rests on too few classes for it."""
    return bool(np.isnan(evidence.both_low)) and not supported_classes(OVER_QUERIES, evidence.n_classes)


def _over_queries(classes: _Classes, sums_C: FloatArray, bootstrap: Bootstrap) -> tuple[float, float]:
    """Bound the mean over datasets of the means over queries; classes are resampled within each dataset.

    NaN where a dataset has fewer than two classes.
    """
    n_datasets = classes.n_queries_D.size
    if np.bincount(classes.stratum_C).min() < 2:
        return float("nan"), float("nan")
    means_R = np.zeros(bootstrap.resamples)
    for place in range(n_datasets):
        mine_C = classes.stratum_C == place
        drawn = replace(bootstrap, seed=bootstrap.seed + place)
        means_RG = resampled_means(sums_C[mine_C, None], classes.counts_C[mine_C, None], drawn)
        means_R += means_RG[:, 0] / n_datasets
    tail = 50 * (1 - bootstrap.level)
    low, high = np.percentile(means_R, [tail, 100 - tail])
    return float(low), float(high)


def _worth(classes: _Classes, sums_C: FloatArray) -> int:
    """Count classes; of several datasets by Satterthwaite's degrees of freedom of the mean over them.

    1 + V² / sum_d V_d² / (C_d - 1), V = sum_d V_d, with V_d = C_d/(C_d - 1) sum_c ((D_c - n_c m_d) / N_d)²
    as in the two-level t.
    """
    _, counts_C, stratum_C, n_queries_D = classes
    n_D = np.bincount(stratum_C)
    means_D = np.bincount(stratum_C, weights=sums_C) / n_queries_D
    rest_C = (sums_C - counts_C * means_D[stratum_C]) / n_queries_D[stratum_C]
    variance_D = np.bincount(stratum_C, weights=rest_C**2) * n_D / np.maximum(n_D - 1, 1)
    if n_D.size == 1 or n_D.min() < 2 or not variance_D.sum():
        return int(n_D.min())
    return 1 + round(float(variance_D.sum() ** 2 / (variance_D**2 / (n_D - 1)).sum()))


def arms_in(frame: pd.DataFrame, arms: Sequence[str]) -> list[str]:
    """Name the arms that :func:`average_arms` averages: those whose seeds make a complete crossing."""
    measured = set(complete_crossing(frame[frame["arm"].isin(arms)], "seed", "arm")["arm"])
    return [arm for arm in arms if arm in measured]


def average_arms(frame: pd.DataFrame, arms: Sequence[str]) -> pd.DataFrame:
    """Average per-query values over arms within each seed, over a complete crossing of arms and seeds."""
    crossed = complete_crossing(frame[frame["arm"].isin(arms)], "seed", "arm")
    return crossed.groupby(["seed", *QUERY], sort=False, observed=True)["value"].mean().reset_index()
