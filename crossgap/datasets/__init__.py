"""Datasets: embedded emoji and scenes, folders, shards and CSV files, as retrieval and zero-shot tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossgap.lazy import lazily

if TYPE_CHECKING:
    from crossgap.datasets.emoji import embedded_shards as embedded_shards
    from crossgap.datasets.known.table import SPECS as SPECS
    from crossgap.datasets.load import load_dataset as load_dataset
    from crossgap.datasets.tasks import Dataset as Dataset
    from crossgap.datasets.tasks import Items as Items
    from crossgap.datasets.tasks import Pairs as Pairs
    from crossgap.datasets.tasks import Task as Task

__getattr__ = lazily(
    __name__,
    {
        "SPECS": "crossgap.datasets.known.table",
        "embedded_shards": "crossgap.datasets.emoji",
        "load_dataset": "crossgap.datasets.load",
        **dict.fromkeys(("Dataset", "Items", "Pairs", "Task"), "crossgap.datasets.tasks"),
    },
)
