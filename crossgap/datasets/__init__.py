"""Datasets: embedded emoji and scenes, folders, shards and CSV files, as retrieval and zero-shot tasks."""

from crossgap.datasets.emoji import embedded_shards
from crossgap.datasets.image_formats import decode_image
from crossgap.datasets.load import load_dataset
from crossgap.datasets.probes import probe_tasks
from crossgap.datasets.shards import Sample, expand_shards, read_shards
from crossgap.datasets.table import SPECS, Spec
from crossgap.datasets.tasks import (
    PROBES,
    Dataset,
    Factor,
    FitData,
    Items,
    Kind,
    Modality,
    Pairs,
    Probe,
    ProbeData,
    Task,
)

__all__ = [
    "PROBES",
    "SPECS",
    "Dataset",
    "Factor",
    "FitData",
    "Items",
    "Kind",
    "Modality",
    "Pairs",
    "Probe",
    "ProbeData",
    "Sample",
    "Spec",
    "Task",
    "decode_image",
    "embedded_shards",
    "expand_shards",
    "load_dataset",
    "probe_tasks",
    "read_shards",
]
