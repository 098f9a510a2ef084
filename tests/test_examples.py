"""The examples run, and say what the evaluation says."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from crossgap.datasets import load_dataset
from crossgap.encoders import load_encoder
from crossgap.evaluation import EvaluationConfig, InversionPlan, evaluate
from crossgap.inversion import InversionConfig
from crossgap.provenance import Provenance
from pretrain.recipes import RECIPES, smoke
from pretrain.train import train

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def test_the_inversion_curve_equals_the_evaluation(tmp_path: Path) -> None:
    train(smoke(RECIPES["baseline"]()), tmp_path / "run", progress=False)
    spec = importlib.util.spec_from_file_location("inversion_curve", EXAMPLES / "inversion_curve.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    shown = example.main(str(tmp_path / "run"))
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
