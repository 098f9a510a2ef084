"""Ctrl-C and SIGTERM: the first lets trials write what they have, the second ends them at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from ablations.running.supervisor import Supervisor


class StopRequests:
    """How often a study was asked to stop, and the exit code that says by what."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.supervisor = supervisor
        self.times = 0
        self.code = 0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Count the signals while it is open; outside the main thread there are none."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._asked) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _asked(self, number: int, _: FrameType | None) -> None:
        self.times += 1
        self.code = 128 + number
        if self.times == 1:
            self.supervisor.ask_to_end()
        else:
            self.supervisor.kill()
            os._exit(self.code)
