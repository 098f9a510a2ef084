"""Compare settings, so that a folder is never filled with results of two kinds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from crossgap.errors import InputError


def differences(recorded: Any, given: Any, name: str = "") -> Iterator[str]:
    """Name each setting that differs between two nested settings, with both values."""
    if isinstance(recorded, Mapping) and isinstance(given, Mapping):
        for key in sorted({*recorded, *given}):
            yield from differences(recorded.get(key), given.get(key), f"{name}.{key}" if name else key)
    elif recorded != given:
        yield f"{name} was {_shown(recorded)}, now {_shown(given)}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def check_same(out: Path, recorded: Any, given: Any) -> None:
    """Refuse to go on in a folder that holds results with other settings.

    Raises:
        InputError: names the folder and what differs.
    """
    differing = list(differences(recorded, given))
    if differing:
        shown = "; ".join(differing[:8]) + (f"; and {len(differing) - 8} more" if len(differing) > 8 else "")
        threads = any(line.startswith("threads was ") for line in differing)
        hint = " (torchrun gives each process one thread; --threads N gives it N)" if threads else ""
        raise InputError(
            f"{out} holds results with other settings: {shown}; give another --out, or the same "
            f"settings{hint}"
        )
