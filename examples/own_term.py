"""A term of your own in the objective: write a function, name it, give it a weight, see what it changes.

    python examples/own_term.py --steps 200

A term is a function of views that ends in a 0-d tensor; ``pretrain/terms/views.py`` lists the views. Here:
the cosine of true pairs, pulled up. One seed and a model this small show the path, no effect: for that,
sweep several seeds (examples/studies/own_term.py).
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from crossgap.command import run_command
from crossgap.datasets import load_dataset
from crossgap.encoders import load_encoder
from crossgap.encoders.devices import use_threads
from crossgap.evaluation import Evaluation, EvaluationConfig, InversionPlan, evaluate
from crossgap.files import read_lines
from crossgap.inversion import InversionConfig
from crossgap.metrics.intervals import mean_interval, paired_difference
from crossgap.provenance import Provenance, config_hash
from pretrain.config import TrainConfig
from pretrain.recipes import RECIPES
from pretrain.run import train
from pretrain.terms import TERMS, Term


class Measured(NamedTuple):
    """What the term was while training, and what was measured after it."""

    values: list[float]
    found: Evaluation


def pair_cosine(image_BD: Tensor, text_BD: Tensor) -> Tensor:
    """Pull the cosine of true pairs up: 1 - mean_k <i_k, t_k>."""
    return 1 - (image_BD * text_BD).sum(dim=1).mean()


def measured(config: TrainConfig, arm: str, weight: float, inversion: InversionConfig) -> Measured:
    """Train with a weight of the term; return the term's values on the way, then gap and mAP of the end."""
    objective = replace(config.objective, weights={"clip": 1.0, "pair_cosine": weight})
    config = replace(config, objective=objective)
    plan = InversionPlan(config=inversion, token_counts=(1,), snapshots=(inversion.steps,))
    with tempfile.TemporaryDirectory() as folder:
        train(config, Path(folder), progress=False)
        found = evaluate(
            load_encoder(folder),
            load_dataset("emoji", split="val", limit=100),
            None,
            config=EvaluationConfig(routes=("oti",), plans={"text": plan}, seed=config.seed),
            provenance=Provenance(
                study="own term", arm=arm, seed=config.seed, config_hash=config_hash(config.as_json())
            ),
        )
        values = [line["raw/pair_cosine"] for line in read_lines(Path(folder) / "metrics.jsonl")]
    return Measured(values, found)


def main(
    steps: int = 200,
    pairs: int | None = None,
    inversion_steps: int = 50,
    seed: int = 0,
    threads: int | None = 1,
) -> dict[str, Measured]:
    """Train almost without the term and with it; print its value, the modality gap and the inversion gain.

    Args:
        steps: of training.
        pairs: image-text pairs to train on; default: all.
        inversion_steps: where inversion of the query (OTI) stops.
        seed: of training and inversion, the same for both.
        threads: of torch; more than one only slow towers this small.
    """
    use_threads(threads)
    TERMS["pair_cosine"] = Term(function=pair_cosine, inputs=("image_BD", "text_BD"), acts_on="across")
    recipe = RECIPES["baseline"]()
    small = replace(recipe.model, width=32, layers=2, heads=2, embed_dim=32)
    config = replace(recipe, model=small, steps=steps, batch_size=64, limit=pairs, seed=seed, log_every=2)
    inversion, arms = InversionConfig(steps=inversion_steps, seed=seed), {}
    for arm, weight in (("almost without", 1e-6), ("with", 0.5)):  # a term of weight 0 is not computed
        arms[arm] = values, found = measured(config, arm, weight, inversion)
        (gap,) = (row for row in found.rows if row.metric == "centroid_distance")
        wanted = "task == 'image-subgroup' and metric == 'mAP' and selection != 'curve' and route == "
        native, oti = (found.tables["per_query"].query(f"{wanted}'{route}'") for route in ("native", "oti"))
        (gain,) = mean_interval(paired_difference(oti, native, on=[], by=[]), []).itertuples()
        print(
            f"{arm} the term: 1 - cosine of pairs {values[0]:.3f} -> {values[-1]:.3f}, "
            f"gap {gap.value:.3f} [{gap.low:.3f}, {gap.high:.3f}] ({gap.n_queries} pairs), "
            f"OTI changes mAP by {100 * gain.value:+.2f} [{100 * gain.low:+.2f}, {100 * gain.high:+.2f}] "
            f"points ({gain.n_queries:.0f} queries)"
        )
    print(f"95 % intervals over pairs and classes; one model each (seed {seed}), too few to tell an effect")
    return arms


if __name__ == "__main__":
    sys.exit(run_command(main))
