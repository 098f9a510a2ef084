"""Run a study: take trials from the ledger, start them under the supervisor, tell how they ended."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any

from filelock import FileLock, Timeout
from optuna.trial import Trial

from ablations.ledger import Cell, Ledger
from ablations.objectives import losses_against
from ablations.outcome import write_outcome
from ablations.own_terms import own_terms
from ablations.status import Display
from ablations.storage import MOST_RETRIES, Storage
from ablations.study import Arm, Study
from ablations.supervisor import Running, Supervisor
from ablations.trial import TrialSpec, is_no_space, result_of, trial_folder, write_failure
from crossgap.errors import InputError
from crossgap.records import read_json, write_json, write_text
from pretrain.config import TrainConfig

STUDY = "study.json"
_LOCK = ".lock"
_COORDINATOR = ".coordinator.json"
_ATTEMPTS = "attempts.json"
_LOOK = 1.0  # seconds between two looks at what the trials do


@dataclass(eq=False)
class _Ticket:
    """A trial of Optuna's under way: an arm with the seeds that it still has to run.

    A cell of a grid has one seed, a point of a search all of them. ``trial`` is None for the baseline of a
    search, which is measured beside it. ``found`` are the objectives by seed.
    """

    trial: Trial | None
    arm: Arm
    seeds: list[int]
    found: dict[int, Mapping[str, float | None]] = field(default_factory=dict)


class Interrupted(Exception):  # noqa: N818  (it says what happened)
    """The study was asked to stop; ``code`` is the exit code that says so."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@dataclass
class Coordinator:
    """One process's part in running a study.

    Args:
        plan: the study, with the seeds that are wanted.
        folder: of the study.
        total: trials to have in the end: the first cells of the grid, or points of the search.
        template: what all its trials have in common.
        workers: trials side by side.
    """

    plan: Study
    folder: Path
    total: int
    template: TrialSpec
    storage: Storage
    workers: int
    supervisor: Supervisor

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.storage, self.plan.name, self.plan.search, self.plan.search.objectives)
        self._tickets: dict[Running, _Ticket] = {}
        self._going_on: list[_Ticket] = []
        self._baseline: dict[int, Mapping[str, float | None]] = {}
        self._asked = 0
        self._code = 0
        self._beat = 0.0
        self._no_space: Path | None = None

    @property
    def _draws(self) -> bool:
        return self.plan.mode != "grid"

    def run(self) -> None:
        """Run what is missing; the caller holds the study's folder unless the storage is shared.

        Raises:
            Interrupted: Ctrl-C or SIGTERM; what ran can go on.
            InputError: the disk is full, or the baseline of a search failed.
        """
        self.ledger.release_orphans()
        with self._held_for_a_moment():
            if self._draws:
                self.ledger.queue_points(self.total)
            else:
                self.ledger.queue_cells(self._cells, lambda cell: result_of(self._folder(*cell)) is not None)
            self._write_study()
        if self._draws:
            base = self.plan.arm(self.plan.baseline)
            self._going_on = [_Ticket(None, base, [seed]) for seed in self.plan.seeds]
        done, total = self._progress()
        with self._signals(), Display(total, done) as display:
            try:
                self._loop(display)
            except OSError as error:
                if not is_no_space(error):
                    raise
                self._no_space = self._no_space or self.folder
            finally:
                self.supervisor.kill()
        if self._no_space is not None:
            raise InputError(
                f"no space left on the disk of {self._no_space}; free some, and the same command goes on"
            )
        with self._held_for_a_moment():
            self._write_study()
            if self._draws:
                write_outcome(self.folder, self.ledger.study, self.plan.search)

    # the loop

    def _loop(self, display: Display) -> None:
        while True:
            if self._asked:
                self.supervisor.ask_to_end()  # one may have been starting when the signal came
            self._live()  # before taking: what it puts back into the queue, nobody else may be there to take
            self._fill(display)
            waiting_elsewhere = self.storage.shared and not self._asked and self.ledger.any_running()
            if not self.supervisor.running and (self._asked or not (self._going_on or waiting_elsewhere)):
                break
            for running in self.supervisor.ended(_LOOK):
                self._close(running, display)
            display.update()
        for ticket in self._going_on:
            self._put_back(ticket)
        if self._no_space is None and self._asked:
            raise Interrupted(self._code)

    def _fill(self, display: Display) -> None:
        """Start trials while there is room."""
        while len(self.supervisor.running) < self.workers and not self._asked:
            ticket = self._going_on.pop(0) if self._going_on else self._take()
            if ticket is None:
                return
            self._proceed(ticket, display)

    def _take(self) -> _Ticket | None:
        if not self._draws:
            waiting = self._under_way()
            wanted = [cell for cell in self._cells if cell not in waiting]
            taken = self.ledger.take_cell([arm.name for arm in self.plan.arms], wanted)
            if taken is None:
                return None
            trial, (arm, seed) = taken
            return _Ticket(trial, self.plan.arm(arm), [seed])
        if len(self._baseline) < len(self.plan.seeds):
            return None  # points are compared with the baseline: it comes first
        point = self.ledger.take_point(self.plan.axes, self.total)
        if point is None:
            return None
        trial, number, settings = point
        arm_of_point = self.plan.point(number, settings)
        self.ledger.note(trial, {"arm": arm_of_point.name})
        with self._held_for_a_moment():
            self._write_study()
        return _Ticket(trial, arm_of_point, list(self.plan.seeds))

    def _proceed(self, ticket: _Ticket, display: Display) -> None:
        """Start the next run of a ticket, or tell how it ended if there is none."""
        while ticket.seeds:
            spec = self._spec(ticket.arm, ticket.seeds[0])
            result = result_of(spec.folder)
            if result is None and not _try_again(spec):
                result = result_of(spec.folder)
            if result is None:
                self._tickets[self.supervisor.start(spec)] = ticket
                display.started(spec)
                return
            ticket.seeds.pop(0)
            if not self._absorb(ticket, spec, result):
                return
        self._tell(ticket)

    def _close(self, running: Running, display: Display) -> None:
        """Take in how a run ended."""
        ticket, spec = self._tickets.pop(running), running.spec
        if result_of(spec.folder) is None:
            if running.no_space:
                self._no_space = spec.folder
                self._asked = max(self._asked, 1)
                self.supervisor.ask_to_end()
            if running.no_space or running.stopped or running.busy:
                if self._asked or running.busy:
                    _forget_attempt(spec.folder)
                display.finished(
                    spec, None, "another process holds it" if running.busy else "stopped; it can go on"
                )
                (self._put_back if self._asked else self._going_on.append)(ticket)
                return
            write_failure(spec, running.why())
        display.finished(spec, result_of(spec.folder), "")
        self._proceed(ticket, display) if not self._asked else self._settle(ticket, display)

    def _settle(self, ticket: _Ticket, display: Display) -> None:
        """Tell of a ticket whose last run has ended; put back one that would need another."""
        if all(result_of(self._folder(ticket.arm.name, seed)) is not None for seed in ticket.seeds):
            self._proceed(ticket, display)
        else:
            self._put_back(ticket)

    def _put_back(self, ticket: _Ticket) -> None:
        if ticket.trial is not None:
            self.ledger.release(ticket.trial)

    # what a result means

    def _absorb(self, ticket: _Ticket, spec: TrialSpec, result: dict[str, Any]) -> bool:
        """Take in the result of a seed; False if the ticket is closed by it."""
        if result["state"] != "complete":
            reason = f"{spec.folder.name}: {result.get('reason', result['state'])}"
            if ticket.trial is None:
                raise InputError(
                    f"the baseline that points are compared with failed: {reason}; mend it and remove "
                    f"{spec.folder / 'result.json'}"
                )
            self._skip(ticket, f"{spec.folder.name} has no result", state="skipped")
            self.ledger.tell(ticket.trial, (), reason=reason)
            return False
        objectives = result["objectives"]
        if ticket.trial is None:
            self._baseline[spec.seed] = objectives
            if len(self._baseline) == len(self.plan.seeds):
                self.ledger.study.set_user_attr("baseline", _mean(self._baseline))
            return True
        ticket.found[spec.seed] = objectives
        if self._draws and ticket.seeds:
            (name,) = self.plan.search.objectives[:1]
            value = _mean(ticket.found)[name]
            if value is not None and self.ledger.report(ticket.trial, value, len(ticket.found) - 1):
                reason = (
                    f"pruned after {len(ticket.found)} of {len(self.plan.seeds)} seeds: {name} {value:.4f}"
                )
                self._skip(ticket, reason, state="pruned")
                self.ledger.prune(ticket.trial, reason)
                return False
        return True

    def _tell(self, ticket: _Ticket) -> None:
        """Tell the values of a ticket all of whose runs are complete."""
        if ticket.trial is None:
            return
        means = _mean(ticket.found)
        if self._draws:
            limits = self.plan.search.at_most
            self.ledger.constrain(ticket.trial, losses_against(_mean(self._baseline), means, limits))
            self.ledger.note(ticket.trial, {"objectives": means})
        self.ledger.tell(ticket.trial, [means.get(name) for name in self.plan.search.objectives])

    def _skip(self, ticket: _Ticket, reason: str, *, state: str) -> None:
        """Say of the seeds that will not be run why."""
        for seed in ticket.seeds:
            spec = self._spec(ticket.arm, seed)
            if result_of(spec.folder) is None:
                write_failure(spec, reason, state=state)
        ticket.seeds.clear()

    # names and files

    @property
    def _cells(self) -> list[Cell]:
        return self.plan.cells()[: self.total]

    def _folder(self, arm: str, seed: int) -> Path:
        return trial_folder(self.folder, arm, seed)

    def _spec(self, arm: Arm, seed: int) -> TrialSpec:
        return replace(
            self.template,
            arm=arm,
            seed=seed,
            folder=self._folder(arm.name, seed),
            evaluation=self.plan.evaluation_of(arm),
            own_terms=own_terms(arm.train.objective.weights, self.plan.source),
        )

    def _under_way(self) -> set[Cell]:
        """List the cells whose model is being trained here for another cell: they wait and take it over."""
        trained = [(_model(running.spec.arm), running.spec.seed) for running in self._tickets]
        return {cell for cell in self._cells if (_model(self.plan.arm(cell[0])), cell[1]) in trained}

    def _progress(self) -> tuple[int, int]:
        """Count the models that are finished, and those that there will be."""
        if self._draws:
            done = len(list(self.folder.glob("trials/*/result.json")))
            return done, max(done, (self.total + 1) * len(self.plan.seeds))
        return sum(result_of(self._folder(*cell)) is not None for cell in self._cells), len(self._cells)

    def _write_study(self) -> None:
        """Write ``study.json``: what was asked for here and before, and the points drawn so far."""
        path = self.folder / STUDY
        before = read_json(path) if path.exists() else {}
        seeds = tuple(sorted({*self.plan.seeds, *before.get("seeds", [])}))
        document = {**replace(self.plan, seeds=seeds).as_json(), "machine": self._machine}
        if self._draws:
            names = [axis.name for axis in self.plan.axes]
            for number, params in sorted(self.ledger.points().items()):
                arm = self.plan.point(number, {name: params[name] for name in names if name in params})
                about = {"name": arm.name, "label": arm.label, "description": arm.description}
                document["arms"].append(about)
        if document != before:
            write_json(path, document)

    @property
    def _machine(self) -> dict[str, object]:
        return machine(self.template.device, self.template.threads, self.storage.name)

    # life signs, signals, locks

    def _live(self) -> None:
        """Say that what runs here is alive, and take over what a silent coordinator left."""
        now = time.monotonic()
        if self.storage.shared and now - self._beat >= self.storage.heartbeat:
            self._beat = now
            tickets = [*self._tickets.values(), *self._going_on]
            self.ledger.beat(ticket.trial._trial_id for ticket in tickets if ticket.trial is not None)
            self.ledger.retry_stale()

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """The first Ctrl-C or SIGTERM lets trials write what they have, the second ends them at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def asked(number: int, _: FrameType | None) -> None:
            self._asked += 1
            self._code = 128 + number
            if self._asked == 1:
                self.supervisor.ask_to_end()
            else:
                self.supervisor.kill()
                os._exit(self._code)

        before = {number: signal.signal(number, asked) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def _held_for_a_moment(self) -> Iterator[None]:
        """Keep other coordinators from the files of the study; one with its own storage holds it anyway."""
        if not self.storage.shared:
            yield
            return
        with FileLock(self.folder / _LOCK, timeout=120):
            yield


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the folder of a study as its only coordinator.

    Raises:
        InputError: another process does, named by its id.
    """
    folder.mkdir(parents=True, exist_ok=True)
    about = folder / _COORDINATOR
    try:
        with FileLock(folder / _LOCK, timeout=0):
            write_json(about, {"pid": os.getpid(), "host": socket.gethostname()})
            yield
    except Timeout as error:
        other = read_json(about) if about.exists() else {}
        who = f"process {other.get('pid', '?')} on {other.get('host', 'an unknown machine')}"
        raise InputError(
            f"another sweep ({who}) is running in {folder}; wait for it, or choose another --out"
        ) from error


def machine(device: str, threads: int, storage: str) -> dict[str, object]:
    """Say what of a machine decides bits, and where the study is kept."""
    return {"device": device, "threads": threads, "storage": storage}


def collect_rows(folder: Path) -> None:
    """Write the study's own rows: those of its complete trials, in the order of its arms and seeds."""
    study = read_json(folder / STUDY)
    paths = [
        trial_folder(folder, arm["name"], seed) / "rows.jsonl"
        for seed in study["seeds"]
        for arm in study["arms"]
    ]
    text = "".join(path.read_text("utf-8") for path in paths if path.exists())
    if not (folder / "rows.jsonl").exists() or (folder / "rows.jsonl").read_text("utf-8") != text:
        write_text(folder / "rows.jsonl", text)


def _model(arm: Arm) -> TrainConfig:
    """Say what decides an arm's model: arms that share it differ in their evaluation or by name alone."""
    return replace(arm.train, recipe="")


def _mean(by_seed: Mapping[int, Mapping[str, float | None]]) -> dict[str, float | None]:
    """Average objectives over seeds; one that a seed does not have, none has."""
    means: dict[str, float | None] = {}
    for name in {name for values in by_seed.values() for name in values}:
        found = [values.get(name) for values in by_seed.values()]
        known = [value for value in found if value is not None]
        means[name] = sum(known) / len(known) if known and len(known) == len(found) else None
    return dict(sorted(means.items()))


def _try_again(spec: TrialSpec) -> bool:
    """Count a start of a trial; after two retries of one that never ended it is given up."""
    path = spec.folder / _ATTEMPTS
    started = read_json(path)["started"] if path.exists() else 0
    if started > MOST_RETRIES:
        reason = (
            f"given up: {started} times its process or the study's ended before it had a result; "
            f"to try again, remove {_ATTEMPTS} and result.json"
        )
        write_failure(spec, reason)
        return False
    write_json(path, {"started": started + 1})
    return True


def _forget_attempt(folder: Path) -> None:
    """Take back the count of a trial that was stopped cleanly."""
    path = folder / _ATTEMPTS
    if path.exists():
        write_json(path, {"started": max(0, read_json(path)["started"] - 1)})
