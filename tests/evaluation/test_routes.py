"""Routes: every one of them measured as its definition says, fitted on training items, chosen on val."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import open_clip
import pandas as pd
import pytest
import torch
from torch import Tensor

from crossgap import posthoc
from crossgap.datasets.tasks import Dataset, Items, Task
from crossgap.embeddings import embed
from crossgap.encoders.projectors import Projectors, linear_projectors
from crossgap.errors import InputError
from crossgap.evaluation.fitting import FittingData
from crossgap.evaluation.plan import EvaluationConfig
from crossgap.evaluation.result import Evaluation
from crossgap.evaluation.routes import EVERY, INTRA, ROUTES, missing_part, side_maps, sides
from crossgap.evaluation.run import evaluate
from crossgap.inversion.config import InversionConfig
from crossgap.inversion.loop import invert
from crossgap.metrics.relevance import relevance_of
from crossgap.metrics.retrieval import retrieval_metrics
from crossgap.metrics.similarity import cosine_scores
from crossgap.posthoc import Band
from crossgap.vocabulary import ROUTE_WORDS
from tests.conftest import tiny_encoder
from tests.evaluation.test_evaluate import PROVENANCE, dataset, plan

MAPS = [name for name, route in ROUTES.items() if route.map is not None]


@cache
def encoder():
    return tiny_encoder()


def subset(data: Dataset, queries: range) -> Dataset:
    """Keep some queries of every task."""
    return replace(data, tasks=tuple(replace(task, query=task.query.subset(queries)) for task in data.tasks))


@cache
def measured(*, fit: bool = True, val: bool = True, first: int = 0, last: int = 7) -> Evaluation:
    config = EvaluationConfig(plans={"text": plan(), "image": plan()}, num_neighbours=2)
    test = subset(dataset("test", fit=fit), range(first, last))
    chosen_on = dataset("val") if val else None
    return evaluate(encoder(), test, chosen_on, config=config, provenance=PROVENANCE)


def rows(result: Evaluation, split: str = "test", **wanted: object) -> pd.DataFrame:
    frame = pd.DataFrame([vars(row) for row in result.rows])
    frame = frame[frame["split"] == split]
    for column, value in wanted.items():
        frame = frame[frame[column] == value]
    return frame


def one(result: Evaluation, **wanted: object) -> pd.Series:
    found = rows(result, **wanted)
    assert len(found) == 1, found
    return found.iloc[0]


def task_of(kind: str, split: str = "test") -> Task:
    return next(task for task in dataset(split).tasks if task.kind == kind)


def features(items: Items) -> Tensor:
    return embed(encoder(), items).values


def direct(task: Task, query_QD: Tensor, gallery_GD: Tensor) -> float:
    values = retrieval_metrics(cosine_scores(query_QD, gallery_GD), relevance_of(task))
    return float(values["hit@1" if task.kind == "zero-shot" else "mAP"].nanmean())


def test_every_route_is_measured_wherever_it_applies() -> None:
    result = measured()
    kinds = {task.kind: task.name for task in dataset("test").tasks}
    for name, route in ROUTES.items():
        for kind in set(route.kinds) & set(kinds):
            metric = "hit@1" if kind == "zero-shot" else "mAP"
            found = rows(result, route=name, task=kinds[kind], metric=metric)
            assert len(found), (name, kind, result.skipped)
    assert set(result.skipped) == {"gap/anchor_condition"}  # seven pairs do not span sixteen dimensions


def test_families_and_words_of_routes() -> None:
    assert list(ROUTE_WORDS) == list(ROUTES)  # how they are made, and what they are called
    assert {words.family for words in ROUTE_WORDS.values()} == {"reference", "inversion", "placebo", "map"}
    assert all(route.about and set(route.kinds) <= set(EVERY) for route in ROUTES.values())
    assert [sides(kind) for kind in EVERY] == [
        ("image", "image"), ("text", "text"), ("image", "text"), ("text", "image"), ("image", "text"),
        ("image", "image"), ("image", "image"),
    ]  # fmt: skip


CHECKED = {
    "centred": lambda own, other, pairs, prompts: (posthoc.centring(own), posthoc.centring(own)),
    "procrustes": lambda own, other, pairs, prompts: (posthoc.procrustes(*pairs), None),
    "random_rotation": lambda own, other, pairs, prompts: (posthoc.random_rotation(16, seed=0), None),
}


@pytest.mark.parametrize("kind", INTRA)
@pytest.mark.parametrize("route", CHECKED)
def test_maps_without_strength_equal_a_direct_computation(route: str, kind: str) -> None:
    data = dataset("test")
    assert data.fit is not None
    images, texts, prompts = (
        features(side) for side in (data.fit.images, data.fit.texts, data.fit.class_prompts)
    )  # type: ignore[arg-type]
    own, other = (images, texts) if kind == "image-image" else (texts, images)
    on_query, on_gallery = CHECKED[route](own, other, (own, other), prompts)
    task = task_of(kind)
    query, gallery = on_query(features(task.query)), features(task.gallery)
    expected = direct(task, query, gallery if on_gallery is None else on_gallery(gallery))
    row = one(measured(), route=route, task=task.name, metric="mAP")
    assert row.value == pytest.approx(expected, abs=1e-6)
    assert (row.selection, row.setting) == ("none", "")


def refit(route: str, setting: str, modality: str) -> posthoc.LinearMap:
    """Fit what a row says it was, by the functions of posthoc alone."""
    fit = dataset("test").fit
    assert fit is not None
    images, texts, prompts = (features(side) for side in (fit.images, fit.texts, fit.class_prompts))  # type: ignore[arg-type]
    own, other = (images, texts) if modality == "image" else (texts, images)
    projectors = linear_projectors(encoder())
    assert isinstance(projectors, Projectors)
    if route == "isoclip":
        top, bottom = (int(word) for word in setting.replace(",", "").split() if word.isdigit())
        pair = projectors if modality == "image" else (projectors.text, projectors.image)
        return posthoc.isoclip(*pair, band=Band(top, bottom))
    strength = float(setting.split()[-1])
    rank = int(strength)
    return {
        "shifted": lambda: posthoc.gap_shift(own, other, strength=strength),
        "whitened": lambda: posthoc.whitening(own, shrinkage=strength),
        "top_removed": lambda: posthoc.top_removal(own, rank=rank),
        "class_pca": lambda: posthoc.class_pca(prompts, rank=rank),
        "caption_pca": lambda: posthoc.caption_pca(texts, rank=rank),
        "image_pca": lambda: posthoc.image_pca(images, rank=rank),
        "random_subspace": lambda: posthoc.random_subspace(16, rank=rank, seed=0),
        "shared_space": lambda: posthoc.shared_space(images, texts, tolerance=strength),
        "orthogonal_closing": lambda: posthoc.orthogonal_closing(own, other, rank=rank),
        "ridge": lambda: posthoc.ridge(own, other, strength=strength),
    }[route]()


@pytest.mark.parametrize("kind", ["image-image", "text-text", "image-text"])
@pytest.mark.parametrize("route", [name for name in MAPS if name not in CHECKED])
def test_maps_are_what_their_rows_say_at_the_strength_that_val_chose(route: str, kind: str) -> None:
    if kind not in ROUTES[route].kinds:
        return
    task = task_of(kind)
    row = one(measured(), route=route, task=task.name, metric="mAP")
    assert row.selection == "val"
    query, gallery = features(task.query), features(task.gallery)
    query_modality, gallery_modality = sides(task.kind)
    moves = ROUTES[route].map.moves  # type: ignore[union-attr]
    if moves != "retrieved" or kind in INTRA:
        query = refit(route, row.setting, query_modality)(query)
    if moves != "query":
        gallery = refit(route, row.setting, gallery_modality)(gallery)
    assert row.value == pytest.approx(direct(task, query, gallery), abs=1e-6)
    if route != "random_subspace":
        curve = rows(measured(), split="val", route=route, task=task.name, metric="mAP")
        assert (curve.selection == "curve").all()
        assert row.setting == curve.loc[curve["value"].idxmax(), "setting"]


def test_random_subspace_has_the_rank_of_class_pca() -> None:
    for name in ("image-subgroup", "text-subgroup"):
        ranks = {
            one(measured(), route=route, task=name, metric="mAP").setting
            for route in ("class_pca", "random_subspace")
        }
        assert len(ranks) == 1


def test_a_query_depends_on_no_other_query_by_any_map() -> None:
    """Whatever is fitted saw no test item: fewer test queries change nothing for those that stay."""
    whole, part = (result.tables["per_query"] for result in (measured(), measured(first=2, last=5)))
    keys = ["split", "task", "route", "metric", "query_id"]
    kept = whole["route"].isin([*MAPS, "native", "chance"]) & (whole["split"] == "test")
    both = whole[kept].merge(part, on=keys, suffixes=("", "_part"))
    assert set(both["route"]) == {*MAPS, "native", "chance"}
    assert set(both["query_id"].str.split("/").str[1]) <= {"2", "3", "4"}
    torch.testing.assert_close(
        torch.tensor(both["value"]), torch.tensor(both["value_part"]), atol=1e-9, rtol=0
    )


@pytest.mark.parametrize(("kind", "into"), [("image-image", "text"), ("text-text", "image")])
def test_both_sides_and_shuffled_targets_at_the_chosen_setting(kind: str, into: str) -> None:
    task = task_of(kind)
    name = "oti" if into == "text" else "ovi"
    chosen = rows(measured(), route=name, task=task.name, metric="mAP", selection="val").iloc[0]
    steps, tokens = int(chosen.steps), int(chosen.num_tokens)
    config = InversionConfig(steps=steps, batch_size=4, num_tokens=tokens)

    def inverted(items: Items, targets: Tensor) -> Tensor:
        return invert(encoder(), targets, into=into, config=config, item_ids=items.ids).features  # type: ignore[arg-type]

    query, gallery = features(task.query), features(task.gallery)
    others = posthoc.shuffled_targets(task.query.ids, seed=0)
    expected = {
        f"{name}_both": direct(task, inverted(task.query, query), inverted(task.gallery, gallery)),
        "shuffled_targets": direct(task, inverted(task.query, query[others]), gallery),
    }
    for route, value in expected.items():
        row = one(measured(), route=route, task=task.name, metric="mAP")
        assert row.value == pytest.approx(value, abs=1e-6)
        assert (int(row.steps), int(row.num_tokens), row.selection) == (steps, tokens, "val")


def test_zero_shot_inverts_the_prompts_into_the_image_tower() -> None:
    task = task_of("zero-shot")
    row = rows(measured(), route="ovi", task=task.name, metric="hit@1", selection="val").iloc[0]
    config = InversionConfig(steps=int(row.steps), batch_size=4, num_tokens=int(row.num_tokens))
    prompts = features(task.gallery)
    made = invert(encoder(), prompts, into="image", config=config, item_ids=task.gallery.ids).features
    assert row.value == pytest.approx(direct(task, features(task.query), made), abs=1e-6)


def test_what_is_lacking_is_named_and_the_rest_is_measured() -> None:
    result = measured(fit=False)
    assert "training split" in result.skipped["image-subgroup/centred"]
    assert "training split" in result.skipped["text-subgroup/class_pca"]
    assert "pairs" in result.skipped["image-subgroup/ridge"]
    found = set(rows(result, task="image-subgroup")["route"])
    assert {"chance", "native", "oti", "random_rotation", "random_subspace", "isoclip"} <= found


def test_without_val_strengths_are_published_values() -> None:
    result = measured(val=False)
    half = one(result, route="class_pca", task="image-subgroup", metric="mAP")
    assert (half.selection, half.setting) == ("preset", "rank 8")
    assert one(result, route="shifted", task="image-text", metric="mAP").setting == "share 0.5"
    assert "no band was published" in result.skipped["image-subgroup/isoclip"]


def test_a_map_that_is_impossible_everywhere_says_why() -> None:
    parts = replace(_parts(), images=torch.ones(3, 16), texts=torch.eye(16)[:3])
    assert missing_part("top_removed", "image-image", parts) is None
    with pytest.raises(InputError, match="rank"):
        side_maps("top_removed", "image-image", parts, 1)


def _parts():
    return FittingData(split="train", bands={}, dim=16, seed=0)


# --clip_model_name, --open_clip_pretrained (none: OpenAI's) and the bands of simomagi/IsoCLIP, exp_*/*.sh
RELEASED_BANDS = {
    ("ViT-B/32", ""): {"image": (150, 50), "text": (20, 100)},
    ("ViT-B/16", ""): {"image": (200, 50), "text": (10, 50)},
    ("ViT-L/14", ""): {"image": (250, 200), "text": (10, 300)},
    ("ViT-B/32", "datacomp_xl_s13b_b90k"): {"image": (50, 50)},
    ("ViT-B/16", "datacomp_xl_s13b_b90k"): {"image": (100, 100), "text": (2, 150)},
    ("PE-Core-B-16", "meta"): {"image": (300, 50)},
    ("ViT-B-16-SigLIP2", "webli"): {"image": (350, 50)},
}


@pytest.mark.parametrize("weights", RELEASED_BANDS)
def test_released_bands_are_found_by_open_clips_names(weights: tuple[str, str]) -> None:
    model, tag = weights[0].replace("/", "-"), weights[1] or "openai"
    assert (model, tag) in open_clip.list_pretrained()
    assert posthoc.published_bands(f"{model}/{tag}") == RELEASED_BANDS[weights]
    if tag == "openai":
        assert posthoc.published_bands(f"{model}-quickgelu/{tag}") == RELEASED_BANDS[weights]


def test_every_band_is_found_by_some_name_and_other_weights_have_none() -> None:
    for modality, bands in posthoc.ISOCLIP_BANDS.items():
        assert len(bands) == sum(modality in released for released in RELEASED_BANDS.values())
    for name in ("ViT-B-32/laion2b_s34b_b79k", "PE-Core-L-14-336/meta", "ViT-B-16-SigLIP2-256/webli"):
        assert posthoc.published_bands(name) == {}
    assert posthoc.published_bands("runs/demo") == {}


def test_maps_say_whose_class_prompts_they_are_fitted_on() -> None:
    prompts = torch.zeros(998, 2)
    for prompts_of, said in (("ImageNet's classes", "of ImageNet's classes"), ("", "of split train")):
        parts = FittingData(
            split="train", class_prompts=prompts, prompts_of=prompts_of, bands={}, dim=2, seed=0
        )
        assert parts.fitted_on(prompts, what="class prompts") == f"998 class prompts {said}"
    assert parts.fitted_on(prompts, what="images") == "998 images of split train"
