"""Settings chosen on the validation split: steps and settings of an inversion, strengths of maps."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple, TypeVar

from crossgap.datasets.tasks import Dataset, Task
from crossgap.errors import InputError
from crossgap.evaluation.features import Inversions
from crossgap.evaluation.fitting import FittingData, Strength
from crossgap.evaluation.measuring import MeasuredRoute, Tried, measure, query_values
from crossgap.evaluation.plan import InversionPlan
from crossgap.evaluation.routes import ROUTES, fit_side, missing_part
from crossgap.evaluation.sides import ChosenSetting, Losses, Natives, curves, mapped
from crossgap.inversion.config import Target
from crossgap.vocabulary import PROBES, Kind, leading_place

Option = TypeVar("Option")


class ChosenStrength(NamedTuple):
    """The strength of a map, how it was chosen, and what was tried for that."""

    strength: Strength
    selection: str
    tried: tuple[Tried, ...] = ()


def best(means: Iterable[tuple[Option, float]]) -> Option:
    """Return the option of the highest mean; of equals the first."""
    chosen: tuple[Option, float] | None = None
    for option, mean in means:
        if chosen is None or mean > chosen[1]:
            chosen = option, mean
    assert chosen is not None
    return chosen[0]


def selection_task(dataset: Dataset | None, kind: str) -> Task | None:
    """Return the leading task of a kind, which choices are made on; None if there is none."""
    tasks = [task for task in dataset.tasks if task.kind == kind] if dataset is not None else []
    return min(tasks, key=lambda task: leading_place(task.name), default=None)


def choose_setting(
    into: Target, plan: InversionPlan, val: Dataset | None, natives: Natives, inversions: Inversions
) -> tuple[ChosenSetting, list[MeasuredRoute | Losses]]:
    """Choose the setting of one direction by mean average precision on the validation split.

    Without a choice, or a task to choose on, it is the last snapshot of the plan's first setting.

    Returns:
        the setting, and what was measured to choose it: native features, then every point of every curve.
    """
    task = selection_task(val, "image-image" if into == "text" else "text-text")
    n_choices = len(plan.configs) * sum(step > 0 for step in plan.snapshots)
    if task is None or n_choices == 1:
        return ChosenSetting(plan.configs[0], plan.snapshots[-1], "preset"), []
    native = natives.of(task)
    looked_at: list[MeasuredRoute | Losses] = [measure(native, natives.ranked)]
    means: list[tuple[ChosenSetting, float]] = []
    for curve in curves(native, "oti" if into == "text" else "ovi", plan, inversions):
        looked_at.append(curve.losses)
        for step, scored in curve.points.items():
            point = measure(scored, natives.ranked)
            looked_at.append(point)
            if step > 0:
                means.append((ChosenSetting(curve.config, step, "val"), float(point.values["mAP"].nanmean())))
    return best(means), looked_at


def choose_strength(
    route: str, kind: Kind, parts: FittingData, val: Dataset | None, natives: Natives
) -> ChosenStrength:
    """Choose the strength of a map for tasks of one kind by mean average precision on the validation split.

    Strengths at which it cannot be fitted are passed over. Without a choice, or a task to choose on, it is
    the preset.

    Raises:
        InputError: the map cannot be fitted at any strength.
    """
    fitted = ROUTES[route].map
    assert fitted is not None
    modality = fit_side(route, kind)
    candidates = fitted.candidates(parts, modality)
    task = selection_task(val, kind)
    if not candidates or task is None:
        preset = fitted.preset(parts, modality)
        return ChosenStrength(preset, "none" if preset is None else "preset")
    tried: list[Tried] = []
    means: list[tuple[Strength, float]] = []
    impossible: InputError | None = None
    for strength in candidates:
        try:
            scored = mapped(natives.of(task), route, parts, strength, "curve")
        except InputError as error:  # more components than there are, no shared direction, ...
            impossible = error
            continue
        values_Q = query_values(scored, natives.ranked)["mAP"]
        tried.append(Tried(scored.made, "mAP", values_Q))
        means.append((strength, float(values_Q.nanmean())))
    if not means:
        assert impossible is not None
        raise impossible
    return ChosenStrength(best(means), "val", tuple(tried))


class Strengths:
    """The strengths of maps, each chosen once for tasks of one kind.

    Classification by labelled images takes the maps of retrieval among images.
    """

    def __init__(
        self, routes: Collection[str], parts: FittingData, val: Dataset | None, natives: Natives
    ) -> None:
        self._routes = routes
        self._parts = parts
        self._val = val
        self._natives = natives
        self._chosen: dict[tuple[str, Kind], ChosenStrength] = {}

    def of(self, route: str, kind: Kind) -> ChosenStrength:
        """Choose the strength of a route's map, or take that of the route that it follows.

        Raises:
            InputError: the map cannot be fitted at any strength.
        """
        chosen_for: Kind = "image-image" if kind in PROBES else kind
        leader = self._leader(route, chosen_for)
        if leader is not None:
            return self.of(leader, chosen_for)
        key = (route, chosen_for)
        if key not in self._chosen:
            self._chosen[key] = choose_strength(route, chosen_for, self._parts, self._val, self._natives)
        return self._chosen[key]

    def _leader(self, route: str, kind: Kind) -> str | None:
        """Name the route whose strength this one takes, if it is measured and can be fitted."""
        fitted = ROUTES[route].map
        assert fitted is not None
        leader = fitted.follows
        if leader is None or leader not in self._routes:
            return None
        return leader if missing_part(leader, kind, self._parts) is None else None
