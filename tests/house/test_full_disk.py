"""A disk that fills up in the middle of a study: it stops with a message, and goes on when there is room."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from crossgap.files import read_lines

pytestmark = pytest.mark.system

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system in memory that holds one trial, not two; needs root."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def sweep(out: Path) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable, "-m", "ablations.sweep", "--smoke", "--out", str(out), "--seeds", "1", "--trials",
        "3", "--workers", "1",
    ]  # fmt: skip
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


def test_a_full_disk_stops_a_study_which_goes_on_when_there_is_room(small: Path, tmp_path: Path) -> None:
    stopped = sweep(small / "study")
    assert stopped.returncode == 2, stopped.stdout + stopped.stderr
    assert "no space left on the disk" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    subprocess.run(["mount", "-o", "remount,size=400m", small], check=True)
    done = sweep(small / "study")
    assert done.returncode == 0, done.stderr
    assert "3 of 3 trials complete" in done.stdout
    whole = sweep(tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    ours, theirs = (
        [{key: value for key, value in line.items() if key not in ("seconds", "commit")} for line in lines]
        for lines in (read_lines(folder / "rows.jsonl") for folder in (small / "study", tmp_path / "whole"))
    )
    assert ours == theirs
