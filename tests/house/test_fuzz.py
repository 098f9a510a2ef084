"""No input ends in a traceback, hangs, or loses samples uncounted: damaged archives, tables, features, ...

Every reader either gives what it read or raises an :class:`InputError`. ``CROSSGAP_FUZZ=500`` asks for so
many examples of each instead of a few, other ones each time.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save

from ablations import runs
from analysis import report
from crossgap import encode, evaluate, invert
from crossgap.command import run_command, run_commands
from crossgap.datasets.features import feature_dataset
from crossgap.datasets.load import load_dataset
from crossgap.datasets.readers.feature_files import read_features
from crossgap.encoders.weight_files import as_open_clip_reads
from crossgap.errors import InputError
from pretrain import prepare, train
from pretrain.checkpoint import Checkpoint, save_checkpoint
from pretrain.data.pairs import BadSamples, load_pairs
from pretrain.data.shards import prepare as write_shards
from pretrain.model import build_model
from pretrain.settings import ModelConfig

LONG = "CROSSGAP_FUZZ" in os.environ
fuzz = settings(
    max_examples=int(os.environ.get("CROSSGAP_FUZZ", 30)),
    derandomize=not LONG,
    deadline=timedelta(seconds=30),
    suppress_health_check=list(HealthCheck),
)
SIZES = ModelConfig(width=16, layers=1, heads=2, embed_dim=8, context_length=10)


def jpeg(seed: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (16, 16, 3), np.uint8)).save(stream, "JPEG")
    return stream.getvalue()


JPEG = jpeg(0)


@contextmanager
def reading(allowed: type[BaseException] = InputError) -> Iterator[None]:
    """Let what is wrong with an input be said in the one way that a command turns into a message."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow and pandas may warn of what they nevertheless read
        try:
            yield
        except allowed as error:
            if len(str(error)) < 20:
                raise


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """Cut, overwrite, repeat and insert bytes."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(len(data) - 1, 0)))
        piece = draw(st.binary(min_size=1, max_size=8))
        how = draw(st.sampled_from(["cut", "overwrite", "insert", "remove", "zeros", "repeat"]))
        if how == "cut":
            del data[place:]
        elif how == "overwrite":
            data[place : place + len(piece)] = piece
        elif how == "insert":
            data[place:place] = piece
        elif how == "remove":
            del data[place : place + draw(st.integers(1, 600))]
        elif how == "zeros":
            data[place : place + 512] = bytes(min(512, len(data) - place))
        else:
            data[place:place] = data[place : place + 600]
    return bytes(data)


# archives

NAMES = [
    "a.jpg",
    "a.txt",
    "a.json",
    "b.jpg",
    "b.txt",
    "b.json",
    "b.cls",
    "a.JPG",
    "x/a.jpg",
    "x/a.txt",
    "./a.jpg",
    "c.d.jpg",
    "c.d.txt",
    "c.png",
    "c.txt",
    ".hidden",
    "noending",
    "a",
    "caf\udce9.jpg",
    "caf\udce9.txt",
    "new\nline.jpg",
    "é.txt",
    "é.jpg",
    "a..jpg",
    "__key__.txt",
    "a.__key__",
    "a.__url__",
]
PARTS = [
    JPEG,
    jpeg(1),
    JPEG[:50],
    b"",
    b"a red cat",
    b"two\nlines\r\n",
    "café".encode("latin-1"),
    b"\xff\xfea\0",
    b"{}",
    b'{"captions": ["a", "b"], "label": "cat"}',
    b'{"caption": "a dog", "label": 1, "split": "test"}',
    b'{"captions": [1]}',
    b'{"captions": {"a": 1}}',
    b'{"label": ["a"]}',
    b'{"label": {"a": 1}}',
    b"[]",
    b"7",
    b'{"label": NaN, "split": 3}',
    b'{"caption": "\\ud800"}',
    b'{"label": "\\udc00"}',
    b"[" * 3000,
    b"{",
    b'{"concept": [1, {}], "caption": "x"}',
    b'{"caption": "x", "label": null, "split": null}',
    b"\0" * 600,
]


def archive(members: list[tuple[str, bytes]]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, data in members:
            about = tarfile.TarInfo(name)
            about.size = len(data)
            tar.addfile(about, io.BytesIO(data))
    return stream.getvalue()


WHOLE = archive(
    [
        (f"{k}.{end}", jpeg(k) if end == "jpg" else f"thing {k}".encode())
        for k in range(3)
        for end in ("jpg", "txt")
    ]
)
members = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(PARTS)), max_size=8)


@fuzz
@given(st.one_of(members.map(archive), damaged(WHOLE), members.map(archive).flatmap(damaged)))
def test_archives(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        shard = Path(folder) / "0.tar"
        shard.write_bytes(data)
        with reading():
            taken(load_dataset(str(shard)))
        for loading in (False, True):
            with reading():
                bad = BadSamples(limit=100)
                pairs = load_pairs(
                    str(shard), image_size=8, context_length=8, bad=bad, keep_in_shards=loading
                )
                pairs.images.rows(torch.arange(len(pairs)))


@fuzz
@given(st.lists(st.sampled_from([JPEG, b"no image", JPEG[:60], None]), min_size=1, max_size=6), st.data())
def test_no_sample_is_lost_uncounted(images: list[bytes | None], data: st.DataObject) -> None:
    texts = [data.draw(st.sampled_from([b"a thing", b"", b"\xff", None])) for _ in images]
    held: list[tuple[str, bytes]] = []
    for k, (image, text) in enumerate(zip(images, texts, strict=True)):
        held += [(f"{k}.jpg", image)] if image is not None else []
        held += [(f"{k}.txt", text)] if text is not None else []
    given_keys = {name.split(".")[0] for name, _ in held}
    with tempfile.TemporaryDirectory() as folder:
        shard = Path(folder) / "0.tar"
        shard.write_bytes(archive(held))
        bad = BadSamples(limit=100)
        with reading():
            pairs = load_pairs(str(shard), image_size=8, context_length=8, bad=bad)
            assert len(pairs) + len(bad.reasons) == len(given_keys)
            good = sum(
                image == JPEG and text == b"a thing" for image, text in zip(images, texts, strict=True)
            )
            assert len(pairs) == good


def taken(dataset: Any) -> None:
    """Use a dataset as measuring it does."""
    for task in dataset.tasks:
        assert len(task.query) > 0
        for side in (task.query, task.gallery):
            json.dumps(side.ids, ensure_ascii=False).encode()
            json.dumps(side.labels, ensure_ascii=False).encode()
            for place in range(len(side) if side.modality == "image" else 0):
                side.image(place)
            if side.modality == "text":
                "\n".join(side.texts()).encode()


# tables

CELLS = [
    "a.jpg",
    "b.jpg",
    "missing.jpg",
    "",
    " ",
    "cat",
    "dog",
    "a, b",
    '"',
    '""',
    "'",
    "x\ny",
    "\t",
    ";",
    "1",
    "1.0",
    "-1",
    "nan",
    "None",
    "train",
    "val",
    "Validation",
    "test",
    "é",
    "\u2028",
    "\ufeff",
    "a" * 300,
    "../a.jpg",
    "\0",
    ".",
    "/",
    "http://x/y.jpg",
]
COLUMN_NAMES = [
    "path",
    "text",
    "label",
    "split",
    "group",
    "summary",
    "filepath",
    "title",
    "id",
    "",
    "path",
    "note",
]


@st.composite
def tables(draw: st.DrawFn) -> tuple[str, bytes]:
    columns = draw(st.lists(st.sampled_from(COLUMN_NAMES), min_size=1, max_size=5))
    usual = {
        "path": ["a.jpg", "b.jpg"],
        "text": ["a text", "more"],
        "label": ["cat", "dog"],
        "split": ["test"],
    }
    rows = []
    for _ in range(draw(st.integers(0, 5))):
        row = [
            draw(st.one_of(st.sampled_from(usual.get(name, CELLS)), st.sampled_from(CELLS)))
            for name in columns
        ]
        rows.append(
            [*row, *draw(st.sampled_from([[], [], [""], ["x"]]))][draw(st.sampled_from([0, 0, 0, 1])) :]
        )
    separator = draw(st.sampled_from([",", "\t", ";"]))
    quote = draw(st.booleans())
    shown = [
        [f'"{cell.replace(chr(34), chr(34) * 2)}"' if quote else cell for cell in row]
        for row in [columns, *rows]
    ]
    end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    text = end.join(separator.join(row) for row in shown) + end
    encoding = draw(st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1"]))
    return draw(st.sampled_from([".csv", ".tsv", ".CSV"])), text.encode(encoding, "replace")


@contextmanager
def pictures() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        for k, name in enumerate("ab"):
            (Path(folder) / f"{name}.jpg").write_bytes(jpeg(k))
        yield Path(folder)


@fuzz
@given(tables())
def test_tables_of_text(table: tuple[str, bytes]) -> None:
    suffix, data = table
    with pictures() as folder:
        (folder / f"t{suffix}").write_bytes(data)
        for split in ("test", "val"):
            with reading():
                taken(load_dataset(str(folder / f"t{suffix}"), split=split))
        with reading():
            made = write_shards(
                folder / f"t{suffix}", folder / "out", per_shard=2, image_size=None, limit=None, max_bad=9
            )
            assert made["samples"] >= 1


OBJECTS: list[Any] = [
    None,
    1,
    1.5,
    float("nan"),
    "cat",
    "",
    b"bytes",
    ["a"],
    ["a", "b"],
    [],
    {"a": 1},
    True,
    [[1.0]],
    [1.0, 2.0],
    [None],
    -1,
    pd.Timestamp("2024-01-01"),
    {"bytes": JPEG, "path": None},
    {"bytes": b"x"},
    "a.jpg",
    2**70,
]


def parquet(columns: dict[str, list[Any]]) -> bytes | None:
    """Write a table; None where parquet has no type for such a column."""
    stream = io.BytesIO()
    try:
        pd.DataFrame({name: pd.Series(cells, dtype=object) for name, cells in columns.items()}).to_parquet(
            stream
        )
    except Exception:
        return None
    return stream.getvalue()


def columns_of(names: list[str], usual: dict[str, Any]) -> st.SearchStrategy[dict[str, list[Any]]]:
    """Columns of three cells: usual ones, one kind of object in all, or one odd cell among usual ones."""

    def cells(name: str) -> st.SearchStrategy[list[Any]]:
        three = [usual.get(name, "cat")] * 3
        odd = st.tuples(st.integers(0, 2), st.sampled_from(OBJECTS)).map(
            lambda chosen: [chosen[1] if place == chosen[0] else cell for place, cell in enumerate(three)]
        )
        return st.one_of(st.just(three), st.sampled_from(OBJECTS).map(lambda cell: [cell] * 3), odd)

    return st.lists(st.sampled_from(names), min_size=1, max_size=5, unique=True).flatmap(
        lambda chosen: st.fixed_dictionaries({name: cells(name) for name in chosen})
    )


@fuzz
@given(
    columns_of([*COLUMN_NAMES[:6], "image", "caption", "jpg"], {"path": "a.jpg", "text": "a text"}), st.data()
)
def test_tables_of_parquet(columns: dict[str, list[Any]], data: st.DataObject) -> None:
    made = parquet(columns)
    if made is None:
        return
    if data.draw(st.integers(0, 4)) == 0:
        made = data.draw(damaged(made))
    with pictures() as folder:
        (folder / "t.parquet").write_bytes(made)
        with reading():
            taken(load_dataset(str(folder / "t.parquet")))


# features


@fuzz
@given(
    columns_of(
        ["id", "values", "label", "group", "split", "text", "modality"],
        {"values": [1.0, 2.0], "modality": "image"},
    ),
    st.data(),
)
def test_features_of_parquet(columns: dict[str, list[Any]], data: st.DataObject) -> None:
    if data.draw(st.booleans()):
        columns = {"id": ["a", "b", "c"], "values": [[1.0, 0.0]] * 3, "modality": ["image"] * 3, **columns}
    made = parquet(columns)
    if made is None:
        return
    if data.draw(st.integers(0, 4)) == 0:
        made = data.draw(damaged(made))
    features_of("f.parquet", made)


def features_of(name: str, data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        for given_path in (path, Path(f"image={path}")):
            with reading():
                table = read_features([given_path])
                dataset = feature_dataset(table)
                for task in dataset.tasks:
                    json.dumps(task.query.ids, ensure_ascii=False).encode()
                    assert torch.isfinite(table.embed(task.query)).all()


ARRAYS: list[Any] = [
    np.eye(3),
    np.eye(3, dtype="float16"),
    np.zeros((3, 2)),
    np.full((3, 2), np.nan),
    np.ones(3),
    np.ones((3, 2, 2)),
    np.array(1.0),
    np.array(list("abc")),
    np.array(["a", "b", "\ud800"]),
    np.array([b"a", b"b", b"\xff"]),
    np.arange(3),
    np.array([1.0, np.nan, 2.5]),
    np.array(["x", "x", "y"]),
    np.eye(3, dtype=complex),
    np.eye(3, dtype=bool),
    np.array(["2024-01-01"] * 3, dtype="datetime64[D]"),
    np.zeros((0, 4)),
    np.zeros(3, dtype=[("a", "f4"), ("b", "U2")]),
    np.array("image"),
    np.array("imaeg"),
    np.array(["image", "text", "prompt"]),
    np.array(["train", "test", "test"]),
    np.array([[1, 2], [3, 4], [5, 6]]),
    np.eye(3, dtype=">f8"),
    np.eye(3).astype("int8"),
    np.array(list("abc"), dtype=object),
]


@fuzz
@given(
    st.dictionaries(
        st.sampled_from(["values", "ids", "labels", "groups", "splits", "texts", "modality"]),
        st.sampled_from(ARRAYS),
        max_size=6,
    ),
    st.data(),
)
def test_features_of_arrays(arrays: dict[str, Any], data: st.DataObject) -> None:
    if data.draw(st.booleans()):
        usual = {"values": np.eye(3), "ids": np.array(list("abc")), "modality": np.array("image")}
        arrays = {**usual, **arrays}
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    made = stream.getvalue()
    features_of("f.npz", data.draw(damaged(made)) if data.draw(st.booleans()) else made)


@fuzz
@given(st.sampled_from(ARRAYS), st.data())
def test_features_of_one_array(array: Any, data: st.DataObject) -> None:
    stream = io.BytesIO()
    np.save(stream, array)
    made = stream.getvalue()
    features_of("f.npy", data.draw(damaged(made)) if data.draw(st.booleans()) else made)


JSONS = [
    '["a", "b", "c"]',
    "[1, 2, 3]",
    "{}",
    "null",
    '["a"]',
    "[[1], [2, 3], 4]",
    "[",
    "7",
    '["\\ud800", "b", "c"]',
    "[" * 3000,
]


@fuzz
@given(
    st.dictionaries(
        st.sampled_from(["ids", "labels", "groups", "splits", "texts", "modality"]),
        st.sampled_from([*JSONS, "image", "text", "\n"]),
    ),
    st.data(),
)
def test_features_of_safetensors(about: dict[str, str], data: st.DataObject) -> None:
    about = {"ids": JSONS[0], "modality": "image", **about} if data.draw(st.booleans()) else about
    made = save({"values": torch.eye(3)}, about)
    features_of("f.safetensors", data.draw(damaged(made)) if data.draw(st.booleans()) else made)


# weights


def saved(held: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(held, stream)
    return stream.getvalue()


WEIGHTS = [
    saved({"a": torch.ones(3)}),
    saved({"state_dict": {"module.a": torch.ones(3)}, "lr": np.float64(1)}),
    save({"_orig_mod.a": torch.ones(3)}),
]


@fuzz
@given(st.sampled_from(WEIGHTS).flatmap(damaged), st.sampled_from(["w.pt", "w.safetensors", "w.npz", "w"]))
def test_weights(data: bytes, name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / name).write_bytes(data)
        with reading(), as_open_clip_reads(Path(folder) / name):
            pass


# commands


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = build_model(SIZES, seed=1, temperature=0.05)
    about = {"model_cfg": SIZES.open_clip, "preprocess_cfg": SIZES.preprocess}
    progress = {"step": 1, "pairs_seen": 8, "seconds": 1.0}
    whole = Checkpoint(open_clip_config=about, weights=dict(model.state_dict()), state={}, progress=progress)
    return save_checkpoint(tmp_path_factory.mktemp("encoder"), whole)


def bad_folder(folder: Path) -> Path:
    made = folder / "classes"
    for k, place in enumerate([b"cat/\xe9t\xe9.jpg", b"cat/1.jpg", b"dog/0.jpg", b"dog/new\nline.jpg"]):
        path = os.path.join(os.fsencode(made), place)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(jpeg(k))
    return made


def bad_class(folder: Path) -> Path:
    made = bad_folder(folder)
    os.rename(made / "cat", os.fsencode(made) + b"/ch\xe2t")
    return made


def file_of(name: str, data: bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return write


def captioned(folder: Path) -> Path:
    made = folder / "captioned"
    made.mkdir()
    for k, name in enumerate([b"a", b"\xe9t\xe9", b"c", b"d"]):
        path = os.path.join(os.fsencode(made), name)
        with open(path + b".jpg", "wb") as file:
            file.write(jpeg(k))
        with open(path + b".txt", "wb") as file:
            file.write([b"a thing", b"another", "café".encode("latin-1"), "x".encode("utf-16")][k])
    return made


SHOWN = archive(
    [(f"{k}.jpg", jpeg(k)) for k in range(4)]
    + [(f"{k}.json", b'{"label": "c%d"}' % (k % 2)) for k in range(4)]
)
SETS: dict[str, Callable[[Path], Path]] = {
    "names": bad_folder,
    "class": bad_class,
    "archive": file_of("s.tar", WHOLE),
    "cut archive": file_of("s.tar", WHOLE[:2000]),
    "classes apart": file_of("s.tar", SHOWN),
    "name of an archive": file_of("caf\udce9.tar", WHOLE),
    "no archive": file_of("s.tar", b"x"),
    "table": file_of("t.csv", b"text,label\na,b\nc,b\nd,e\nf,e\n"),
    "commas": file_of("t.csv", b"text,label\na,b,\nc,b,\nd,e,\n"),
    "latin": file_of("t.csv", "text,label\né,b\n".encode("latin-1")),
    "cut parquet": file_of("t.parquet", b"PAR1xxxx"),
    "captions": captioned,
    "words": file_of("t.txt", b"x"),
    "long word": file_of(
        "t.csv", b"text,label\n" + b"".join(b"%s,l%d\n" % (b"qzx" * 6000, k % 2) for k in range(4))
    ),
}


def call(main: Callable[..., object], *argv: object) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return run_command(main, [str(part) for part in argv])


@pytest.mark.parametrize("name", SETS)
def test_every_command_on_every_kind_of_data(
    name: str, encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given_data = SETS[name](tmp_path)
    common = ("--encoder", encoder, "--dataset", given_data, "--device", "cpu")
    calls: dict[str, Callable[[Path], int]] = {
        "encode": lambda out: call(encode.main, *common, "--out", out),
        "invert": lambda out: call(invert.main, *common, "--out", out, "--into", "text", "--steps", "1"),
        "evaluate": lambda out: call(evaluate.main, *common, "--out", out, "--routes", "native", "centred"),
        "prepare": lambda out: call(prepare.main, "--data", given_data, "--out", out, "--max-bad", "3"),
        "train": lambda out: call(
            train.main, "--smoke", "--steps", "1", "--data", given_data, "--out", out, "--device", "cpu"
        ),
    }
    for command, run in calls.items():
        code = run(tmp_path / command)
        said = capsys.readouterr().err
        assert code == 0 or (code == 2 and len(said) > 20), f"{command}: {said}"
    if (tmp_path / "evaluate" / "rows.jsonl").exists():
        assert call(report.main, tmp_path / "evaluate", "--format", "md") == 0


@pytest.mark.parametrize("into", ["a file", "below a file"])
def test_an_out_that_is_a_file_is_told_before_any_work(
    into: str, encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "f").write_text("x")
    out = tmp_path / "f" if into == "a file" else tmp_path / "f" / "deep" / "er"
    data = SETS["archive"](tmp_path)
    common = ("--encoder", encoder, "--dataset", data, "--out", out)
    for main, argv in (
        (encode.main, common),
        (invert.main, (*common, "--into", "text")),
        (evaluate.main, common),
        (prepare.main, ("--data", data, "--out", out)),
        (train.main, ("--smoke", "--out", out)),
        (report.main, (tmp_path, "--out", out)),
    ):
        assert call(main, *argv) == 2
        assert "a file, expected a folder" in capsys.readouterr().err.replace("\n", " ")
    assert (tmp_path / "f").read_text() == "x"


def finished(folder: Path) -> Path:
    """A whole evaluated run, of features."""
    np.savez(
        folder / "f.npz",
        values=np.random.default_rng(0).normal(size=(12, 4)),
        ids=np.arange(12),
        modality="image",
        labels=np.arange(12) % 3,
    )
    assert (
        call(evaluate.main, "--embeddings", folder / "f.npz", "--routes", "native", "--out", folder / "run")
        == 0
    )
    return folder / "run"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = finished(tmp_path_factory.mktemp("finished"))
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


FILES = ["rows.jsonl", "per_query.parquet", "neighbours.parquet", "projection.parquet", "histograms.parquet"]


@settings(fuzz, max_examples=max(8, fuzz.max_examples // 4))
@given(data=st.data(), name=st.sampled_from(FILES))
def test_reports_of_damaged_runs(run: dict[str, bytes], data: st.DataObject, name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for file, content in run.items():
            (Path(folder) / file).write_bytes(data.draw(damaged(content)) if file == name else content)
        assert call(report.main, folder, "--format", "md", "--out", f"{folder}/report") in (0, 2)


@pytest.mark.parametrize(
    "content", ["[]", "7", "{", "null", '{"arms": 3, "seeds": [0]}', '{"arms": [{"name": "a"}], "seeds": 1}']
)
def test_folders_whose_files_hold_something_else(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "study.json").write_text(content)
    assert call(report.main, tmp_path) == 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert run_commands(runs.COMMANDS, ["status", str(tmp_path)]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_odd_devices_and_seeds_are_refused(
    encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = SETS["table"](tmp_path)
    common = ("--dataset", data, "--encoder", encoder, "--out", tmp_path / "out")
    for device in ("mps", "xpu", "meta", "hpu", "cuda:99", "gpu", ""):
        assert call(encode.main, *common, "--device", device) == 2
        assert call(train.main, "--smoke", "--device", device, "--out", tmp_path / "run") == 2
        assert "use " in capsys.readouterr().err
    for seed in ("-1", str(2**32)):
        assert call(evaluate.main, *common, "--seed", seed) == 2
        assert call(invert.main, *common, "--seed", seed, "--into", "image") == 2
        assert call(train.main, "--smoke", "--seed", seed, "--out", tmp_path / "run") == 2
        assert capsys.readouterr().err.count("a seed is a whole number") == 3
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "run").exists()
