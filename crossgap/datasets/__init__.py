"""Datasets: embedded emoji and scenes, folders, shards and CSV files, as retrieval and zero-shot tasks."""

from crossgap.datasets.emoji import embedded_shards
from crossgap.datasets.load import load_dataset
from crossgap.datasets.shards import Sample, decode_image, expand_shards, read_shards
from crossgap.datasets.table import SPECS, Spec
from crossgap.datasets.tasks import Dataset, Factor, FitData, Items, Kind, Modality, Pairs, Task

__all__ = [
    "SPECS",
    "Dataset",
    "Factor",
    "FitData",
    "Items",
    "Kind",
    "Modality",
    "Pairs",
    "Sample",
    "Spec",
    "Task",
    "decode_image",
    "embedded_shards",
    "expand_shards",
    "load_dataset",
    "read_shards",
]
