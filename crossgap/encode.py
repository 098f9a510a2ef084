"""``python -m crossgap.encode``: features of a dataset's items, one safetensors file a modality.

python -m crossgap.encode --encoder ViT-B-32 --pretrained openai --dataset photos/ --out features/
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from crossgap.command import run_command
from crossgap.datasets import Dataset, Items, load_dataset
from crossgap.embeddings import Embeddings, embed
from crossgap.encoders import Precision, load_encoder
from crossgap.errors import InputError
from crossgap.progress import ItemProgress
from crossgap.settings import check_same


def distinct_items(dataset: Dataset, modality: str, *, queries_only: bool = False) -> Items | None:
    """Join the items of one modality over all tasks of a dataset, each id once; None if there are none.

    Raises:
        InputError: one id stands for different contents.
    """
    found: dict[str, tuple[bytes | str | Path, str, str]] = {}
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


def main(
    *,
    encoder: str,
    dataset: str,
    out: Path,
    pretrained: str | None = None,
    split: str = "test",
    limit: int | None = None,
    device: str = "auto",
    precision: Precision = "fp32",
    threads: int | None = None,
) -> int:
    """Encode the images and texts of a dataset's tasks to out/image.safetensors and out/text.safetensors.

    Args:
        encoder: an open_clip model name, a checkpoint folder or a run directory.
        dataset: a known dataset, a folder of class folders, shards 'path/{000..003}.tar', or a CSV file.
        out: folder for the two files; features already there from the same weights and items are kept.
        pretrained: with a model name: a tag, a weights file, or 'random'.
        split: which split.
        limit: keep so many concepts (emoji) or items of each side, spread over the classes.
        device: auto, cpu, cuda, ...
        precision: fp32, bf16 or fp64.
        threads: CPU threads; default: torch's choice.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    loaded = load_dataset(dataset, split=split, limit=limit)
    sides = {modality: distinct_items(loaded, modality) for modality in ("image", "text")}
    model = load_encoder(encoder, pretrained, device, precision)
    with ItemProgress() as progress:
        for modality, items in sides.items():
            if items is not None:
                path = out / f"{modality}.safetensors"
                if path.exists():
                    before = Embeddings.load(path)
                    recorded = {"encoder": before.encoder, "items": before.source}
                    check_same(path, recorded, {"encoder": model.fingerprint, "items": items.content_hash})
                tick = progress.start(f"encode {modality}s", len(items.ids))
                made = embed(model, items, cache=out / "features", progress=tick)
                made.save(path)
                print(f"{path}: {len(made.ids)} {modality}s x {model.embed_dim}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
