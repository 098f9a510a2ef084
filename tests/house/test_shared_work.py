"""encode, invert and evaluate by torchrun: two processes give the bits of one, end together, and go on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from crossgap import encode, evaluate, invert
from crossgap.command import run_command
from crossgap.files import read_json
from crossgap.records import read_rows, read_table
from tests.commands import ROOT, run_processes

pytestmark = pytest.mark.slow

TWO = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")
SECONDS = 30  # that may pass between the death of a process and the end of all; a busy machine is slow
SAME = ("--threads", "1", "--device", "cpu")
COMMANDS = {"encode": encode.main, "invert": invert.main, "evaluate": evaluate.main}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty images of four classes."""
    folder, generator = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for place in range(40):
        path = folder / f"thing {place % 4}" / f"{place}.png"
        path.parent.mkdir(exist_ok=True)
        pixels = generator.integers(0, 256, (24, 30, 3), dtype=np.uint8)
        pixels[:, :, place % 3] //= 1 + place % 4
        Image.fromarray(pixels).save(path)
    return folder


def arguments(model: Path, photos: Path, out: Path, *more: str) -> list[str]:
    given = ["--encoder", str(model), "--dataset", str(photos), "--out", str(out), *SAME, "--batch-size", "4"]
    return [*given, *more]


def by_one(name: str, given: list[str]) -> None:
    """Run a command in this process."""
    settings = {"invert": invert.SETTINGS, "evaluate": ("evaluation",)}.get(name, ())
    assert run_command(COMMANDS[name], given, settings=settings) == 0


def by_two(name: str, given: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command by torchrun."""
    done = subprocess.run(
        [*TWO, f"crossgap.{name}", *given], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done


def tensors(out: Path) -> dict[str, torch.Tensor]:
    paths = sorted(out.glob("*.safetensors"))
    return {f"{path.name}:{name}": rows for path in paths for name, rows in load_file(path).items()}


def assert_same_files(one: Path, two: Path) -> None:
    first, second = tensors(one), tensors(two)
    assert first
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    settings = [read_json(out / "result.json")["settings"] for out in (one, two)]
    assert settings[0] == settings[1]


def test_killing_one_process_ends_all_and_any_number_goes_on(
    model: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """kill -9 of the second process while both invert; then one process finishes what two began."""
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    more = ("--into", "text", "--steps", "150", "--snapshots", "20")
    started = subprocess.Popen(
        [*TWO, "crossgap.invert", *arguments(model, photos, killed, *more)],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 240
    while len(list(killed.glob("chunks/*/*/[0-9]*"))) < 2:
        assert time.monotonic() < deadline
        assert started.poll() is None
        time.sleep(0.01)
    os.kill(of_rank(1, started.pid), signal.SIGKILL)
    began = time.monotonic()
    assert started.wait(timeout=240) != 0
    assert time.monotonic() - began < SECONDS
    assert not (killed / "result.json").exists()
    there = len(list(killed.glob("chunks/*/*/[0-9]*")))
    assert 2 <= there < 10
    by_one("invert", arguments(model, photos, killed, *more))
    assert f"{4 * there} of 40 items are there" in capsys.readouterr().err
    by_one("invert", arguments(model, photos, whole, *more))
    assert_same_files(whole, killed)


def of_rank(rank: int, launcher: int) -> int:
    """Find the process of a rank among those that a launcher started."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            stat = (path / "stat").read_text().rsplit(")", 1)[1].split()
            around = (path / "environ").read_bytes().split(b"\0")
        except OSError:  # it has ended
            continue
        if int(stat[1]) == launcher and f"RANK={rank}".encode() in around:
            return int(path.name)
    raise AssertionError(f"no process of rank {rank}")


MEET = """
import torch
from crossgap.errors import InputError
from crossgap.processes import joined

with joined("cpu") as processes:
    expected = torch.tensor([[-0.0, torch.nan, torch.inf, 0.1], [-0.0, 1.1, 7, 3]], dtype=torch.float64)
    own = torch.zeros_like(expected)
    own[processes.rank] = expected[processes.rank]
    assert torch.equal(processes.whole(own).view(torch.int64), expected.view(torch.int64))
    assert processes.told(processes.first)
    assert not processes.told(not processes.first)
    for refused in ((1,), (0, 1)):
        try:
            with processes.alike():
                if processes.rank in refused:
                    raise InputError(f"item {processes.rank} is not whole, as is \u00e9")
        except InputError as error:
            assert str(error) == f"item {refused[0]} is not whole, as is \u00e9", error
        else:
            raise AssertionError("both are refused")
    with processes.alike():
        pass
    processes.check_same("same", "they are the same")
    try:
        processes.check_same(str(processes.rank), "they differ")
    except InputError as error:
        print(error)
"""


def test_processes_meet_in_what_they_hold_and_in_how_they_are_refused(tmp_path: Path) -> None:
    """One that is refused where the error is caught, as a route that cannot be measured, refuses all."""
    (tmp_path / "meet.py").write_text(MEET, encoding="utf-8")
    for done in run_processes(2, "meet", cwd=tmp_path):
        assert done.returncode == 0, done.stderr
        assert done.stdout == "they differ\n"


DIGEST = """
import hashlib
from pathlib import Path

from crossgap.datasets.readers import stored
from crossgap.errors import InputError
from crossgap.processes import joined

stored._AT_ONCE = 4  # several rounds
read, original = [], stored.read_bytes
stored.read_bytes = lambda picture: (read.append(picture), original(picture))[1]
files = sorted(Path("files").iterdir())
parts = [stored.StoredImage(files[0], 1, 2), stored.StoredImage(files[1], box=(0, 0, 1, 1))]
pictures = [*files, *parts, b"held"]
contents = [*(file.read_bytes() for file in files), files[0].read_bytes()[1:3]]
expected = [hashlib.sha256(content).digest() for content in contents]
expected.append(hashlib.sha256(expected[1] + b"(0, 0, 1, 1)").digest())
expected.append(hashlib.sha256(b"held").digest())

with joined("cpu") as processes:
    with stored.digests_shared(processes):
        assert list(stored.digests(pictures)) == expected
    print(len(read))
    assert list(stored.digests(pictures[:-1])) == expected[:-1]  # each holds the digests of all
    print(len(read))

    stored._remembered.clear()
    seen = stored._place
    if processes.rank:  # the same file, but of another time there
        stored._place = lambda picture: (*seen(picture)[:-1], 1) if picture == files[2] else seen(picture)
    with stored.digests_shared(processes):
        assert list(stored.digests(files[:4])) == expected[:4]
    print(len(read))

    stored._place = seen
    with stored.digests_shared(processes):  # one lists a file less: they do not wait for each other
        listed = len(files) - processes.rank
        assert list(stored.digests(files[:listed])) == expected[:listed]

    try:
        with stored.digests_shared(processes):
            list(stored.digests([*files, Path("gone.png")]))
    except InputError as error:
        print(error)
"""


def test_processes_share_the_files_that_are_digested(tmp_path: Path) -> None:
    (tmp_path / "digest.py").write_text(DIGEST, encoding="utf-8")
    (tmp_path / "files").mkdir()
    for number in range(10):
        (tmp_path / "files" / f"{number}.png").write_bytes(b"file %d" % number)
    reads = 0
    for done in run_processes(2, "digest", cwd=tmp_path):
        assert done.returncode == 0, done.stderr
        part, after, apart, missing = done.stdout.splitlines()
        assert after == part
        assert int(apart) == int(after) + 4
        assert missing == "image gone.png: cannot be read (No such file or directory)"
        reads += int(part)
    assert reads == 12  # of 13: two are the same bytes, one with a box


def test_two_processes_encode_as_one_and_the_first_alone_speaks(
    model: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    by_one("encode", arguments(model, photos, one))
    found = by_two("encode", arguments(model, photos, two))
    assert found.stdout == capsys.readouterr().out.replace(str(one), str(two))
    assert "Traceback" not in found.stderr
    assert_same_files(one, two)


def test_two_processes_measure_as_one(model: Path, photos: Path, tmp_path: Path) -> None:
    """Rows, tables and what is kept: equal but for seconds."""
    more = ("--routes", "native", "oti", "centred", "class_pca", "oti_both", "--steps", "3")
    one, two = tmp_path / "one", tmp_path / "two"
    by_one("evaluate", arguments(model, photos, one, *more))
    assert by_two("evaluate", arguments(model, photos, two, *more)).stdout.count("rows: ") == 1
    frames = [read_rows([out / "rows.jsonl"]).drop(columns="seconds") for out in (one, two)]
    pd.testing.assert_frame_equal(*frames)
    assert set(frames[0]["versions"].str.extract("(threads=.*)")[0]) == {
        "threads=1 batch=4 inversion_batch=4"
    }
    for table in ("per_query", "neighbours", "histograms"):
        pd.testing.assert_frame_equal(*(read_table([out], table) for out in (one, two)))
    kept = [
        {path.name: load_file(path) for path in (out / "features").glob("*.safetensors")}
        for out in (one, two)
    ]
    assert kept[0].keys() == kept[1].keys()
    for name, held in kept[0].items():
        assert all(torch.equal(rows, kept[1][name][key]) for key, rows in held.items())
    documents = [json.loads((out / "evaluation.json").read_text()) for out in (one, two)]
    assert documents[0] == documents[1]
