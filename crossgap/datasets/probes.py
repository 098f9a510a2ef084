"""Make tasks of labelled training images: the nearest class mean by shots, a linear probe."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from crossgap.datasets.tasks import Dataset, ProbeData, Task
from crossgap.errors import InputError
from crossgap.probes.shots import DRAWS, LINEAR_PROBE, SHOTS, class_mean_name
from crossgap.vocabulary import Probe

# Items x classes of a linear probe: bounds one step of its solver to some 10 GFLOP at width 512, a fit to
# minutes. Reached by Food-101 and ImageNet among the known datasets.
MOST_SCORES = 5_000_000
_NAMED = 3


def probe_tasks(dataset: Dataset, kinds: Sequence[Probe]) -> tuple[Task, ...]:
    """Make the tasks of these kinds: ``class-mean-1`` ... ``class-mean-full`` and ``linear-probe``.

    Raises:
        InputError: there are training images with classes, but of one class alone, of none of the split's, or
            all of groups that the split has too.
    """
    if dataset.probe is None or not kinds:
        return ()
    data = _without_tested_groups(dataset.probe)
    sizes = Counter(data.support.labels)
    if len(sizes) < 2:
        raise InputError(
            f"all {len(data.support)} training images are of one class, {next(iter(sizes))!r}: there is "
            "nothing to tell apart"
        )
    if not sizes.keys() & set(data.query.labels):
        raise InputError(
            f"none of the {len(set(data.query.labels))} classes of the split is among the {len(sizes)} of "
            "the training images"
        )
    tasks = []
    if "class-mean" in kinds:
        tasks += [_class_mean(dataset, data, sizes, shots) for shots in (*SHOTS, None)]
    if "linear-probe" in kinds:
        tasks.append(_linear_probe(dataset, data, sizes))
    return tuple(tasks)


def _without_tested_groups(data: ProbeData) -> ProbeData:
    """Leave out training images of groups that the split has too: they show a tested thing."""
    tested, groups = set(data.query.groups) - {""}, data.support.groups
    kept = [row for row, group in enumerate(groups) if group not in tested]
    if len(kept) == len(groups):
        return data
    if not kept:
        raise InputError(f"all {len(groups)} training images are of groups that the split has too")
    left_out = f"{len(groups) - len(kept)} training images of groups that the split has too are left out."
    return replace(data, support=data.support.subset(kept), note=f"{left_out} {data.note}".strip())


def _class_mean(dataset: Dataset, data: ProbeData, sizes: Counter[str], shots: int | None) -> Task:
    if shots is None:
        support = f"the mean unit feature of all training images of each of {len(sizes)} classes"
    else:
        smaller = sum(size < shots for size in sizes.values())
        support = f"the mean unit feature of {shots} training images of each of {len(sizes)} classes"
        support += f" (all of the {smaller} that have fewer)" if smaller else ""
        support += f"; {DRAWS} draws, the same for every route, averaged"
    return _task(
        dataset, data, sizes, "class-mean", class_mean_name(shots), shots, f"images against {support}"
    )


def _linear_probe(dataset: Dataset, data: ProbeData, sizes: Counter[str]) -> Task:
    shots = most_shots(list(sizes.values()), MOST_SCORES // len(sizes))
    fitted = f"all {len(data.support)} training images"
    if shots is not None:
        kept = sum(min(shots, size) for size in sizes.values())
        fitted = (
            f"{kept} of {len(data.support)} training images (at most {shots} a class, drawn; cost is bounded)"
        )
    words = (
        f"logistic regression fitted on {fitted} of {len(sizes)} classes; C chosen by accuracy on split val, "
        "fixed where there is none"
    )
    return _task(dataset, data, sizes, "linear-probe", LINEAR_PROBE, shots, words)


def most_shots(sizes: Sequence[int], budget: int) -> int | None:
    """Return the most items a class, at least 1, by which all classes stay within a budget; None: all."""
    if sum(sizes) <= budget:
        return None
    shots = 1
    while sum(min(shots + 1, size) for size in sizes) <= budget:
        shots += 1
    return shots


def _task(
    dataset: Dataset,
    data: ProbeData,
    sizes: Counter[str],
    kind: Probe,
    name: str,
    shots: int | None,
    words: str,
) -> Task:
    counts = f"{len(data.query)} queries, {len(data.support)} in the gallery"
    lacking = [label for label in data.query.labels if label not in sizes]
    notes = [f"{counts}: {words}; relevant is the own class; nothing is ignored."]
    if lacking:
        classes = list(dict.fromkeys(lacking))
        named = ", ".join(map(repr, classes[:_NAMED])) + ", ..." * (len(classes) > _NAMED)
        notes.append(
            f"{len(lacking)} queries of {len(classes)} classes without training images ({named}) are skipped."
        )
    return Task(
        name=name,
        kind=kind,
        dataset=dataset.name,
        dataset_hash=dataset.hash,
        split=dataset.split,
        protocol=" ".join([*notes, data.note]).strip(),
        query=data.query,
        gallery=data.support,
        ignore_same_group=False,
        drop_self=False,
        shots=shots,
    )
