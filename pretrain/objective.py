"""What is minimised: a weighted sum of terms, their schedules, and the regime of the temperature."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from crossgap.errors import InputError
from pretrain.data.streams import stream, stream_seed
from pretrain.settings import MAX_LOGIT_SCALE, ObjectiveConfig
from pretrain.terms import TERMS, Setup
from pretrain.terms.modifiers import MODIFIERS, HostInputs
from pretrain.terms.views import VIEWS, Views


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
