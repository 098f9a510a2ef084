"""Interval of a statistic of aligned pairs, for statistics that are no mean over items."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

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
    repeat pairs, which biases statistics over pairs of different items such as RMG.

    Shape: (N, D), (N, D) -> three numbers in the statistic's unit. Groups are strided, at most 100.
    """
    count = len(image_ND)
    groups = min(count, _MAX_GROUPS)
    value = float(statistic(image_ND, text_ND))
    if groups < 2:
        return Interval(value, value, value)
    membership_N = torch.arange(count) % groups
    left_out = torch.tensor(
        [
            float(statistic(image_ND[kept], text_ND[kept]))
            for kept in (membership_N != group for group in range(groups))
        ],
        dtype=torch.float64,
    )
    error = float(((groups - 1) / groups * (left_out - left_out.mean()).square().sum()).sqrt())
    return Interval(value, value - _NORMAL_95 * error, value + _NORMAL_95 * error)
