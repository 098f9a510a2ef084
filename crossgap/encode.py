"""``python -m crossgap.encode``: features of a dataset's items, one safetensors file a modality.

python -m crossgap.encode --encoder ViT-B-32 --pretrained openai --dataset photos/ --out features/
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossgap.command import run_command
from crossgap.files import check_place
from crossgap.progress import ItemProgress, Tick, say, say_notices, told
from crossgap.vocabulary import Precision

if TYPE_CHECKING:
    from torch import Tensor

    from crossgap.compute import Compute
    from crossgap.datasets.tasks import Items
    from crossgap.encoders.protocol import Encoder


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
    workers: int | None = None,
    batch_size: int | None = None,
) -> int:
    """Encode the images and texts of a dataset's tasks to out/image.safetensors and out/text.safetensors.

    Finished items are kept chunk by chunk in out/chunks, so that the same command resumes an interrupted run;
    out/result.json is written last, and the chunks are removed after that.

    Args:
        encoder: an open_clip model name, a checkpoint folder of open_clip or transformers, hf:OWNER/NAME
            (transformers) or hf-hub:OWNER/NAME (open_clip) of the hub, or a run directory.
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
        workers: threads that decode images while the encoder works; they change no bit. Default: as many as
            CPU threads, beside a GPU the cores but one; at most 16, shared by the processes of a machine.
        batch_size: items encoded side by side; with another number the last bits of features differ. Default:
            256, on CUDA more as its memory grows. A run is resumed with the same number only.
    """
    # only now, so that --help answers at once: these load torch
    from crossgap.compute import Compute
    from crossgap.datasets.load import load_dataset
    from crossgap.datasets.readers.image_formats import allow_pixels
    from crossgap.datasets.readers.stored import digests_shared
    from crossgap.embeddings import describe, distinct_items
    from crossgap.encoders.devices import use_threads
    from crossgap.encoders.loading import load_encoder
    from crossgap.processes import PATIENCE, joined

    check_place(out)
    use_threads(threads)
    allow_pixels(max_pixels)
    with joined(device, patience=PATIENCE) as processes:
        compute = Compute(workers=workers, batch_size=batch_size, processes=processes)
        reading: dict[str, Any] = {"limit": limit, "data_root": data_root, "max_bad": max_bad}
        with told(f"reading {dataset}, split {split}"), digests_shared(processes):
            loaded = load_dataset(dataset, split=split, whole_texts=whole_texts, **reading)
            both = {name: distinct_items(loaded, name) for name in ("image", "text")}
            sides = {name: items for name, items in both.items() if items is not None}
            described = {name: describe(items) for name, items in sides.items()}
        say_notices(loaded.name, loaded.notices)
        with told(f"loading {encoder}"):
            model = load_encoder(encoder, pretrained, processes.device or device, precision)
        settings = {"encoder": model.fingerprint, "items": described, "precision": precision}
        return _encode(out, model, sides, settings, compute, notices=loaded.notices)


def _encode(
    out: Path,
    model: Encoder,
    sides: Mapping[str, Items],
    settings: Mapping[str, object],
    compute: Compute,
    *,
    notices: Sequence[str],
) -> int:
    """Encode what of the items is not kept in ``out`` yet, and write the files."""
    from crossgap.compute import ENCODED
    from crossgap.embeddings import Embeddings, encode_parts
    from crossgap.store import open_store

    size = compute.encoded_at_once(model.device)
    settings = {"command": "encode", **settings, **compute.settings(model.device)}
    if size != ENCODED.least:  # which it was always, before it could be chosen
        settings["batch_size"] = size

    def make(items: Items, parts: Sequence[range], tick: Tick) -> Iterator[dict[str, Tensor]]:
        for values_ND in encode_parts(model, items, parts, tick, compute=compute):
            yield {"values": values_ND}

    with open_store(out, settings, compute.processes) as store, ItemProgress() as progress:
        if store is None:
            say(f"{out}: complete, nothing to do")
            return 0
        for name, items in sides.items():
            rows = store.rows(
                items.ids,
                partial(make, items),
                name=name,
                size=size,
                begin=partial(progress.start, f"encode {name}s", len(items)),
            )
            if rows is not None:
                Embeddings(
                    ids=items.ids,
                    values=rows["values"],
                    labels=items.labels,
                    modality=name,
                    encoder=model.fingerprint,
                    source=items.content_hash,
                    groups=items.groups,
                ).save(out / f"{name}.safetensors")
        if compute.processes.first:
            store.finish({"notices": notices})
    for name, items in sides.items():
        say(f"{out / name}.safetensors: {len(items)} {name}s x {model.embed_dim}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
