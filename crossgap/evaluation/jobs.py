"""The datasets that a call measures: how each is loaded, and which split is reported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from crossgap.datasets.features import feature_dataset
from crossgap.datasets.known.check import check_root
from crossgap.datasets.known.table import PAPER_IMAGE_SETS, PAPER_LONG_TEXT_SETS, PAPER_TEXT_SETS, SPECS
from crossgap.datasets.load import load_dataset
from crossgap.datasets.readers.feature_files import FeatureTable
from crossgap.datasets.split import MissingSplit, split_name
from crossgap.datasets.tasks import Dataset
from crossgap.errors import InputError
from crossgap.progress import say_notices, told


class Job(NamedTuple):
    """A dataset to measure: how it is loaded, and which split is reported."""

    name: str
    load: Callable[..., Dataset]
    split: str

    def tested(self) -> Dataset:
        with told(f"reading {self.name}, split {self.split}"):
            test = self.load(split=self.split)
        if not test.tasks:
            raise InputError(
                f"dataset {test.name!r}, split {self.split!r}: no task can be made of it (no labels, no "
                "captions)"
            )
        say_notices(test.name, test.notices)
        return test

    def validation(self) -> Dataset | None:
        """Load split val to choose settings on, if there is one and it is not the split reported."""
        if split_name(self.split) == "val":
            return None
        try:
            with told(f"reading {self.name}, split val"):
                return self.load(split="val")
        except MissingSplit:
            return None


def feature_job(table: FeatureTable, files: Sequence[Path], split: str, *, limit: int | None) -> Job:
    """Measure the dataset that files of features bring along."""
    return Job(", ".join(map(str, files)), partial(feature_dataset, table, limit=limit), split)


def dataset_jobs(names: Sequence[str], split: str, **options: Any) -> list[Job]:
    """Measure datasets by name; ``options`` are those of :func:`crossgap.datasets.load_dataset`."""
    return [Job(name, partial(load_dataset, name, **options), split) for name in names]


def paper_jobs(names: Sequence[str], **options: Any) -> list[Job]:
    """Measure datasets of the paper, each on the split that the paper reports."""
    return [
        Job(
            name, partial(load_dataset, name, **options), SPECS[name].paper_split if name in SPECS else "test"
        )
        for name in names
    ]


def paper_sets(named: tuple[str, ...], data_root: Path | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the paper's datasets that are there (of those named) and those that are not; check the former.

    Raises:
        InputError: no root, none of them is there, or one is damaged; all problems are listed.
    """
    if data_root is None:
        raise InputError("--preset paper needs --data-root: the folder that holds the datasets' folders")
    wanted = named or (*PAPER_IMAGE_SETS, *PAPER_TEXT_SETS, *PAPER_LONG_TEXT_SETS)
    folders = list(check_root(data_root, wanted))
    problems = [
        f"{folder.name}: {problem}"
        for folder in folders
        if folder.state == "damaged"
        for problem in folder.problems
    ]
    if problems:
        raise InputError(
            f"--data-root {data_root} is damaged:\n  " + "\n  ".join(problems) + "\nmend it, or name the "
            "datasets to measure with --dataset; python -m crossgap.datasets checks it again"
        )
    there = tuple(folder.name for folder in folders if folder.state != "missing")
    if not there:
        raise InputError(f"--data-root {data_root} holds none of {', '.join(wanted)}; see docs/reproduce.md")
    return there, tuple(folder.name for folder in folders if folder.state == "missing")
