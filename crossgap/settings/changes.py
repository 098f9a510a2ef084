"""Change single settings of a configuration, named by their paths: in files, on command lines, along axes."""

from __future__ import annotations

import dataclasses
import json
import types
from collections.abc import Mapping
from typing import Any, TypeVar, Union, get_args, get_origin

from crossgap.errors import InputError, check_known, naming
from crossgap.settings.strict import hints_of, strict

Config = TypeVar("Config")
# Of a field that maps names to strengths, in its metadata: an entry of 0 is left out.
ZERO_IS_ABSENT = "zero_is_absent"


def changed(config: Config, settings: Mapping[str, Any], *, where: str = "") -> Config:
    """Return a dataclass with some settings changed: a pure function.

    A setting is named by its path, as ``objective.temperature.initial``; an entry of a mapping, as
    ``objective.weights.siglip``, joins the others, or with the value None leaves them.

    Args:
        where: the settings come from, which errors put before a setting's name.

    Raises:
        InputError: a name that is no setting, a value of another kind, or one that the config refuses.
    """
    return _changed(config, nested(settings), where)


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Write dotted names as nested tables.

    Raises:
        InputError: one setting is a part of another.
    """
    tree: dict[str, Any] = {}
    for name, value in settings.items():
        *folders, last = name.split(".")
        place = tree
        for folder in folders:
            place = place.setdefault(folder, {})
            if not isinstance(place, dict):
                raise InputError(f"settings {list(settings)}: {name!r} is a part of another of them")
        if last in place:
            raise InputError(f"settings {list(settings)}: {name!r} holds another of them")
        place[last] = value
    return tree


def dotted(table: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Write nested tables as dotted names."""
    settings: dict[str, Any] = {}
    for name, value in table.items():
        full = f"{before}{name}"
        settings |= dotted(value, f"{full}.") if isinstance(value, Mapping) and value else {full: value}
    return settings


def overlaid(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Put settings over others: a later one replaces an earlier one and what was said of its parts."""
    settings: dict[str, Any] = {}
    for layer in layers:
        for name, value in layer.items():
            parts = [other for other in settings if other.startswith(f"{name}.")]
            nothing = [
                other for other, old in settings.items() if old is None and name.startswith(f"{other}.")
            ]
            for other in (*parts, *nothing):
                del settings[other]
            settings[name] = value
    return settings


def as_table(config: Any, base: Any) -> dict[str, Any]:
    """Write a config as the plain table that makes it of ``base``, a config of the same kind.

    Every field is there. An entry that a mapping of ``base`` has and that of ``config`` does not is None.
    """
    values: dict[str, Any] = {}
    for part in dataclasses.fields(config):
        own, theirs = getattr(config, part.name), getattr(base, part.name, None)
        if dataclasses.is_dataclass(own):
            values[part.name] = as_table(own, theirs)
        elif isinstance(own, Mapping):
            gone = dict.fromkeys(name for name in theirs or {} if name not in own)
            values[part.name] = {name: _plain(entry) for name, entry in own.items()} | gone
        else:
            values[part.name] = _plain(own)
    return values


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    return json.loads(json.dumps(value, default=str))


def _changed(value: Any, tree: Mapping[str, Any], path: str) -> Any:
    hints = hints_of(type(value))
    parts = {part.name: part for part in dataclasses.fields(value)}
    changes: dict[str, Any] = {}
    for name, entry in tree.items():
        full = f"{path}.{name}" if path else name
        with naming(full if path else ""):
            check_known(name, hints, "setting")
        old = getattr(value, name)
        if entry is None and _may_be_none(hints[name]):
            changes[name] = None
        elif isinstance(entry, Mapping) and dataclasses.is_dataclass(old):
            changes[name] = _changed(old, entry, full)
        elif isinstance(entry, Mapping) and isinstance(old, Mapping):
            changes[name] = _merged(old, entry, get_args(hints[name])[1], full)
            if parts[name].metadata.get(ZERO_IS_ABSENT):
                changes[name] = {key: strength for key, strength in changes[name].items() if strength != 0}
        elif dataclasses.is_dataclass(old) or isinstance(old, Mapping):
            raise InputError(f"{full}: {entry!r}: name one of its parts, not the whole")
        else:
            changes[name] = strict(entry, hints[name], full)
    with naming(path):
        return dataclasses.replace(value, **changes)


def _may_be_none(hint: Any) -> bool:
    return get_origin(hint) in (Union, types.UnionType) and type(None) in get_args(hint)


def _merged(old: Mapping[str, Any], tree: Mapping[str, Any], hint: Any, path: str) -> dict[str, Any]:
    """Return a mapping with some entries changed; an entry that is new starts from its defaults."""
    merged = dict(old)
    for name, entry in tree.items():
        full = f"{path}.{name}"
        if entry is None:
            merged.pop(name, None)
        elif isinstance(entry, Mapping) and name in old and dataclasses.is_dataclass(old[name]):
            merged[name] = _changed(old[name], entry, full)
        else:
            merged[name] = strict(entry, hint, full)
    return merged
