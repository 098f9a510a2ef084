"""A factorial design: what each factor changes, and which pairs change more or less together than apart."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import combinations, product

import numpy as np
import pandas as pd
import scipy.stats
from statsmodels.regression.linear_model import OLS

from crossgap.errors import InputError


def factorial_effects(
    frame: pd.DataFrame,
    factors: Sequence[str],
    *,
    value: str = "value",
    block: str = "seed",
    level: float = 0.95,
) -> pd.DataFrame:
    """Estimate main effects and two-way interactions of a full factorial, every cell run with every seed.

    value = seed + sum_a b_a x_a + sum_{a<b} b_ab x_a x_b + error, x_a from -1 (lowest level) to +1 (highest)
    in equal steps by place. estimate = 2 b: for a main effect the change from the lowest to the highest
    level, averaged over the other factors; for an interaction half the difference between the effect of A at
    the highest B and at the lowest B. Higher interactions and bends between more than two levels count as
    error.

    Seeds enter as blocks. In a balanced design every contrast between cells is orthogonal to the seeds, so a
    random seed intercept cancels out of it: the mixed model fitted by REML has these estimates, and these
    standard errors wherever it finds a seed variance above 0.

    [0] Box, Hunter and Hunter, Statistics for Experimenters, 2005, chapter 5

    Args:
        frame: columns ``factors``, ``block``, ``value``; one row a cell and seed (or equally many).
        factors: numbers and booleans stand in ascending order, ordered categories in theirs, anything else in
            order of first appearance.

    Returns:
        columns term ("a", "a:b"), order (1, 2), estimate, low, high, p, df (residual degrees of freedom);
        main effects first. No residual degree of freedom: low, high, p NaN.

    Raises:
        InputError: a column that is not there, a factor of one level, a NaN value, or an unbalanced design;
            the message names the cells that are missing.
    """
    levels = _levels(frame, factors, value, block)
    _check_balance(frame, levels, block)
    coded = {
        name: np.linspace(-1, 1, len(order))[pd.Categorical(frame[name], order).codes]
        for name, order in levels.items()
    }
    terms = [(name,) for name in factors] + list(combinations(factors, 2))
    columns = np.stack([np.prod([coded[name] for name in term], axis=0) for term in terms], axis=1)
    blocks = pd.get_dummies(frame[block]).to_numpy(np.float64)
    # The terms cannot depend on one another or on the blocks: a full product is orthogonal.
    fit = OLS(frame[value].to_numpy(np.float64), np.concatenate([columns, blocks], axis=1)).fit()
    estimates = 2 * fit.params[: len(terms)]
    df = len(frame) - columns.shape[1] - blocks.shape[1]
    low = high = p = np.full(len(terms), np.nan)
    if df > 0:
        errors = 2 * fit.bse[: len(terms)]
        half = scipy.stats.t.ppf((1 + level) / 2, df) * errors
        low, high = estimates - half, estimates + half
        with np.errstate(divide="ignore", invalid="ignore"):  # without any error p is 0, or NaN at 0/0
            p = 2 * scipy.stats.t.sf(np.abs(estimates / errors), df)
    return pd.DataFrame(
        {
            "term": [":".join(term) for term in terms],
            "order": [len(term) for term in terms],
            "estimate": estimates,
            "low": low,
            "high": high,
            "p": p,
            "df": df,
        }
    )


def _levels(frame: pd.DataFrame, factors: Sequence[str], value: str, block: str) -> dict[str, list[Hashable]]:
    if not factors or len(set(factors)) < len(factors):
        raise InputError(f"factors={list(factors)}: name at least one factor, and each once")
    absent = [name for name in (*factors, value, block) if name not in frame.columns]
    if absent:
        raise InputError(f"no column {absent} among {list(frame.columns)}: name columns of the frame")
    if frame[[*factors, block, value]].isna().any(axis=None):
        raise InputError(f"a NaN among {[*factors, block, value]}: leave out seeds that are not complete")
    levels = {}
    for name in factors:
        column = frame[name]
        if isinstance(column.dtype, pd.CategoricalDtype):
            present = set(column)
            order = [level for level in column.cat.categories if level in present]
        else:
            order = column.unique().tolist()
            if pd.api.types.is_numeric_dtype(column):  # booleans among them
                order = sorted(order)
        if len(order) < 2:
            raise InputError(f"factor {name!r} has one level, {order}: an effect needs two")
        levels[name] = order
    return levels


def _check_balance(frame: pd.DataFrame, levels: dict[str, list[Hashable]], block: str) -> None:
    cells: list[tuple[Hashable, ...]] = list(product(*levels.values(), frame[block].unique().tolist()))
    seen = frame.groupby([*levels, block], observed=True, sort=False).size()
    counts: dict[Hashable, int] = {key: int(count) for key, count in seen.items()}
    missing = [dict(zip([*levels, block], cell, strict=True)) for cell in cells if cell not in counts]
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise InputError(
            f"{len(missing)} of {len(cells)} cells missing: {missing[:5]}{more}; effects are estimated where "
            "every combination of levels was run with every seed: run them, or leave out a level or a seed"
        )
    if len(set(counts.values())) > 1:
        often = max(cells, key=lambda cell: counts[cell])
        raise InputError(
            f"cell {dict(zip([*levels, block], often, strict=True))} stands {counts[often]} times, others "
            f"{min(counts.values())}; give every cell equally many rows"
        )
