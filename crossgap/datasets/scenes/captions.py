"""What is said of scenes, in words drawn from a small grammar, and of which scenes it is true."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from crossgap.datasets.scenes.draws import key_of, uniforms
from crossgap.datasets.scenes.objects import object_names
from crossgap.datasets.scenes.options import MENTIONED, SceneOptions
from crossgap.datasets.scenes.world import (
    COLOURS,
    PLACES,
    RELATIONS,
    SIZE_NAMES,
    Drawing,
    Scenes,
    relation_of,
    relations_hold,
)

_SIZE_WORDS = {
    "small": ("small", "little", "tiny"),
    "medium": ("medium-sized", "mid-sized", "average-sized"),
    "large": ("large", "big", "huge"),
}
_PLACE_WORDS = {
    "top left": ("in the top left", "at the upper left", "in the upper left corner"),
    "top": ("at the top", "in the upper part", "near the top edge"),
    "top right": ("in the top right", "at the upper right", "in the upper right corner"),
    "left": ("on the left", "at the left edge", "on the left side"),
    "centre": ("in the centre", "in the middle", "at the centre"),
    "right": ("on the right", "at the right edge", "on the right side"),
    "bottom left": ("in the bottom left", "at the lower left", "in the lower left corner"),
    "bottom": ("at the bottom", "in the lower part", "near the bottom edge"),
    "bottom right": ("in the bottom right", "at the lower right", "in the lower right corner"),
}
_RELATION_WORDS = {
    "left of": ("to the left of", "left of", "with, to its right,"),
    "right of": ("to the right of", "right of", "with, to its left,"),
    "above": ("above", "over", "with, below it,"),
    "below": ("below", "under", "with, above it,"),
}
_GROUND_WORDS = ("on {}", "on {article} {} ground", "against {}")
# of place, second thing and ground: the place stands before the second thing, lest it be taken for its own
_ORDERS = ((0, 1, 2), (0, 2, 1), (2, 0, 1))
_AHEAD = 0.3  # of captions begin with a phrase that otherwise follows

# columns of a caption's random numbers
_MENTION, _WRONG, _INSTEAD = slice(0, 4), slice(4, 9), slice(9, 14)
_SIZE_WORD, _PLACE_WORD, _RELATION_WORD, _GROUND_WORD, _ORDER, _FRONT, _COUNT = range(14, 21)


class Said(NamedTuple):
    """What each of N captions states: indices of values, -1 for what it leaves out.

    ``second_N`` is the other thing, to which the first stands in ``relation_N``.
    """

    object_N: np.ndarray
    size_N: np.ndarray
    colour_N: np.ndarray
    place_N: np.ndarray
    second_N: np.ndarray
    relation_N: np.ndarray

    def __len__(self) -> int:
        return len(self.object_N)


class SceneCaptions(NamedTuple):
    """N captions: what they state and the words."""

    said: Said
    words: list[str]


def caption_scenes(options: SceneOptions, split: str, scenes: Scenes, number: int) -> SceneCaptions:
    """Caption scenes: a pure function of the world's seed, the split, the scene and the caption's number.

    Each factor is named with its probability, whatever the others are; wording and order are drawn without
    regard to what is said. Training captions alone are noisy.
    """
    draws_NC = uniforms(key_of("caption", options.world, split, number), scenes.index_N, _COUNT)
    mentioned_N4 = draws_NC[:, _MENTION] < [options.mentions(factor) for factor in MENTIONED]
    first, second_N = scenes.first, scenes.second.object_N
    true_N5 = np.stack([first.object_N, first.size_N, scenes.colour_N, first.place_N, second_N], axis=1)
    if split == "train" and options.caption_noise:
        wrong_N5 = (draws_NC[:, _WRONG] < options.caption_noise) & (true_N5 >= 0)
        sizes_5 = np.array(
            [options.objects, len(SIZE_NAMES), len(COLOURS), len(PLACES), options.objects], dtype=np.int64
        )
        other_N5 = (draws_NC[:, _INSTEAD] * (sizes_5 - 1)).astype(np.int64)
        true_N5 = np.where(wrong_N5, other_N5 + (other_N5 >= true_N5), true_N5)
    object_N, size_N, colour_N, place_N, second_N = true_N5.T
    says_second_N = mentioned_N4[:, 3] & (second_N >= 0)
    said = Said(
        object_N=object_N,
        size_N=np.where(mentioned_N4[:, 0], size_N, -1),
        colour_N=np.where(mentioned_N4[:, 1], colour_N, -1),
        place_N=np.where(mentioned_N4[:, 2], place_N, -1),
        second_N=np.where(says_second_N, second_N, -1),
        relation_N=np.where(says_second_N, relation_of(first.place_N, scenes.second.place_N), -1),
    )
    return SceneCaptions(said, _worded(said, draws_NC))


def true_of(said: Said, scenes: Scenes) -> np.ndarray:
    """Tell of which scenes each caption is true, bool (M captions, N scenes).

    A caption is true of a scene if one of its things is what the caption names, with the size and at the
    place that it states, the ground has the stated colour, and the other thing is the stated one in the
    stated relation. What a caption leaves out may be anything.
    """
    first, second = scenes.first, scenes.second
    true_MN = _holds(said, first, second) | _holds(said, second, first)
    return true_MN & _stated(said.colour_N, scenes.colour_N)


def grammar_words() -> list[str]:
    """List every word that a caption can hold, for any number of objects."""
    phrases = [*object_names(), *COLOURS, "a an ,", *(form.format("", article="") for form in _GROUND_WORDS)]
    for words in (_SIZE_WORDS, _PLACE_WORDS, _RELATION_WORDS):
        phrases += [phrase for forms in words.values() for phrase in forms]
    return sorted({word for phrase in phrases for word in phrase.replace(",", " , ").split()})


def phrases_of(factor: str) -> dict[str, tuple[str, ...]]:
    """List the phrases that captions have for each value of a factor: "colour" (of the ground) or "place"."""
    if factor == "place":
        return dict(_PLACE_WORDS)
    assert factor == "colour", "of these captions speak in phrases of their own"
    return {name: tuple(_ground(name, form) for form in range(len(_GROUND_WORDS))) for name in COLOURS}


def with_article(noun: str) -> str:
    """Put "a" or "an" before a noun phrase."""
    return f"{_article(noun)} {noun}"


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" and not word.startswith("uni") else "a"


def _ground(colour: str, form: int) -> str:
    return _GROUND_WORDS[form].format(colour, article=_article(colour))


def _holds(said: Said, subject: Drawing, other: Drawing) -> np.ndarray:
    """Tell whether captions hold of scenes with one of the two things as what they name first."""
    true_MN = said.object_N[:, None] == subject.object_N[None, :]
    true_MN &= _stated(said.size_N, subject.size_N) & _stated(said.place_N, subject.place_N)
    true_MN &= _stated(said.second_N, other.object_N)
    related_NR = relations_hold(subject.place_N, other.place_N)
    return true_MN & ((said.relation_N < 0)[:, None] | related_NR.T[said.relation_N])


def _stated(value_M: np.ndarray, true_N: np.ndarray) -> np.ndarray:
    return (value_M < 0)[:, None] | (value_M[:, None] == true_N[None, :])


def _worded(said: Said, draws_NC: np.ndarray) -> list[str]:
    forms_N4 = (draws_NC[:, _SIZE_WORD : _GROUND_WORD + 1] * 3).astype(np.int64).tolist()
    orders = (draws_NC[:, _ORDER] * len(_ORDERS)).astype(np.int64).tolist()
    fronts = (draws_NC[:, _FRONT] < _AHEAD).tolist()
    columns = zip(*(column.tolist() for column in said), strict=True)
    return [
        _sentence(values, forms, _ORDERS[order], front)
        for values, forms, order, front in zip(columns, forms_N4, orders, fronts, strict=True)
    ]


def _sentence(values: Sequence[int], forms: Sequence[int], order: tuple[int, ...], front: bool) -> str:
    """Put the words of one caption together: ``values`` as in :class:`Said`, ``forms`` the wordings."""
    thing, size, colour, place, second, relation = values
    size_word, place_word, relation_word, ground_word = forms
    names = object_names()
    noun = names[thing] if size < 0 else f"{_SIZE_WORDS[SIZE_NAMES[size]][size_word]} {names[thing]}"
    related = "" if second < 0 else _RELATION_WORDS[RELATIONS[relation]][relation_word]
    phrases = (
        "" if place < 0 else _PLACE_WORDS[PLACES[place]][place_word],
        "" if second < 0 else f"{related} {with_article(names[second])}",
        "" if colour < 0 else _ground(_COLOUR_NAMES[colour], ground_word),
    )
    told = [phrases[part] for part in order if phrases[part]]
    if front and told and not told[0].startswith("with"):
        return f"{told[0]}, {' '.join([with_article(noun), *told[1:]])}"
    return " ".join([with_article(noun), *told])


_COLOUR_NAMES = tuple(COLOURS)
