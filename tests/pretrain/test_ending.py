"""How runs end in real processes: refused in one of them, asked to end while readers work, damaged shards."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from crossgap.files import read_json
from pretrain.config import smoke
from pretrain.recipes import RECIPES
from pretrain.run import train
from tests.commands import Process, run_processes, start_processes
from tests.pretrain.test_loading import damage_image
from tests.pretrain.test_processes import TRAIN, wait_for
from tests.training_shards import write_shard

SECONDS = 10  # within which a run ends once it met what ends it


def options(data: str, out: Path, *more: str) -> list[str]:
    given = ("--smoke", "--data", data, "--device", "cpu", "--threads", "1", "--batch-size", "8")
    return [*given, "--out", str(out), *more]


def children(process: int) -> list[int]:
    listed = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [int(child) for child in listed]


def is_alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def seconds_after(processes: Sequence[Process], said: str) -> tuple[float, str]:
    """Wait for the end of all; return how long after one first said something, and all that they said."""
    deadline, heard = time.monotonic() + 120, None
    while any(process.poll() is None for process in processes):
        assert time.monotonic() < deadline
        if heard is None and any(said in process.errors() for process in processes):
            heard = time.monotonic()
        time.sleep(0.02)
    lines = "".join(process.errors() for process in processes)
    assert said in lines, lines
    return time.monotonic() - (heard or time.monotonic()), lines


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Shards of which one has an image that is cut off."""
    folder = tmp_path_factory.mktemp("spoilt")
    for name in ("a", "b", "c"):
        write_shard(folder / f"{name}.tar", [[f"{name} {k}"] for k in range(16)])
    damage_image(write_shard(folder / "bad.tar"), 2)
    return str(folder / "{a,b,bad,c}.tar")


@pytest.mark.parametrize("loading", ["memory", "indexed", "resampled"])
def test_where_one_process_is_refused_none_waits(tmp_path: Path, spoilt: str, loading: str) -> None:
    arguments = options(spoilt, tmp_path / "run", "--loading", loading, "--steps", "500")
    processes = start_processes(2, TRAIN, *arguments)  # no launcher ends one for the other
    seconds, said = seconds_after(processes, "bad.tar")
    assert [process.returncode for process in processes] == [2, 2], said
    assert seconds < SECONDS
    assert "--max-bad N would leave up to N" in said
    assert "pretrain/train.py" not in said  # no traceback of either
    if loading != "memory":  # where both read all
        assert "ends because another one of the 2 was refused" in said
    assert not (tmp_path / "run" / "result.json").exists()


def test_what_is_tolerated_is_counted_by_each_process(tmp_path: Path, spoilt: str) -> None:
    arguments = options(spoilt, tmp_path / "run", "--loading", "resampled", "--workers", "1")
    done = run_processes(2, TRAIN, *arguments, "--steps", "30", "--max-bad", "1")
    said = "".join(each.stderr for each in done)
    assert [each.returncode for each in done] == [0, 0], said
    # one sample, met by both in each pass: the limit is one of the data
    assert said.count("left out: ") == 2
    last = read_json(tmp_path / "run" / "checkpoints" / "latest")["folder"]
    (bad,) = read_json(tmp_path / "run" / "checkpoints" / last / "state.json")["bad"]
    assert "bad.tar" in bad


def test_processes_that_share_no_folder_are_refused(tmp_path: Path) -> None:
    shard = str(write_shard(tmp_path / "a.tar"))
    given = smoke(RECIPES["baseline"]())
    given = replace(given, data=shard, limit=None, batch_size=8, device="cpu", threads=1, checkpoint_every=3)
    done = train(given, tmp_path / "0", progress=False)
    shutil.rmtree(done.checkpoint)
    (tmp_path / "apart.py").write_text(
        "import sys\n"
        "from pathlib import Path\n"
        "from crossgap.command import run_command\n"
        "from crossgap.processes import joined\n"
        "from pretrain.config import smoke\n"
        "from pretrain.recipes import RECIPES\n"
        "from pretrain.run import train\n"
        "from dataclasses import replace\n"
        "def main() -> None:\n"
        f"    given = replace(smoke(RECIPES['baseline']()), data={shard!r}, limit=None, batch_size=8,\n"
        "                    device='cpu', threads=1, checkpoint_every=3)\n"
        "    with joined('cpu') as processes:\n"
        f"        train(given, Path({str(tmp_path)!r}) / str(processes.rank), processes=processes)\n"
        "sys.exit(run_command(main))\n"
    )
    before = sorted((tmp_path / "0").rglob("*"))
    ended = run_processes(2, "apart", cwd=tmp_path)
    for each, step in zip(ended, (3, 0), strict=True):
        assert each.returncode == 2, each.stderr
        assert "do not agree on the settings or on the step" in each.stderr
        assert f"({step} here)" in each.stderr
    assert sorted((tmp_path / "0").rglob("*")) == before
    assert not (tmp_path / "1").exists()


@pytest.mark.parametrize("count", [1, 2])
def test_sigterm_leaves_no_reader_behind(tmp_path: Path, count: int) -> None:
    for name in ("a", "b"):
        write_shard(tmp_path / f"{name}.tar", [[f"{name} {k}"] for k in range(16)])
    out = tmp_path / "run"
    given = ("--loading", "resampled", "--workers", "2", "--steps", "100000")
    processes = start_processes(count, TRAIN, *options(str(tmp_path / "{a,b}.tar"), out, *given))
    wait_for(out / "checkpoints" / "latest", processes[0])
    readers = [child for process in processes for child in children(process.pid)]
    assert len(readers) == 2 * count
    asked = time.monotonic()
    processes[-1].send_signal(signal.SIGTERM)  # the others learn of it
    assert [process.wait(timeout=60) for process in processes] == [128 + signal.SIGTERM] * count
    assert time.monotonic() - asked < SECONDS
    said = "".join(process.errors() for process in processes)
    assert f"stopped after step {read_json(out / 'checkpoints' / 'latest')['step']}" in said
    assert "pretrain/train.py" not in said
    assert not [reader for reader in readers if is_alive(reader)]


@pytest.mark.slow
def test_readers_end_when_their_run_is_killed(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar")
    out = tmp_path / "run"
    given = ("--loading", "resampled", "--workers", "2", "--steps", "100000")
    process = Process(TRAIN, *options(str(tmp_path / "a.tar"), out, *given))
    wait_for(out / "checkpoints" / "latest", process)
    readers = children(process.pid)
    assert len(readers) == 2
    process.kill()
    process.wait()
    deadline = time.monotonic() + SECONDS
    while any(map(is_alive, readers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [reader for reader in readers if is_alive(reader)]
