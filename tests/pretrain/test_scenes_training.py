"""Training on scenes: what a step draws, and runs in real processes."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from open_clip import SimpleTokenizer

from crossgap.datasets.scenes.captions import caption_scenes
from crossgap.datasets.scenes.options import SceneOptions
from crossgap.datasets.scenes.render import render
from crossgap.datasets.scenes.world import draw_scenes
from crossgap.errors import InputError
from crossgap.files import read_json
from pretrain.config import TrainConfig, smoke
from pretrain.data.batches import Batch
from pretrain.data.scenes import EndlessBatches, EndlessScenes, fixed_scenes
from pretrain.recipes import RECIPES, SCENES, SCENES_MODEL, on_scenes
from pretrain.run import train
from pretrain.settings import AugmentConfig
from tests import commands
from tests.commands import ROOT, Process, run_processes
from tests.pretrain.test_processes import ONE, TRAIN, assert_same_bits, lines, run, run_as_users_do, wait_for

WORLD = SceneOptions(mention=0.5, caption_noise=0.2, num_captions=3)
PARTS = (
    "image", "second_image", "third_image", "local_images", "text", "second_text", "fewer_words", "concept_B",
    "semantic_BS",
)  # fmt: skip
BATCH = 12


@cache  # what captions mean takes seconds
def scenes_of(options: SceneOptions) -> EndlessScenes:
    return EndlessScenes(options=options, context_length=32)


def endless(
    options: SceneOptions = WORLD,
    *,
    scenes: EndlessScenes | None = None,
    seed: int = 0,
    batch_size: int = BATCH,
    workers: int = 1,
    ahead: bool = False,
) -> EndlessBatches:
    return EndlessBatches(
        batch_size=batch_size, image_size=16, augment=AugmentConfig(), seed=seed,
        scenes=scenes or scenes_of(options), device=torch.device("cpu"), workers=workers, ahead=ahead,
    )  # fmt: skip


def hash_of(batch: Batch) -> str:
    digest = hashlib.sha256()
    for tensor in (*batch.images.values(), *batch.given.values()):
        digest.update(tensor.numpy().tobytes())
    for text in batch.texts.values():
        digest.update(text.ids_BL.numpy().tobytes() + text.lengths_B.numpy().tobytes())
    return digest.hexdigest()


def same(one: Batch, two: Batch) -> bool:
    return hash_of(one) == hash_of(two)


def words_of(batches: EndlessBatches, batch: Batch, part: str = "text") -> list[str]:
    ids_BL, lengths_B = batch.texts[part]
    of_ids = batches.scenes.vocabulary_V[ids_BL]
    return [
        SimpleTokenizer().decode(ids[1 : length - 1].tolist()).strip()
        for ids, length in zip(of_ids, lengths_B, strict=True)
    ]


def test_token_ids_are_those_of_the_tokenizer() -> None:
    options = SceneOptions(mention=0.7, second=0.8)
    scenes = draw_scenes(options, "train", np.arange(2000))
    captions = caption_scenes(options, "train", scenes, 0).words
    assert any(", " in caption for caption in captions)
    assert any("-sized" in caption for caption in captions)
    for length in (32, 9):  # 9 cuts many
        endless_scenes = EndlessScenes(options=options, context_length=length)
        indices_ML, lengths_M = endless_scenes.tokenizer(captions)
        expected_ML = SimpleTokenizer(context_length=length)(captions)
        inside_ML = torch.arange(length) < lengths_M[:, None]
        ids_ML = torch.where(inside_ML, endless_scenes.vocabulary_V[indices_ML], 0)
        assert torch.equal(ids_ML, expected_ML)
        assert torch.equal(lengths_M, expected_ML.argmax(1) + 1)
        assert bool((lengths_M == length).any()) == (length == 9)


def test_a_batch_shows_the_scenes_that_its_captions_describe() -> None:
    batches = endless()
    batch = batches.batch(3, PARTS)
    scenes = draw_scenes(WORLD, "train", batches.indices(3))
    assert words_of(batches, batch) == [
        caption.replace(",", " ,").replace("-", " - ")
        for caption in caption_scenes(WORLD, "train", scenes, 0).words
    ]
    assert batch.given["concept_B"].tolist() == scenes.first.object_N.tolist()
    whole = EndlessBatches(
        batch_size=BATCH, image_size=64, seed=0, scenes=batches.scenes, device=torch.device("cpu"),
        augment=AugmentConfig(area=(1, 1), ratio=(1, 1), brightness=0, contrast=0, saturation=0),
    ).batch(3)  # fmt: skip
    shown = (whole.images["image"] * 255).round().byte().permute(0, 2, 3, 1).numpy()
    assert np.array_equal(shown, render(scenes))
    norms = batch.given["semantic_BS"].norm(dim=1)
    torch.testing.assert_close(norms, torch.ones(BATCH))


def test_a_second_caption_is_another_one_of_the_scene_or_itself_with_fewer_words() -> None:
    batches = endless()
    batch = batches.batch(0, ("text", "second_text"))
    scenes = draw_scenes(WORLD, "train", batches.indices(0))
    first, second = (caption_scenes(WORLD, "train", scenes, number).words for number in (0, 1))
    differ = [one != two for one, two in zip(first, second, strict=True)]
    assert any(differ)
    for says, expected, other in zip(words_of(batches, batch, "second_text"), second, differ, strict=True):
        if other:
            assert says == expected.replace(",", " ,").replace("-", " - ")
    alone = endless(SceneOptions(num_captions=1)).batch(0, ("text", "second_text"))
    assert bool((alone.texts["second_text"].lengths_B <= alone.texts["text"].lengths_B).all())


def test_rows_of_a_share_are_those_of_the_whole_batch() -> None:
    batches = endless()
    whole = batches.batch(5, PARTS)
    for rows in (slice(0, 4), slice(4, 12)):
        share = batches.batch(5, PARTS, rows=rows)
        assert share.first_row == rows.start
        assert same(share, whole.rows(rows.start, rows.stop))


def test_threads_that_paint_ahead_change_nothing() -> None:
    own = EndlessScenes(options=WORLD, context_length=32)
    plain = [hash_of(endless(batch_size=4, scenes=own).batch(step, PARTS)) for step in range(4)]
    assert len(set(plain)) == 4
    for workers in (1, 4, 20):
        batches = endless(batch_size=4, ahead=True, workers=workers)
        assert [hash_of(batches.batch(step, PARTS)) for step in range(4)] == plain
        assert hash_of(batches.batch(1, PARTS)) == plain[1]  # not the one that was painted ahead
        batches.close()
        assert hash_of(batches.batch(2, PARTS)) == plain[2]
        batches.close()


def test_no_scene_comes_twice_and_seeds_share_none() -> None:
    of_seeds = [
        np.concatenate([endless(seed=seed).indices(step) for step in range(50)]) for seed in range(20)
    ]
    assert len(np.unique(np.concatenate(of_seeds))) == 20 * 50 * BATCH
    fixed = np.arange(10_000_000)
    assert all(indices.min() > fixed[-1] for indices in of_seeds)
    larger = endless(batch_size=3 * BATCH)
    assert np.array_equal(larger.indices(1), np.concatenate([endless().indices(step) for step in (3, 4, 5)]))


@pytest.mark.slow
def test_samples_are_the_same_on_another_thread_count() -> None:
    code = (
        "import sys, torch, tests.pretrain.test_scenes_training as t; "
        "torch.set_num_threads(int(sys.argv[1])); "
        "b = t.endless(); parts = [p for p in t.PARTS if p != 'semantic_BS']; "
        "print(torch.get_num_threads(), t.hash_of(b.batch(2, parts)))"
    )
    said = subprocess.run(
        [sys.executable, "-c", code, "2"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    torch.set_num_threads(1)
    here = hash_of(endless().batch(2, [part for part in PARTS if part != "semantic_BS"]))
    assert said.stdout.split() == ["2", here]


def test_a_fixed_number_is_painted_once() -> None:
    options = SceneOptions(pairs=1500, num_captions=3)  # more than are painted at a time
    pairs = fixed_scenes(options, context_length=32)
    scenes = draw_scenes(options, "train", np.arange(1500))
    assert len(pairs) == 1500
    assert np.array_equal(pairs.images.pixels_NHWC.numpy(), render(scenes))
    of_each = [caption_scenes(options, "train", scenes, number).words for number in range(3)]
    for index in (0, 1023, 1024, 1499):
        told = pairs.caption_of_K[pairs.first_N[index] :][: int(pairs.count_N[index])]
        assert [pairs.captions_M[caption] for caption in told] == [words[index] for words in of_each]
    assert pairs.concept_N is not None
    things = {}
    for thing, concept in zip(scenes.first.object_N.tolist(), pairs.concept_N.tolist(), strict=True):
        assert things.setdefault(thing, concept) == concept
    assert len(set(things.values())) == len(things) == 100
    fewer = fixed_scenes(options, context_length=32, limit=70)
    assert np.array_equal(fewer.images.pixels_NHWC.numpy(), render(scenes)[:70])
    assert fewer.digest != pairs.digest


def test_digests_differ_where_worlds_do() -> None:
    digests = [
        EndlessScenes(options=options, context_length=32).digest
        for options in (
            SceneOptions(),
            SceneOptions(mention=0.4),
            SceneOptions(world=1),
            SceneOptions(objects=50),
        )
    ]
    assert len(set(digests)) == 4
    again = EndlessScenes(options=SceneOptions.parse("scenes:mention=.30"), context_length=9)
    assert again.digest == digests[0]


def test_two_spellings_are_one_config() -> None:
    one = TrainConfig(recipe="baseline", data="scenes:objects=50,mention=0.60", validation="scenes")
    two = TrainConfig(recipe="baseline", data="scenes:mention=.6, objects=50", validation="scenes:mention=.3")
    assert one == two
    assert one.data == "scenes:version=1,mention=0.6,objects=50"
    assert one.validation == "scenes:version=1"
    assert TrainConfig(**{**vars(one)}) == one
    assert TrainConfig(recipe="baseline", data="scenes").data == "scenes:version=1"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"data": "scenes:menton=0.3"}, "mention"),
        ({"data": "scenes:mention=2"}, "between 0 and 1"),
        ({"data": "scenes:version=0"}, "another world"),
        ({"data": "scenes", "validation": "scenes:objects=5000"}, "objects=5000"),
        ({"data": "scenes", "loading": "indexed"}, "lie in no shards"),
        ({"data": "scenes:pairs=100", "loading": "resampled"}, "lie in no shards"),
        ({"data": "scenes", "stored_size": 32}, "64 pixels"),
        (
            {
                "data": "scenes", "semantics": "captions.parquet",
                "objective": RECIPES["separation-semantic"]().objective,
            },
            "scenes:pairs=12000",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_before_anything_is_loaded(given: dict[str, str], says: str) -> None:
    with pytest.raises(InputError, match=says):
        TrainConfig(recipe="baseline", **given)


def test_smoke_keeps_a_world_without_end() -> None:
    assert smoke(TrainConfig(recipe="baseline", data="scenes")).endless
    fixed = smoke(TrainConfig(recipe="baseline", data="scenes:pairs=500"))
    assert not fixed.endless
    assert fixed.limit == 64
    assert not TrainConfig(recipe="baseline", data="scenes", limit=100).endless


@pytest.mark.slow
@pytest.mark.parametrize(
    "recipe",
    [
        "image-image", "slip", "text-text", "text-text-words", "text-text-dropout", "supervised",
        "separation-semantic", "learnable",
    ],
)  # fmt: skip
def test_recipes_train_on_scenes(recipe: str, tmp_path: Path) -> None:
    for data in ("scenes:mention=0.3", "scenes:pairs=80"):
        config = smoke(replace(RECIPES[recipe](), data=data, device="cpu", threads=1))
        result = train(config, tmp_path / data, progress=False)
        assert result.pairs_seen == 6 * 16


def test_what_arms_share_on_scenes_leaves_what_they_differ_in() -> None:
    base = on_scenes(RECIPES["baseline"]())
    assert base.data == "scenes:version=1"
    assert {name: getattr(base, name) for name in SCENES} == SCENES
    assert {name: getattr(base.model, name) for name in SCENES_MODEL} == SCENES_MODEL
    for name, recipe in RECIPES.items():
        config = on_scenes(recipe(), "scenes:mention=0.6")
        assert config.data == "scenes:version=1,mention=0.6"
        assert config.objective == recipe().objective
        assert config.extra_augment == (recipe().extra_augment or recipe().augment)
        assert config.model.shared == recipe().model.shared
        assert config.steps * RECIPES["baseline"]().steps == base.steps * recipe().steps, name


def options(out: Path, *more: str, data: str = "scenes:mention=0.3") -> list[str]:
    return [
        "--smoke", "--recipe", "image-image", "--data", data, "--device", "cpu", "--threads", "1",
        "--steps", "8", "--out", str(out), *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scenes") / "whole"
    run_as_users_do(ONE, options(out, "--steps", "40"))
    return out


def test_a_run_says_what_it_trained_on(whole: Path) -> None:
    recorded = read_json(whole / "config.json")
    assert recorded["config"]["data"] == "scenes:version=1"
    assert recorded["config"]["limit"] is None
    assert recorded["data"]["amount"] == "scenes without end"


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_bits(whole: Path, tmp_path: Path) -> None:
    arguments = options(tmp_path, "--steps", "40")
    process = Process(TRAIN, *arguments)
    wait_for(tmp_path / "checkpoints" / "latest", process)
    process.kill()
    assert process.wait(timeout=60) == -signal.SIGKILL
    assert read_json(tmp_path / "checkpoints" / "latest")["step"] < 40
    run(arguments)
    assert_same_bits(whole, tmp_path)


def test_workers_change_no_bit(whole: Path, tmp_path: Path) -> None:
    run(options(tmp_path, "--steps", "40", "--workers", "4"))
    assert_same_bits(whole, tmp_path)


def test_two_processes_see_the_batches_of_one(whole: Path, tmp_path: Path) -> None:
    for done in run_processes(2, TRAIN, *options(tmp_path, "--steps", "40")):
        assert done.returncode == 0, done.stderr
    one, two = lines(whole), lines(tmp_path)
    assert len(one) == len(two)
    assert two[0]["loss"] == pytest.approx(one[0]["loss"], rel=1e-5)
    assert two[2]["loss"] == pytest.approx(one[2]["loss"], rel=1e-3)


def test_a_world_of_another_version_is_refused_by_name(whole: Path) -> None:
    path = whole / "config.json"
    before = path.read_text()
    recorded = json.loads(before)
    recorded["config"]["data"] = "scenes:version=0,mention=0.3"
    path.write_text(json.dumps(recorded))
    try:
        done = commands.run(TRAIN, *options(whole, "--steps", "40"))
    finally:
        path.write_text(before)
    assert done.returncode == 2
    assert "scenes:version=0,mention=0.3" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("given", [["--data", "scenes:mention=0.6"], ["--set", "data=scenes:mention=0.6"]])
def test_the_command_trains_a_recipe_as_the_world_has_it(given: list[str]) -> None:
    asked = ("--recipe", "slip", *given, "--steps", "77", "--print-config")
    settings = yaml.safe_load(commands.run("pretrain.train", *asked).stdout)
    expected = on_scenes(RECIPES["slip"](), "scenes:mention=0.6")
    assert settings["steps"] == 77
    assert settings["batch_size"] == expected.batch_size == SCENES["batch_size"]
    assert settings["learning_rate"] == SCENES["learning_rate"]
    assert settings["model"]["width"] == SCENES_MODEL["width"]
    assert settings["augment"]["area"] == [1.0, 1.0]  # captions name places: the first view is whole
    assert settings["extra_augment"]["area"] == [0.3, 1.0]  # the recipe's own
