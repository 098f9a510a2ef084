"""Captions as token ids: CLIP's tokenizer, or the one of the model that is trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from open_clip import SimpleTokenizer
from torch import Tensor

from crossgap.encoders.long_words import remember_long_words
from crossgap.encoders.prompts import read_frame
from crossgap.errors import InputError


class Edges(NamedTuple):
    """How many tokens stand before and behind the words of a text, and the id that fills a row up."""

    start: int = 1
    end: int = 1
    padding: int = 0


CLIPS_EDGES = Edges()


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """What makes captions token ids.

    ``vocabulary`` is the number of ids that the text tower knows, where it takes ids as they are; None where
    those that occur are numbered and the rest of its table is left alone (CLIP's tokenizer and the packed
    pass). ``tokenizer`` is (texts, context_length=n) -> int64 (B, n), padding on the right.
    """

    tokenizer: Callable[..., Tensor]
    context_length: int
    edges: Edges = CLIPS_EDGES
    vocabulary: int | None = None

    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Tokenise texts: ids (B, L), and how many of a row count, the end-of-text token included.

        Raises:
            InputError: an id that the text tower does not know.
        """
        remember_long_words(self.tokenizer, texts)
        ids_BL = self.tokenizer(list(texts), context_length=self.context_length)
        if self.vocabulary is None:
            return ids_BL, ids_BL.argmax(1) + 1  # the end-of-text token has the highest id
        if int(ids_BL.max()) >= self.vocabulary:
            raise InputError(
                f"the tokenizer gives the id {int(ids_BL.max())}, but the text tower knows {self.vocabulary} "
                "(vocab_size): they do not belong together"
            )
        counted_BL = (ids_BL != self.edges.padding) * torch.arange(1, ids_BL.shape[1] + 1)
        return ids_BL, counted_BL.max(dim=1).values


def clip_tokens(context_length: int) -> Tokens:
    """Give CLIP's tokenizer, for the packed pass."""
    return Tokens(tokenizer=SimpleTokenizer(context_length=context_length), context_length=context_length)


def tokens_of(tokenizer: Any, context_length: int, vocabulary: int) -> Tokens:
    """Give the tokenizer of a model that runs its own forward pass.

    Raises:
        InputError: it does not pad on the right, or writes something behind the padding.
    """
    frame = read_frame(tokenizer, context_length, lambda _ids_BL: None)
    if frame.after:
        raise InputError(
            f"tokenizer {type(tokenizer).__name__} writes a token behind the padding, which is not trained "
            "here; take a model with another one"
        )
    edges = Edges(len(frame.start), len(frame.end), frame.padding)
    return Tokens(tokenizer=tokenizer, context_length=context_length, edges=edges, vocabulary=vocabulary)
