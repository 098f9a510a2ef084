"""The words in which a row says its inversion setting beyond tokens and steps. Imports no torch.

    learning rate 0.05, initial scale 0.2
    method lbfgs, template "a photo of {}, drawn", learning rate 0.02

Axes stand in the order of :data:`AXES`, so equal settings have equal words; '' is a plan without such axes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

from crossgap.errors import InputError

# Field of an inversion's settings -> its name in words.
AXES: dict[str, str] = {
    "method": "method",
    "template": "template",
    "learning_rate": "learning rate",
    "weight_decay": "weight decay",
    "init_std": "initial scale",
}
Value = str | float


def write_axes(values: Mapping[str, Value]) -> str:
    """Write the values of some axes as words; '' without any.

    Raises:
        InputError: an unknown axis, or a number that is not finite.
    """
    strange = [name for name in values if name not in AXES]
    if strange:
        raise InputError(f"{strange[0]!r} is no axis of an inversion; axes are {', '.join(AXES)}")
    return ", ".join(
        f"{word} {_written(name, values[name])}" for name, word in AXES.items() if name in values
    )


def read_axes(text: str) -> dict[str, Value]:
    """Read what :func:`write_axes` wrote: axis -> value, in the order of :data:`AXES`.

    Raises:
        InputError: other words, such as the strength of a map.
    """
    values: dict[str, Value] = {}
    rest = text
    while rest:
        name = next((name for name, word in AXES.items() if rest.startswith(f"{word} ")), None)
        if name is None:
            break
        value, rest = _leading(name, rest[len(AXES[name]) + 1 :])
        values[name] = value
    if rest or write_axes(values) != text:
        raise InputError(
            f"{text!r} names no inversion setting: wanted are words such as 'learning rate 0.05, initial "
            f"scale 0.2' with the axes {', '.join(AXES.values())} in this order"
        )
    return values


def _written(name: str, value: Value) -> str:
    if name == "method":
        return str(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if not math.isfinite(value):
        raise InputError(f"{AXES[name]} must be a finite number, not {value}")
    short = f"{value:g}"
    return short if float(short) == value else repr(float(value))


def _leading(name: str, text: str) -> tuple[Value, str]:
    """Split off the value that a text begins with, and the comma after it."""
    try:
        if name == "template":
            value, end = json.JSONDecoder().raw_decode(text)
            rest = text[end:].removeprefix(", ")
            return str(value), rest
        word, _, rest = text.partition(", ")
        return (word if name == "method" else float(word)), rest
    except ValueError as error:
        raise InputError(f"{AXES[name]} cannot be read from {text!r}") from error
