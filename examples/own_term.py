"""A term of your own in the objective: write a function, name it, give it a weight.

python examples/own_term.py [steps]

A term is a function of views that ends in a 0-d tensor; ``pretrain/views.py`` lists the views. Here: the
cosine of true pairs, pulled up.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from crossgap.records import read_lines
from pretrain.config import TrainConfig
from pretrain.recipes import RECIPES
from pretrain.terms import TERMS, Term
from pretrain.train import train


def pair_cosine(image_BD: Tensor, text_BD: Tensor) -> Tensor:
    """Pull the cosine of true pairs up: 1 - mean_k <i_k, t_k>."""
    return 1 - (image_BD * text_BD).sum(dim=1).mean()


def main(config: TrainConfig) -> dict[str, list[float]]:
    """Train with the term and without it; show what becomes of the term's value."""
    TERMS["pair_cosine"] = Term(function=pair_cosine, inputs=("image_BD", "text_BD"))
    seen = {}
    for name, weight in (("almost without", 1e-6), ("with", 0.5)):
        objective = replace(config.objective, weights={"clip": 1.0, "pair_cosine": weight})
        with tempfile.TemporaryDirectory() as folder:
            train(replace(config, objective=objective), Path(folder), progress=False)
            seen[name] = [line["raw/pair_cosine"] for line in read_lines(Path(folder) / "metrics.jsonl")]
        print(f"{name} the term: 1 - cosine of pairs {seen[name][0]:.3f} -> {seen[name][-1]:.3f}")
    return seen


if __name__ == "__main__":
    main(replace(RECIPES["baseline"](), steps=int(sys.argv[1]) if len(sys.argv) > 1 else 100))
