"""How sure a mean is: over other queries, over other seeds, and whether both agree on its sign."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from analysis.stats.bootstrap import Bootstrap, average_models, resample_counts
from analysis.stats.equivalence import equivalent_within
from analysis.stats.seeds import Paired, paired_seeds, sign_flip, two_level_t_interval
from analysis.stats.support import supported

Verdict = Literal["supported", "contradicted", "undecided", "not measured"]
TWO_LEVEL = "two-level t"
QUERY = ["dataset", "query_id", "query_class"]


class Evidence(NamedTuple):
    """A mean paired difference with what bounds it.

    ``value`` is the mean over datasets of the mean over queries, averaged over models; ``low`` and ``high``
    bound it over queries (whole classes resampled, within each dataset), ``models`` over models: the seeds of
    an arm, or released models. ``both_low`` and ``both_high`` bound it over models and queries at once, where
    the simulation supports such an interval for so few models (else NaN). ``p`` is that of the paired t test
    over models, of one model that of flipping the signs of whole classes.
    """

    value: float
    low: float
    high: float
    models: Paired
    both_low: float
    both_high: float
    n_queries: int
    n_datasets: int
    p: float


def gather(differences: pd.DataFrame, *, bootstrap: Bootstrap) -> Evidence | None:
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
    low, high = _over_queries(queries, bootstrap)
    both = float("nan"), float("nan")
    if supported(TWO_LEVEL, models.n):
        bounds = two_level_t_interval(_weighted(valued), [], level=bootstrap.level)
        both = float(bounds["low"].iloc[0]), float(bounds["high"].iloc[0])
    p = models.p_t
    if models.n == 1:
        weighted = _weighted(queries)
        p = sign_flip(weighted["value"].to_numpy(float), weighted["query_class"].to_numpy(str))
    return Evidence(
        value=models.value,
        low=low,
        high=high,
        models=models,
        both_low=both[0],
        both_high=both[1],
        n_queries=len(queries),
        n_datasets=queries["dataset"].nunique(),
        p=p,
    )


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

    ``beyond``: how far from zero they must lie at least.
    """
    bounds = deciding(evidence)
    if all(low > beyond for low, _ in bounds):
        return 1
    return -1 if all(high < -beyond for _, high in bounds) else 0


def negligible(evidence: Evidence, margin: float) -> bool:
    """Tell whether all deciding intervals lie within the margin: two one-sided tests at half of 1 - level.

    Half, because the simulation finds that at .05 the test claims too much where seeds are skewed.
    """
    return all(equivalent_within(low, high, margin) for low, high in deciding(evidence))


def _over_queries(queries: pd.DataFrame, bootstrap: Bootstrap) -> tuple[float, float]:
    """Bound the mean over datasets of the means over queries; classes are resampled within each dataset.

    NaN where a dataset has fewer than two classes.
    """
    means_R = np.zeros(bootstrap.resamples)
    groups = list(queries.groupby("dataset", sort=True))
    for place, (_, group) in enumerate(groups):
        classes = group.groupby("query_class")["value"].agg(["sum", "size"])
        if len(classes) < 2:
            return float("nan"), float("nan")
        drawn = resample_counts(len(classes), replace(bootstrap, seed=bootstrap.seed + place))
        sums, sizes = (classes[name].to_numpy(np.float64) for name in ("sum", "size"))
        means_R += (drawn @ sums) / (drawn @ sizes) / len(groups)
    tail = 50 * (1 - bootstrap.level)
    low, high = np.percentile(means_R, [tail, 100 - tail])
    return float(low), float(high)


def _weighted(values: pd.DataFrame) -> pd.DataFrame:
    """Scale per-query values so that their mean is the mean over datasets; classes of datasets stay apart."""
    by = [name for name in ("seed",) if name in values]
    sizes = values.groupby([*by, "dataset"])["value"].transform("size")
    total = values.groupby(by)["value"].transform("size") if by else len(values)
    share = total / (values["dataset"].nunique() * sizes)
    classes = values["dataset"].str.cat(values["query_class"], sep="\n")
    ids = values["dataset"].str.cat(values["query_id"], sep="\n")
    return values.assign(value=values["value"] * share, query_class=classes, query_id=ids)


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
