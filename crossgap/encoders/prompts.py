"""Prompts with room for pseudo-tokens, for any tokenizer that pads on the right.

Nothing is assumed about a tokenizer but what its own output shows. What it puts around a text (start, end,
padding, a class token after the padding) is read from the empty text and from single words; where the
placeholder stands, from two sentences that differ in one word.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from crossgap.errors import InputError

# pairs of short words that share no letter: pieces of them are not taken for the sentence around them
_WORD_PAIRS = (("cat", "fish"), ("dog", "tree"), ("bus", "line"), ("x", "o"))
_ROOM = 64  # positions beyond the context, so that a sentence that exactly fits is told from one cut short


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A tokenised template with room for pseudo-tokens.

    tokens_L holds the ids at full context length, ``positions`` where the pseudo-tokens go, ``length`` how
    many positions count up to and including end-of-text (up to the padding, where a tokenizer writes none).
    """

    tokens_L: Tensor
    positions: Tensor
    length: int


class Frame(NamedTuple):
    """What a tokenizer puts around a text: start, TEXT, end, padding, after (a class token, or nothing).

    ``closed``: the padding's id is also that of the end, and the tower pools the first of them: it belongs to
    the text (CLIP's tokenizer in ``transformers``).
    """

    start: tuple[int, ...]
    end: tuple[int, ...]
    padding: int
    after: tuple[int, ...]
    closed: bool

    def inner(self, ids: list[int]) -> list[int]:
        """Return a row without its padding and what follows it."""
        ids = ids[: len(ids) - len(self.after)]
        length = len(ids)
        while length and ids[length - 1] == self.padding:
            length -= 1
        return ids[: length + 1] if self.closed else ids[:length]

    def wraps(self, inner: list[int]) -> bool:
        """Tell whether a row without padding begins and ends as this frame says."""
        room = len(inner) - len(self.start) - len(self.end)
        ends_so = tuple(inner[len(inner) - len(self.end) :]) == self.end
        return room >= 0 and ends_so and tuple(inner[: len(self.start)]) == self.start


class Template(NamedTuple):
    """The ids of a template: before its placeholder (with the start), a filler, behind (with the end).

    ``filler`` is the id of an ordinary word: no tower masks it or pools at it.
    """

    before: list[int]
    filler: int
    behind: list[int]


def read_frame(
    tokenizer: Callable[..., Tensor], context_length: int, pooled: Callable[[Tensor], Tensor | None]
) -> Frame:
    """Read from a tokenizer's output what it puts around a text.

    Args:
        tokenizer: (texts, context_length=n) -> int64 (B, n), as open_clip's.
        pooled: (B, L) -> the position that the tower pools of each row; None where ids do not tell.

    Raises:
        InputError: it does not pad on the right, or words do not stand where the empty text has nothing.
    """
    long = context_length + _ROOM
    empty, *rows = tokenizer(
        ["", *(word for pair in _WORD_PAIRS for word in pair)], context_length=long
    ).tolist()
    if empty[-1] == empty[-2] == empty[-3]:
        padding, after = empty[-1], empty[:0]
    elif empty[-2] == empty[-3] == empty[-4]:
        padding, after = empty[-2], empty[-1:]
    else:
        raise _not_understood(tokenizer, f"the empty text ends in {empty[-4:]}, which is not padding")
    pooled_1 = pooled(torch.tensor([empty]))
    closed = pooled_1 is not None and empty[int(pooled_1)] == padding
    bare = Frame((), (), padding, tuple(after), closed)
    around = bare.inner(empty)
    inners = [bare.inner(row) for row in rows]
    shared = min(_common_prefix(around, inner) for inner in inners)
    frame = bare._replace(start=tuple(around[:shared]), end=tuple(around[shared:]))
    for row, inner in zip(rows, inners, strict=True):
        has_room = len(inner) + len(after) < long
        if not frame.wraps(inner) or not has_room or len(inner) == len(around) or row[0] == padding:
            raise _not_understood(tokenizer, f"the empty text becomes {around}, a word becomes {inner[:8]}")
    return frame


def read_template(
    tokenizer: Callable[..., Tensor], frame: Frame, template: str, *, context_length: int, special: set[int]
) -> Template:
    """Find where the placeholder ``{}`` of a template stands among its tokens.

    The sentence is tokenised whole, as the tower will see such sentences, with a word for the placeholder; a
    letter or digit that touches the placeholder is set apart by a space.

    Args:
        special: ids that the tower treats by their value, which may not fill the placeholder.

    Raises:
        InputError: not exactly one ``{}``, or the tokenizer joins it with its neighbours.
    """
    if template.count("{}") != 1:
        raise InputError(f"template {template!r} must contain {{}} exactly once, as in 'a photo of {{}}'")
    left, right = template.split("{}")
    left, right = left + " " * left[-1:].isalnum(), " " * right[:1].isalnum() + right

    def ids(text: str) -> list[int]:
        inner = frame.inner(tokenizer([text], context_length=context_length + _ROOM)[0].tolist())
        # a row is full one position earlier where the end is written with the padding's id
        if len(inner) + len(frame.after) >= context_length + _ROOM - 1:
            raise InputError(
                f"template {template!r} takes more than the {context_length} positions of the text tower"
            )
        return inner

    start, end = len(frame.start), len(frame.end)
    # Gemma's tokenizer writes a space that nothing follows as a token of its own
    openings = [(opening := ids(written))[: len(opening) - end] for written in (left, left.rstrip())]
    forbidden = {frame.padding, *frame.start, *frame.end, *frame.after, *special}
    for word, other in _WORD_PAIRS:
        sentence, twin = ids(left + word + right), ids(left + other + right)
        shared_left = _common_prefix(sentence, twin)
        shared_right = _common_prefix(sentence[shared_left:][::-1], twin[shared_left:][::-1])
        behind = len(sentence) - shared_right
        as_expected = (
            frame.wraps(sentence)
            and sentence[:shared_left] in openings
            and shared_left >= start
            and shared_right >= end
            and behind > shared_left
            and len(twin) - shared_right > shared_left
            and ids(left + word) == [*sentence[:behind], *frame.end]
        )
        if as_expected and sentence[shared_left] not in forbidden:
            return Template(sentence[:shared_left], sentence[shared_left], sentence[behind:])
    raise InputError(
        f"template {template!r}: the tokenizer ({type(tokenizer).__name__}) joins the placeholder with what "
        "stands beside it, or knows no word to put there, so no position belongs to it alone; set {} apart "
        "with spaces"
    )


def compose(template: Template, frame: Frame, *, num_tokens: int, context_length: int, text: str) -> Prompt:
    """Put ``num_tokens`` placeholders into a template, and pad it as its tokenizer does.

    Raises:
        InputError: the prompt exceeds the context length.
    """
    ids = [*template.before, *([template.filler] * num_tokens), *template.behind]
    room = context_length - len(frame.after)
    if len(ids) > room:
        raise InputError(
            f"template {text!r} with {num_tokens} pseudo-tokens takes {len(ids) + len(frame.after)} "
            f"positions, the text tower has {context_length}; use fewer tokens or a shorter template"
        )
    first = len(template.before)
    return Prompt(
        tokens_L=torch.tensor([*ids, *([frame.padding] * (room - len(ids))), *frame.after]),
        positions=torch.arange(first, first + num_tokens),
        length=len(ids),
    )


def _common_prefix(first: list[int], second: list[int]) -> int:
    for place, (a, b) in enumerate(zip(first, second, strict=False)):
        if a != b:
            return place
    return min(len(first), len(second))


def _not_understood(tokenizer: Any, seen: str) -> InputError:
    return InputError(
        f"the tokenizer ({type(tokenizer).__name__}) writes texts in a way that is not understood: {seen}. "
        "Known are start, text, end, padding on the right, and one token after the padding"
    )
