"""Processes that take trials of one queue side by side, in tests."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections import Counter
from multiprocessing.process import BaseProcess
from pathlib import Path

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from ablations.running.ledger import Ledger
from ablations.running.storage import JOURNAL, Storage, open_storage
from ablations.search import Search
from ablations.study.axes import Axis

RATE = Axis(name="learning_rate", low=1e-4, high=1e-2, log=True)
TRIALS = 200


def start_workers(storage: str, folder: Path, count: int, *, hang: str = "") -> list[BaseProcess]:
    """Start processes that take trials until there are none; they keep the first they take (``hang``)."""
    context = multiprocessing.get_context("forkserver")
    # one server serves a process of pytest: it has what trials need too, whoever starts it
    context.set_forkserver_preload(["ablations.running.warm", "tests.many_workers"])
    processes: list[BaseProcess] = [
        context.Process(target=work, args=(storage, folder, hang)) for _ in range(count)
    ]
    for process in processes:
        process.start()
    return processes


def count_of_each(folder: Path) -> Counter[str]:
    """Count how often each point was told, over all processes."""
    return Counter(line for path in folder.glob("told-*") for line in path.read_text().split())


def work(storage: str, folder: Path, hang: str) -> None:
    """Take trials, tell each a value at once, and note which they were."""
    if storage == "journal":  # without the mending that a lone coordinator does
        backend = JournalStorage(JournalFileBackend(str(folder / JOURNAL)))
        opened = Storage(backend, "journal", shared=False)
    else:
        opened = open_storage(storage, folder, heartbeat=1)
    made = Ledger(opened, "t", Search(objectives=("intra_modal",)), ["x"])
    with (folder / f"told-{os.getpid()}").open("w") as told:
        while True:
            made.retry_stale()
            taken = made.take_point((RATE,), TRIALS)
            if taken is None:
                if not made.any_running():
                    return
                time.sleep(0.2)
                continue
            trial, point, settings = taken
            if hang:
                (folder / hang).write_text(str(point))
                time.sleep(600)
            made.tell(trial, [float(settings["learning_rate"])])
            told.write(f"{point}\n")
