"""Choose fewer items so that every class keeps some: the meaning of ``limit``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence


def stratified(labels: Sequence[str], limit: int) -> list[int]:
    """Return ``limit`` indices, ascending: two items of every class in turn, until there are enough.

    Two at a time, so that a class that is kept at all has a query and an answer. Deterministic: classes and
    items come in the order given.
    """
    seen: Counter[str] = Counter()
    first = {label: position for position, label in reversed(list(enumerate(labels)))}
    turns = []
    for index, label in enumerate(labels):
        turns.append((seen[label] // 2, first[label], index))
        seen[label] += 1
    return sorted(index for _, _, index in sorted(turns)[:limit])
