"""Tensor files and claims of folders: whole or refused, one writer at a time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from crossgap.errors import InputError
from crossgap.files import HeldError, claimed
from crossgap.store import digest_of, load_tensors, save_tensors

TENSORS = {"a": torch.arange(6).view(2, 3), "b": torch.randn(4).bfloat16(), "empty": torch.zeros(0, 3)}


def test_what_was_written_is_read(tmp_path: Path) -> None:
    save_tensors(tmp_path / "file.safetensors", {**TENSORS, "turned": TENSORS["a"].T}, {"ids": "x"})
    tensors, about = load_tensors(tmp_path / "file.safetensors")
    assert about == {"ids": "x"}
    assert set(tensors) == {*TENSORS, "turned"}
    for name, tensor in TENSORS.items():
        assert torch.equal(tensors[name], tensor)
        assert tensors[name].dtype == tensor.dtype
    assert torch.equal(tensors["turned"], TENSORS["a"].T)


def test_the_same_tensors_and_words_give_the_same_bytes(tmp_path: Path) -> None:
    """Metadata keep an order of their own, whatever they hold: quotes, lines, other scripts, nothing."""
    about = {
        "ids": '["a \\"b\\"\\n\\t", "\u00fc\u4e16\U0001f642\x7f\x01/"]',
        "origin": "{}",
        **dict.fromkeys("zyxwvu", ""),
    }
    files = [tmp_path / f"{number}.safetensors" for number in range(6)]
    for number, path in enumerate(files):
        save_tensors(path, TENSORS, about if number % 2 else dict(reversed(about.items())))
    assert len({path.read_bytes() for path in files}) == 1
    tensors, read = load_tensors(files[0])
    assert read == about
    assert torch.equal(tensors["a"], TENSORS["a"])


@pytest.mark.parametrize("place", [0, 200, -1])
def test_a_changed_byte_is_seen(tmp_path: Path, place: int) -> None:
    path = tmp_path / "file.safetensors"
    save_tensors(path, TENSORS, {"ids": "x"})
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        load_tensors(path)


def test_a_file_that_is_cut_off_or_not_there_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    with pytest.raises(InputError, match="damaged"):
        load_tensors(path)
    save_tensors(path, TENSORS, {})
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InputError, match="damaged"):
        load_tensors(path)


def test_a_file_without_a_checksum_is_believed(tmp_path: Path) -> None:
    save_file({"a": TENSORS["a"]}, tmp_path / "file.safetensors", metadata={"ids": "x"})
    assert load_tensors(tmp_path / "file.safetensors")[1] == {"ids": "x"}


def test_a_digest_depends_on_all_that_it_is_of() -> None:
    digests = {
        digest_of(tensors, about)
        for tensors in (
            {"a": torch.zeros(2, 3)}, {"b": torch.zeros(2, 3)}, {"a": torch.zeros(3, 2)},
            {"a": torch.zeros(2, 3, dtype=torch.int32)}, {"a": torch.ones(2, 3)},
        )
        for about in ({}, {"ids": "x"})
    }  # fmt: skip
    assert len(digests) == 10


def test_a_folder_is_held_by_one_process_and_freed_when_it_ends(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from crossgap.files import claimed\n"
        "with claimed(Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(HeldError, match="held by another live process"), claimed(tmp_path):
            pass
        other.kill()
        other.wait()
    with claimed(tmp_path, wait=10):
        pass
