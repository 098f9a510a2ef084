"""Results under way: killed and resumed, damaged, refused, locked; bit for bit as if nothing had happened."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file
from torch import Tensor

from crossgap import encode, invert
from crossgap.errors import InputError
from crossgap.files import read_json
from crossgap.progress import Tick
from crossgap.store import Chunk, Store, join, open_store
from tests.commands import Process, run

SETTINGS = {"learning_rate": 0.02, "threads": 1}
INVERT: dict[str, Any] = {
    "dataset": "emoji", "limit": 12, "into": "text", "steps": 3, "snapshots": (1,), "batch_size": 4,
    "threads": 1, "device": "cpu",
}  # fmt: skip
IDS = tuple(f"item/{number}" for number in range(10))
VALUES_ND = torch.randn(10, 4, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def complete(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("complete") / "inverted"
    assert invert.main(**INVERT, encoder=str(model), out=out) == 0
    return out


def chunks(out: Path) -> list[Path]:
    return sorted(path for path in out.glob("chunks/*/*/*") if path.name[0] != ".")


def stamps(paths: list[Path]) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in paths}


def results(out: Path) -> dict[str, Tensor]:
    """Every tensor of every final file."""
    return {
        f"{path.name}:{name}": rows
        for path in sorted(out.glob("*.safetensors"))
        for name, rows in load_file(path).items()
    }


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, rows in expected.items():
        assert torch.equal(found[name], rows), name


def kill_when(command: list[str], out: Path, *, chunks_done: int) -> dict[Path, int]:
    """Start a command, kill -9 its process group after so many chunks; return when each chunk was written."""
    process = Process(*command)
    deadline = time.monotonic() + 120
    while len(chunks(out)) < chunks_done:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (out / "result.json").exists()
    return stamps(chunks(out))


@pytest.mark.slow
def test_kill_9_loses_one_chunk_at_most(model: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    settings = {
        **INVERT,
        "encoder": str(model),
        "limit": 40,
        "steps": 60,
        "snapshots": (0, 20),
        "batch_size": 2,
    }
    command = [
        "crossgap.invert", "--encoder", str(model), "--dataset", "emoji", "--limit", "40", "--into", "text",
        "--steps", "60", "--snapshots", "0", "20", "--batch-size", "2", "--threads", "1", "--device", "cpu",
        "--out", str(killed),
    ]  # fmt: skip
    first = kill_when(command, killed, chunks_done=2)
    second = kill_when(command, killed, chunks_done=len(first) + 2)
    assert {path: second[path] for path in first} == first  # none is made twice
    assert len(second) < 20

    torch.set_num_threads(1)
    says = r"inversion.learning_rate was 0.02, now 0.1; inversion.seed was 0, now 1"
    with pytest.raises(InputError, match=says):
        invert.main(**settings, seed=1, learning_rate=0.1, out=killed)
    assert stamps(chunks(killed)) == second

    result = run(*command)
    assert result.returncode == 0, result.stderr
    assert f"{2 * len(second)} of 40 items are there" in result.stderr
    assert "40 of 40 items, " in result.stderr
    assert not (killed / "chunks").exists()
    assert invert.main(**settings, out=whole) == 0
    found = results(killed)
    assert_equal(found, results(whole))
    assert {key.split(".")[0] for key in found} == {
        "inverted",
        "inverted-step-0",
        "inverted-step-20",
        "tokens",
    }
    about, expected = (read_json(out / "result.json") for out in (killed, whole))
    assert (about["settings"], about["loss"]) == (expected["settings"], expected["loss"])


def test_encode_killed_and_resumed_ends_with_the_same_bits(model: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    command = [
        "crossgap.encode", "--encoder", str(model), "--dataset", "emoji", "--threads", "1", "--device", "cpu",
        "--out", str(killed),
    ]  # fmt: skip
    done = kill_when(command, killed, chunks_done=2)
    assert len(done) < 10
    result = run(*command)
    assert result.returncode == 0, result.stderr
    assert "items are there (image)" in result.stderr
    assert encode.main(encoder=str(model), dataset="emoji", threads=1, device="cpu", out=whole) == 0
    assert results(killed).keys() == {"image.safetensors:values", "text.safetensors:values"}
    assert_equal(results(killed), results(whole))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"steps": 4}, "inversion.steps was 3, now 4"),
        ({"batch_size": 3}, "inversion.batch_size was 4, now 3"),
        ({"threads": 2}, r"threads was 1, now 2; .*torchrun gives each process one thread; --threads"),
        ({"precision": "fp64"}, "precision was 'fp32', now 'fp64'"),
        ({"limit": 11}, "items.count was 12, now 11"),
        ({"into": "image"}, "into was 'text', now 'image'"),
        ({"snapshots": (1, 2)}, r"snapshots was \[1\], now \[1, 2\]"),
    ],
)
def test_a_complete_folder_refuses_other_settings(
    model: Path, complete: Path, change: dict[str, Any], says: str
) -> None:
    before = stamps(list(complete.iterdir()))
    with pytest.raises(InputError, match=rf"holds results with other settings: .*{says}"):
        invert.main(**{**INVERT, "encoder": str(model), "out": complete, **change})
    torch.set_num_threads(1)
    with pytest.raises(InputError, match="command was 'invert', now 'encode'"):
        encode.main(encoder=str(model), dataset="emoji", limit=12, device="cpu", out=complete)
    assert stamps(list(complete.iterdir())) == before


def test_other_files_are_left_alone(model: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("the only copy")
    with pytest.raises(InputError, match="holds other things than this command's results"):
        invert.main(**INVERT, encoder=str(model), out=tmp_path)
    with pytest.raises(InputError, match=r"thesis.tex: a file, expected a folder"):
        invert.main(**INVERT, encoder=str(model), out=tmp_path / "thesis.tex")
    with pytest.raises(InputError, match="holds other things"):
        invert.main(**INVERT, encoder=str(model), out=model)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_two_processes_in_one_folder_are_refused(model: Path, tmp_path: Path) -> None:
    says = f"another process is writing to {re.escape(str(tmp_path))}; wait for it or choose another --out"
    with FileLock(tmp_path / ".lock"), pytest.raises(InputError, match=says):
        invert.main(**INVERT, encoder=str(model), out=tmp_path)
    assert invert.main(**INVERT, encoder=str(model), out=tmp_path) == 0


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def zero_the_end(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7] + bytes(7))


def exchange(path: Path) -> None:
    path.write_bytes(path.with_name("00000.safetensors").read_bytes())


@pytest.mark.parametrize("damage", [cut, empty, zero_the_end, exchange])
def test_a_damaged_chunk_is_named_and_made_again(
    damage: Callable[[Path], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stop_at(6, tmp_path)
    whole, damaged = chunks(tmp_path)
    before = stamps([whole])
    damage(damaged)
    (damaged.parent / ".00002.safetensors.abcd_123.safetensors").write_bytes(b"half written")
    made: list[int] = []
    with open_store(tmp_path, SETTINGS) as store:
        assert store is not None
        found = rows(store, made)
        assert made == [3, 4, 5, 6, 7, 8, 9]
        assert len(list(damaged.parent.iterdir())) == 4
        assert stamps([whole]) == before
    assert torch.equal(found["values"], VALUES_ND)
    said = capsys.readouterr().err
    assert f"{damaged}: damaged (" in said
    assert "its 3 items are made again" in said


def test_rows_are_joined_by_id(tmp_path: Path) -> None:
    places = torch.randperm(10, generator=torch.Generator().manual_seed(1)).tolist()
    parts = [
        Chunk(
            tuple(IDS[place] for place in part),
            {"values": VALUES_ND[part], "norms": VALUES_ND[part].norm(dim=1)},
        )
        for part in (places[:3], places[3:8], places[8:])
    ]
    found = join(parts, IDS)
    assert torch.equal(found["values"], VALUES_ND)
    assert torch.equal(found["norms"], VALUES_ND.norm(dim=1))
    stop_at(6, tmp_path)
    path = chunks(tmp_path)[1]
    chunk = Chunk.load(path)
    Chunk(chunk.ids[::-1], {"values": chunk.tensors["values"].flip(0)}).save(path)
    made: list[int] = []
    with open_store(tmp_path, SETTINGS) as store:
        assert store is not None
        assert torch.equal(rows(store, made)["values"], VALUES_ND)
    assert made == [6, 7, 8, 9]


def test_only_finished_chunks_are_left_behind(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    stop_at(0, out)
    assert not out.exists()
    stop_at(3, out)
    (only,) = chunks(out)
    assert Chunk.load(only).ids == IDS[:3]
    with pytest.raises(InputError, match="threads was 1, now 2"), open_store(out, {**SETTINGS, "threads": 2}):
        pass
    with open_store(out, SETTINGS) as store:
        assert store is not None
        rows(store, [])
        store.finish({"loss": 0.5})
    assert sorted(path.name for path in out.iterdir()) == [".lock", "result.json", "settings.json"]
    (out / "chunks").mkdir()  # killed before the chunks were removed
    with open_store(out, SETTINGS) as store:
        assert store is None
    assert not (out / "chunks").exists()


def rows(store: Store, made: list[int], *, stop: int = 10) -> dict[str, Tensor]:
    """Make rows in chunks of three, noting the places made; stop with an error at one of them."""

    def make(parts: Sequence[range], tick: Tick) -> Iterator[Mapping[str, Tensor]]:
        for part in parts:
            if stop in part:
                raise InputError("stopped")
            made.extend(part)
            tick(len(part))
            yield {"values": VALUES_ND[part.start : part.stop]}

    return store.rows(IDS, make, name="rows", size=3, begin=lambda _done: lambda _more: None)


def stop_at(stop: int, out: Path) -> None:
    with pytest.raises(InputError, match="stopped"), open_store(out, SETTINGS) as store:
        assert store is not None
        rows(store, [], stop=stop)
