"""Settings of modality inversion. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from crossgap.errors import InputError, check_known, check_seed

Target = Literal["text", "image"]


Method = Literal["adamw", "lbfgs"]


Engine = Literal["auto", "lean", "tower"]


# Settings that may differ between the runs of one batch.
GRID = ("num_tokens", "learning_rate", "weight_decay", "init_std", "seed")


@dataclass(frozen=True, kw_only=True)
class InversionConfig:
    """Settings of one inversion; the defaults are the paper's OTI settings [0].

    Args:
        steps: updates of the pseudo-tokens.
        num_tokens: pseudo-tokens (R for OTI, P for OVI).
        learning_rate: of AdamW; with ``lbfgs`` the root mean square of the first move.
        weight_decay: of AdamW; ``lbfgs`` has none and wants 0.
        init_std: standard deviation of the initial noise.
        template: prompt of OTI; ``{}`` is where the pseudo-tokens go.
        seed: of the per-item noise.
        batch_size: items optimised side by side; no influence on an item's result beyond rounding.
        method: ``adamw`` as in the paper, or ``lbfgs``, which needs far fewer steps to the same loss.
        target_cosine: an item stops at the first step where its cosine to the target is at least this.
    """

    steps: int = 150
    num_tokens: int = 1
    learning_rate: float = 2e-2
    weight_decay: float = 0.01
    init_std: float = 0.02
    template: str = "a photo of {}"
    seed: int = 0
    batch_size: int = 64
    method: Method = "adamw"
    target_cosine: float | None = None

    def __post_init__(self) -> None:
        check_known(self.method, get_args(Method), "inversion method")
        check_seed(self.seed)
        for name, least in (("steps", 0), ("num_tokens", 1), ("batch_size", 1)):
            if getattr(self, name) < least:
                raise InputError(f"{name} must be at least {least}, not {getattr(self, name)}")
        for name in ("learning_rate", "weight_decay", "init_std"):
            value = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise InputError(f"{name} must be finite and not negative, not {value}")
        if self.template.count("{}") != 1:
            raise InputError(f"template {self.template!r} must contain {{}} exactly once")
        if self.method == "lbfgs" and self.weight_decay:
            raise InputError(f"lbfgs has no weight decay: give weight_decay 0, not {self.weight_decay}")
        if self.target_cosine is not None and not -1 < self.target_cosine <= 1:
            raise InputError(f"target_cosine must lie in (-1, 1], not {self.target_cosine}")


@dataclass(frozen=True, kw_only=True)
class InversionBatch:
    """What is inverted together: the steps looked at under each of some settings."""

    into: Target
    configs: tuple[InversionConfig, ...]
    snapshots: tuple[int, ...]
    engine: Engine

    @property
    def steps(self) -> list[int]:
        """The steps looked at, in their order."""
        return sorted(self.snapshots)

    def place(
        self, into: Target, config: InversionConfig, snapshots: Sequence[int], engine: Engine
    ) -> int | None:
        """Find a setting among those of the batch, which may run longer and look at more; None if none is."""
        if (self.into, self.engine) != (into, engine) or not set(snapshots) <= set(self.snapshots):
            return None
        for number, held in enumerate(self.configs):
            if held.steps >= config.steps and replace(held, steps=config.steps) == config:
                return number
        return None
