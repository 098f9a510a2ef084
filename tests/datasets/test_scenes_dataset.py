"""Scenes as a dataset: each task asks what its protocol says, and rows come of it as of any dataset."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image, ImageFont
from rich.console import Console

from analysis.leading import headlines
from crossgap import evaluate as command
from crossgap.command import run_command
from crossgap.datasets.__main__ import main as list_datasets
from crossgap.datasets.load import load_dataset
from crossgap.datasets.scenes.captions import caption_scenes, phrases_of
from crossgap.datasets.scenes.objects import object_names
from crossgap.datasets.scenes.options import SPLITS, SceneOptions, option_lines
from crossgap.datasets.scenes.render import render
from crossgap.datasets.scenes.world import draw_scenes, factor_values
from crossgap.datasets.tasks import Dataset, Task
from crossgap.errors import InputError
from crossgap.evaluation.plan import EvaluationConfig, InversionPlan
from crossgap.evaluation.run import evaluate
from crossgap.evaluation.summary import summary
from crossgap.inversion.config import InversionConfig
from crossgap.metrics.relevance import relevance_of
from crossgap.metrics.retrieval import retrieval_metrics
from crossgap.provenance import Provenance
from crossgap.records import Row, read_table
from crossgap.vocabulary import LEADING_TASKS
from tests.conftest import tiny_encoder
from tests.reference_scenes import holds, read_caption

NAME = "scenes:objects=6,scenes=60,fit=100,second=0.5"
OPTIONS = SceneOptions.parse(NAME)


def tasks_of(dataset: Dataset) -> dict[str, Task]:
    return {task.name: task for task in dataset.tasks}


def masks(task: Task) -> tuple[np.ndarray, np.ndarray]:
    relevance = relevance_of(task)
    return relevance.relevant_QG.numpy(), relevance.ignored_QG.numpy()


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return load_dataset(NAME)


@pytest.fixture(scope="module")
def values() -> dict[str, list[str]]:
    return factor_values(draw_scenes(OPTIONS, "test", np.arange(60)), "test")


class TestTasks:
    def test_the_pictures_are_the_scenes_without_loss(self, dataset: Dataset) -> None:
        images = tasks_of(dataset)["image-object"].query
        assert images.ids[:2] == ("test/000000", "test/000001")
        pixels = render(draw_scenes(OPTIONS, "test", np.arange(60)))
        for number in (0, 17, 59):
            assert (np.asarray(images.image(number)) == pixels[number]).all()

    @pytest.mark.parametrize("factor", ["object", "colour", "place"])
    def test_image_image_by_one_factor(
        self, dataset: Dataset, values: dict[str, list[str]], factor: str
    ) -> None:
        relevant, ignored = masks(tasks_of(dataset)[f"image-{factor}"])
        of = values[factor]
        for i in range(60):
            for j in range(60):
                assert ignored[i, j] == (i == j)
                assert relevant[i, j] == (i != j and of[i] == of[j])

    def test_object_among_scenes_unlike_the_query(
        self, dataset: Dataset, values: dict[str, list[str]]
    ) -> None:
        relevant, ignored = masks(tasks_of(dataset)["image-object-unlike"])
        for i in range(60):
            for j in range(60):
                same = values["object"][i] == values["object"][j]
                shares = any(values[factor][i] == values[factor][j] for factor in ("colour", "size", "place"))
                assert relevant[i, j] == (same and not shares)
                assert ignored[i, j] == (same and shares)  # itself too, which shares all
        assert relevant.any()

    @pytest.mark.parametrize("factor", ["object", "colour", "place"])
    def test_text_text_by_one_factor_among_captions_that_state_it(
        self, dataset: Dataset, factor: str
    ) -> None:
        task = tasks_of(dataset)[f"text-{factor}"]
        relevant, ignored = masks(task)
        read = {name: read_caption(text) for items in (task.query, task.gallery)
                for name, text in zip(items.ids, items.texts(), strict=True)}  # fmt: skip
        field = "thing" if factor == "object" else factor
        for i, query in enumerate(task.query.ids):
            assert query.endswith("/0")
            for j, item in enumerate(task.gallery.ids):
                assert item.endswith("/1")
                own = query[:-2] == item[:-2]
                stated = getattr(read[query], field), getattr(read[item], field)
                assert None not in stated
                assert ignored[i, j] == own
                assert relevant[i, j] == (not own and stated[0] == stated[1])
        if factor != "object":
            assert 0 < len(task.query) < 60

    def test_across_modalities_what_is_true_is_relevant(self, dataset: Dataset) -> None:
        scenes = draw_scenes(OPTIONS, "test", np.arange(60))
        by_image, by_text = tasks_of(dataset)["image-text"], tasks_of(dataset)["text-image"]
        texts = by_text.query.texts()
        told = caption_scenes(OPTIONS, "test", scenes, 0).words
        assert texts == list(dict.fromkeys(told))
        truth = np.array(
            [[holds(read_caption(text), scenes, number) for number in range(60)] for text in texts]
        )
        assert (masks(by_text)[0] == truth).all()
        assert (masks(by_image)[0] == truth.T).all()
        assert not masks(by_text)[1].any()
        assert not masks(by_image)[1].any()
        assert truth.sum() > 60

    def test_zero_shot_prompts_are_what_captions_say(
        self, dataset: Dataset, values: dict[str, list[str]]
    ) -> None:
        tasks = tasks_of(dataset)
        objects = tasks["zero-shot-object"]
        assert set(objects.gallery.labels) == set(values["object"]) == set(object_names()[:6])
        for label, text in zip(objects.gallery.labels, objects.gallery.texts(), strict=True):
            assert text in (f"a {label}", f"an {label}")
        colours = tasks["zero-shot-colour"].gallery
        assert colours.wordings() == [phrases_of("colour")[colour] for colour in colours.labels]
        for task in (objects, tasks["zero-shot-colour"], tasks["zero-shot-place"]):
            factor = task.name.removeprefix("zero-shot-")
            assert list(task.query.labels) == values[factor]
            assert (masks(task)[0].sum(axis=1) == 1).all()

    @pytest.mark.parametrize(
        "mention, missing", [("mention=0", {"colour", "place"}), ("mention.place=0", {"place"})]
    )
    def test_what_no_caption_states_is_not_asked(self, mention: str, missing: set[str]) -> None:
        names = set(tasks_of(load_dataset(f"{NAME},{mention}")))
        for factor in ("colour", "place"):
            for kind in ("text", "zero-shot"):
                assert (f"{kind}-{factor}" in names) == (factor not in missing)
        assert {"image-colour", "image-place", "text-object", "image-text"} <= names

    def test_the_report_leads_with_the_object(self) -> None:
        asked = [
            ("image-colour", "oti"),
            ("image-object", "oti"),
            ("text-colour", "ovi"),
            ("text-object", "ovi"),
        ]
        rows = [{"dataset": "scenes", "split": "test", "metric": "mAP", "task": task, "route": route}
                for task, inversion in asked for route in ("native", inversion)]  # fmt: skip
        assert [headline.task for headline in headlines(pd.DataFrame(rows))] == [
            "image-object",
            "text-object",
        ]

    def test_the_object_leads_within_both_modalities(self, dataset: Dataset) -> None:
        assert [task.name for task in dataset.tasks if task.name in LEADING_TASKS] == [
            "image-object",
            "text-object",
        ]


class TestDataset:
    @pytest.mark.parametrize("split", [split for split in SPLITS if split != "test"])
    def test_every_split_loads_with_ids_of_its_own(self, split: str) -> None:
        dataset = load_dataset(NAME, split=split)
        images = dataset.tasks[0].query
        assert all(name.startswith(f"{split}/") for name in images.ids)
        assert dataset.split == split
        assert (dataset.fit is None) == (split == "fit")
        if dataset.fit is not None:
            assert dataset.fit.split == "fit"
            assert not set(images.ids) & set(dataset.fit.images.ids)

    def test_captions_are_true_even_of_noisy_training_scenes(self) -> None:
        noisy = load_dataset(f"{NAME},caption_noise=1", split="train")
        scenes = draw_scenes(OPTIONS, "train", np.arange(60))
        for place, text in enumerate(noisy.pairs.text.texts()):
            assert holds(read_caption(text), scenes, place)

    def test_few_training_pairs_are_all_of_them(self) -> None:
        assert len(load_dataset(f"{NAME},pairs=12", split="train").tasks[0].query) == 12

    def test_what_is_fitted_on(self, dataset: Dataset) -> None:
        fit = dataset.fit
        assert (len(fit.images), len(fit.texts), len(fit.class_prompts)) == (100, 100, 6)
        assert set(fit.images.labels) <= set(fit.class_prompts.labels) == set(object_names()[:6])
        assert fit.pairs.image == fit.images
        scenes = draw_scenes(OPTIONS, "fit", np.arange(100))
        for place, text in enumerate(fit.texts.texts()):
            assert holds(read_caption(text), scenes, place)

    def test_the_factors_are_those_of_the_pairs(self, dataset: Dataset, values: dict[str, list[str]]) -> None:
        assert {name for name, factor in dataset.factors.items() if factor.named} == {
            "object", "colour", "size", "place", "second"
        }  # fmt: skip
        for name, of in values.items():
            assert list(dataset.factors[name].values) == of
        assert dataset.factors["object"].fitted == dataset.fit.images.labels

    def test_the_hash_is_of_all_that_is_shown_and_said(self, dataset: Dataset) -> None:
        assert load_dataset(NAME).hash == dataset.hash
        assert load_dataset("scenes:second=0.5,fit=100,scenes=60,objects=6").hash == dataset.hash
        others = {
            load_dataset(f"{NAME},{changed}").hash
            for changed in ("mention=0.4", "world=1", "caption_noise=0.1", "version=1")
        }
        hashes = {*others, load_dataset(NAME, split="val").hash, load_dataset(NAME, limit=12).hash}
        assert len(hashes - {dataset.hash}) == 5  # a version that is told is the same world

    def test_a_limit_spreads_over_objects(self) -> None:
        limited = load_dataset(NAME, limit=12)
        images = limited.tasks[0].query
        assert sorted(images.labels) == sorted(2 * object_names()[:6])
        assert "Limited to 12 of 60 scenes" in limited.tasks[0].protocol
        assert len(limited.fit.images) == 12
        whole = load_dataset(NAME)
        pictures = dict(zip(whole.tasks[0].query.ids, whole.tasks[0].query.contents, strict=True))
        assert all(
            pictures[name] == picture for name, picture in zip(images.ids, images.contents, strict=True)
        )

    def test_inversion_starts_from_what_captions_say(self, dataset: Dataset) -> None:
        assert dataset.default_template == "a {}"


@pytest.fixture(scope="module")
def rows(dataset: Dataset) -> pd.DataFrame:
    plan = InversionPlan(
        config=InversionConfig(steps=3, template="a {}"), token_counts=(1,), snapshots=(0, 1, 3)
    )
    config = EvaluationConfig(routes=("native", "oti"), plans={"text": plan})
    result = evaluate(
        tiny_encoder(), dataset, load_dataset(NAME, split="val", limit=12), config=config,
        provenance=Provenance(study="s", arm="a", config_hash="h"),
    )  # fmt: skip
    assert not [name for name in result.skipped if name.startswith("factors")]
    return pd.DataFrame([vars(row) for row in result.rows])


class TestRows:
    def test_the_setting_is_chosen_on_the_leading_task(self, rows: pd.DataFrame) -> None:
        chosen_on = rows[(rows["split"] == "val") & (rows["metric"] == "mAP")]
        assert set(chosen_on["task"]) == {"image-object"}

    def test_factors_are_measured_natively_and_by_inversion(self, rows: pd.DataFrame) -> None:
        found = rows[rows["task"] == "factors"].set_index(["route", "selection", "metric"])["value"]
        metrics = {
            (route, selection): set(part.index.get_level_values("metric"))
            for (route, selection), part in found.groupby(level=["route", "selection"])
        }
        assert set(metrics) == {("native", "none"), ("oti", "val"), ("oti", "curve")}
        for factor in ("object", "colour", "size", "place", "designer", "turn", "mirror", "tint", "second"):
            of = {f"holds_{factor}_knn", f"holds_{factor}_chance", f"similarity_by_{factor}"}
            assert of <= metrics["oti", "val"] == metrics["oti", "curve"]
            assert {*of, f"holds_{factor}_probe"} <= metrics["native", "none"]
        assert all("factor_agreement" in names for names in metrics.values())
        steps = rows[(rows["task"] == "factors") & (rows["selection"] == "curve")]["steps"]
        assert set(steps) == {3}

    def test_every_value_has_its_unit(self, rows: pd.DataFrame) -> None:
        factors = rows[rows["task"] == "factors"]
        units = factors.groupby(factors["metric"].str.extract(r"^(holds|similarity_by|\w+$)")[0])[
            "unit"
        ].unique()
        assert {name: list(unit) for name, unit in units.items()} == {
            "holds": ["fraction"], "similarity_by": ["standard deviations"],
            "similarity_explained": ["fraction"], "factor_agreement": ["rank correlation"],
        }  # fmt: skip


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--dataset", "scenes:objcts=5"], "unknown option of scenes 'objcts'. Did you mean 'objects'?"),
        (["--dataset", "scenes:objects=5000"], "objects=5000 must lie between 2 and"),
        (["--dataset", "scenes:mention=2"], "mention=2.0 must lie between 0 and 1"),
        (["--dataset", "scenes:version=7"], "version=7 is another world than the one made here"),
        (["--dataset", NAME, "--split", "tset"], "unknown split of scenes 'tset'"),
    ],
)
def test_bad_input_ends_the_command_with_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: Sequence[str], said: str
) -> None:
    out = tmp_path / "out"
    code = run_command(command.main, ["--encoder", "ViT-B-32", *arguments, "--out", str(out)])
    assert code == 2
    assert said in capsys.readouterr().err
    assert not out.exists()


def test_factors_must_fit_their_images(dataset: Dataset) -> None:
    short = {"object": dataset.factors["object"]._replace(values=("a",))}
    with pytest.raises(InputError, match="factor object has 1 and 100 values; expected one of each of 60"):
        replace(dataset, factors=short)


def test_many_scenes_are_paired_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crossgap.datasets.scenes.dataset.MAX_PAIRS", 20)
    pairs = load_dataset(NAME).pairs
    assert pairs.image.ids == tuple(f"test/{3 * place:06d}" for place in range(20))
    assert pairs.note == ", evenly spread over 60"
    assert len(pairs.text) == 20


def test_the_docs_name_every_option_split_and_task(dataset: Dataset) -> None:
    text = (Path(__file__).resolve().parent.parent.parent / "docs/scenes.md").read_text()
    lines = option_lines()
    options = {line.partition(":")[0] for line in lines} - {"version"}
    for name in (*(option.replace("mention.", ".") for option in options), *SPLITS, *tasks_of(dataset)):
        assert f"`{name}`" in text or f"mention{name}`" in text, name
    assert len(lines) == len(options) + 1


def test_options_are_listed_with_their_ranges(capsys: pytest.CaptureFixture[str]) -> None:
    assert list_datasets(dataset=("scenes",)) == 0
    listed = capsys.readouterr().out
    assert "mention.place: 0 to 1, default as mention" in listed
    assert "pairs: 0 to 10000000, default 0" in listed


def test_the_summary_shows_factors(rows: pd.DataFrame) -> None:
    kept = [Row(**values) for values in rows.astype(object).where(rows.notna(), None).to_dict("records")]
    console = Console(width=120, record=True, file=io.StringIO())
    for part in summary(kept, read_table([], "per_query"), {}):
        console.print(part)
    shown = console.export_text()
    table = shown[shown.index("factors: what native images hold") :]
    for name in (
        "object",
        "colour",
        "tint",
        "second",
        "SD of cosine, oti",
        "rank correlation",
        "captions may name",
    ):
        assert name in table
    value = rows.set_index(["task", "route", "selection", "metric"])["value"]
    for route, selection in (("native", "none"), ("oti", "val")):
        assert f"{value['factors', route, selection, 'similarity_by_object']:+.2f} [" in table


def test_a_sheet_shows_scenes_and_their_captions(tmp_path: Path) -> None:
    tool = Path(__file__).resolve().parent.parent.parent / "tools/scenes_sheet.py"
    spec = importlib.util.spec_from_file_location("scenes_sheet", tool)
    sheet = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sheet)
    assert sheet.main(out=tmp_path / "sheet.png", dataset=NAME) == 0
    with Image.open(tmp_path / "sheet.png") as picture:
        assert picture.size == (852, 708)
    font = ImageFont.load_default(size=11)
    text = "an average-sized hot dog at the centre with, to its right, a spider web"
    lines = sheet.wrapped(text, font, 128).split("\n")
    assert " ".join(lines) == text
    assert len(lines) == 3
    assert all(font.getlength(line) <= 128 for line in lines)


def test_the_page_says_what_chance_is_of_each_task() -> None:
    text = (Path(__file__).parent.parent.parent / "docs" / "scenes.md").read_text()
    lines = [line for line in text.split("## Chance\n")[1].split("\n## ")[0].splitlines() if "`" in line]
    said = {}
    for line in lines[1:]:  # the first is the sentence
        if line.startswith("| `"):
            names, *values = (cell.strip() for cell in line.strip("|").split("|"))
            said |= {
                name.strip(" `"): [float(value) for value in values if value] for name in names.split(",")
            }
    tasks = {task.name: task for task in load_dataset("scenes").tasks}
    assert {name for name in tasks if not name.startswith("class-mean")} == {
        name for name in said if name.startswith(("image-", "text-", "zero-shot"))
    }
    for name, task in tasks.items():
        if name in said and task.kind != "class-mean":
            relevance = relevance_of(task)
            found = retrieval_metrics(torch.zeros(relevance.relevant_QG.shape), relevance, ks=(1,))
            metrics = ("hit@1", "mAP")[: len(said[name])]
            assert said[name] == [round(100 * float(found[metric].nanmean()), 1) for metric in metrics], name
