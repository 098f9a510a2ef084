"""What to measure: routes, the plans of inversion, probes."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from crossgap.errors import InputError, check_known, check_seed
from crossgap.inversion.config import Engine, InversionBatch, InversionConfig, Method, Target
from crossgap.inversion.words import AXES, write_axes
from crossgap.vocabulary import PROBES, ROUTE_WORDS, Probe


@dataclass(frozen=True, kw_only=True)
class InversionPlan:
    """Inversions of one direction: settings, what to compare, the steps to look at.

    Every combination of the axes is inverted, in one batch for each template and method; ``snapshots`` cost
    nothing. An axis that is () has the value of ``config`` alone. ``lbfgs`` has no weight decay: it is
    combined with weight decay 0 instead of ``weight_decays``.

    Args:
        config: the settings that are the same everywhere; ``num_tokens`` is not looked at.
        token_counts: pseudo-tokens to compare.
        snapshots: steps to look at; 0 is the untrained start.
        learning_rates, weight_decays, init_stds, templates, methods: values to compare, as of ``config``.
        within: batches that hold settings of this plan among others; what they hold is taken from there,
            equal except for rounding, and the others are inverted for themselves.

    Raises:
        InputError: no token count or snapshot, a value that stands twice or that no inversion takes.
    """

    config: InversionConfig
    token_counts: tuple[int, ...]
    snapshots: tuple[int, ...]
    engine: Engine = "auto"
    learning_rates: tuple[float, ...] = ()
    weight_decays: tuple[float, ...] = ()
    init_stds: tuple[float, ...] = ()
    templates: tuple[str, ...] = ()
    methods: tuple[Method, ...] = ()
    within: tuple[InversionBatch, ...] = ()

    def __post_init__(self) -> None:
        if not self.token_counts or not any(self.snapshots):
            raise InputError("an inversion plan needs at least one token count and one snapshot step above 0")
        outside = [step for step in self.snapshots if not 0 <= step <= self.config.steps]
        if outside:
            raise InputError(f"snapshot steps {outside} lie outside 0..{self.config.steps} (steps)")
        named = {"token counts": self.token_counts, "snapshots": self.snapshots}
        for name, values in (named | {f"values of {AXES[axis]}": self._given(axis) for axis in AXES}).items():
            if len(set(values)) != len(values):
                raise InputError(f"{name} repeat themselves: {values}")
        if self.weight_decays and "adamw" not in (self.methods or (self.config.method,)):
            raise InputError("lbfgs has no weight decay: leave weight_decays out")
        assert self.configs  # each setting checks itself

    @property
    def configs(self) -> tuple[InversionConfig, ...]:
        """List every setting that is inverted: the outermost axis is the method, the innermost the tokens.

        Raises:
            InputError: a value that no inversion takes.
        """
        configs = []
        for values in itertools.product(*(self._given(axis) or (None,) for axis in AXES), self.token_counts):
            named = zip((*AXES, "num_tokens"), values, strict=True)
            changes: dict[str, Any] = {name: value for name, value in named if value is not None}
            if changes.get("method", self.config.method) == "lbfgs":
                changes["weight_decay"] = 0.0
            configs.append(replace(self.config, **changes))
        return tuple(dict.fromkeys(configs))

    @property
    def batches(self) -> tuple[tuple[InversionConfig, ...], ...]:
        """Put together the settings that can share a batch: those of one template and method."""
        return _alike(self.configs)

    def made_in(self, into: Target) -> list[tuple[InversionBatch, dict[InversionConfig, int]]]:
        """List the batches to invert, each with the places of this plan's settings in it.

        Settings of one template and method that no batch of ``within`` holds share one.
        """
        places: list[tuple[InversionBatch, dict[InversionConfig, int]]] = []
        left = list(self.configs)
        for batch in self.within:
            held = {
                config: place
                for config in left
                if (place := batch.place(into, config, self.snapshots, self.engine)) is not None
            }
            if held:
                places.append((batch, held))
                left = [config for config in left if config not in held]
        for group in _alike(left):
            batch = InversionBatch(into=into, configs=group, snapshots=self.snapshots, engine=self.engine)
            places.append((batch, {config: place for place, config in enumerate(group)}))
        return places

    def setting(self, config: InversionConfig) -> str:
        """Say in words what tells one of :attr:`configs` from the others beyond tokens and steps."""
        varied = [axis for axis in AXES if len(self._given(axis)) > 1]
        return write_axes({axis: getattr(config, axis) for axis in varied})

    def _given(self, axis: str) -> tuple[Any, ...]:
        return {
            "method": self.methods,
            "template": self.templates,
            "learning_rate": self.learning_rates,
            "weight_decay": self.weight_decays,
            "init_std": self.init_stds,
        }[axis]


def _alike(configs: Iterable[InversionConfig]) -> tuple[tuple[InversionConfig, ...], ...]:
    groups: dict[tuple[str, str], list[InversionConfig]] = {}
    for config in configs:
        groups.setdefault((config.template, config.method), []).append(config)
    return tuple(tuple(group) for group in groups.values())


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """What to measure.

    Args:
        routes: names from :data:`crossgap.evaluation.routes.ROUTES`; ``chance`` and ``native`` are always
            measured.
        plans: modality inverted into -> its plan; with the route ``untrained_tokens`` each looks at step 0.
        seed: of random subspaces and rotations, of the split that linear separability is tested on, of the
            images that class means are made of.
        num_neighbours: queries shown with their neighbours.
        probes: classification by labelled training images, where there are any; a linear probe takes a fit
            for each route and penalty.
    """

    routes: tuple[str, ...] = tuple(ROUTE_WORDS)
    plans: dict[Target, InversionPlan] = field(default_factory=dict)
    seed: int = 0
    num_neighbours: int = 8
    probes: tuple[Probe, ...] = ("class-mean",)

    def __post_init__(self) -> None:
        check_seed(self.seed)
        for route in self.routes:
            check_known(route, ROUTE_WORDS, "route")
        for probe in self.probes:
            check_known(probe, PROBES, "probe")
        if "untrained_tokens" in self.routes:  # which is step 0 of an inversion
            plans = {
                into: plan if 0 in plan.snapshots else replace(plan, snapshots=(0, *plan.snapshots))
                for into, plan in self.plans.items()
            }
            object.__setattr__(self, "plans", plans)
