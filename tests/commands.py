"""Commands in warm processes: as ``python -m`` runs them, but forked from a server that has the imports.

A command spends seconds of processor time on importing, and more on taking the interpreter down; the tests
start hundreds. A process of pytest starts one server, when it first needs it, and a command is a fork of it.
The server holds what modules hold after their import: no thread, no seed, nothing of multiprocessing.
``tests/house/test_warm_commands.py`` compares a fork with a process of its own.

What a fork cannot show is the start itself: options that answer before torch is loaded, an import that is
missing, an order of hashes that differs from the server's. So each command is also started as a user starts
it, by ``sys.executable``: with ``--help`` in ``tests/house/test_layout.py``, and for its work where a test
compares runs to the bit. Nor is the memory of a fork that of a process: its peak begins at the server's.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parent.parent
_PACKAGES = ("crossgap", "pretrain", "ablations", "analysis")
_LOOK = 0.02  # seconds between two looks of the server at the processes that run
_exit_code = [1]  # of this process, once it is a command


class Process:
    """A command in a session of its own: the part of ``subprocess.Popen`` that the tests use."""

    def __init__(
        self, module: str, *arguments: str, cwd: Path = ROOT, env: Mapping[str, str] | None = None
    ) -> None:
        self.args = (module, *arguments)
        self.returncode: int | None = None
        self._said = ["", ""]
        # appended to, as the command and this process share the place in a file
        self._written = [tempfile.TemporaryFile("a+", errors="surrogateescape") for _ in range(2)]  # noqa: SIM115
        self._channel, theirs = _pair()
        about = {"argv": self.args, "cwd": str(cwd), "env": dict(os.environ if env is None else env)}
        with theirs:
            given = [theirs.fileno(), *(file.fileno() for file in self._written)]
            socket.send_fds(_server(), [json.dumps(about).encode()], given)
        self.pid = int(self._channel.recv(99))

    def poll(self) -> int | None:
        """Give the exit code, negative for a signal; None while the command runs."""
        if self.returncode is None and select.select([self._channel], [], [], 0)[0]:
            self.returncode = int(self._channel.recv(99))
            self._said = [_text(file) for file in self._written]
            for held in (self._channel, *self._written):
                held.close()
        return self.returncode

    def wait(self, timeout: float = 240) -> int:
        """Wait for the end; kill the command where it takes longer, and raise TimeoutExpired."""
        if self.returncode is None and not select.select([self._channel], [], [], timeout)[0]:
            self.kill()
            self.wait()
            raise subprocess.TimeoutExpired(self.args, timeout, self.output(), self.errors())
        code = self.poll()
        assert code is not None
        return code

    def output(self) -> str:
        """Give what the command has written to standard output, at most until its end."""
        return self._text(0)

    def errors(self) -> str:
        """Give what the command has written to standard error, at most until its end."""
        return self._text(1)

    def _text(self, which: int) -> str:
        return _text(self._written[which]) if self.poll() is None else self._said[which]

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def completed(self, timeout: float = 240) -> subprocess.CompletedProcess[str]:
        """Wait for the end and give it as ``subprocess.run`` does."""
        code = self.wait(timeout)
        return subprocess.CompletedProcess(self.args, code, self.output(), self.errors())


def _text(file: IO[str]) -> str:
    file.seek(0)
    return file.read()


def run(module: str, *arguments: str, timeout: float = 240, **place: Any) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; ``place`` is what :class:`Process` takes."""
    return Process(module, *arguments, **place).completed(timeout)


def start_processes(count: int, module: str, *arguments: str, cwd: Path = ROOT) -> list[Process]:
    """Start a command in several processes that meet: each is told what torchrun tells it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    told = {**os.environ, **place, "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
    ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]
    return [Process(module, *arguments, cwd=cwd, env={**told, **rank}) for rank in ranks]


def run_processes(
    count: int, module: str, *arguments: str, cwd: Path = ROOT, timeout: float = 240
) -> list[subprocess.CompletedProcess[str]]:
    """Run a command in several processes to the end of all; unlike torchrun, one that fails ends no other."""
    started, until = start_processes(count, module, *arguments, cwd=cwd), time.monotonic() + timeout
    return [process.completed(until - time.monotonic()) for process in started]


def _pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)  # a message stays in one piece


@cache
def _server() -> socket.socket:
    """Start the server of this process; it ends with it."""
    ours, theirs = _pair()
    # a process with threads cannot be forked: OpenBLAS and jemalloc start theirs when they are loaded
    alone = {"OPENBLAS_NUM_THREADS": "1", "JE_ARROW_MALLOC_CONF": "background_thread:false"}
    with theirs:
        server = subprocess.Popen(
            [sys.executable, "-c", "from tests import commands; commands._serve()"],
            cwd=ROOT, env={**os.environ, **alone}, stdin=theirs, start_new_session=True,
        )  # fmt: skip

    def end() -> None:
        ours.close()
        server.wait()

    atexit.register(end)
    return ours


def _serve() -> None:
    """Fork for each request on standard input; the fork becomes what is requested, and returns at its end."""
    atexit.register(_leave)  # the first: called last
    _import_what_commands_import()
    control, running = socket.socket(fileno=os.dup(0)), dict[int, socket.socket]()
    while True:
        for pid in list(running):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                with running.pop(pid) as channel, suppress(OSError):  # perhaps nobody waits for it
                    channel.send(str(os.waitstatus_to_exitcode(status)).encode())
        if not select.select([control], [], [], _LOOK if running else None)[0]:
            continue
        said, files, *_ = socket.recv_fds(control, 1 << 20, 3)
        if not said:  # pytest has ended
            for pid in running:
                os.kill(pid, signal.SIGKILL)
            return
        pid = os.fork()
        if not pid:
            for held in (control, *running.values()):
                held.close()
            return _become(files, **json.loads(said))
        channel = socket.socket(fileno=files[0])
        channel.send(str(pid).encode())
        running[pid] = channel
        for file in files[1:]:
            os.close(file)


def _import_what_commands_import() -> None:
    """Import every module but those that are run, which runpy must not find imported."""
    for package in _PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if '__name__ == "__main__"' not in path.read_text("utf-8"):
                parts = path.relative_to(ROOT).with_suffix("").parts
                import_module(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    threads = [Path(f"/proc/self/task/{task}/comm").read_text() for task in os.listdir("/proc/self/task")]
    assert len(threads) == 1, threads
    gc.freeze()  # what is here outlives every command


def _become(files: list[int], *, argv: list[str], cwd: str, env: dict[str, str]) -> None:
    """Run a module as ``python -m`` does, from the place where it would find itself."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background of a shell ignores it
    channel, *written = files
    os.close(channel)
    for number, file in enumerate((os.open(os.devnull, os.O_RDONLY), *written)):
        os.dup2(file, number)
        os.close(file)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.path[0], sys.argv[:] = cwd, argv
    try:
        runpy.run_module(argv[0], run_name="__main__", alter_sys=True)
        _exit_code[0] = 0
    except SystemExit as end:
        _exit_code[0] = end.code if isinstance(end.code, int) else int(end.code is not None)
        raise


def _leave() -> None:
    """End after what is done at an exit, without taking the interpreter down, which takes a second."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(_exit_code[0] & 0xFF)
