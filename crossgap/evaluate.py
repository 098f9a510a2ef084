"""``python -m crossgap.evaluate``: measure an encoder on datasets by routes, and write rows and tables.

python -m crossgap.evaluate --encoder runs/demo/trials/baseline-s0 --dataset emoji --out runs/eval
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from crossgap.command import run_command
from crossgap.datasets import Dataset, load_dataset
from crossgap.datasets.split import MissingSplit
from crossgap.encode import use_threads
from crossgap.encoders import Precision, load_encoder
from crossgap.errors import InputError, check_known
from crossgap.evaluation import EvaluationConfig, InversionPlan, evaluate, joined
from crossgap.feature_files import feature_dataset, read_features
from crossgap.inversion import Engine, Target
from crossgap.presets import Schedule, preset
from crossgap.progress import ItemProgress
from crossgap.provenance import Provenance, config_hash
from crossgap.records import read_json, write_json
from crossgap.routes import ROUTES
from crossgap.settings import check_same
from crossgap.summary import summary


def main(
    *,
    out: Path,
    encoder: str | None = None,
    dataset: tuple[str, ...] = (),
    embeddings: tuple[Path, ...] = (),
    pretrained: str | None = None,
    split: str = "test",
    routes: tuple[str, ...] = tuple(ROUTES),
    limit: int | None = None,
    choose: Literal["val", "preset"] = "val",
    schedule: Schedule = "paper",
    steps: int | None = None,
    num_tokens: tuple[int, ...] = (),
    snapshots: tuple[int, ...] = (),
    template: str | None = None,
    seed: int = 0,
    engine: Engine = "auto",
    device: str = "auto",
    precision: Precision = "fp32",
    threads: int | None = None,
) -> int:
    """Measure an encoder on datasets, or features made elsewhere: retrieval by routes, zero-shot, gap.

    Args:
        out: folder for rows.jsonl and the tables that pictures are drawn from.
        encoder: an open_clip model name, a checkpoint folder or a run directory.
        dataset: known datasets, folders of class folders, shards 'path/{000..003}.tar', or CSV files.
        embeddings: instead of --encoder and --dataset: files of features made by any model, of one
            dataset (docs/embeddings.md).
        pretrained: with a model name: a tag, a weights file, or 'random'.
        split: split to report; settings are chosen on split val where there is one.
        routes: how query and gallery are made.
        limit: keep so many concepts (emoji) or items of each side, spread over the classes.
        choose: where ranks, strengths and inversion settings come from: split val, or published values.
        schedule: the paper's, or fast, which reaches its loss in far fewer steps (docs/inversion.md).
        steps: inversion steps, of both directions; default: the schedule's for this encoder.
        num_tokens: pseudo-token counts to compare; default: the paper's for this encoder.
        snapshots: steps at which inverted features are scored.
        template: prompt of OTI; default: the dataset's.
        seed: of inversion noise and random controls.
        engine: lean, tower, or auto (lean where the towers allow it).
        device: auto, cpu, cuda, ...
        precision: fp32, bf16 or fp64.
        threads: CPU threads; default: torch's choice.
    """
    for route in routes:
        check_known(route, ROUTES, "route")
    if steps is not None and steps < 1:
        raise InputError(f"--steps must be at least 1, not {steps}")
    use_threads(threads)
    if embeddings:
        if encoder is not None or dataset or pretrained is not None:
            raise InputError(
                "--embeddings brings features and data along: leave --encoder, --dataset and --pretrained out"
            )
    elif encoder is None or not dataset:
        raise InputError("give --encoder and --dataset, or --embeddings")
    if len(set(dataset)) < len(dataset):
        raise InputError(f"--dataset names one more than once: {' '.join(dataset)}")
    table = read_features(embeddings) if embeddings else None
    loaders: list[Callable[..., Dataset]] = (
        [partial(feature_dataset, table, limit=limit)]
        if table is not None
        else [partial(load_dataset, name, limit=limit) for name in dataset]
    )
    measured = [(load(split=split), _validation(load, split)) for load in loaders]
    for test, _ in measured:
        if not test.tasks:
            raise InputError(
                f"dataset {test.name!r}, split {split!r}: no task can be made of it (no labels, no captions)"
            )
    source = table if table is not None else load_encoder(str(encoder), pretrained, device, precision)
    plans: list[dict[Target, InversionPlan]] = [
        {}
        if table is not None
        else _plans(
            source.name,
            schedule=schedule,
            steps=steps,
            num_tokens=num_tokens,
            snapshots=snapshots,
            template=template or test.default_template,
            seed=seed,
            engine=engine,
        )
        for test, _ in measured
    ]
    configs = [EvaluationConfig(routes=routes, plans=plan, seed=seed) for plan in plans]
    about: dict[str, Any] = {
        "encoder": encoder,
        "pretrained": pretrained,
        "dataset": dataset,
        "embeddings": [str(path) for path in embeddings],
        "split": split,
        "limit": limit,
        "choose": choose,
    }
    evaluations = {test.name: asdict(one) for (test, _), one in zip(measured, configs, strict=True)}
    settings = {**about, "fingerprint": source.fingerprint, "evaluation": evaluations}
    _claim(out, settings)
    provenance = Provenance(study="evaluate", arm=source.name, config_hash=config_hash(settings))
    with ItemProgress() as progress:
        result = joined(
            evaluate(
                source,
                test,
                val if choose == "val" else None,
                config=config,
                provenance=provenance,
                cache=out / "features",
                progress=progress.start,
            )
            for (test, val), config in zip(measured, configs, strict=True)
        )
    result.write(out)
    console = Console(file=sys.stdout)
    for part in summary(result.rows, result.tables["per_query"], result.skipped):
        console.print(part)
    print(f"rows: {out / 'rows.jsonl'}")
    return 0


def _plans(
    name: str,
    *,
    schedule: Schedule,
    steps: int | None,
    num_tokens: tuple[int, ...],
    snapshots: tuple[int, ...],
    template: str,
    seed: int,
    engine: Engine,
) -> dict[Target, InversionPlan]:
    plans: dict[Target, InversionPlan] = {}
    for into in ("text", "image"):
        config = preset(name, into, schedule)
        config = replace(config, seed=seed, template=template)
        config = replace(config, steps=config.steps if steps is None else steps)
        plans[into] = InversionPlan(
            config=config,
            token_counts=num_tokens or (config.num_tokens,),
            snapshots=snapshots or _default_snapshots(config.steps),
            engine=engine,
        )
    return plans


def _claim(out: Path, settings: dict[str, Any]) -> None:
    """Mark ``out`` as the folder of this evaluation, or go on in it.

    Raises:
        InputError: it holds another evaluation (what differs is listed) or something else.
    """
    path = out / "evaluation.json"
    given = json.loads(json.dumps(settings))
    if path.exists():
        check_same(out, read_json(path), given)
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} holds other things than an evaluation; choose another --out")
    else:
        write_json(path, given)


def _validation(load: Callable[..., Dataset], split: str) -> Dataset | None:
    """Load split val to choose settings on, if the dataset has one and it is not the split reported."""
    if split == "val":
        return None
    try:
        return load(split="val")
    except MissingSplit:
        return None


def _default_snapshots(steps: int) -> tuple[int, ...]:
    """Steps spread as the gain changes: early ones dense."""
    return tuple(sorted({0, *(round(steps * share) for share in (0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1))}))


if __name__ == "__main__":
    sys.exit(run_command(main))
