"""Features of many items: joined by id, saved as safetensors, cached by what they were made from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from crossgap.datasets.tasks import Content, Dataset, Items
from crossgap.encoders.protocol import Encoder
from crossgap.errors import InputError
from crossgap.files import atomic_path
from crossgap.progress import Tick
from crossgap.provenance import config_hash

BATCH = 256  # items encoded side by side: another number would change the last bits of the features


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
        with atomic_path(path) as temporary:
            save_file({"values": self.values.cpu().contiguous()}, temporary, metadata={**about, **names})

    @classmethod
    def load(cls, path: Path) -> Embeddings:
        """Read a file written by :meth:`save`.

        Raises:
            InputError: no such file, damaged, or without the metadata of embeddings.
        """
        try:
            with safe_open(path, framework="pt") as file:
                about = file.metadata() or {}
                values = file.get_tensor("values")
            return cls(
                ids=tuple(json.loads(about["ids"])),
                values=values,
                labels=tuple(json.loads(about["labels"])),
                modality=about["modality"],
                encoder=about["encoder"],
                source=about["source"],
                groups=tuple(json.loads(about.get("groups", "[]"))),
            )
        except (OSError, SafetensorError, KeyError, json.JSONDecodeError) as error:
            raise InputError(f"{path}: not a file of embeddings ({type(error).__name__}: {error})") from error


def feature_path(encoder: Encoder, items: Items, cache: Path) -> Path:
    """Name the file in ``cache`` that holds these contents as these weights encode them."""
    key = hashlib.sha256(f"{encoder.fingerprint}:{items.content_hash}".encode()).hexdigest()[:32]
    return cache / f"{key}.safetensors"


def embed(
    encoder: Encoder,
    items: Items,
    *,
    cache: Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> Embeddings:
    """Encode items, or read them from ``cache`` when the same weights encoded the same contents before.

    Raises:
        InputError: an image that cannot be decoded, named.
    """
    path = None if cache is None else feature_path(encoder, items, cache)
    if path is not None and path.exists():
        values_ND = Embeddings.load(path).join(items.ids)
    else:
        values_ND = encode_items(encoder, items, progress)
    made = Embeddings(
        ids=items.ids,
        values=values_ND,
        labels=items.labels,
        modality=items.modality,
        encoder=encoder.fingerprint,
        source=items.content_hash,
    )
    if path is not None and not path.exists():
        made.save(path)
    return made


@torch.no_grad()
def encode_items(encoder: Encoder, items: Items, progress: Callable[[int], None] | None = None) -> Tensor:
    """Return features_ND on the CPU; images are decoded batch by batch.

    Of an item in several wordings the unit features are averaged and made a unit row again, as CLIP's prompt
    ensembles are ([0] Radford et al., 2021, arXiv 2103.00020).
    """
    wordings = items.wordings() if items.modality == "text" else []
    parts = []
    for start in range(0, len(items.ids), BATCH):
        indices = range(start, min(start + BATCH, len(items.ids)))
        if items.modality == "text":
            chunk = [wordings[index] for index in indices]
            parts.append(_encode_wordings(encoder, chunk))
        else:
            parts.append(encoder.encode_image(encoder.preprocess([items.image(index) for index in indices])))
        if progress is not None:
            progress(len(indices))
    return torch.cat(parts).cpu()


def _encode_wordings(encoder: Encoder, wordings: Sequence[tuple[str, ...]]) -> Tensor:
    texts = [text for item in wordings for text in item]
    if len(texts) == len(wordings):
        return encoder.encode_text(encoder.tokenize(texts))
    made = [
        encoder.encode_text(encoder.tokenize(texts[start : start + BATCH]))
        for start in range(0, len(texts), BATCH)
    ]
    means = [part_ND.mean(dim=0) for part_ND in torch.cat(made).split([len(item) for item in wordings])]
    return F.normalize(torch.stack(means), dim=-1)


def distinct_items(dataset: Dataset, modality: str, *, queries_only: bool = False) -> Items | None:
    """Join the items of one modality over all tasks of a dataset, each id once; None if there are none.

    Raises:
        InputError: one id stands for different contents.
    """
    found: dict[str, tuple[Content, str, str]] = {}
    for task in dataset.tasks:
        for side in (task.query,) if queries_only else (task.query, task.gallery):
            if side.modality != modality:
                continue
            groups = side.groups or ("",) * len(side.ids)
            for item, content, label, group in zip(side.ids, side.contents, side.labels, groups, strict=True):
                known = found.setdefault(item, (content, label, group))
                if known[0] != content:
                    raise InputError(
                        f"dataset {dataset.name!r}: id {item!r} stands for two different {modality}s"
                    )
    if not found:
        return None
    contents, labels, groups = zip(*found.values(), strict=True)
    return Items(
        modality="image" if modality == "image" else "text",
        ids=tuple(found),
        contents=contents,
        labels=labels,
        groups=groups if all(groups) else (),
    )


def describe(items: Items) -> dict[str, object]:
    """Say what was encoded, for comparison with another run: contents with their ids, and labels."""
    labels = config_hash({"labels": items.labels})
    return {"count": len(items), "contents": items.content_hash, "labels": labels}


def encode_part(model: Encoder, items: Items, part: range, tick: Tick) -> dict[str, Tensor]:
    """Encode some items, as a chunk to keep."""
    return {"values": encode_items(model, items.subset(part), tick)}
