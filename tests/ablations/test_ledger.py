"""The queue of a study in Optuna: every trial once, whoever takes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest
from optuna.trial import TrialState

from ablations.running.ledger import Ledger
from ablations.running.storage import open_storage
from ablations.search import Search
from ablations.study.axes import Axis
from tests.many_workers import RATE, TRIALS, count_of_each, start_workers


def ledger(folder: Path, **search: object) -> Ledger:
    folder.mkdir(parents=True, exist_ok=True)
    given = Search(objectives=("intra_modal",), **search)  # type: ignore[arg-type]
    return Ledger(open_storage("journal", folder), "t", given, ["x"])


@pytest.mark.slow
def test_eight_processes_on_one_journal_take_each_trial_once(tmp_path: Path) -> None:
    made = ledger(tmp_path)
    made.queue_points(TRIALS)
    for process in start_workers("journal", tmp_path, 8):
        process.join(timeout=120)
        assert process.exitcode == 0
    assert made.counts() == {"complete": TRIALS}
    assert set(count_of_each(tmp_path).values()) == {1}
    assert len(count_of_each(tmp_path)) == TRIALS


def test_points_and_cells_are_queued_once_and_may_grow(tmp_path: Path) -> None:
    made = ledger(tmp_path)
    for total in (3, 3, 5):
        made.queue_points(total)
    assert made.counts() == {"waiting": 5}
    assert [made.take_point((RATE,), 2) is not None for _ in range(3)] == [True, True, False]
    cells = ledger(tmp_path / "cells")
    grid = [("a", 0), ("b", 0)]
    cells.queue_cells(grid, lambda cell: False)
    cells.queue_cells([*grid, ("a", 1)], lambda cell: False)
    taken = [cells.take_cell(["a", "b"], {("b", 0), ("a", 1)}) for _ in range(3)]
    assert [None if one is None else one[1] for one in taken] == [("b", 0), ("a", 1), None]


def test_a_finished_cell_is_not_queued_again_unless_its_result_is_gone(tmp_path: Path) -> None:
    made = ledger(tmp_path)
    made.queue_cells([("a", 0)], lambda cell: False)
    taken = made.take_cell(["a"], {("a", 0)})
    assert taken is not None
    made.tell(taken[0], (), reason="it broke")
    made.queue_cells([("a", 0)], lambda cell: True)
    assert made.counts() == {"fail": 1}
    made.queue_cells([("a", 0)], lambda cell: False)
    assert made.counts() == {"fail": 1, "waiting": 1}


def test_what_was_told_is_not_told_again_and_what_is_missing_is_named(tmp_path: Path) -> None:
    made = ledger(tmp_path)
    made.queue_points(2)
    first, second = made.take_point((RATE,), 2), made.take_point((RATE,), 2)
    assert first is not None
    assert second is not None
    made.tell(first[0], [0.5])
    made.tell(first[0], [0.7])
    made.tell(second[0], [None])
    trials = made.study.trials
    assert trials[0].value == 0.5
    assert trials[1].state == TrialState.FAIL
    assert trials[1].user_attrs["reason"] == "not measured: intra_modal"


def test_orphans_of_one_coordinator_wait_again_with_what_was_chosen(tmp_path: Path) -> None:
    made = ledger(tmp_path)
    made.queue_points(2)
    taken = made.take_point((RATE,), 2)
    assert taken is not None
    again = ledger(tmp_path)
    again.release_orphans()
    assert again.counts() == {"waiting": 2}
    retaken = again.take_point((RATE,), 2)
    assert retaken is not None
    assert retaken[1:] == taken[1:]


def test_draws_do_not_depend_on_who_drew_before(tmp_path: Path) -> None:
    drawn = []
    for name in ("one", "other"):
        made = ledger(tmp_path / name, seed=3)
        made.queue_points(3)
        for _ in range(3):
            if name == "other":
                made = ledger(tmp_path / name, seed=3)
            taken = made.take_point((RATE,), 3)
            assert taken is not None
            drawn.append(taken[2])
    assert drawn[:3] == drawn[3:]
    assert drawn[0] != drawn[1]


@pytest.mark.parametrize("sampler", ["TPESampler", "GPSampler", "QMCSampler", "NSGAIISampler"])
def test_samplers_draw_conditional_axes(tmp_path: Path, sampler: str) -> None:
    axes = (
        Axis(name="objective.temperature.regime", choices=("fixed", "learnable")),
        Axis(name="objective.temperature.initial", low=0.01, high=1.0, log=True,
             when={"objective.temperature.regime": "fixed"}),
        RATE,
    )  # fmt: skip
    made = ledger(tmp_path, sampler=sampler)
    made.queue_points(14)
    for _ in range(14):
        taken = made.take_point(axes, 14)
        assert taken is not None
        trial, _, settings = taken
        assert ("objective.temperature.initial" in settings) is (
            settings["objective.temperature.regime"] == "fixed"
        )
        made.tell(trial, [float(settings["learning_rate"])])
    assert made.counts() == {"complete": 14}


def test_the_dashboard_shows_a_study(tmp_path: Path) -> None:
    from optuna_dashboard import wsgi

    made = ledger(tmp_path)
    made.queue_points(2)
    taken = made.take_point((RATE,), 2)
    assert taken is not None
    made.tell(taken[0], [0.25])
    app = wsgi(open_storage("journal", tmp_path).backend)
    study_id = made.study._study_id
    studies, trials = (asked(app, path) for path in ("/api/studies", f"/api/studies/{study_id}"))
    assert [study["study_name"] for study in studies["study_summaries"]] == ["t"]
    assert [trial["state"] for trial in trials["trials"]] == ["Complete", "Waiting"]


def asked(app: Any, path: str) -> Any:
    """Call a WSGI application as a browser would."""
    environ: dict[str, Any] = {"PATH_INFO": path}
    setup_testing_defaults(environ)
    states: list[str] = []
    body = b"".join(app(environ, lambda status, headers, error=None: states.append(status)))
    assert states == ["200 OK"]
    return json.loads(body)
