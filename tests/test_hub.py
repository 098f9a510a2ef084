"""Datasets in the hub's format, from a local folder: streamed, bounded, refused by name."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest

from crossgap import weights
from crossgap.datasets import load_dataset
from crossgap.datasets.picture_cache import PictureCache
from crossgap.errors import InputError
from tests.miniatures import picture
from tests.test_datasets import check_contract

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
    with pytest.raises(InputError, match=r"needs the package datasets: pip install 'crossgap\[hf\]'"):
        load_dataset(f"hf:{images}")
