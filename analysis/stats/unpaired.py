"""How sure a difference is between models that share no seeds: over other seeds, other queries, and both."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.stats.evidence import TWO_LEVEL, Evidence
from analysis.stats.seeds import Paired, flip_p_values, satterthwaite, spread
from crossgap.metrics.intervals import Bootstrap, FloatArray, resampled_means
from crossgap.reading.support import supported

_NAN = float("nan")


def welch(first: FloatArray, second: FloatArray, *, level: float = 0.95) -> Paired:
    """Bound mean(second) - mean(first) for other seeds of both, by Welch's t interval.

    V = s_1² / S_1 + s_2² / S_2;  df = V² / sum_k (s_k² / S_k)² / (S_k - 1). ``sd`` is that of one difference
    of two models, sqrt(s_1² + s_2²); ``n`` the seeds of the side that has fewer.

    [0] Welch, Biometrika 34, 1947

    Returns:
        NaN bounds and p where a side has fewer than two seeds; there is no test by signs.
    """
    n_1, n_2 = len(first), len(second)
    value = float(np.mean(second) - np.mean(first))
    variances = np.array([spread(first) ** 2 / n_1, spread(second) ** 2 / n_2])
    low, high, p = satterthwaite(value, variances, np.array([n_1 - 1, n_2 - 1]), level=level)
    sd = float(np.sqrt(spread(first) ** 2 + spread(second) ** 2))
    effect = value / sd if sd > 0 else _NAN
    return Paired(
        value=value, low=low, high=high, n=min(n_1, n_2), sd=sd, effect_size=effect, p_t=p, p_flip=_NAN,
        p_flip_least=_NAN,
    )  # fmt: skip


def gather_unpaired(first: pd.DataFrame, second: pd.DataFrame, *, bootstrap: Bootstrap) -> Evidence | None:
    """Summarise second minus first, of models that share no seeds, on one dataset each; None without any.

    Where both sides answered the same queries these are paired: a class counts with the difference of its two
    sums. Else both sides' classes vary by themselves. Over both seeds and queries:
    V = s_1² / S_1 + s_2² / S_2 + V_C, V_C as in :func:`analysis.stats.seeds.two_way_t`, of the differences or
    added up over the sides; df by Satterthwaite. Queries that not all seeds of a side answered are left out.

    Args:
        first, second: columns seed, query_id, query_class, value (NaN: skipped).
    """
    tables = [_by_seed(frame) for frame in (first, second)]
    if any(table.empty for table in tables):
        return None
    if set(tables[0].index) == set(tables[1].index):
        tables = [tables[0], tables[1].reindex(tables[0].index)]
        differences = [tables[1].mean(axis=1) - tables[0].mean(axis=1)]
        signs = [1.0]
    else:
        differences = [table.mean(axis=1) for table in tables]
        signs = [-1.0, 1.0]
    models = welch(*(table.mean().to_numpy(np.float64) for table in tables), level=bootstrap.level)
    value, means_R = 0.0, np.zeros(bootstrap.resamples)
    variances = [spread(table.mean().to_numpy(np.float64)) ** 2 / table.shape[1] for table in tables]
    freedom = [table.shape[1] - 1 for table in tables]
    n_classes = []
    for place, (sign, of_query) in enumerate(zip(signs, differences, strict=True)):
        sums_C, counts_C = _of_classes(of_query)
        mean = sums_C.sum() / counts_C.sum()
        value += sign * mean
        rest_C = (sums_C - counts_C * mean) / counts_C.sum()
        n = len(sums_C)
        n_classes.append(n)
        variances.append(float(rest_C @ rest_C) * n / (n - 1) if n > 1 else _NAN)
        freedom.append(n - 1)
        drawn = Bootstrap(level=bootstrap.level, resamples=bootstrap.resamples, seed=bootstrap.seed + place)
        means_R += sign * resampled_means(sums_C[:, None], counts_C[:, None], drawn)[:, 0]
    tail = 50 * (1 - bootstrap.level)
    low, high = np.percentile(means_R, [tail, 100 - tail]) if min(n_classes) > 1 else (_NAN, _NAN)
    both_low = both_high = _NAN
    p = models.p_t
    if supported(TWO_LEVEL, models.n):
        both_low, both_high, p = satterthwaite(
            value, np.array(variances), np.array(freedom), level=bootstrap.level
        )
    elif len(signs) == 1:
        sums_C, _ = _of_classes(differences[0])
        p = float(np.fmax(float(flip_p_values(sums_C[None])[0]), models.p_t))
    return Evidence(
        value=float(value), low=float(low), high=float(high), models=models._replace(value=float(value)),
        both_low=both_low, both_high=both_high, n_queries=min(len(table) for table in tables),
        n_classes=min(n_classes), n_datasets=1, p=p,
    )  # fmt: skip


def _by_seed(frame: pd.DataFrame) -> pd.DataFrame:
    """Put values of queries, by class and id, beside each other by seed; only what all seeds answered."""
    valued = frame.dropna(subset=["value"])
    return valued.pivot_table(
        index=["query_class", "query_id"], columns="seed", values="value", observed=True
    ).dropna()


def _of_classes(of_query: pd.Series) -> tuple[FloatArray, FloatArray]:
    """Add up values of queries by class, and count them."""
    by_class = of_query.groupby(level="query_class", observed=True)
    sums_C: FloatArray = by_class.sum().to_numpy(np.float64)
    counts_C: FloatArray = by_class.size().to_numpy().astype(np.float64)
    return sums_C, counts_C
