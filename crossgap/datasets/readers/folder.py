"""Read a folder of class folders, directly or inside train, val and test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from crossgap.datasets.build import make_dataset
from crossgap.datasets.known.entry import Entry
from crossgap.datasets.readers.image_formats import FORMATS, is_image
from crossgap.datasets.readers.reading import Reading
from crossgap.datasets.readers.tree import is_visible, subfolders, walk
from crossgap.datasets.split import choose_split, is_split, same_splits
from crossgap.datasets.tasks import Dataset
from crossgap.errors import InputError


def load_folder(folder: Path, reading: Reading) -> Dataset:
    """Load images whose class is the folder they lie in, at any depth below it; links are followed.

    Where subfolders are named after splits (train, validation, dev, ...) and hold class folders, they are
    splits, and other splits are compared with train. Hidden files are passed over. What lies beside splits or
    class folders, broken links and files that are no images are counted and named in the protocol.

    Raises:
        InputError: no class folder, a class without an image, a split that is not there, or one folder called
            after a split among others that hold images.
    """
    inside = subfolders(folder)
    if not inside:
        raise InputError(f"folder {folder}: no class folders in it; expected {folder}/<class>/<image>")
    splits = _split_folders(folder, inside)
    what = f"folder {folder}"
    meant = same_splits(what, [path.name for path in splits])
    by_split = {split: [folder / name for name in names] for split, names in meant.items()}
    chosen = choose_split(what, by_split, reading.split)
    reader = _FoundFiles(folder)
    reader.beside(folder, splits or inside)
    entries = reader.classes(by_split[chosen] if by_split else [folder])
    train = reader.classes(by_split["train"]) if "train" in by_split and chosen != "train" else []
    return make_dataset(str(folder), chosen, entries, reading, train=train, left_out=reader.left_out())


def holds_classes(folder: Path) -> bool:
    """Tell whether an image lies in a folder below this one."""
    return any(_holds_images(path) for path in subfolders(folder))


def _holds_images(folder: Path) -> bool:
    return any(is_image(path) for path in walk(folder).files)


def _split_folders(folder: Path, inside: Sequence[Path]) -> list[Path]:
    """Return the subfolders that are splits: all are called so, or those that are hold class folders.

    Raises:
        InputError: a single one that may be a split or a class, beside others with images.
    """
    named = [path for path in inside if is_split(path.name)]
    if len(named) == len(inside):
        return named
    splits = [path for path in named if holds_classes(path)]
    others = [path for path in inside if path not in splits]
    if len(splits) == 1 and any(_holds_images(path) for path in others):
        raise InputError(
            f"folder {folder}: {splits[0].name} holds folders with images, as a split does, and so do or may "
            f"{', '.join(path.name for path in others[:5])} beside it; give {splits[0]} as the dataset, or "
            "move what is no class, or no split, away"
        )
    return splits


class _FoundFiles:
    """Gathers the entries of class folders, and what else lay there."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._left: dict[str, list[Path]] = {}

    def beside(self, folder: Path, taken: Sequence[Path]) -> None:
        """Note what lies in a folder beside the folders that are taken."""
        self._note("beside them", [path for path in sorted(folder.iterdir()) if _counts(path, taken)])

    def classes(self, folders: Sequence[Path]) -> list[Entry]:
        entries = []
        for folder in folders:
            class_folders = subfolders(folder)
            if not class_folders:
                raise InputError(
                    f"folder {folder}: no class folders in it; expected {folder}/<class>/<image>"
                )
            if folder != self._root:
                self.beside(folder, class_folders)
            for class_folder in class_folders:
                entries += self._class(class_folder)
        return entries

    def left_out(self) -> list[str]:
        """Say what was left out, in sentences."""
        reasons = {
            "no image": f"no image of the formats {', '.join(FORMATS)}",
            "broken": "broken links",
            "beside them": "beside the folders that are read",
        }
        return [
            f"Left out, as {reasons[kind]}: {len(paths)} ({_names(paths, self._root)})."
            for kind, paths in self._left.items()
        ]

    def _class(self, folder: Path) -> list[Entry]:
        splits = [path.name for path in subfolders(folder) if is_split(path.name) and holds_classes(path)]
        if len(splits) > 1:
            raise InputError(
                f"class folder {folder}: it holds splits ({', '.join(splits)}); give {folder} as the dataset"
            )
        files, broken = walk(folder)
        images = [path for path in files if is_image(path)]
        if not images:
            raise InputError(
                f"class folder {folder}: no image ({', '.join(FORMATS)}) among {len(files)} files"
                f"{f' and {len(broken)} broken links' if broken else ''}; add images or remove the folder"
            )
        self._note("broken", broken)
        pictures = set(images)
        self._note("no image", [path for path in files if path not in pictures])
        return [
            Entry(id=path.relative_to(self._root).as_posix(), image=path, captions=(), label=folder.name)
            for path in images
        ]

    def _note(self, kind: str, paths: Sequence[Path]) -> None:
        if paths:
            self._left.setdefault(kind, []).extend(paths)


def _counts(path: Path, taken: Sequence[Path]) -> bool:
    return path not in taken and is_visible(path)


def _names(paths: Sequence[Path], root: Path, most: int = 3) -> str:
    names = ", ".join(path.relative_to(root).as_posix() for path in paths[:most])
    return names + (", ..." if len(paths) > most else "")
