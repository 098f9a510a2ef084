"""The examples run, and say what the evaluation says."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from crossgap.datasets import load_dataset
from crossgap.encoders import load_encoder
from crossgap.evaluation import EvaluationConfig, InversionPlan, evaluate
from crossgap.inversion import InversionConfig
from crossgap.provenance import Provenance
from pretrain.recipes import RECIPES, smoke
from pretrain.terms import TERMS
from pretrain.train import train

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    return example


def test_a_term_of_ones_own_is_trained_with() -> None:
    before = dict(TERMS)
    try:
        seen = load("own_term").main(replace(smoke(RECIPES["baseline"]()), steps=20))
    finally:
        TERMS.clear()
        TERMS.update(before)
    assert seen["with"][0] == pytest.approx(seen["almost without"][0], rel=0.2)
    assert seen["with"][-1] < 0.8 * seen["almost without"][-1]


def test_contributing_shows_the_same_term() -> None:
    source = (EXAMPLES / "own_term.py").read_text()
    shown = (EXAMPLES.parent / "CONTRIBUTING.md").read_text().split("```python\n")[1:]
    function, line = (block.split("```")[0].strip() for block in shown[:2])
    assert function in source
    name, term = line.removesuffix(",").split(": ", 1)
    assert f"TERMS[{name}] = {term}" in source


def test_the_inversion_curve_equals_the_evaluation(tmp_path: Path) -> None:
    train(smoke(RECIPES["baseline"]()), tmp_path / "run", progress=False)
    shown = load("inversion_curve").main(str(tmp_path / "run"))
    plan = InversionPlan(config=InversionConfig(steps=50), token_counts=(1,), snapshots=(0, 5, 17, 50))
    result = evaluate(
        load_encoder(str(tmp_path / "run")),
        load_dataset("emoji", split="val", limit=100),
        None,
        config=EvaluationConfig(routes=("oti", "untrained_tokens"), plans={"text": plan}),
        provenance=Provenance(study="example", arm="smoke", config_hash="0"),
    )
    rows = [row for row in result.rows if (row.task, row.metric) == ("image-subgroup", "mAP")]
    measured = {row.steps: row.value for row in rows if row.selection == "curve"}
    (native,) = (row.value for row in rows if row.route == "native")
    assert shown.pop("native") == pytest.approx(native)
    assert list(shown.values()) == pytest.approx(list(measured.values()), abs=1e-6)
