"""What a study aims at, read from rows made by hand, and constraints against the baseline."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ablations.objectives import OBJECTIVES, losses_against, objective_values
from ablations.runs import objectives
from ablations.study.axes import Axis
from ablations.study.named import STUDIES
from crossgap.errors import InputError
from crossgap.records import Row


def row(task: str, metric: str, value: float, *, route: str = "native", **changes: object) -> Row:
    fields: dict[str, object] = {
        "study": "s", "arm": "a", "seed": 0, "encoder": "e", "dataset": "emoji", "dataset_hash": "h",
        "split": "test", "task": task, "protocol": "p", "route": route, "metric": metric, "unit": "fraction",
        "value": value, "n_queries": 1, "n_gallery": 1, "config_hash": "c", "versions": "v", "commit": "c",
    }  # fmt: skip
    return Row(**{**fields, **changes})  # type: ignore[arg-type]


ROWS = [
    row("image-concept", "mAP", 0.9),
    row("image-subgroup", "mAP", 0.11, selection="curve"),
    row("image-subgroup", "mAP", 0.2),
    row("image-subgroup", "hit@1", 0.99),
    row("image-subgroup", "mAP", 0.5, route="oti", selection="curve", steps=5),
    row("image-subgroup", "mAP", 0.23, route="oti", selection="val", steps=17),
    row("image-subgroup", "mAP", 0.04, route="untrained_tokens", selection="curve", steps=0),
    row("image-text", "hit@1", 0.1),
    row("text-image", "hit@1", 0.3),
    row("zero-shot-concept", "hit@1", 0.4),
    row("zero-shot-subgroup", "hit@1", 0.6),
    row("gap", "centroid_distance", 0.7),
]


def test_each_objective_reads_its_number() -> None:
    assert objective_values(ROWS, list(OBJECTIVES), "test") == {
        "intra_modal": 0.2,
        "inter_modal": pytest.approx(0.2),
        "zero_shot": 0.4,
        "misalignment": pytest.approx(0.03),
        "gap": 0.7,
    }


def test_another_split_has_its_own_numbers() -> None:
    rows = [*ROWS, row("image-subgroup", "mAP", 0.8, split="val")]
    assert objective_values(rows, ["intra_modal", "gap"], "val") == {"intra_modal": 0.8, "gap": None}
    assert objective_values(rows, ["intra_modal"], "test") == {"intra_modal": 0.2}


def test_what_was_not_measured_is_none() -> None:
    assert objective_values([], list(OBJECTIVES), "test") == dict.fromkeys(OBJECTIVES)
    without_oti = [row for row in ROWS if row.route == "native"]
    assert objective_values(without_oti, ["misalignment"], "test") == {"misalignment": None}


@pytest.mark.parametrize(
    ("inverted", "untrained", "value"),
    [(0.23, 0.04, 0.03), (0.15, 0.04, 0.0), (0.04, 0.04, None), (0.01, 0.04, None), (0.23, None, None)],
)
def test_misalignment_cannot_be_won_by_an_inversion_that_fails(
    inverted: float, untrained: float | None, value: float | None
) -> None:
    rows = [
        row("image-subgroup", "mAP", 0.2),
        row("image-subgroup", "mAP", inverted, route="oti", selection="val", steps=17),
    ]
    if untrained is not None:
        rows.append(row("image-subgroup", "mAP", untrained, route="untrained_tokens", steps=0))
    found = objective_values(rows, ["misalignment"], "test")["misalignment"]
    assert found == (None if value is None else pytest.approx(value))


def test_an_objective_whose_routes_are_not_measured_is_refused() -> None:
    demo = STUDIES["demo"]()
    evaluation = replace(demo.evaluation, routes=("native", "oti"))
    pareto = replace(
        demo,
        arms=demo.arms[:1],
        evaluation=evaluation,
        axes=(Axis(name="learning_rate", low=0.001, high=0.1),),
    )
    with pytest.raises(InputError, match="'misalignment' needs the route 'untrained_tokens'"):
        pareto.in_mode("pareto")


def test_every_objective_is_documented_and_listed(capsys: pytest.CaptureFixture[str]) -> None:
    text = (Path(__file__).parent.parent.parent / "docs" / "studies.md").read_text()
    assert objectives() == 0
    listed = capsys.readouterr().out
    for name, objective in OBJECTIVES.items():
        better = {"maximize": "high", "minimize": "low"}[objective.direction]
        assert f"| `{name}` | {better} | {objective.description} |" in text
        assert name in listed


def test_a_dataset_with_other_tasks_uses_its_first_image_task() -> None:
    rows = [row("image-b", "mAP", 0.3), row("image-a", "mAP", 0.4), row("image-text", "mAP", 0.9)]
    assert objective_values(rows, ["intra_modal"], "test") == {"intra_modal": 0.4}
    one_way = [row("image-text", "hit@1", 0.25)]
    assert objective_values(one_way, ["inter_modal"], "test") == {"inter_modal": 0.25}


def test_directions() -> None:
    assert {name: objective.direction for name, objective in OBJECTIVES.items()} == {
        "intra_modal": "maximize",
        "inter_modal": "maximize",
        "zero_shot": "maximize",
        "misalignment": "minimize",
        "gap": "minimize",
    }


@pytest.mark.parametrize(
    ("name", "before", "now", "over"),
    [
        ("zero_shot", 0.5, 0.5, -0.01),
        ("zero_shot", 0.5, 0.49, 0.0),
        ("zero_shot", 0.5, 0.45, 0.04),
        ("zero_shot", 0.5, 0.6, -0.11),
        ("gap", 0.5, 0.6, 0.09),
        ("gap", 0.5, 0.4, -0.11),
        ("zero_shot", None, 0.6, 1.0),
        ("zero_shot", 0.5, None, 1.0),
    ],
)
def test_what_is_lost_beyond_the_limit(
    name: str, before: float | None, now: float | None, over: float
) -> None:
    found = losses_against({name: before}, {name: now}, {name: 0.01})
    assert found == {name: pytest.approx(over)}


def test_without_limits_nothing_is_constrained() -> None:
    assert losses_against({"gap": 1.0}, {"gap": 9.0}, {}) == {}
