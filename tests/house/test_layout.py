"""The house keeps to its limits, has no cycles, shows its rooms, and answers --help without torch."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tools.layout import MARKS, MOST, PAGE, import_cycles, modules, picture, sizes, written

ROOT = Path(__file__).resolve().parent.parent.parent
COMMANDS = (
    "crossgap.encode", "crossgap.invert", "crossgap.evaluate", "crossgap.datasets", "pretrain.train",
    "pretrain.prepare", "ablations.sweep", "ablations.runs", "analysis.report", "analysis.findings",
)  # fmt: skip
# what is longer than others for a reason: what it is
LONGER: dict[str, str] = {}


def test_what_has_a_limit_keeps_to_it() -> None:
    over = {
        f"{size.where}: {size.lines} ({kind}, at most {MOST[kind]})"
        for kind, found in sizes(modules()).items()
        for size in found
        if size.lines > MOST[kind] and size.where not in LONGER
    }
    assert over == set()


def test_every_exception_is_one() -> None:
    over = {
        size.where for kind, found in sizes(modules()).items() for size in found if size.lines > MOST[kind]
    }
    assert set(LONGER) <= over


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    assert import_cycles(modules()) == []


def test_the_picture_of_the_rooms_is_that_of_the_imports() -> None:
    page = PAGE.read_text("utf-8")
    assert all(mark in page for mark in MARKS)
    assert page == written(page, picture(modules())), "run python -m tools.layout --write"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_answers_within_a_second_of_processor_time(command: str) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    said = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", command, "--help"],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    loaded = {line.rsplit("|", 1)[-1].strip() for line in said.stderr.splitlines()}
    assert "torch" not in loaded
    assert "usage: python -m" in said.stdout
    for noise in ("{None}", "(default: None)", "(default: False)", "(default: )"):
        assert noise not in said.stdout
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2  # 1 s on a quiet core
