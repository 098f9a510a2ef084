"""Which split is meant, whatever the data call it, when the data have splits and when they have none."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from crossgap.errors import InputError

WHOLE = "all"

# what splits are called, in any case of letters, in folders, tables, shards and on the hub
_NAMES: Mapping[str, str] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "development": "val",
    "test": "test",
    "testing": "test",
}


class MissingSplit(InputError):  # noqa: N818  (it names what is missing)
    """The data have no split of that name."""


def is_split(name: str) -> bool:
    """Tell whether a name is one that splits have."""
    return name.strip().lower() in _NAMES


def split_name(name: str) -> str:
    """Return train, val or test for any of their usual names, another name as it is."""
    return _NAMES.get(name.strip().lower(), name.strip())


def same_splits(what: str, names: Collection[str]) -> dict[str, list[str]]:
    """Group the names that data use by the split that they mean.

    Raises:
        InputError: two words for one split, as ``val`` and ``dev``: they may be two splits.
    """
    meant: dict[str, list[str]] = {}
    for name in names:
        meant.setdefault(split_name(name), []).append(name)
    for split, spellings in meant.items():
        if len({name.strip().lower() for name in spellings}) > 1:
            raise InputError(
                f"{what}: {' and '.join(map(repr, spellings))} both mean split {split!r}; rename one of "
                "them, or join them"
            )
    return meant


def choose_split(what: str, splits: Collection[str], split: str) -> str:
    """Return the split to load; data without splits is one split, ``all``, which also answers to ``test``.

    ``splits`` are names as :func:`split_name` gives them; ``split`` may be any that means the same.

    Raises:
        MissingSplit: lists the splits that there are.
    """
    if not splits:
        if split in ("test", WHOLE):
            return WHOLE
        raise MissingSplit(f"{what}: it has no splits, so there is no split {split!r}; ask for {WHOLE!r}")
    if split in splits:
        return split
    if split_name(split) not in splits:
        raise MissingSplit(f"{what}: no split {split!r}; it has {', '.join(splits)}")
    return split_name(split)
