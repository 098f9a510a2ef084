"""``python -m crossgap.invert``: inverted features of a dataset's queries.

python -m crossgap.invert --encoder runs/demo/trials/baseline-s0 --dataset emoji --into text --out inverted/
"""

from __future__ import annotations

import hashlib
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from crossgap.command import run_command
from crossgap.datasets import load_dataset
from crossgap.embeddings import Embeddings, embed
from crossgap.encode import distinct_items
from crossgap.encoders import Precision, load_encoder
from crossgap.errors import InputError
from crossgap.inversion import Target, invert, preset
from crossgap.progress import ItemProgress
from crossgap.provenance import commit, config_hash, versions
from crossgap.records import read_json, write_json
from crossgap.settings import check_same


def main(
    *,
    encoder: str,
    dataset: str,
    into: Target,
    out: Path,
    pretrained: str | None = None,
    split: str = "test",
    limit: int | None = None,
    steps: int | None = None,
    num_tokens: int | None = None,
    learning_rate: float | None = None,
    weight_decay: float | None = None,
    init_std: float | None = None,
    template: str | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    snapshots: tuple[int, ...] = (),
    device: str = "auto",
    precision: Precision = "fp32",
    threads: int | None = None,
) -> int:
    """Invert a dataset's queries: images into the text tower (OTI) or texts into the image tower (OVI).

    Writes out/inverted.safetensors (and inverted-step-N.safetensors for snapshots). What is not given is the
    paper's setting for this encoder.

    Args:
        encoder: an open_clip model name, a checkpoint folder or a run directory.
        dataset: a known dataset, a folder of class folders, shards 'path/{000..003}.tar', or a CSV file.
        into: text is OTI, image is OVI.
        out: folder for the result; the same command does nothing when it is complete.
        pretrained: with a model name: a tag, a weights file, or 'random'.
        split: which split.
        limit: keep so many concepts (emoji) or items of each side, spread over the classes.
        steps: updates of the pseudo-tokens.
        num_tokens: pseudo-tokens an item.
        learning_rate: of AdamW.
        weight_decay: of AdamW.
        init_std: standard deviation of the initial noise.
        template: prompt of OTI with {} for the pseudo-tokens; default: the dataset's.
        seed: of the per-item noise.
        batch_size: items optimised side by side.
        snapshots: steps whose features are kept too.
        device: auto, cpu, cuda, ...
        precision: fp32, bf16 or fp64.
        threads: CPU threads; default: torch's choice.
    """
    if steps is not None and steps < 1:
        raise InputError(
            f"--steps must be at least 1, not {steps}: without an update there is nothing to write"
        )
    if threads is not None:
        torch.set_num_threads(threads)
    loaded = load_dataset(dataset, split=split, limit=limit)
    modality = "image" if into == "text" else "text"
    items = distinct_items(loaded, modality, queries_only=True)
    if items is None:
        raise InputError(f"dataset {dataset!r}, split {split!r}: no {modality} queries to invert into {into}")
    model = load_encoder(encoder, pretrained, device, precision)
    given: dict[str, Any] = {
        "steps": steps,
        "num_tokens": num_tokens,
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "init_std": init_std,
        "template": template or loaded.default_template,
        "batch_size": batch_size,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    config = replace(preset(model.name, into), seed=seed, **changes)
    settings: dict[str, object] = {
        "encoder": model.fingerprint,
        "into": into,
        "items": items.content_hash,
        "inversion": asdict(config),
        "snapshots": sorted(snapshots),
    }
    if _finished(out, settings):
        print(f"{out}: complete, nothing to do")
        return 0
    with ItemProgress() as progress:
        targets = embed(model, items, progress=progress.start(f"encode {modality}s", len(items.ids)))
        result = invert(
            model,
            targets.values,
            into=into,
            config=config,
            item_ids=items.ids,
            snapshots=snapshots,
            progress=progress.start(f"invert into {into}", len(items.ids)),
        )
    # the source says what the features were made of: these items with these settings
    source = hashlib.sha256(f"{items.content_hash}:{config_hash(settings)}".encode()).hexdigest()
    features = {"inverted": result.features}
    features |= {f"inverted-step-{step}": values for step, values in result.snapshots.items()}
    for name, values in features.items():
        Embeddings(
            ids=items.ids,
            values=values.cpu(),
            labels=items.labels,
            modality=into,
            encoder=model.fingerprint,
            source=source,
        ).save(out / f"{name}.safetensors")
    about = {"loss": float(result.losses[:, -1].mean()), "versions": versions(), "commit": commit()}
    write_json(out / "result.json", {"settings": settings, **about})
    print(f"{out / 'inverted.safetensors'}: {len(items.ids)} items, mean final loss {about['loss']:.4f}")
    return 0


def _finished(out: Path, settings: dict[str, object]) -> bool:
    """Tell whether ``out`` holds this very result.

    Raises:
        InputError: it holds another one; the differing settings are listed.
    """
    if not (out / "result.json").exists():
        return False
    check_same(out, read_json(out / "result.json").get("settings"), settings)
    return True


if __name__ == "__main__":
    sys.exit(run_command(main))
