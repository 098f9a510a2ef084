"""How the points of a study come about: its mode, and Optuna's sampler, pruner and evaluator by name."""

from __future__ import annotations

import importlib.util
import inspect
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from ablations.objectives import OBJECTIVES, Direction
from crossgap.errors import InputError, check_known

if TYPE_CHECKING:
    from optuna.importance import BaseImportanceEvaluator
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler

    MODES: dict[Mode, Search]

# Optuna imports these when the first point is drawn, after the baseline was trained.
_NEEDS = {"CmaEsSampler": "cmaes"}

Mode = Literal["grid", "qmc", "tune", "pareto"]
Split = Literal["test", "val", "sealed"]


@dataclass(frozen=True, kw_only=True)
class Search:
    """How points are drawn, compared and cut short. All of it is recorded in ``study.json``.

    Args:
        trials: points to draw, the baseline not counted; of a grid its cells.
        sampler, pruner, evaluator: names of classes of ``optuna.samplers``, ``optuna.pruners`` and
            ``optuna.importance``; the evaluator says which axes mattered.
        sampler_options, pruner_options, evaluator_options: their arguments, Optuna's defaults elsewhere.
        seed: of the sampler, where it has one.
        objectives: names in :data:`ablations.objectives.OBJECTIVES`.
        at_most: objective -> how much of the baseline's value a feasible point may lose, in its unit.
        split: the split that is measured: a search that chooses by its values must see no other than val.
            The sealed one is for a study that was fixed beforehand.
    """

    trials: int = 20
    sampler: str = "RandomSampler"
    sampler_options: Mapping[str, Any] = field(default_factory=dict)
    pruner: str = "NopPruner"
    pruner_options: Mapping[str, Any] = field(default_factory=dict)
    evaluator: str = "PedAnovaImportanceEvaluator"
    evaluator_options: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    objectives: tuple[str, ...] = ("intra_modal", "gap")
    at_most: Mapping[str, float] = field(default_factory=dict)
    split: Split = "test"

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise InputError(f"search: trials={self.trials} must be at least 1")
        if not self.objectives or len(set(self.objectives)) < len(self.objectives):
            raise InputError(f"search: objectives {self.objectives} must be distinct and not empty")
        for name in (*self.objectives, *self.at_most):
            check_known(name, OBJECTIVES, "objective")
        for name, limit in self.at_most.items():
            if not math.isfinite(limit):
                raise InputError(f"search: at_most {name}={limit!r} must be finite")
        if len(self.objectives) > 1 and self.pruner != "NopPruner":
            raise InputError(
                f"search: pruner {self.pruner!r} with {len(self.objectives)} objectives: Optuna prunes by "
                "one; take NopPruner"
            )
        self.make_sampler()
        self.make_pruner()
        if self.evaluator != Search.evaluator or self.evaluator_options:
            self.make_evaluator()  # the default one is known to work, and takes a second to load

    @property
    def directions(self) -> list[Direction]:
        """Of the objectives, as Optuna wants them."""
        return [OBJECTIVES[name].direction for name in self.objectives]

    def make_sampler(self, seed: int | None = None) -> BaseSampler:
        """Build the sampler, with another seed than its own where one is given."""
        options = {"seed": self.seed if seed is None else seed, **self.sampler_options}
        package = _NEEDS.get(self.sampler)
        if package is not None and importlib.util.find_spec(package) is None:
            raise InputError(f"sampler {self.sampler} needs the package {package}: pip install {package}")
        import optuna

        sampler: BaseSampler = _build(optuna.samplers, self.sampler, options, "sampler")
        return sampler

    def make_pruner(self) -> BasePruner:
        """Build the pruner."""
        import optuna

        pruner: BasePruner = _build(optuna.pruners, self.pruner, self.pruner_options, "pruner")
        return pruner

    def make_evaluator(self) -> BaseImportanceEvaluator:
        """Build what says which axes mattered."""
        import optuna

        options = {"seed": self.seed, **self.evaluator_options}
        evaluator: BaseImportanceEvaluator = _build(optuna.importance, self.evaluator, options, "evaluator")
        return evaluator


def check_search(mode: Mode, search: Search) -> None:
    """Refuse a search that does not do what its mode is for.

    Raises:
        InputError: a mode that chooses by test values; one that describes effects, with points that crowd
            where values are good, or with trials cut short; more than one value to make best.
    """
    if mode in ("tune", "pareto"):
        if search.split != "val":
            raise InputError(f"search of mode {mode!r}: it chooses by what it measures; split must be 'val'")
    elif search.pruner != "NopPruner":
        raise InputError(
            f"search of mode {mode!r}: pruner {search.pruner!r} would leave out bad points, and effects with "
            "them; take NopPruner, or mode 'tune'"
        )
    even = ("QMCSampler", "RandomSampler")
    if mode == "qmc" and search.sampler not in even:
        raise InputError(
            f"search of mode 'qmc': sampler {search.sampler!r} does not spread points evenly; take one of "
            f"{', '.join(even)}, or mode 'tune'"
        )
    if mode == "tune" and len(search.objectives) > 1:
        raise InputError(f"search of mode 'tune': one objective, not {search.objectives}; or mode 'pareto'")
    if mode == "pareto" and len(search.objectives) < 2:
        raise InputError(f"search of mode 'pareto': two objectives or more, not {search.objectives}")


def _build(module: Any, name: str, options: Mapping[str, Any], what: str) -> Any:
    """Build a class by its name; a ``seed`` that it does not take is left out."""
    from optuna.exceptions import ExperimentalWarning

    ending = {"sampler": "Sampler", "pruner": "Pruner", "evaluator": "ImportanceEvaluator"}[what]
    names = sorted(n for n in module.__all__ if n.endswith(ending) and not n.startswith("Base"))
    kind = getattr(module, check_known(name, names, f"{what} of Optuna"))
    takes = inspect.signature(kind).parameters
    accepted = {option: value for option, value in options.items() if option != "seed" or "seed" in takes}
    for option in accepted:
        check_known(option, takes, f"option of {name}")
    try:
        with warnings.catch_warnings():  # some of Optuna's classes are experimental; which ones is recorded
            warnings.simplefilter("ignore", ExperimentalWarning)
            built = kind(**accepted)
    except (TypeError, ValueError, ImportError) as error:
        raise InputError(f"{what} {name} with {dict(accepted)}: {error}") from error
    return built


@cache
def _modes() -> dict[Mode, Search]:
    # Effects are described by a grid or by points spread evenly, never by an adaptive sampler, whose points
    # crowd where it expects good values; nothing there is pruned.
    return {
        "grid": Search(),
        "qmc": Search(sampler="QMCSampler", sampler_options={"scramble": True}),
        "tune": Search(
            sampler="TPESampler",
            pruner="MedianPruner",
            objectives=("intra_modal",),
            split="val",
        ),
        "pareto": Search(
            sampler="TPESampler",
            objectives=("inter_modal", "misalignment"),
            at_most={"zero_shot": 0.01},
            split="val",
        ),
    }


def __getattr__(name: str) -> Any:
    """Give ``MODES``, what a mode is unless a study says otherwise: Optuna is loaded when it is asked for."""
    if name == "MODES":
        return _modes()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
