"""A second evaluation of a model encodes and inverts nothing, and says so; a damaged file is made again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from crossgap import embeddings
from crossgap.evaluation.plan import EvaluationConfig, InversionPlan
from crossgap.evaluation.result import Evaluation, joined
from crossgap.evaluation.run import evaluate
from crossgap.inversion.config import InversionBatch, InversionConfig
from crossgap.inversion.kept import path_of
from crossgap.inversion.loop import Inverter
from crossgap.records import TABLES
from tests.conftest import tiny_encoder
from tests.evaluation.test_evaluate import PROVENANCE, dataset, images

PLAN = InversionPlan(
    config=InversionConfig(steps=4, batch_size=4),
    token_counts=(1, 2),
    snapshots=(0, 4, 2),
    learning_rates=(0.02, 0.1),
    methods=("adamw", "lbfgs"),
)
CONFIG = EvaluationConfig(
    routes=("oti", "untrained_tokens", "oti_both", "shuffled_targets"), plans={"text": PLAN}, num_neighbours=2
)
KEPT = "inverted-*.safetensors"


def measure(cache: Path | None, config: EvaluationConfig = CONFIG) -> Evaluation:
    arguments: dict[str, Any] = {"config": config, "provenance": PROVENANCE, "cache": cache}
    return evaluate(tiny_encoder(), dataset("test"), dataset("val"), **arguments)


def without_seconds(result: Evaluation) -> list[dict[str, Any]]:
    return [{**asdict(row), "seconds": None} for row in result.rows]


@pytest.fixture
def first(tmp_path: Path) -> Evaluation:
    return measure(tmp_path)


def forbidden(*_arguments: Any, **_more: Any) -> None:
    raise AssertionError("computed again")


def test_a_second_evaluation_encodes_and_inverts_nothing(
    first: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # val and test query in two batches each; the gallery and the shuffled targets of the task on test
    assert first.reused["inverted"] == len(list(tmp_path.glob(KEPT))) == 2 * 2 + 2
    assert first.reused["encoded"] == len(list(tmp_path.glob("*.safetensors"))) - 6
    assert (first.reused["features_read"], first.reused["inversions_read"]) == (0, 0)
    monkeypatch.setattr(embeddings, "encode_items", forbidden)
    monkeypatch.setattr(Inverter, "__init__", forbidden)
    again = measure(tmp_path)
    assert [asdict(row) for row in again.rows] == [asdict(row) for row in first.rows]
    assert any(row.seconds for row in again.rows)
    for name in TABLES:
        pd.testing.assert_frame_equal(again.tables[name], first.tables[name], check_exact=True)
    counts = {"encoded": 0, "features_read": first.reused["encoded"], "inverted": 0, "inversions_read": 6}
    assert again.reused == counts
    assert joined([again, first]).reused["inversions_read"] == 6
    assert joined([again, first]).reused["encoded"] == first.reused["encoded"]


def test_the_rows_are_those_of_an_evaluation_without_a_cache(first: Evaluation) -> None:
    plain = measure(None)
    assert without_seconds(plain) == without_seconds(first)
    assert plain.reused["inverted"] == 6


def torn(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flipped(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize("damage", [torn, flipped, lambda _: b"", lambda _: b"no tensors"])
def test_a_damaged_file_is_named_and_made_again(
    first: Evaluation, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    path = min(tmp_path.glob(KEPT))
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    with pytest.warns(UserWarning, match=rf"{path.name}: not a file of inversions .*; inverted again"):
        again = measure(tmp_path)
    assert without_seconds(again) == without_seconds(first)
    assert (again.reused["inverted"], again.reused["inversions_read"]) == (1, 5)
    assert measure(tmp_path).reused["inverted"] == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"learning_rates": (0.02, 0.2)},
        {"token_counts": (1,)},
        {"snapshots": (0, 4)},
        {"engine": "tower"},
        {"config": replace(PLAN.config, seed=1)},
        {"config": replace(PLAN.config, batch_size=3)},
    ],
)
def test_another_plan_is_inverted_itself(first: Evaluation, tmp_path: Path, changes: dict[str, Any]) -> None:
    other = replace(CONFIG, routes=("oti",), plans={"text": replace(PLAN, **changes)})
    result = measure(tmp_path, other)
    assert (result.reused["inverted"], result.reused["inversions_read"]) == (4, 0)
    assert result.reused["encoded"] == 0
    assert without_seconds(result) == without_seconds(measure(None, other))


def test_a_plan_keeps_its_name_and_each_circumstance_has_one_of_its_own(tmp_path: Path) -> None:
    encoder, items = tiny_encoder(), images("x", 4, 0)
    targets_ND = torch.eye(4, encoder.embed_dim)
    batch = InversionBatch(into="text", configs=PLAN.batches[0], snapshots=PLAN.snapshots, engine="auto")
    here = (tmp_path, encoder, items, targets_ND)
    names = [path_of(batch, *here), path_of(batch, tmp_path, encoder, items, targets_ND.flip(0))]
    names += [path_of(batch, tmp_path, encoder, images("x", 4, 9), targets_ND)]
    names += [path_of(batch, tmp_path, tiny_encoder("CustomTextCLIP"), items, targets_ND)]
    names += [
        path_of(replace(batch, into="image"), *here),
        path_of(replace(batch, configs=PLAN.batches[1]), *here),
    ]
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        names.append(path_of(batch, *here))
    finally:
        torch.set_num_threads(threads)
    assert len(set(names)) == len(names)
    assert path_of(batch, *here) == names[0]
