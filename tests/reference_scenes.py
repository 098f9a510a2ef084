"""Slow twins of the world of scenes: whole numbers in Python, pixels one by one, captions read back."""

from __future__ import annotations

import re
from typing import NamedTuple

from crossgap.datasets.scenes.names import HELD_OUT_DESIGNER, NAMES, SIDE
from crossgap.datasets.scenes.objects import SIZES, TURNS, designers_of, object_names, sprite
from crossgap.datasets.scenes.world import COLOURS, TINTS, Drawing, Scenes

_WORD = 2**64


def splitmix(state: int, count: int) -> list[int]:
    """Draw from SplitMix64 as its authors publish it, in numbers without end cut to 64 bits."""
    drawn = []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) % _WORD
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % _WORD
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % _WORD
        drawn.append(z ^ (z >> 31))
    return drawn


def painted(scenes: Scenes, number: int, *, held_out_designer: bool = False) -> list[list[list[int]]]:
    """Paint one scene pixel by pixel, [y][x][channel]."""
    colour = list(COLOURS.values())[int(scenes.colour_N[number])]
    tint = TINTS[int(scenes.tint_N[number])]
    ground = [min(255, max(0, round(channel * tint))) for channel in colour]
    picture = [[list(ground) for _ in range(SIDE)] for _ in range(SIDE)]
    for drawing in (scenes.first, scenes.second):
        of = Drawing(*(int(column[number]) for column in drawing))  # type: ignore[arg-type]
        if of.object_N < 0:
            continue
        name = object_names()[of.object_N]  # type: ignore[call-overload]
        designer = HELD_OUT_DESIGNER if held_out_designer else designers_of(name)[of.designer_N]  # type: ignore[call-overload]
        size, turn = SIZES[of.size_N], TURNS[of.turn_N]  # type: ignore[call-overload]
        cut = sprite(name, designer, size, turn)
        for y in range(size):
            for x in range(size):
                from_x = size - 1 - x if of.mirror_N else x
                if not (0 <= of.y_N + y < SIDE and 0 <= of.x_N + x < SIDE):  # type: ignore[operator]
                    continue
                clear = int(cut.clear_SS1[y, from_x, 0])
                for channel in range(3):
                    under = picture[of.y_N + y][of.x_N + x][channel]  # type: ignore[index, operator]
                    over = int(cut.colour_SS3[y, from_x, channel]) + (under * clear + 127) // 255
                    picture[of.y_N + y][of.x_N + x][channel] = over  # type: ignore[index, operator]
    return picture


class Read(NamedTuple):
    """What the words of a caption say; None for what they leave out. Places are (row, column)."""

    thing: str
    size: int | None
    colour: str | None
    place: tuple[int, int] | None
    second: str | None
    relation: str | None


_ROWS = {"top": 0, "upper": 0, "bottom": 2, "lower": 2}
_COLUMNS = {"left": 0, "right": 2}
_SIZES = {
    "small": 0, "little": 0, "tiny": 0, "medium-sized": 1, "mid-sized": 1, "average-sized": 1, "large": 2,
    "big": 2, "huge": 2,
}  # fmt: skip
_RELATIONS = {
    "to the left of": "left", "left of": "left", "with, to its right,": "left",
    "to the right of": "right", "right of": "right", "with, to its left,": "right",
    "above": "above", "over": "above", "with, below it,": "above",
    "below": "below", "under": "below", "with, above it,": "below",
}  # fmt: skip
_PLACE = (
    r"(?:in|at) the (?:(top|upper|bottom|lower) (left|right)(?: corner)?|centre|middle)"
    r"|(?:at|in|near) the (top|upper|bottom|lower)(?: part| edge)?"
    r"|(?:on|at) the (left|right)(?: edge| side)?"
)


def read_caption(caption: str) -> Read:
    """Read a caption back into what it says, by patterns of English and not by the tables that wrote it."""
    names = "|".join(sorted(NAMES, key=len, reverse=True))
    rest = caption
    second = relation = colour = place = None
    relations = "|".join(sorted(_RELATIONS, key=len, reverse=True))
    match = re.search(rf"({relations}) (?:a|an) ({names})\b", rest)
    if match:
        relation, second = _RELATIONS[match[1]], match[2]
        rest = rest.replace(match[0], " ")
    match = re.search(rf"(?:on|against)(?: an?)? ({'|'.join(COLOURS)})\b(?: ground)?", rest)
    if match:
        colour = match[1]
        rest = rest.replace(match[0], " ")
    match = re.search(_PLACE, rest)
    if match:
        row = _ROWS.get(match[1] or match[3], 1)
        place = (row, _COLUMNS.get(match[2] or match[4], 1))
        rest = rest.replace(match[0], " ")
    match = re.fullmatch(rf"\s*,?\s*(?:a|an) (?:({'|'.join(_SIZES)}) )?({names})\s*", rest)
    assert match, f"{caption!r} leaves {rest!r}"
    return Read(match[2], None if match[1] is None else _SIZES[match[1]], colour, place, second, relation)


def holds(read: Read, scenes: Scenes, number: int) -> bool:
    """Tell whether what was read is so in one scene, with either of its things as what is named."""
    if read.colour not in (None, list(COLOURS)[scenes.colour_N[number]]):
        return False
    pairs = ((scenes.first, scenes.second), (scenes.second, scenes.first))
    return any(_holds(read, thing, other, number) for thing, other in pairs)


def _holds(read: Read, thing: Drawing, other: Drawing, number: int) -> bool:
    if thing.object_N[number] < 0 or object_names()[thing.object_N[number]] != read.thing:
        return False
    row, column = divmod(int(thing.place_N[number]), 3)
    if read.size not in (None, thing.size_N[number]) or read.place not in (None, (row, column)):
        return False
    if read.second is None:
        return True
    if other.object_N[number] < 0 or object_names()[other.object_N[number]] != read.second:
        return False
    other_row, other_column = divmod(int(other.place_N[number]), 3)
    return {
        "left": column < other_column,
        "right": column > other_column,
        "above": row < other_row,
        "below": row > other_row,
    }[str(read.relation)]
