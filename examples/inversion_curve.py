"""Draw an inversion curve from Python: does crossing to the text tower help image-image retrieval, and when?

    python examples/inversion_curve.py runs/demo/trials/baseline-s0

Prints mAP of the native query and of its OTI feature after a few steps, on 100 validation concepts of the
embedded emoji, beside a placebo (tokens before their first update).
"""

from __future__ import annotations

import sys

import tyro

from crossgap.command import run_command
from crossgap.datasets import load_dataset
from crossgap.embeddings import embed
from crossgap.encoders import load_encoder
from crossgap.inversion import InversionConfig, invert
from crossgap.metrics.relevance import relevance_of
from crossgap.metrics.retrieval import retrieval_metrics
from crossgap.metrics.similarity import cosine_scores

STEPS = (0, 5, 17, 50)


def main(encoder_name: str) -> dict[str, float]:
    """Return mAP by what the query was made of."""
    encoder = load_encoder(encoder_name)
    tasks = {task.name: task for task in load_dataset("emoji", split="val", limit=100).tasks}
    task = tasks["image-subgroup"]
    query, gallery = embed(encoder, task.query), embed(encoder, task.gallery)
    relevance = relevance_of(task)
    config = InversionConfig(steps=max(STEPS), num_tokens=1)
    found = invert(encoder, query.values, into="text", config=config, item_ids=query.ids, snapshots=STEPS)
    features = {"native": query.values}
    features |= {f"OTI, {step} steps": found.snapshots[step].cpu() for step in STEPS}
    return {
        name: float(retrieval_metrics(cosine_scores(values, gallery.values), relevance)["mAP"].nanmean())
        for name, values in features.items()
    }


def show(run: tyro.conf.Positional[str], /) -> None:
    """Print the curve of a trained run.

    Args:
        run: as --encoder of crossgap.evaluate.
    """
    for name, value in main(run).items():
        print(f"{name:15} mAP {100 * value:.1f} %")


if __name__ == "__main__":
    sys.exit(run_command(show))
