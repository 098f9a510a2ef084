"""How sure a mean is: over other queries, over other seeds, and whether both agree on its sign."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from analysis.stats.crossing import complete_crossing
from analysis.stats.equivalence import equivalent_within
from analysis.stats.seeds import Paired, paired_seeds, sign_flip, two_level_t_interval
from crossgap.metrics.intervals import Bootstrap, average_models, resampled_means
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
    """
    valued = complete_crossing(differences.dropna(subset=["value"]), "seed", "dataset")
    answered = valued.groupby(["dataset", "query_id"])["seed"].transform("nunique")
    valued = valued[answered == valued["seed"].nunique()]
    if valued.empty:
        return None
    per_model = valued.groupby(["seed", "dataset"])["value"].mean().groupby("seed").mean()
    models = paired_seeds(per_model.tolist(), level=bootstrap.level)
    queries = average_models(valued, ["dataset"])
    low, high = _over_queries(queries, bootstrap)
    both_low = both_high = p = float("nan")
    if supported(TWO_LEVEL, models.n):
        found = two_level_t_interval(valued, [], level=bootstrap.level, strata="dataset").iloc[0]
        both_low, both_high, p = float(found["low"]), float(found["high"]), float(found["p"])
    else:
        p = float(np.fmax(_p_over_queries(queries), models.p_t))
    return Evidence(
        value=models.value,
        low=low,
        high=high,
        models=models,
        both_low=both_low,
        both_high=both_high,
        n_queries=len(queries),
        n_classes=_classes(queries),
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
        sums_C1, sizes_C1 = (classes[[name]].to_numpy(np.float64) for name in ("sum", "size"))
        drawn = replace(bootstrap, seed=bootstrap.seed + place)
        means_R += resampled_means(sums_C1, sizes_C1, drawn)[:, 0] / len(groups)
    tail = 50 * (1 - bootstrap.level)
    low, high = np.percentile(means_R, [tail, 100 - tail])
    return float(low), float(high)


def _classes(queries: pd.DataFrame) -> int:
    """Count classes; of several datasets by Satterthwaite's degrees of freedom of the mean over them.

    1 + V² / sum_d V_d² / (C_d - 1), V = sum_d V_d, with V_d = C_d/(C_d - 1) sum_c ((D_c - n_c m_d) / N_d)²
    as in the two-level t.
    """
    counts, variances = [], []
    for _, group in queries.groupby("dataset", sort=False):
        classes = group.groupby("query_class")["value"].agg(["sum", "size"]).to_numpy(np.float64)
        count = len(classes)
        rest = (classes[:, 0] - classes[:, 1] * group["value"].mean()) / len(group)
        counts.append(count)
        variances.append(float(rest @ rest) * count / max(count - 1, 1))
    if len(counts) == 1 or min(counts) < 2 or not sum(variances):
        return min(counts)
    squares = sum(variance**2 / (count - 1) for count, variance in zip(counts, variances, strict=True))
    return 1 + round(sum(variances) ** 2 / squares)


def _p_over_queries(queries: pd.DataFrame) -> float:
    """Test the mean over datasets of the means over queries by flipping the signs of whole classes."""
    sizes = queries.groupby("dataset")["value"].transform("size")
    classes = queries["dataset"].str.cat(queries["query_class"], sep="\n")
    return sign_flip((queries["value"] / sizes).to_numpy(float), classes.to_numpy(str))


def arms_in(frame: pd.DataFrame, arms: Sequence[str]) -> list[str]:
    """Name the arms that :func:`average_arms` averages: those whose seeds make a complete crossing."""
    measured = set(complete_crossing(frame[frame["arm"].isin(arms)], "seed", "arm")["arm"])
    return [arm for arm in arms if arm in measured]


def average_arms(frame: pd.DataFrame, arms: Sequence[str]) -> pd.DataFrame:
    """Average per-query values over arms within each seed, over a complete crossing of arms and seeds."""
    mine = complete_crossing(frame[frame["arm"].isin(arms)], "seed", "arm")
    return mine.groupby(["seed", *QUERY], sort=False)["value"].mean().reset_index()
