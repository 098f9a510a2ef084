"""``python -m crossgap.invert``: inverted features of a dataset's queries.

python -m crossgap.invert --encoder runs/demo/trials/baseline-s0 --dataset emoji --into text --out inverted/
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossgap.callable import InvertModule
from crossgap.command import run_command
from crossgap.errors import InputError
from crossgap.files import check_place
from crossgap.inversion.config import Engine, InversionConfig, Target
from crossgap.inversion.presets import Schedule, preset
from crossgap.progress import ItemProgress, Tick, say, say_notices, told
from crossgap.settings.changes import as_table, changed
from crossgap.settings.options import NO_CHANGES, Changes
from crossgap.settings.strict import hints_of
from crossgap.vocabulary import Precision

if TYPE_CHECKING:
    from torch import Tensor

    from crossgap.compute import Compute
    from crossgap.datasets.tasks import Dataset, Items
    from crossgap.encoders.protocol import Encoder
    from crossgap.inversion.loop import Inverter

SETTINGS = tuple(hints_of(InversionConfig))


def main(
    *,
    encoder: str,
    dataset: str,
    into: Target,
    out: Path,
    pretrained: str | None = None,
    data_root: Path | None = None,
    split: str = "test",
    limit: int | None = None,
    max_bad: int = 0,
    max_pixels: int | None = None,
    whole_texts: bool = False,
    schedule: Schedule = "paper",
    steps: int | None = None,
    num_tokens: int | None = None,
    learning_rate: float | None = None,
    weight_decay: float | None = None,
    init_std: float | None = None,
    template: str | None = None,
    seed: int | None = None,
    batch_size: int | None = None,
    target_cosine: float | None = None,
    snapshots: tuple[int, ...] = (),
    engine: Engine = "auto",
    compiled: bool = False,
    device: str = "auto",
    precision: Precision = "fp32",
    threads: int | None = None,
    workers: int | None = None,
    changes: Changes = NO_CHANGES,
) -> int:
    """Invert a dataset's queries: images into the text tower (OTI) or texts into the image tower (OVI).

    Writes out/inverted.safetensors (and inverted-step-N.safetensors for snapshots), and what else is known of
    each item, pseudo-tokens and losses, as out/tokens.safetensors. What is not given is the paper's setting
    for this encoder. Finished items are kept chunk by chunk in out/chunks: the same command resumes an
    interrupted run. out/result.json is written last, and the chunks are removed after that.

    Args:
        encoder: an open_clip model name, a checkpoint folder of open_clip or transformers, hf:OWNER/NAME
            (transformers) or hf-hub:OWNER/NAME (open_clip) of the hub, or a run directory.
        dataset: a known dataset, scenes with options (scenes:mention=0.3), a folder of class folders, shards
            'path/{000..003}.tar', a table (CSV, parquet), or hf:OWNER/NAME.
        into: text is OTI, image is OVI.
        out: folder for the result; the same command does nothing when it is complete.
        pretrained: with a model name: a tag, a weights file, or 'random'.
        data_root: folder that holds the folders of known datasets.
        split: which split.
        limit: keep so many concepts (emoji), scenes, or items of each side, spread over the classes.
        max_bad: samples that cannot be used to leave out and count; each image is then decoded once more.
        max_pixels: of an image that is decoded; default: Pillow's limit, 178,956,970.
        whole_texts: the .txt part of a sample is one caption, not one a line.
        schedule: the paper's, or fast: L-BFGS in 20 steps into text, 60 into images, which come near the
            paper's loss on some towers and not on others (docs/inversion.md).
        steps: updates of the pseudo-tokens.
        num_tokens: pseudo-tokens an item.
        learning_rate: of AdamW; with the fast schedule the root mean square of the first move.
        weight_decay: of AdamW; the fast schedule has none.
        init_std: standard deviation of the initial noise.
        template: prompt of OTI with {} for the pseudo-tokens; default: the dataset's.
        seed: of the per-item noise; default: 0.
        batch_size: items optimised side by side. Default: 64, on CUDA more as its memory grows.
            A run is resumed with the same number only.
        target_cosine: an item stops at the first step where its cosine to the target is at least this.
        snapshots: steps whose features are kept too.
        engine: lean, tower, or auto (lean where the tower allows it).
        compiled: run the towers through torch.compile; meant for many items on a GPU.
        device: auto, cpu, cuda, ...
        precision: fp32, bf16 or fp64.
        threads: CPU threads; default: torch's choice. A run is resumed with the same number only.
        workers: threads that decode images while the encoder works; they change no bit. Default: as many as
            CPU threads, beside a GPU the cores but one; at most 16, shared by the processes of a machine.
    """
    if steps is not None and steps < 1:
        raise InputError(
            f"--steps must be at least 1, not {steps}: without an update there is nothing to write"
        )
    # only now, so that --help answers at once: these load torch
    from crossgap.compute import Compute
    from crossgap.datasets.readers.image_formats import allow_pixels
    from crossgap.datasets.readers.stored import digests_shared
    from crossgap.embeddings import describe
    from crossgap.encoders.devices import use_threads
    from crossgap.encoders.loading import load_encoder
    from crossgap.processes import PATIENCE, joined

    by_option: dict[str, Any] = {
        "steps": steps,
        "num_tokens": num_tokens,
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "init_std": init_std,
        "template": template,
        "batch_size": batch_size,
        "target_cosine": target_cosine,
        "seed": seed,
    }
    options = {name: value for name, value in by_option.items() if value is not None}
    check_place(out)
    use_threads(threads)
    allow_pixels(max_pixels)
    with joined(device, patience=PATIENCE) as processes:
        compute = Compute(workers=workers, processes=processes)
        reading = {"limit": limit, "data_root": data_root, "max_bad": max_bad, "whole_texts": whole_texts}
        with digests_shared(processes):
            loaded, items = _queries(into, dataset, split=split, **reading)
            described = describe(items)
        with told(f"loading {encoder}"):
            model = load_encoder(encoder, pretrained, processes.device or device, precision)
        base = replace(
            preset(model.name, into, schedule),
            template=loaded.default_template,
            batch_size=compute.inverted_at_once(model.device),
        )
        config = changed(changed(base, changes.file), changes.over(options))
        if changes.show:
            changes.print(as_table(config, base), leave_out=SETTINGS)
            return 0
        settings: dict[str, object] = {
            "command": "invert",
            "encoder": model.fingerprint,
            "items": described,
            "into": into,
            "snapshots": sorted(snapshots),
            "engine": engine,
            "compiled": compiled,
            "precision": precision,
        }
        return _invert(out, model, items, config, settings, compute, notices=loaded.notices)


def _queries(into: Target, dataset: str, *, split: str, **options: Any) -> tuple[Dataset, Items]:
    """Load a dataset and the queries that can be inverted into a modality."""
    from crossgap.datasets.load import load_dataset
    from crossgap.embeddings import distinct_items

    with told(f"reading {dataset}, split {split}"):
        loaded = load_dataset(dataset, split=split, **options)
    say_notices(loaded.name, loaded.notices)
    modality = "image" if into == "text" else "text"
    items = distinct_items(loaded, modality, queries_only=True)
    if items is None:
        raise InputError(f"dataset {dataset!r}, split {split!r}: no {modality} queries to invert into {into}")
    return loaded, items


def _invert(
    out: Path,
    model: Encoder,
    items: Items,
    config: InversionConfig,
    settings: Mapping[str, Any],
    compute: Compute,
    *,
    notices: Sequence[str],
) -> int:
    """Invert what of the items is not kept in ``out`` yet, and write the files."""
    from crossgap.embeddings import Embeddings, encode_parts
    from crossgap.inversion.loop import Inverter
    from crossgap.provenance import config_hash
    from crossgap.store import Chunk, open_store

    into, snapshots = settings["into"], settings["snapshots"]
    settings = {
        **settings,
        "inversion": asdict(config),
        **compute.settings(model.device),
    }

    @cache  # made with the first chunk that is wanted, used for all
    def inverter() -> Inverter:
        return Inverter(
            model, into=into, configs=[config], engine=settings["engine"], compiled=settings["compiled"]
        )

    def make(parts: Sequence[range], tick: Tick) -> Iterator[dict[str, Tensor]]:
        targets = encode_parts(model, items, parts, compute=compute)
        for part, targets_ND in zip(parts, targets, strict=True):
            ids = [items.ids[place] for place in part]
            (inversion,) = inverter().run(targets_ND, item_ids=ids, snapshots=snapshots, progress=tick)
            kept = {f"inverted-step-{step}": values_ND for step, values_ND in inversion.snapshots.items()}
            rest = {"tokens": inversion.tokens, "losses": inversion.losses, "stopped": inversion.stopped}
            yield {"inverted": inversion.features, **kept, **rest}

    with open_store(out, settings, compute.processes) as store, ItemProgress() as progress:
        if store is None:
            say(f"{out}: complete, nothing to do")
            return 0
        rows = store.rows(
            items.ids,
            make,
            name="inverted",
            size=config.batch_size,
            begin=partial(progress.start, f"invert into {into}", len(items)),
        )
        if rows is None:
            return 0
        # the source says what the features were made of: these items with these settings
        source = hashlib.sha256(f"{items.content_hash}:{config_hash(settings)}".encode()).hexdigest()
        for name in [name for name in rows if name.startswith("inverted")]:
            Embeddings(
                ids=items.ids,
                values=rows.pop(name),
                labels=items.labels,
                modality=into,
                encoder=model.fingerprint,
                source=source,
            ).save(out / f"{name}.safetensors")
        Chunk(items.ids, rows).save(out / "tokens.safetensors")
        loss = float(rows["losses"][:, -1].mean())
        store.finish({"loss": loss, "notices": notices})
    say(f"{out / 'inverted.safetensors'}: {len(items)} items, mean final loss {loss:.4f}")
    return 0


# from Python, `crossgap.invert(...)` is the function of docs/python.md
sys.modules[__name__].__class__ = InvertModule


if __name__ == "__main__":
    sys.exit(run_command(main, settings=SETTINGS, example="method=lbfgs weight_decay=0"))
