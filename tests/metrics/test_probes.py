"""Class means and linear probes: numbers against loops, scikit-learn and hand-made cases; tasks; rows."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from torch import Tensor

from analysis.export import claims_frame
from analysis.results import Results, compute
from analysis.sheets.measured import probes as probe_sheets
from analysis.study import RecordedStudy, read_runs
from analysis.typeset import ABSENT
from crossgap.command import run_command
from crossgap.datasets import probes as probes_module
from crossgap.datasets.features import feature_dataset
from crossgap.datasets.load import load_dataset
from crossgap.datasets.probes import most_shots, probe_tasks
from crossgap.datasets.readers.feature_files import read_features
from crossgap.datasets.tasks import Dataset, Items, ProbeData
from crossgap.embeddings import embed
from crossgap.errors import InputError
from crossgap.evaluate import main
from crossgap.evaluation.plan import EvaluationConfig
from crossgap.evaluation.result import Evaluation
from crossgap.evaluation.run import evaluate
from crossgap.metrics.intervals import Bootstrap
from crossgap.metrics.similarity import unit_rows
from crossgap.posthoc import centring
from crossgap.probes.class_mean import class_mean_accuracy, draw_shots, own_class_hits
from crossgap.probes.linear_probe import (
    PRESET_STRENGTH,
    STRENGTHS,
    fit_linear_probe,
    linear_probe_accuracy,
)
from crossgap.probes.shots import DRAWS, SHOTS, probe_columns
from crossgap.records import read_rows
from crossgap.vocabulary import PROBES
from tests.conftest import tiny_encoder
from tests.evaluation.test_evaluate import PROVENANCE, dataset, images, picture, plan
from tests.evaluation.test_routes import one
from tests.evaluation.test_routes import rows as rows_of
from tests.evaluation.test_summary import printed
from tests.reference_metrics import plain_class_mean

BOTH = EvaluationConfig(
    routes=("native", "oti", "centred", "image_pca"), plans={"text": plan()}, num_neighbours=2, probes=PROBES
)


def at_angles(*degrees: float) -> Tensor:
    angles = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def cloud(seed: int, count: int, dim: int = 5, classes: str = "abcd") -> tuple[Tensor, list[str]]:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn((count, dim), generator=generator, dtype=torch.float64)
    return rows, [classes[number % len(classes)] for number in range(count)]


def everything(count: int) -> list[Tensor]:
    return [torch.arange(count)]


# class means


@pytest.mark.parametrize("seed", range(4))
def test_class_means_equal_a_plain_loop(seed: int) -> None:
    query, labels = cloud(seed, 17, classes="abcde")  # nothing is known of e
    support, support_labels = cloud(seed + 100, 14)
    support = support * torch.arange(1, 15)[:, None]  # an item's length does not count
    found = class_mean_accuracy(
        query, support, labels=labels, support_labels=support_labels, draws=everything(14)
    )
    expected = plain_class_mean(query.tolist(), support.tolist(), labels, support_labels)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert math.isnan(expected[4])
    assert 0 < np.nanmean(expected) < 1


@pytest.mark.parametrize("seed", range(4))
def test_class_means_equal_scikit_learn(seed: int) -> None:
    query, labels = cloud(seed, 40)
    support, support_labels = cloud(seed + 50, 23)
    centroids = NearestCentroid().fit(unit_rows(support).numpy(), support_labels)
    # the Euclidean distance of unit rows orders as their cosine does
    means = unit_rows(torch.tensor(centroids.centroids_)).numpy()
    nearest = KNeighborsClassifier(n_neighbors=1).fit(means, centroids.classes_)
    expected = nearest.predict(unit_rows(query).numpy()) == np.array(labels)
    found = class_mean_accuracy(
        query, support, labels=labels, support_labels=support_labels, draws=everything(23)
    )
    np.testing.assert_array_equal(found.numpy(), expected)


def test_class_means_of_angles() -> None:
    support, support_labels = at_angles(0, 60, 100, 140, 270), list("aabbc")  # means at 30, 120, 270
    query = at_angles(50, 76, 74, 200, 300)
    found = class_mean_accuracy(
        query, support, labels=list("abbcd"), support_labels=support_labels, draws=everything(5)
    )
    assert found[:4].tolist() == [1, 1, 0, 1]
    assert math.isnan(found[4])
    draws = [torch.tensor([0, 2, 4]), torch.tensor([1, 2, 4]), torch.tensor([0, 3, 4])]
    averaged = class_mean_accuracy(
        at_angles(51), support, labels=["a"], support_labels=support_labels, draws=draws
    )
    assert averaged.item() == pytest.approx(2 / 3)  # a at 0, 60 and 0 against b at 100, 100 and 140


def test_ties_of_classes_are_shared() -> None:
    scores = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
    found = own_class_hits(scores, list("aba"), list("abc"))
    assert found.tolist() == pytest.approx([1 / 2, 1 / 3, 0])


def test_class_means_do_not_depend_on_order_or_names() -> None:
    query, labels = cloud(1, 30)
    support, support_labels = cloud(2, 25)
    ids = [f"item-{number}" for number in range(25)]
    turn, turn_query = torch.randperm(25), torch.randperm(30)
    other = {"a": "z", "b": "y", "c": "x", "d": "w"}

    def measured(
        query: Tensor, labels: list[str], support: Tensor, names: list[str], ids: list[str]
    ) -> Tensor:
        draws = [draw_shots(ids, names, shots=2, seed=3, draw=draw) for draw in range(3)]
        return class_mean_accuracy(query, support, labels=labels, support_labels=names, draws=draws)

    straight = measured(query, labels, support, support_labels, ids)
    turned = measured(
        query[turn_query],
        [other[labels[row]] for row in turn_query],
        support[turn],
        [other[support_labels[row]] for row in turn],
        [ids[row] for row in turn],
    )
    assert torch.equal(straight[turn_query], turned)
    rotation = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64))[0]
    rotated = measured(query @ rotation, labels, support @ rotation, support_labels, ids)
    assert torch.equal(straight, rotated)


def test_even_features_give_chance() -> None:
    labels, support_labels = list("abcab"), list("aabbbc")
    hits = class_mean_accuracy(
        torch.ones(5, 1), torch.ones(6, 1), labels=labels, support_labels=support_labels, draws=everything(6)
    )
    np.testing.assert_allclose(hits, 1 / 3)


def test_shots_are_nested_seeded_and_belong_to_the_item() -> None:
    ids = [f"item-{number}" for number in range(40)]
    labels = ["abc"[number % 3] for number in range(39)] + ["lone"]
    drawn = {shots: set(draw_shots(ids, labels, shots=shots, seed=0).tolist()) for shots in (1, 2, 4, 100)}
    assert drawn[1] < drawn[2] < drawn[4] < drawn[100] == set(range(40))
    assert [len(rows) for rows in drawn.values()] == [4, 7, 13, 40]  # of the lone one there is one
    again = draw_shots(ids, labels, shots=4, seed=0)
    assert set(again.tolist()) == drawn[4]
    assert set(draw_shots(ids, labels, shots=4, seed=1).tolist()) != drawn[4]
    assert set(draw_shots(ids, labels, shots=4, seed=0, draw=1).tolist()) != drawn[4]
    kept = [row for row in range(40) if labels[row] != "b"]
    without = draw_shots([ids[row] for row in kept], [labels[row] for row in kept], shots=4, seed=0)
    assert {kept[row] for row in without} == {row for row in drawn[4] if labels[row] != "b"}


def test_bad_class_means_are_refused() -> None:
    query, labels = cloud(0, 4)
    with pytest.raises(InputError, match="needs an id and a label"):
        draw_shots(["a"], [], shots=1, seed=0)
    with pytest.raises(InputError, match="shots=0 must be at least 1"):
        draw_shots(["a"], ["x"], shots=0, seed=0)
    with pytest.raises(InputError, match="each row needs one label"):
        class_mean_accuracy(query, query, labels=labels[:3], support_labels=labels, draws=everything(4))
    with pytest.raises(InputError, match="at least one draw"):
        class_mean_accuracy(query, query, labels=labels, support_labels=labels, draws=[])
    with pytest.raises(InputError, match="do not fit 4 labels and 2 classes"):
        own_class_hits(torch.zeros(4, 3), labels, ["a", "b"])
    with pytest.raises(InputError, match="no direction"):
        class_mean_accuracy(
            query, torch.zeros(4, 5), labels=labels, support_labels=labels, draws=everything(4)
        )


# linear probes


@pytest.mark.parametrize("strength", [0.5, 20.0])
def test_the_gradient_of_the_stated_objective_vanishes(strength: float) -> None:
    rows, labels = cloud(3, 60, classes="abc")
    probe = fit_linear_probe(rows, labels, strength=strength)
    weight, bias = (part.clone().requires_grad_() for part in (probe.weight_KD, probe.bias_K))
    own = torch.tensor([probe.classes.index(label) for label in labels])
    loss = torch.nn.functional.cross_entropy(rows @ weight.T + bias, own, reduction="sum")
    (weight.square().sum() / 2 + strength * loss).backward()
    assert weight.grad is not None
    assert bias.grad is not None
    largest = max(float(weight.grad.abs().max()), float(bias.grad.abs().max()))
    assert largest < 2e-4 * strength * len(rows)  # the solver stops at 1e-4 of the mean
    assert probe.converged


def test_two_classes_are_binary_logistic_regression() -> None:
    rows, labels = cloud(4, 50, classes="ab")
    probe = fit_linear_probe(rows, labels, strength=3.0)
    weight = (probe.weight_KD[1] - probe.weight_KD[0]).clone().requires_grad_()
    bias = (probe.bias_K[1] - probe.bias_K[0]).clone()
    own = torch.tensor([label == "b" for label in labels]).double()
    loss = torch.nn.functional.binary_cross_entropy_with_logits(rows @ weight + bias, own, reduction="sum")
    (weight.square().sum() / 2 + 3 * loss).backward()
    assert weight.grad is not None
    assert float(weight.grad.abs().max()) < 2e-4 * 3 * 50
    assert probe.weight_KD.shape == (2, 5)


@pytest.mark.parametrize("classes", ["ab", "abcd"])
def test_the_accuracy_equals_scikit_learn_and_unknown_classes_are_nan(classes: str) -> None:
    rows, labels = cloud(5, 40, classes=classes)
    query, asked = cloud(6, 30, classes=classes)
    probe = fit_linear_probe(rows, labels, strength=2.0)
    oracle = LogisticRegression(C=2.0, max_iter=1000).fit(rows.numpy(), labels)
    found = linear_probe_accuracy(probe, query, labels=[*asked[:-1], "never seen"])
    np.testing.assert_array_equal(
        found[:-1].numpy(), oracle.predict(query.numpy())[:-1] == np.array(asked[:-1])
    )
    assert math.isnan(found[-1])


def test_a_probe_of_clear_clusters_is_right_and_the_same_again() -> None:
    rows = at_angles(0, 5, 120, 125, 240, 245)
    probe = fit_linear_probe(rows, list("aabbcc"), strength=100.0)
    asked = at_angles(2, 122, 242, 2)
    assert linear_probe_accuracy(probe, asked, labels=list("abca")).tolist() == [1, 1, 1, 1]
    assert linear_probe_accuracy(probe, asked, labels=list("bcab")).tolist() == [0, 0, 0, 0]
    again = fit_linear_probe(rows, list("aabbcc"), strength=100.0)
    assert torch.equal(probe.weight_KD, again.weight_KD)


def test_a_solver_that_stops_early_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crossgap.probes.linear_probe.MOST_STEPS", 2)
    rows, labels = cloud(3, 60)
    assert not fit_linear_probe(rows, labels, strength=100.0).converged


def test_bad_probes_are_refused() -> None:
    rows, labels = cloud(0, 8)
    with pytest.raises(InputError, match="each row needs one label"):
        fit_linear_probe(rows, labels[:3], strength=1.0)
    with pytest.raises(InputError, match="at least two classes"):
        fit_linear_probe(rows, ["a"] * 8, strength=1.0)
    with pytest.raises(InputError, match=r"strength=0\.0 must be above 0"):
        fit_linear_probe(rows, labels, strength=0.0)
    with pytest.raises(InputError, match="finite features"):
        fit_linear_probe(rows * math.inf, labels, strength=1.0)


# tasks


def with_probe(data: Dataset, query: Items, support: Items, note: str = "") -> Dataset:
    return replace(data, probe=ProbeData(query=query, support=support, note=note))


@cache
def probed(split: str, *, skewed: bool = False) -> Dataset:
    """The made dataset of the evaluation's tests with thirty training images of its classes."""
    first = 0 if split == "test" else 500
    query = images(f"{split}-q", 12, first)
    support = replace(images("support", 30, 2000), groups=())
    if skewed:
        support = support.relabel(["ab"[number > 27] for number in range(30)])
    return with_probe(dataset(split), replace(query, groups=()), support)


def test_tasks_have_their_shots_and_say_which_classes_are_small() -> None:
    tasks = probe_tasks(probed("test"), PROBES)
    assert [task.name for task in tasks] == list(probe_columns())
    assert [task.shots for task in tasks] == [*SHOTS, None, None]
    assert {task.headline for task in tasks} == {"hit@1"}
    by_name = {task.name: task.protocol for task in tasks}
    assert "8 training images of each of 3 classes;" in by_name["class-mean-8"]
    assert (
        "16 training images of each of 3 classes (all of the 3 that have fewer)" in by_name["class-mean-16"]
    )
    assert "all 30 training images of 3 classes" in by_name["linear-probe"]
    assert [task.kind for task in probe_tasks(probed("test"), ("linear-probe",))] == ["linear-probe"]
    assert probe_tasks(probed("test"), ()) == probe_tasks(dataset("test"), PROBES) == ()


def test_classes_without_training_images_are_named() -> None:
    (task, *_) = probe_tasks(probed("test", skewed=True), PROBES)
    assert "4 queries of 1 classes without training images ('c') are skipped." in task.protocol


def test_one_class_and_no_common_class_are_refused_with_the_reason() -> None:
    data = probed("test").probe
    assert data is not None
    lone = with_probe(dataset("test"), data.query, data.support.relabel(["a"] * 30))
    with pytest.raises(InputError, match="all 30 training images are of one class, 'a'"):
        probe_tasks(lone, PROBES)
    strange = with_probe(dataset("test"), data.query, data.support.relabel(list("xyz") * 10))
    with pytest.raises(InputError, match="none of the 3 classes of the split is among the 3"):
        probe_tasks(strange, PROBES)
    result = evaluate(tiny_encoder(), lone, None, config=BOTH, provenance=PROVENANCE)
    assert all("one class" in result.skipped[probe] for probe in PROBES)
    assert not {row.task for row in result.rows} & set(probe_columns())


def test_training_images_of_a_tested_group_are_left_out_and_counted() -> None:
    query, support = images("q", 6, 0), images("s", 20, 100)  # groups thing-0 ... thing-5 are tested
    (task, *_) = probe_tasks(with_probe(dataset("test"), query, support, "The end."), PROBES)
    assert task.gallery.ids == support.ids[6:]
    assert task.protocol.endswith("6 training images of groups that the split has too are left out. The end.")
    with pytest.raises(InputError, match="all 6 training images are of groups"):
        probe_tasks(with_probe(dataset("test"), query, images("s", 6, 100)), PROBES)


def test_the_cost_of_a_linear_probe_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert most_shots([3, 5, 9], 17) is None
    assert most_shots([3, 5, 9], 16) == 8  # 3 + 5 + 8
    assert most_shots([3, 5, 9], 9) == 3
    assert most_shots([3, 5, 9], 1) == 1  # each class keeps an image
    monkeypatch.setattr(probes_module, "MOST_SCORES", 3 * 12)
    task = probe_tasks(probed("test"), PROBES)[-1]
    assert task.shots == 4
    assert "fitted on 12 of 30 training images (at most 4 a class, drawn" in task.protocol
    result = evaluate(tiny_encoder(), probed("test"), None, config=BOTH, provenance=PROVENANCE)
    data = probed("test").probe
    assert data is not None
    rows = draw_shots(data.support.ids, data.support.labels, shots=4, seed=0)
    support = embed(tiny_encoder(), data.support).values[rows]
    probe = fit_linear_probe(support, [data.support.labels[row] for row in rows], strength=PRESET_STRENGTH)
    query = embed(tiny_encoder(), data.query).values
    expected = float(linear_probe_accuracy(probe, query, labels=data.query.labels).nanmean())
    assert one(result, task="linear-probe", route="native", metric="hit@1")["value"] == expected


# rows


@cache
def measured() -> Evaluation:
    return evaluate(tiny_encoder(), probed("test"), probed("val"), config=BOTH, provenance=PROVENANCE)


@pytest.mark.parametrize("name", list(probe_columns())[:-1])
@pytest.mark.parametrize("route", ["native", "centred"])
def test_class_mean_rows_equal_a_direct_computation(name: str, route: str) -> None:
    task = next(task for task in probe_tasks(probed("test"), PROBES) if task.name == name)
    query, support = (embed(tiny_encoder(), items).values for items in (task.query, task.gallery))
    if route == "centred":
        fit = probed("test").fit
        assert fit is not None
        assert fit.images is not None
        centred = centring(embed(tiny_encoder(), fit.images).values)
        query, support = centred(query), centred(support)
    found = []
    for draw in range(DRAWS):
        kept = (
            list(range(30))
            if task.shots is None
            else draw_shots(
                task.gallery.ids, task.gallery.labels, shots=task.shots, seed=0, draw=draw
            ).tolist()
        )
        labels = [task.gallery.labels[row] for row in kept]
        found.append(plain_class_mean(query.tolist(), support[kept].tolist(), task.query.labels, labels))
    row = one(measured(), task=name, route=route, metric="hit@1")
    assert row["value"] == pytest.approx(float(np.mean(found)))
    assert (row["n_queries"], row["n_skipped"], row["n_gallery"]) == (12, 0, 30)
    values = measured().tables["per_query"]
    values = values[(values["task"] == name) & (values["route"] == route) & (values["metric"] == "hit@1")]
    np.testing.assert_allclose(values["value"], np.mean(found, axis=0), atol=1e-9)
    assert values["query_class"].tolist() == list(task.query.labels)


def test_the_penalty_is_the_best_on_val_and_reported_on_test() -> None:
    for route in ("native", "image_pca"):
        curve = rows_of(measured(), "val", task="linear-probe", route=route)
        assert len(curve) == len(STRENGTHS)
        assert set(curve["selection"]) == {"curve"}
        best = curve.sort_values("value", ascending=False, kind="stable").iloc[0]
        row = one(measured(), task="linear-probe", route=route, metric="hit@1")
        assert (row["selection"], row["setting"]) == ("val", best["setting"])
        assert row["setting"].startswith("rank") == (route == "image_pca")
    data = probed("test").probe
    assert data is not None
    query, support = (embed(tiny_encoder(), items).values for items in (data.query, data.support))
    row = one(measured(), task="linear-probe", route="native", metric="hit@1")
    strength = float(row["setting"].removeprefix("C "))
    oracle = LogisticRegression(C=strength, max_iter=1000).fit(support.double().numpy(), data.support.labels)
    assert row["value"] == pytest.approx(oracle.score(query.double().numpy(), list(data.query.labels)))


def test_without_val_the_penalty_is_the_preset() -> None:
    result = evaluate(tiny_encoder(), probed("test"), None, config=BOTH, provenance=PROVENANCE)
    row = one(result, task="linear-probe", route="native", metric="hit@1")
    assert (row["setting"], row["selection"]) == (f"C {PRESET_STRENGTH:g}", "preset")


def test_maps_take_the_strength_of_retrieval_among_images() -> None:
    chosen = one(measured(), task="image-subgroup", route="image_pca", metric="mAP")
    for name in list(probe_columns())[:-1]:
        row = one(measured(), task=name, route="image_pca", metric="hit@1")
        assert (row["setting"], row["selection"]) == (chosen["setting"], chosen["selection"])
    curve = rows_of(measured(), "val", route="image_pca", selection="curve")
    assert set(curve["task"]) == {"image-subgroup", "text-subgroup", "linear-probe"}


def test_chance_is_one_of_the_classes() -> None:
    for name in probe_columns():
        assert one(measured(), task=name, route="chance", metric="hit@1")["value"] == pytest.approx(1 / 3)


def test_queries_of_unknown_classes_are_skipped_and_counted() -> None:
    result = evaluate(tiny_encoder(), probed("test", skewed=True), None, config=BOTH, provenance=PROVENANCE)
    for name in probe_columns():
        row = one(result, task=name, route="native", metric="hit@1")
        assert (row["n_queries"], row["n_skipped"]) == (8, 4)


@cache
def without_probes() -> Evaluation:
    config = replace(BOTH, probes=())
    return evaluate(tiny_encoder(), probed("test"), probed("val"), config=config, provenance=PROVENANCE)


def test_probes_change_no_other_row() -> None:
    others = [replace(row, seconds=None) for row in measured().rows if row.task not in probe_columns()]
    assert others == [replace(row, seconds=None) for row in without_probes().rows]
    for name, table in without_probes().tables.items():
        both = measured().tables[name]
        both = both[~both["task"].isin(probe_columns())] if "task" in both else both
        pd.testing.assert_frame_equal(both.reset_index(drop=True), table)


def results_of(result: Evaluation, folder: Path) -> tuple[RecordedStudy, Results]:
    result.write(folder)
    study = read_runs([folder])
    return study, compute(study, Bootstrap(resamples=50))


def test_the_report_leads_claims_and_compares_as_without_probes(tmp_path: Path) -> None:
    _, both = results_of(measured(), tmp_path / "both")
    _, plain = results_of(without_probes(), tmp_path / "plain")
    assert [within.where for within in both.within] == [within.where for within in plain.within]
    assert [within.where.task for within in both.within] == ["image-subgroup"]
    pd.testing.assert_frame_equal(claims_frame(both.claims), claims_frame(plain.claims))
    for name in ("values", "effects", "key_changes", "factorial", "mean_ap", "gaps"):
        pd.testing.assert_frame_equal(getattr(both, name), getattr(plain, name))
    assert both.disagreement == plain.disagreement < 1e-9
    assert both.rows_without_queries == plain.rows_without_queries


def test_the_report_shows_routes_by_shots(tmp_path: Path) -> None:
    study, results = results_of(measured(), tmp_path)
    (table,) = probe_sheets(study, results)
    assert table.columns == ("arm", "route", *probe_columns().values())
    cells = {row[1].text: row[2:] for row in table.rows}
    assert list(cells) == ["chance", "native", "centred", "image PCA"]
    for column, name in enumerate(probe_columns()):
        native, mapped = (
            one(measured(), task=name, route=route, metric="hit@1")["value"]
            for route in ("native", "image_pca")
        )
        assert cells["native"][column].text == f"{100 * native:.1f}"
        assert cells["native"][column].detail.startswith("[")
        shown = cells["image PCA"][column]
        assert shown.text == f"{100 * mapped:.1f}"
        difference = f"{100 * (mapped - native):+.1f}".replace("-", "−").replace("+0.0", "0.0")
        assert shown.detail.startswith(f"{difference} [")
        assert (cells["chance"][column].text, cells["chance"][column].detail) == ("33.3", "")
    assert cells["centred"][-1].text == ABSENT  # a linear probe undoes an invertible map
    _, plain = results_of(without_probes(), tmp_path / "plain")
    assert probe_sheets(study, plain) == []


def test_the_summary_shows_routes_by_shots() -> None:
    shown = printed(measured().rows, measured().tables["per_query"], width=80)
    head, _, rest = shown.partition("images by labelled training images: accuracy %")
    assert "class-mean" not in head
    lines = [text.split() for text in rest.splitlines()]
    native = next(words for words in lines if words[:1] == ["native"])
    values = [one(measured(), task=name, route="native", metric="hit@1")["value"] for name in probe_columns()]
    assert native[1:] == [f"{100 * value:.2f}" for value in values]
    assert "Protocol, 16 shots: 12 queries, 30 in the gallery" in rest
    assert "Protocol, linear probe: 12 queries" in rest
    assert "labelled training images" not in printed(
        without_probes().rows, without_probes().tables["per_query"], width=80
    )


def test_no_inversion_and_no_one_sided_map_classifies() -> None:
    result = evaluate(
        tiny_encoder(), probed("test"), None, config=EvaluationConfig(probes=PROBES), provenance=PROVENANCE
    )
    projections = {
        "class_pca", "caption_pca", "image_pca", "random_subspace", "isoclip", "shared_space", "top_removed",
    }  # fmt: skip
    others = {"centred", "shifted", "whitened", "orthogonal_closing"}
    for name in probe_columns():
        measured_by = set(rows_of(result, task=name)["route"])
        # of a few items of a tiny model some maps cannot be fitted: they are named
        measured_by |= {key.partition("/")[2] for key in result.skipped if key.startswith(f"{name}/")}
        expected = projections if name == "linear-probe" else projections | others
        assert measured_by == expected | {"chance", "native"}


def test_an_unknown_probe_is_refused() -> None:
    with pytest.raises(InputError, match="probe"):
        EvaluationConfig(probes=("knn",))  # type: ignore[arg-type]


# datasets


def write_folder(root: Path, sizes: dict[str, dict[str, int]]) -> Path:
    seed = 0
    for split, classes in sizes.items():
        for name, count in classes.items():
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                (root / split / name / f"{number}.png").write_bytes(picture(seed := seed + 1))
    return root


def test_folders_have_probes_where_there_is_a_training_split(tmp_path: Path) -> None:
    sizes = {"train": {"cat": 3, "dog": 2}, "val": {"cat": 1}, "test": {"cat": 1, "dog": 1, "owl": 2}}
    root = str(write_folder(tmp_path / "split", sizes))
    tasks = {task.name: task for task in probe_tasks(load_dataset(root), PROBES)}
    assert list(tasks) == list(probe_columns())
    assert (
        "2 queries of 1 classes without training images ('owl') are skipped" in tasks["linear-probe"].protocol
    )
    assert tasks["linear-probe"].gallery.labels == ("cat",) * 3 + ("dog",) * 2
    assert load_dataset(root, split="train").probe is None
    limited = load_dataset(root, limit=4)
    assert "Split train limited to 4 of 5 items" in probe_tasks(limited, PROBES)[0].protocol
    flat = write_folder(tmp_path / "flat", {"": {"cat": 2, "dog": 2}})
    assert load_dataset(str(flat)).probe is None


def test_tables_have_probes_and_texts_have_none(tmp_path: Path) -> None:
    for number in range(6):
        (tmp_path / f"{number}.png").write_bytes(picture(number))
    lines = [f"{number}.png,{'ab'[number % 2]},{'train' if number < 4 else 'test'}" for number in range(6)]
    (tmp_path / "images.csv").write_text("\n".join(["path,label,split", *lines]))
    assert len(probe_tasks(load_dataset(str(tmp_path / "images.csv")), PROBES)) == len(probe_columns())
    words = [f"word {number},{'ab'[number % 2]},{'train' if number < 4 else 'test'}" for number in range(6)]
    (tmp_path / "texts.csv").write_text("\n".join(["text,label,split", *words]))
    assert load_dataset(str(tmp_path / "texts.csv")).probe is None


def test_features_have_probes(tmp_path: Path) -> None:
    values, labels = cloud(0, 30, classes="abc")
    np.savez(
        tmp_path / "f.npz", values=values.numpy(), ids=[f"i{number}" for number in range(30)], labels=labels,
        splits=["train"] * 15 + ["val"] * 6 + ["test"] * 9, modality="image",
    )  # fmt: skip
    table = read_features([tmp_path / "f.npz"])
    test, val = feature_dataset(table), feature_dataset(table, split="val")
    result = evaluate(table, test, val, config=BOTH, provenance=PROVENANCE)
    expected = plain_class_mean(values[21:].tolist(), values[:15].tolist(), labels[21:], labels[:15])
    row = one(result, task="class-mean-full", route="native", metric="hit@1")
    assert row["value"] == pytest.approx(float(np.mean(expected)))
    assert one(result, task="linear-probe", route="native", metric="hit@1")["selection"] == "val"
    assert feature_dataset(table, split="train").probe is None


def test_emoji_are_classified_by_other_concepts_of_their_subgroup() -> None:
    data = load_dataset("emoji", limit=20)
    assert data.probe is not None
    assert data.fit is not None
    assert data.fit.images is not None
    assert data.probe.support.ids == data.fit.images.ids
    assert not set(data.probe.query.groups) & set(data.probe.support.groups)
    retrieved = next(task for task in data.tasks if task.name == "image-subgroup")
    assert data.probe.query.labels == retrieved.query.labels
    assert data.probe.support.content_hash == data.fit.images.content_hash  # its features are made once
    assert load_dataset("emoji", split="train").probe is None
    protocol = probe_tasks(data, PROBES)[0].protocol
    assert "training pictures show other concepts. Limited to 20 of 371 concepts" in protocol


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], [name for name in probe_columns() if name != "linear-probe"]),
        (["--probes"], []),
        (["--probes", "linear-probe"], ["linear-probe"]),
        (["--probes", "class-mean", "linear-probe"], list(probe_columns())),
    ],
)
def test_the_command_measures_class_means_unless_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], expected: list[str]
) -> None:
    values, labels = cloud(0, 20, classes="ab")
    np.savez(
        tmp_path / "f.npz", values=values.numpy(), ids=[f"i{number}" for number in range(20)], labels=labels,
        splits=["train"] * 12 + ["test"] * 8, modality="image",
    )  # fmt: skip
    given = ["--embeddings", str(tmp_path / "f.npz"), "--routes", "native", "--out", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", ["evaluate", *given, *arguments])
    assert run_command(main) == 0
    rows = read_rows([tmp_path / "out" / "rows.jsonl"])
    assert [name for name in dict.fromkeys(rows["task"]) if name in probe_columns()] == expected
