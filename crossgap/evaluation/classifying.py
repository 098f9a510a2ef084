"""Images classified by labelled training images: the nearest class mean, a linear probe with its penalty."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from crossgap.datasets.probes import probe_tasks
from crossgap.datasets.tasks import Dataset, Task
from crossgap.errors import InputError
from crossgap.evaluation.choices import Strengths
from crossgap.evaluation.fitting import FittingData
from crossgap.evaluation.measuring import MeasuredRoute, Tried
from crossgap.evaluation.sides import Natives, Sides, mapped
from crossgap.probes.class_mean import class_mean_accuracy, draw_shots
from crossgap.probes.linear_probe import PRESET_STRENGTH, STRENGTHS, fit_linear_probe, linear_probe_accuracy
from crossgap.probes.shots import DRAWS


def draws_of(task: Task, *, seed: int) -> list[Tensor]:
    """Draw the training images that a classifier is made of: their rows in the gallery, draw by draw."""
    items, shots = task.gallery, task.shots
    if shots is None:
        return [torch.arange(len(items))]
    return [
        draw_shots(items.ids, items.labels, shots=shots, seed=seed, draw=draw)
        for draw in range(DRAWS if task.kind == "class-mean" else 1)
    ]


def validation_images(
    scored: Sides, val: Dataset | None, natives: Natives, parts: FittingData, strengths: Strengths
) -> Sides | None:
    """Make the validation images by the route of ``scored``, if any is of a class that is known."""
    try:
        tasks = probe_tasks(val, ("linear-probe",)) if val is not None else ()
    except InputError:  # no class in common: the preset is reported, and says so
        return None
    if not tasks:
        return None
    native, route = natives.of(tasks[0]), scored.made.route
    if route == "native":
        return native
    chosen = strengths.of(route, scored.made.task.kind)
    return mapped(native, route, parts, chosen.strength, chosen.selection)


def by_class_mean(scored: Sides, draws: Sequence[Tensor]) -> MeasuredRoute:
    """Classify the queries by the nearest mean of the drawn images of a class."""
    task = scored.made.task
    hits_Q = class_mean_accuracy(
        scored.query_QD,
        scored.gallery_GD,
        labels=task.query.labels,
        support_labels=task.gallery.labels,
        draws=draws,
    )
    return MeasuredRoute(scored.made, {"hit@1": hits_Q})


def by_linear_probe(
    scored: Sides, draws: Sequence[Tensor], chosen_on: Sides | None
) -> tuple[MeasuredRoute, list[Tried]]:
    """Classify the queries by a linear probe of the penalty that is best on the validation images.

    Of equally good penalties the strongest is taken; without validation images it is the preset.

    Returns:
        the queries with the penalty chosen, and what was tried on the validation images.
    """
    task = scored.made.task
    (rows,) = draws
    support_ND = scored.gallery_GD[rows]
    support_labels = [task.gallery.labels[row] for row in rows.tolist()]
    tried: list[Tried] = []
    best: tuple[float, MeasuredRoute] | None = None
    for strength in STRENGTHS if chosen_on is not None else (PRESET_STRENGTH,):
        probe = fit_linear_probe(support_ND, support_labels, strength=strength)
        setting = ", ".join(part for part in (scored.made.setting, f"C {strength:g}") if part)
        note = scored.made.note + ("" if probe.converged else "; its solver did not converge")
        accuracy, selection = 0.0, "preset"
        if chosen_on is not None:
            selection = "val"
            labels = chosen_on.made.task.query.labels
            values_Q = linear_probe_accuracy(probe, chosen_on.query_QD, labels=labels)
            accuracy = float(values_Q.nanmean())
            point = chosen_on.said(setting=setting, note=note, selection="curve")
            tried.append(Tried(point.made, "hit@1", values_Q))
        if best is None or accuracy > best[0]:
            hits_Q = linear_probe_accuracy(probe, scored.query_QD, labels=task.query.labels)
            made = scored.said(setting=setting, note=note, selection=selection).made
            best = accuracy, MeasuredRoute(made, {"hit@1": hits_Q})
    assert best is not None
    return best[1], tried
