"""What was measured completely: every seed kept on every dataset kept, or in every arm kept."""

from __future__ import annotations

from collections.abc import Hashable

import pandas as pd


def complete_crossing(frame: pd.DataFrame, one: str, other: str, *, least: int = 1) -> pd.DataFrame:
    """Keep the rows of the largest complete crossing of two columns.

    Every value of ``one`` that is kept has every value of ``other`` that is kept, and of all such choices
    this one has the most pairs: a hole in the crossing would weigh what it lacks by what it has. Of equally
    many pairs, those with more values of ``other``; then those whose names come last.

    Args:
        frame: columns ``one`` and ``other``; a pair may stand in many rows.
        least: how many values of ``other`` must be kept.

    Returns:
        the rows that are kept, in their order; none where no value of ``one`` has ``least`` of ``other``.
    """
    pairs = frame[[one, other]].drop_duplicates()
    of_one = {value: frozenset(group) for value, group in pairs.groupby(one, observed=True)[other]}
    candidates: set[frozenset[Hashable]] = set()
    for partners in of_one.values():  # what a largest crossing keeps of `other` is what some of `one` share
        candidates |= {partners & others for others in candidates} | {partners}
    best: tuple[int, int, list[Hashable]] = (0, 0, [])
    for shared in candidates:
        if len(shared) >= max(least, 1):
            n_one = sum(shared <= partners for partners in of_one.values())
            best = max(best, (len(shared) * n_one, len(shared), sorted(shared, key=str)))
    kept = set(best[2])
    having = [value for value, partners in of_one.items() if kept <= partners]
    return frame[frame[one].isin(having) & frame[other].isin(kept)]
