"""Evaluation on a small made dataset: rows against direct computation, choices made on val alone."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from crossgap.datasets.tasks import Dataset, FitData, Items, Pairs, Task
from crossgap.embeddings import Embeddings, embed
from crossgap.errors import InputError
from crossgap.evaluation.plan import EvaluationConfig, InversionPlan
from crossgap.evaluation.run import evaluate
from crossgap.inversion.config import InversionConfig
from crossgap.inversion.loop import invert
from crossgap.metrics.relevance import relevance_of
from crossgap.metrics.retrieval import retrieval_metrics
from crossgap.metrics.similarity import cosine_scores
from crossgap.provenance import Provenance
from crossgap.records import read_rows, read_table
from crossgap.store import save_tensors
from tests.conftest import tiny_encoder

WORDS = ["cat", "dog", "red car", "blue car", "tree", "rose", "old house", "tower"]


def picture(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def images(name: str, count: int, first: int) -> Items:
    return Items(
        modality="image",
        ids=tuple(f"{name}/{number}" for number in range(count)),
        contents=tuple(picture(first + number) for number in range(count)),
        labels=tuple("abc"[number % 3] for number in range(count)),
        groups=tuple(f"thing-{number}" for number in range(count)),
    )


def texts(name: str, count: int, template: str) -> Items:
    return Items(
        modality="text",
        ids=tuple(f"{name}/{number}" for number in range(count)),
        contents=tuple(template.format(WORDS[number % 8]) + f" {number}" for number in range(count)),
        labels=tuple("abc"[number % 3] for number in range(count)),
        groups=tuple(f"thing-{number}" for number in range(count)),
    )


def dataset(split: str, *, fit: bool = True) -> Dataset:
    first = 0 if split == "test" else 500
    query, gallery = images(f"{split}-q", 7, first), images(f"{split}-g", 9, first + 100)
    asked, answered = texts(f"{split}-name", 7, "a {}"), texts(f"{split}-words", 9, "some {}")
    sides = {
        "image-subgroup": ("image-image", query, gallery),
        "text-subgroup": ("text-text", asked, answered),
        "image-text": ("image-text", query, asked),
        "zero-shot-class": ("zero-shot", query, texts("prompt", 3, "a photo of {}")),
    }
    tasks = tuple(
        Task(
            name=name,
            kind=kind,
            dataset="made",
            dataset_hash="hash",
            split=split,
            protocol="Made for a test.",
            query=left,
            gallery=right,
            ignore_same_group=kind in ("image-image", "text-text"),
            drop_self=False,
        )
        for name, (kind, left, right) in sides.items()
    )
    pairs = Pairs(image=images("train", 24, 900), text=texts("train-name", 24, "one {}"))
    fitted = FitData(
        split="train",
        images=pairs.image,
        texts=pairs.text,
        pairs=pairs,
        class_prompts=texts("train-prompt", 20, "a photo of {}"),
    )
    return Dataset(
        name="made",
        hash="hash",
        split=split,
        tasks=tasks,
        pairs=Pairs(image=query, text=asked),
        fit=fitted if fit else None,
        default_template="a photo of {}",
    )


def plan(**changes) -> InversionPlan:
    config = InversionConfig(steps=6, batch_size=4)
    return InversionPlan(**{"config": config, "token_counts": (1, 2), "snapshots": (0, 2, 6), **changes})


CONFIG = EvaluationConfig(plans={"text": plan(), "image": plan()}, num_neighbours=2)
PROVENANCE = Provenance(study="made", arm="tiny", seed=3, config_hash="0")


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[pd.DataFrame, pd.DataFrame, Path]:
    folder = tmp_path_factory.mktemp("measured")
    result = evaluate(tiny_encoder(), dataset("test"), dataset("val"), config=CONFIG, provenance=PROVENANCE)
    result.write(folder)
    return read_rows([folder / "rows.jsonl"]), read_table([folder], "per_query"), folder


def value(rows: pd.DataFrame, **wanted: object) -> float:
    chosen = rows
    for column, expected in wanted.items():
        chosen = chosen[chosen[column].isna() if expected is None else chosen[column] == expected]
    assert len(chosen) == 1, chosen
    return float(chosen["value"].iloc[0])


def direct(task: Task, query: torch.Tensor) -> dict[str, torch.Tensor]:
    relevance = relevance_of(task)
    return retrieval_metrics(cosine_scores(query, embed(tiny_encoder(), task.gallery).values), relevance)


@pytest.mark.parametrize("name", ["image-subgroup", "text-subgroup", "image-text"])
def test_native_rows_equal_a_direct_computation(measured, name: str) -> None:
    rows, _, _ = measured
    task = next(task for task in dataset("test").tasks if task.name == name)
    expected = direct(task, embed(tiny_encoder(), task.query).values)
    for metric in ("mAP", "mAP@R", "R-precision", "hit@1", "recall@10"):
        wanted = float(expected[metric].nanmean())
        assert value(rows, task=name, split="test", route="native", metric=metric) == pytest.approx(wanted)


def test_inverted_rows_equal_a_direct_computation(measured) -> None:
    rows, _, _ = measured
    encoder, task = tiny_encoder(), dataset("test").tasks[0]
    config = InversionConfig(steps=6, batch_size=4, num_tokens=2)
    targets = embed(encoder, task.query).values
    inverted = invert(encoder, targets, into="text", config=config, item_ids=task.query.ids).features
    expected = float(direct(task, inverted)["mAP"].nanmean())
    keys = {"task": "image-subgroup", "split": "test", "route": "oti", "selection": "curve", "metric": "mAP"}
    assert value(rows, **keys, steps=6, num_tokens=2) == pytest.approx(expected, abs=1e-6)


def test_the_inversion_loss_stands_beside_its_features(measured) -> None:
    rows, _, _ = measured
    losses = rows[(rows.task == "oti-loss") & (rows.split == "test") & (rows.num_tokens == 2)]
    assert losses.steps.tolist() == [0, 2, 6]
    config = InversionConfig(steps=6, batch_size=4, num_tokens=2)
    query = dataset("test").tasks[0].query
    encoder = tiny_encoder()
    found = invert(encoder, embed(encoder, query).values, into="text", config=config, item_ids=query.ids)
    np.testing.assert_allclose(losses.value, found.losses[:, [0, 2, 6]].mean(dim=0), atol=1e-6)


@pytest.mark.parametrize(("route", "name"), [("oti", "image-subgroup"), ("ovi", "text-subgroup")])
def test_the_reported_setting_is_the_best_one_on_val(measured, route: str, name: str) -> None:
    rows, _, _ = measured
    curve = rows[(rows.route == route) & (rows.task == name) & (rows.metric == "mAP")]
    on_val = curve[(curve.split == "val") & (curve.selection == "curve")]
    assert len(on_val) == 4
    best = on_val.sort_values("value", ascending=False, kind="stable").iloc[0]
    reported = curve[(curve.split == "test") & (curve.selection == "val")]
    assert reported[["steps", "num_tokens"]].to_numpy().tolist() == [[best.steps, best.num_tokens]]
    same = curve[(curve.split == "test") & (curve.selection == "curve")]
    same = same[(same.steps == best.steps) & (same.num_tokens == best.num_tokens)]
    assert reported.value.item() == same.value.item()


def test_chance_is_the_mean_over_random_orders(measured) -> None:
    rows, _, _ = measured
    task = dataset("test").tasks[0]
    generator = torch.Generator().manual_seed(0)
    gallery = embed(tiny_encoder(), task.gallery).values
    relevance = relevance_of(task)
    scores = torch.rand(2000, 7, len(gallery), generator=generator)
    drawn = torch.stack([retrieval_metrics(score, relevance)["mAP"].nanmean() for score in scores]).mean()
    expected = value(rows, task="image-subgroup", split="test", route="chance", metric="mAP")
    assert expected == pytest.approx(float(drawn), abs=0.01)


def test_per_query_values_average_to_the_rows(measured) -> None:
    rows, per_query, _ = measured
    keys = ["dataset", "split", "task", "route", "steps", "num_tokens", "setting", "selection", "metric"]
    means = per_query.groupby(keys, dropna=False)["value"].mean()
    joined = rows[rows.metric.isin(per_query.metric.unique())].copy()
    joined[["steps", "num_tokens"]] = joined[["steps", "num_tokens"]].astype("Int64")
    joined = joined.merge(means.rename("mean").reset_index(), on=keys, how="inner")
    assert len(joined) == len(means)
    np.testing.assert_allclose(joined["value"], joined["mean"], atol=1e-12)


def test_gap_rows_have_intervals_around_them(measured) -> None:
    rows, _, _ = measured
    gap = rows[(rows.task == "gap") & rows.metric.isin(["centroid_distance", "mean_pair_cosine", "RMG"])]
    assert len(gap) == 3
    assert (gap.low < gap.value).all()
    assert (gap.value < gap.high).all()


def test_pictures_tables_hold_what_figures_need(measured) -> None:
    _, _, folder = measured
    shown = read_table([folder], "neighbours")
    assert set(shown.route) == {"native", "oti", "ovi", "centred"}
    assert shown.groupby(["task", "route", "query_id"]).size().eq(5).all()
    assert not (shown.query_id.str.split("/").str[1] == shown.neighbour_id.str.split("/").str[1]).any()
    assert Image.open(io.BytesIO(shown.neighbour_image.dropna().iloc[0])).size == (40, 40)
    points = read_table([folder], "projection")
    assert points.groupby("modality").size().to_dict() == {"image": 7, "text": 7}
    counts = read_table([folder], "histograms")
    assert set(counts.route) == set(shown.route)
    assert counts[counts.kind == "image-text, true pairs"]["count"].sum() == 7


def test_what_cannot_be_fitted_is_named_not_dropped() -> None:
    config = EvaluationConfig(routes=("centred", "class_pca", "random_subspace"))
    result = evaluate(tiny_encoder(), dataset("test", fit=False), None, config=config, provenance=PROVENANCE)
    assert "training split" in result.skipped["image-subgroup/centred"]
    assert "training split" in result.skipped["text-subgroup/class_pca"]
    assert {row.route for row in result.rows} == {"chance", "native", "random_subspace"}


def test_without_val_the_setting_is_the_preset() -> None:
    config = EvaluationConfig(routes=("oti",), plans={"text": plan()})
    result = evaluate(tiny_encoder(), dataset("test"), None, config=config, provenance=PROVENANCE)
    reported = [row for row in result.rows if row.route == "oti" and row.selection != "curve"]
    assert {(row.steps, row.num_tokens, row.selection) for row in reported} == {(6, 1, "preset")}


def test_features_are_cached_by_weights_and_contents(tmp_path: Path) -> None:
    encoder, items = tiny_encoder(), images("x", 4, 0)
    first = embed(encoder, items, cache=tmp_path)
    (path,) = tmp_path.glob("*.safetensors")
    before = path.stat().st_mtime_ns
    again = embed(encoder, items, cache=tmp_path)
    assert path.stat().st_mtime_ns == before
    assert torch.equal(first.values, again.values)
    embed(encoder, images("x", 4, 7), cache=tmp_path)
    embed(tiny_encoder("CustomTextCLIP"), items, cache=tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) == 3


def test_embeddings_survive_a_file_and_join_by_id(tmp_path: Path) -> None:
    made = embed(tiny_encoder(), images("x", 4, 0))
    made.save(tmp_path / "e.safetensors")
    loaded = Embeddings.load(tmp_path / "e.safetensors")
    assert (loaded.ids, loaded.labels, loaded.source) == (made.ids, made.labels, made.source)
    assert torch.equal(loaded.join(["x/2", "x/0"]), made.values[[2, 0]])
    with pytest.raises(InputError, match="1 of 2 ids have no embedding, the first is 'y'"):
        loaded.join(["x/1", "y"])
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"bad\.safetensors: damaged"):
        Embeddings.load(tmp_path / "bad.safetensors")
    save_tensors(tmp_path / "other.safetensors", {"values": made.values}, {})
    with pytest.raises(InputError, match=r"other\.safetensors: not a file of embeddings"):
        Embeddings.load(tmp_path / "other.safetensors")
