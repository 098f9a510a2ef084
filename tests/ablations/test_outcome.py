"""What a search found, of points with invented values."""

from __future__ import annotations

import tomllib

import optuna
import pytest

from ablations.outcome import lines, outcome
from ablations.search import MODES, Search

SEARCH = MODES["pareto"]


def invented(values: list[tuple[float, float, float]], search: Search = SEARCH) -> optuna.Study:
    """Make a study of points (inter_modal, misalignment, zero-shot lost too much)."""
    study = optuna.create_study(directions=search.directions)
    study.set_user_attr("baseline", {"inter_modal": 0.2, "misalignment": 0.05})
    for number, (quality, misalignment, over) in enumerate(values):
        trial = study.ask()
        trial.suggest_float("learning_rate", 0, 1)
        trial.suggest_float("weight_decay", 0, 1)
        trial.set_user_attr("arm", f"p{number:04d}")
        trial.set_constraint("zero_shot", over)
        study.tell(trial, [quality, misalignment][: len(search.objectives)])
    return study


def test_the_best_compromises_are_those_that_no_feasible_point_beats() -> None:
    study = invented([(0.3, 0.05, 0), (0.2, 0.01, -1), (0.2, 0.02, 0), (0.9, 0.0, 0.1), (0.3, 0.05, 0)])
    found = outcome(study, SEARCH)
    assert [best["arm"] for best in found["best"]] == ["p0000", "p0004", "p0001"]
    assert (found["complete"], found["feasible"]) == (5, 4)
    assert found["best"][2]["values"] == {"inter_modal": 0.2, "misalignment": 0.01}
    assert found["importances"] is None
    said = lines(found)
    assert said[0] == (
        "5 complete points; 4 of them lose at most zero_shot 0.01 of the baseline; values on val:"
    )
    assert said[1] == "  baseline: inter_modal 0.2000, misalignment 0.0500"
    assert said[2].startswith("  p0000 (learning rate ")
    arm = tomllib.loads("\n".join(line.strip() for line in said[-4:-1]))["arms"][0]
    assert arm["name"] == "p0000"
    assert arm["train"] == found["best"][0]["params"]
    assert "not said of fewer than 10" in said[-1]


@pytest.mark.parametrize("evaluator", ["PedAnovaImportanceEvaluator", "FanovaImportanceEvaluator"])
@pytest.mark.parametrize("objective", ["intra_modal", "gap"])
def test_the_axis_that_decides_a_value_matters_whichever_way_is_good(objective: str, evaluator: str) -> None:
    search = Search(objectives=(objective,), evaluator=evaluator)
    study = optuna.create_study(directions=search.directions, sampler=optuna.samplers.RandomSampler(seed=0))
    for number in range(60):
        trial = study.ask()
        decides = trial.suggest_float("learning_rate", 0, 1)
        trial.suggest_float("weight_decay", 0, 1)
        trial.set_user_attr("arm", f"p{number:04d}")
        study.tell(trial, decides**2)
    shares = outcome(study, search)["importances"][objective]
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["learning_rate"] > 0.8
    (best,) = outcome(study, search)["best"]
    rates = [trial.params["learning_rate"] for trial in study.trials]
    assert best["params"]["learning_rate"] == (max(rates) if objective == "intra_modal" else min(rates))
