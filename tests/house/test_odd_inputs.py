"""Folders, shards and tables as users have them: nothing silently wrong, nothing dropped uncounted."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from crossgap.command import run_command
from crossgap.datasets.bad import BadSamples
from crossgap.datasets.known.class_prompts import class_words
from crossgap.datasets.load import load_dataset
from crossgap.datasets.readers import shards
from crossgap.datasets.readers.shards import read_shards
from crossgap.datasets.split import split_name
from crossgap.datasets.tasks import Dataset, Task
from crossgap.encode import main as encode
from crossgap.errors import InputError
from crossgap.evaluate import main as evaluate
from crossgap.evaluation.jobs import Job
from crossgap.files import read_json
from crossgap.invert import main as invert
from pretrain.data.pairs import load_pairs
from pretrain.prepare import main as prepare
from tests.odd_images import encoded, picture


def jpeg(seed: int) -> bytes:
    return encoded(picture(seed), "JPEG")


def put(path: Path, data: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def put_classes(root: Path, names: Sequence[str] = ("cat", "dog"), count: int = 2) -> Path:
    for number, name in enumerate(names):
        for k in range(count):
            put(root / name / f"{k}.jpg", jpeg(10 * number + k))
    return root


def tar(path: Path, members: Iterable[tuple[str, bytes | str]]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            data = data.encode() if isinstance(data, str) else data
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return str(path)


def captioned(keys: Sequence[str], text: str = "caption {}") -> list[tuple[str, bytes | str]]:
    return [
        part
        for k, key in enumerate(keys)
        for part in ((f"{key}.jpg", jpeg(k)), (f"{key}.txt", text.format(k)))
    ]


def task(dataset: Dataset, name: str) -> Task:
    return next(task for task in dataset.tasks if task.name == name)


def classes(dataset: Dataset) -> dict[str, int]:
    return dict(Counter(task(dataset, "image-class").query.labels))


# ------------------------------------------------------------------------------------------------- folders


def test_split_folders_are_splits_whatever_lies_beside_them(tmp_path: Path) -> None:
    for split in ("Train", "validation", "test"):
        put_classes(tmp_path / split)
    put_classes(tmp_path / "copy_of_all")
    (tmp_path / "empty").mkdir()
    put(tmp_path / "__MACOSX" / "test" / "cat" / "._0.jpg", b"junk")
    put(tmp_path / "loose.jpg", jpeg(0))
    put(tmp_path / "test" / "loose.jpg", jpeg(0))
    dataset = load_dataset(str(tmp_path))
    assert (dataset.split, classes(dataset)) == ("test", {"cat": 2, "dog": 2})
    assert len(task(dataset, "image-class").gallery) == 4  # of train
    (notice,) = dataset.notices
    assert notice == (
        "Left out, as beside the folders that are read: 4 (copy_of_all, empty, loose.jpg, ...)."
    )
    assert all(made.protocol.endswith(notice) for made in dataset.tasks)
    assert classes(load_dataset(str(tmp_path), split="val")) == {"cat": 2, "dog": 2}


def test_a_folder_that_may_be_a_split_or_a_class_is_refused(tmp_path: Path) -> None:
    put_classes(tmp_path / "train", ("steam", "diesel"))
    put_classes(tmp_path / "car", ("red", "blue"))
    with pytest.raises(InputError, match=r"train holds folders with images, as a split does.*car beside it"):
        load_dataset(str(tmp_path))


def test_splits_one_folder_deeper_are_no_class(tmp_path: Path) -> None:
    for split in ("train", "test"):
        put_classes(tmp_path / "chest_xray" / split)
    with pytest.raises(InputError, match=r"chest_xray: it holds splits \(test, train\); give .*chest_xray"):
        load_dataset(str(tmp_path))


def test_settings_are_never_chosen_on_the_split_that_is_reported(tmp_path: Path) -> None:
    for split in ("validation", "test"):
        put_classes(tmp_path / split)
    for reported, chosen_on in (("test", "val"), ("val", None), ("validation", None)):
        job = Job(str(tmp_path), lambda split: load_dataset(str(tmp_path), split=split), reported)
        validation = job.validation()
        assert (validation.split if validation is not None else None) == chosen_on


def test_two_words_for_one_split_are_refused(tmp_path: Path) -> None:
    for split in ("val", "dev", "test"):
        put_classes(tmp_path / split)
    with pytest.raises(InputError, match=r"'dev' and 'val' both mean split 'val'"):
        load_dataset(str(tmp_path))


def test_links_are_followed_and_broken_ones_named(tmp_path: Path) -> None:
    data, store = put_classes(tmp_path / "data"), put_classes(tmp_path / "store", ("bird", "more"))
    (data / "bird").symlink_to(store / "bird")
    (data / "cat" / "batch").symlink_to(store / "more")
    (data / "dog" / "linked.jpg").symlink_to(store / "more" / "0.jpg")
    (data / "dog" / "broken.jpg").symlink_to("/nowhere/x.jpg")
    (data / "dog" / "circle").symlink_to(data)
    dataset = load_dataset(str(data))
    assert classes(dataset) == {"bird": 2, "cat": 4, "dog": 3}
    assert dataset.notices == ("Left out, as broken links: 2 (dog/broken.jpg, dog/circle).",)
    (data / "gone").symlink_to("/nowhere")
    assert "beside the folders that are read: 1 (gone)" in " ".join(load_dataset(str(data)).notices)


def test_links_are_followed_when_preparing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, store = tmp_path / "source", tmp_path / "store"
    for folder, names in ((source, "ab"), (store, "cd")):
        for name in names:
            put(folder / f"{name}.jpg", jpeg(ord(name) - 97))
            put(folder / f"{name}.txt", f"letter {name}")
    (source / "more").symlink_to(store)
    (source / "gone.jpg").symlink_to("/nowhere/x.jpg")
    put(source / "clip.heic", b"\0\0\0\x18ftypheic")
    put(source / "._a.jpg", b"junk")
    assert run_command(prepare, ["--data", str(source), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().err
    assert "broken links: 1 (gone.jpg)" in said
    assert "neither image nor caption of one: 1 (clip.heic)" in said
    assert len(load_pairs(str(tmp_path / "out"), image_size=16, context_length=8)) == 4
    assert len(read_json(tmp_path / "out" / "manifest.json")["left_out"]) == 2


def test_class_folders_win_over_an_archive_beside_them(tmp_path: Path) -> None:
    put_classes(tmp_path)
    tar(tmp_path / "data.tar", captioned("ab"))
    dataset = load_dataset(str(tmp_path))
    assert classes(dataset) == {"cat": 2, "dog": 2}
    assert "1 (data.tar)" in dataset.notices[0]


def test_files_of_macos_are_no_shards(tmp_path: Path) -> None:
    tar(tmp_path / "0.tar", [*captioned("ab"), ("._a.jpg", b"junk"), ("__MACOSX/._a.txt", b"junk")])
    put(tmp_path / "._0.tar", b"junk")
    assert len(task(load_dataset(str(tmp_path)), "image-text").query) == 2


# -------------------------------------------------------------------------------------------------- labels


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("001.Black_footed_Albatross", "Black footed Albatross"),
        ("10.dog", "dog"),
        ("12._cat", "cat"),
        ("7.éclair", "éclair"),
        ("3.5mm_jack", "3.5mm jack"),
        ("1.0", "1.0"),
        ("v1.5", "v1.5"),
    ],
)
def test_only_a_numbering_before_a_word_is_stripped(label: str, words: str) -> None:
    assert class_words(label) == words


def test_whole_floats_are_written_as_integers(tmp_path: Path) -> None:
    put_classes(tmp_path, ("a", "b"))
    paths = [f"{name}/{k}.jpg" for name in "ab" for k in range(2)]
    for labels, written in (([1.0, 1.0, 2.0, 2.0], {"1", "2"}), ([1.5, 1.5, 2.0, 2.0], {"1.5", "2.0"})):
        frame = pd.DataFrame({"path": paths, "label": labels})
        frame.to_parquet(tmp_path / "t.parquet")
        frame.to_csv(tmp_path / "t.csv", index=False)
        for name in ("t.parquet", "t.csv"):
            assert set(classes(load_dataset(str(tmp_path / name)))) == written
    members = [(f"{k}.{end}", part) for k in range(4) for end, part in _labelled(k, float(k % 2))]
    assert classes(load_dataset(tar(tmp_path / "s.tar", members))) == {"0": 2, "1": 2}


def _labelled(k: int, label: object) -> list[tuple[str, bytes | str]]:
    return [("jpg", jpeg(k)), ("json", json.dumps({"label": label}))]


def test_classes_with_one_prompt_are_named(tmp_path: Path) -> None:
    dataset = load_dataset(str(put_classes(tmp_path, ("01.crane", "02.crane", "wood_pigeon", "wood pigeon"))))
    (notice,) = dataset.notices
    assert notice.startswith("2 prompts stand for several classes")
    assert "'01.crane' and '02.crane'; 'wood pigeon' and 'wood_pigeon'" in notice
    assert task(dataset, "zero-shot-class").protocol.endswith(notice)


# -------------------------------------------------------------------------------------------------- splits


@pytest.mark.parametrize("name", ["val", "Val", "validation", "VALIDATION", "valid", "dev"])
def test_a_validation_split_goes_by_many_names(tmp_path: Path, name: str) -> None:
    put_classes(tmp_path, ("a", "b"), count=3)
    rows = [
        (f"{label}/{k}.jpg", label, split)
        for label in "ab"
        for k, split in enumerate(("Train", name, "test"))
    ]
    frame = pd.DataFrame(rows, columns=["path", "label", "split"])
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_parquet(tmp_path / "t.parquet")
    shard = tar(
        tmp_path / "s" / "s.tar",
        [
            member
            for k, (path, label, split) in enumerate(rows)
            for member in (
                (f"{k}.jpg", (tmp_path / path).read_bytes()),
                (f"{k}.json", json.dumps({"label": label, "split": split})),
            )
        ],
    )
    for source in (str(tmp_path / "t.csv"), str(tmp_path / "t.parquet"), shard):
        for asked in ("val", name):
            dataset = load_dataset(source, split=asked)
            assert (dataset.split, len(task(dataset, "image-class").gallery)) == ("val", 2)
    assert split_name(name) == "val"


# -------------------------------------------------------------------------------------------------- shards


def test_keys_may_have_dots(tmp_path: Path) -> None:
    keys = ["a", "img.v1", "img.v2", "track 6.0 (Clean)", "dir.d/x"]
    shard = tar(tmp_path / "s.tar", [("a.mask.png", b"?"), ("a.seg.txt", b"?"), *captioned(keys)])
    assert [sample.key for sample in read_shards(shard)] == keys
    queries = task(load_dataset(shard), "image-text").query
    assert queries.ids == tuple(f"s.tar/{key}" for key in keys)
    for kept in (True, False):
        pairs = load_pairs(shard, image_size=16, context_length=8, keep_in_shards=kept)
        assert len(pairs) == len(keys)


def test_a_part_that_occurs_twice_costs_its_own_sample_alone(tmp_path: Path) -> None:
    twice = [("k.v1.jpg", jpeg(5)), *captioned(["k.v1"]), ("k.v1.txt", "again"), *captioned(["k.v2", "l"])]
    bad = BadSamples(limit=1)
    read = list(read_shards(tar(tmp_path / "s.tar", twice), bad=bad.add))
    assert [sample.key for sample in read] == ["k.v2", "l"]
    assert "k.v1.jpg is a duplicate" in bad.reasons[0]


@pytest.mark.parametrize("parts", ["jpg txt", "txt jpg", "jpg json txt"])
def test_keys_with_a_common_beginning_are_not_held_in_memory(tmp_path: Path, parts: str) -> None:
    data: dict[str, bytes | str] = {"jpg": jpeg(0), "txt": "text", "json": "{}"}
    members = [(f"img.{k:04d}.{ending}", data[ending]) for k in range(200) for ending in parts.split()]
    shard = tar(tmp_path / "s.tar", [*members, ("img.0200.depth.png", b"?"), *captioned(["img.0200"])])
    with open(shard, "rb") as stream:
        sizes = [len(group) for group in shards._groups(shards._Blocks(stream))]
    assert max(sizes) <= 4
    assert [sample.key for sample in read_shards(shard)] == [f"img.{k:04d}" for k in range(201)]
    loose = tar(tmp_path / "t.tar", [(f"img.{k:04d}.jpg", jpeg(0)) for k in range(200)])
    bad = BadSamples(limit=200)
    assert not list(read_shards(loose, bad=bad.add))
    assert len(bad.reasons) == 200


def test_what_cannot_be_read_of_a_shard_is_named_or_counted(tmp_path: Path) -> None:
    shard = tar(
        tmp_path / "s.tar",
        [
            *captioned("ab"),
            ("c.heic", b"\0\0\0\x18ftypheic"),
            ("noname", jpeg(3)),
            ("README", b"text"),
            ("dir/__init__", b""),
        ],
    )
    for name in ("'c'", "'noname'"):
        with pytest.raises(InputError, match=r"sample 'c'.*its parts: \.heic"):
            load_dataset(shard)
        bad = BadSamples(limit=2)
        load_pairs(shard, image_size=16, context_length=8, bad=bad)
        assert any(name in reason for reason in bad.reasons)


def test_a_link_in_a_tar_is_named(tmp_path: Path) -> None:
    shard = tar(tmp_path / "s.tar", captioned("ab"))
    with tarfile.open(shard, "a") as archive:
        link = tarfile.TarInfo("c.jpg")
        link.type, link.linkname = tarfile.LNKTYPE, "a.jpg"
        archive.addfile(link)
    with pytest.raises(InputError, match=r"sample 'c': no image.*\.jpg \(a link\)"):
        load_dataset(shard)


def test_a_key_that_occurs_twice_is_refused_however_shards_are_read(tmp_path: Path) -> None:
    shard = tar(tmp_path / "s.tar", [*captioned("abc"), *captioned("ab", "later {}")])
    message = r"s\.tar, sample 'a': its key occurs twice"
    readers: list[Callable[[BadSamples], Any]] = [
        lambda bad: load_pairs(shard, image_size=16, context_length=8, bad=bad),
        lambda bad: load_pairs(shard, image_size=16, context_length=8, bad=bad, keep_in_shards=True),
        lambda bad: load_dataset(shard, max_bad=bad.limit),
    ]
    for read in readers:
        with pytest.raises(InputError, match=message):
            read(BadSamples(limit=0))
    memory, indexed, measured = (read(BadSamples(limit=2)) for read in readers)
    assert memory.captions_M == indexed.captions_M == ("caption 0", "caption 1", "caption 2")
    places = torch.arange(3)
    assert torch.equal(memory.images.rows(places)[1], indexed.images.rows(places)[1])
    assert len(task(measured, "image-text").query) == 3


def test_captions_end_at_line_feeds_alone(tmp_path: Path) -> None:
    text = "one \u2028 and\x0cone\x85more\r\n\r\ntwo\n"
    shard = tar(tmp_path / "s.tar", [("k.jpg", jpeg(0)), ("k.txt", text), *captioned("ab")])
    first = next(read_shards(shard))
    assert first.captions == ("one \u2028 and\x0cone\x85more", "two")
    (whole, *_) = read_shards(shard, whole_texts=True)
    assert whole.captions == (text.strip(),)
    assert len(task(load_dataset(shard), "image-text").gallery) == 4
    assert len(task(load_dataset(shard, whole_texts=True), "image-text").gallery) == 3
    pairs = load_pairs(shard, image_size=16, context_length=8, whole_texts=True)
    assert pairs.count_N.tolist() == [1, 1, 1]
    put(tmp_path / "source" / "k.jpg", jpeg(0))
    put(tmp_path / "source" / "k.txt", text)
    for more, expected in (([], first.captions), (["--whole-texts"], whole.captions)):
        out = tmp_path / f"out{len(more)}"
        assert run_command(prepare, ["--data", str(tmp_path / "source"), "--out", str(out), *more]) == 0
        (sample,) = read_shards(str(out / "000000.tar"))
        assert sample.captions == expected


def test_shards_of_clip_benchmark(tmp_path: Path) -> None:
    root = tmp_path / "wds"
    for split in ("train", "test"):
        members = [
            (f"s{k}.{end}", part) for k in range(4) for end, part in (("cls", str(k % 2)), ("jpg", jpeg(k)))
        ]
        tar(root / split / "0.tar", members)
        put(root / split / "nshards.txt", "1\n")
    plain = task(load_dataset(str(root / "test" / "0.tar")), "zero-shot-class").gallery.texts()
    assert plain == ["a photo of a 0", "a photo of a 1"]
    put(root / "classnames.txt", "tabby cat\nguide dog\n")
    for source in (root / "test" / "0.tar", root / "test", root):
        dataset = load_dataset(str(source))
        assert set(task(dataset, "zero-shot-class").gallery.texts()) == {
            "a photo of a tabby cat",
            "a photo of a guide dog",
        }
        assert classes(dataset) == {"tabby cat": 2, "guide dog": 2}
    assert dataset.split == "test"
    assert len(task(dataset, "image-class").gallery) == 4
    assert dataset.probe is not None
    put(root / "classnames.txt", "crane\ncrane\n")
    assert classes(twins := load_dataset(str(root))) == {"0": 2, "1": 2}
    assert "'0' and '1'" in twins.notices[0]
    put(root / "classnames.txt", "tabby cat\n")
    with pytest.raises(InputError, match=r"classnames\.txt: 1 class names, but a sample has class 1"):
        load_dataset(str(root))


def test_a_class_of_minus_one_is_none(tmp_path: Path) -> None:
    members = [(f"s{k}.{end}", part) for k in range(3) for end, part in (("cls", "-1"), ("jpg", jpeg(k)))]
    with pytest.raises(InputError, match=r"sample 's0'.*its label '-1' means none"):
        load_dataset(tar(tmp_path / "s.tar", members))


def zstd(data: bytes) -> bytes:
    return pa.compress(data, "zstd", asbytes=True)


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tgz", "a.TAR", "a.tar.zst", "a.tar.bz2"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd, bz2.compress, lzma.compress])
def test_shards_are_unpacked_by_content_not_by_name(
    tmp_path: Path, name: str, pack: Callable[[bytes], bytes]
) -> None:
    whole = Path(tar(tmp_path / "plain" / "x.tar", captioned("abc"))).read_bytes()
    shard = put(tmp_path / name, pack(whole))
    queries = task(load_dataset(str(shard)), "image-text").query
    assert [queries.image(k).size for k in range(3)] == [(24, 24)] * 3
    assert len(load_pairs(str(shard), image_size=16, context_length=8)) == 3
    if pack is bytes:
        assert len(load_pairs(str(shard), image_size=16, context_length=8, keep_in_shards=True)) == 3
    else:
        with pytest.raises(InputError, match="is packed or not local"):
            load_pairs(str(shard), image_size=16, context_length=8, keep_in_shards=True)
        shard.write_bytes(pack(whole)[:-40])
        with pytest.raises(InputError, match=r"truncated|damaged|unreadable"):
            load_dataset(str(shard))


# -------------------------------------------------------------------------------------------------- tables


def test_a_quotation_mark_in_a_tsv_is_a_character(tmp_path: Path) -> None:
    texts = [f"thing {k}" for k in range(10)]
    texts[2], texts[4], texts[7], texts[8] = '"great" he said', '"Best of all', '12" record', 'the end"'
    lines = [f"{text}\t{'ab'[k % 2]}\n" for k, text in enumerate(texts)]
    for order in (lines, ["\t".join(reversed(line.strip().split("\t"))) + "\n" for line in lines]):
        header = "text\tlabel\n" if order is lines else "label\ttext\n"
        path = put(tmp_path / "t.tsv", header + "".join(order))
        assert load_dataset(str(path)).tasks[0].query.texts() == texts


def test_a_tsv_as_pandas_writes_it_is_unquoted(tmp_path: Path) -> None:
    texts = ['a 12" record', '"quoted"', 'he said "x"', "plain"]
    frame = pd.DataFrame({"text": texts, "label": ["a", "b"] * 2})
    for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL):
        frame.to_csv(tmp_path / "t.tsv", sep="\t", index=False, quoting=quoting)
        assert load_dataset(str(tmp_path / "t.tsv")).tasks[0].query.texts() == texts


def test_lines_in_messages_are_those_of_the_file(tmp_path: Path) -> None:
    rows = [f'"line one\nline two, ""{k}""",{"ab"[k % 2]}\n' for k in range(6)]
    path = put(tmp_path / "t.csv", "text,label\n" + "".join(rows))
    assert load_dataset(str(path)).tasks[0].query.texts()[0] == 'line one\nline two, "0"'
    put(path, "text,label\n" + "".join(rows) + "last,\n")
    with pytest.raises(InputError, match=r"t\.csv, line 14: column label is empty"):
        load_dataset(str(path))
    put(path, "text,label\n" + "".join(rows) + '"open,a\nnext,b\n')
    with pytest.raises(InputError, match=r"t\.csv, line 14: not readable as a row"):
        load_dataset(str(path))
    put(path, "text,label\n" + "".join(rows) + 'x,a\n"great" he said,a\n')
    with pytest.raises(InputError, match=r"t\.csv, line 15: not readable as a row"):
        load_dataset(str(path))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("text,label\na,x,\nb,x,\n", ""),
        ("text,label,\na,x,\nb,x,\n", ""),
        ("text,label\na,x\n\nb,x\n", ""),
        ("text,label\na,x\nb, and more,x\n", "line 3: 3 cells, but the first line names 2 columns"),
        ("text,label\na,x\nb\n", "line 3: column label is empty"),
        ("text,text,label\na,b,x\n", "column text occurs 2 times"),
    ],
)
def test_rows_of_other_lengths(tmp_path: Path, text: str, says: str) -> None:
    path = put(tmp_path / "t.csv", text)
    if says:
        with pytest.raises(InputError, match=says):
            load_dataset(str(path))
    else:
        assert load_dataset(str(path)).tasks[0].query.texts() == ["a", "b"]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.csv.gz"])
@pytest.mark.parametrize("columns", [("path", "text"), ("filepath", "title"), ("image", "Caption")])
def test_tables_by_their_header_not_by_their_name(
    tmp_path: Path, separator: str, name: str, columns: tuple[str, str]
) -> None:
    put_classes(tmp_path, ("a",), count=3)
    lines = [separator.join(columns), *(separator.join((f"a/{k}.jpg", f"number {k}")) for k in range(3))]
    text = ("\ufeff" + "\r\n".join(lines) + "\r\n").encode()
    path = put(tmp_path / name, gzip.compress(text) if name.endswith("gz") else text)
    dataset = load_dataset(str(path))
    assert task(dataset, "image-text").gallery.texts() == ["number 0", "number 1", "number 2"]
    assert run_command(prepare, ["--data", str(path), "--out", str(tmp_path / "out")]) == 0
    assert len(load_pairs(str(tmp_path / "out"), image_size=16, context_length=8)) == 3


def test_paths_relative_to_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_classes(tmp_path / "images", ("a",), count=2)
    path = put(tmp_path / "lists" / "t.csv", "filepath,title\nimages/a/0.jpg,x\nimages/a/1.jpg,y\n")
    with pytest.raises(InputError, match=r"line 2: image .*nor images/a/0\.jpg in the working folder"):
        load_dataset(str(path))
    monkeypatch.chdir(tmp_path)
    assert len(task(load_dataset(str(path)), "image-text").query) == 2


def test_parquet_of_img2dataset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = {
        "key": [f"{k:09d}" for k in range(6)],
        "caption": [f"caption {k}" for k in range(6)],
        "url": ["http://x"] * 6,
        "status": ["success"] * 5 + ["failed_to_download"],
        "jpg": [jpeg(k) for k in range(5)] + [None],
    }
    pd.DataFrame(rows).to_parquet(tmp_path / "00000.parquet")
    dataset = load_dataset(str(tmp_path / "00000.parquet"))
    queries = task(dataset, "image-text").query
    assert queries.ids == tuple(f"{k:09d}" for k in range(5))
    assert (np.asarray(queries.image(1)) == np.asarray(picture(1))).mean() > 0.1
    assert dataset.notices == ("Left out, as its status is no success: 1 of 6 rows.",)
    command = ["--data", str(tmp_path / "00000.parquet"), "--out", str(tmp_path / "out")]
    assert run_command(prepare, command) == 0
    assert "warning: Left out, as its status is no success: 1 of 6" in capsys.readouterr().err
    assert len(load_pairs(str(tmp_path / "out"), image_size=16, context_length=8)) == 5
    pd.DataFrame(rows).drop(columns="jpg").to_parquet(tmp_path / "00001.parquet")
    with pytest.raises(InputError, match=r"columns key, caption, url, status; expected path"):
        load_dataset(str(tmp_path / "00001.parquet"))
    rows["caption"][2] = ""
    pd.DataFrame(rows).to_parquet(tmp_path / "00002.parquet")
    with pytest.raises(InputError, match=r"line 4: column text is empty"):
        load_dataset(str(tmp_path / "00002.parquet"))
    some = load_dataset(str(tmp_path / "00002.parquet"), max_bad=1)
    assert len(task(some, "image-text").query) == 4


# --------------------------------------------------------------------------------------------- bad samples


def img2dataset_shard(path: Path) -> str:
    """Write eight samples: of one the download failed, one has no caption, one is damaged."""
    members: list[tuple[str, bytes | str]] = []
    for k in range(8):
        if k != 3:
            members.append((f"{k:09d}.jpg", jpeg(k) if k != 6 else b"damaged"))
        members.append((f"{k:09d}.json", json.dumps({"caption": None if k == 5 else f"c {k}"})))
        members.append((f"{k:09d}.txt", "" if k == 5 else f"c {k}"))
    return tar(path, members)


def test_bad_samples_are_left_out_of_a_measurement_up_to_a_limit(tmp_path: Path) -> None:
    shard = img2dataset_shard(tmp_path / "s.tar")
    with pytest.raises(InputError, match=r"'000000003': no image.*--max-bad N would leave"):
        load_dataset(shard)
    with pytest.raises(InputError, match="3 bad samples, more than --max-bad 2"):
        load_dataset(shard, max_bad=2)
    dataset = load_dataset(shard, max_bad=3)
    assert [name[-1] for name in task(dataset, "image-text").query.ids] == list("01247")
    for made in dataset.tasks:
        assert "Bad samples left out: 3 (" in made.protocol
    for key in ("000000003", "000000005", "000000006"):
        assert key in dataset.notices[0]
    with pytest.raises(InputError, match="max_bad=-1 must not be negative"):
        load_dataset(shard, max_bad=-1)


def test_bad_samples_of_folders_and_tables(tmp_path: Path) -> None:
    put_classes(tmp_path)
    put(tmp_path / "dog" / "1.jpg", b"damaged")
    assert classes(load_dataset(str(tmp_path), max_bad=1)) == {"cat": 2, "dog": 1}
    rows = ["path,label", "cat/0.jpg,cat", "cat/1.jpg,cat", "dog/0.jpg,dog", "dog/1.jpg,dog", "gone.jpg,dog"]
    path = put(tmp_path / "t.csv", "\n".join([*rows, "cat/0.jpg,"]))
    dataset = load_dataset(str(path), max_bad=3)
    assert classes(dataset) == {"cat": 2, "dog": 1}
    assert "Bad samples left out: 3 (" in dataset.notices[0]


def test_the_commands_leave_bad_samples_out(
    tmp_path: Path, encoder_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shard = img2dataset_shard(tmp_path / "s.tar")
    base = ["--encoder", str(encoder_folder), "--dataset", shard, "--device", "cpu"]
    for command, more in (
        (encode, []),
        (invert, ["--into", "text", "--steps", "1"]),
        (evaluate, ["--routes", "native"]),
    ):
        out = tmp_path / command.__module__
        arguments = [*base, *more, "--out", str(out)]
        assert run_command(command, arguments) == 2
        assert "no image" in capsys.readouterr().err
        assert run_command(command, [*arguments, "--max-bad", "3"]) == 0
        assert "warning: " in (said := capsys.readouterr()).err
        assert "Bad samples left out: 3" in said.err
        if command is evaluate:
            rows = [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]
            assert all("Bad samples left out: 3" in row["protocol"] for row in rows if row["task"] != "gap")
        else:
            assert "Bad samples left out: 3" in read_json(out / "result.json")["notices"][0]


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from pretrain.run import train
    from tests.training_shards import small_config, write_shard

    folder = tmp_path_factory.mktemp("encoder")
    config = small_config(str(write_shard(folder / "a.tar")), steps=1)
    return train(config, folder / "run", progress=False).checkpoint
