"""Features of many items: joined by id, saved as safetensors, cached by what they were made from."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from crossgap.compute import DEFAULT, ENCODED, Compute
from crossgap.datasets.tasks import Content, Dataset, Items
from crossgap.encoders.open_clip import OpenClipEncoder
from crossgap.encoders.pixels import Preparation, WholePreprocessing, batches_of, pixels_ahead
from crossgap.encoders.protocol import Encoder
from crossgap.errors import InputError
from crossgap.progress import shared
from crossgap.provenance import config_hash
from crossgap.store import load_tensors, save_tensors


@dataclass(frozen=True, kw_only=True, eq=False)
class Embeddings:
    """Unit-row features of identified items.

    ``encoder`` is the fingerprint of the model, ``source`` the hash of what was encoded, ``groups`` the
    identities of the things shown (() when unknown).

    Raises:
        InputError: repeated ids, or numbers of ids, labels, groups and rows that differ.
    """

    ids: tuple[str, ...]
    values: Tensor
    labels: tuple[str, ...]
    modality: str
    encoder: str
    source: str
    groups: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.groups and len(self.groups) != len(self.ids):
            raise InputError(f"embeddings: {len(self.ids)} ids but {len(self.groups)} groups")
        if not len(self.ids) == len(set(self.ids)) == len(self.values) == len(self.labels):
            raise InputError(
                f"embeddings need one unique id and one label a row: {len(self.values)} rows, "
                f"{len(self.ids)} ids ({len(set(self.ids))} distinct), {len(self.labels)} labels"
            )

    def join(self, ids: Sequence[str]) -> Tensor:
        """Return the rows of ``ids`` in that order.

        Raises:
            InputError: ids that are not here, with the first of them.
        """
        place = {item: row for row, item in enumerate(self.ids)}
        missing = [item for item in ids if item not in place]
        if missing:
            raise InputError(
                f"{len(missing)} of {len(ids)} ids have no embedding, the first is {missing[0]!r}"
            )
        return self.values[[place[item] for item in ids]]

    def save(self, path: Path) -> None:
        """Write a safetensors file whose metadata hold ids, labels and origin, atomically."""
        about = {"modality": self.modality, "encoder": self.encoder, "source": self.source}
        names = {"ids": json.dumps(self.ids), "labels": json.dumps(self.labels)}
        if self.groups:
            names["groups"] = json.dumps(self.groups)
        save_tensors(path, {"values": self.values}, {**about, **names})

    @classmethod
    def load(cls, path: Path) -> Embeddings:
        """Read a file written by :meth:`save`.

        Raises:
            InputError: no such file, damaged, or without the metadata of embeddings.
        """
        try:
            tensors, about = load_tensors(path)
            return cls(
                ids=tuple(json.loads(about["ids"])),
                values=tensors["values"],
                labels=tuple(json.loads(about["labels"])),
                modality=about["modality"],
                encoder=about["encoder"],
                source=about["source"],
                groups=tuple(json.loads(about.get("groups", "[]"))),
            )
        except (KeyError, json.JSONDecodeError) as error:
            raise InputError(f"{path}: not a file of embeddings ({type(error).__name__}: {error})") from error


def feature_path(encoder: Encoder, items: Items, cache: Path, compute: Compute = DEFAULT) -> Path:
    """Name the file in ``cache`` that holds these contents as these weights encode them."""
    made_of = f"{encoder.fingerprint}:{items.content_hash}"
    size = compute.encoded_at_once(encoder.device)
    if size != ENCODED.least:  # which it was always, before it could be chosen
        made_of += f":{size}"
    key = hashlib.sha256(made_of.encode()).hexdigest()[:32]
    return cache / f"{key}.safetensors"


def embed(
    encoder: Encoder,
    items: Items,
    *,
    cache: Path | None = None,
    progress: Callable[[int], None] | None = None,
    compute: Compute = DEFAULT,
) -> Embeddings:
    """Encode items, or read them from ``cache`` when the same weights encoded the same contents before.

    Raises:
        InputError: an image that cannot be decoded, named.
    """
    path = None if cache is None else feature_path(encoder, items, cache, compute)
    cached = compute.processes.told(path is not None and path.exists())
    if path is not None and cached:
        values_ND = Embeddings.load(path).join(items.ids)
    else:
        values_ND = encode_items(encoder, items, progress, compute=compute)
    embeddings = Embeddings(
        ids=items.ids,
        values=values_ND,
        labels=items.labels,
        modality=items.modality,
        encoder=encoder.fingerprint,
        source=items.content_hash,
    )
    if path is not None and not cached and compute.processes.first:
        embeddings.save(path)
    return embeddings


def encode_items(
    encoder: Encoder,
    items: Items,
    progress: Callable[[int], None] | None = None,
    *,
    compute: Compute = DEFAULT,
) -> Tensor:
    """Return features_ND on the CPU; images are decoded ahead, some batches at most.

    Processes share the batches, which are those of one process: the features are the same bits.

    Of an item in several wordings the unit features are averaged and made a unit row again, as CLIP's prompt
    ensembles are ([0] Radford et al., 2021, arXiv 2103.00020).

    Raises:
        InputError: an image that cannot be decoded, named.
    """
    processes = compute.processes
    if processes.size == 1:
        (features_ND,) = encode_parts(encoder, items, [range(len(items))], progress, compute=compute)
        return features_ND
    own = batches_of(len(items), compute.encoded_at_once(encoder.device))[processes.rank :: processes.size]
    tick = shared(progress or (lambda _more: None), len(items), processes.size)
    features_ND = torch.zeros(len(items), encoder.embed_dim, dtype=encoder.dtype)
    with processes.alike():
        parts = encode_parts(encoder, items, own, tick, compute=compute)
        for batch, part_ND in zip(own, parts, strict=True):
            features_ND[batch.start : batch.stop] = part_ND
    return processes.whole(features_ND)


@torch.no_grad()
def encode_parts(
    encoder: Encoder,
    items: Items,
    parts: Sequence[range],
    progress: Callable[[int], None] | None = None,
    *,
    compute: Compute = DEFAULT,
) -> Iterator[Tensor]:
    """Yield the features_ND of some items after the other, as :func:`encode_items` of one process does.

    While one part is worked on the images of the next are decoded, where cores are free for it.
    """
    size = compute.encoded_at_once(encoder.device)
    batches = [batches_of(len(part), size, part.start) for part in parts]
    with contextlib.closing(_features(encoder, items, [*chain(*batches)], compute)) as features:
        for part, cut in zip(parts, batches, strict=True):
            whole_ND = torch.empty(0)
            for batch in cut:
                features_BD = next(features)
                if batch.start == part.start:
                    whole_ND = features_BD.new_empty(len(part), features_BD.shape[1])
                whole_ND[batch.start - part.start : batch.stop - part.start] = features_BD
                if progress is not None:
                    progress(len(batch))
            yield whole_ND


def _features(
    encoder: Encoder, items: Items, batches: Sequence[range], compute: Compute
) -> Generator[Tensor, None, None]:
    """Yield the features of each batch on the CPU."""
    if items.modality == "text":
        wordings = items.wordings()
        for batch in batches:
            size = compute.encoded_at_once(encoder.device)
            yield _encode_wordings(encoder, [wordings[place] for place in batch], size).cpu()
        return
    if isinstance(encoder, OpenClipEncoder):
        preprocessing: Preparation = encoder.preprocessing
    else:
        preprocessing = WholePreprocessing(encoder.preprocess)
    pixels = pixels_ahead(
        items.image,
        batches,
        preprocessing,
        device=encoder.device,
        workers=compute.workers_for(encoder.device),
    )
    with contextlib.closing(pixels):
        yield from _on_cpu(encoder.encode_image(pixels_BCHW) for pixels_BCHW in pixels)


def _on_cpu(features: Iterable[Tensor]) -> Iterator[Tensor]:
    """Yield what is on a device on the CPU; of CUDA a batch late, so that it has the next one meanwhile."""
    waiting: tuple[Tensor, torch.cuda.Event] | None = None
    for features_BD in features:
        if features_BD.device.type != "cuda":
            yield features_BD.cpu()
            continue
        copied_BD, arrived = features_BD.to("cpu", non_blocking=True), torch.cuda.Event()
        arrived.record()
        if waiting is not None:
            yield _waited_for(*waiting)
        waiting = copied_BD, arrived
    if waiting is not None:
        yield _waited_for(*waiting)


def _waited_for(copied_BD: Tensor, arrived: torch.cuda.Event) -> Tensor:
    arrived.synchronize()
    return copied_BD


def _encode_wordings(encoder: Encoder, wordings: Sequence[tuple[str, ...]], size: int) -> Tensor:
    texts = [text for item in wordings for text in item]
    if len(texts) == len(wordings):
        return encoder.encode_text(encoder.tokenize(texts))
    parts = [
        encoder.encode_text(encoder.tokenize(texts[start : start + size]))
        for start in range(0, len(texts), size)
    ]
    means = [part_ND.mean(dim=0) for part_ND in torch.cat(parts).split([len(item) for item in wordings])]
    return F.normalize(torch.stack(means), dim=-1)


def distinct_items(dataset: Dataset, modality: str, *, queries_only: bool = False) -> Items | None:
    """Join the items of one modality over all tasks of a dataset, each id once; None if there are none.

    Raises:
        InputError: one id stands for different contents.
    """
    by_id: dict[str, tuple[Content, str, str]] = {}
    for task in dataset.tasks:
        for side in (task.query,) if queries_only else (task.query, task.gallery):
            if side.modality != modality:
                continue
            groups = side.groups or ("",) * len(side.ids)
            for item, content, label, group in zip(side.ids, side.contents, side.labels, groups, strict=True):
                earlier = by_id.setdefault(item, (content, label, group))
                if earlier[0] != content:
                    raise InputError(
                        f"dataset {dataset.name!r}: id {item!r} stands for two different {modality}s"
                    )
    if not by_id:
        return None
    contents, labels, groups = zip(*by_id.values(), strict=True)
    return Items(
        modality="image" if modality == "image" else "text",
        ids=tuple(by_id),
        contents=contents,
        labels=labels,
        groups=groups if all(groups) else (),
    )


def describe(items: Items) -> dict[str, object]:
    """Say what was encoded, for comparison with another run: contents with their ids, and labels."""
    labels = config_hash({"labels": items.labels})
    return {"count": len(items), "contents": items.content_hash, "labels": labels}
