"""How two quantities go together over models: gap and inversion gain, with quality held equal."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd


class Association(NamedTuple):
    """Rank correlation of two columns, as a description of the models at hand."""

    spearman: float
    n_models: int


def rank_association(frame: pd.DataFrame, x: str, y: str) -> Association:
    """Compute Spearman's rank correlation of two columns over the rows that have both.

    NaN with fewer than three rows or a constant column: two points always lie on a line.
    """
    both = frame[[x, y]].dropna()
    ranks = both.rank()
    if len(both) < 3 or (ranks.nunique() < 2).any():
        return Association(float("nan"), len(both))
    return Association(float(np.corrcoef(ranks[x], ranks[y])[0, 1]), len(both))
