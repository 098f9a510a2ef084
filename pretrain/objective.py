"""What is minimised: a weighted sum of terms, and the regime of the temperature."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from crossgap.errors import InputError, check_known
from pretrain.terms import TERMS, Views

Regime = Literal["fixed", "learnable", "linear", "cosine"]

MAX_LOGIT_SCALE = 100.0  # s = 1/tau is clamped here, as in CLIP


@dataclass(frozen=True, kw_only=True)
class TemperatureConfig:
    """How the temperature tau of the host loss is set.

    ``fixed`` keeps ``initial``; ``learnable`` starts there and optimises nu = ln(1/tau), clamped to
    exp(nu) <= 100 after every step. ``rate`` multiplies the learning rate of nu: AdamW moves nu by at most
    about the learning rate a step, whatever the gradient, so a short run needs more than 1 to arrive.
    ``linear`` and ``cosine`` go from ``initial`` in the first step to ``final`` in the last, tau itself along
    a line or half a cosine; nothing about tau is learned.

    [0] Radford et al., 2021, arXiv 2103.00020, section 2.5 (learnable, initial .07).
    [1] Yaras et al., 2024, arXiv 2412.07909 (fixed ladder; a rate of .1 for nu; a linear schedule).
    """

    regime: Regime = "fixed"
    initial: float = 0.01
    rate: float = 1.0
    final: float | None = None

    def __post_init__(self) -> None:
        check_known(self.regime, get_args(Regime), "temperature regime")
        if (self.final is not None) != self.scheduled:
            raise InputError(
                f"temperature regime {self.regime!r} with final={self.final!r}: linear and cosine need a "
                "final temperature, the others have none"
            )
        for name, value in (("initial", self.initial), ("final", self.final)):
            if value is not None and not (math.isfinite(value) and value >= 1 / MAX_LOGIT_SCALE):
                raise InputError(
                    f"temperature {name}={value!r}: must be finite and at least "
                    f"{1 / MAX_LOGIT_SCALE} (the logit scale is clamped to {MAX_LOGIT_SCALE:g})"
                )
        if not (math.isfinite(self.rate) and self.rate > 0):
            raise InputError(f"temperature rate={self.rate!r}: must be finite and above 0")

    @property
    def scheduled(self) -> bool:
        """Whether tau follows a schedule over the steps."""
        return self.regime in ("linear", "cosine")

    def at(self, step: int, steps: int) -> float:
        """Return tau of a step of a schedule, counted from 0."""
        assert self.final is not None
        passed = step / max(1, steps - 1)
        left = 1 - passed if self.regime == "linear" else (1 + math.cos(math.pi * passed)) / 2
        return self.final + (self.initial - self.final) * left


@dataclass(frozen=True, kw_only=True)
class WeightSchedule:
    """When a term has its weight: times are fractions of the run.

    From ``start`` to ``stop``, rising linearly from 0 over the first ``ramp``; outside it is 0, and the term
    is not computed. The default is constant.
    """

    start: float = 0.0
    stop: float = 1.0
    ramp: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.start < self.stop <= 1 and 0 <= self.ramp <= 1):
            raise InputError(f"{self}: must be 0 <= start < stop <= 1 and ramp in [0, 1]")

    def factor(self, step: int, steps: int) -> float:
        """Return the share of the weight that a step has, counted from 0."""
        done = step / steps
        if not self.start <= done < self.stop:
            return 0.0
        return 1.0 if self.ramp == 0 else min(1.0, (step + 1 - self.start * steps) / (self.ramp * steps))


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """Weights over :data:`pretrain.terms.TERMS`; a weight of 0 is exactly the objective without the term.

    ``temperatures`` overrides the temperature of terms that have one of their own; ``modifiers`` are
    strengths of changes to the CLIP loss; ``schedules`` say when terms have their weights;
    ``teacher_momentum`` is that of the average of the image tower's weights, for terms with a teacher.
    """

    weights: dict[str, float] = field(default_factory=lambda: {"clip": 1.0})
    temperature: TemperatureConfig = TemperatureConfig()
    temperatures: dict[str, float] = field(default_factory=dict)
    modifiers: dict[str, float] = field(default_factory=dict)
    schedules: dict[str, WeightSchedule] = field(default_factory=dict)
    teacher_momentum: float = 0.996

    def __post_init__(self) -> None:
        for name, weight in self.weights.items():
            check_known(name, TERMS, "term of the objective")
            if not (math.isfinite(weight) and weight >= 0):
                raise InputError(f"weight of {name}={weight!r}: must be finite and not negative")
        if not self.active:
            raise InputError(f"weights={self.weights!r}: at least one weight must be above 0")
        own = [name for name, term in TERMS.items() if isinstance(term.temperature, float)]
        for name, temperature in self.temperatures.items():
            check_known(name, own, "term with a temperature of its own")
            if not (math.isfinite(temperature) and temperature > 0):
                raise InputError(f"temperature of {name}={temperature!r}: must be finite and above 0")

    @property
    def active(self) -> tuple[str, ...]:
        """The terms with a weight above 0, in the order of the registry."""
        return tuple(name for name in TERMS if self.weights.get(name, 0) > 0)

    def needs(self, view: str) -> bool:
        """Tell whether any active term takes the named field of :class:`Views`."""
        return any(view in TERMS[name].inputs for name in self.active)


class Loss(NamedTuple):
    """The total and its parts, 0-d tensors: ``weighted`` = weight x ``raw``, ``total`` = their sum."""

    total: Tensor
    raw: dict[str, Tensor]
    weighted: dict[str, Tensor]


def evaluate_objective(views: Views, config: ObjectiveConfig, *, temperature: Tensor | float) -> Loss:
    """Compute the active terms and their weighted sum.

    Args:
        views: the embeddings that the active terms need.
        config: the weights.
        temperature: tau of the host loss.
    """
    raw = {}
    for name in config.active:
        term = TERMS[name]
        inputs = [getattr(views, view) for view in term.inputs]
        if term.temperature is None:
            raw[name] = term.function(*inputs)
        else:
            own = config.temperatures.get(name, term.temperature)
            raw[name] = term.function(*inputs, temperature=temperature if own == "host" else own)
    weighted = {name: config.weights[name] * value for name, value in raw.items()}
    return Loss(_sum(weighted.values()), raw, weighted)


def clamp_logit_scale(logit_scale: Tensor) -> None:
    """Clamp nu = ln(1/tau) in place so that exp(nu) <= 100."""
    with torch.no_grad():
        logit_scale.clamp_(max=math.log(MAX_LOGIT_SCALE))


def _sum(values: Iterable[Tensor]) -> Tensor:
    first, *rest = values
    total = first
    for value in rest:
        total = total + value
    return total
