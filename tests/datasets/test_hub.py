"""Datasets in the hub's format, from a local folder: streamed, bounded, refused by name."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest

from crossgap.datasets.load import load_dataset
from crossgap.datasets.readers.picture_cache import PictureCache
from crossgap.encoders import weights
from crossgap.errors import InputError
from tests.datasets.test_datasets import check_contract
from tests.miniatures import picture

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "pets"
    folder.mkdir()
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["red pet", "green pet", "blue pet"])}
    )
    for split, count in (("train", 9), ("test", 6)):
        rows = {
            "image": [{"bytes": picture(place % 3, place + count), "path": None} for place in range(count)],
            "label": [place % 3 for place in range(count)],
        }
        made = datasets.Dataset.from_dict(rows, features=features)
        made.to_parquet(str(folder / f"{split}-00000-of-00001.parquet"))
    return folder


def test_images_with_classes(images: Path, tmp_path: Path) -> None:
    dataset = load_dataset(f"hf:{images}")
    check_contract(dataset)
    retrieval = dataset.tasks[0]
    assert set(retrieval.query.labels) == {"red pet", "green pet", "blue pet"}
    assert [retrieval.query.image(place).size for place in range(6)] == [(32, 24)] * 6
    assert all(isinstance(content, Path) for content in retrieval.query.contents)
    assert all(tmp_path / "cache" in Path(content).parents for content in retrieval.query.contents)
    assert load_dataset(f"hf:{images}").hash == dataset.hash
    some = load_dataset(f"hf:{images}", limit=4)
    assert len(some.tasks[0].query) == 4
    assert "The first 4 rows" in some.tasks[0].protocol


def test_two_loads_at_once_take_nothing_from_each_other(images: Path, tmp_path: Path) -> None:
    one, other = load_dataset(f"hf:{images}"), load_dataset(f"hf:{images}", limit=4)
    before = {path: path.stat().st_mtime_ns for path in map(Path, map(str, one.tasks[0].query.contents))}
    again = load_dataset(f"hf:{images}")
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert set(other.tasks[0].query.contents) <= set(one.tasks[0].query.contents)
    assert again.tasks[0].query.image(3).tobytes() == one.tasks[0].query.image(3).tobytes()


def test_pictures_are_kept_by_content_by_many_writers(tmp_path: Path) -> None:
    cache = PictureCache(tmp_path / "cache")
    data = [bytes([place % 5]) * 50_000 for place in range(40)]
    with ThreadPoolExecutor(8) as threads:
        places = list(threads.map(cache.keep, data))
    assert [path.read_bytes() for path in places] == data
    assert sorted({*places}) == sorted(path for path in cache.folder.rglob("*") if path.is_file())
    places[0].write_bytes(b"cut off by a full disk")
    assert cache.keep(data[0]).read_bytes() == data[0]
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cache .*file: an image cannot be written .*XDG_CACHE_HOME"):
        PictureCache(tmp_path / "file").keep(b"x")


def test_texts_with_classes(tmp_path: Path) -> None:
    folder = tmp_path / "reviews"
    folder.mkdir()
    frame = pd.DataFrame({"text": ["good", "fine", "bad", "poor"], "label": [1, 1, 0, 0]})
    frame.to_parquet(folder / "test-00000-of-00001.parquet")
    dataset = load_dataset(f"hf:{folder}")
    check_contract(dataset)
    assert [task.name for task in dataset.tasks] == ["text-class"]
    assert dataset.tasks[0].query.texts() == ["good", "fine", "bad", "poor"]


def test_what_cannot_be_had_is_named(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"no split 'val'; it has train, test"):
        load_dataset(f"hf:{images}", split="val")
    folder = tmp_path / "odd"
    folder.mkdir()
    pd.DataFrame({"number": [1, 2]}).to_parquet(folder / "test-00000-of-00001.parquet")
    with pytest.raises(InputError, match=r"columns number; expected an image or a text"):
        load_dataset(f"hf:{folder}")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty': cannot be opened"):
        load_dataset(f"hf:{tmp_path / 'empty'}")
    monkeypatch.setattr(weights, "answers", lambda _address: False)
    with pytest.raises(InputError, match=r"no such folder, and http\S* does not answer; download"):
        load_dataset("hf:nobody/nothing")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match=r"needs the package datasets: pip install '\.\[hf\]'"):
        load_dataset(f"hf:{images}")


def write_split(
    folder: Path, split: str, columns: dict[str, list[object]], features: dict[str, object]
) -> Path:
    folder.mkdir(exist_ok=True)
    images = [{"bytes": picture(place % 3, place), "path": None} for place in range(6)]
    made = datasets.Dataset.from_dict(
        {"image": images, **columns}, features=datasets.Features({"image": datasets.Image(), **features})
    )
    made.to_parquet(str(folder / f"{split}-00000-of-00001.parquet"))
    return folder


TEXT = datasets.Value("string")
TEXTS = datasets.Sequence(TEXT)
CLASS = datasets.ClassLabel(names=["red pet", "green pet"])


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        ([f"pet {k}" for k in range(6)], TEXT),
        ([[f"pet {k}", " "] for k in range(6)], TEXTS),
        (
            [{"tokens": ["a", "pet"], "raw": f"pet {k}", "sentid": k} for k in range(6)],
            {"tokens": TEXTS, "raw": TEXT, "sentid": datasets.Value("int32")},
        ),
        ([[{"text": f"pet {k}"}] for k in range(6)], [{"text": TEXT}]),
        ([{"caption": [f"pet {k}"]} for k in range(6)], {"caption": TEXTS}),
    ],
    ids=["text", "texts", "struct", "structs", "struct of texts"],
)
def test_captions_however_they_are_nested(tmp_path: Path, cells: list[object], kind: object) -> None:
    folder = write_split(tmp_path / "pets", "test", {"captions": cells}, {"captions": kind})
    (task,) = [task for task in load_dataset(f"hf:{folder}").tasks if task.name == "image-text"]
    assert task.gallery.texts() == [f"pet {k}" for k in range(6)]


@pytest.mark.parametrize(
    ("column", "cells", "kind", "says"),
    [
        (
            "text",
            [None if k == 5 else f"pet {k}" for k in range(6)],
            TEXT,
            "row 5: column 'text' holds no text",
        ),
        (
            "captions",
            [{"url": "x", "id": k} for k in range(6)],
            {"url": TEXT, "id": datasets.Value("int32")},
            r"row 0: column 'captions' holds \{'url': 'x'.*struct with raw, text, caption",
        ),
        ("label", [-1] * 6, CLASS, r"column 'label' names no class in any of 6 rows.*give another --split"),
        ("label", [0, 1, 0, 1, None, 1], CLASS, "row-4: column 'label' names no class"),
        ("label", [0, 1, 0, 1, -1, 1], CLASS, "row-4: column 'label' names no class"),
        (
            "labels",
            [[k % 3, 3] for k in range(6)],
            datasets.Sequence(datasets.Value("int64")),
            r"row 0: column 'labels' holds \[0, 3\], expected one class",
        ),
    ],
)
def test_cells_that_say_nothing_are_named_by_row_and_column(
    tmp_path: Path, column: str, cells: list[object], kind: object, says: str
) -> None:
    folder = write_split(tmp_path / "pets", "test", {column: cells}, {column: kind})
    with pytest.raises(InputError, match=says):
        load_dataset(f"hf:{folder}")


def test_rows_without_a_class_or_an_image_are_left_out_up_to_a_limit(tmp_path: Path) -> None:
    folder = write_split(tmp_path / "pets", "test", {"label": [0, 1, 0, 1, None, -1]}, {"label": CLASS})
    dataset = load_dataset(f"hf:{folder}", max_bad=2)
    assert len(dataset.tasks[0].query) == 4
    assert "Bad samples left out: 2" in dataset.tasks[0].protocol
    columns = {"image": [{"bytes": picture(0, 1), "path": None}] * 5 + [None], "label": [0, 1] * 3}
    made = datasets.Dataset.from_dict(
        columns, features=datasets.Features({"image": datasets.Image(), "label": CLASS})
    )
    made.to_parquet(str(folder / "test-00000-of-00001.parquet"))
    with pytest.raises(InputError, match="row 5: column 'image' holds nothing, expected an encoded image"):
        load_dataset(f"hf:{folder}")


def test_splits_by_any_name_and_maps_fitted_on_train(tmp_path: Path) -> None:
    for split in ("train", "validation", "test"):
        write_split(tmp_path / "pets", split, {"label": [0, 1] * 3}, {"label": CLASS})
    test, val = (load_dataset(f"hf:{tmp_path / 'pets'}", split=split) for split in ("test", "val"))
    assert (test.split, val.split) == ("test", "val")
    for dataset in (test, val):
        check_contract(dataset)
        assert dataset.fit is not None
        assert dataset.fit.split == "train"
        assert dataset.tasks[0].gallery.ids == tuple(f"train-row-{k}" for k in range(6))
        assert dataset.tasks[0].query.ids == tuple(f"row-{k}" for k in range(6))
    some = load_dataset(f"hf:{tmp_path / 'pets'}", limit=4)
    assert "The first 4 rows of the split and 4 of split train." in some.tasks[0].protocol


def test_columns_as_webdataset_calls_them(tmp_path: Path) -> None:
    folder = tmp_path / "wds"
    folder.mkdir()
    rows = {"__key__": ["a", "b"], "webp": [picture(0, 1), picture(1, 2)], "cls": [0, 1]}
    pd.DataFrame(rows).to_parquet(folder / "test-00000-of-00001.parquet")
    dataset = load_dataset(f"hf:{folder}")
    assert dataset.tasks[0].query.labels == ("0", "1")
    assert dataset.tasks[0].query.image(0).size == (32, 24)
