"""Progress: plain lines without a terminal; on one, bars that render before their first item."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from crossgap.progress import ItemProgress, told

LOOP = """
import time
from crossgap.progress import ItemProgress
with ItemProgress() as progress:
    tick = progress.start("encode images", 3)
    time.sleep(0.3)
    for _ in range(3):
        tick(1)
        time.sleep(0.1)
"""


def test_without_a_terminal_there_is_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    with ItemProgress(seconds_between=0) as progress:
        tick = progress.start("invert into text", 8, done=2)
        tick(2)
        tick(4)
    first, last = capsys.readouterr().err.splitlines()
    assert first.startswith("invert into text: 4 of 8 items, ")
    assert "/s, " in first
    assert first.endswith(" left")
    assert last.startswith("invert into text: 8 of 8 items, ")
    assert last.endswith(" in all")


def test_lines_keep_their_distance(capsys: pytest.CaptureFixture[str]) -> None:
    with ItemProgress(seconds_between=60) as progress:
        tick = progress.start("encode texts", 100)
        for _ in range(100):
            tick(1)
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_on_a_terminal_the_bar_shows_before_and_after_its_first_item() -> None:
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", LOOP], stderr=theirs, env={**os.environ, "TERM": "xterm"}
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # the other side is closed
            break
        if not part:
            break
        shown += part
    os.close(ours)
    assert process.wait() == 0
    assert b"0/3" in shown
    assert b"in all" in shown


def test_a_slow_item_does_not_silence_its_loop(capsys: pytest.CaptureFixture[str]) -> None:
    with ItemProgress(seconds_between=60, seconds_before_first=0.1) as progress:
        progress.start("invert into text", 2)
        time.sleep(1)
    said = capsys.readouterr().err
    assert said.startswith("invert into text: 0 of 2 items, 0:00:0")
    assert len(said.splitlines()) == 1


def test_what_takes_long_is_told_and_what_does_not_is_not(capfd: pytest.CaptureFixture[str]) -> None:
    with told("reading nothing", after=5):
        pass
    assert capfd.readouterr().err == ""
    with told("measuring all", after=0.1), told("reading much", after=0.1):
        time.sleep(0.5)
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) >= 2  # after .1 s and after .3 s; the one around it keeps still
    assert all(line.startswith("reading much ... 0:00:0") for line in lines)


def test_what_ends_with_an_error_is_told_no_longer(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="x"), told("reading", after=0.1):
        raise ValueError("x")
    time.sleep(0.3)
    assert capfd.readouterr().err == ""
