"""Load a dataset by name or path."""

from __future__ import annotations

import re
from pathlib import Path

from crossgap.datasets.csv_dataset import TABLES, load_csv
from crossgap.datasets.emoji import load_emoji
from crossgap.datasets.folder import load_folder
from crossgap.datasets.hub import PREFIX, load_hub
from crossgap.datasets.known import load_known
from crossgap.datasets.scenes import is_scenes
from crossgap.datasets.scenes.dataset import load_scenes
from crossgap.datasets.shard_dataset import load_shards
from crossgap.datasets.table import SPECS
from crossgap.datasets.tasks import Dataset
from crossgap.errors import InputError, check_known

_SHARDS = re.compile(r"\.tar(\.gz)?$|\.tgz$|^[A-Za-z][A-Za-z0-9+.-]+:")


def load_dataset(
    name: str, *, split: str = "test", limit: int | None = None, data_root: Path | None = None
) -> Dataset:
    """Load one split of a dataset as tasks.

    Args:
        name: a name of :data:`SPECS`, that of ``scenes`` perhaps with options
            (``scenes:mention=0.3,objects=50``); a folder of class folders (perhaps inside train, val, test)
            or of shards; a pattern of shards (``path/{000..009}.tar``); a table (.csv, .tsv, .parquet) with
            the columns path or text, and label, text, group, split; or ``hf:OWNER/NAME`` of the Hugging
            Face hub.
        split: train, val, test, sealed; data without splits is one split, which answers to test. Scenes have
            more of them.
        limit: keep so many concepts (emoji), scenes, or items of each side, spread over the classes.
        data_root: where the folders of known datasets lie.

    Raises:
        InputError: an unknown name lists the known ones; what cannot be read is named with file and item.
    """
    if limit is not None and limit < 1:
        raise InputError(f"dataset {name!r}: {limit=} must be at least 1")
    if is_scenes(name):
        return load_scenes(name, split=split, limit=limit)
    if name in SPECS:
        if SPECS[name].layout == "emoji":
            return load_emoji(split=split, limit=limit)
        return load_known(name, root=data_root, split=split, limit=limit)
    if name.startswith(PREFIX):
        return load_hub(name, split=split, limit=limit)
    path = Path(name)
    if path.is_dir():
        shards = [str(file) for file in sorted(path.iterdir()) if _SHARDS.search(file.name)]
        if shards:
            return load_shards(shards, split=split, limit=limit)
        return load_folder(path, split=split, limit=limit)
    if path.suffix.lower() in TABLES:
        return load_csv(path, split=split, limit=limit)
    if _SHARDS.search(name):
        return load_shards(name, split=split, limit=limit)
    if path.exists():
        raise InputError(
            f"dataset {name!r}: a file of this kind is not read; expected .csv, .tsv, .parquet or .tar"
        )
    check_known(name, SPECS, "dataset (and no such folder or file)")
    raise AssertionError("check_known returns only known names")
