"""The one error that a command turns into a message and exit code 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager


class InputError(ValueError):
    """What the caller gave is wrong; the message says what, where, the value seen and what to do."""


def check_known(name: str, known: Iterable[str], what: str) -> str:
    """Return ``name`` if it is among ``known``.

    Raises:
        InputError: lists the known names and suggests the nearest.
    """
    choices = list(known)
    if name in choices:
        return name
    # what looks like a path is no name that was typed wrongly
    nearest = [] if "/" in name else difflib.get_close_matches(name, choices, n=1, cutoff=0.4)
    hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
    raise InputError(f"unknown {what} {name!r}.{hint} Known: {', '.join(choices)}")


def installed_by(extra: str) -> str:
    """Say how an extra of the package is installed: from its source, as no package index has it."""
    return f"pip install '.[{extra}]' in the folder of crossgap's source"


@contextmanager
def naming(place: str) -> Iterator[None]:
    """Put a place (a file, an option, the path of a setting) before the message of a user's error.

    An empty place leaves the message as it is.
    """
    try:
        yield
    except InputError as error:
        if not place:
            raise
        raise InputError(f"{place}: {error}") from error


def check_seed(seed: int) -> None:
    """Refuse a seed that not every generator of random numbers takes.

    Raises:
        InputError: it does not lie in [0, 2^32).
    """
    if not 0 <= seed < 2**32:
        raise InputError(f"seed={seed}: a seed is a whole number from 0 to {2**32 - 1:,}")


def first_repeated(names: Sequence[str]) -> str | None:
    """Return the first name that stood there before; None when all differ."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None
