"""What a study aims at: numbers of a measured model, read from its rows, each with a direction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from crossgap.vocabulary import CROSS_TASKS, is_cross_modal, leading_place

if TYPE_CHECKING:
    from crossgap.records import Row

Direction = Literal["maximize", "minimize"]


@dataclass(frozen=True, kw_only=True)
class Objective:
    """A number to make large or small; ``read`` returns None where the rows do not have it.

    ``routes`` beside native features have to be measured for it.
    """

    direction: Direction
    description: str
    read: Callable[[Sequence[Row]], float | None]
    routes: tuple[str, ...] = ()


def _value(rows: Sequence[Row], *, task: str, metric: str, route: str = "native") -> float | None:
    for row in rows:
        chosen = row.selection != "curve"
        if (row.task, row.metric, row.route) == (task, metric, route) and chosen:
            return row.value
    return None


def _image_task(rows: Sequence[Row]) -> str:
    tasks = {row.task for row in rows if row.task.startswith("image-") and not is_cross_modal(row.task)}
    return min(tasks, key=lambda task: (leading_place(task), task), default="")


def _intra_modal(rows: Sequence[Row]) -> float | None:
    return _value(rows, task=_image_task(rows), metric="mAP")


def _inter_modal(rows: Sequence[Row]) -> float | None:
    hits = [_value(rows, task=task, metric="hit@1") for task in CROSS_TASKS]
    values = [value for value in hits if value is not None]
    return sum(values) / len(values) if values else None


def _zero_shot(rows: Sequence[Row]) -> float | None:
    tasks = sorted({row.task for row in rows if row.task.startswith("zero-shot")})
    # of scenes objects tell models apart: colours are named right by any of them
    task = "zero-shot-object" if "zero-shot-object" in tasks else (tasks or [""])[0]
    return _value(rows, task=task, metric="hit@1")


def _gap(rows: Sequence[Row]) -> float | None:
    return _value(rows, task="gap", metric="centroid_distance")


def _misalignment(rows: Sequence[Row]) -> float | None:
    """Subtract native mAP from that by OTI; a loss is no merit, and where OTI failed there is no value.

    OTI has failed where it retrieves no better than the tokens that it starts from: it then says nothing of
    the model. Without untrained tokens that cannot be told, and there is no value either.
    """
    task = _image_task(rows)
    native, inverted = (_value(rows, task=task, metric="mAP", route=route) for route in ("native", "oti"))
    untrained = [
        row.value for row in rows if (row.task, row.metric, row.route) == (task, "mAP", "untrained_tokens")
    ]
    if native is None or inverted is None or not untrained or inverted <= max(untrained):
        return None
    return max(inverted - native, 0.0)


OBJECTIVES: dict[str, Objective] = {
    "intra_modal": Objective(
        direction="maximize",
        description="mAP of image-image retrieval with native features",
        read=_intra_modal,
    ),
    "inter_modal": Objective(
        direction="maximize",
        description="mean hit@1 of image-to-text and text-to-image retrieval",
        read=_inter_modal,
    ),
    "zero_shot": Objective(
        direction="maximize", description="hit@1 of zero-shot classification", read=_zero_shot
    ),
    "misalignment": Objective(
        direction="minimize",
        description="the paper's indicator: what OTI adds to the mAP of image-image retrieval with native "
        "features, 0 where it takes away; no value where OTI is no better than untrained tokens",
        routes=("oti", "untrained_tokens"),
        read=_misalignment,
    ),
    "gap": Objective(
        direction="minimize", description="distance of the two modalities' centroids", read=_gap
    ),
}


def objective_values(rows: Sequence[Row], names: Sequence[str], split: str) -> dict[str, float | None]:
    """Read objectives from the rows of one split."""
    of_split = [row for row in rows if row.split == split]
    return {name: OBJECTIVES[name].read(of_split) for name in names}


def losses_against(
    baseline: Mapping[str, float | None], values: Mapping[str, float | None], limits: Mapping[str, float]
) -> dict[str, float]:
    """Say for each constrained objective how much more than its limit was lost; at most 0 is feasible.

    What cannot be compared counts as infeasible by 1.
    """
    over = {}
    for name, limit in limits.items():
        before, now = baseline.get(name), values.get(name)
        if before is None or now is None:
            over[name] = 1.0
            continue
        lost = before - now if OBJECTIVES[name].direction == "maximize" else now - before
        over[name] = lost - limit
    return over
