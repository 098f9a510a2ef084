"""Read a folder of class folders, directly or inside train, val and test."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from crossgap.datasets.build import make_dataset
from crossgap.datasets.entry import Entry
from crossgap.datasets.shards import IMAGE_EXTENSIONS
from crossgap.datasets.split import choose_split
from crossgap.datasets.tasks import Dataset
from crossgap.errors import InputError

SPLIT_FOLDERS: Mapping[str, str] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


def load_folder(folder: Path, *, split: str = "test", limit: int | None = None) -> Dataset:
    """Load images whose class is the folder they lie in, at any depth below it.

    If all subfolders are named after splits, the class folders lie inside them and the other splits are
    compared with train. Hidden files are passed over; files with other extensions are
    counted in the protocol.

    Raises:
        InputError: no class folder, a class without an image, or a split that is not there.
    """
    subfolders = _subfolders(folder)
    if not subfolders:
        raise InputError(f"folder {folder}: no class folders in it; expected {folder}/<class>/<image>")
    by_split: dict[str, list[Path]] = {}
    if all(path.name.lower() in SPLIT_FOLDERS for path in subfolders):
        for path in subfolders:
            by_split.setdefault(SPLIT_FOLDERS[path.name.lower()], []).append(path)
    chosen = choose_split(f"folder {folder}", by_split, split)
    entries, others = _read(folder, by_split[chosen] if by_split else [folder])
    train, _ = _read(folder, by_split["train"]) if "train" in by_split and chosen != "train" else ([], 0)
    note = f"{others} files with other extensions than .{' .'.join(IMAGE_EXTENSIONS)} are left out."
    return make_dataset(str(folder), chosen, entries, train=train, limit=limit, note=note if others else "")


def _read(root: Path, folders: list[Path]) -> tuple[list[Entry], int]:
    entries, others = [], 0
    for folder in folders:
        for class_folder in _subfolders(folder):
            files = [path for path in sorted(class_folder.rglob("*")) if _is_visible(path, class_folder)]
            images = [path for path in files if path.suffix.lower().lstrip(".") in IMAGE_EXTENSIONS]
            if not images:
                raise InputError(
                    f"class folder {class_folder}: no image (.{' .'.join(IMAGE_EXTENSIONS)}) among "
                    f"{len(files)} files; add images or remove the folder"
                )
            others += len(files) - len(images)
            entries += [
                Entry(id=path.relative_to(root).as_posix(), image=path, captions=(), label=class_folder.name)
                for path in images
            ]
    return entries, others


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _is_visible(path: Path, base: Path) -> bool:
    return path.is_file() and not any(part.startswith(".") for part in path.relative_to(base).parts)
