"""How sure a mean is: over other queries, over other seeds, and whether both agree on its sign."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from analysis.stats.bootstrap import Bootstrap, FloatArray, average_models, resample_counts
from analysis.stats.equivalence import equivalence, equivalent_within
from analysis.stats.seeds import Paired, paired_seeds, sign_flip

Verdict = Literal["supported", "contradicted", "undecided", "not measured"]
QUERY = ["dataset", "query_id", "query_class"]


class Evidence(NamedTuple):
    """A mean paired difference with what bounds it.

    ``value`` is the mean over datasets of the mean over queries, averaged over models; ``low`` and ``high``
    bound it over queries (whole classes resampled, within each dataset), ``models`` over models: the seeds of
    an arm, or released models. ``p`` is that of the paired t test over models, of one model that of flipping
    the signs of whole classes. ``negligible``: both find the difference within the margin.
    """

    value: float
    low: float
    high: float
    models: Paired
    n_queries: int
    n_datasets: int
    p: float
    negligible: bool


def gather(differences: pd.DataFrame, *, bootstrap: Bootstrap, margin: float) -> Evidence | None:
    """Summarise paired differences, one row a model, dataset and query; None without any.

    Args:
        differences: columns dataset, seed, query_id, query_class, value (NaN: skipped). What is called seed
            tells the models apart.
    """
    valued = differences.dropna(subset=["value"])
    if valued.empty:
        return None
    per_model = valued.groupby(["seed", "dataset"])["value"].mean().groupby("seed").mean()
    models = paired_seeds(per_model.tolist(), level=bootstrap.level)
    queries = average_models(valued, ["dataset"])
    alpha = 1 - bootstrap.level
    means_R = _resampled(queries, bootstrap)
    low, high = _percentiles(means_R, bootstrap.level)
    negligible = equivalent_within(*_percentiles(means_R, 1 - 2 * alpha), margin)
    if models.n > 1:
        negligible = negligible and equivalence(per_model.tolist(), margin, alpha=alpha).equivalent
        p = models.p_t
    else:
        weighted = _weighted(queries)
        classes = weighted["dataset"].str.cat(weighted["query_class"], sep="\n")
        p = sign_flip(weighted["value"].to_numpy(float), classes.to_numpy(str))
    return Evidence(
        value=models.value,
        low=low,
        high=high,
        models=models,
        n_queries=len(queries),
        n_datasets=queries["dataset"].nunique(),
        p=p,
        negligible=negligible,
    )


def side(evidence: Evidence, *, beyond: float = 0.0) -> int:
    """Tell on which side of zero all intervals lie: 1, -1, or 0 where they do not agree or include it.

    ``beyond``: how far from zero they must lie at least.
    """
    bounds = [(evidence.low, evidence.high)]
    if evidence.models.n > 1:
        bounds.append((evidence.models.low, evidence.models.high))
    if all(low > beyond for low, _ in bounds):
        return 1
    return -1 if all(high < -beyond for _, high in bounds) else 0


def _resampled(queries: pd.DataFrame, bootstrap: Bootstrap) -> FloatArray:
    """Resample the mean over datasets of the means over queries, whole classes within each dataset.

    Empty where a dataset has fewer than two classes.
    """
    means_R = np.zeros(bootstrap.resamples)
    groups = list(queries.groupby("dataset", sort=True))
    for place, (_, group) in enumerate(groups):
        classes = group.groupby("query_class")["value"].agg(["sum", "size"])
        if len(classes) < 2:
            return np.empty(0)
        drawn = resample_counts(len(classes), replace(bootstrap, seed=bootstrap.seed + place))
        sums, sizes = (classes[name].to_numpy(np.float64) for name in ("sum", "size"))
        means_R += (drawn @ sums) / (drawn @ sizes) / len(groups)
    return means_R


def _percentiles(means_R: FloatArray, level: float) -> tuple[float, float]:
    if not len(means_R):
        return float("nan"), float("nan")
    low, high = np.percentile(means_R, [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)


def _weighted(queries: pd.DataFrame) -> pd.DataFrame:
    """Scale the values so that their mean is the mean over datasets."""
    sizes = queries.groupby("dataset")["value"].transform("size")
    share = len(queries) / (queries["dataset"].nunique() * sizes)
    return queries.assign(value=queries["value"] * share)


def subtract(frame: pd.DataFrame, reference: pd.DataFrame) -> pd.DataFrame:
    """Subtract per-query values of the same model, dataset and query; what one side lacks is left out.

    Both: columns dataset, seed, query_id, query_class, value.
    """
    on = ["seed", *QUERY]
    joined = frame.merge(reference[[*on, "value"]], on=on, suffixes=("", "_reference"))
    return joined.assign(value=joined["value"] - joined["value_reference"])[[*on, "value"]]


def average_arms(frame: pd.DataFrame, arms: Sequence[str]) -> pd.DataFrame:
    """Average per-query values over arms within each seed, over the seeds that all of the arms have."""
    mine = frame[frame["arm"].isin(arms)]
    shared = mine.groupby("seed")["arm"].nunique()
    mine = mine[mine["seed"].isin(shared.index[shared == len(set(arms))])]
    return mine.groupby(["seed", *QUERY], sort=False)["value"].mean().reset_index()
