"""What a study is: arms that differ in one thing, paired seeds, and one way to measure them all."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, get_args

from ablations import search
from ablations.objectives import OBJECTIVES
from ablations.search import Mode, Search, check_search
from ablations.study.axes import Axis, check_axes, configure_point, describe, grid_settings
from ablations.study.own_terms import TermSource
from crossgap.datasets.scenes.options import SceneOptions, is_scenes
from crossgap.errors import InputError, check_known, check_seed
from crossgap.evaluation.changed_plans import sharing
from crossgap.evaluation.plan import EvaluationConfig
from pretrain.config import TrainConfig
from pretrain.configure import Settings, configure

AS_TRAINED = "as trained"  # in place of a dataset's name: each arm on the world that it was trained on


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One side of a comparison: a name for files, a label for figures, and how its models are trained.

    ``evaluation`` is how they are measured where it is not as the study says: arms that differ in their
    inversion alone are measured on the same trained model.
    """

    name: str
    label: str
    description: str
    train: TrainConfig
    evaluation: EvaluationConfig | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", self.name):
            raise InputError(
                f"arm name {self.name!r} must be lower-case letters, digits and hyphens: it names a folder"
            )


@dataclass(frozen=True, kw_only=True)
class Study:
    """A full study.

    Args:
        arms: what a grid compares. In the other modes points are drawn along ``axes`` and compared with the
            baseline alone.
        baseline: name of the arm that the others are compared with; always among ``arms``.
        seeds: every arm is trained with each of them, so that differences between arms are paired.
        dataset: where all models are measured, and ``limit`` items a task of it if not None. ``as trained``,
            for arms whose worlds differ in what captions say: each on its own world. The scenes are the same,
            so that image tasks are equal and only captions differ; tasks that ask by captions are left out.
        evaluation: routes and inversion plans.
        axes: settings of the training to draw, as changes to the baseline.
        mode: how points come about: ``grid`` describes effects of designed arms, ``qmc`` of points spread
            evenly over the axes; ``tune`` looks for the best point, ``pareto`` for the best compromises.
        searches: what a mode is here, where not as in :data:`ablations.search.MODES`.
        processes: that train one model, under torchrun.
        core_seconds: what one trial took on one core of the machine that the time estimate was made on.
        source: the Python file that the study was read from; it may register terms of its own.
    """

    name: str
    description: str
    arms: tuple[Arm, ...]
    baseline: str
    seeds: tuple[int, ...]
    evaluation: EvaluationConfig
    dataset: str = "emoji"
    limit: int | None = None
    smoke: bool = False
    axes: tuple[Axis, ...] = ()
    mode: Mode = "grid"
    searches: Mapping[Mode, Search] = field(default_factory=dict)
    processes: int = 1
    core_seconds: float = field(default=60.0, compare=False)
    source: TermSource | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.name):
            raise InputError(
                f"study name {self.name!r} must be letters, digits, '.', '_' and '-': it names a folder"
            )
        names = [arm.name for arm in self.arms]
        if len(set(names)) != len(names):
            raise InputError(f"study {self.name!r}: arm names {names} are not distinct")
        check_known(self.baseline, names, f"baseline arm of study {self.name!r}")
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise InputError(f"study {self.name!r}: seeds {self.seeds} must be distinct and not empty")
        for seed in self.seeds:
            check_seed(seed)
        check_known(self.mode, get_args(Mode), "mode of a study")
        for mode, own in self.searches.items():
            check_known(mode, get_args(Mode), "mode of a study")
            check_search(mode, own)
        if self.mode != "grid" and not self.axes:
            raise InputError(
                f"study {self.name!r} has no axes to draw points along: mode {self.mode!r} needs some"
            )
        if self.mode != "grid" and len(self.arms) > 1:
            raise InputError(
                f"study {self.name!r}: mode {self.mode!r} compares the points that it draws with the baseline"
                " alone; give no other arms, or make it a grid and ask for the mode by --mode"
            )
        for arm in self.arms:
            if arm.train.precision == "auto":
                raise InputError(
                    f"study {self.name!r}, arm {arm.name!r}: precision 'auto' would make numbers "
                    "depend on the machine; name fp32 or bf16"
                )
        check_axes(self.axes, self.arm(self.baseline).train, self.evaluation)
        if self.dataset == AS_TRAINED:
            self._check_worlds()
        for objective in (*self.search.objectives, *self.search.at_most):
            for route in OBJECTIVES[objective].routes:
                if route not in self.evaluation.routes:
                    raise InputError(
                        f"study {self.name!r}: objective {objective!r} needs the route {route!r}, which is "
                        "not among evaluation.routes; add it, or take another objective"
                    )
        if self.processes < 1:
            raise InputError(f"study {self.name!r}: processes={self.processes} must be at least 1")

    def _check_worlds(self) -> None:
        """Refuse ``as trained`` for arms that would be measured on different scenes."""
        baseline = self.arm(self.baseline).train
        trained = {f"arm {arm.name!r}": arm.train for arm in self.arms}
        for axis in self.axes:
            for value in axis.values:
                if axis.name.startswith("data"):
                    point = f"axis {axis.name!r}, value {value!r}"
                    trained[point] = configure(baseline, {axis.name: value})
        for who, config in trained.items():
            if not is_scenes(config.data):
                raise InputError(
                    f"study {self.name!r}: dataset {AS_TRAINED!r}, but {who} is trained on {config.data!r}: "
                    "only scenes can be measured as they were trained; name the dataset"
                )
            if not SceneOptions.parse(config.data).same_scenes(SceneOptions.parse(baseline.data)):
                raise InputError(
                    f"study {self.name!r}: dataset {AS_TRAINED!r}, but {who} is trained on {config.data!r}, "
                    f"which shows other scenes than {baseline.data!r}: numbers could not be compared; name "
                    "one dataset for all"
                )

    @property
    def search(self) -> Search:
        """How its mode draws, compares and prunes."""
        return self.searches.get(self.mode, search.MODES[self.mode])

    def arm(self, name: str) -> Arm:
        """Return the arm of that name."""
        check_known(name, [arm.name for arm in self.arms], f"arm of study {self.name!r}")
        return next(arm for arm in self.arms if arm.name == name)

    def evaluation_of(self, arm: Arm) -> EvaluationConfig:
        """Say how the models of an arm are measured, each in the batches that arms of one model share.

        Points of a search are not known beforehand; they share the steps of an axis over choices.
        """
        own = arm.evaluation or self.evaluation
        if self.mode == "grid":
            others = [
                other.evaluation or self.evaluation
                for other in self.arms
                if replace(other.train, recipe="") == replace(arm.train, recipe="")
            ]
            return sharing(own, others) if any(other != own for other in others) else own
        stops = [
            axis for axis in self.axes if axis.name.startswith("evaluation.") and axis.name.endswith(".steps")
        ]
        others = [
            configure_point(arm.train, own, {axis.name: value})[1] for axis in stops for value in axis.choices
        ]
        return sharing(own, others) if others else own

    def cells(self) -> list[tuple[str, int]]:
        """List (arm, seed), seed by seed: a study that is cut short still compares paired arms.

        The baseline's first seed comes first, which all else is compared with; then within a seed what trains
        longest, so that no worker waits long for another's last trial.
        """
        arms = sorted(self.arms, key=lambda arm: -_embedded(arm.train))
        ordered = [(arm.name, seed) for seed in self.seeds for arm in arms]
        return sorted(ordered, key=lambda cell: cell != (self.baseline, self.seeds[0]))

    def point(self, number: int, settings: Settings) -> Arm:
        """Make the arm of a drawn point."""
        train, evaluation = configure_point(self.arm(self.baseline).train, self.evaluation, settings)
        return Arm(
            name=f"p{number:04d}",
            label=f"p{number:04d}: {describe(settings)}",
            description="; ".join(f"{name} = {value}" for name, value in settings.items()),
            train=train,
            evaluation=None if evaluation == self.evaluation else evaluation,
        )

    def in_mode(self, mode: Mode) -> Study:
        """Return the study in another mode; points are compared with the baseline alone.

        Raises:
            InputError: the mode draws points and the study has no axes.
        """
        arms = self.arms if mode == "grid" else (self.arm(self.baseline),)
        return replace(self, mode=mode, arms=arms)

    def definition(self) -> dict[str, Any]:
        """Give everything that decides a trial's numbers, as JSON values; the list of seeds may grow.

        So may the number of points of a search, but nothing else about how they are drawn.
        """
        fields = asdict(self)
        arms = {arm.name: _described(arm.train) | _measured(arm) for arm in self.arms}
        kept = {name: fields[name] for name in ("name", "baseline", "dataset", "limit", "evaluation", "mode")}
        search = {name: value for name, value in asdict(self.search).items() if name != "trials"}
        drawn = {} if self.mode == "grid" else {"axes": fields["axes"], "seeds": fields["seeds"]}
        values: dict[str, Any] = json.loads(
            json.dumps({**kept, **drawn, "arms": arms, "search": search, "processes": self.processes})
        )
        return values

    def as_json(self) -> dict[str, Any]:
        """What the report reads from ``study.json``."""
        return {
            "study": self.name,
            "description": self.description,
            "arms": [
                {"name": arm.name, "label": arm.label, "description": arm.description} for arm in self.arms
            ],
            "baseline": self.baseline,
            "seeds": list(self.seeds),
            "smoke": self.smoke,
            "dataset": self.dataset,
            "mode": self.mode,
            "definition": self.definition(),
        }


def _described(train: TrainConfig) -> dict[str, Any]:
    """Give training settings as JSON values, a world's options one by one, so that arms differ in numbers."""
    values = train.as_json()
    if is_scenes(train.data):
        values["data"] = SceneOptions.parse(train.data).as_written()
    return values


def _measured(arm: Arm) -> dict[str, Any]:
    """Give an arm's own evaluation, if it has one."""
    return {} if arm.evaluation is None else {"evaluation": asdict(arm.evaluation)}


def grid_arms(base: Arm, axes: Sequence[Axis], evaluation: EvaluationConfig | None = None) -> tuple[Arm, ...]:
    """Make an arm of each combination of the axes' values, after ``base`` itself; none is there twice.

    ``evaluation`` is the study's, for axes of the inversion.

    A combination is named after its values' places on the axes, as ``g-0-2``.
    """
    arms = [base]
    for settings in grid_settings(axes):
        measured = evaluation or EvaluationConfig()
        train, own = configure_point(base.train, measured, settings)
        places = [
            str(axis.values.index(settings[axis.name])) if axis.name in settings else "x" for axis in axes
        ]
        kept = None if own == measured else own
        if all((train, kept) != (arm.train, arm.evaluation) for arm in arms):
            arms.append(
                Arm(
                    name="-".join(("g", *places)),
                    label=describe(settings),
                    description="; ".join(f"{name} = {value}" for name, value in settings.items()),
                    train=train,
                    evaluation=kept,
                )
            )
    return tuple(arms)


def _embedded(train: TrainConfig) -> int:
    """Count the images and texts that a training embeds."""
    return train.steps * train.batch_size * len(train.objective.views)
