"""What is minimised: a weighted sum of terms, their schedules, and the regime of the temperature."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from crossgap.changes import ZERO_IS_ABSENT
from crossgap.errors import InputError, check_known
from pretrain.streams import stream, stream_seed
from pretrain.terms import TERMS, ActsOn, Setup
from pretrain.terms.modifiers import MODIFIERS, HostInputs
from pretrain.views import VIEWS, Views

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

    From ``start`` to ``stop``, rising linearly from 0 over the first ``ramp`` and falling linearly to 0 over
    the last ``fall``; outside it is 0, and the term is not computed. The default is constant. A fall is the
    mirror image of a ramp: the first step of a ramp and the last of a fall have the same, smallest share.
    """

    start: float = 0.0
    stop: float = 1.0
    ramp: float = 0.0
    fall: float = 0.0

    def __post_init__(self) -> None:
        slopes_fit = min(self.ramp, self.fall) >= 0 and self.ramp + self.fall <= self.stop - self.start + 1e-9
        if not (0 <= self.start < self.stop <= 1 and slopes_fit):
            raise InputError(
                f"start={self.start:g}, stop={self.stop:g}, ramp={self.ramp:g}, fall={self.fall:g}: must be "
                "0 <= start < stop <= 1, and ramp and fall together no longer than from start to stop"
            )

    def factor(self, step: int, steps: int) -> float:
        """Return the share of the weight that a step has, counted from 0."""
        if not self.start <= step / steps < self.stop:
            return 0.0
        risen = 1.0 if self.ramp == 0 else (step + 1 - self.start * steps) / (self.ramp * steps)
        left = 1.0 if self.fall == 0 else (self.stop * steps - step) / (self.fall * steps)
        return min(1.0, risen, left)


_CONSTANT = WeightSchedule()


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """Weights over :data:`pretrain.terms.TERMS`; a weight of 0 is exactly the objective without the term.

    ``temperatures`` overrides the temperature of terms that have one of their own; ``modifiers`` are
    strengths of changes to the CLIP loss; ``schedules`` say when terms have their weights;
    ``teacher_momentum`` is that of the average of the image tower's weights, for terms with a teacher.
    """

    weights: dict[str, float] = field(default_factory=lambda: {"clip": 1.0}, metadata={ZERO_IS_ABSENT: True})
    temperature: TemperatureConfig = TemperatureConfig()
    temperatures: dict[str, float] = field(default_factory=dict)
    modifiers: dict[str, float] = field(default_factory=dict, metadata={ZERO_IS_ABSENT: True})
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
        for name, strength in self.modifiers.items():
            check_known(name, MODIFIERS, "modifier of the CLIP loss")
            if not 0 <= strength <= 1:
                raise InputError(f"strength of {name}={strength!r}: must lie in [0, 1]")
            if strength > 0 and "clip" not in self.active:
                raise InputError(f"modifier {name}={strength!r} changes the CLIP loss, whose weight is 0")
        for name in self.schedules:
            check_known(name, TERMS, "term with a weight schedule")
            if name not in self.weights:
                raise InputError(
                    f"schedule of {name}: it has no weight; give it one, or leave the schedule out"
                )
        if all(self.schedules.get(name, _CONSTANT) != _CONSTANT for name in self.active):
            raise InputError(
                f"every term of {list(self.active)} has a weight schedule; leave one at its weight all the "
                "time, so that each step has something to minimise"
            )
        if not 0 <= self.teacher_momentum < 1:
            raise InputError(f"teacher_momentum={self.teacher_momentum!r}: must lie in [0, 1)")

    @property
    def active(self) -> tuple[str, ...]:
        """The terms with a weight above 0, in the order of the registry."""
        return tuple(name for name in TERMS if self.weights.get(name, 0) > 0)

    def weights_at(self, step: int, steps: int) -> dict[str, float]:
        """Give the weights of one step, of the terms whose weight is above 0 there."""
        scheduled = {
            name: self.weights[name] * self.schedules.get(name, _CONSTANT).factor(step, steps)
            for name in self.active
        }
        return {name: weight for name, weight in scheduled.items() if weight > 0}

    @property
    def acts_on(self) -> dict[str, ActsOn]:
        """What each term that has a weight, be it 0, acts on."""
        return {name: TERMS[name].acts_on for name in self.weights}

    @property
    def views(self) -> tuple[str, ...]:
        """The names in :data:`pretrain.views.VIEWS` that active terms take."""
        return views_of(self.active)


def views_of(names: Iterable[str]) -> tuple[str, ...]:
    """Name the views that terms take, each once."""
    return tuple(dict.fromkeys(view for name in names for view in TERMS[name].inputs))


def build_modules(config: ObjectiveConfig, setup: Setup, *, seed: int) -> nn.ModuleDict:
    """Build the active terms that have a state; a term's initial weights depend on (seed, its name) alone."""
    modules = nn.ModuleDict()
    for name in config.active:
        build = TERMS[name].module
        if build is not None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(stream_seed(seed, "term", name))
                of_texts = VIEWS[TERMS[name].inputs[0]].modality == "text"
                width = setup.text_width if of_texts and setup.text_width else setup.width
                modules[name] = build(setup._replace(width=width))
    return modules


class Moment(NamedTuple):
    """When an objective is evaluated: steps count from 0; what terms draw depends on (seed, step, name)."""

    step: int = 0
    steps: int = 1
    seed: int = 0


FIRST = Moment()


class Loss(NamedTuple):
    """The total and its parts, 0-d tensors: ``weighted`` = weight x ``raw``, ``total`` = their sum."""

    total: Tensor
    raw: dict[str, Tensor]
    weighted: dict[str, Tensor]


def evaluate_objective(
    views: Views,
    config: ObjectiveConfig,
    *,
    temperature: Tensor | float,
    moment: Moment = FIRST,
    modules: nn.ModuleDict | None = None,
    rows: slice | None = None,
) -> Loss:
    """Compute the active terms and their weighted sum.

    Args:
        views: those that the active terms take, of the whole batch.
        config: the weights.
        temperature: tau of the host loss.
        moment: the step, for schedules, and for what terms draw.
        modules: the active terms that have a state, from :func:`build_modules`.
        rows: of this process, for a local CLIP loss: that of these rows alone, against all. The mean over
            processes is the loss of the batch.
    """
    weights = config.weights_at(moment.step, moment.steps)
    raw = {}
    for name in weights:
        term = TERMS[name]
        inputs = [views[view] for view in term.inputs]
        options: dict[str, Any] = {}
        if term.temperature is not None:
            own = config.temperatures.get(name, term.temperature)
            options["temperature"] = temperature if own == "host" else own
        if term.random:
            options["generator"] = stream(moment.seed, name, moment.step)
        if term.progress:
            options["progress"] = moment.step / moment.steps
        if name == "clip":
            *inputs, options["label_smoothing"] = _modified(HostInputs(inputs[0], inputs[1]), config, moment)
            options["rows"] = rows
        raw[name] = _function(name, modules)(*inputs, **options)
        if raw[name].ndim:
            raise InputError(
                f"term {name} gave a tensor of shape {tuple(raw[name].shape)}; a term ends in a 0-d tensor"
            )
    weighted = {name: weight * raw[name] for name, weight in weights.items()}
    return Loss(_sum(weighted.values()), raw, weighted)


def _function(name: str, modules: nn.ModuleDict | None) -> Callable[..., Tensor]:
    term = TERMS[name]
    if term.function is not None:
        return term.function
    assert modules is not None
    return modules[name]


def _modified(given: HostInputs, config: ObjectiveConfig, moment: Moment) -> HostInputs:
    for name, modify in MODIFIERS.items():
        strength = config.modifiers.get(name, 0)
        if strength > 0:
            given = modify(given, strength, stream(moment.seed, name, moment.step))
    return given


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
