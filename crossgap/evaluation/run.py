"""An evaluation from top to bottom: features, fitted maps, choices on val, measured routes, rows, tables."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from crossgap.compute import DEFAULT, Compute
from crossgap.datasets.probes import probe_tasks
from crossgap.datasets.readers.feature_files import FeatureTable
from crossgap.datasets.tasks import Dataset, Task
from crossgap.encoders.protocol import Encoder
from crossgap.errors import InputError
from crossgap.evaluation.choices import Strengths, choose_setting
from crossgap.evaluation.classifying import (
    by_class_mean,
    by_linear_probe,
    draws_of,
    validation_images,
)
from crossgap.evaluation.features import Features, Inversions, Progress, silent
from crossgap.evaluation.fitting import FittingData, fit_parts
from crossgap.evaluation.measuring import MeasuredRoute, Skipped, Tried, findable, measure
from crossgap.evaluation.pairs import factor_records, gap_records, inverted_images
from crossgap.evaluation.pictures import task_pictures
from crossgap.evaluation.plan import EvaluationConfig
from crossgap.evaluation.result import Evaluation
from crossgap.evaluation.routes import ROUTES, direction, missing_part, needed_parts, sides
from crossgap.evaluation.rows import Collected, Origin, Record
from crossgap.evaluation.sides import ChosenSetting, Natives, Sides, at_setting, chance, curves, mapped
from crossgap.inversion.config import Target
from crossgap.provenance import Provenance
from crossgap.vocabulary import PROBES, Kind

# Maps whose similarities and neighbours are kept beside those of native and inverted features.
_PICTURED_MAPS = ("centred",)


@dataclass(frozen=True)
class Prepared:
    """What tasks are measured with; ``inversions`` is None for features from a file."""

    config: EvaluationConfig
    val: Dataset | None
    features: Features
    natives: Natives
    inversions: Inversions | None
    parts: FittingData
    settings: dict[Target, ChosenSetting]
    strengths: Strengths


def evaluate(
    source: Encoder | FeatureTable,
    test: Dataset,
    val: Dataset | None,
    *,
    config: EvaluationConfig,
    provenance: Provenance,
    cache: Path | None = None,
    progress: Progress | None = None,
    compute: Compute = DEFAULT,
) -> Evaluation:
    """Measure ``source`` on the tasks of ``test``, choosing settings on ``val``.

    ``source`` is an encoder, or features made elsewhere, which cannot be inverted. Without ``val`` the last
    snapshot of a plan's first setting and the published strengths are reported, with selection ``preset``.

    In ``cache`` features and inversions are kept by what they depend on: a second call with the same model
    and plan encodes and inverts nothing and gives the same rows, the seconds those of the first.

    Processes that share the work (``compute``) all make the same calls and get the same rows: they share what
    is encoded, inverted and retrieved, and the first one writes into ``cache``.
    """
    progress = progress or silent
    origin = Origin(source.fingerprint, provenance)
    results = Collected(origin)
    tasks, left_out = measured_tasks(test, config)
    results.add(left_out)
    kinds = {task.kind for task in tasks}

    features = Features(source, cache, progress, compute)
    natives = Natives(features)
    wanted = needed_parts(config.routes, kinds)
    parts = fit_parts(source, test.fit, wanted, features.of, seed=config.seed)

    inversions = None if isinstance(source, FeatureTable) else Inversions(source, cache, progress, compute)
    settings: dict[Target, ChosenSetting] = {}
    for into, plan in config.plans.items():
        if inversions is not None and is_inverted_into(into, config.routes, kinds):
            settings[into], looked_at = choose_setting(into, plan, val, natives, inversions)
            results.add(looked_at)
    strengths = Strengths(config.routes, parts, val, natives)
    prepared = Prepared(config, val, features, natives, inversions, parts, settings, strengths)

    results.add(without_tasks(config.routes, kinds))
    count = progress("measure tasks", len(tasks) + (test.pairs is not None))
    for task in tasks:
        results.add(task_records(task, prepared))
        count(1)
    if test.pairs is not None:
        results.add(pair_records(test, prepared, origin))
        count(1)
    reused = {"encoded": 0, "features_read": 0, "inverted": 0, "inversions_read": 0} | features.reused
    return results.evaluation(reused if inversions is None else reused | inversions.reused)


def measured_tasks(test: Dataset, config: EvaluationConfig) -> tuple[tuple[Task, ...], list[Skipped]]:
    """List the tasks of a split and those of classification; say why there is none of the latter."""
    try:
        return (*test.tasks, *probe_tasks(test, config.probes)), []
    except InputError as error:  # one class, or no class in common
        return test.tasks, [Skipped(probe, str(error)) for probe in config.probes]


def is_inverted_into(into: Target, routes: tuple[str, ...], kinds: set[Kind]) -> bool:
    """Tell whether some route inverts into a modality on a task of these kinds."""
    return any(
        direction(route, kind) == into for route in routes for kind in kinds & set(ROUTES[route].kinds)
    )


def without_tasks(routes: tuple[str, ...], kinds: set[Kind]) -> list[Skipped]:
    """Name the routes that apply to no task."""
    return [
        Skipped(route, f"needs a task of kind {' or '.join(ROUTES[route].kinds)}")
        for route in routes
        if not kinds & set(ROUTES[route].kinds)
    ]


def task_records(task: Task, prepared: Prepared) -> Iterator[Record]:
    """Measure a task by chance, native and every route that applies to it, then what pictures need.

    A route that these data or this model do not allow is named with the reason, and so is a task in which no
    query has anything to find.
    """
    native = prepared.natives.of(task)
    if not findable(native.relevance, len(task.query)):
        yield Skipped(task.name, f"none of {len(task.query)} queries has a relevant item in the gallery")
        return
    # the training images that a classifier is made of are drawn once for all routes
    draws = draws_of(task, seed=prepared.config.seed) if task.kind in PROBES else []
    even, _ = measured(chance(native), draws, prepared)
    yield even
    as_it_is, tried = measured(native, draws, prepared)
    yield from tried
    yield as_it_is
    shown = [native]
    for route in prepared.config.routes:
        if task.kind not in ROUTES[route].kinds or route in ("chance", "native", "untrained_tokens"):
            continue
        try:
            shown += yield from route_records(native, route, draws, prepared)
        except InputError as error:
            yield Skipped(f"{task.name}/{route}", str(error))
    usable_Q = ~as_it_is.values[task.headline].isnan()
    yield from task_pictures(shown, usable_Q, num_neighbours=prepared.config.num_neighbours)


def measured(scored: Sides, draws: Sequence[Tensor], prepared: Prepared) -> tuple[MeasuredRoute, list[Tried]]:
    """Measure a task by retrieval, or by classification where that is what its kind asks for.

    Args:
        draws: rows of the gallery that a classifier is made of.

    Returns:
        what was measured, and what was tried on the validation split to choose a penalty.
    """
    task = scored.made.task
    if task.kind not in PROBES:
        return measure(scored, prepared.natives.ranked), []
    if task.kind == "class-mean" or scored.made.route == "chance":
        return by_class_mean(scored, draws), []
    chosen_on = validation_images(scored, prepared.val, prepared.natives, prepared.parts, prepared.strengths)
    return by_linear_probe(scored, draws, chosen_on)


def route_records(
    native: Sides, route: str, draws: Sequence[Tensor], prepared: Prepared
) -> Generator[Record, None, list[Sides]]:
    """Measure a task by one route; return the sides that pictures are made of.

    Raises:
        InputError: what these data or this model do not allow.
    """
    into = direction(route, native.made.task.kind)
    if into is None:
        return (yield from _map_records(native, route, draws, prepared))
    if prepared.inversions is None:
        raise InputError("features from a file have no towers to invert into")
    if into not in prepared.settings:
        raise InputError(f"no plan says how to invert into {into}")
    config, chosen, plan = prepared.config, prepared.settings[into], prepared.config.plans[into]
    ranked = prepared.natives.ranked
    if ROUTES[route].inversion != "curve":
        scored = at_setting(native, route, chosen, plan, prepared.inversions, seed=config.seed)
        yield measure(scored, ranked)
        return []
    placebo = "untrained_tokens" in config.routes and sides(native.made.task.kind)[0] != into
    shown = []
    for curve in curves(native, route, plan, prepared.inversions):
        yield curve.losses
        for step, scored in curve.points.items():
            if scored.made.route == route or placebo:
                yield measure(scored, ranked)
            if (curve.config, step) == (chosen.config, chosen.steps):
                shown.append(scored.said(selection=chosen.selection))
                yield measure(shown[-1], ranked)
    return shown


def _map_records(
    native: Sides, route: str, draws: Sequence[Tensor], prepared: Prepared
) -> Generator[Record, None, list[Sides]]:
    kind, parts = native.made.task.kind, prepared.parts
    reason = missing_part(route, kind, parts)
    if reason is not None:
        raise InputError(reason)
    chosen = prepared.strengths.of(route, kind)
    yield from chosen.tried
    scored = mapped(native, route, parts, chosen.strength, chosen.selection)
    by_route, tried = measured(scored, draws, prepared)
    yield from tried
    yield by_route
    return [scored] if route in _PICTURED_MAPS else []


def pair_records(test: Dataset, prepared: Prepared, origin: Origin) -> Iterator[Record]:
    """Measure the aligned pairs of a split: the gap, and the factors where the images' are known."""
    pairs, features, config = test.pairs, prepared.features, prepared.config
    assert pairs is not None
    image_ND, text_ND = features.of(pairs.image), features.of(pairs.text)
    yield from gap_records(test, pairs, image_ND, text_ND, origin, seed=config.seed)
    if not test.factors:
        return
    fitted = test.fit.images if test.fit is not None else None
    fitted_MD = features.of(fitted) if fitted is not None else None
    inverted = []
    if "oti" in config.routes and "text" in prepared.settings and prepared.inversions is not None:
        chosen, plan = prepared.settings["text"], config.plans["text"]
        inverted = inverted_images(pairs, image_ND, chosen, plan, prepared.inversions)
    yield from factor_records(test, pairs, image_ND, inverted, fitted_MD, origin)
