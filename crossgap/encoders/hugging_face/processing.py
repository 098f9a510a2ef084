"""Tokenizer and image processor of ``transformers`` in the shape of open_clip's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from crossgap.errors import InputError


class HuggingFaceTokenizer:
    """Tokenise as a processor does with ``padding="max_length", truncation=True``.

    Args:
        tokenizer: of ``transformers``.
        context_length: positions of the text tower.
        vocabulary: ids that the text tower embeds; a tokenizer of another model may write more.
    """

    def __init__(self, tokenizer: Any, context_length: int, vocabulary: int) -> None:
        self.tokenizer = tokenizer
        self.context_length = context_length
        self._vocabulary = vocabulary

    def __call__(self, texts: Sequence[str], context_length: int | None = None) -> Tensor:
        """Return int64 (B, ``context_length``).

        Raises:
            InputError: the tokenizer writes an id that the text tower does not embed.
        """
        rows = self.tokenizer(
            list(texts),
            padding="max_length",
            truncation=True,
            max_length=context_length or self.context_length,
        )
        ids_BL = torch.tensor(rows["input_ids"])
        highest = int(ids_BL.max())
        if highest >= self._vocabulary:
            raise InputError(
                f"the folder's tokenizer ({type(self.tokenizer).__name__}) writes the id {highest}, but its "
                f"text tower embeds ids below {self._vocabulary}; are they of one model?"
            )
        return ids_BL


class HuggingFaceTransform:
    """Turn an image into pixels (C, H, W) as the folder's image processor does.

    Args:
        processor: of ``transformers``.
    """

    def __init__(self, processor: Any) -> None:
        self.processor = processor

    def __call__(self, image: Image.Image) -> Tensor:
        return self.processor(images=image, return_tensors="pt")["pixel_values"][0]
