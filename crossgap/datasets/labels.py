"""What a class is called, whatever kind of value names it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from numbers import Integral, Real

_WHOLE = re.compile(r"-?\d+\.0+")


def label_text(value: object, *, numbered: bool) -> str | None:
    """Return a class as text, "" for none; None where the value does not name one class.

    None and NaN are none; where classes are ``numbered`` from 0, so is -1.
    """
    if value is None:
        return ""
    if isinstance(value, str):
        text = value.strip()
    elif isinstance(value, Integral):  # bool among them
        text = str(value)
    elif isinstance(value, Real):
        number = float(value)
        if math.isnan(number):
            return ""
        text = str(int(number)) if number.is_integer() else str(number)
    else:
        return None
    return "" if numbered and text == "-1" else text


def whole_numbers(texts: Sequence[str]) -> list[str]:
    """Write 1.0, 2.0 as 1, 2 where all texts are such: integers with a gap, as pandas stores them."""
    filled = [text for text in texts if text]
    if filled and all(_WHOLE.fullmatch(text) for text in filled):
        return [text.partition(".")[0] for text in texts]
    return list(texts)
