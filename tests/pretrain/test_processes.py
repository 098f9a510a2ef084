"""Training in real processes: several at once, asked to end, killed."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from crossgap.errors import InputError
from crossgap.files import read_json, read_lines
from crossgap.processes import ALONE, Processes
from pretrain.processes import check_shares
from tests import commands
from tests.commands import ROOT, Process, run_processes
from tests.training_shards import write_shard

pytestmark = pytest.mark.slow
TIMES = {"seconds", "pairs_per_second"}
TRAIN = "pretrain.train"
ONE = (sys.executable, "-m", TRAIN)
TWO = (
    sys.executable,
    "-m",
    "torch.distributed.run",
    "--standalone",
    "--nproc-per-node",
    "2",
    "-m",
    TRAIN,
)
OBJECTIVE = (
    "--weights",
    "clip",
    "1",
    "image_ntxent_head",
    "0.5",
    "text_nearest",
    "0.5",
    "adversarial",
    "0.2",
)


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> str:
    captions = [[f"thing {i} of {j}", f"a {i} and a {j}"] for i in range(8) for j in range(8)]
    return str(write_shard(tmp_path_factory.mktemp("shards") / "many.tar", captions))


def options(shard: str, out: Path, steps: int, *more: str) -> list[str]:
    given = ("--smoke", "--data", shard, "--device", "cpu", "--threads", "1", "--steps", str(steps))
    return [*given, "--out", str(out), *OBJECTIVE, *more]


def run(arguments: Sequence[str]) -> None:
    done = commands.run(TRAIN, *arguments)
    assert done.returncode == 0, done.stderr


def run_as_users_do(command: Sequence[str], arguments: Sequence[str]) -> None:
    done = subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr


def lines(out: Path) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in line.items() if name not in TIMES}
        for line in read_lines(out / "metrics.jsonl")
    ]


def weights(out: Path) -> dict[str, torch.Tensor]:
    folder = read_json(out / "checkpoints" / "latest")["folder"]
    return load_file(out / "checkpoints" / folder / "open_clip_model.safetensors")


def assert_same_bits(one: Path, two: Path) -> None:
    assert lines(one) == lines(two)
    first, second = weights(one), weights(two)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def wait_for(path: Path, process: Process | subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)


@pytest.fixture(scope="module")
def whole(shard: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 50 steps in one process that nothing interrupted."""
    out = tmp_path_factory.mktemp("whole") / "run"
    run_as_users_do(ONE, options(shard, out, 50))
    return out


def test_two_processes_train_as_one(shard: str, tmp_path: Path) -> None:
    arguments = [
        *options(shard, tmp_path, 50)[: -len(OBJECTIVE)],
        "--recipe",
        "learnable",
        "--term-gradients",
    ]
    run([*arguments, "--out", str(tmp_path / "one")])
    run_as_users_do(TWO, [*arguments, "--out", str(tmp_path / "two")])
    one, two = (lines(tmp_path / name) for name in ("one", "two"))
    assert len(one) == len(two) == 25
    for first, second in zip(one, two, strict=True):
        assert second["step"] == first["step"]
        for name in ("loss", "raw/clip", "temperature"):
            assert second[name] == pytest.approx(first[name], rel=1e-5), (first["step"], name)
        assert second["gradient/clip"] == pytest.approx(first["gradient/clip"], rel=1e-3)
    results = [read_json(tmp_path / name / "result.json")["pairs_seen"] for name in ("one", "two")]
    assert results[0] == results[1] == 50 * 16


def test_another_number_of_processes_goes_on(shard: str, whole: Path, tmp_path: Path) -> None:
    stop_in_the_middle(options(shard, tmp_path, 50), tmp_path)
    done = read_json(tmp_path / "checkpoints" / "latest")["step"]
    assert done < 40
    for ended in run_processes(2, TRAIN, *options(shard, tmp_path, 50)):
        assert ended.returncode == 0, ended.stderr
    for one, two in zip(lines(whole), lines(tmp_path), strict=True):
        assert two["step"] == one["step"]
        if one["step"] <= done + 4:  # later, Adam has grown the rounding of networks behind norms
            assert two["loss"] == pytest.approx(one["loss"], rel=1e-3)


def stop_in_the_middle(arguments: Sequence[str], out: Path, by: int = signal.SIGTERM) -> str:
    """Ask a run to end once it has a checkpoint; return what it said."""
    process = Process(TRAIN, *arguments)
    wait_for(out / "checkpoints" / "latest", process)
    process.send_signal(by)
    assert process.wait(timeout=60) == 128 + by
    assert not (out / "result.json").exists()
    return process.errors()


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_run_with_a_checkpoint(shard: str, whole: Path, tmp_path: Path, by: int) -> None:
    arguments = options(shard, tmp_path, 50)
    said = stop_in_the_middle(arguments, tmp_path, by)
    done = read_json(tmp_path / "checkpoints" / "latest")["step"]
    assert f"stopped after step {done}; the same command goes on" in said
    assert "Traceback" not in said
    assert done < 50
    run(arguments)
    assert_same_bits(whole, tmp_path)


def test_sigterm_ends_all_processes(shard: str, tmp_path: Path) -> None:
    arguments = options(shard, tmp_path / "run", 2000)
    launcher = subprocess.Popen([*TWO, *arguments], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    wait_for(tmp_path / "run" / "checkpoints" / "latest", launcher)
    launcher.send_signal(signal.SIGTERM)
    _, said = launcher.communicate(timeout=60)
    assert launcher.returncode != 0
    done = read_json(tmp_path / "run" / "checkpoints" / "latest")["step"]
    assert f"stopped after step {done}" in said
    assert done < 2000
    assert not (tmp_path / "run" / "result.json").exists()


def test_killed_again_and_again_it_ends_with_the_same_bits(shard: str, whole: Path, tmp_path: Path) -> None:
    draw, kills = random.Random(0), 0
    arguments = options(shard, tmp_path, 50)
    while not (tmp_path / "result.json").exists():
        assert kills < 20
        process = Process(TRAIN, *arguments)
        if kills < 3:  # at a random moment, a checkpoint being written or not
            folder = tmp_path / "checkpoints"
            before = read_json(folder / "latest")["step"] if kills else -1
            while process.poll() is None and (
                not (folder / "latest").exists() or read_json(folder / "latest")["step"] == before
            ):
                time.sleep(0.005)
            time.sleep(draw.uniform(0, 0.1))
            process.kill()
        process.wait(timeout=120)
        kills += 1
    assert kills >= 3
    assert_same_bits(whole, tmp_path)


def test_shares_are_equal_and_cover_the_batch() -> None:
    assert ALONE.share(8) == slice(0, 8)
    assert [Processes(rank, 4).share(8) for rank in range(4)] == [slice(k, k + 2) for k in (0, 2, 4, 6)]
    with pytest.raises(InputError, match="batch_size=8: cannot be cut into equal parts for 3 processes"):
        check_shares(8, 1, Processes(0, 3))
    with pytest.raises(InputError, match="2 processes x accumulate=8"):
        check_shares(8, 8, Processes(0, 2))
