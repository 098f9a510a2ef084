"""Which split is meant, when the data has splits and when it has none."""

from __future__ import annotations

from collections.abc import Collection

from crossgap.errors import InputError

WHOLE = "all"


class MissingSplit(InputError):  # noqa: N818  (it names what is missing)
    """The data have no split of that name."""


def choose_split(what: str, splits: Collection[str], split: str) -> str:
    """Return the split to load; data without splits is one split, ``all``, which also answers to ``test``.

    Raises:
        MissingSplit: lists the splits that there are.
    """
    if not splits:
        if split in ("test", WHOLE):
            return WHOLE
        raise MissingSplit(f"{what}: it has no splits, so there is no split {split!r}; ask for {WHOLE!r}")
    if split not in splits:
        raise MissingSplit(f"{what}: no split {split!r}; it has {', '.join(splits)}")
    return split
