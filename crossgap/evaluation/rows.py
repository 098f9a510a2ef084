"""Rows and per-query values of what was measured."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd
from torch import Tensor

from crossgap.datasets.tasks import Task
from crossgap.evaluation.measuring import MeasuredRoute, Skipped, Tried
from crossgap.evaluation.pictures import Lines
from crossgap.evaluation.result import Evaluation
from crossgap.evaluation.routes import ROUTES
from crossgap.evaluation.sides import Losses, Made
from crossgap.metrics.retrieval import macro_mean
from crossgap.provenance import Provenance, commit, versions
from crossgap.records import TABLES, Row

_TYPES = {"inversion_seed": "float64", "steps": "Int64", "num_tokens": "Int64"}  # of numbers that may lack

Record = MeasuredRoute | Tried | Losses | Skipped | Lines | Row


@dataclass(frozen=True)
class Origin:
    """Where every row of an evaluation comes from: the model's ``fingerprint`` and what is known of it."""

    fingerprint: str
    provenance: Provenance

    def row(self, task: Task, *, name: str | None = None, **values: Any) -> Row:
        """Make a row of a task's dataset; ``name`` takes the place of the task's."""
        provenance = self.provenance
        return Row(
            study=provenance.study,
            arm=provenance.arm,
            seed=provenance.seed,
            pairs_seen=provenance.pairs_seen,
            config_hash=provenance.config_hash,
            encoder=self.fingerprint,
            versions=f"{versions()} {provenance.batches}".rstrip(),
            commit=commit(),
            dataset=task.dataset,
            dataset_hash=task.dataset_hash,
            split=task.split,
            task=name or task.name,
            **values,
        )


class Collected:
    """Rows, tables and what was skipped, collected in the order in which they are added."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._rows: list[Row] = []
        self._frames: dict[str, list[pd.DataFrame]] = {name: [] for name in TABLES}
        self._queries: defaultdict[str, list[Any]] = defaultdict(list)  # columns of the table per_query
        self._skipped: dict[str, str] = {}
        self._shared: set[Hashable] = set()

    def add(self, records: Iterable[Record]) -> None:
        """Turn what was measured into rows and tables.

        Losses of items that several tasks share, and what was tried for several tasks, count once.
        """
        for record in records:
            match record:
                case Row():
                    self._rows.append(record)
                case Lines():
                    self._frames[record.table].append(record.frame)
                case Skipped():
                    self._skipped[record.name] = record.reason
                case MeasuredRoute():
                    self.add(measured_rows(record, self._origin))
                    for lines in query_lines(record):
                        for name, column in lines.items():
                            self._queries[name] += column
                case Tried() if self._first(_tried_key(record)):
                    self.add([row_of(record.made, record.metric, record.values_Q, self._origin)])
                case Losses() if self._first((record.items, record.route, record.config)):
                    self.add(loss_rows(record, self._origin))

    def _first(self, key: Hashable) -> bool:
        new = key not in self._shared
        self._shared.add(key)
        return new

    def evaluation(self, reused: dict[str, int]) -> Evaluation:
        """Give everything that was added; ``reused`` as in :class:`Evaluation`."""
        if self._queries:
            self._frames["per_query"] = [pd.DataFrame(self._queries).astype(_TYPES)]
        tables = {name: self._table(name, frames) for name, frames in self._frames.items()}
        return Evaluation(self._rows, tables, self._skipped, reused)

    def _table(self, name: str, frames: list[pd.DataFrame]) -> pd.DataFrame:
        if not frames:
            return pd.DataFrame(columns=list(TABLES[name]))
        provenance = self._origin.provenance
        return pd.concat(frames, ignore_index=True).assign(
            study=provenance.study, arm=provenance.arm, seed=provenance.seed
        )


def measured_rows(measured: MeasuredRoute, origin: Origin) -> Iterator[Row | Skipped]:
    """Give the mean of every metric over queries, that of the headline over classes, and the separation."""
    made, values = measured.made, measured.values
    task, macro = made.task, made.task.headline
    for name in _reported(measured):
        yield row_of(made, name, values[name], origin)
    of_classes = macro_mean(values[macro], task.query.labels)
    yield row_of(made, f"{macro}_macro", values[macro], origin, value=of_classes)
    if isinstance(measured.separation, str):
        yield Skipped(f"{task.name}/same_other_auc", measured.separation)
        return
    for number in measured.separation:
        yield row_of(made, number.metric, values[macro], origin, value=number.value, unit=number.unit)


def query_lines(measured: MeasuredRoute) -> Iterator[dict[str, list[Any]]]:
    """Give the values of queries: of the headline along a curve; else of mAP and hit@1 too."""
    macro, names = measured.made.task.headline, _reported(measured)
    wanted = (macro,) if measured.made.selection == "curve" else (macro, "mAP", "hit@1")
    for name in dict.fromkeys(name for name in wanted if name == macro or name in names):
        yield lines_of(measured.made, name, measured.values[name])


def lines_of(made: Made, metric: str, values_Q: Tensor) -> dict[str, list[Any]]:
    """Tabulate a metric query by query, column by column; a query without a value has no line."""
    task = made.task
    values = values_Q.tolist()
    kept = [place for place, value in enumerate(values) if not math.isnan(value)]
    columns: dict[str, list[Any]] = {
        "query_id": [task.query.ids[place] for place in kept],
        "query_class": [task.query.labels[place] for place in kept],
        "value": [values[place] for place in kept],
    }
    about = {
        "inversion_seed": made.inversion_seed,
        "dataset": task.dataset,
        "split": task.split,
        "task": task.name,
        "route": made.route,
        "steps": made.steps,
        "num_tokens": made.num_tokens,
        "setting": made.setting,
        "selection": made.selection,
        "metric": metric,
    }
    return columns | {name: [value] * len(kept) for name, value in about.items()}


def row_of(
    made: Made,
    metric: str,
    values_Q: Tensor,
    origin: Origin,
    *,
    value: float | None = None,
    unit: str = "fraction",
) -> Row | Skipped:
    """Make a row of a metric: its mean over queries, unless ``value`` is something else that they give.

    Without a number, as no query had anything to find, there is no row but the reason.
    """
    task = made.task
    value = float(values_Q.nanmean()) if value is None else value
    n_skipped = int(values_Q.isnan().sum())
    if not math.isfinite(value):
        reason = f"undefined: {n_skipped} of {len(values_Q)} queries have no relevant item"
        return Skipped(f"{task.name}/{made.route}/{metric}", reason)
    return origin.row(
        task,
        protocol=f"{task.protocol} {ROUTES[made.route].about}{made.note}",
        route=made.route,
        metric=metric,
        unit=unit,
        value=value,
        n_queries=len(values_Q) - n_skipped,
        n_gallery=len(task.gallery),
        n_skipped=n_skipped,
        steps=made.steps,
        num_tokens=made.num_tokens,
        setting=made.setting,
        selection=made.selection,
        inversion_seed=made.inversion_seed,
        seconds=made.seconds,
    )


def loss_rows(losses: Losses, origin: Origin) -> Iterator[Row]:
    """Give how close an inversion came to its targets, step by step."""
    for step, loss in losses.by_step.items():
        yield origin.row(
            losses.task,
            name=f"{losses.route}-loss",
            protocol=f"{losses.n_items} targets, mean over them. {ROUTES[losses.route].about}",
            route=losses.route,
            metric="loss",
            unit="1 - cosine",
            value=loss,
            n_queries=losses.n_items,
            n_gallery=0,
            steps=step,
            num_tokens=losses.config.num_tokens,
            setting=losses.setting,
            selection="curve",
        )


def _reported(measured: MeasuredRoute) -> tuple[str, ...]:
    """List the metrics that have a row: of zero-shot classification only whether the class was hit."""
    return ("hit@1", "hit@5") if measured.made.task.kind == "zero-shot" else tuple(measured.values)


def _tried_key(tried: Tried) -> Hashable:
    made = tried.made
    return made.task.split, made.task.name, made.route, made.setting, tried.metric
