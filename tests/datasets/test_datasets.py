"""Datasets as tasks: the emoji, class folders, shards and CSV files; and what is refused."""

from __future__ import annotations

import io
import json
import tarfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from crossgap.datasets.__main__ import main as list_datasets
from crossgap.datasets.known.table import SPECS
from crossgap.datasets.load import load_dataset
from crossgap.datasets.stratify import stratified
from crossgap.datasets.tasks import Dataset, Items, Task
from crossgap.errors import InputError
from crossgap.metrics.relevance import relevance_of

DIGITS = load_digits()


def digit(index: int) -> bytes:
    """Return a real handwritten digit as PNG; its class is ``index % 10`` of the first hundred by class."""
    stream = io.BytesIO()
    Image.fromarray((DIGITS.images[index] * 15).astype(np.uint8)).resize((32, 32)).save(stream, "PNG")
    return stream.getvalue()


def of_class(number: int, count: int) -> list[bytes]:
    return [digit(int(index)) for index in np.flatnonzero(DIGITS.target == number)[:count]]


def write_folder(root: Path, counts: Mapping[str, int]) -> Path:
    for number, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True)
        for position, data in enumerate(of_class(number, count)):
            (root / name / f"{position}.png").write_bytes(data)
    return root


def write_shard(
    path: Path, samples: Sequence[tuple[str, Mapping[str, object]]], *, image: bytes | None = None
) -> str:
    """Write samples; ``meta`` with "txt" goes to a .txt part, the rest to .json."""
    with tarfile.open(path, "w") as archive:
        for position, (key, meta) in enumerate(samples):
            parts = {"jpg": digit(position) if image is None else image}
            if "txt" in meta:
                parts["txt"] = str(meta["txt"]).encode()
            parts["json"] = json.dumps({name: meta[name] for name in meta if name != "txt"}).encode()
            for extension, data in parts.items():
                member = tarfile.TarInfo(f"{key}.{extension}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return str(path)


def tasks_of(dataset: Dataset) -> dict[str, Task]:
    return {task.name: task for task in dataset.tasks}


def relevant_and_ignored(task: Task) -> tuple[np.ndarray, np.ndarray]:
    relevance = relevance_of(task)
    return relevance.relevant_QG.numpy(), relevance.ignored_QG.numpy()


def check_contract(dataset: Dataset) -> None:
    """What every dataset keeps to."""
    assert dataset.tasks
    assert len({task.name for task in dataset.tasks}) == len(dataset.tasks)
    contents: dict[str, object] = {}
    for task in dataset.tasks:
        assert (task.dataset, task.dataset_hash, task.split) == (dataset.name, dataset.hash, dataset.split)
        assert str(len(task.query)) in task.protocol
        assert str(len(task.gallery)) in task.protocol
        for word in ("quer", "relevant", "ignored"):
            assert word in task.protocol
        sides = "image-text" if task.kind == "zero-shot" else task.kind
        assert f"{task.query.modality}-{task.gallery.modality}" == sides
        relevant, _ = relevant_and_ignored(task)
        assert relevant.any()
        for side in (task.query, task.gallery):
            for name, content in zip(side.ids, side.contents, strict=True):
                assert contents.setdefault(name, content) == content, "one id, two contents"
    if dataset.pairs is not None:
        assert len(dataset.pairs.image) == len(dataset.pairs.text)
        assert dataset.pairs.image.labels == dataset.pairs.text.labels
    if dataset.fit is not None:
        measured = {name for task in dataset.tasks for name in task.query.ids}
        for items in (dataset.fit.images, dataset.fit.texts, dataset.fit.class_prompts):
            assert items is None or not measured & set(items.ids)
    assert dataset.default_template.count("{}") == 1


class TestEveryDataset:
    @pytest.mark.parametrize("name", [name for name, spec in SPECS.items() if not spec.folder])
    @pytest.mark.parametrize("split", ["train", "val", "test", "sealed"])
    def test_contract_and_spec(self, name: str, split: str) -> None:
        dataset = load_dataset(name, split=split)
        check_contract(dataset)
        assert [task.name for task in dataset.tasks] == list(SPECS[name].tasks)
        assert SPECS[name].counts[split] == len(dataset.tasks[0].query)

    @pytest.mark.parametrize("name", [name for name, spec in SPECS.items() if not spec.folder])
    def test_a_limited_dataset_keeps_the_contract_and_says_so(self, name: str) -> None:
        whole, some = load_dataset(name), load_dataset(name, limit=40)
        check_contract(some)
        assert some == load_dataset(name, limit=40)
        for task, all_of_it in zip(some.tasks, whole.tasks, strict=True):
            # captions that are alike, or do not state what a task asks for, are no queries
            assert len(task.query) == 40 or (task.query.modality == "text" and name == "scenes")
            assert "Limited to 40 of" in task.protocol
            assert set(task.query.ids) <= set(all_of_it.query.ids)
        assert load_dataset(name, limit=10**6) == whole

    def test_they_are_listed(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert list_datasets() == 0
        listed = capsys.readouterr().out
        for name, spec in SPECS.items():
            for part in (name, spec.source, spec.licence, *spec.tasks):
                assert part in listed


class TestEmoji:
    def test_it_loads_at_once(self) -> None:
        started = time.perf_counter()
        load_dataset("emoji")
        load_dataset("emoji", split="val")
        assert time.perf_counter() - started < 6  # about one second alone on one core

    def test_sides_of_the_tasks(self) -> None:
        tasks = tasks_of(load_dataset("emoji"))
        drawn = tasks["image-concept"]
        assert {name.split("/")[1] for name in drawn.query.ids} == {"noto"}
        assert {name.split("/")[1] for name in drawn.gallery.ids} == {
            "twemoji",
            "openmoji",
            "fluent",
            "emojione",
        }
        said = tasks["text-concept"]
        assert {name.split("/")[1] for name in said.query.ids} == {"name"}
        assert {name.split("/")[1] for name in said.gallery.ids} == {"keywords"}
        for name, keywords in zip(said.query.texts(), said.gallery.texts(), strict=True):
            assert name not in keywords
            assert not keywords.startswith("a photo of")
        assert tasks["image-text"].gallery == said.query
        assert tasks["text-image"].gallery == drawn.query
        assert "a photo of country flag" in tasks["zero-shot-subgroup"].gallery.texts()
        prompts = [f"a photo of {name}" for name in said.query.texts()]
        assert tasks["zero-shot-concept"].gallery.texts() == prompts

    def test_by_concept_every_query_has_its_three_or_four_drawings(self) -> None:
        task = tasks_of(load_dataset("emoji"))["image-concept"]
        relevant, ignored = relevant_and_ignored(task)
        assert set(relevant.sum(1)) == {3, 4}
        assert not ignored.any()
        for query, item in zip(*np.nonzero(relevant), strict=True):
            assert task.query.ids[query].split("/")[0] == task.gallery.ids[item].split("/")[0]

    @pytest.mark.parametrize("name", ["image-subgroup", "text-subgroup"])
    def test_by_subgroup_the_own_concept_is_ignored(self, name: str) -> None:
        tasks = tasks_of(load_dataset("emoji"))
        task, by_concept = tasks[name], tasks[name.replace("subgroup", "concept")]
        relevant, ignored = relevant_and_ignored(task)
        same_concept, _ = relevant_and_ignored(by_concept)
        assert (ignored == same_concept).all()
        same_subgroup = np.array(task.query.labels)[:, None] == np.array(task.gallery.labels)[None, :]
        assert (relevant == (same_subgroup & ~same_concept)).all()
        assert task.query.content_hash == by_concept.query.content_hash

    def test_one_zero_shot_prompt_is_right(self) -> None:
        for name in ("zero-shot-subgroup", "zero-shot-concept"):
            relevant, ignored = relevant_and_ignored(tasks_of(load_dataset("emoji"))[name])
            assert (relevant.sum(1) == 1).all()
            assert not ignored.any()

    def test_pairs_are_of_one_concept_and_fit_is_the_training_split(self) -> None:
        test, train = load_dataset("emoji"), load_dataset("emoji", split="train")
        assert test.pairs is not None
        assert [name.split("/")[0] for name in test.pairs.image.ids] == [
            name.split("/")[0] for name in test.pairs.text.ids
        ]
        assert test.fit is not None
        assert train.pairs is not None
        assert (test.fit.split, test.fit.images, test.fit.texts) == (
            "train",
            train.pairs.image,
            train.pairs.text,
        )
        assert train.fit is None

    def test_splits_share_no_concept(self) -> None:
        counts = Counter(
            concept
            for split in SPECS["emoji"].counts
            for concept in load_dataset("emoji", split=split).tasks[0].query.labels
        )
        assert set(counts.values()) == {1}

    def test_a_limit_spreads_over_subgroups_in_pairs(self) -> None:
        task = tasks_of(load_dataset("emoji", limit=60))["image-subgroup"]
        counts = Counter(task.query.labels)
        assert max(counts.values()) == 2
        assert sum(count == 2 for count in counts.values()) > 20

    def test_an_unknown_split_lists_the_splits(self) -> None:
        with pytest.raises(InputError, match=r"'tset'.*'test'.*train, val, test, sealed"):
            load_dataset("emoji", split="tset")


class TestFolder:
    def test_images_query_each_other_by_class(self, tmp_path: Path) -> None:
        dataset = load_dataset(str(write_folder(tmp_path, {"zero": 4, "one": 3, "002.two_half": 2})))
        check_contract(dataset)
        assert dataset.split == "all"
        tasks = tasks_of(dataset)
        assert set(tasks) == {"image-class", "zero-shot-class"}
        relevant, ignored = relevant_and_ignored(tasks["image-class"])
        assert (ignored == np.eye(9, dtype=bool)).all()
        assert Counter(relevant.sum(1)) == {3: 4, 2: 3, 1: 2}
        assert tasks["zero-shot-class"].gallery.texts() == [
            "a photo of a two half",
            "a photo of a one",
            "a photo of a zero",
        ]
        assert tasks["image-class"].query.ids[0] == "002.two_half/0.png"
        assert tasks["image-class"].query.image(0).mode == "RGB"
        assert dataset.fit is not None
        assert (dataset.fit.images, dataset.fit.texts) == (None, None)
        assert dataset.fit.class_prompts is not None
        assert "a photo of a goldfish" in dataset.fit.class_prompts.texts()

    def test_split_folders_query_the_training_images(self, tmp_path: Path) -> None:
        for split, count in (("train", 3), ("validation", 1), ("test", 2)):
            write_folder(tmp_path / split, dict.fromkeys(("a", "b"), count))
        dataset = load_dataset(str(tmp_path))
        check_contract(dataset)
        task = tasks_of(dataset)["image-class"]
        assert (dataset.split, len(task.query), len(task.gallery)) == ("test", 4, 6)
        assert not task.drop_self
        assert relevant_and_ignored(task)[0].sum(1).tolist() == [3] * 4
        assert dataset.fit is not None
        assert dataset.fit.images == task.gallery
        assert len(load_dataset(str(tmp_path), split="val").tasks[0].query) == 2
        train = load_dataset(str(tmp_path), split="train")
        assert train.tasks[0].drop_self
        assert train.fit is not None
        assert train.fit.images is None

    def test_a_class_called_train_is_a_class(self, tmp_path: Path) -> None:
        dataset = load_dataset(str(write_folder(tmp_path, {"train": 2, "car": 2})))
        assert set(dataset.tasks[0].query.labels) == {"train", "car"}

    def test_other_files_are_counted(self, tmp_path: Path) -> None:
        write_folder(tmp_path, {"a": 2, "b": 2})
        (tmp_path / "a" / "notes.txt").touch()
        (tmp_path / "a" / ".hidden").touch()
        (tmp_path / "b" / "deep").mkdir()
        (tmp_path / "b" / "deep" / "x.PNG").write_bytes(digit(0))
        task = load_dataset(str(tmp_path)).tasks[0]
        assert task.protocol.endswith("JPEG2000: 1 (a/notes.txt).")
        assert task.query.ids[-1] == "b/deep/x.PNG"

    def test_limit_takes_two_of_a_class_in_turn(self, tmp_path: Path) -> None:
        write_folder(tmp_path, {"a": 5, "b": 3, "c": 4})
        task = load_dataset(str(tmp_path), limit=7).tasks[0]
        assert Counter(task.query.labels) == {"a": 3, "b": 2, "c": 2}
        assert "Limited to 7 of 12 items" in task.protocol

    def test_contents_decide_the_hash(self, tmp_path: Path) -> None:
        first = load_dataset(str(write_folder(tmp_path / "x", {"a": 2, "b": 2})))
        second = load_dataset(str(write_folder(tmp_path / "y", {"a": 2, "b": 2})))
        assert first.hash == second.hash
        (tmp_path / "y" / "a" / "0.png").write_bytes(digit(50))
        assert load_dataset(str(tmp_path / "y")).hash != first.hash

    def test_an_undecodable_image_is_named_when_it_is_read(self, tmp_path: Path) -> None:
        write_folder(tmp_path, {"a": 2, "b": 2})
        (tmp_path / "b" / "1.png").write_bytes(b"broken")
        items = load_dataset(str(tmp_path)).tasks[0].query
        items.image(2)
        offer = r"\(--max-bad N would leave up to N such samples out\)"
        with pytest.raises(
            InputError, match=rf"b/1\.png.*cannot be decoded .*; replace or remove it {offer}$"
        ):
            items.image(3)
        (notice,) = load_dataset(str(tmp_path), max_bad=1).notices[-1:]
        assert "replace or remove it" in notice
        assert "--max-bad" not in notice
        (tmp_path / "b" / "0.png").unlink()
        with pytest.raises(InputError, match=r"b/0\.png.*cannot be read"):
            items.image(2)

    @pytest.mark.parametrize(
        ("make", "split", "says"),
        [
            ([], "test", ["no class folders"]),
            (["a/x.png", "b/"], "test", ["class folder", "/b", "no image"]),
            (["a/x.png"], "val", ["no splits", "'val'"]),
            (["train/a/x.png", "val/a/x.png"], "test", ["'test'", "train, val"]),
        ],
    )
    def test_a_bad_folder_is_refused(
        self, tmp_path: Path, make: list[str], split: str, says: list[str]
    ) -> None:
        for name in make:
            path = tmp_path / name
            (path if name.endswith("/") else path.parent).mkdir(parents=True)
            if not name.endswith("/"):
                path.write_bytes(digit(0))
        with pytest.raises(InputError) as refused:
            load_dataset(str(tmp_path), split=split)
        assert [part for part in says if part not in str(refused.value)] == []


class TestShards:
    def test_captioned_shards_as_img2dataset_writes_them(self, tmp_path: Path) -> None:
        for shard in range(2):
            samples = [
                (
                    f"0000{shard}000{n}",
                    {
                        "txt": f"digit {n} of {shard}",
                        "caption": f"digit {n} of {shard}",
                        "url": "x",
                        "width": 32,
                    },
                )
                for n in range(3)
            ]
            write_shard(tmp_path / f"0000{shard}.tar", samples)
        dataset = load_dataset(f"{tmp_path}/{{00000..00001}}.tar")
        check_contract(dataset)
        tasks = tasks_of(dataset)
        assert set(tasks) == {"image-text", "text-image"}
        for task in tasks.values():
            assert (relevant_and_ignored(task)[0] == np.eye(6, dtype=bool)).all()
        assert tasks["image-text"].query.ids[0] == "00000.tar/000000000"
        assert dataset.pairs is not None
        assert dataset.pairs.text.texts()[5] == "digit 2 of 1"
        assert load_dataset(str(tmp_path)).hash == dataset.hash  # the folder of the shards

    def test_images_with_the_same_caption_are_right_for_each_other(self, tmp_path: Path) -> None:
        captions = [
            ["A dog", "runs"],
            ["a  DOG", "barks"],
            ["a cat", "sleeps"],
            ["a bird", "barks"],
            ["x", "y"],
        ]
        samples = [(f"k{n}", {"captions": texts}) for n, texts in enumerate(captions)]
        dataset = load_dataset(write_shard(tmp_path / "a.tar", samples))
        check_contract(dataset)
        tasks = tasks_of(dataset)
        assert tasks["image-text"].gallery.texts() == [
            "A dog", "runs", "barks", "a cat", "sleeps", "a bird", "x", "y",
        ]  # fmt: skip
        relevant, _ = relevant_and_ignored(tasks["image-text"])
        dogs_and_bird = [1, 1, 1, 0, 0, 1, 0, 0]
        cat, last = [0, 0, 0, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0, 1, 1]
        assert relevant.astype(int).tolist() == [dogs_and_bird, dogs_and_bird, cat, dogs_and_bird, last]
        assert "2 captions are shared" in tasks["image-text"].protocol
        texts = tasks["text-caption"]
        assert texts.query.texts() == ["A dog", "a cat", "a bird", "x"]
        assert texts.gallery.texts() == ["runs", "barks", "sleeps", "y"]

    def test_labelled_shards(self, tmp_path: Path) -> None:
        samples = [(f"k{n}", {"label": n % 2}) for n in range(6)]
        dataset = load_dataset(write_shard(tmp_path / "a.tar", samples))
        check_contract(dataset)
        tasks = tasks_of(dataset)
        assert set(tasks) == {"image-class", "zero-shot-class"}
        assert tasks["image-class"].drop_self
        assert (relevant_and_ignored(tasks["image-class"])[0].sum(1) == 2).all()
        assert tasks["zero-shot-class"].gallery.labels == ("0", "1")

    def test_labels_and_captions_make_both_kinds_of_task(self, tmp_path: Path) -> None:
        samples = [(f"k{n}", {"label": "ab"[n % 2], "txt": f"number {n}"}) for n in range(6)]
        dataset = load_dataset(write_shard(tmp_path / "a.tar", samples), limit=4)
        check_contract(dataset)
        assert set(tasks_of(dataset)) == {"image-class", "zero-shot-class", "image-text", "text-image"}
        assert all("Limited to 4 of 6" in task.protocol for task in dataset.tasks)

    def test_splits_of_the_samples_are_kept_apart(self, tmp_path: Path) -> None:
        samples = [(f"k{n}", {"label": n % 2, "split": "test" if n < 4 else "train"}) for n in range(10)]
        shard = write_shard(tmp_path / "a.tar", samples)
        dataset = load_dataset(shard)
        check_contract(dataset)
        assert (len(dataset.tasks[0].query), len(dataset.tasks[0].gallery)) == (4, 6)
        train = load_dataset(shard, split="train")
        check_contract(train)
        assert train.tasks[0].drop_self
        with pytest.raises(InputError, match=r"'val'.*test, train"):
            load_dataset(shard, split="val")

    def test_shards_of_one_name_in_two_folders_stay_apart(self, tmp_path: Path) -> None:
        for folder in ("x", "y"):
            (tmp_path / folder).mkdir()
            write_shard(tmp_path / folder / "a.tar", [("k", {"label": folder}), ("l", {"label": folder})])
        check_contract(load_dataset(f"{tmp_path}/{{x,y}}/a.tar"))

    @pytest.mark.parametrize(
        ("samples", "says"),
        [
            ([("k0", {"width": 3})], ["a.tar", "'k0'", "neither a caption", "nor a label"]),
            ([("k0", {"label": 1}), ("k1", {"txt": "x"})], ["a.tar/k0", "captions", "others have"]),
            ([("k0", {"label": 1, "txt": "y"}), ("k1", {"txt": "x"})], ["a.tar/k1", "label", "others have"]),
            ([("k0", {"label": 1, "split": "test"}), ("k1", {"label": 1})], ["a.tar/k1", "no split"]),
            (
                [("k0", {"label": 1}), ("l", {"label": 1}), ("k0", {"label": 1})],
                ["a.tar, sample 'k0'", "occurs twice"],
            ),
        ],
    )
    def test_bad_samples_are_refused_by_name(
        self, tmp_path: Path, samples: list[tuple[str, dict[str, object]]], says: list[str]
    ) -> None:
        with pytest.raises(InputError) as refused:
            load_dataset(write_shard(tmp_path / "a.tar", samples))
        assert [part for part in says if part not in str(refused.value)] == []

    def test_an_undecodable_image_is_named_by_shard_and_key(self, tmp_path: Path) -> None:
        shard = write_shard(tmp_path / "a.tar", [("k0", {"label": 1}), ("k1", {"label": 1})], image=b"broken")
        items = load_dataset(shard).tasks[0].query
        with pytest.raises(InputError, match=r"a\.tar/k1.*cannot be decoded"):
            items.image(1)


class TestCsv:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        for number in range(4):
            (tmp_path / f"{number}.png").write_bytes(digit(number))
        return tmp_path

    def write(self, folder: Path, text: str) -> str:
        (folder / "list.csv").write_text(text, encoding="utf-8")
        return str(folder / "list.csv")

    def test_labelled_images(self, folder: Path) -> None:
        path = self.write(folder, "path,label,note\n0.png,a,x\n1.png,b,\n2.png,a,\n3.png,b,\n")
        dataset = load_dataset(path)
        check_contract(dataset)
        assert set(tasks_of(dataset)) == {"image-class", "zero-shot-class"}
        assert dataset.tasks[0].query.labels == ("a", "b", "a", "b")

    def test_groups_are_ignored(self, folder: Path) -> None:
        path = self.write(folder, "path,label,group\n0.png,a,g\n1.png,a,g\n2.png,a,h\n3.png,b,i\n")
        task = load_dataset(path).tasks[0]
        relevant, ignored = relevant_and_ignored(task)
        assert relevant.astype(int).tolist() == [[0, 0, 1, 0], [0, 0, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0]]
        assert ignored[:2, :2].all()
        assert "own group" in task.protocol

    def test_labelled_texts(self, folder: Path) -> None:
        path = self.write(folder, 'text,label\n"one, two",a\nthree,a\nNA,b\nnull,b\n')
        dataset = load_dataset(path)
        check_contract(dataset)
        (task,) = dataset.tasks
        assert (task.name, task.kind, task.drop_self) == ("text-class", "text-text", True)
        assert task.query.texts() == ["one, two", "three", "NA", "null"]
        assert dataset.pairs is None

    def test_parquet_holds_the_same(self, folder: Path) -> None:
        text = "path,label,group,split\n0.png,1,g,train\n1.png,2,,train\n2.png,1,h,test\n3.png,2,i,test\n"
        frame = pd.read_csv(io.StringIO(text.replace(",,", ",f,")))
        frame.to_parquet(folder / "list.parquet")
        found = load_dataset(str(folder / "list.parquet"))
        check_contract(found)
        assert found.tasks[0].query.labels == ("1", "2")
        assert found.hash == load_dataset(self.write(folder, text.replace(",,", ",f,"))).hash
        frame["label"] = [[1], [2], [1], [2]]
        frame.to_parquet(folder / "list.parquet")
        with pytest.raises(
            InputError, match=r"list.parquet, line 2: column label: a cell holds a (ndarray|list)"
        ):
            load_dataset(str(folder / "list.parquet"))
        (folder / "list.parquet").write_bytes(b"nothing of the kind")
        with pytest.raises(InputError, match=r"list.parquet: not readable as parquet"):
            load_dataset(str(folder / "list.parquet"))

    def test_summaries_take_the_place_of_texts_and_the_protocol_says_so(self, folder: Path) -> None:
        plain = load_dataset(self.write(folder, "text,label\na long story,a\nanother,a\n")).tasks[0]
        short = load_dataset(self.write(folder, "text,summary,label\na long story,story,a\nanother,2,a\n"))
        assert plain.query.texts() == ["a long story", "another"]
        assert "cut at the context's end" in plain.protocol
        assert short.tasks[0].query.texts() == ["story", "2"]
        assert "by their summaries" in short.tasks[0].protocol

    def test_several_captions_of_an_image_are_several_rows(self, folder: Path) -> None:
        path = self.write(folder, "path,text\n0.png,zero\n1.png,one\n0.png,nought\n1.png,single\n")
        dataset = load_dataset(path)
        check_contract(dataset)
        assert set(tasks_of(dataset)) == {"image-text", "text-image", "text-caption"}
        relevant, _ = relevant_and_ignored(tasks_of(dataset)["image-text"])
        assert relevant.astype(int).tolist() == [[1, 1, 0, 0], [0, 0, 1, 1]]

    def test_splits(self, folder: Path) -> None:
        path = self.write(
            folder, "path,label,split\n0.png,a,train\n1.png,b,train\n2.png,a,test\n3.png,b,test\n"
        )
        dataset = load_dataset(path)
        check_contract(dataset)
        assert dataset.tasks[0].gallery.ids == ("0.png", "1.png")
        path = self.write(folder, "path,label,split\n0.png,a,train\n1.png,a,train\n2.png,a,test\n")
        train = load_dataset(path, split="train")
        check_contract(train)
        assert train.tasks[0].drop_self

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("", ["list.csv", "not readable"]),
            ("path,label\n", ["list.csv", "no row"]),
            ("file,label\n0.png,a\n", ["file, label", "path and label"]),
            ("path\n0.png\n", ["path", "path and label"]),
            ("text\nx\n", ["text", "text and label"]),
            ("path,label\n0.png,a\n9.png,a\n", ["line 3", "9.png", "no such file"]),
            ("path,label\n0.png,a\n1.png, \n", ["line 3", "label", "empty"]),
            ("path,label\n0.png,a\n0.png,a\n", ["line 3", "0.png", "twice"]),
            ("path,text,label\n0.png,x,a\n0.png,y,b\n", ["line 3", "0.png", "differs"]),
            ("path,label,split\n0.png,a,val\n", ["'test'", "val"]),
        ],
    )
    def test_a_bad_file_is_refused(self, folder: Path, text: str, says: list[str]) -> None:
        with pytest.raises(InputError) as refused:
            load_dataset(self.write(folder, text))
        assert [part for part in says if part not in str(refused.value)] == []


class TestNames:
    @pytest.mark.parametrize(
        ("name", "says"),
        [
            ("emoij", ["'emoij'", "'emoji'", "Known: emoji"]),
            ("nowhere/shards-{0..1}.tar", ["nowhere/shards-0.tar", "no such file"]),
            ("pipe:cat x.tar", ["pipe", "not read"]),
            ("nowhere.csv", ["nowhere.csv", "no such file"]),
            (__file__, ["test_datasets.py", ".csv"]),
        ],
    )
    def test_what_is_not_known_is_refused(self, name: str, says: list[str]) -> None:
        with pytest.raises(InputError) as refused:
            load_dataset(name)
        assert [part for part in says if part not in str(refused.value)] == []

    @pytest.mark.parametrize("limit", [0, -3])
    def test_a_limit_below_one_is_refused(self, limit: int) -> None:
        with pytest.raises(InputError, match=f"limit={limit}"):
            load_dataset("emoji", limit=limit)


class TestItems:
    ITEMS = Items(modality="text", ids=("a", "b", "c"), contents=("x", "y", "z"), labels=("1", "2", "1"))

    def test_subset_and_relabel(self) -> None:
        chosen = self.ITEMS.subset([2, 0])
        assert (chosen.ids, chosen.texts(), chosen.labels, chosen.groups) == (
            ("c", "a"),
            ["z", "x"],
            ("1", "1"),
            (),
        )
        grouped = replace(self.ITEMS, groups=("g", "h", "i")).subset([1])
        assert grouped.groups == ("h",)
        assert self.ITEMS.relabel("456").labels == ("4", "5", "6")

    def test_hash_is_over_modality_ids_and_contents_only(self, tmp_path: Path) -> None:
        same = self.ITEMS.relabel("999").content_hash
        assert same == self.ITEMS.content_hash
        changed = [
            replace(self.ITEMS, ids=("a", "b", "d")),
            replace(self.ITEMS, contents=("x", "y", "zz")),
            replace(self.ITEMS, ids=("a", "bc", "d"), contents=("x", "y", "z")),
            self.ITEMS.subset([0, 2, 1]),
            replace(self.ITEMS, modality="image", contents=(b"x", b"y", b"z")),
        ]
        assert len({same, *(items.content_hash for items in changed)}) == len(changed) + 1
        (tmp_path / "x").write_bytes(b"x")
        as_bytes = Items(modality="image", ids=("a",), contents=(b"x",), labels=("1",))
        assert replace(as_bytes, contents=(tmp_path / "x",)).content_hash == as_bytes.content_hash

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            ({"ids": ("a", "b", "a")}, "'a' occurs twice"),
            ({"labels": ("1", "2")}, "2 labels"),
            ({"groups": ("1", "2")}, "2 groups"),
            ({"labels": ("1", "", "2")}, "'b'.*empty"),
            ({"contents": ("x", "y", b"z")}, "'c'.*bytes"),
            ({"ids": (), "contents": (), "labels": ()}, "there is none"),
        ],
    )
    def test_inconsistent_items_are_refused(self, change: dict[str, tuple[str, ...]], says: str) -> None:
        with pytest.raises(InputError, match=says):
            replace(self.ITEMS, **change)


def test_stratified_takes_pairs_in_turn() -> None:
    labels = "aaaaabbbcd"
    assert stratified(labels, 10) == list(range(10))
    assert stratified(labels, 6) == [0, 1, 5, 6, 8, 9]
    assert stratified(labels, 7) == [0, 1, 2, 5, 6, 8, 9]
    assert stratified(labels, 3) == [0, 1, 5]
