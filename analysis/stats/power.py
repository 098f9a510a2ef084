"""How many seeds a difference would need, from the spread that the seeds at hand show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import scipy.stats
from statsmodels.stats.power import TTestPower

from analysis.stats.seeds import checked, spread
from crossgap.errors import InputError
from crossgap.metrics.intervals import FloatArray

FEW = 40
EFFECT = 0.01  # one point: the effect whose price in seeds is told
EFFECTS = (0.005, EFFECT, 0.02)  # those of the table of prices


class Spread(NamedTuple):
    """The standard deviation over seeds and its interval."""

    sd: float
    low: float
    high: float


def seeds_needed(
    sd: float, effect: float, *, alpha: float = 0.05, power: float = 0.8, most: int = 1000
) -> int | None:
    """Find the least number of seeds at which a paired t test finds an effect with the given power.

    least n >= 2 with P(t_{n-1}(effect sqrt(n) / sd) > t_{n-1, 1 - alpha/2}) >= power, t noncentral: the
    two-sided test, counting only rejections towards the side of the effect.

    [0] Cohen, Statistical Power Analysis for the Behavioral Sciences, 1988, chapter 2

    Args:
        sd: standard deviation of the paired difference between seeds.
        effect: the difference to be found, in the unit of ``sd``; its sign does not matter.
        most: the largest number of seeds that is tried.

    Returns:
        the number, or None where ``most`` seeds are not enough.

    Raises:
        InputError: a number outside its range.
    """
    if not 0 <= sd < math.inf:
        raise InputError(f"sd={sd}: a standard deviation is a number from 0 upwards; two seeds give one")
    if not 0 < abs(effect) < math.inf:
        raise InputError(f"effect={effect}: name a difference other than 0, in the unit of sd")
    if not (0 < alpha < 1 and 0 < power < 1):
        raise InputError(f"alpha={alpha}, power={power}: both lie between 0 and 1")
    if most < 2:
        raise InputError(f"most={most}: a paired t test needs at least two seeds")
    ratio = abs(effect) / sd if sd > 0 else math.inf
    if ratio > 1e4:  # beyond the range of the noncentral t: two seeds are enough at any usual alpha
        return 2
    for first, last in (
        (2, min(most, FEW)),
        (FEW + 1, most),
    ):  # mostly few seeds are enough: look there first
        n_seeds = np.arange(first, last + 1)
        reached = TTestPower().power(ratio, n_seeds, alpha / 2, alternative="larger") >= power
        if reached.any():
            return int(n_seeds[np.argmax(reached)])
    return None


def sd_interval(differences: Sequence[float] | FloatArray, *, level: float = 0.95) -> Spread:
    """Bound the standard deviation over seeds by the chi-square distribution.

    low, high = sd sqrt((n - 1) / chi²_{n-1, (1 ± level)/2}): for normal differences. Five seeds leave the
    spread open by a factor of five, and the number of seeds needed by its square.

    Args:
        differences: shape (n,), one a seed.

    Returns:
        NaN for fewer than two seeds; all 0 where the differences are all equal.

    Raises:
        InputError: no difference or one that is not finite; a level outside (0, 1).
    """
    d = checked(differences)
    if not 0 < level < 1:
        raise InputError(f"level={level}: an interval's level lies between 0 and 1")
    sd = spread(d)
    if len(d) < 2:
        return Spread(sd, float("nan"), float("nan"))
    df = len(d) - 1
    upper, lower = scipy.stats.chi2.ppf([(1 + level) / 2, (1 - level) / 2], df)
    return Spread(sd, sd * math.sqrt(df / upper), sd * math.sqrt(df / lower))


def price_in_seeds(contrasts: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Tell how many seeds differences of some sizes would need, by the spread that these seeds show.

    Each group of ``by`` is told by the arm whose differences have the median spread.

    Args:
        contrasts: columns ``by``, arm, sd, n_seeds, per_seed: differences that are fractions.

    Returns:
        one row a group and effect: columns ``by``, arm, sd, sd_low, sd_high (95 % interval; fractions),
        n_seeds, effect (a fraction), seeds, seeds_low, seeds_high: for a two-sided t test at .05 with power
        .8 at sd, sd_low and sd_high; missing: more than 1,000.
    """
    rows = []
    for key, group in contrasts[contrasts["n_seeds"] > 1].groupby(list(by), sort=False):
        middle = group.sort_values("sd", kind="stable").iloc[(len(group) - 1) // 2]
        spread_of = sd_interval([value for _, value in middle["per_seed"]])
        for effect in EFFECTS:
            needed = [seeds_needed(sd, effect) for sd in spread_of]
            rows.append((*key, middle["arm"], *spread_of, middle["n_seeds"], effect, *needed))
    counts = ["seeds", "seeds_low", "seeds_high"]
    columns = [*by, "arm", "sd", "sd_low", "sd_high", "n_seeds", "effect", *counts]
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(counts, "Int64"))
