"""Paired differences over seeds: the mean, how far seeds leave it open, and exact tests of few of them."""

from __future__ import annotations

import functools
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.stats

from crossgap.errors import InputError
from crossgap.metrics.intervals import FloatArray

EXACT_UP_TO = 12  # 4096 patterns of signs: beyond, they are drawn
FLIPS = 10_000


class Paired(NamedTuple):
    """Differences of one arm to another, one a seed, in the unit they were given in."""

    value: float
    low: float
    high: float
    sd: float
    effect_size: float
    n: int
    p_t: float
    p_flip: float
    p_flip_least: float


class Record(NamedTuple):
    """In how many seeds (or queries) the first of two arms lies above, level with and below the second."""

    wins: int
    ties: int
    losses: int


def paired_seeds(differences: Sequence[float] | FloatArray, *, level: float = 0.95) -> Paired:
    """Summarise paired differences over seeds: mean, t interval, effect size and two tests of no difference.

    value = mean d;  sd = sqrt(sum (d - value)² / (n - 1));  low, high = value ∓ t_{n-1} sd / sqrt(n);
    effect_size = value / sd (d_z);  p_t from the t test of mean 0;  p_flip from :func:`sign_flip`;
    p_flip_least = 2 / 2^n, the smallest p that n signs can reach: .5 for two seeds, .0625 for five, so
    that below six seeds no sign-flip test reaches .05. (Beyond 12 seeds signs are drawn and the least that
    can be printed is 2 / 10,001.)

    [0] Student, Biometrika 6, 1908; Fisher, The Design of Experiments, 1935, section 21 (sign flips)
    [1] Cohen, Statistical Power Analysis, 1988 (d_z)

    Args:
        differences: shape (n,), one a seed, paired by seed.

    Returns:
        One seed has no spread: low, high, sd, effect_size and p_t are NaN and p_flip is 1. Differences that
        are all equal have sd 0: the interval shrinks to the value, effect_size and p_t are NaN (a t statistic
        divides by the spread), p_flip stands.

    Raises:
        InputError: no difference, a NaN or infinite one, or a level outside (0, 1).
    """
    d = checked(differences)
    low, high = t_interval(d, level=level)
    sd = spread(d)
    has_t = sd > 0  # False for NaN
    return Paired(
        value=float(d.mean()),
        low=low,
        high=high,
        sd=sd,
        effect_size=float(d.mean() / sd) if has_t else float("nan"),
        n=len(d),
        p_t=float(scipy.stats.ttest_1samp(d, 0.0).pvalue) if has_t else float("nan"),
        p_flip=sign_flip(d),
        p_flip_least=least_p(len(d)),
    )


def least_p(n_seeds: int) -> float:
    """Return the smallest p that the signs of so many seeds can reach, or that can be printed of it."""
    return 2 / 2**n_seeds if n_seeds <= EXACT_UP_TO else 2 / (FLIPS + 1)


def t_interval(differences: FloatArray, *, level: float = 0.95) -> tuple[float, float]:
    """Bound the mean of independent differences by Student's t: value ∓ t_{n-1} sd / sqrt(n).

    NaN for fewer than two; both bounds are the value where all differences are equal.

    Raises:
        InputError: a level outside (0, 1).
    """
    if not 0 < level < 1:
        raise InputError(f"level={level}: an interval's level lies between 0 and 1")
    n = len(differences)
    if n < 2:
        return float("nan"), float("nan")
    value = float(np.mean(differences))
    half = float(scipy.stats.t.ppf((1 + level) / 2, n - 1)) * spread(differences) / n**0.5
    return value - half, value + half


def spread(differences: FloatArray) -> float:
    """Compute the standard deviation over seeds, exactly 0 where rounding alone tells the differences apart.

    NaN for fewer than two.
    """
    if len(differences) < 2:
        return float("nan")
    if float(np.ptp(differences)) <= 1e-12 * float(np.abs(differences).max()):
        return 0.0
    return float(np.std(differences, ddof=1))


def checked(differences: Sequence[float] | FloatArray) -> FloatArray:
    """Return the differences as a float array of shape (n,).

    Raises:
        InputError: none, or one that is not finite.
    """
    d = np.asarray(differences, dtype=np.float64)
    if d.ndim != 1 or not len(d):
        raise InputError(f"differences of shape {d.shape}: give one number a seed, at least one")
    if not np.isfinite(d).all():
        raise InputError(
            f"differences={d.tolist()}: a difference that is not finite has no place in a mean over seeds; "
            "leave out the seeds that were not measured on both sides"
        )
    return d


def sign_flip(
    differences: Sequence[float] | FloatArray,
    clusters: Sequence[Hashable] | npt.NDArray[np.generic] | None = None,
    *,
    flips: int = FLIPS,
    seed: int = 0,
) -> float:
    """Test that differences lie around 0 by flipping their signs, whole clusters at a time.

    p = share of sign patterns s with |sum_c s_c D_c| >= |sum_c D_c|, D_c = sum of the differences of cluster
    c: all 2^n patterns for n <= 12 clusters, else ``flips`` drawn ones and p = 2 min over sides of (b + 1) /
    (flips + 1). Where differences are queries of one model, queries of a class share their relevant items and
    are flipped together; this says nothing of other seeds.

    [0] Smucker, Allan and Carterette, CIKM 2007; Phipson and Smyth, 2010, arXiv 1603.05766 (the +1)

    Args:
        differences: shape (n,).
        clusters: shape (n,), the class of each; None: each stands alone.

    Raises:
        InputError: no difference, one that is not finite, clusters of another length, or no flip.
    """
    d = checked(differences)
    if flips < 1:
        raise InputError(f"flips={flips}: at least one pattern of signs must be drawn")
    if clusters is not None:
        if len(clusters) != len(d):
            raise InputError(f"{len(clusters)} clusters for {len(d)} differences: give one a difference")
        d = np.asarray(pd.Series(d).groupby(np.asarray(clusters), dropna=False).sum(), dtype=np.float64)
    return float(flip_p_values(d[None], flips=flips, seed=seed)[0])


def flip_p_values(values_XN: FloatArray, *, flips: int = FLIPS, seed: int = 0) -> FloatArray:
    """Compute the p of the sign-flip test of each row, two-sided.

    Args:
        values_XN: shape (X, N), N differences of each of X tests, which share the patterns that are drawn.

    Returns:
        p-values, shape (X,).
    """
    n = values_XN.shape[1]
    exact = n <= EXACT_UP_TO
    if exact:
        signs_NF = 1.0 - 2.0 * (np.arange(2**n)[None, :] >> np.arange(n)[:, None] & 1)
    else:
        signs_NF = _drawn_signs(n, flips, seed)
    flipped_XF = values_XN @ signs_NF
    sums_X1 = values_XN.sum(axis=1, keepdims=True)
    slack_X1 = 1e-12 * np.abs(values_XN).sum(axis=1, keepdims=True)  # patterns equal within rounding count
    above_X = (flipped_XF >= sums_X1 - slack_X1).sum(axis=1)
    below_X = (flipped_XF <= sums_X1 + slack_X1).sum(axis=1)
    more = 0 if exact else 1
    p_X: FloatArray = 2 * (np.minimum(above_X, below_X) + more) / (signs_NF.shape[1] + more)
    return np.minimum(1.0, p_X)


@functools.lru_cache(maxsize=2)  # a report flips the signs of equally many classes again and again
def _drawn_signs(n: int, flips: int, seed: int) -> FloatArray:
    signs_NF: FloatArray = np.random.default_rng(seed).choice((-1.0, 1.0), (n, flips))
    return signs_NF


def win_tie_loss(differences: Sequence[float] | FloatArray) -> Record:
    """Count the differences above, at and below 0; one that rounding alone tells from 0 is a tie.

    Level: |d| <= 1e-12 max(1, max |d|), for metrics between 0 and 1 or points.

    Raises:
        InputError: no difference or one that is not finite.
    """
    d = checked(differences)
    slack = 1e-12 * max(1.0, float(np.abs(d).max()))
    return Record(int((d > slack).sum()), int((np.abs(d) <= slack).sum()), int((d < -slack).sum()))


class TwoWay(NamedTuple):
    """A mean with its interval for other seeds and other query classes, and the p of no difference."""

    value: float
    low: float
    high: float
    p: float


def two_way_t(
    sums_SC: FloatArray, counts_C: FloatArray, stratum_C: npt.NDArray[np.intp], *, level: float = 0.95
) -> TwoWay:
    """Bound a mean over seeds and queries, for other seeds and other query classes at once, by a t interval.

    Seeds and query classes are crossed: every seed answers the same queries. value ∓ t_df sqrt(V),
    V = V_seed + sum_d V_d over K strata (datasets) that count equally:
    value = mean over d of m_d, the mean over the N_d queries of d;  V_seed = s² of the seeds' values / S;
    V_d = C_d/(C_d-1) sum_c ((D_c - n_c m_d) / (K N_d))² with D_c the sum over the n_c queries of class c,
    averaged over seeds;  df = V² / (V_seed²/(S-1) + sum_d V_d²/(C_d-1));
    p = 2 P(t_df > |value| / sqrt(V)), two-sided. How far the strata lie apart is no variance: they are the
    ones asked about. What a class does in one seed only is counted in both: the interval is a little wide
    rather than narrow.

    [0] Cameron, Gelbach and Miller, Journal of Business and Economic Statistics 29(2), 2011 (two-way
    clusters, without their subtraction); Satterthwaite, Biometrics Bulletin 2, 1946 (df)

    Args:
        sums_SC: paired differences added up over the queries of class C in seed S.
        counts_C: queries of each class.
        stratum_C: the stratum of each class, from 0 on.

    Returns:
        NaN bounds and p with fewer than two seeds, or fewer than two classes in a stratum. Where all values
        are equal within strata the interval shrinks to the value and p is NaN (nothing to divide by).

    Raises:
        InputError: a level outside (0, 1).
    """
    if not 0 < level < 1:
        raise InputError(f"level={level}: an interval's level lies between 0 and 1")
    if not len(counts_C):
        return TwoWay(*(float("nan"),) * 4)
    n_seeds = len(sums_SC)
    n_classes_D, n_queries_D = np.bincount(stratum_C), np.bincount(stratum_C, weights=counts_C)
    share_C = 1 / (len(n_queries_D) * n_queries_D[stratum_C])  # what a query counts
    means_S = sums_SC @ share_C
    value = float(means_S.mean())
    if n_seeds < 2 or n_classes_D.min() < 2:
        return TwoWay(value, float("nan"), float("nan"), float("nan"))
    of_seeds = spread(means_S) ** 2 / n_seeds
    sums_C = sums_SC.mean(axis=0)
    means_D = np.bincount(stratum_C, weights=sums_C) / n_queries_D
    rest_C = (sums_C - counts_C * means_D[stratum_C]) * share_C
    if np.abs(rest_C).max() <= 1e-12 * np.abs(sums_C * share_C).max():
        rest_C = np.zeros_like(rest_C)  # rounding alone tells the classes apart
    of_classes_D = np.bincount(stratum_C, weights=rest_C**2) * n_classes_D / (n_classes_D - 1)
    variances, freedom = np.append(of_classes_D, of_seeds), np.append(n_classes_D - 1, n_seeds - 1)
    return TwoWay(value, *satterthwaite(value, variances, freedom, level=level))


def satterthwaite(
    value: float, variances: FloatArray, freedom: npt.NDArray[np.int64], *, level: float
) -> tuple[float, float, float]:
    """Give bounds and two-sided p of a value whose variance is a sum of estimated ones.

    value ∓ t_df sqrt(V);  V = sum_k V_k;  df = V² / sum_k (V_k² / df_k). [0] Satterthwaite, Biometrics
    Bulletin 2, 1946. All are NaN where a variance is NaN or has no degree of freedom, p where V is 0.
    """
    nan = float("nan")
    total = float(variances.sum())
    if np.isnan(total) or (freedom < 1).any():
        return nan, nan, nan
    if total == 0:
        return value, value, nan
    df = total**2 / float((variances**2 / freedom).sum())
    half = float(scipy.stats.t.ppf((1 + level) / 2, df)) * total**0.5
    return value - half, value + half, float(2 * scipy.stats.t.sf(abs(value) / total**0.5, df))
