"""Load a dataset by name or path."""

from __future__ import annotations

import re
from pathlib import Path

from crossgap.datasets.bad import BadSamples
from crossgap.datasets.emoji import load_emoji
from crossgap.datasets.known.layouts import load_known
from crossgap.datasets.known.table import SPECS
from crossgap.datasets.readers.csv_dataset import TABLES, is_table, load_csv
from crossgap.datasets.readers.folder import holds_classes, load_folder
from crossgap.datasets.readers.hub import PREFIX, load_hub
from crossgap.datasets.readers.reading import Reading
from crossgap.datasets.readers.shard_dataset import load_shards
from crossgap.datasets.readers.shards import expand_shards
from crossgap.datasets.readers.tree import is_visible, subfolders
from crossgap.datasets.scenes.dataset import load_scenes
from crossgap.datasets.scenes.options import is_scenes
from crossgap.datasets.split import is_split
from crossgap.datasets.tasks import Dataset
from crossgap.errors import InputError, check_known

_SHARD = re.compile(r"\.tar(\.(gz|bz2|xz|zst|zstd))?$|\.t(gz|bz2|xz|zst)$", re.IGNORECASE)
_ADDRESS = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+:")


def load_dataset(
    name: str,
    *,
    split: str = "test",
    limit: int | None = None,
    data_root: Path | None = None,
    max_bad: int = 0,
    whole_texts: bool = False,
) -> Dataset:
    """Load one split of a dataset as tasks.

    Args:
        name: a name of :data:`SPECS`, that of ``scenes`` perhaps with options
            (``scenes:mention=0.3,objects=50``); a folder of class folders (perhaps inside train, val, test),
            which win over archives beside them, or of shards (perhaps inside train, val, test); a pattern of
            shards (``path/{000..009}.tar``); a table (.csv, .tsv, .parquet) with the columns path or text,
            and label, text, group, split; or ``hf:OWNER/NAME`` of the Hugging Face hub.
        split: train, val, test, sealed; data without splits is one split, which answers to test. Scenes have
            more of them.
        limit: keep so many concepts (emoji), scenes, or items of each side, spread over the classes.
        data_root: where the folders of known datasets lie.
        max_bad: so many samples that cannot be used (an image that cannot be decoded, a part that is missing)
            are left out and counted in every protocol; to know which, each image is decoded once more. Of
            data that were judged item by item (revisited Oxford and Paris, BEIR) none is.
        whole_texts: the ``.txt`` part of a sample is one caption, not one a line.

    Raises:
        InputError: an unknown name lists the known ones; what cannot be read is named with file and item.
    """
    if limit is not None and limit < 1:
        raise InputError(f"dataset {name!r}: {limit=} must be at least 1")
    if max_bad < 0:
        raise InputError(f"dataset {name!r}: {max_bad=} must not be negative")
    if is_scenes(name):
        return load_scenes(name, split=split, limit=limit)
    if name in SPECS and SPECS[name].layout == "emoji":
        return load_emoji(split=split, limit=limit)
    reading = Reading(split=split, limit=limit, bad=BadSamples(limit=max_bad), whole_texts=whole_texts)
    if name in SPECS:
        return load_known(name, reading, root=data_root)
    if name.startswith(PREFIX):
        return load_hub(name, reading)
    path = Path(name)
    if path.is_dir():
        shards = _shards_in(path)
        if shards and not holds_classes(path):
            return load_shards(name, shards, reading)
        return load_folder(path, reading)
    if is_table(path):
        return load_csv(path, reading)
    if _SHARD.search(name) or _ADDRESS.search(name):
        return load_shards(name, {"": expand_shards(name)}, reading)
    if path.exists():
        raise InputError(
            f"dataset {name!r}: a file of this kind is not read; expected {', '.join(TABLES)} or .tar"
        )
    check_known(name, SPECS, "dataset (and no such folder or file)")
    raise AssertionError("check_known returns only known names")


def _shards_in(folder: Path) -> dict[str, list[str]]:
    """List the shards in a folder (under ""), or in those of its folders that are called after splits."""
    direct = _shards(folder)
    if direct:
        return {"": direct}
    splits = {path.name: _shards(path) for path in subfolders(folder) if is_split(path.name)}
    return {name: shards for name, shards in splits.items() if shards}


def _shards(folder: Path) -> list[str]:
    # a broken link is listed too: reading it names it
    files = (path for path in sorted(folder.iterdir()) if is_visible(path) and not path.is_dir())
    return [str(path) for path in files if _SHARD.search(path.name)]
