"""Names of a package that are imported when they are first used: asking for settings loads no torch."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def lazily(package: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """Make a package's ``__getattr__``: each name is imported from its module when it is first used.

    Args:
        package: its ``__name__``.
        names: name -> the module that has it; for a module itself, that module's own name.

    Returns:
        what Python calls for an attribute that the package does not have yet (PEP 562).
    """

    def attribute(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = importlib.import_module(names[name])
        return module if names[name] == f"{package}.{name}" else getattr(module, name)

    return attribute
