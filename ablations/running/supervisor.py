"""Trials in processes of their own: forked from a warm server, watched, limited, and ended as a group."""

from __future__ import annotations

import ctypes
import faulthandler
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil

from ablations.running.spec import LOG, TrialSpec
from ablations.running.trial import BUSY, NO_SPACE, run_trial

STOPPED = 128 + signal.SIGTERM  # exit code of a training that was asked to end and wrote a checkpoint
_LOOK = 0.5  # seconds between two looks at the limits


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a trial may use: seconds by the clock, GiB of memory of all its processes; None: any.

    ``grace`` are the seconds between asking a trial to end and ending it.
    """

    seconds: float | None = None
    memory: float | None = None
    grace: float = 60.0


@dataclass(eq=False)
class Running:
    """A trial's process.

    ``begun`` is told when the trial itself begins, which is seen at ``started``: what the server that it is
    forked from has to load before is none of the trial's time. ``ended_for`` says why it was ended.
    """

    spec: TrialSpec
    process: BaseProcess
    device: int | None
    begun: Connection
    started: float | None = None
    ended_for: str = ""
    asked: float | None = None

    @property
    def exit_code(self) -> int | None:
        """Of the process: negative is a signal."""
        return self.process.exitcode

    @property
    def no_space(self) -> bool:
        """Whether it found its disk full."""
        return self.exit_code == NO_SPACE

    @property
    def busy(self) -> bool:
        """Whether another live process holds its folder."""
        return self.exit_code == BUSY

    @property
    def stopped(self) -> bool:
        """Whether it was asked to end (not by a limit), and can go on later."""
        asked = self.asked is not None or self.exit_code in (STOPPED, -signal.SIGTERM)
        return asked and not self.ended_for

    def why(self) -> str:
        """Say in words why there is no result."""
        code = self.exit_code
        if self.ended_for:
            return self.ended_for
        if code is not None and code < 0:
            name = signal.Signals(-code).name
            hint = ": perhaps the system ran out of memory" if -code == signal.SIGKILL else ""
            return f"its process was ended by {name}{hint}"
        return f"its process ended with code {code} before it had a result"


@dataclass
class Supervisor:
    """Starts trials and ends them.

    Args:
        limits: of each trial.
        devices: numbers of the CUDA devices of the pool; without any, trials have no device of their own.
        work: what a trial's process does, a function of a module.
    """

    limits: Limits = field(default_factory=Limits)
    devices: Sequence[int] = ()
    work: Callable[[TrialSpec], None] = run_trial
    running: list[Running] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["ablations.running.warm", self.work.__module__])
        self._looked = time.monotonic()

    def start(self, spec: TrialSpec) -> Running:
        """Start a trial on a free device of the pool."""
        taken = [running.device for running in self.running]
        free = [device for device in self.devices if device not in taken]
        device = free[0] if free else None
        spec.folder.mkdir(parents=True, exist_ok=True)
        begun, begins = self._context.Pipe(duplex=False)
        process: BaseProcess = self._context.Process(target=_in_group, args=(self.work, spec, device, begins))
        process.start()
        begins.close()
        running = Running(spec, process, device, begun)
        self.running.append(running)
        return running

    def ended(self, timeout: float) -> list[Running]:
        """Wait for trials to end, at most so many seconds, and hold the others to their limits."""
        if not self.running:
            time.sleep(timeout)
            return []
        wait([running.process.sentinel for running in self.running], timeout=timeout)
        self._hold_to_limits()
        done = [running for running in self.running if not running.process.is_alive()]
        for running in done:
            running.process.join()
            running.begun.close()
            _signal(running, signal.SIGKILL)  # what it started and left
            self.running.remove(running)
        return done

    def ask_to_end(self) -> None:
        """Ask all trials to write what they have and end."""
        for running in self.running:
            self._ask(running)

    def kill(self) -> None:
        """End all trials at once."""
        for running in self.running:
            _signal(running, signal.SIGKILL)
        for running in self.running:
            running.process.join()
        self.running.clear()

    def _ask(self, running: Running) -> None:
        if running.asked is None:
            running.asked = time.monotonic()
            _signal(running, signal.SIGTERM)

    def _hold_to_limits(self) -> None:
        now = time.monotonic()
        if now - self._looked < _LOOK:
            return
        self._looked = now
        for running in self.running:
            if not running.process.is_alive():
                continue
            if running.asked is not None:
                if now - running.asked > self.limits.grace:
                    _signal(running, signal.SIGKILL)
                continue
            if running.started is None and running.begun.poll():
                running.started = now
            seconds, memory = self.limits.seconds, self.limits.memory
            if seconds is not None and running.started is not None and now - running.started > seconds:
                running.ended_for = f"it took longer than --time-limit {seconds:g} seconds"
                self._ask(running)
            elif memory is not None and (held := _gibibytes(running.process.pid)) > memory:
                running.ended_for = f"it held {held:.2f} GiB, more than --memory-limit {memory:g}"
                _signal(running, signal.SIGKILL)


def _gibibytes(pid: int | None) -> float:
    """Sum the memory of a process and its descendants, shared pages counted once where the system says."""
    total = 0
    try:
        process = psutil.Process(pid)
        for member in (process, *process.children(recursive=True)):
            info = member.memory_full_info()
            total += getattr(info, "pss", info.uss)
    except psutil.Error:  # it has just ended
        return 0.0
    return total / 2**30


def _signal(running: Running, number: signal.Signals) -> None:
    """Send a signal to a trial's process group, or to its process before it has one."""
    pid = running.process.pid
    assert pid is not None
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        if running.process.is_alive():
            os.kill(pid, number)


def _in_group(
    work: Callable[[TrialSpec], None], spec: TrialSpec, device: int | None, begins: Connection
) -> None:
    """Run a trial in a process group of its own, which ends when the coordinator ends, however it does."""
    os.setsid()
    begins.send(None)
    begins.close()
    _end_with_parent()
    if device is not None:  # before anything asks CUDA what there is
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        os.environ["CUDA_VISIBLE_DEVICES"] = visible.split(",")[device] if visible else str(device)
    _write_to(spec.folder / LOG)
    faulthandler.enable(all_threads=False)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the coordinator's to answer
    work(spec)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # all is on disk; to take down an interpreter that has imported torch takes a second


def _end_with_parent() -> None:
    """End the group when the coordinator has ended: by a watching thread, and by the system on Linux.

    The thread ends the whole group, but needs Python to run; the system's signal, which comes when the server
    that this process was forked from ends with the coordinator, reaches a process that hangs elsewhere.
    """
    if sys.platform == "linux":
        set_death_signal = 1  # PR_SET_PDEATHSIG
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.killpg(0, signal.SIGKILL)


def _write_to(log: Path) -> None:
    """Send standard output and error to a file, of this process and of what it starts."""
    sys.stdout.flush()
    sys.stderr.flush()
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.close(target)
