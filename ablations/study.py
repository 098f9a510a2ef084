"""What a study is: arms that differ in one thing, paired seeds, and one way to measure them all."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from typing import Any

from crossgap.errors import InputError, check_known
from crossgap.evaluation import EvaluationConfig
from pretrain.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One side of a comparison: a name for files, a label for figures, and how its models are trained."""

    name: str
    label: str
    description: str
    train: TrainConfig

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", self.name):
            raise InputError(
                f"arm name {self.name!r} must be lower-case letters, digits and hyphens: it names a folder"
            )


@dataclass(frozen=True, kw_only=True)
class Study:
    """A full study.

    Args:
        baseline: name of the arm that the others are compared with; always among ``arms``.
        seeds: every arm is trained with each of them, so that differences between arms are paired.
        dataset: where all models are measured, and ``limit`` items a task of it if not None.
        evaluation: routes and inversion plans.
        core_seconds: what one trial took on one core of the machine that the time estimate was made on.
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
    core_seconds: float = field(default=60.0, compare=False)

    def __post_init__(self) -> None:
        names = [arm.name for arm in self.arms]
        if len(set(names)) != len(names):
            raise InputError(f"study {self.name!r}: arm names {names} are not distinct")
        check_known(self.baseline, names, f"baseline arm of study {self.name!r}")
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise InputError(f"study {self.name!r}: seeds {self.seeds} must be distinct and not empty")

    def arm(self, name: str) -> Arm:
        """Return the arm of that name."""
        check_known(name, [arm.name for arm in self.arms], f"arm of study {self.name!r}")
        return next(arm for arm in self.arms if arm.name == name)

    def cells(self) -> list[tuple[str, int]]:
        """List (arm, seed), seed by seed: a study that is cut short still compares paired arms."""
        return [(arm.name, seed) for seed in self.seeds for arm in self.arms]

    def definition(self) -> dict[str, Any]:
        """Give everything that decides a trial's numbers, as JSON values; the list of seeds may grow."""
        fields = asdict(self)
        arms = {arm.name: arm.train.as_json() for arm in self.arms}
        kept = {name: fields[name] for name in ("name", "baseline", "dataset", "limit", "evaluation")}
        values: dict[str, Any] = json.loads(json.dumps({**kept, "arms": arms}))
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
            "definition": self.definition(),
        }
