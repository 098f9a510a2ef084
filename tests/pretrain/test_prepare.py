from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crossgap.command import run_command
from crossgap.datasets.bad import BadSamples
from crossgap.datasets.readers.shards import read_shards
from crossgap.errors import InputError
from crossgap.files import read_json
from pretrain.data.pairs import load_pairs
from pretrain.data.shards import manifest_shards
from pretrain.prepare import main
from pretrain.train import main as train_main
from tests.training_shards import write_shard


def picture(path: Path, colour: int, size: tuple[int, int] = (40, 30)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size[1], size[0], 3), colour, dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    for number in range(5):
        path = picture(source / "deep" / f"a.{number}.png", 40 * number)
        path.with_suffix(".txt").write_text(f"thing {number}\n\n the {number}th thing \n")
    return source


def prepare(source: Path, out: Path, *more: str) -> int:
    return run_command(main, ["--data", str(source), "--out", str(out), *more])


def test_a_folder_becomes_shards_that_training_reads(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "shards"
    assert prepare(folder, out, "--per-shard", "2") == 0
    manifest = read_json(out / "manifest.json")
    assert [shard["samples"] for shard in manifest["shards"]] == [2, 2, 1]
    samples = list(read_shards(manifest_shards(out)))
    assert [sample.captions for sample in samples] == [
        (f"thing {number}", f"the {number}th thing") for number in range(5)
    ]
    assert samples[1].image == (folder / "deep" / "a.1.png").read_bytes()
    assert samples[1].meta["id"] == "deep/a.1.png"
    pairs = load_pairs(str(out), image_size=16, context_length=8)
    assert len(pairs) == 5
    assert int(pairs.images.pixels_NHWC[3].float().mean()) == 120
    same = load_pairs(f"{out}/{{000000..000002}}.tar", image_size=16, context_length=8)
    assert same.digest == pairs.digest


def test_the_same_source_gives_the_same_bytes_and_a_second_time_nothing(folder: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert prepare(folder, tmp_path / name) == 0
    one, two = (tmp_path / name / "000000.tar" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    before = one.stat().st_mtime_ns
    assert prepare(folder, tmp_path / "one") == 0
    assert one.stat().st_mtime_ns == before


def test_other_settings_in_the_same_folder_are_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare(folder, tmp_path / "out") == 0
    assert prepare(folder, tmp_path / "out", "--per-shard", "3") == 2
    assert "per_shard was 1000, now 3" in capsys.readouterr().err


def test_a_source_that_changed_since_is_refused_and_its_path_may_be_written_in_two_ways(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert prepare(folder, tmp_path / "out") == 0
    monkeypatch.chdir(tmp_path)
    assert prepare(Path("source"), Path("out")) == 0
    (folder / "deep" / "a.1.txt").write_text("another thing")
    assert prepare(folder, tmp_path / "out") == 2
    assert "images or captions were added, removed or changed since" in capsys.readouterr().err
    shutil.rmtree(folder)
    assert prepare(folder, tmp_path / "out") == 0  # the shards are whole without it


def test_a_table_becomes_shards_with_concepts(tmp_path: Path) -> None:
    for number in range(3):
        picture(tmp_path / f"{number}.jpg", 80 * number, (100, 50))
    table = tmp_path / "table.csv"
    table.write_text(
        "path,text,label,split\n0.jpg,dark,grey,train\n0.jpg,black,grey,train\n1.jpg,middle,grey,train\n"
        "2.jpg,light,pale,test\n"
    )
    assert prepare(table, tmp_path / "out", "--image-size", "20") == 0
    samples = list(read_shards(manifest_shards(tmp_path / "out")))
    assert [sample.captions for sample in samples] == [("dark", "black"), ("middle",)]
    assert [sample.meta["concept"] for sample in samples] == ["grey", "grey"]
    assert samples[0].image is not None
    with Image.open(io.BytesIO(samples[0].image)) as image:
        assert image.size == (40, 20)
        assert image.format == "JPEG"
    concepts = load_pairs(str(tmp_path / "out"), image_size=16, context_length=8).concept_N
    assert concepts is not None
    assert concepts.tolist() == [0, 0]


def test_bad_samples_are_named_and_left_out_up_to_a_limit(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "deep" / "a.1.png").write_bytes(b"no image")
    (folder / "deep" / "a.3.txt").unlink()
    assert prepare(folder, tmp_path / "out") == 2
    assert "image 'deep/a.1.png': the image (8 bytes) cannot be decoded" in capsys.readouterr().err
    assert prepare(folder, tmp_path / "out", "--max-bad", "1") == 2
    assert "2 bad samples, more than --max-bad 1" in capsys.readouterr().err
    assert not (tmp_path / "out" / "manifest.json").exists()
    assert not list((tmp_path / "out").glob("*.tar"))
    assert prepare(folder, tmp_path / "out", "--max-bad", "2") == 0
    assert "left out: image 'deep/a.3.png': no caption" in capsys.readouterr().err
    assert [sample.captions[0] for sample in read_shards(manifest_shards(tmp_path / "out"))] == [
        "thing 0", "thing 2", "thing 4",
    ]  # fmt: skip


def test_a_shard_that_changed_size_is_refused(folder: Path, tmp_path: Path) -> None:
    assert prepare(folder, tmp_path / "out") == 0
    shard = tmp_path / "out" / "000000.tar"
    shard.write_bytes(shard.read_bytes()[:-512])
    with pytest.raises(InputError, match=r"000000.tar has \d+ bytes, \d+ were written"):
        manifest_shards(tmp_path / "out")
    with pytest.raises(InputError, match=r"has no manifest.json: give shards as"):
        manifest_shards(folder)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere", "no such folder, and not a table"),
        ("empty", "no pair of image and caption"),
        ("texts.csv", "training needs path and text"),
    ],
)
def test_a_bad_source_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str, message: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts.csv").write_text("text,label\na,b\n")
    assert prepare(tmp_path / source, tmp_path / "out") == 2
    assert message in capsys.readouterr().err.replace("\n", " ")
    assert not (tmp_path / "out" / "manifest.json").exists()


def damaged_shards(folder: Path) -> str:
    """Write a whole shard, one with a bad image and a sample without captions, a cut one, an empty one."""
    write_shard(folder / "000.tar")
    with tarfile.open(folder / "001.tar", "w") as archive:
        for name, data in {"a.png": b"no image", "a.txt": b"a", "b.png": b"x", "b.json": b"{}"}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    cut = write_shard(folder / "002.tar")
    cut.write_bytes(cut.read_bytes()[:20_000])
    (folder / "003.tar").write_bytes(b"")
    return str(folder / "{000..003}.tar")


def test_bad_samples_of_shards_are_counted_by_shard(tmp_path: Path) -> None:
    data = damaged_shards(tmp_path)
    bad = BadSamples(limit=4)
    pairs = load_pairs(data, image_size=16, context_length=8, bad=bad)
    assert {Path(name).name: count for name, count in bad.by_shard.items()} == {
        "001.tar": 2, "002.tar": 1, "003.tar": 1,
    }  # fmt: skip
    assert 16 < len(pairs) < 32  # the whole shard, and what lies before the cut
    for part in ("sample 'a'", "sample 'b': no captions", "002.tar: truncated", "003.tar: "):
        assert any(part in reason for reason in bad.reasons), part


def test_one_bad_sample_too_many_is_refused(tmp_path: Path) -> None:
    data = damaged_shards(tmp_path)
    with pytest.raises(InputError, match=r"sample 'a'.*\(--max-bad N would leave up to N such samples out\)"):
        load_pairs(data, image_size=16, context_length=8)
    with pytest.raises(InputError, match="4 bad samples, more than --max-bad 3"):
        load_pairs(data, image_size=16, context_length=8, bad=BadSamples(limit=3))


def test_training_says_what_it_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = damaged_shards(tmp_path), tmp_path / "run"
    command = ["--smoke", "--data", data, "--out", str(out), "--device", "cpu", "--steps", "1"]
    assert run_command(train_main, command) == 2
    assert not (out / "config.json").exists()
    assert run_command(train_main, [*command, "--max-bad", "4"]) == 0
    assert "warning: 4 bad samples left out" in capsys.readouterr().err
    assert len(json.loads((out / "config.json").read_text())["data"]["bad"]) == 4
