"""Pairs from shards of any number, local or remote, read in a random order that is not kept: constant memory.

Each worker process goes through all shards in an order of its own, again and again, with a buffer that
shuffles samples. What a step sees depends on the number of workers and processes, and a run that resumes
starts new passes: the same in distribution as :class:`pretrain.data.batches.Batches`, not in bits.
"""

from __future__ import annotations

import hashlib
import random
import signal
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from crossgap.datasets.bad import BadSamples
from crossgap.datasets.readers.shards import ShardSample, scan_shard
from crossgap.errors import InputError
from pretrain.data.augment import Place
from pretrain.data.batches import Batch, Captions, DrawnPairs, ViewMaker
from pretrain.data.images import pixels_of, square
from pretrain.data.streams import stream_seed
from pretrain.data.tokens import Tokens, clip_tokens
from pretrain.settings import VOCABULARY

BUFFER = 1000  # encoded samples that a worker shuffles
WORDS = 100_000  # that a worker's tokenizer remembers
_LONGEST_WAIT = 600  # seconds without a batch, after which a run ends
_END_ANYWAY = 30  # seconds that a worker lives on when it was asked to end


@dataclass(frozen=True, kw_only=True)
class ShardStream:
    """Shards to draw from, and how.

    ``start`` is the step from which a run goes on, ``share`` the pairs a step of this process, ``rank`` its
    number; ``workers`` 0 reads in the process itself; with ``whole_texts`` a ``.txt`` part is one
    caption; ``tokens`` makes captions token ids (None: CLIP's tokenizer).
    """

    shards: tuple[str, ...]
    image_size: int
    context_length: int
    share: int
    rank: int
    seed: int
    start: int
    workers: int
    buffer: int = BUFFER
    whole_texts: bool = False
    tokens: Tokens | None = None

    @cached_property
    def digest(self) -> str:
        """A SHA-256 over the shards' names, and the sizes of local ones."""
        sizes = [Path(shard).stat().st_size if Path(shard).exists() else None for shard in self.shards]
        return hashlib.sha256(repr((self.shards, sizes)).encode()).hexdigest()

    @property
    def vocabulary_V(self) -> Tensor:
        """All tokens: which of them occur is not known beforehand."""
        own = None if self.tokens is None else self.tokens.vocabulary
        return torch.arange(VOCABULARY if own is None else own)


class _Pairs(NamedTuple):
    images_BHWC: Tensor
    ids_BL: Tensor
    lengths_B: Tensor
    other_ids_BL: Tensor
    other_lengths_B: Tensor
    same_B: Tensor
    concept_B: Tensor | None


class _Bad(NamedTuple):
    shard: str
    reason: str


class _Refused(NamedTuple):
    reason: str


class _Reader(IterableDataset[Any]):
    """What a worker does; what is wrong is handed over like a batch, so that nobody waits for one."""

    def __init__(self, stream: ShardStream) -> None:
        self.stream = stream

    def __iter__(self) -> Iterator[_Pairs | _Bad | _Refused]:
        stream = self.stream
        info = get_worker_info()
        key = ("shards", stream.start, stream.rank, 0 if info is None else info.id)
        draws = random.Random(stream_seed(stream.seed, *key))
        tokens = stream.tokens or clip_tokens(stream.context_length)
        tokenizer: Any = tokens.tokenizer
        # CLIP's tokenizer remembers each word that it met: without end in a stream
        its_own = dict(getattr(tokenizer, "cache", {}))
        rows: list[tuple[Tensor, str, str, str | None]] = []
        while True:
            usable = False
            for sample in self._pass(draws):
                if isinstance(sample, _Bad):
                    yield sample
                    continue
                assert sample.image is not None
                try:
                    image = square(sample.image, stream.image_size, where=sample.where)
                except InputError as error:
                    yield _Bad(sample.shard, str(error))
                    continue
                usable = True
                first, *others = draws.sample(sample.captions, min(2, len(sample.captions)))
                concept = sample.meta.get("concept", sample.meta.get("label"))
                rows.append((pixels_of(image), first, others[0] if others else first, concept))
                if len(rows) == stream.share:
                    yield _together(rows, tokens)
                    rows = []
                    if its_own and len(tokenizer.cache) > WORDS:
                        tokenizer.cache = dict(its_own)
            if not usable:
                yield _Refused(f"no pair of image and caption in any of {len(stream.shards)} shards")
                return

    def _pass(self, draws: random.Random) -> Iterator[ShardSample | _Bad]:
        """Go through all shards once."""
        buffer: list[ShardSample] = []
        for shard in draws.sample(self.stream.shards, len(self.stream.shards)):
            for sample in scan_shard(shard, whole_texts=self.stream.whole_texts):
                if isinstance(sample, InputError):
                    yield _Bad(shard, str(sample))
                    continue
                buffer.append(sample)
                if len(buffer) > self.stream.buffer:
                    place = draws.randrange(len(buffer))
                    buffer[place], buffer[-1] = buffer[-1], buffer[place]
                    yield buffer.pop()
        draws.shuffle(buffer)
        yield from buffer


@dataclass(frozen=True, kw_only=True)
class ResampledBatches(ViewMaker):
    """Batches from a stream of shards: each call gives the next one, whatever the step."""

    stream: ShardStream
    bad: BadSamples

    @cached_property
    def _items(self) -> Iterator[_Pairs | _Bad | _Refused]:
        workers = self.stream.workers
        loader = DataLoader(
            _Reader(self.stream), batch_size=None, num_workers=workers,
            timeout=_LONGEST_WAIT if workers else 0, worker_init_fn=_leave_signals_to_the_run,
        )  # fmt: skip
        return iter(loader)

    def batch(
        self, step: int, parts: Collection[str] = ("image", "text"), *, rows: slice = slice(None)
    ) -> Batch:
        """Make the parts of a step from the next pairs; ``rows`` are those of this process.

        Raises:
            InputError: more bad samples than are tolerated, no sample that can be used, a reader that stands
                still or was killed, or ``concept_B`` of data without concepts.
        """
        pairs = self._next()
        given = {}
        if "concept_B" in parts:
            if pairs.concept_B is None:
                raise InputError(
                    "a term of the objective compares concepts, but not every sample of the data names one; "
                    'put "concept" or "label" into the .json part of each'
                )
            given["concept_B"] = pairs.concept_B
        drawn = DrawnPairs(
            pairs.images_BHWC,
            Captions(pairs.ids_BL, pairs.lengths_B),
            Captions(pairs.other_ids_BL, pairs.other_lengths_B),
            pairs.same_B,
            given,
            Place(rows.indices(self.batch_size)[0], self.batch_size),
        )
        return self.make(drawn, parts, step)

    def close(self) -> None:
        """End the readers now: left to the garbage collector, each may wait for seconds."""
        items = self.__dict__.pop("_items", None)
        if self.stream.workers and items is not None:
            items._shutdown_workers()

    def _next(self) -> _Pairs:
        while True:
            try:
                with readers_named():
                    item = next(self._items)
            except (ConnectionError, EOFError) as error:  # killed while its batch was being taken over
                raise InputError(f"reading the shards failed: a reader ended ({error!r})") from error
            if isinstance(item, _Pairs):
                return item
            if isinstance(item, _Refused):
                raise InputError(item.reason)
            self.bad.add(item.shard, InputError(item.reason))


@contextmanager
def readers_named() -> Iterator[None]:
    """Say what it was when a reader was killed, or gave nothing in time.

    torch raises that in the middle of whatever the process is doing when the news comes.

    Raises:
        InputError: in place of torch's error.
    """
    try:
        yield
    except RuntimeError as error:
        if "DataLoader" not in str(error):
            raise
        raise InputError(f"reading the shards failed: {error}") from error


def _together(rows: list[tuple[Tensor, str, str, str | None]], tokens: Tokens) -> _Pairs:
    images, firsts, others, concepts = zip(*rows, strict=True)
    ids_BL, lengths_B = tokens(firsts)
    other_ids_BL, other_lengths_B = tokens(others)
    named = [concept for concept in concepts if concept is not None]
    return _Pairs(
        images_BHWC=torch.stack(images),
        ids_BL=ids_BL,
        lengths_B=lengths_B,
        other_ids_BL=other_ids_BL,
        other_lengths_B=other_lengths_B,
        same_B=torch.tensor([first == other for first, other in zip(firsts, others, strict=True)]),
        concept_B=torch.tensor([_number(name) for name in named]) if len(named) == len(rows) else None,
    )


def _number(concept: object) -> int:
    """Number a concept alike in all processes, without a list of all."""
    return int.from_bytes(hashlib.sha256(str(concept).encode()).digest()[:8], "big") >> 1


def _leave_signals_to_the_run(worker: int) -> None:
    """Let the run end a worker: a signal to the whole group would take batches from its last step."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(_END_ANYWAY))
