"""Intervals of statistics that are no mean over items: leave some items out, see how the value moves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from heapq import heappop, heappush
from typing import NamedTuple

import torch
from scipy.special import stdtrit
from torch import Tensor

from crossgap.errors import InputError

_MAX_GROUPS = 100
_NORMAL_95 = 1.959964


class Interval(NamedTuple):
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


def jackknife(statistic: Callable[[Tensor, Tensor], Tensor], image_ND: Tensor, text_ND: Tensor) -> Interval:
    """Estimate a statistic of pairs and its 95 % interval by leaving out groups of pairs.

    With g groups, SE^2 = (g - 1)/g sum_j (theta_(j) - mean theta_(.))^2 and the interval is theta +- 1.96 SE.
    [0] Quenouille 1956; Tukey 1958; Efron and Stein, Annals of Statistics 9(3), 1981. A bootstrap would
    repeat pairs, which biases statistics over pairs of different items such as RMG. Pairs count as
    independent: where images share a caption, use :func:`cluster_jackknife`.

    Shape: (N, D), (N, D) -> three numbers in the statistic's unit. Groups are strided, at most 100.
    """
    count = len(image_ND)
    groups = min(count, _MAX_GROUPS)
    value = float(statistic(image_ND, text_ND))
    if groups < 2:
        return Interval(value, value, value)
    left_out = _leave_out(statistic, (image_ND, text_ND), torch.arange(count) % groups, groups)
    return _interval(value, left_out, _NORMAL_95)


def cluster_jackknife(
    statistic: Callable[..., Tensor], *columns: Tensor, clusters: Sequence[Hashable]
) -> Interval:
    """Estimate a statistic and its 95 % interval by leaving out whole clusters of items.

    Items of one cluster (images with one caption, queries of one class) resemble each other; leaving out
    items one by one takes them for independent and gives intervals that are too narrow. With g clusters,
    ``SE^2 = (g - 1)/g sum_j (theta_(j) - mean theta_(.))^2``, theta_(j) computed without cluster j, and the
    interval is ``theta +- t SE`` with t the 97.5 % point of Student's distribution with g - 1 degrees of
    freedom, as clusters are often few. Above 100 clusters, groups of whole clusters are left out, of sizes as
    equal as can be. Statistics over pairs of different items also compare items of one cluster; that is part
    of the statistic, not of its error. [0] Wolter, 2007, "Introduction to variance estimation", chapter 4;
    Cameron and Miller, 2015, Journal of Human Resources 50.

    Shape: columns of N rows each, passed to the statistic together, and N cluster ids -> three numbers in the
    statistic's unit.

    Raises:
        InputError: no column, lengths that differ, or fewer than two clusters.
    """
    count = len(columns[0]) if columns else 0
    if not columns or any(len(column) != count for column in columns) or len(clusters) != count:
        lengths = [len(column) for column in columns]
        raise InputError(f"each item needs one row a column and one cluster: {lengths=}, {len(clusters)=}")
    sizes = Counter(clusters)
    if len(sizes) < 2:
        raise InputError(
            f"an interval over clusters needs two of them, got {len(sizes)} of {count} items; "
            "name what makes items alike, such as the caption they share"
        )
    groups = min(len(sizes), _MAX_GROUPS)
    filled = [(0, group) for group in range(groups)]
    group_of: dict[Hashable, int] = {}
    for cluster, size in sizes.most_common():  # the largest first, each into the emptiest group
        held, group = heappop(filled)
        group_of[cluster] = group
        heappush(filled, (held + size, group))
    group_N = torch.tensor([group_of[cluster] for cluster in clusters], device=columns[0].device)
    left_out = _leave_out(statistic, columns, group_N, groups)
    quantile = float(stdtrit(groups - 1, 0.975))
    return _interval(float(statistic(*columns)), left_out, quantile)


def _leave_out(
    statistic: Callable[..., Tensor], columns: Sequence[Tensor], group_N: Tensor, groups: int
) -> Tensor:
    kept = (group_N != group for group in range(groups))
    values = [float(statistic(*(column[kept_N] for column in columns))) for kept_N in kept]
    return torch.tensor(values, dtype=torch.float64)


def _interval(value: float, left_out: Tensor, quantile: float) -> Interval:
    groups = len(left_out)
    error = float(((groups - 1) / groups * (left_out - left_out.mean()).square().sum()).sqrt())
    return Interval(value, value - quantile * error, value + quantile * error)
