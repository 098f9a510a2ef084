"""One trial: train a model, measure it, write its rows; the same call resumes or does nothing."""

from __future__ import annotations

import traceback
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ablations.study import Study
from crossgap.datasets import load_dataset
from crossgap.encoders import load_encoder
from crossgap.evaluation import evaluate
from crossgap.provenance import Provenance, config_hash
from crossgap.records import read_json, write_json, write_text
from pretrain.config import TrainConfig
from pretrain.train import NonFiniteLoss, train


@dataclass(frozen=True, kw_only=True)
class TrialSpec:
    """Everything a worker process needs for one cell of a study."""

    study: Study
    arm: str
    seed: int
    device: str
    threads: int
    folder: Path

    def train_config(self) -> TrainConfig:
        """Return the arm's training settings with this trial's seed, device and threads."""
        base = self.study.arm(self.arm).train
        return replace(base, seed=self.seed, device=self.device, threads=self.threads)


def trial_folder(out: Path, arm: str, seed: int) -> Path:
    """Return where a cell of a study lives."""
    return out / "trials" / f"{arm}-s{seed}"


def result_of(folder: Path) -> dict[str, Any] | None:
    """Return a finished trial's ``result.json``, or None while it is not finished."""
    path = folder / "result.json"
    return read_json(path) if path.exists() else None


def run_trial(spec: TrialSpec) -> None:
    """Train, measure and write ``result.json`` last; whatever was there before is reused.

    A loss that is not finite, or any other exception, ends the trial as failed with its reason; the study
    goes on.
    """
    if result_of(spec.folder) is not None:
        return
    for torn in spec.folder.glob(".*"):  # temporary files of a killed writer
        torn.unlink()
    torch.set_num_threads(spec.threads)
    about = {"arm": spec.arm, "seed": spec.seed}
    try:
        measured = _train_and_measure(spec)
    except NonFiniteLoss as error:
        write_json(spec.folder / "result.json", {"state": "failed", **about, "reason": str(error)})
    except Exception as error:
        # one trial's defect must not take the study with it: it is recorded, shown, and its traceback kept
        write_text(spec.folder / "error.txt", traceback.format_exc())
        reason = f"{type(error).__name__}: {error} (traceback in error.txt)"
        write_json(spec.folder / "result.json", {"state": "failed", **about, "reason": reason})
    else:
        write_json(spec.folder / "result.json", {"state": "complete", **about, **measured})


def _train_and_measure(spec: TrialSpec) -> dict[str, Any]:
    study = spec.study
    config = spec.train_config()
    trained = train(config, spec.folder, progress=False)
    encoder = load_encoder(str(spec.folder), device=spec.device)
    test = load_dataset(study.dataset, split="test", limit=study.limit)
    val = load_dataset(study.dataset, split="val", limit=study.limit)
    settings = {"train": config.as_json(), "evaluation": asdict(study.evaluation)}
    provenance = Provenance(
        study=study.name,
        arm=spec.arm,
        seed=spec.seed,
        pairs_seen=trained.pairs_seen,
        config_hash=config_hash(settings),
    )
    result = evaluate(encoder, test, val, config=study.evaluation, provenance=provenance)
    write_json(spec.folder / "evaluation.json", {"settings": settings, "skipped": result.skipped})
    result.write(spec.folder)
    headline = {
        (row.task, row.metric): row.value
        for row in result.rows
        if row.split == "test" and row.route == "native"
    }
    return {
        "train_seconds": trained.seconds,
        "native_mAP": headline.get(("image-subgroup", "mAP")),
        "centroid_distance": headline.get(("gap", "centroid_distance")),
    }
