"""What a scene is made of: every factor of it, drawn from the world's seed, the split and the index alone."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np

from crossgap.datasets.scenes.draws import key_of, uniforms
from crossgap.datasets.scenes.names import HELD_OUT_DESIGNER, MOST_OBJECTS, SIDE, UNSEEN
from crossgap.datasets.scenes.objects import SIZES, TURNS, designers_of, object_names
from crossgap.datasets.scenes.options import SPLITS, SceneOptions
from crossgap.errors import check_known

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 48, 49), "orange": (240, 140, 40), "yellow": (245, 214, 66), "green": (64, 160, 76),
    "blue": (52, 104, 200), "purple": (130, 70, 170), "pink": (246, 158, 190), "brown": (124, 82, 48),
    "grey": (140, 142, 146), "black": (34, 34, 40),
}  # fmt: skip
TINTS = (0.86, 1.0, 1.14)  # how bright a ground is: a factor that no caption names
SIZE_NAMES = ("small", "medium", "large")
PLACES = (
    "top left", "top", "top right", "left", "centre", "right", "bottom left", "bottom", "bottom right",
)  # fmt: skip
RELATIONS = ("left of", "right of", "above", "below")

_JITTER = 2  # pixels that a drawing lies off the middle of its place, at most
# columns of a scene's random numbers
_OBJECT, _DESIGNER, _COLOUR, _TINT, _SIZE, _PLACE, _TURN, _MIRROR, _JITTER_Y, _JITTER_X = range(10)
_HAS_SECOND, _SECOND, _SECOND_DESIGNER, _SECOND_CELL, _SECOND_TURN, _SECOND_MIRROR = range(10, 16)
_SECOND_Y, _SECOND_X, _COUNT = range(16, 19)


class Drawing(NamedTuple):
    """One drawing of each of N scenes: indices of object, designer, size, place (3 x 3), turn; pixels y, x.

    ``object_N`` is -1 where a scene has no such drawing. ``designer_N`` counts the designers of that object.
    """

    object_N: np.ndarray
    designer_N: np.ndarray
    size_N: np.ndarray
    place_N: np.ndarray
    turn_N: np.ndarray
    mirror_N: np.ndarray
    y_N: np.ndarray
    x_N: np.ndarray


class Scenes(NamedTuple):
    """N scenes by their factors: the thing that each is of, a second thing in some, and the ground."""

    index_N: np.ndarray
    first: Drawing
    second: Drawing
    colour_N: np.ndarray
    tint_N: np.ndarray

    def __len__(self) -> int:
        return len(self.index_N)


# what scenes vary in, of the first thing and the ground -> whether captions may name it
FACTORS = {
    "object": True, "colour": True, "size": True, "place": True, "designer": False, "turn": False,
    "mirror": False, "tint": False,
}  # fmt: skip


def factor_values(scenes: Scenes, split: str) -> dict[str, list[str]]:
    """Name the value of each of :data:`FACTORS` for each scene."""
    first = scenes.first
    names = object_names()
    designers = (
        [HELD_OUT_DESIGNER] * len(scenes)
        if split == "test-designer"
        else [
            designers_of(names[thing])[designer]
            for thing, designer in zip(first.object_N, first.designer_N, strict=True)
        ]
    )
    columns = {
        "object": (names, first.object_N),
        "colour": (tuple(COLOURS), scenes.colour_N),
        "size": (SIZE_NAMES, first.size_N),
        "place": (PLACES, first.place_N),
        "turn": (tuple(f"{turn} degrees" for turn in TURNS), first.turn_N),
        "mirror": (("as drawn", "mirrored"), first.mirror_N),
        "tint": (("dark", "plain", "bright"), scenes.tint_N),
    }
    values = {name: [words[place] for place in places_N] for name, (words, places_N) in columns.items()}
    values["designer"] = designers
    return {name: values[name] for name in FACTORS}


def draw_scenes(options: SceneOptions, split: str, index_N: np.ndarray) -> Scenes:
    """Draw scenes: a pure function of the world's seed, the split and the index.

    Options about captions change no scene. Outside training objects take turns, so that each has as many
    scenes as the others.

    Raises:
        InputError: an unknown split.
    """
    check_known(split, SPLITS, "split of scenes")
    draws_NC = uniforms(key_of("scene", options.world, split), index_N, _COUNT)

    def pick(column: int, count: int | np.ndarray) -> np.ndarray:
        return (draws_NC[:, column] * count).astype(np.int64)

    if split == "test-objects":
        object_N = options.objects + index_N % UNSEEN
    elif split in ("train", "fit"):
        object_N = pick(_OBJECT, options.objects)
    else:
        object_N = index_N % options.objects
    colour_N = _colours(options, split, object_N, draws_NC[:, _COLOUR])
    first = _placed(
        Drawing(
            object_N=object_N,
            designer_N=pick(_DESIGNER, _designer_counts()[object_N]),
            size_N=pick(_SIZE, len(SIZES)),
            place_N=pick(_PLACE, len(PLACES)),
            turn_N=pick(_TURN, len(TURNS)),
            mirror_N=pick(_MIRROR, 2),
            y_N=pick(_JITTER_Y, 2 * _JITTER + 1),
            x_N=pick(_JITTER_X, 2 * _JITTER + 1),
        )
    )
    other_N = pick(_SECOND, options.objects - 1)
    other_N += other_N >= object_N  # another thing than the first, of those that training shows
    has_N = draws_NC[:, _HAS_SECOND] < options.second
    second = _placed(
        Drawing(
            object_N=np.where(has_N, other_N, -1),
            designer_N=pick(_SECOND_DESIGNER, _designer_counts()[other_N]),
            size_N=np.zeros_like(other_N),
            place_N=_far_places(first.place_N, draws_NC[:, _SECOND_CELL]),
            turn_N=pick(_SECOND_TURN, len(TURNS)),
            mirror_N=pick(_SECOND_MIRROR, 2),
            y_N=pick(_SECOND_Y, 2 * _JITTER + 1),
            x_N=pick(_SECOND_X, 2 * _JITTER + 1),
        )
    )
    return Scenes(index_N, first, second, colour_N, pick(_TINT, len(TINTS)))


def relations_hold(place_N: np.ndarray, other_N: np.ndarray) -> np.ndarray:
    """Tell which of :data:`RELATIONS` a thing at one place has to a thing at another, bool (N, 4)."""
    rows_N, columns_N = _apart(place_N, other_N)
    return np.stack([columns_N < 0, columns_N > 0, rows_N < 0, rows_N > 0], axis=1)


def relation_of(place_N: np.ndarray, other_N: np.ndarray) -> np.ndarray:
    """Choose the relation that a caption states, an index of :data:`RELATIONS`: across where it can be."""
    return relations_hold(place_N, other_N).argmax(axis=1)


@cache
def held_out_colours(options: SceneOptions) -> np.ndarray:
    """Return of each object the colour that it never has but in the split of held-out pairs."""
    things = np.arange(MOST_OBJECTS)
    return (uniforms(key_of("pairs", options.world), things, 1)[:, 0] * len(COLOURS)).astype(np.int64)


def _colours(options: SceneOptions, split: str, object_N: np.ndarray, draw_N: np.ndarray) -> np.ndarray:
    never_N = held_out_colours(options)[object_N]
    if split == "test-pairs":
        return never_N
    if split == "test-objects":  # nothing of theirs was seen, so nothing is left out
        return (draw_N * len(COLOURS)).astype(np.int64)
    colour_N = (draw_N * (len(COLOURS) - 1)).astype(np.int64)
    return colour_N + (colour_N >= never_N)


@cache
def _designer_counts() -> np.ndarray:
    return np.array([len(designers_of(name)) for name in object_names()])


def _placed(drawing: Drawing) -> Drawing:
    """Turn places and jitters into the pixels of the upper left corner.

    A cut-out may stand out of the scene by the room around its drawing, so that the drawing reaches the edge.
    """
    size_N = np.array(SIZES)[drawing.size_N]
    beyond_N = size_N // 10
    room_N = SIDE - size_N + 2 * beyond_N
    row_N, column_N = divmod(drawing.place_N, 3)
    y_N, x_N = (
        np.clip(line_N * room_N // 2 + jitter_N - _JITTER, 0, room_N) - beyond_N
        for line_N, jitter_N in ((row_N, drawing.y_N), (column_N, drawing.x_N))
    )
    return drawing._replace(y_N=y_N, x_N=x_N)


def _apart(place_N: np.ndarray, other_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return place_N // 3 - other_N // 3, place_N % 3 - other_N % 3


def _far_places(place_N: np.ndarray, draw_N: np.ndarray) -> np.ndarray:
    """Choose a place two rows or columns away, beside the centre one: things hardly cover each other."""
    counts, choices = _far_choices()
    return choices[place_N, (draw_N * counts[place_N]).astype(np.int64)]


@cache
def _far_choices() -> tuple[np.ndarray, np.ndarray]:
    """List the farthest places from each place, (9, 9), of which so many count, (9,)."""
    cells = np.arange(len(PLACES))
    rows, columns = _apart(cells[:, None], cells[None, :])
    distance = np.maximum(abs(rows), abs(columns))
    far = [np.flatnonzero(distance[cell] == distance[cell].max()) for cell in cells]
    return np.array([len(places) for places in far]), np.array([np.resize(p, len(PLACES)) for p in far])
