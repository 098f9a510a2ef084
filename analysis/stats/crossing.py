"""Which seeds and datasets were measured completely: every seed kept on every dataset kept."""

from __future__ import annotations

import pandas as pd


def complete_crossing(cells: pd.DataFrame, *, least_datasets: int = 1) -> pd.DataFrame:
    """Keep the most cells such that every seed kept has every dataset kept.

    Of equally many, those with more datasets.

    Args:
        cells: columns seed, dataset, each pair once.

    Returns:
        the rows that are kept; none where no seed has ``least_datasets``.
    """
    of_seed = {seed: frozenset(group) for seed, group in cells.groupby("seed")["dataset"]}
    candidates: set[frozenset[str]] = set()
    for mine in of_seed.values():  # the datasets of a largest crossing are what some seeds have in common
        candidates |= {mine & other for other in candidates} | {mine}
    best: tuple[int, int, list[str]] = (0, 0, [])
    for datasets in candidates:
        if len(datasets) >= least_datasets:
            n_seeds = sum(datasets <= mine for mine in of_seed.values())
            best = max(best, (len(datasets) * n_seeds, len(datasets), sorted(datasets)))
    seeds = [seed for seed, mine in of_seed.items() if set(best[2]) <= mine]
    return cells[cells["seed"].isin(seeds) & cells["dataset"].isin(best[2])]
