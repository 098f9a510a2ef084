"""Training on the world of scenes: a fixed number in memory, or without end, painted as they are drawn."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import chain, pairwise
from typing import NamedTuple

import numpy as np
import torch
from open_clip import SimpleTokenizer
from torch import Tensor

from crossgap.datasets.emoji import training_pictures
from crossgap.datasets.scenes.captions import caption_scenes, grammar_words
from crossgap.datasets.scenes.names import SIDE
from crossgap.datasets.scenes.objects import designers_of, object_names
from crossgap.datasets.scenes.options import SceneOptions
from crossgap.datasets.scenes.render import render
from crossgap.datasets.scenes.world import draw_scenes
from pretrain.data.augment import Place
from pretrain.data.batches import Batch, Captions, DrawnPairs, ViewMaker
from pretrain.data.images import ImagesInMemory
from pretrain.data.pairs import TrainingPairs, pairs_of
from pretrain.data.semantics import WordVectors
from pretrain.data.streams import stream_seed
from pretrain.data.tokens import Tokens

_SPLIT = "train"
_PIECE = 1024  # scenes that are painted at a time into memory
_COMPARED = 4000  # scenes by whose captions words are weighed, where a term compares captions by meaning


@dataclass(frozen=True, kw_only=True)
class EndlessScenes:
    """The training scenes of a world, each seen once.

    ``tokens`` makes captions token ids (None: CLIP's tokenizer, of whose ids those that can occur count).
    """

    options: SceneOptions
    context_length: int
    tokens: Tokens | None = None

    @property
    def digest(self) -> str:
        """A SHA-256 over the world's name, its version within, and the drawings."""
        return digest_of(self.options)

    @property
    def vocabulary_V(self) -> Tensor:
        """The token ids that captions can hold."""
        if self._all is not None:
            return torch.arange(self._all)
        return torch.tensor(sorted(SceneTokenizer.ids_of_all()))

    @cached_property
    def tokenizer(self) -> Callable[[Sequence[str]], Captions]:
        """What makes captions token ids."""
        if self.tokens is not None and not isinstance(self.tokens.tokenizer, SimpleTokenizer):
            tokens = self.tokens
            return lambda captions: Captions(*tokens(captions))
        return SceneTokenizer(self.context_length, self.vocabulary_V)

    @property
    def _all(self) -> int | None:
        return None if self.tokens is None else self.tokens.vocabulary

    @cached_property
    def semantics(self) -> Callable[[Sequence[str]], Tensor]:
        """Vectors of captions, by how words are shared among the world's first captions."""
        scenes = draw_scenes(self.options, _SPLIT, np.arange(_COMPARED))
        words = WordVectors(caption_scenes(self.options, _SPLIT, scenes, 0).words)
        return words.of


def fixed_scenes(
    options: SceneOptions, *, context_length: int, limit: int | None = None, tokens: Tokens | None = None
) -> TrainingPairs:
    """Paint the first training scenes of a world into memory, and caption them.

    Args:
        options: the world; ``pairs`` says how many.
        context_length: captions are cut to so many tokens.
        limit: no more scenes than this; of a world without end so many.
        tokens: what makes captions token ids; by default CLIP's tokenizer.
    """
    count = min(number for number in (options.pairs, limit) if number)
    images_NHWC = torch.empty((count, SIDE, SIDE, 3), dtype=torch.uint8)
    captions: list[list[str]] = []
    objects: list[str] = []
    for start in range(0, count, _PIECE):
        scenes = draw_scenes(options, _SPLIT, np.arange(start, min(start + _PIECE, count)))
        images_NHWC[start : start + len(scenes)] = torch.from_numpy(render(scenes))
        of_each = [
            caption_scenes(options, _SPLIT, scenes, number).words for number in range(options.num_captions)
        ]
        captions += map(list, zip(*of_each, strict=True))
        objects += [object_names()[thing] for thing in scenes.first.object_N]
    return pairs_of(
        ImagesInMemory(images_NHWC),
        captions,
        objects,
        context_length=context_length,
        digest=hashlib.sha256(f"{digest_of(options)} {count}".encode()).hexdigest(),
        tokens=tokens,
    )


class _Part(NamedTuple):
    """Some rows of a batch, as painted."""

    images_BHWC: np.ndarray
    words: list[str]
    other_words: list[str]
    object_B: np.ndarray


@dataclass(frozen=True, kw_only=True)
class EndlessBatches(ViewMaker):
    """Draw the batch of a step from scenes without end: a pure function of seed, step and settings.

    The scenes of a run follow each other from a place that the seed decides, among 2^62: none comes twice,
    two seeds share none, and the batch size changes where batches are cut, not what comes. A pair has the
    scene's first caption and its second, the first again where it has only one.

    On a ``device`` other than the CPU, ``workers`` threads paint the following batch meanwhile; on a CPU they
    would take the time that they save from the model, and there are none unless ``ahead`` asks for them.
    """

    scenes: EndlessScenes
    device: torch.device
    workers: int = 1
    ahead: bool | None = None

    def indices(self, step: int, rows: slice = slice(None)) -> np.ndarray:
        """Give the scenes of a step, by their index in the world's training split."""
        first = stream_seed(self.seed, "scenes") >> 1
        return first + step * self.batch_size + np.arange(*rows.indices(self.batch_size))

    def batch(
        self, step: int, parts: Collection[str] = ("image", "text"), *, rows: slice = slice(None)
    ) -> Batch:
        """Make the parts of a step, pixels on the device.

        With ``rows``, a slice with both ends, only those of the batch are made: equal to them among all.
        """
        return self.make(self.drawn(step, parts, rows), parts, step)

    def drawn(self, step: int, parts: Collection[str], rows: slice = slice(None)) -> DrawnPairs:
        """Paint and tokenise what the parts of a step are made of."""
        two = "second_text" in parts
        painted = self._painter(step, two, rows)
        tokenize = self.scenes.tokenizer
        text = tokenize(painted.words)
        other_text = tokenize(painted.other_words) if two else text
        same_B = torch.tensor(
            [first == other for first, other in zip(painted.words, painted.other_words, strict=True)]
        )
        given = {}
        if "concept_B" in parts:
            given["concept_B"] = torch.from_numpy(painted.object_B)
        if "semantic_BS" in parts:
            given["semantic_BS"] = self.scenes.semantics(painted.words)
        images_BHWC = torch.from_numpy(painted.images_BHWC).to(self.device)
        place = Place(rows.indices(self.batch_size)[0], self.batch_size)
        return DrawnPairs(images_BHWC, text, other_text, same_B, given, place)

    def close(self) -> None:
        """End the threads; the next batch would start them again."""
        painter = self.__dict__.pop("_painter", None)
        if isinstance(painter, _Ahead):
            painter.close()

    @cached_property
    def _painter(self) -> Callable[[int, bool, slice], _Part]:
        ahead = self.device.type != "cpu" if self.ahead is None else self.ahead
        return _Ahead(self._painted, max(1, self.workers), self.batch_size) if ahead else self._painted

    def _painted(self, step: int, two: bool, rows: slice) -> _Part:
        options = self.scenes.options
        scenes = draw_scenes(options, _SPLIT, self.indices(step, rows))
        words = caption_scenes(options, _SPLIT, scenes, 0).words
        other = two and options.num_captions > 1
        return _Part(
            images_BHWC=render(scenes),
            words=words,
            other_words=caption_scenes(options, _SPLIT, scenes, 1).words if other else words,
            object_B=scenes.first.object_N,
        )


class _Ahead:
    """Has threads paint the batch after the one that is asked for, each some of its rows."""

    def __init__(self, paint: Callable[[int, bool, slice], _Part], workers: int, batch_size: int) -> None:
        self._paint = paint
        self._workers = workers
        self._batch_size = batch_size
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="paint")
        self._next: tuple[tuple[int, bool, int, int], list[Future[_Part]]] | None = None

    def __call__(self, step: int, two: bool, rows: slice) -> _Part:
        first, end, _ = rows.indices(self._batch_size)
        ready, self._next = self._next, None
        asked = (step, two, first, end)
        futures = ready[1] if ready is not None and ready[0] == asked else self._start(*asked)
        self._next = ((step + 1, two, first, end), self._start(step + 1, two, first, end))
        parts = [future.result() for future in futures]
        return _Part(
            np.concatenate([part.images_BHWC for part in parts]),
            list(chain.from_iterable(part.words for part in parts)),
            list(chain.from_iterable(part.other_words for part in parts)),
            np.concatenate([part.object_B for part in parts]),
        )

    def close(self) -> None:
        """Let what is under way come to its end."""
        self._threads.shutdown(cancel_futures=True)

    def _start(self, step: int, two: bool, first: int, end: int) -> list[Future[_Part]]:
        bounds = np.linspace(first, end, self._workers + 1).astype(int).tolist()
        return [self._threads.submit(self._paint, step, two, slice(*part)) for part in pairwise(bounds)]


class SceneTokenizer:
    """Token ids of captions as those of open_clip's tokenizer, each word encoded once.

    It splits at white space before it merges letters, so that the ids of a caption are those of its words.

    Args:
        context_length: captions are cut to so many tokens; the last is the end-of-text token.
        vocabulary_V: the token ids that occur, sorted; what it returns are indices into it.
    """

    def __init__(self, context_length: int, vocabulary_V: Tensor) -> None:
        self._length = context_length
        self._place = {token: index for index, token in enumerate(vocabulary_V.tolist())}
        self._words: dict[str, list[int]] = {}

    @staticmethod
    @cache
    def ids_of_all() -> frozenset[int]:
        """Give every token id that a caption can hold."""
        tokenizer = _tokenizer()
        of_words = chain.from_iterable(tokenizer.encode(word) for word in grammar_words())
        return frozenset({tokenizer.sot_token_id, tokenizer.eot_token_id, *of_words})

    def __call__(self, captions: Sequence[str]) -> Captions:
        """Tokenise captions: indices into the vocabulary, padded to the context length, and lengths."""
        tokenizer = _tokenizer()
        start, end = (self._place[token] for token in (tokenizer.sot_token_id, tokenizer.eot_token_id))
        rows = []
        for caption in captions:
            inner = list(chain.from_iterable(map(self._ids, caption.split())))
            rows.append([start, *inner[: self._length - 2], end])
        lengths_B = torch.tensor([len(row) for row in rows])
        ids_BL = torch.tensor([row + [0] * (self._length - len(row)) for row in rows])
        return Captions(ids_BL, lengths_B)

    def _ids(self, word: str) -> list[int]:
        if word not in self._words:
            self._words[word] = [self._place[token] for token in _tokenizer().encode(word)]
        return self._words[word]


@cache
def _tokenizer() -> SimpleTokenizer:
    return SimpleTokenizer()


def digest_of(options: SceneOptions) -> str:
    """Hash what decides a world: its name, which holds its version, and the drawings of its objects."""
    digest, pictures = hashlib.sha256(options.name.encode()), training_pictures()
    for name in object_names()[: options.objects]:
        for designer in designers_of(name):
            digest.update(pictures[name][designer])
    return digest.hexdigest()
