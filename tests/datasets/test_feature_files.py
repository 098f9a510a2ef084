"""Features from files: every format gives the same tasks and numbers, and what is wrong is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from crossgap import evaluate as command
from crossgap.datasets.features import feature_dataset
from crossgap.datasets.readers.feature_files import FeatureTable, read_features
from crossgap.embeddings import Embeddings
from crossgap.errors import InputError
from crossgap.evaluation.plan import EvaluationConfig
from crossgap.evaluation.run import evaluate
from crossgap.metrics.relevance import relevance_of
from crossgap.metrics.retrieval import retrieval_metrics
from crossgap.metrics.similarity import cosine_scores
from crossgap.provenance import Provenance
from crossgap.records import read_rows

WIDTH = 12
CLASSES = ("cat", "dog", "tree")


def made(seed: int = 0, things: int = 30) -> dict[str, Any]:
    """Columns of images, two texts a thing, and prompts, over the splits train, val and test."""
    generator = np.random.default_rng(seed)
    rows: dict[str, list[str]] = {name: [] for name in ("id", "label", "group", "split", "text", "modality")}

    def add(name: str, label: str, group: str, split: str, text: str, modality: str) -> None:
        for column, value in zip(rows.values(), (name, label, group, split, text, modality), strict=True):
            column.append(value)

    for thing in range(things):
        label, split = CLASSES[thing % 3], ("train", "val", "test")[thing % 10 // 3 % 3]
        add(f"i{thing}", label, f"g{thing}", split, "a picture", "image")
        add(f"t{thing}", label, f"g{thing}", split, f"a {label} {thing}", "text")
        add(f"u{thing}", label, f"g{thing}", split, f"some {label}", "text")
    for split in ("train", "val", "test"):
        for label in CLASSES:
            add(f"{split}-{label}", label, f"p-{split}-{label}", split, f"a photo of {label}", "prompt")
    values = generator.normal(size=(len(rows["id"]), WIDTH))
    return {"values": values.astype(np.float32), **rows}


PLURAL = {"id": "ids", "label": "labels", "group": "groups", "split": "splits", "text": "texts"}


def write_npz(folder: Path, table: dict[str, Any]) -> list[Path]:
    arrays = {PLURAL.get(name, name): np.asarray(column) for name, column in table.items()}
    np.savez(folder / "features.npz", **arrays)
    return [folder / "features.npz"]


def write_parquet(folder: Path, table: dict[str, Any]) -> list[Path]:
    frame = pd.DataFrame({**table, "values": list(table["values"])})
    frame.to_parquet(folder / "features.parquet")
    return [folder / "features.parquet"]


def write_safetensors(folder: Path, table: dict[str, Any]) -> list[Path]:
    """Write one file a modality, as the format has one for all rows."""
    paths = []
    for modality in dict.fromkeys(table["modality"]):
        rows = [row for row, name in enumerate(table["modality"]) if name == modality]
        about = {plural: json.dumps([table[name][row] for row in rows]) for name, plural in PLURAL.items()}
        path = folder / f"{modality}.safetensors"
        save_file({"values": torch.tensor(table["values"][rows])}, path, {**about, "modality": modality})
        paths.append(path)
    return paths


WRITERS: dict[str, Callable[[Path, dict[str, Any]], list[Path]]] = {
    "npz": write_npz,
    "parquet": write_parquet,
    "safetensors": write_safetensors,
}


@pytest.fixture(params=WRITERS)
def table(request: pytest.FixtureRequest, tmp_path: Path) -> FeatureTable:
    return read_features(WRITERS[request.param](tmp_path, made()))


def test_every_format_gives_the_same_rows_by_id(table: FeatureTable) -> None:
    expected = made()
    rows = [row for row, name in enumerate(expected["modality"]) if name == "image"]
    data = feature_dataset(table, split="test")
    images = next(task for task in data.tasks if task.name == "image-class").query
    place = {expected["id"][row]: row for row in rows}
    wanted = torch.tensor(expected["values"][[place[item] for item in images.ids]])
    torch.testing.assert_close(table.embed(images), torch.nn.functional.normalize(wanted, dim=1))
    assert table.embed_dim == WIDTH


def test_tasks_follow_from_labels_groups_and_splits(table: FeatureTable) -> None:
    data = feature_dataset(table, split="test")
    names = [task.name for task in data.tasks]
    assert names == [
        "image-class", "text-class", "zero-shot-class", "image-text", "text-image", "text-caption",
    ]  # fmt: skip
    by_name = {task.name: task for task in data.tasks}
    images = by_name["image-class"]
    assert not set(images.query.ids) & set(images.gallery.ids)  # against the training split
    assert by_name["text-image"].query.labels == by_name["text-image"].query.groups
    assert by_name["zero-shot-class"].gallery.contents == tuple(f"a photo of {name}" for name in CLASSES)
    assert data.fit is not None
    assert data.pairs is not None
    for part in (data.fit.images, data.fit.texts, data.fit.class_prompts):
        assert part is not None
    train = {made()["id"][row] for row, split in enumerate(made()["split"]) if split == "train"}
    assert set(data.fit.images.ids) | set(data.fit.texts.ids) <= train  # type: ignore[union-attr]
    assert data.fit.pairs is not None
    assert [name[1:] for name in data.fit.pairs.image.ids] == [name[1:] for name in data.fit.pairs.text.ids]
    assert all(name.startswith("t") for name in data.pairs.text.ids)  # the first text of each group


def test_values_equal_a_direct_computation(table: FeatureTable) -> None:
    data, val = feature_dataset(table, split="test"), feature_dataset(table, split="val")
    provenance = Provenance(study="made", arm=table.name, config_hash="0")
    result = evaluate(table, data, val, config=EvaluationConfig(), provenance=provenance)
    for task in data.tasks:
        scores = cosine_scores(table.embed(task.query), table.embed(task.gallery))
        metric = "hit@1" if task.kind == "zero-shot" else "mAP"
        expected = float(retrieval_metrics(scores, relevance_of(task))[metric].nanmean())
        (found,) = (
            row.value
            for row in result.rows
            if (row.task, row.route, row.metric, row.split) == (task.name, "native", metric, "test")
        )
        assert found == pytest.approx(expected, abs=1e-6)
    assert {"centred", "ridge", "class_pca"} <= {row.route for row in result.rows if row.selection != "curve"}
    assert "no towers to invert" in result.skipped["image-class/oti"]
    assert "RMG" in {row.metric for row in result.rows}


def test_the_command_evaluates_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (path,) = write_npz(tmp_path, made())
    out = tmp_path / "out"
    assert command.main(embeddings=(path,), routes=("native", "centred"), out=out) == 0
    assert "image-class" in capsys.readouterr().out
    assert {"native", "centred", "chance"} == set(read_rows([out / "rows.jsonl"]).route)
    with pytest.raises(InputError, match="leave --encoder"):
        command.main(embeddings=(path,), encoder="ViT-B-32", out=tmp_path / "b")
    with pytest.raises(InputError, match=r"give --encoder .* or --embeddings"):
        command.main(encoder="ViT-B-32", out=tmp_path / "b")
    with pytest.raises(InputError, match="no split 'sealed'"):
        command.main(embeddings=(path,), split="sealed", out=tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_what_encode_writes_is_read(tmp_path: Path) -> None:
    labels, ids = ("a", "a", "b"), ("x", "y", "z")
    values = torch.eye(3)
    Embeddings(ids=ids, values=values, labels=labels, modality="image", encoder="e", source="s").save(
        tmp_path / "image.safetensors"
    )
    table = read_features([tmp_path])
    data = feature_dataset(table)
    (task,) = data.tasks
    assert (task.name, task.drop_self, data.pairs) == ("image-class", True, None)
    with pytest.raises(InputError, match="only their features"):
        task.query.image(0)


def broken(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], list[Path]]:
    def write(folder: Path) -> list[Path]:
        table = made(things=6)
        change(table)
        return write_npz(folder, table)

    return write


def set_value(row: int, value: float) -> Callable[[dict[str, Any]], None]:
    return lambda table: table["values"].__setitem__(row, value)


BAD: dict[str, tuple[Callable[[Path], list[Path]], str]] = {
    "nan": (broken(set_value(3, np.nan)), "'i1' is not finite"),
    "zero": (broken(set_value(4, 0)), "'t1' is zero"),
    "twice": (broken(lambda table: table["id"].__setitem__(3, "i0")), "image id 'i0' occurs twice"),
    "empty label": (broken(lambda table: table["label"].__setitem__(1, "")), "'t0'.* empty label"),
    "lengths": (broken(lambda table: table["label"].pop()), "rows of values but 26 of label"),
    "modality": (broken(lambda table: table["modality"].__setitem__(0, "imaeg")), "'imaeg'.*'image'"),
    "one row": (broken(lambda table: table.update(values=table["values"][0])), "expected items x width"),
    "words": (
        broken(lambda table: table.update(values=np.full((27, 2), "x"))), "expected numbers",
    ),
    "no ids": (broken(lambda table: table.pop("id")), "they have no ids"),
    "missing": (lambda folder: [folder / "nothing.npz"], "no such file"),
    "empty folder": (lambda folder: [folder], "without .safetensors files"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_named_with_the_item(name: str, tmp_path: Path) -> None:
    write, says = BAD[name]
    with pytest.raises(InputError, match=says):
        read_features(write(tmp_path))


def test_pickles_and_other_files_are_not_read(tmp_path: Path) -> None:
    objects = np.array([{"a": 1}, None], dtype=object)
    np.savez(tmp_path / "pickled.npz", values=objects, ids=np.array(["a", "b"]))
    with pytest.raises(InputError, match="pickled objects are not read"):
        read_features([tmp_path / "pickled.npz"])
    for name in ("features.pkl", "features.csv"):
        (tmp_path / name).write_text("x")
        with pytest.raises(InputError, match=r"a file of this kind is not read; expected \.safetensors"):
            read_features([tmp_path / name])
    for name in ("damaged.npz", "damaged.parquet", "damaged.safetensors"):
        (tmp_path / name).write_bytes(b"nothing")
        with pytest.raises(InputError, match=name):
            read_features([tmp_path / name])


ROWS = 6


def table_of(**columns: Any) -> pd.DataFrame:
    values = list(np.random.default_rng(0).normal(size=(ROWS, 4)))
    return pd.DataFrame(
        {"id": range(ROWS), "values": values, "label": list("ab") * 3, "modality": "image", **columns}
    )


def values_with(last: Any) -> list[Any]:
    return [*np.random.default_rng(0).normal(size=(ROWS - 1, 4)), last]


ODD_TABLES: dict[str, tuple[pd.DataFrame, str]] = {
    "none": (table_of(values=values_with(None)), r"item '5' holds None \(NoneType\) as values"),
    "scalars": (table_of(values=[1.0] * ROWS), r"item '0' holds 1\.0 \(float\) as values, expected a list"),
    "empty": (table_of(values=values_with([])), "item '5' has 0 values, others 4"),
    "ragged": (table_of(values=values_with([1.0, 2.0])), "item '5' has 2 values, others 4"),
    "nested": (table_of(values=[[[1.0, 2.0]]] * ROWS), "item '0' holds .* among its values, expected"),
    "strings": (
        table_of(values=[["0.1", "0.2"]] * ROWS), r"item '0' holds '0\.1' \(str\) among its values"
    ),
    "null inside": (table_of(values=[[None, 1.0]] * ROWS), "row of '0' is not finite"),
    "several labels": (table_of(label=[["a"], ["a", "b"]] * 3), r"row 1 has \['a', 'b'\] \(list\) as label"),
    "two labels each": (table_of(label=[["a", "c"], ["a", "b"]] * 3), r"row 0 has \['a', 'c'\].*keep one"),
    "no label": (table_of(label=[[], ["b"]] * 3), r"row 0 has \[\] \(list\) as label"),
    "structs": (table_of(label=[{"x": 1}] * ROWS), r"row 0 has \{'x': 1\} \(dict\) as label"),
    "null label": (table_of(label=[None, *range(5)]), r"row 0 \(id '0'\) has an empty label"),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD_TABLES)
def test_tables_with_odd_cells_name_the_item(name: str, tmp_path: Path) -> None:
    frame, says = ODD_TABLES[name]
    frame.to_parquet(tmp_path / "odd.parquet")
    with pytest.raises(InputError, match=rf"odd\.parquet.*{says}"):
        read_features([tmp_path / "odd.parquet"])


def test_an_index_may_hold_the_ids_and_lists_of_one_the_labels(tmp_path: Path) -> None:
    table_of(label=[[1.0], [2.0]] * 3).set_index("id").to_parquet(tmp_path / "F.PARQUET")
    about = read_features([tmp_path / "F.PARQUET"]).sides["image"].about
    assert about["id"] == [str(row) for row in range(ROWS)]
    assert about["label"] == ["1", "2"] * 3


def test_a_plain_array_is_read_with_the_modality_that_its_path_says(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    parts = {name: generator.normal(size=(4, 8)).astype("float16") for name in ("i0", "i1", "t0", "t1")}
    for name, values in parts.items():
        np.save(tmp_path / f"{name}.npy", values)
    given = [
        *(Path(f"image={tmp_path / name}.npy") for name in ("i0", "i1")),
        *(Path(f"text={tmp_path / name}.npy") for name in ("t0", "t1")),
    ]
    table = read_features(given)
    data = feature_dataset(table)
    assert [task.name for task in data.tasks] == ["image-text", "text-image"]
    assert data.tasks[0].query.labels == tuple(str(row) for row in range(8))
    expected = np.concatenate([parts["t0"], parts["t1"]]).astype("float32")
    torch.testing.assert_close(
        table.embed(data.tasks[0].gallery), torch.nn.functional.normalize(torch.tensor(expected), dim=1)
    )
    with pytest.raises(InputError, match=r"8 images and 4 texts; of \.npy files row k"):
        read_features(given[:3])
    with pytest.raises(InputError, match=r"does not say what its rows are; write image=\S+i0\.npy"):
        read_features([tmp_path / "i0.npy"])
    np.save(tmp_path / "deep.npy", np.zeros((2, 2, 2)))
    with pytest.raises(InputError, match=r"values of shape \(2, 2, 2\)"):
        read_features([Path(f"image={tmp_path / 'deep.npy'}")])


def test_what_a_path_says_must_be_what_the_file_says(tmp_path: Path) -> None:
    np.savez(tmp_path / "f.npz", values=np.eye(3), ids=np.arange(3), modality="text")
    assert set(read_features([Path(f"text={tmp_path / 'f.npz'}")]).sides) == {"text"}
    with pytest.raises(InputError, match="called image, but its rows are of modality text"):
        read_features([Path(f"image={tmp_path / 'f.npz'}")])


def test_files_under_the_wrong_name_are_told(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.eye(3))
    (tmp_path / "one.npy").rename(tmp_path / "one.npz")
    with pytest.raises(InputError, match=r"one array, as in a \.npy file"):
        read_features([tmp_path / "one.npz"])
    np.savez(tmp_path / "many.npz", values=np.eye(3))
    (tmp_path / "many.npz").rename(tmp_path / "many.npy")
    with pytest.raises(InputError, match=r"several arrays, as in an \.npz file"):
        read_features([Path(f"image={tmp_path / 'many.npy'}")])


@pytest.mark.parametrize(
    "held", ['{"a": 1}', '["a", ["b", "c"], "d"]', '"abc"', "5", "[[1], [2, 3], 4]", "[1"]
)
def test_metadata_that_is_no_list_of_words_is_refused(held: str, tmp_path: Path) -> None:
    ids = {"ids": '["x", "y", "z"]'} if held != "[1" else {}
    save_file(
        {"values": torch.eye(3)}, tmp_path / "f.safetensors", {**ids, "labels": held, "modality": "image"}
    )
    with pytest.raises(InputError, match=r"f\.safetensors.*(labels?|JSONDecodeError)"):
        read_features([tmp_path / "f.safetensors"])


def test_parts_must_share_width_and_columns(tmp_path: Path) -> None:
    one, two = tmp_path / "one.npz", tmp_path / "two.npz"
    np.savez(one, values=np.eye(3), ids=np.array(list("abc")), modality="image", labels=np.array(list("xxy")))
    np.savez(
        two, values=np.eye(4), ids=np.array(list("defg")), modality="image", labels=np.array(list("xxyy"))
    )
    with pytest.raises(InputError, match=r"share one width.*3 in .*one\.npz, 4 in .*two\.npz"):
        read_features([one, two])
    np.savez(two, values=np.eye(3), ids=np.array(list("def")), modality="image")
    with pytest.raises(InputError, match=r"two\.npz: its images have no label"):
        read_features([one, two])


def test_an_image_whose_class_has_no_prompt_is_named(tmp_path: Path) -> None:
    table = made(things=6)
    table["label"] = [
        "fish" if name == "i2" else label for name, label in zip(table["id"], table["label"], strict=True)
    ]
    table["split"] = ["test"] * len(table["id"])
    with pytest.raises(InputError, match="image 'i2' is of class 'fish', which has no prompt"):
        feature_dataset(read_features(write_npz(tmp_path, table)))


def test_features_that_are_missing_are_named(tmp_path: Path) -> None:
    table = read_features(write_npz(tmp_path, made()))
    items = feature_dataset(table).tasks[0].query
    fewer = read_features(write_npz(tmp_path, made(things=3)))
    with pytest.raises(InputError, match=f"images have no features, the first is '{items.ids[0]}'"):
        fewer.embed(items)


def test_small_and_whole_numbers_are_taken_as_they_are(tmp_path: Path) -> None:
    np.savez(tmp_path / "f.npz", values=np.eye(3, dtype=np.float16), ids=np.arange(3), modality="text",
             labels=np.array(list("aab")))  # fmt: skip
    table = read_features([tmp_path / "f.npz"])
    assert table.sides["text"].values.dtype == torch.float32
    assert table.sides["text"].about["id"] == ["0", "1", "2"]
