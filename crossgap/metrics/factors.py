"""Which factors of a made world an embedding holds, and which of them its similarity follows.

For datasets that know of each image what it varies in (:class:`crossgap.datasets.Factor`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from crossgap.datasets.tasks import Factor
from crossgap.errors import InputError
from crossgap.metrics.jackknife import cluster_jackknife
from crossgap.metrics.similarity import check_sides, unit_sides

NEIGHBOURS = 10
TEMPERATURE = 0.07  # of the neighbours' votes, as published
PENALTIES = tuple(10.0**power for power in range(-3, 4))  # of the linear probe
_QUERIES = 128  # compared with the whole gallery at once


class FactorMetric(NamedTuple):
    """One measured number with its 95 % interval (both bounds None without one), over ``n_queries``."""

    name: str
    unit: str
    value: float
    low: float | None
    high: float | None
    n_queries: int


class Moments(NamedTuple):
    """Sums over the gallery of each query, both sides centred within the query, from which slopes follow.

    Shape: (Q, F, F) of shared factors, (Q, F) of shared factors and cosine, (Q,) of the cosine, (Q,) items.
    """

    shared_QFF: Tensor
    mixed_QF: Tensor
    cosine_Q: Tensor
    count_Q: Tensor


def factor_metrics(
    query_ND: Tensor,
    gallery_ND: Tensor,
    factors: Mapping[str, Factor],
    *,
    clusters: Sequence[str],
    fitted_MD: Tensor | None = None,
) -> Iterator[FactorMetric]:
    """Measure what queries hold of each factor and which factors their similarity to a gallery follows.

    Row k of the queries is image k, as it is or inverted, and queries all images but itself. For each factor
    that varies: ``holds_F_knn`` (:func:`held_by_neighbours`), ``holds_F_chance`` (:func:`commonest_share`),
    with ``fitted_MD`` ``holds_F_probe`` (:func:`held_linearly`) and ``similarity_by_F``
    (:func:`similarity_slopes`); over all of them ``similarity_explained`` and, over the named ones,
    ``factor_agreement`` (:func:`factor_agreement`). Intervals are a jackknife over ``clusters`` of queries.
    What :func:`unmeasured` lists is left out.

    Shape: (N, D), (N, D), N values a factor, N clusters, (M, D) -> metrics, each with its unit.

    Raises:
        InputError: rows that do not pair, lengths that differ, or fewer than three images.
    """
    check_sides(query_ND, gallery_ND, paired=True)
    if len(query_ND) < 3:
        raise InputError(f"factors are measured among three images or more, not {len(query_ND)}")
    left_out = unmeasured(factors, probed=fitted_MD is not None)
    varying = {name: factor for name, factor in factors.items() if name not in left_out}
    for name, factor in varying.items():
        held_N = held_by_neighbours(query_ND, gallery_ND, factor.values, k=min(NEIGHBOURS, len(query_ND) - 1))
        yield _mean(f"holds_{name}_knn", "fraction", held_N, clusters)
        yield FactorMetric(
            f"holds_{name}_chance", "fraction", commonest_share(factor.values), None, None, len(query_ND)
        )
        if fitted_MD is not None and f"holds_{name}_probe" not in left_out:
            held_N = held_linearly(fitted_MD, factor.fitted, query_ND, factor.values)
            yield _mean(f"holds_{name}_probe", "fraction", held_N, clusters)
    yield from _similarity(query_ND, gallery_ND, varying, clusters)
    named = [factor.values for factor in varying.values() if factor.named]
    agreement_N = factor_agreement(query_ND, gallery_ND, named) if named else torch.full((1,), math.nan)
    known_N = ~agreement_N.isnan()
    if bool(known_N.any()):
        kept = [cluster for cluster, is_known in zip(clusters, known_N.tolist(), strict=False) if is_known]
        yield _mean("factor_agreement", "rank correlation", agreement_N[known_N], kept)


def unmeasured(factors: Mapping[str, Factor], *, probed: bool) -> dict[str, str]:
    """Say of which factors nothing can be measured, or no linear probe where one is asked for, and why."""
    reasons = {}
    for name, factor in factors.items():
        kinds = set(factor.values)
        unseen = kinds - set(factor.fitted)
        if len(kinds) < 2:
            reasons[name] = f"all images have one value of it, {next(iter(kinds))!r}"
        elif len(kinds) == len(factor.values):
            reasons[name] = "no two images share a value of it"
        elif probed and unseen:
            reasons[f"holds_{name}_probe"] = (
                f"{len(unseen)} of {len(kinds)} values are not among the images that the probe is fitted on"
            )
    return reasons


def held_by_neighbours(
    query_ND: Tensor, gallery_ND: Tensor, values: Sequence[str], *, k: int = NEIGHBOURS
) -> Tensor:
    """Tell for each query whether its nearest other items vote for its own value of a factor.

    Item j votes with weight ``exp(cos(q_i, g_j) / .07)``; the k nearest j != i vote, and the value of the
    greatest sum wins, each of m equal ones by 1/m. The mean is the leave-one-out accuracy.
    [0] Wu, Xiong, Yu and Lin, 2018, arXiv 1805.01978, section 3.4 (there k = 200, as classes are large).

    Shape: (N, D), (N, D), N values -> (N,), float64. Unit: fraction. Range: [0, 1]; higher holds more, chance
    is about the share of the value.

    Raises:
        InputError: rows that do not pair, as many values, or k outside 1 ... N - 1.
    """
    code_N = _codes([values], query_ND, gallery_ND)[0]
    count = len(code_N)
    if not 1 <= k < count:
        raise InputError(f"{k=} neighbours among {count - 1} other items; k must lie between 1 and that")
    held = []
    for rows, cosine_BN in _blocks(query_ND, gallery_ND):
        cosine_BN[torch.arange(len(cosine_BN)), rows] = -math.inf
        near = cosine_BN.topk(k, dim=1)
        votes_BV = torch.zeros(len(cosine_BN), int(code_N.max()) + 1, dtype=torch.float64)
        votes_BV.scatter_add_(1, code_N[near.indices], (near.values / TEMPERATURE).exp())
        won_BV = votes_BV == votes_BV.amax(dim=1, keepdim=True)
        held.append(won_BV.gather(1, code_N[rows, None]).squeeze(1) / won_BV.sum(dim=1))
    return torch.cat(held).double()


def held_linearly(
    fitted_MD: Tensor, fitted_values: Sequence[str], query_ND: Tensor, values: Sequence[str]
) -> Tensor:
    """Tell for each query whether a linear classifier finds its value of a factor.

    Ridge regression on +-1 for each value, columns scaled by the fitted items, the greatest output wins; the
    penalty of 10^-3 ... 10^3 is the one of least error when fitted items are left out one by one, which one
    decomposition gives for all. [0] Hoerl and Kennard, 1970; Alain and
    Bengio, 2016, arXiv 1610.01644 (probes).

    Shape: (M, D), M values, (N, D), N values -> (N,), float64. Unit: fraction. Range: [0, 1]; higher holds
    more, chance is about the share of the value.

    Raises:
        InputError: widths or lengths that differ, a feature that is not finite, or one value alone among the
            fitted items.
    """
    from sklearn.linear_model import RidgeClassifierCV  # here: it takes a second to import

    check_sides(fitted_MD, query_ND)
    for what, side in (("fitted items", fitted_MD), ("queries", query_ND)):
        if not bool(side.isfinite().all()):
            raise InputError(f"features of the {what} are not all finite: a probe needs numbers")
    if (len(fitted_values), len(values)) != (len(fitted_MD), len(query_ND)):
        raise InputError(
            f"each item needs one value: {len(fitted_values)} for {len(fitted_MD)} fitted items, "
            f"{len(values)} for {len(query_ND)} queries"
        )
    if len(set(fitted_values)) < 2:
        raise InputError("a probe needs two values among the items that it is fitted on")
    wide_MD, wide_ND = fitted_MD.detach().cpu().double(), query_ND.detach().cpu().double()
    mean_D, scale_D = wide_MD.mean(0), wide_MD.std(0)
    scale_D = torch.where(scale_D > 0, scale_D, 1.0)
    probe = RidgeClassifierCV(alphas=PENALTIES)
    probe.fit(((wide_MD - mean_D) / scale_D).numpy(), np.array(fitted_values))
    answers_N = probe.predict(((wide_ND - mean_D) / scale_D).numpy())
    return torch.from_numpy(answers_N == np.array(values)).double()


def commonest_share(values: Sequence[str]) -> float:
    """Return the accuracy of always naming the commonest value: what a metric of a factor stands beside.

    Shape: N values -> a number. Unit: fraction. Range: [0, 1]; 1 = one value alone.
    """
    return max(Counter(values).values()) / len(values)


def similarity_slopes(moments: Moments) -> Tensor:
    """Regress cosines on which factors query and item share: how far each moves similarity, the others held.

    ``(cos(q_i, g_j) - mean_j) / s = sum_f b_f (1[f_i = f_j] - mean_j) + e``, j != i, least squares over all
    pairs, s the standard deviation of the left side. Centring within queries leaves out what moves all scores
    of a query alike, as no rank depends on it. Textbook. A factor without a slope of its own (it goes with
    others) shares theirs: the solution of least norm.

    Shape: moments of Q queries -> (F,), float64. Unit: standard deviations of cosine for sharing the factor.
    Range: (-inf, inf); higher follows the factor more, 0 = not at all.
    """
    spread = (moments.cosine_Q.sum() / moments.count_Q.sum()).sqrt()
    return _raw_slopes(moments) / spread


def similarity_explained(moments: Moments) -> Tensor:
    """Return the share of the cosines' variance within queries that sharing factors explains (R squared).

    Shape: moments of Q queries -> 0-d, float64. Unit: fraction. Range: [0, 1]; 1 = factors decide similarity.
    """
    return (_raw_slopes(moments) * moments.mixed_QF.sum(0)).sum() / moments.cosine_Q.sum()


def similarity_moments(query_ND: Tensor, gallery_ND: Tensor, values: Sequence[Sequence[str]]) -> Moments:
    """Add up for each query what :func:`similarity_slopes` needs of the other items.

    Shape: (N, D), (N, D), F lists of N values -> moments of N queries, float64. Unit: sums of squared
    cosines, and counts. Range: [0, inf); no direction.

    Raises:
        InputError: rows that do not pair, or as many values.
    """
    code_FN = _codes(values, query_ND, gallery_ND)
    parts = []
    for rows, cosine_BN in _blocks(query_ND, gallery_ND):
        shared_BNF = (code_FN[:, rows, None] == code_FN[:, None, :]).permute(1, 2, 0).double()
        others_BN = torch.ones_like(cosine_BN)
        others_BN[torch.arange(len(cosine_BN)), rows] = 0
        count_B = others_BN.sum(1)
        cosine_BN = (cosine_BN - ((cosine_BN * others_BN).sum(1) / count_B)[:, None]) * others_BN
        mean_BF = torch.einsum("bnf,bn->bf", shared_BNF, others_BN) / count_B[:, None]
        shared_BNF = (shared_BNF - mean_BF[:, None, :]) * others_BN[:, :, None]
        parts.append(
            Moments(
                shared_BNF.mT @ shared_BNF,
                (shared_BNF.mT @ cosine_BN[:, :, None]).squeeze(2),
                cosine_BN.square().sum(1),
                count_B,
            )
        )
    return Moments(*map(torch.cat, zip(*parts, strict=True)))


def factor_agreement(query_ND: Tensor, gallery_ND: Tensor, values: Sequence[Sequence[str]]) -> Tensor:
    """Correlate by rank, for each query, the cosine to other items with the number of factors they share.

    ``rho_i = Spearman_j (cos(q_i, g_j), sum_f 1[f_i = f_j])``, j != i, ties at their mean rank.
    [0] Spearman, 1904. NaN where either side does not vary.

    Shape: (N, D), (N, D), F lists of N values -> (N,), float64. Unit: rank correlation. Range: [-1, 1];
    higher orders items more as the factors do.

    Raises:
        InputError: rows that do not pair, or as many values.
    """
    code_FN = _codes(values, query_ND, gallery_ND)
    agreements = []
    for rows, cosine_BN in _blocks(query_ND, gallery_ND):
        shared_BN = (code_FN[:, rows, None] == code_FN[:, None, :]).sum(0)
        others_BN = torch.ones_like(cosine_BN, dtype=torch.bool)
        others_BN[torch.arange(len(cosine_BN)), rows] = False
        ranks = [
            torch.from_numpy(rankdata(side_BN[others_BN].view(len(cosine_BN), -1).numpy(), axis=1))
            for side_BN in (cosine_BN, shared_BN)
        ]
        first_BO, second_BO = (side_BO - side_BO.mean(1, keepdim=True) for side_BO in ranks)
        length_B = first_BO.square().sum(1).sqrt() * second_BO.square().sum(1).sqrt()
        agreements.append((first_BO * second_BO).sum(1) / length_B)  # 0/0 = NaN where one does not vary
    return torch.cat(agreements)


def _similarity(
    query_ND: Tensor, gallery_ND: Tensor, factors: Mapping[str, Factor], clusters: Sequence[str]
) -> Iterator[FactorMetric]:
    if not factors:
        return
    moments = similarity_moments(query_ND, gallery_ND, [factor.values for factor in factors.values()])
    if not float(moments.cosine_Q.sum()) > 0:  # all cosines of a query are equal: nothing to follow
        return
    for place, name in enumerate(factors):

        def slope(*parts: Tensor, place: int = place) -> Tensor:
            return similarity_slopes(Moments(*parts))[place]

        yield _jackknifed(f"similarity_by_{name}", "standard deviations", slope, moments, clusters)

    def explained(*parts: Tensor) -> Tensor:
        return similarity_explained(Moments(*parts))

    yield _jackknifed("similarity_explained", "fraction", explained, moments, clusters)


def _mean(name: str, unit: str, values_N: Tensor, clusters: Sequence[str]) -> FactorMetric:
    return _jackknifed(name, unit, torch.mean, (values_N,), clusters)


def _jackknifed(
    name: str,
    unit: str,
    statistic: Callable[..., Tensor],
    columns: Sequence[Tensor],
    clusters: Sequence[str],
) -> FactorMetric:
    """Compute a statistic of queries, with an interval where they fall into two clusters or more."""
    count = len(clusters)
    if len(set(clusters)) < 2:
        return FactorMetric(name, unit, float(statistic(*columns)), None, None, count)
    value, low, high = cluster_jackknife(statistic, *columns, clusters=clusters)
    bounded = math.isfinite(low) and math.isfinite(high)  # not where a part of the queries does not vary
    return FactorMetric(name, unit, value, low if bounded else None, high if bounded else None, count)


def _raw_slopes(moments: Moments) -> Tensor:
    """Solve the normal equations of all queries together."""
    shared_FF, mixed_F = moments.shared_QFF.sum(0), moments.mixed_QF.sum(0)
    return torch.linalg.pinv(shared_FF, hermitian=True) @ mixed_F


def _codes(values: Sequence[Sequence[str]], query_ND: Tensor, gallery_ND: Tensor) -> Tensor:
    """Number the values of each factor, (F, N).

    Raises:
        InputError: rows that do not pair, or not one value an item.
    """
    check_sides(query_ND, gallery_ND, paired=True)
    for of_factor in values:
        if len(of_factor) != len(query_ND):
            raise InputError(f"each item needs one value of a factor: {len(of_factor)} for {len(query_ND)}")
    return torch.from_numpy(np.stack([np.unique(list(of), return_inverse=True)[1] for of in values]))


def _blocks(query_ND: Tensor, gallery_ND: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Give some queries after the other: their places, and their cosine with every item, float64."""
    query_ND, gallery_ND = unit_sides(query_ND.detach().cpu().double(), gallery_ND.detach().cpu().double())
    for start in range(0, len(query_ND), _QUERIES):
        block_BD = query_ND[start : start + _QUERIES]
        yield torch.arange(start, start + len(block_BD)), block_BD @ gallery_ND.T
