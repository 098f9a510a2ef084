"""Modes and searches: every name of Optuna builds, and a search that belies its mode is refused."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from typing import Any, get_args

import optuna
import pytest
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.pruners import MedianPruner, NopPruner
from optuna.samplers import QMCSampler, RandomSampler, TPESampler

from ablations.search import MODES, Mode, Search, check_search
from ablations.study.named import factorial
from crossgap.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")

KINDS: dict[Mode, tuple[type, type, type]] = {
    "grid": (RandomSampler, NopPruner, PedAnovaImportanceEvaluator),
    "qmc": (QMCSampler, NopPruner, PedAnovaImportanceEvaluator),
    "tune": (TPESampler, MedianPruner, PedAnovaImportanceEvaluator),
    "pareto": (TPESampler, NopPruner, PedAnovaImportanceEvaluator),
}


@pytest.mark.parametrize("mode", get_args(Mode))
def test_every_mode_builds_what_it_names(mode: Mode) -> None:
    search = MODES[mode]
    made = (search.make_sampler(), search.make_pruner(), search.make_evaluator())
    assert tuple(type(part) for part in made) == KINDS[mode]
    check_search(mode, search)


@pytest.mark.parametrize("mode", get_args(Mode))
def test_every_mode_draws_points_of_a_study_with_axes(mode: Mode) -> None:
    study = factorial().in_mode(mode)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    search = study.search
    drawn = optuna.create_study(sampler=search.make_sampler(), directions=search.directions)
    names = [axis.name for axis in study.axes]
    for number in range(3):
        trial = drawn.ask()
        settings = {axis.name: axis.suggest(trial) for axis in study.axes}
        arm = study.point(number, settings)
        assert list(settings) == names
        assert arm.name == f"p{number:04d}"
        assert arm.train.objective.temperature.initial == settings["objective.temperature.initial"]
        drawn.tell(trial, [float(number)] * len(search.objectives))


def test_what_chooses_sees_the_validation_split_alone() -> None:
    assert {mode: MODES[mode].split for mode in get_args(Mode)} == {
        "grid": "test",
        "qmc": "test",
        "tune": "val",
        "pareto": "val",
    }
    for mode in ("tune", "pareto"):
        with pytest.raises(InputError, match="split must be 'val'"):
            replace(factorial(), searches={mode: replace(MODES[mode], split="test")})


def test_the_same_seed_draws_the_same_points() -> None:
    def points(seed: int) -> list[float]:
        search = replace(MODES["tune"], seed=seed)
        study = optuna.create_study(sampler=search.make_sampler(), direction="maximize")
        return [study.ask().suggest_float("x", 0, 1) for _ in range(4)]

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    assert points(0) == points(0) != points(1)


def test_a_sampler_without_a_seed_is_given_none() -> None:
    assert type(Search(sampler="BruteForceSampler").make_sampler()).__name__ == "BruteForceSampler"
    assert type(Search(sampler="RandomSampler", seed=3).make_sampler()) is RandomSampler


def test_options_reach_the_class() -> None:
    search = Search(
        sampler="TPESampler",
        sampler_options={"n_startup_trials": 3},
        pruner="PercentilePruner",
        pruner_options={"percentile": 25.0, "n_startup_trials": 7},
        objectives=("gap",),
    )
    assert vars(search.make_sampler())["_n_startup_trials"] == 3
    assert vars(search.make_pruner())["_n_startup_trials"] == 7


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"sampler": "TPE"}, "unknown sampler of Optuna 'TPE'. Did you mean 'TPESampler'"),
        ({"sampler": "BaseSampler"}, "unknown sampler of Optuna 'BaseSampler'"),
        ({"sampler": "create_study"}, "unknown sampler"),
        (
            {"pruner": "MedianPruning", "objectives": ("gap",)},
            "unknown pruner of Optuna 'MedianPruning'. Did you mean 'MedianPruner'",
        ),
        ({"evaluator": "Fanova"}, "unknown evaluator of Optuna 'Fanova'"),
        ({"sampler_options": {"sed": 1}}, "unknown option of RandomSampler 'sed'. Did you mean 'seed'"),
        ({"pruner": "PercentilePruner", "objectives": ("gap",)}, "percentile"),
        (
            {
                "pruner": "PercentilePruner",
                "pruner_options": {"percentile": 200.0},
                "objectives": ("gap",),
            },
            "200",
        ),
        ({"sampler": "GridSampler"}, "search_space"),
        ({"pruner": "MedianPruner"}, "2 objectives"),
        ({"objectives": ("gap", "gap")}, "distinct"),
        ({"objectives": ()}, "not empty"),
        ({"objectives": ("gaps",)}, "unknown objective 'gaps'. Did you mean 'gap'"),
        ({"at_most": {"zeroshot": 0.01}}, "unknown objective 'zeroshot'. Did you mean 'zero_shot'"),
        ({"at_most": {"zero_shot": float("nan")}}, "must be finite"),
        ({"trials": 0}, "trials=0"),
    ],
)
def test_what_optuna_has_not_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Search(**fields)


def test_a_sampler_that_needs_a_package_says_so_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(InputError, match="pip install cmaes"):
        Search(sampler="CmaEsSampler")


@pytest.mark.parametrize(
    ("mode", "search", "said"),
    [
        ("grid", Search(pruner="MedianPruner", objectives=("gap",)), "would leave out bad points"),
        ("qmc", Search(sampler="TPESampler"), "does not spread points evenly"),
        ("qmc", Search(pruner="MedianPruner", objectives=("gap",)), "would leave out bad points"),
        ("tune", Search(split="val"), "one objective"),
        ("pareto", Search(objectives=("gap",), split="val"), "two objectives or more"),
    ],
)
def test_a_search_that_belies_its_mode_is_refused(mode: Mode, search: Search, said: str) -> None:
    with pytest.raises(InputError, match=said):
        check_search(mode, search)


# what cannot be built from plain values: a grid is designed arms here, a wrapper holds another sampler
NOT_FROM_NAMES = {"GridSampler", "PartialFixedSampler"}


@pytest.mark.parametrize("name", sorted(n for n in optuna.samplers.__all__ if n.endswith("Sampler")))
def test_every_sampler_of_optuna_builds_or_says_what_it_wants(name: str) -> None:
    if name.startswith("Base"):
        said = "unknown sampler"
    elif name in NOT_FROM_NAMES:
        said = "required positional argument"
    elif name == "CmaEsSampler" and find_spec("cmaes") is None:
        said = "pip install cmaes"
    else:
        assert type(Search(sampler=name, objectives=("gap",)).make_sampler()).__name__ == name
        return
    with pytest.raises(InputError, match=said):
        Search(sampler=name, objectives=("gap",))
