"""What a search found: its best points, or best compromises, and which axes mattered."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from ablations.objectives import OBJECTIVES
from ablations.search import Search
from ablations.study.axes import describe
from crossgap.files import write_json

OUTCOME = "outcome.json"
_MEASURING = "evaluation."  # before settings that do not belong to the training
ENOUGH = 10  # complete points, below which nothing is said about axes


def outcome(study: optuna.Study, search: Search) -> dict[str, Any]:
    """Describe a search as JSON values.

    ``best`` holds the points that no other feasible one beats in every objective, the first objective's best
    first; ``importances`` the share of each axis in what makes a value good, by objective, as ``evaluator``
    sees it. All values are those of the split that the search measured: of a split that chose, so that the
    best is partly luck.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return {
        "split": search.split,
        "at_most": dict(search.at_most),
        "objectives": list(search.objectives),
        "baseline": study.user_attrs.get("baseline"),
        "complete": len(complete),
        "feasible": sum(_feasible(trial) for trial in complete),
        "best": [
            {
                "arm": trial.user_attrs["arm"],
                "params": trial.params,
                "values": dict(zip(search.objectives, trial.values, strict=True)),
            }
            for trial in _front(study, search)
        ],
        "evaluator": search.evaluator,
        "importances": _importances(study, search) if len(complete) >= ENOUGH else None,
    }


def write_outcome(folder: Path, study: optuna.Study, search: Search) -> None:
    """Write ``outcome.json``."""
    write_json(folder / OUTCOME, outcome(study, search))


def lines(found: dict[str, Any]) -> list[str]:
    """Say an outcome in a few lines."""
    limits = ", ".join(f"{name} {most:g}" for name, most in found["at_most"].items())
    kept = f"{found['feasible']} of them lose at most {limits} of the baseline; " if limits else ""
    said = [f"{found['complete']} complete points; {kept}values on {found['split']}:"]
    base = found["baseline"] or {}
    shown = {name: base.get(name) for name in found["objectives"]}
    named = [(f"{best['arm']} ({describe(best['params'])})", best["values"]) for best in found["best"]]
    for name, values in (("baseline", shown), *named):
        numbers = ", ".join(f"{what} {_number(value)}" for what, value in values.items())
        said.append(f"  {name}: {numbers}")
    if found["best"]:
        said += _as_arm(found["best"][0])
    if found["importances"] is None:
        said.append(f"which axes mattered is not said of fewer than {ENOUGH} complete points")
    else:
        for what, shares in found["importances"].items():
            listed = ", ".join(f"{axis} {share:.2f}" for axis, share in shares.items())
            said.append(f"what mattered for {what} ({found['evaluator']}): {listed}")
    return said


def _as_arm(best: dict[str, Any]) -> list[str]:
    """Say how to make a point an arm, which a grid with fresh seeds then measures on the test split."""
    of_training = {name: value for name, value in best["params"].items() if not name.startswith(_MEASURING)}
    settings = ", ".join(f"{json.dumps(name)} = {json.dumps(value)}" for name, value in of_training.items())
    measuring = [
        f"  {name} = {json.dumps(value)}   # of the whole study: put it above all [tables]"
        for name, value in best["params"].items()
        if name.startswith(_MEASURING)
    ]
    return [
        f"to measure {best['arm']} with fresh seeds on the test split, make it an arm of a study file:",
        "  [[arms]]",
        f"  name = {json.dumps(best['arm'])}",
        f"  train = {{{settings}}}",
        *measuring,
    ]


def _feasible(trial: FrozenTrial) -> bool:
    return all(value <= 0 for value in trial.constraints.values())


def _front(study: optuna.Study, search: Search) -> list[FrozenTrial]:
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    signs = [1 if OBJECTIVES[name].direction == "maximize" else -1 for name in search.objectives]
    gains = {
        trial.number: [sign * value for sign, value in zip(signs, trial.values, strict=True)]
        for trial in complete
        if _feasible(trial)
    }

    def beaten(number: int) -> bool:
        own = gains[number]
        return any(
            all(a >= b for a, b in zip(other, own, strict=True)) and other != own for other in gains.values()
        )

    kept = [trial for trial in complete if trial.number in gains and not beaten(trial.number)]
    return sorted(kept, key=lambda trial: (-gains[trial.number][0], trial.number))


def _importances(study: optuna.Study, search: Search) -> dict[str, dict[str, float]]:
    shares = {}
    for place, name in enumerate(search.objectives):
        sign = -1 if OBJECTIVES[name].direction == "maximize" else 1

        def cost(trial: FrozenTrial, place: int = place, sign: int = sign) -> float:
            return sign * trial.values[place]

        with warnings.catch_warnings():  # that a target is taken as a cost, which this one is
            warnings.simplefilter("ignore")
            shares[name] = optuna.importance.get_param_importances(
                study, evaluator=search.make_evaluator(), target=cost
            )
    return shares


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.4f}"
