"""The files below a folder, links followed."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Tree(NamedTuple):
    """Files below a folder in sorted order, and links that lead nowhere or back to a folder above them."""

    files: list[Path]
    broken: list[Path]


def is_visible(path: Path) -> bool:
    """Tell whether a file or folder is one of the user's: not hidden, not what macOS adds to an archive."""
    return not path.name.startswith(".") and path.name != "__MACOSX"


def subfolders(folder: Path) -> list[Path]:
    """Return the visible folders in a folder, sorted; links to folders among them."""
    return sorted(path for path in folder.iterdir() if is_visible(path) and path.is_dir())


def walk(folder: Path) -> Tree:
    """List the visible files below a folder, also those in folders that links lead to."""
    tree = Tree([], [])
    _walk(folder, (), tree)
    return tree


def _leads_back(target: Path, way: tuple[Path, ...]) -> bool:
    return any(target == folder or target in folder.parents for folder in way)


def _walk(folder: Path, above: tuple[Path, ...], tree: Tree) -> None:
    way = (*above, folder.resolve())
    for path in sorted(folder.iterdir()):
        if not is_visible(path):
            continue
        if path.is_dir():
            if path.is_symlink() and _leads_back(path.resolve(), way):
                tree.broken.append(path)
            else:
                _walk(path, way, tree)
        elif path.is_file():
            tree.files.append(path)
        elif path.is_symlink():
            tree.broken.append(path)
