"""What a checkpoint is worth while its run goes on: gap, and retrieval within and across modalities."""

from __future__ import annotations

from pathlib import Path

from crossgap.datasets.load import load_dataset
from crossgap.encoders.loading import load_encoder
from crossgap.evaluation.plan import EvaluationConfig
from crossgap.evaluation.run import evaluate
from crossgap.provenance import Provenance

BEST_BY = "image-text/hit@1"
_SHOWN = {"gap": "centroid_distance", "image-text": "hit@1", "text-image": "hit@1"}


def check_validation(dataset: str) -> None:
    """Refuse a dataset that checkpoints cannot be measured on, before there is one.

    Raises:
        InputError: it is not known, not there, or has no validation split.
    """
    load_dataset(dataset, split="val")


def validate(checkpoint: Path, dataset: str, device: str) -> dict[str, float]:
    """Measure a checkpoint on the validation split of a dataset, native features alone.

    Returns:
        ``gap/centroid_distance``, ``image-text/hit@1``, ``text-image/hit@1`` and the mAP of each task within
        a modality, as ``image-subgroup/mAP``: those that the dataset has.
    """
    result = evaluate(
        load_encoder(str(checkpoint), device=device),
        load_dataset(dataset, split="val"),
        None,
        config=EvaluationConfig(routes=("native",), num_neighbours=0, probes=()),
        provenance=Provenance(study="validation", arm=checkpoint.name, config_hash=""),
    )
    return {
        f"{row.task}/{row.metric}": row.value
        for row in result.rows
        if row.route == "native" and row.metric == _SHOWN.get(row.task, "mAP") and row.value is not None
    }
