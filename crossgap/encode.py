"""``python -m crossgap.encode``: features of a dataset's items, one safetensors file a modality.

python -m crossgap.encode --encoder ViT-B-32 --pretrained openai --dataset photos/ --out features/
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from crossgap.command import run_command
from crossgap.datasets import Dataset, Items, load_dataset
from crossgap.datasets.image_formats import allow_pixels
from crossgap.datasets.tasks import Content
from crossgap.embeddings import BATCH, Embeddings, encode_items
from crossgap.encoders import Encoder, Precision, load_encoder
from crossgap.errors import InputError
from crossgap.progress import ItemProgress, Tick, told
from crossgap.provenance import config_hash
from crossgap.records import check_place
from crossgap.store import open_store


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


def say_notices(dataset: Dataset) -> None:
    """Tell a user what of a dataset was left out, and what looks wrong in it."""
    for notice in dataset.notices:
        print(f"warning: {dataset.name}: {notice}", file=sys.stderr)


def use_threads(count: int | None) -> int:
    """Let torch use ``count`` CPU threads, or as many as it chooses, and return the number.

    Raises:
        InputError: less than one.
    """
    if count is not None:
        if count < 1:
            raise InputError(f"--threads must be at least 1, not {count}")
        torch.set_num_threads(count)
    return torch.get_num_threads()


def _features(model: Encoder, items: Items, part: range, tick: Tick) -> dict[str, Tensor]:
    return {"values": encode_items(model, items.subset(part), tick)}


def main(
    *,
    encoder: str,
    dataset: str,
    out: Path,
    pretrained: str | None = None,
    data_root: Path | None = None,
    split: str = "test",
    limit: int | None = None,
    max_bad: int = 0,
    max_pixels: int | None = None,
    whole_texts: bool = False,
    device: str = "auto",
    precision: Precision = "fp32",
    threads: int | None = None,
) -> int:
    """Encode the images and texts of a dataset's tasks to out/image.safetensors and out/text.safetensors.

    Finished items are kept chunk by chunk in out/chunks, so that the same command resumes an interrupted run;
    out/result.json is written last, and the chunks are removed after that.

    Args:
        encoder: an open_clip model name, a checkpoint folder or a run directory.
        dataset: a known dataset, scenes with options (scenes:mention=0.3), a folder of class folders, shards
            'path/{000..003}.tar', a table (CSV, parquet), or hf:OWNER/NAME.
        out: folder for the two files; the same command does nothing when they are complete.
        pretrained: with a model name: a tag, a weights file, or 'random'.
        data_root: folder that holds the folders of known datasets.
        split: which split.
        limit: keep so many concepts (emoji), scenes, or items of each side, spread over the classes.
        max_bad: samples that cannot be used to leave out and count; each image is then decoded once more.
        max_pixels: of an image that is decoded; default: Pillow's limit, 178,956,970.
        whole_texts: the .txt part of a sample is one caption, not one a line.
        device: auto, cpu, cuda, ...
        precision: fp32, bf16 or fp64.
        threads: CPU threads; default: torch's choice. A run is resumed with the same number only.
    """
    check_place(out)
    used_threads = use_threads(threads)
    allow_pixels(max_pixels)
    with told(f"reading {dataset}, split {split}"):
        loaded = load_dataset(
            dataset, split=split, limit=limit, data_root=data_root, max_bad=max_bad, whole_texts=whole_texts
        )
    say_notices(loaded)
    sides = {name: items for name in ("image", "text") if (items := distinct_items(loaded, name)) is not None}
    with told(f"loading {encoder}"):
        model = load_encoder(encoder, pretrained, device, precision)
    settings = {
        "command": "encode",
        "encoder": model.fingerprint,
        "items": {name: describe(items) for name, items in sides.items()},
        "device": str(model.device),
        "precision": precision,
        "threads": used_threads,
    }
    with open_store(out, settings) as store, ItemProgress() as progress:
        if store is None:
            print(f"{out}: complete, nothing to do")
            return 0
        for name, items in sides.items():
            made = store.rows(
                items.ids,
                partial(_features, model, items),
                name=name,
                size=BATCH,
                begin=partial(progress.start, f"encode {name}s", len(items)),
            )
            Embeddings(
                ids=items.ids,
                values=made["values"],
                labels=items.labels,
                modality=name,
                encoder=model.fingerprint,
                source=items.content_hash,
                groups=items.groups,
            ).save(out / f"{name}.safetensors")
        store.finish({"notices": loaded.notices})
    for name, items in sides.items():
        print(f"{out / name}.safetensors: {len(items)} {name}s x {model.embed_dim}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
