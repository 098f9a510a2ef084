"""Inversion plans by single settings, as files, command lines and axes name them; plans that share a batch.

A plan's settings are those of :class:`crossgap.inversion.config.InversionConfig` for one value, as
``learning_rate``, and those of :class:`crossgap.evaluation.InversionPlan` for several, as ``learning_rates``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, replace
from functools import partial
from typing import Any, get_args

from crossgap.errors import InputError, check_known, naming
from crossgap.evaluation.plan import EvaluationConfig, InversionPlan
from crossgap.inversion.config import GRID, Engine, InversionBatch, InversionConfig, Target
from crossgap.inversion.presets import Schedule
from crossgap.inversion.presets import looks as preset_looks
from crossgap.inversion.presets import preset as inversion_preset
from crossgap.settings.strict import fields_of, hints_of
from crossgap.vocabulary import ROUTE_WORDS

Table = Mapping[str, Any]
# Shares of a plan's steps to look at, where the steps are named but no snapshots.
LOOKS = (0, 1 / 30, 1 / 15, 1 / 8, 1 / 4, 1 / 2, 1)
# One value of a setting -> several of them.
SEVERAL = {
    "num_tokens": "token_counts",
    "learning_rate": "learning_rates",
    "weight_decay": "weight_decays",
    "init_std": "init_stds",
    "template": "templates",
    "method": "methods",
}


def inverted_into(routes: Iterable[str]) -> set[Target]:
    """Name the modalities that routes invert into."""
    from crossgap.evaluation.routes import ROUTES, direction  # which loads torch

    targets = {direction(route, kind) for route in routes for kind in ROUTES[route].kinds}
    return {into for into in targets if into is not None}


def changed_evaluation(
    base: EvaluationConfig,
    given: Table,
    *,
    plans: Mapping[Target, InversionPlan],
    preset: Callable[[Target, Schedule], InversionConfig],
    path: str = "evaluation",
) -> EvaluationConfig:
    """Return an evaluation with some settings changed: a pure function.

    Args:
        given: fields of :class:`crossgap.evaluation.EvaluationConfig`, and ``text`` and ``image``, tables of
            the plans' settings.
        plans: of directions that ``base`` has no plan for, but that its routes, or those given, invert into.
        preset: settings of a schedule by name.
        path: of ``given``; errors begin with it.

    Raises:
        InputError: an unknown name, a value of another kind or that no evaluation takes, a plan for a
            direction that no route inverts into.
    """
    hints: dict[str, Any] = {**hints_of(EvaluationConfig), "text": Table, "image": Table}
    del hints["plans"]
    changes = fields_of(given, hints, path)
    routes = changes.get("routes", base.routes)
    for route in routes:
        with naming(f"{path}.routes"):
            check_known(route, ROUTE_WORDS, "route")
    inverts = inverted_into(routes)
    new_plans: dict[Target, InversionPlan] = {}
    for into in get_args(Target):
        entry = changes.pop(into, None)
        if entry is not None and into not in inverts:
            raise InputError(f"{path}.{into}: no route inverts into {into}; add one, or leave the plan out")
        plan = base.plans.get(into, plans.get(into))
        if entry is not None and plan is None:
            raise InputError(f"{path}.{into}: there is no plan of inversion into {into} to change")
        if plan is not None and into in inverts:
            new_plans[into] = changed_plan(plan, entry or {}, partial(preset, into), f"{path}.{into}")
    with naming(path):
        return replace(base, **{**changes, "plans": new_plans})


def changed_plan(
    base: InversionPlan, given: Table, preset: Callable[[Schedule], InversionConfig], path: str
) -> InversionPlan:
    """Return a plan with some settings changed: a pure function.

    One value of a setting takes the place of several. Other steps, without snapshots, are looked at on the
    way. L-BFGS has no weight decay, so that naming the method alone leaves it out.

    Raises:
        InputError: as :func:`changed_evaluation`.
    """
    hints: dict[str, Any] = {**hints_of(InversionConfig), **hints_of(InversionPlan), "schedule": Schedule}
    del hints["config"], hints["within"]
    values = fields_of(given, hints, path)
    for single, several in SEVERAL.items():
        if single in values and several in values:
            raise InputError(f"{path}: {single} and {several} are both given; give one of them")
    config = base.config
    if "schedule" in values:
        config = replace(
            preset(values["schedule"]),
            batch_size=config.batch_size,
            template=config.template,
            seed=config.seed,
        )
    settings = _of(InversionConfig, values)
    if settings.get("method") == "lbfgs":
        settings.setdefault("weight_decay", 0.0)
    with naming(path):
        config = replace(config, **settings)
        looks = base.snapshots
        if config.steps != base.config.steps or "schedule" in values:
            looks = tuple(dict.fromkeys(math.ceil(share * config.steps) for share in LOOKS))
        singles: dict[str, tuple[Any, ...]] = {
            several: () for single, several in SEVERAL.items() if single in values
        }
        if "num_tokens" in values:
            singles["token_counts"] = (values["num_tokens"],)
        if settings.get("method") == "lbfgs":
            singles["weight_decays"] = ()
        changes = {"config": config, "snapshots": looks, **singles, **_of(InversionPlan, values)}
        return replace(base, **changes)


def preset_plans(
    name: str,
    *,
    schedule: Schedule,
    steps: int | None,
    compared: Mapping[str, tuple[Any, ...]],
    snapshots: tuple[int, ...],
    seed: int,
    engine: Engine,
    batch_size: int,
) -> dict[Target, InversionPlan]:
    """Make the plans of both directions; ``compared`` holds the values of a setting, none for its default."""
    plans: dict[Target, InversionPlan] = {}
    for into in get_args(Target):
        config = replace(inversion_preset(name, into, schedule), seed=seed, batch_size=batch_size)
        config = replace(config, steps=config.steps if steps is None else steps)
        plan = InversionPlan(
            config=config,
            token_counts=(config.num_tokens,),
            snapshots=snapshots or preset_looks(config.steps),
            engine=engine,
        )
        settings = {
            (axis if len(values) == 1 else SEVERAL[axis]): (values[0] if len(values) == 1 else values)
            for axis, values in compared.items()
            if values and (axis != "template" or into == "text")
        }
        plans[into] = changed_plan(plan, settings, partial(inversion_preset, name, into), "inversion")
    return plans


def together(plans: Iterable[InversionPlan], into: Target) -> tuple[InversionBatch, ...]:
    """Put the settings of several plans into as few batches as possible, each run to the longest's end.

    A run of n steps holds every shorter one, so steps cost nothing more. The batches do not depend on the
    order of the plans: each of them finds what another one made.
    """
    groups: dict[Any, list[tuple[InversionConfig, InversionPlan]]] = {}
    alike = [part.name for part in fields(InversionConfig) if part.name not in (*GRID, "steps")]
    for plan in plans:
        for config in plan.configs:
            key = (plan.engine, *(getattr(config, name) for name in alike))
            groups.setdefault(key, []).append((config, plan))
    batches = []
    for members in groups.values():
        steps = max(config.steps for config, _ in members)
        batches.append(
            InversionBatch(
                into=into,
                configs=tuple(sorted({replace(config, steps=steps) for config, _ in members}, key=_order)),
                snapshots=tuple(sorted({step for _, plan in members for step in plan.snapshots})),
                engine=members[0][1].engine,
            )
        )
    return tuple(batches)


def sharing(evaluation: EvaluationConfig, others: Iterable[EvaluationConfig]) -> EvaluationConfig:
    """Let an evaluation invert in batches that those of ``others``, of the same model, share with it."""
    everyone = [evaluation, *others]
    plans = {
        into: replace(
            plan, within=together((sharer.plans[into] for sharer in everyone if into in sharer.plans), into)
        )
        for into, plan in evaluation.plans.items()
    }
    return replace(evaluation, plans=plans)


def _order(config: InversionConfig) -> tuple[float, ...]:
    return tuple(getattr(config, name) for name in GRID)


def single_settings(evaluation: EvaluationConfig) -> dict[str, dict[str, Any]]:
    """Name the settings of each plan that have one value, as axes do; steps where one is reported."""
    singles: dict[str, dict[str, Any]] = {}
    for into, plan in evaluation.plans.items():
        stops = [step for step in plan.snapshots if step > 0]
        values: dict[str, list[Any]] = {
            name: list(dict.fromkeys(getattr(config, name) for config in plan.configs)) for name in SEVERAL
        }
        singles[into] = {name: of[0] for name, of in (values | {"steps": stops}).items() if len(of) == 1}
    return singles


def _of(kind: type, settings: Table) -> dict[str, Any]:
    names = {part.name for part in fields(kind)}
    return {name: value for name, value in settings.items() if name in names}
