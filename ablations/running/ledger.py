"""What Optuna knows of a study: which trials there are, who has which, and how they ended.

Every trial is put into Optuna's queue before any is run: a cell of the grid with its arm and seed, a point of
a search as a number whose settings the sampler chooses when it is taken. Taking one is atomic in every
storage, so that no two coordinators have the same, and there are exactly as many as were asked for.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from ablations.running.storage import Storage
from ablations.search import Search
from ablations.study.axes import Axis, Settings, suggest_settings

Cell = tuple[str, int]

_POINT = "point"
_MOST_SEED = 2**31 - 1
_DONE = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


def suggest_cell(trial: optuna.trial.BaseTrial, arms: Sequence[str]) -> Cell:
    """Map a trial to (arm, seed): a pure function of the trial."""
    arm = trial.suggest_categorical("arm", arms)
    # a seed has no order: a wide range of whole numbers, so that the list of seeds may grow
    seed = trial.suggest_int("seed", 0, _MOST_SEED)
    return arm, seed


def cell_params(cell: Cell) -> dict[str, str | int]:
    """Give the parameters that make :func:`suggest_cell` return ``cell``."""
    arm, seed = cell
    return {"arm": arm, "seed": seed}


class Ledger:
    """Optuna's study, through the few things that a coordinator does with it."""

    def __init__(self, storage: Storage, name: str, search: Search, metrics: Sequence[str]) -> None:
        self.search = search
        self._shared = storage.shared
        self._backend: BaseStorage = storage.backend
        self.study = optuna.create_study(
            study_name=name,
            storage=storage.backend,
            directions=search.directions,
            sampler=search.make_sampler(),
            pruner=search.make_pruner(),
            load_if_exists=True,
        )
        if self.study.user_attrs.get("metrics") != list(metrics):
            self.study.set_user_attr("metrics", list(metrics))

    # what there is to do

    def queue_cells(self, cells: Iterable[Cell], finished: Callable[[Cell], bool]) -> None:
        """Queue the cells of a grid that are neither finished nor under way; the caller is alone doing so."""
        under_way = {_cell_of(frozen) for frozen in self._trials(TrialState.WAITING, TrialState.RUNNING)}
        told = {_cell_of(frozen) for frozen in self._trials(*_DONE)}
        for cell in cells:
            if cell not in under_way and not (finished(cell) and cell in told):
                self.study.enqueue_trial(cell_params(cell))

    def queue_points(self, total: int) -> None:
        """Queue points of a search up to ``total``; the caller is alone doing so."""
        queued = {frozen.user_attrs[_POINT] for frozen in self.study.get_trials(deepcopy=False)}
        for point in range(total):
            if point not in queued:
                self.study.enqueue_trial({}, user_attrs={_POINT: point})

    def release(self, trial: Trial | FrozenTrial) -> None:
        """Put a trial that was stopped before its end back into the queue."""
        self._backend.set_trial_state_values(trial._trial_id, state=TrialState.WAITING)

    def release_orphans(self) -> None:
        """Put trials of a coordinator that is gone back into the queue.

        Only of a storage with one coordinator: nobody else runs, so what is still running is not.
        """
        if not self._shared:
            for frozen in self._trials(TrialState.RUNNING):
                self.release(frozen)

    # taking and telling

    def take_cell(self, arms: Sequence[str], wanted: Collection[Cell]) -> tuple[Trial, Cell] | None:
        """Take the next cell of a grid that is wanted; None if none is waiting."""
        trial = self._take(lambda frozen: _cell_of(frozen) in wanted)
        return None if trial is None else (trial, suggest_cell(trial, arms))

    def take_point(self, axes: Sequence[Axis], total: int) -> tuple[Trial, int, Settings] | None:
        """Take the next of the first ``total`` points and let the sampler choose its settings."""
        trial = self._take(lambda frozen: frozen.user_attrs[_POINT] < total)
        if trial is None:
            return None
        return trial, trial.user_attrs[_POINT], suggest_settings(trial, axes)

    def _take(self, wanted: Callable[[FrozenTrial], bool]) -> Trial | None:
        for frozen in self._trials(TrialState.WAITING):
            if not wanted(frozen):
                continue
            try:
                taken = self._backend.set_trial_state_values(frozen._trial_id, state=TrialState.RUNNING)
            except UpdateFinishedTrialError:  # another coordinator was faster by a whole trial
                continue
            if taken:
                self.beat([frozen._trial_id])
                self._seed_sampler(frozen.number)
                return Trial(self.study, frozen._trial_id)
        return None

    def _seed_sampler(self, number: int) -> None:
        """Draw from a stream of the trial's own: what a resumed study draws does not depend on the stop."""
        if self.search.sampler == "QMCSampler":  # its sequence is one for all trials
            return
        digest = hashlib.sha256(f"{self.search.seed}:{number}".encode()).digest()
        self.study.sampler = self.search.make_sampler(seed=int.from_bytes(digest[:4], "big"))

    def tell(self, trial: Trial | FrozenTrial, values: Sequence[float | None], *, reason: str = "") -> None:
        """Tell the values of a trial, or that it failed, with the reason; told before, nothing happens."""
        measured = [value for value in values if value is not None]
        if reason or len(measured) < len(self.search.objectives):
            missing = [
                name for name, value in zip(self.search.objectives, values, strict=False) if value is None
            ]
            self._finish(trial, TrialState.FAIL, None, reason or f"not measured: {', '.join(missing)}")
        else:
            self._finish(trial, TrialState.COMPLETE, measured, "")

    def report(self, trial: Trial, value: float, step: int) -> bool:
        """Report a value on the way and say whether the pruner would stop here."""
        if len(self.search.objectives) > 1:
            return False
        if step not in self._backend.get_trial(trial._trial_id).intermediate_values:
            trial.report(value, step)
        return trial.should_prune()

    def prune(self, trial: Trial, reason: str) -> None:
        """Tell that a trial was stopped by the pruner; its last report is its value."""
        last = self._backend.get_trial(trial._trial_id)
        steps = last.intermediate_values
        self._finish(trial, TrialState.PRUNED, [steps[max(steps)]] if steps else None, reason)

    def note(self, trial: Trial, values: Mapping[str, Any]) -> None:
        """Keep what describes a trial beside it."""
        for name, value in values.items():
            if trial.user_attrs.get(name) != value:
                trial.set_user_attr(name, value)

    def constrain(self, trial: Trial, over: Mapping[str, float]) -> None:
        """Say how far each constraint is violated; at most 0 is feasible."""
        recorded = trial.constraints
        for name, value in over.items():
            if name not in recorded:
                trial.set_constraint(name, value)

    def _finish(
        self, trial: Trial | FrozenTrial, state: TrialState, values: Sequence[float] | None, reason: str
    ) -> None:
        try:
            if reason:
                self._backend.set_trial_user_attr(trial._trial_id, "reason", reason)
            self._backend.set_trial_state_values(trial._trial_id, state=state, values=values)
        except UpdateFinishedTrialError:
            return  # a shared storage held its coordinator for dead and gave it to another; the files stand

    # life signs of a shared storage

    def beat(self, trials: Iterable[int]) -> None:
        """Say that trials, by their ids, are alive."""
        if self._shared and isinstance(self._backend, RDBStorage):
            for trial in trials:
                self._backend.record_heartbeat(trial)

    def retry_stale(self) -> None:
        """Put trials whose coordinator went silent back into the queue, each at most twice."""
        if self._shared:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                optuna.storages.fail_stale_trials(self.study)

    def counts(self) -> dict[str, int]:
        """Count the trials by their state, as ``complete``."""
        counts: dict[str, int] = {}
        for frozen in self.study.get_trials(deepcopy=False):
            state = frozen.state.name.lower()
            counts[state] = counts.get(state, 0) + 1
        return counts

    def any_running(self) -> bool:
        """Tell whether any trial is under way, here or elsewhere."""
        return bool(self._trials(TrialState.RUNNING))

    def points(self) -> dict[int, dict[str, Any]]:
        """Give the parameters of each point whose settings have all been chosen."""
        taken = self._trials(TrialState.RUNNING, *_DONE)
        return {frozen.user_attrs[_POINT]: frozen.params for frozen in taken if "arm" in frozen.user_attrs}

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=states)


def _cell_of(frozen: FrozenTrial) -> Cell:
    params = {**frozen.system_attrs.get("fixed_params", {}), **frozen.params}
    return str(params["arm"]), int(params["seed"])
