"""What Optuna chooses in a study: pure functions from a trial to the cell that it trains and measures."""

from __future__ import annotations

import optuna

from ablations.study import Study

Cell = tuple[str, int]


def suggest_cell(trial: optuna.trial.BaseTrial, study: Study) -> Cell:
    """Map a trial to (arm, seed)."""
    arm = trial.suggest_categorical("arm", [arm.name for arm in study.arms])
    # a seed has no order: an integer range, so that the list of seeds may grow in a resumed study
    seed = trial.suggest_int("seed", 0, 2**31 - 1)
    return arm, seed


def cell_params(cell: Cell) -> dict[str, str | int]:
    """Give the parameters that make :func:`suggest_cell` return ``cell``."""
    arm, seed = cell
    return {"arm": arm, "seed": seed}
