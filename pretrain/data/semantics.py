"""How alike captions are in meaning: vectors from a file, or from the words they share."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from torch import Tensor

from crossgap.datasets.readers.feature_files import read_features
from crossgap.errors import InputError
from crossgap.metrics.similarity import unit_rows
from pretrain.data.pairs import TrainingPairs

DIMENSIONS = 128  # of vectors made from words


def with_semantics(pairs: TrainingPairs, file: str | None) -> TrainingPairs:
    """Give pairs the vectors of their captions; those of a file become part of what the data are."""
    digest = pairs.digest
    if file is not None:
        vectors = Path(file)
        if not vectors.exists():
            raise InputError(f"semantics {file}: no such file")
        digest = hashlib.sha256(digest.encode() + vectors.read_bytes()).hexdigest()
    return replace(pairs, semantic_MS=caption_vectors(pairs.captions_M, file), digest=digest)


def caption_vectors(captions: Sequence[str], file: str | None) -> Tensor:
    """Give a vector for each caption, whose cosines say how alike captions are.

    AlignCLIP takes them from a frozen sentence encoder: ``file`` holds such features (docs/embeddings.md),
    one for each caption, found by its column ``text``, or by its id. Without a file they are TF-IDF vectors
    of words and pairs of words, reduced to at most 128 dimensions by a singular value decomposition: captions
    are alike that share words, or share them with the same others.

    [0] Eslami and de Melo, AlignCLIP, 2024, arXiv 2406.17639.

    Returns:
        (M, S), unit rows, float32; a caption without a word has zeros.

    Raises:
        InputError: the file lacks a caption; the first one is named.
    """
    if file is not None:
        return _read(captions, Path(file))
    return WordVectors(captions).of(captions)


class WordVectors:
    """TF-IDF of words and pairs of words, reduced to at most 128 dimensions; both learned from captions.

    Raises:
        InputError: no caption has a word.
    """

    def __init__(self, captions: Sequence[str]) -> None:
        self._words = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b")  # noqa: S106  (a regular expression)
        try:
            counts = self._words.fit_transform(captions)
        except ValueError as error:
            raise InputError(
                f"captions cannot be compared by their words: {error}; give semantics"
            ) from error
        rank = min(DIMENSIONS, *(size - 1 for size in counts.shape))
        self._axes = TruncatedSVD(rank, random_state=0).fit(counts) if rank >= 1 else None

    def of(self, captions: Sequence[str]) -> Tensor:
        """Give the vectors of captions, (M, S), unit rows, float32; one without a known word has zeros."""
        counts = self._words.transform(captions)
        reduced = counts.toarray() if self._axes is None else self._axes.transform(counts)
        return torch.nn.functional.normalize(torch.from_numpy(reduced).double(), dim=1).float()


def _read(captions: Sequence[str], file: Path) -> Tensor:
    table = read_features([file])
    if "text" not in table.sides:
        raise InputError(f"semantics {file} holds no texts; it needs one row for each caption")
    rows = table.sides["text"]
    place = {text: row for row, text in enumerate(rows.column("text") or rows.column("id"))}
    missing = [caption for caption in captions if caption not in place]
    if missing:
        raise InputError(
            f"semantics {file} lacks {len(missing)} of {len(captions)} captions, the first is {missing[0]!r}"
        )
    return unit_rows(rows.values[[place[caption] for caption in captions]]).float()
