"""A command that is forked from the warm server behaves as a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import commands

SAYS = """
import os, sys
print(sys.argv, os.getcwd(), sys.path[0], __name__, __spec__.name, sys.modules["__main__"].__file__)
print(sorted(name for name in os.environ if name != "LC_CTYPE"), repr(sys.stdin.read()), file=sys.stderr)
print(sys.stdout.isatty(), sys.stdout.encoding, sys.stdout.line_buffering, sys.stderr.errors)
"""
TOLD = r"(?m)^.* \.\.\. \d+:\d\d:\d\d\n"  # what a command says that works for long, and how long
ENDS = {
    "by itself": "print('last words')",
    "None": "import sys; sys.exit()",
    "a number": "import sys; print('no end of line', end=''); sys.exit(3)",
    "a large number": "import sys; sys.exit(258)",
    "True": "import sys; sys.exit(True)",
    "a message": "import sys; sys.exit('all is lost')",
    "an error": "def fails():\n    raise ValueError('no value')\n\n\nfails()",
    "at once": "import os; os._exit(7)",
    "a signal": "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
    "exit functions": "import atexit; atexit.register(print, 'at the exit')",
    "an error at the exit": "import atexit, operator; atexit.register(operator.truediv, 1, 0)",
    "a thread": "import threading, time; threading.Timer(0.2, print, ['done']).start()",
    "a process": (
        "from multiprocessing import get_context\nimport os\n\n"
        "def work():\n    print(__name__, flush=True)\n    os._exit(4)\n\n"
        "if __name__ == '__main__':\n    worker = get_context('forkserver').Process(target=work)\n"
        "    worker.start()\n    worker.join()\n    print(worker.exitcode)"
    ),
}


def both(
    folder: Path, code: str, *arguments: str, env: dict[str, str] | None = None
) -> tuple[subprocess.CompletedProcess[str], subprocess.CompletedProcess[str]]:
    """Run a module in a process of its own and in a fork of the server."""
    (folder / "told.py").write_text(code)
    own = subprocess.run(
        [sys.executable, "-m", "told", *arguments], cwd=folder, env=env, stdin=subprocess.DEVNULL,
        capture_output=True, text=True,
    )  # fmt: skip
    return own, commands.run("told", *arguments, cwd=folder, env=env)


def own_frames(errors: str) -> str:
    """Leave out the frames above a module, which are those of who runs it."""
    head, *frames = errors.split("  File ")
    return head + "  File ".join(["", *(frame for frame in frames if "told.py" in frame)])


def test_it_finds_itself_in_the_same_place(tmp_path: Path) -> None:
    env = {"PATH": os.environ["PATH"], "ONLY": "this"}
    own, warm = both(tmp_path, SAYS, "--an", "argument", os.fsdecode(b"caf\xe9"), env=env)
    assert own.returncode == 0, own.stderr
    assert (warm.stdout, warm.stderr) == (own.stdout, own.stderr)
    assert str(tmp_path) in warm.stdout


@pytest.mark.parametrize("code", ENDS.values(), ids=ENDS)
def test_it_ends_in_the_same_way(tmp_path: Path, code: str) -> None:
    own, warm = both(tmp_path, code)
    assert (warm.returncode, warm.stdout) == (own.returncode, own.stdout)
    assert own_frames(warm.stderr) == own_frames(own.stderr)


@pytest.mark.slow
def test_a_command_says_and_does_the_same() -> None:
    """One that is refused by its options, and one that is refused once torch is loaded."""
    for module, *arguments in (
        ["pretrain.train", "--sedes", "3"],
        ["pretrain.train", "--help"],
        ["crossgap.encode", "--encoder", "ViT-B-23", "--dataset", "emoji", "--out", "nowhere"],
    ):
        own = subprocess.run(
            [sys.executable, "-m", module, *arguments], cwd=commands.ROOT, capture_output=True, text=True
        )
        warm = commands.run(module, *arguments)
        assert (warm.returncode, warm.stdout) == (own.returncode, own.stdout)
        assert re.sub(TOLD, "", warm.stderr) == re.sub(TOLD, "", own.stderr)


def wait_for_end(process: int) -> None:
    deadline = time.monotonic() + 10
    while Path(f"/proc/{process}/stat").exists():
        state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
        if state == "Z":
            break
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_it_is_killed_alone_or_with_its_group(tmp_path: Path) -> None:
    (tmp_path / "told.py").write_text(
        "import subprocess, time\nprint(subprocess.Popen(['sleep', '600']).pid, flush=True)\ntime.sleep(600)"
    )
    for alone in (True, False):
        process = commands.Process("told", cwd=tmp_path)
        while not process.output():
            time.sleep(0.01)
        sleeper = int(process.output())
        assert process.poll() is None
        if alone:
            process.kill()
            assert process.wait() == -signal.SIGKILL
            os.kill(sleeper, signal.SIGKILL)  # it lives
        else:
            os.killpg(process.pid, signal.SIGTERM)
            assert process.wait() == -signal.SIGTERM
            wait_for_end(sleeper)


def test_one_that_takes_too_long_is_killed(tmp_path: Path) -> None:
    (tmp_path / "told.py").write_text("import time\nprint('begun', flush=True)\ntime.sleep(600)")
    process = commands.Process("told", cwd=tmp_path)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=0.5)
    assert process.wait() == -signal.SIGKILL


def test_nothing_of_one_command_is_left_for_the_next(tmp_path: Path) -> None:
    (tmp_path / "told.py").write_text(
        "import os, torch, crossgap\n"
        "print(torch.initial_seed(), torch.rand(1).item(), 'left' in vars(crossgap), 'LEFT' in os.environ)\n"
        "crossgap.left = os.environ['LEFT'] = 'here'\ntorch.manual_seed(3)\n"
    )
    first, second = (commands.run("told", cwd=tmp_path) for _ in range(2))
    assert first.returncode == 0, first.stderr
    assert first.stdout == second.stdout
    assert "False False" in first.stdout


def test_processes_that_meet_know_their_ranks(tmp_path: Path) -> None:
    (tmp_path / "told.py").write_text(
        "from crossgap.processes import joined\nwith joined('cpu') as us:\n"
        "    print(us.rank, us.size, us.any(us.rank == 1))\n"
    )
    done = commands.run_processes(2, "told", cwd=tmp_path)
    assert [each.stdout for each in done] == ["0 2 True\n", "1 2 True\n"], done
