"""Read what users write: TOML and YAML files, and single values on a command line."""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from crossgap.errors import InputError, check_known, naming


def read_document(path: Path, what: str) -> Any:
    """Read a file by its ending.

    Args:
        what: it is, for errors, as ``study file``.

    Raises:
        InputError: no such file, another ending, or not what its ending says; the message names it.
    """
    check_known(path.suffix, READERS, f"ending of the {what} {str(path)!r}:")
    if not path.is_file():
        raise InputError(f"{what} {str(path)!r} does not exist")
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is no UTF-8 text: {error}") from error
    with naming(str(path)):
        return READERS[path.suffix](text)


def write_yaml(document: dict[str, Any]) -> str:
    """Write a document that :func:`read_document` reads as the same values."""
    text: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, default_flow_style=None)
    return text


def read_value(text: str) -> Any:
    """Read a value as TOML has it, ``null`` as None; what is no value of TOML is text.

    So ``0.5``, ``[1, 2]`` and ``true`` are what they look like, and ``bf16`` or ``a photo of {}`` need no
    quotes.
    """
    if text in ("null", "none"):
        return None
    try:
        document = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return document["value"] if list(document) == ["value"] else text


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which would take the last of two equal keys without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [(key.value, key.start_mark.line + 1) for key, _ in node.value]
        for (first, _), (again, line) in itertools.combinations(keys, 2):
            if first == again and isinstance(first, str):
                raise InputError(f"line {line}: key {first!r} is there twice")
        mapping: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return mapping


def _from_yaml(text: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe loader, see above
    except yaml.YAMLError as error:
        raise InputError(f"is no YAML: {error}") from error


def _from_toml(text: str) -> Any:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"is no TOML: {error}") from error


READERS: dict[str, Callable[[str], Any]] = {".toml": _from_toml, ".yaml": _from_yaml, ".yml": _from_yaml}
