"""Run a study: take trials from the ledger, start them under the supervisor, tell how they ended."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from optuna.trial import Trial

from ablations.objectives import losses_against
from ablations.outcome import write_outcome
from ablations.running.folder import (
    forget_attempt,
    held_for_a_moment,
    machine,
    progress,
    try_again,
    write_study,
)
from ablations.running.ledger import Cell, Ledger
from ablations.running.signals import StopRequests
from ablations.running.spec import TrialSpec, result_of, trial_folder, write_failure
from ablations.running.status import Display
from ablations.running.storage import Storage
from ablations.running.supervisor import Running, Supervisor
from ablations.running.trial import is_no_space
from ablations.study.own_terms import own_terms
from ablations.study.study import Arm, Study
from crossgap.errors import InputError
from pretrain.config import TrainConfig

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
        self._asked = StopRequests(self.supervisor)
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
        with held_for_a_moment(self.folder, shared=self.storage.shared):
            if self._draws:
                self.ledger.queue_points(self.total)
            else:
                self.ledger.queue_cells(self._cells, lambda cell: result_of(self._folder(*cell)) is not None)
            self._write_study()
        if self._draws:
            base = self.plan.arm(self.plan.baseline)
            self._going_on = [_Ticket(None, base, [seed]) for seed in self.plan.seeds]
        done, total = progress(self.folder, self.plan, self.total)
        with self._asked.listening(), Display(total, done) as display:
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
        with held_for_a_moment(self.folder, shared=self.storage.shared):
            self._write_study()
            if self._draws:
                write_outcome(self.folder, self.ledger.study, self.plan.search)

    def _loop(self, display: Display) -> None:
        while True:
            if self._asked.times:
                self.supervisor.ask_to_end()  # one may have been starting when the signal came
            self._live()  # before taking: what it puts back into the queue, nobody else may be there to take
            self._fill(display)
            waiting_elsewhere = self.storage.shared and not self._asked.times and self.ledger.any_running()
            if not self.supervisor.running and (
                self._asked.times or not (self._going_on or waiting_elsewhere)
            ):
                break
            for running in self.supervisor.ended(_LOOK):
                self._close(running, display)
            display.update()
        for ticket in self._going_on:
            self._put_back(ticket)
        if self._no_space is None and self._asked.times:
            raise Interrupted(self._asked.code)

    def _fill(self, display: Display) -> None:
        """Start trials while there is room."""
        while len(self.supervisor.running) < self.workers and not self._asked.times:
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
        with held_for_a_moment(self.folder, shared=self.storage.shared):
            self._write_study()
        return _Ticket(trial, arm_of_point, list(self.plan.seeds))

    def _proceed(self, ticket: _Ticket, display: Display) -> None:
        """Start the next run of a ticket, or tell how it ended if there is none."""
        while ticket.seeds:
            spec = self._spec(ticket.arm, ticket.seeds[0])
            result = result_of(spec.folder)
            if result is None and not try_again(spec):
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
                self._asked.times = max(self._asked.times, 1)
                self.supervisor.ask_to_end()
            if running.no_space or running.stopped or running.busy:
                if self._asked.times or running.busy:
                    forget_attempt(spec.folder)
                display.finished(
                    spec, None, "another process holds it" if running.busy else "stopped; it can go on"
                )
                (self._put_back if self._asked.times else self._going_on.append)(ticket)
                return
            write_failure(spec, running.why())
        display.finished(spec, result_of(spec.folder), "")
        self._proceed(ticket, display) if not self._asked.times else self._settle(ticket, display)

    def _settle(self, ticket: _Ticket, display: Display) -> None:
        """Tell of a ticket whose last run has ended; put back one that would need another."""
        if all(result_of(self._folder(ticket.arm.name, seed)) is not None for seed in ticket.seeds):
            self._proceed(ticket, display)
        else:
            self._put_back(ticket)

    def _put_back(self, ticket: _Ticket) -> None:
        if ticket.trial is not None:
            self.ledger.release(ticket.trial)

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

    def _write_study(self) -> None:
        machine_here = machine(self.template.device, self.template.threads, self.storage.name)
        write_study(self.folder, self.plan, machine_here, self.ledger.points() if self._draws else {})

    def _live(self) -> None:
        """Say that what runs here is alive, and take over what a silent coordinator left."""
        now = time.monotonic()
        if self.storage.shared and now - self._beat >= self.storage.heartbeat:
            self._beat = now
            tickets = [*self._tickets.values(), *self._going_on]
            self.ledger.beat(ticket.trial._trial_id for ticket in tickets if ticket.trial is not None)
            self.ledger.retry_stale()


def _model(arm: Arm) -> TrainConfig:
    """Say what decides an arm's model: arms that share it differ in their evaluation or by name alone."""
    return replace(arm.train, recipe="")


def _mean(by_seed: Mapping[int, Mapping[str, float | None]]) -> dict[str, float | None]:
    """Average objectives over seeds; one that a seed does not have, none has."""
    means: dict[str, float | None] = {}
    for name in {name for values in by_seed.values() for name in values}:
        over_seeds = [values.get(name) for values in by_seed.values()]
        measured = [value for value in over_seeds if value is not None]
        means[name] = sum(measured) / len(measured) if measured and len(measured) == len(over_seeds) else None
    return dict(sorted(means.items()))
