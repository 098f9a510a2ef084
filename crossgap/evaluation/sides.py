"""The two sides of a task as a route makes them: native, mapped, inverted at every step or at one setting."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from crossgap.datasets.tasks import Task
from crossgap.evaluation.features import DIRECTIONS, Features, Inversions
from crossgap.evaluation.fitting import FittingData, Strength
from crossgap.evaluation.plan import InversionPlan
from crossgap.evaluation.routes import ROUTES, direction, side_maps, sides
from crossgap.inversion.config import InversionBatch, InversionConfig
from crossgap.metrics.relevance import Judgement, judge
from crossgap.posthoc import shuffled_targets


class ChosenSetting(NamedTuple):
    """How an inversion is made and where it stops, and how that was chosen."""

    config: InversionConfig
    steps: int
    selection: str


@dataclass(frozen=True, kw_only=True)
class Made:
    """What was made of a task: by which route, at which setting; what rows say beside their number.

    ``note`` ends the words of the route in the protocol; ``selection`` is that of :class:`Row`.
    """

    task: Task
    route: str
    selection: str = "none"
    steps: int | None = None
    num_tokens: int | None = None
    seconds: float | None = None
    setting: str = ""
    note: str = ""
    inversion_seed: int | None = None


@dataclass(frozen=True, eq=False)
class Sides:
    """The features of both sides, which are compared, and who is relevant to whom.

    Shape: (Q, D), (G, D).
    """

    made: Made
    query_QD: Tensor
    gallery_GD: Tensor
    relevance: Judgement

    def said(self, **changes: Any) -> Sides:
        """Say something else of the same features."""
        return replace(self, made=replace(self.made, **changes))


class Losses(NamedTuple):
    """How close an inversion of one side came to its targets: the mean of 1 - cosine by step.

    ``items`` is the content hash of what was inverted: tasks that share a side share its losses.
    """

    task: Task
    route: str
    items: str
    n_items: int
    config: InversionConfig
    setting: str
    by_step: dict[int, float]


class Curve(NamedTuple):
    """One setting of an inversion at every step looked at; step 0 is the placebo of untrained tokens."""

    config: InversionConfig
    losses: Losses
    points: dict[int, Sides]


class Natives:
    """The native sides of tasks; each task is judged once."""

    def __init__(self, features: Features) -> None:
        self._features = features
        self.ranked = features.ranked
        self._made: dict[tuple[str, str], Sides] = {}

    def of(self, task: Task) -> Sides:
        """Return a task with features as the model gives them."""
        key = (task.split, task.name)
        if key not in self._made:
            query_QD, gallery_GD = self._features.of(task.query), self._features.of(task.gallery)
            self._made[key] = Sides(Made(task=task, route="native"), query_QD, gallery_GD, judge(task))
        return self._made[key]


def chance(native: Sides) -> Sides:
    """Give all items one feature, so that all tie: metrics are then those of a random order."""
    even_Q1, even_G1 = torch.ones(len(native.query_QD), 1), torch.ones(len(native.gallery_GD), 1)
    return replace(native.said(route="chance"), query_QD=even_Q1, gallery_GD=even_G1)


def mapped(native: Sides, route: str, parts: FittingData, strength: Strength, selection: str) -> Sides:
    """Move the sides that a route's map moves.

    Raises:
        InputError: the fit is not possible at this strength or on these parts.
    """
    fitted = ROUTES[route].map
    assert fitted is not None
    on_query, on_gallery = side_maps(route, native.made.task.kind, parts, strength)
    origins = dict.fromkeys(moving.fitted_on for moving in (on_query, on_gallery) if moving is not None)
    return Sides(
        replace(
            native.made,
            route=route,
            selection=selection,
            setting=fitted.describe(strength),
            note=f"; fitted on {', '.join(origins)}",
        ),
        native.query_QD if on_query is None else on_query(native.query_QD),
        native.gallery_GD if on_gallery is None else on_gallery(native.gallery_GD),
        native.relevance,
    )


def curves(native: Sides, route: str, plan: InversionPlan, inversions: Inversions) -> Iterator[Curve]:
    """Invert the side of the modality that a route does not invert into, under every setting of the plan."""
    task = native.made.task
    into = direction(route, task.kind)
    assert into is not None
    query_first = sides(task.kind)[0] != into
    inverted_items, targets_ND, other_ND = (
        (task.query, native.query_QD, native.gallery_GD)
        if query_first
        else (task.gallery, native.gallery_GD, native.query_QD)
    )
    for config, inverted in inversions.planned(inverted_items, targets_ND, into, plan).items():
        setting = plan.setting(config)
        points = {}
        for step in plan.snapshots:
            made_ND = inverted.snapshots[step]
            made = Made(
                task=task,
                route=route if step > 0 else "untrained_tokens",
                selection="curve",
                steps=step,
                num_tokens=config.num_tokens,
                seconds=inverted.seconds,
                setting=setting,
                note=_method(config),
                inversion_seed=config.seed,
            )
            both = (made_ND, other_ND) if query_first else (other_ND, made_ND)
            points[step] = Sides(made, *both, native.relevance)
        items = inverted_items.content_hash
        losses = Losses(task, route, items, len(inverted_items), config, setting, inverted.losses)
        yield Curve(config, losses, points)


def at_setting(
    native: Sides,
    route: str,
    chosen: ChosenSetting,
    plan: InversionPlan,
    inversions: Inversions,
    *,
    seed: int,
) -> Sides:
    """Make the routes that take the setting chosen for the inversion of the query: both sides, shuffled.

    Args:
        seed: which query takes the place of which.
    """
    task = native.made.task
    into = direction(route, task.kind)
    assert into is not None
    config = chosen.config
    alone = InversionBatch(
        into=into,
        configs=(replace(config, steps=chosen.steps),),
        snapshots=(chosen.steps,),
        engine=plan.engine,
    )
    if ROUTES[route].inversion == "shuffled":
        targets_QD = native.query_QD[shuffled_targets(task.query.ids, seed=seed)]
        query = inversions.single(task.query, targets_QD, alone, "shuffled targets")
        gallery_GD, seconds = native.gallery_GD, query.seconds
    else:
        query = inversions.planned(task.query, native.query_QD, into, plan)[config]
        what = f"{DIRECTIONS[into]} of the gallery"
        gallery = inversions.single(task.gallery, native.gallery_GD, alone, what)
        gallery_GD, seconds = gallery.snapshots[chosen.steps], query.seconds + gallery.seconds
    made = Made(
        task=task,
        route=route,
        selection=chosen.selection,
        steps=chosen.steps,
        num_tokens=config.num_tokens,
        seconds=seconds,
        setting=plan.setting(config),
        note=_method(config),
        inversion_seed=config.seed,
    )
    return Sides(made, query.snapshots[chosen.steps], gallery_GD, native.relevance)


def _method(config: InversionConfig) -> str:
    """Name the optimizer where it is not the paper's."""
    return "; L-BFGS steps" if config.method == "lbfgs" else ""
