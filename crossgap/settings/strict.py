"""Read plain values, as a file gives them, into what annotations ask for; all else is refused by its path."""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from crossgap.errors import InputError, check_known, naming


def strict(value: Any, hint: Any, path: str) -> Any:
    """Return ``value`` as the annotation ``hint`` has it.

    A list becomes a tuple, a table a dataclass or a dict, a whole number a float where a float is wanted, a
    text a path; nothing else is converted, so that ``"3"`` is no number and ``1`` is not ``true``.

    Args:
        path: of the value in its file, as ``arms[1].train.steps``; errors begin with it.

    Raises:
        InputError: unknown keys, missing keys, values of another kind, or refused by the dataclass itself.
    """
    origin, parts = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin is Annotated:
        return strict(value, parts[0], path)
    if origin in (Union, types.UnionType):
        return _any_of(value, parts, path)
    if origin is Literal:
        if not isinstance(value, str):
            raise _wrong(value, f"one of {', '.join(parts)}", path)
        return _known(value, parts, path, "value")
    if origin is tuple:
        return _tuple(value, parts, path)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        key, entry = parts
        return {
            strict(name, key, f"{path}.{name}"): strict(item, entry, f"{path}.{name}")
            for name, item in table(value, path).items()
        }
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _dataclass(value, hint, path)
    return _plain(value, hint, path)


def table(value: Any, path: str) -> Mapping[str, Any]:
    """Return ``value`` if it is a table with names as keys.

    Raises:
        InputError: it is not.
    """
    if not isinstance(value, Mapping):
        raise _wrong(value, "a table", path)
    for name in value:
        if not isinstance(name, str):
            raise InputError(f"{path or 'document'}: key {name!r} is no text; put it in quotes")
    return value


def fields_of(value: Any, hints: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Read a table whose keys are among those of ``hints``; none is required.

    Raises:
        InputError: as :func:`strict`.
    """
    values = {}
    for name, item in table(value, path).items():
        full = f"{path}.{name}" if path else name
        _known(name, hints, full, "key")
        values[name] = strict(item, hints[name], full)
    return values


def _dataclass(value: Any, made: type, path: str) -> Any:
    values = fields_of(value, hints_of(made), path)
    missing = dataclasses.MISSING
    for part in dataclasses.fields(made):
        has_default = part.default is not missing or part.default_factory is not missing
        if not has_default and part.name not in values:
            raise InputError(f"{path or 'document'}: key {part.name!r} is missing")
    with naming(path or "document"):
        return made(**values)


def hints_of(made: type) -> dict[str, Any]:
    """Give the annotations of a dataclass's fields, resolved."""
    hints = get_type_hints(made)
    return {part.name: hints[part.name] for part in dataclasses.fields(made)}


def _any_of(value: Any, parts: tuple[Any, ...], path: str) -> Any:
    if type(value) in parts:
        return strict(value, type(value), path)
    rest = [part for part in parts if part is not type(None)]
    if len(rest) == 1:
        return strict(value, rest[0], path)
    for part in rest:
        try:
            return strict(value, part, path)
        except InputError:
            continue  # the next kind may take it; if none does, all are named below
    raise _wrong(value, " or ".join(_word(part) for part in rest), path)


def _tuple(value: Any, parts: tuple[Any, ...], path: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise _wrong(value, "a list", path)
    if parts[-1] is Ellipsis:
        parts = parts[:1] * len(value)
    if len(parts) != len(value):
        raise InputError(f"{path}: {value!r} has {len(value)} entries; it wants {len(parts)}")
    places = [f"{path}[{place}]" for place in range(len(value))]
    return tuple(strict(*entry) for entry in zip(value, parts, places, strict=True))


def _plain(value: Any, hint: Any, path: str) -> Any:
    if hint is Path and isinstance(value, str):
        return Path(value)
    if hint is float and type(value) is int:
        try:
            return float(value)
        except OverflowError as error:
            raise InputError(f"{path}: {value} is too large a number") from error
    if type(value) is not hint:
        raise _wrong(value, _word(hint), path)
    if hint is float and not math.isfinite(value):
        raise InputError(f"{path}: {value!r} must be finite")
    return value


def _known(name: str, known: Any, path: str, what: str) -> str:
    with naming(path):
        return check_known(name, known, what)


def _wrong(value: Any, wanted: str, path: str) -> InputError:
    hint = ""
    if isinstance(value, str) and wanted == _word(float):
        try:
            hint = f"; as a number: {float(value)!r}, which YAML wants with a point, as 1.0e-3"
        except ValueError:
            hint = ""
    return InputError(f"{path or 'document'}: {value!r} is {_word(type(value))}; it wants {wanted}{hint}")


def _word(kind: Any) -> str:
    words = {
        int: "a whole number",
        float: "a number",
        str: "text",
        Path: "a path",
        bool: "true or false",
        dict: "a table",
    }
    words |= {list: "a list", tuple: "a list", type(None): "nothing"}
    return words.get(kind, getattr(kind, "__name__", str(kind)))
