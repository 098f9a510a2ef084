"""Parts of an evaluation called alone: how a setting is chosen on val, and what becomes of it in rows."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
import torch

from crossgap.datasets.tasks import Dataset
from crossgap.errors import InputError
from crossgap.evaluation.choices import Strengths, best, choose_strength, selection_task
from crossgap.evaluation.features import Features
from crossgap.evaluation.fitting import FittingData
from crossgap.evaluation.measuring import MeasuredRoute, Skipped, Tried, measure, query_values, separation
from crossgap.evaluation.result import Evaluation
from crossgap.evaluation.rows import Collected, Origin, Record
from crossgap.evaluation.sides import Losses, Made, Natives, chance, mapped
from crossgap.inversion.config import InversionConfig
from crossgap.metrics.relevance import Judgement, judge
from crossgap.posthoc import SHARED_TOLERANCES
from tests.conftest import tiny_encoder
from tests.evaluation.test_evaluate import PROVENANCE, dataset

TASK = dataset("test").tasks[0]  # 7 images query 9
CLASSES = TASK.query.labels
VALUES = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, math.nan], dtype=torch.float64)
MADE = Made(task=TASK, route="centred", selection="val", setting="rank 3", note="; fitted on 3 images")


@pytest.fixture(scope="module")
def val() -> Dataset:
    return dataset("val")


@pytest.fixture(scope="module")
def natives() -> Natives:
    return Natives(Features(tiny_encoder()))


@pytest.fixture(scope="module")
def parts(val: Dataset, natives: Natives) -> FittingData:
    """Maps are fitted on the gallery of val here: enough to choose a strength."""
    gallery_GD = natives.of(val.tasks[0]).gallery_GD
    return FittingData(split="train", images=gallery_GD, bands={}, dim=gallery_GD.shape[1], seed=0)


def collected(records: Iterable[Record]) -> Evaluation:
    results = Collected(Origin("fingerprint", PROVENANCE))
    results.add(records)
    return results.evaluation({})


def test_the_first_of_equal_means_is_best() -> None:
    assert best([("a", 0.1), ("b", 0.3), ("c", 0.3), ("d", 0.2)]) == "b"
    assert best([("a", 0.5)]) == "a"


def test_choices_are_made_on_the_leading_task_of_a_kind() -> None:
    made = dataset("val")
    tasks = [replace(made.tasks[0], name=name) for name in ("image-subgroup", "image-concept", "aside")]
    for order in (tasks, tasks[::-1]):
        task = selection_task(replace(made, tasks=tuple(order)), "image-image")
        assert task is not None
        assert task.name == "image-subgroup"
    assert selection_task(made, "text-image") is None
    assert selection_task(None, "image-image") is None


def test_the_strength_is_the_best_on_val_by_a_direct_computation(
    val: Dataset, natives: Natives, parts: FittingData
) -> None:
    chosen = choose_strength("image_pca", "image-image", parts, val, natives)
    ranks = [int(tried.made.setting.removeprefix("rank ")) for tried in chosen.tried]
    native = natives.of(val.tasks[0])
    means = [
        float(query_values(mapped(native, "image_pca", parts, rank, "curve"))["mAP"].nanmean())
        for rank in ranks
    ]
    assert len(ranks) > 1
    assert len(set(means)) > 1
    assert [float(tried.values_Q.nanmean()) for tried in chosen.tried] == means
    assert (chosen.strength, chosen.selection) == (ranks[means.index(max(means))], "val")


def test_strengths_at_which_no_map_can_be_fitted_are_passed_over(
    val: Dataset, natives: Natives, parts: FittingData
) -> None:
    impossible = replace(parts, images=torch.eye(parts.dim)[:1].expand(5, -1))  # one direction alone
    with pytest.raises(InputError):
        choose_strength("top_removed", "image-image", impossible, val, natives)
    axes = torch.eye(parts.dim)
    turned = torch.cos(torch.tensor(0.3)) * axes[:2] + torch.sin(torch.tensor(0.3)) * axes[5:7]
    near = replace(parts, images=torch.cat([axes[:2], -axes[:2]]), texts=torch.cat([turned, -turned]))
    chosen = choose_strength("shared_space", "image-image", near, val, natives)
    assert SHARED_TOLERANCES == (0.001, 0.01, 0.05, 0.1, 0.3)  # 1 - cos .3 is .045
    assert [tried.made.setting for tried in chosen.tried] == [
        f"tolerance {tolerance:g}" for tolerance in SHARED_TOLERANCES[2:]
    ]


def test_without_val_the_strength_is_the_preset(natives: Natives, parts: FittingData) -> None:
    chosen = choose_strength("image_pca", "image-image", parts, None, natives)
    assert (chosen.strength, chosen.selection, chosen.tried) == (min(parts.dim // 2, 8), "preset", ())
    assert choose_strength("centred", "image-image", parts, None, natives).selection == "none"


def test_a_follower_takes_the_strength_of_its_leader_where_that_is_measured(
    val: Dataset, natives: Natives, parts: FittingData
) -> None:
    prompted = replace(parts, class_prompts=parts.images)
    both = Strengths(("random_subspace", "class_pca"), prompted, val, natives)
    assert both.of("random_subspace", "image-image") is both.of("class_pca", "image-image")
    assert both.of("random_subspace", "class-mean") is both.of("class_pca", "image-image")
    for routes, available in ((("random_subspace",), prompted), (("random_subspace", "class_pca"), parts)):
        alone = Strengths(routes, available, val, natives).of("random_subspace", "image-image")
        assert (alone.strength, alone.selection) == (parts.dim // 2, "preset")


def test_rows_are_means_over_queries_with_a_value_and_over_classes() -> None:
    result = collected([MeasuredRoute(MADE, {"mAP": VALUES})])
    rows = {row.metric: row for row in result.rows}
    assert list(rows) == ["mAP", "mAP_macro"]
    assert rows["mAP"].value == pytest.approx(0.35)
    by_class: dict[str, list[float]] = {}
    for label, value in zip(CLASSES[:6], VALUES[:6].tolist(), strict=True):
        by_class.setdefault(label, []).append(value)
    means = [sum(values) / len(values) for values in by_class.values()]
    assert rows["mAP_macro"].value == pytest.approx(sum(means) / len(means))
    assert (rows["mAP"].n_queries, rows["mAP"].n_skipped, rows["mAP"].n_gallery) == (6, 1, 9)
    assert (rows["mAP"].setting, rows["mAP"].selection) == ("rank 3", "val")
    assert rows["mAP"].protocol.endswith("both sides; fitted on 3 images")
    kept = result.tables["per_query"]
    assert kept["query_id"].tolist() == list(TASK.query.ids[:6])  # the last query has no value
    assert kept["value"].tolist() == VALUES[:6].tolist()


def test_a_metric_without_a_number_has_a_reason_and_no_row() -> None:
    nothing = torch.full((7,), math.nan)
    result = collected([MeasuredRoute(replace(MADE, selection="curve"), {"mAP": nothing, "hit@1": VALUES})])
    assert [row.metric for row in result.rows] == ["hit@1"]
    reason = "undefined: 7 of 7 queries have no relevant item"
    names = ("mAP", "mAP_macro")
    assert result.skipped == {f"{TASK.name}/centred/{name}": reason for name in names}


@pytest.mark.parametrize("selection, kept", [("curve", ["mAP"]), ("val", ["mAP", "hit@1"])])
def test_a_curve_keeps_only_the_headline_query_by_query(selection: str, kept: list[str]) -> None:
    values = {"hit@1": VALUES, "mAP": VALUES, "recall@10": VALUES}
    result = collected([MeasuredRoute(replace(MADE, selection=selection), values)])
    assert list(dict.fromkeys(result.tables["per_query"]["metric"])) == kept
    assert [row.metric for row in result.rows] == ["hit@1", "mAP", "recall@10", "mAP_macro"]


def losses(**changes: Any) -> Losses:
    config = InversionConfig(steps=4, num_tokens=2)
    known = Losses(TASK, "oti", "content", 7, config, "", {0: 0.9, 4: 0.5})
    return known._replace(**changes)


def test_what_several_tasks_share_has_one_row() -> None:
    curve = replace(MADE, selection="curve")
    tried = Tried(curve, "mAP", VALUES)
    again = Tried(replace(curve), "mAP", VALUES.clone())
    stronger = Tried(replace(curve, setting="rank 4"), "mAP", VALUES)
    result = collected([tried, losses(), again, losses(task=dataset("test").tasks[3]), stronger])
    assert [(row.task, row.setting, row.steps, row.value) for row in result.rows] == [
        (TASK.name, "rank 3", None, pytest.approx(0.35)),
        ("oti-loss", "", 0, 0.9),
        ("oti-loss", "", 4, 0.5),
        (TASK.name, "rank 4", None, pytest.approx(0.35)),
    ]
    different = [losses(items="others"), losses(config=InversionConfig(steps=4, num_tokens=1))]
    assert len(collected([losses(), *different]).rows) == 6


def test_separation_is_measured_where_it_is_reported_and_says_why_not(natives: Natives) -> None:
    native = natives.of(TASK)
    numbers = separation(native)
    assert not isinstance(numbers, str)
    assert [number.metric for number in numbers] == [
        "same_other_auc", "same_other_overlap", "same_other_iou", "d_prime",
    ]  # fmt: skip
    assert measure(native).separation == numbers
    assert measure(native.said(selection="curve")).separation == () == measure(chance(native)).separation
    alike = replace(native, relevance=_everything_relevant(native.query_QD.shape[0]))
    measured = measure(alike)
    assert isinstance(measured.separation, str)
    assert collected([measured]).skipped[f"{TASK.name}/same_other_auc"] == measured.separation
    assert list(collected([Skipped("a", "b")]).skipped.items()) == [("a", "b")]


def _everything_relevant(n_queries: int) -> Judgement:
    same = replace(TASK, query=TASK.query.relabel("a" * n_queries), gallery=TASK.gallery.relabel("a" * 9))
    return judge(replace(same, ignore_same_group=False))
