"""A study of trials that end badly, each in a real process: it costs one trial, and the study goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from ablations.running.coordinator import Coordinator, Interrupted
from ablations.running.folder import held, held_for_a_moment
from ablations.running.spec import result_of, trial_folder, write_failure
from ablations.running.storage import JOURNAL, SQLITE, open_storage
from ablations.running.supervisor import Limits, Supervisor
from ablations.search import Search
from ablations.study.axes import Axis
from ablations.study.study import Study
from crossgap.errors import InputError
from crossgap.files import claimed, read_json
from tests import bad_trials
from tests.bad_trials import act, processes_with, study, wait_for

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent.parent
RATE = Axis(name="learning_rate", low=1e-4, high=2e-3)


def coordinator(
    plan: Study, folder: Path, *, total: int | None = None, workers: int = 2, storage: str = "journal",
    **limits: Any,
) -> Coordinator:  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    wanted = total or (len(plan.cells()) if plan.mode == "grid" else plan.search.trials)
    template, opened = bad_trials.spec(plan, folder), open_storage(storage, folder)
    return Coordinator(
        plan,
        folder,
        wanted,
        template,
        opened,
        workers,
        Supervisor(Limits(**{"grace": 2, **limits}), work=act),
    )


def run(plan: Study, folder: Path, **more: Any) -> optuna.Study:
    with held(folder):
        made = coordinator(plan, folder, **more)
        made.run()
    return made.ledger.study


def reasons(folder: Path) -> dict[str, str]:
    return {
        path.parent.name: read_json(path).get("reason", read_json(path)["state"])
        for path in sorted(folder.glob("trials/*/result.json"))
    }


@pytest.mark.parametrize("storage", ["journal", "sqlite"])
def test_each_bad_trial_costs_one_trial_and_says_why(tmp_path: Path, storage: str) -> None:
    plan = study("fine", "segfault", "hang", "exits", "greedy", "also-fine")
    trials = run(plan, tmp_path, storage=storage, seconds=6, memory=0.75).trials
    found = reasons(tmp_path)
    assert found["fine-s0"] == found["also-fine-s0"] == "complete"
    assert "SIGSEGV" in found["segfault-s0"]
    assert "longer than --time-limit 6 seconds" in found["hang-s0"]
    assert "code 3" in found["exits-s0"]
    assert "more than --memory-limit 0.75" in found["greedy-s0"]
    assert [trial.state for trial in trials] == [
        TrialState.COMPLETE if name.endswith("fine") else TrialState.FAIL
        for name in ("fine", "segfault", "hang", "exits", "greedy", "also-fine")
    ]
    assert "SIGSEGV" in trials[1].user_attrs["reason"]
    log = read_json(tmp_path / "trials" / "segfault-s0" / "result.json")["log_tail"]
    assert "segfault begins" in log
    assert any("Segmentation fault" in line for line in log)
    assert (tmp_path / {"journal": JOURNAL, "sqlite": SQLITE}[storage]).exists()


def test_a_trial_that_is_deaf_ends_with_all_that_it_started(tmp_path: Path) -> None:
    started = time.monotonic()
    run(study("deaf", "fine"), tmp_path, seconds=2)
    assert "--time-limit" in reasons(tmp_path)["deaf-s0"]
    assert time.monotonic() - started < 60
    assert not processes_with("child of deaf")


def test_a_full_disk_stops_the_study_and_costs_no_trial(tmp_path: Path) -> None:
    plan = study("fine", "full", "slow")
    with pytest.raises(InputError, match="no space left"):
        run(plan, tmp_path)
    assert result_of(trial_folder(tmp_path, "full", 0)) is None
    assert read_json(trial_folder(tmp_path, "full", 0) / "attempts.json") == {"started": 0}
    ledger = coordinator(plan, tmp_path).ledger
    assert TrialState.FAIL not in {trial.state for trial in ledger.study.trials}


def test_a_trial_that_another_process_holds_is_tried_again(tmp_path: Path) -> None:
    trials = run(study("busy", "fine"), tmp_path).trials
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 2
    assert starts(tmp_path).count("busy-s0") == 2
    assert read_json(tmp_path / "trials" / "busy-s0" / "attempts.json") == {"started": 1}


def test_a_trial_that_does_not_end_when_asked_has_not_failed(tmp_path: Path) -> None:
    with held(tmp_path):
        made = coordinator(study("deaf"), tmp_path)
        original, calls = made._live, [0]

        def asked() -> None:
            calls[0] += 1
            if calls[0] == 3:
                os.kill(os.getpid(), signal.SIGINT)
            original()

        made._live = asked  # type: ignore[method-assign]
        with pytest.raises(Interrupted):
            made.run()
    assert result_of(trial_folder(tmp_path, "deaf", 0)) is None
    assert [trial.state for trial in made.ledger.study.trials] == [TrialState.WAITING]
    assert not processes_with("child of deaf")


_SWEEP = """
import sys
from pathlib import Path
from ablations.running.coordinator import Interrupted
from tests.bad_trials import study
from tests.ablations.test_supervisor import run
folder, names = Path(sys.argv[1]), sys.argv[2:]
try:
    run(study(*names, seeds=(0, 1)), folder)
except Interrupted as error:
    sys.exit(error.code)
"""


def start(folder: Path, *names: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", _SWEEP, str(folder), *names], cwd=ROOT, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def journal(folder: Path) -> optuna.Study:
    storage = open_storage("journal", folder)
    return optuna.load_study(study_name="acted", storage=storage.backend)


def test_killed_with_two_workers_the_study_ends_with_every_trial_once(tmp_path: Path) -> None:
    names = ("slow", "slow-2", "fine", "fine-2")
    process = start(tmp_path, "slow", *names[1:])
    wait_for(trial_folder(tmp_path, "fine", 0) / "result.json")
    process.kill()
    process.wait()
    time.sleep(1.5)
    assert not processes_with(str(tmp_path))
    running = [trial for trial in journal(tmp_path).trials if trial.state == TrialState.RUNNING]
    assert running
    again = start(tmp_path, *names)
    assert again.wait(timeout=120) == 0
    trials = journal(tmp_path).trials
    assert len(trials) == 8
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    assert len({(trial.params["arm"], trial.params["seed"]) for trial in trials}) == 8
    assert len(list(tmp_path.glob("trials/*/result.json"))) == 8


def cut_off(made: Coordinator, method: str, *, after: int) -> None:
    """Let a coordinator end in a call of one of its methods, with nothing tidied up."""
    original, left = getattr(made, method), [after]

    def dying(*given: Any) -> Any:
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        return original(*given)

    setattr(made, method, dying)
    with pytest.raises(KeyboardInterrupt):
        made.run()


def test_an_interrupted_trial_is_retried_twice_and_then_given_up(tmp_path: Path) -> None:
    plan = study("hang")
    with held(tmp_path):
        for _ in range(3):
            cut_off(coordinator(plan, tmp_path), "_live", after=2)
        assert read_json(tmp_path / "trials" / "hang-s0" / "attempts.json") == {"started": 3}
        made = coordinator(plan, tmp_path)
        made.run()
    assert "given up: 3 times" in reasons(tmp_path)["hang-s0"]
    assert [trial.state for trial in made.ledger.study.trials] == [TrialState.FAIL]


def starts(folder: Path) -> list[str]:
    path = folder / "starts.txt"
    return path.read_text().splitlines() if path.exists() else []


def test_ctrl_c_lets_the_study_go_on_later(tmp_path: Path) -> None:
    process = start(tmp_path, "hang", "fine")
    wait_for(trial_folder(tmp_path, "hang", 0) / "log.txt")
    with pytest.raises(InputError, match=rf"another sweep \(process {process.pid} on "), held(tmp_path):
        pass
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert not processes_with(str(tmp_path))
    states = [trial.state for trial in journal(tmp_path).trials]
    assert TrialState.WAITING in states
    assert TrialState.FAIL not in states
    assert read_json(trial_folder(tmp_path, "hang", 0) / "attempts.json") == {"started": 0}
    with held(tmp_path):
        assert read_json(tmp_path / ".coordinator.json")["pid"] == os.getpid()


def test_files_that_another_sweep_does_not_let_go_of_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ablations.running.folder._MOST_WAIT", 0.1)
    with claimed(tmp_path), held_for_a_moment(tmp_path, shared=False):
        pass  # whoever does not share the storage holds the folder itself
    with (
        claimed(tmp_path),
        pytest.raises(InputError, match=r"another sweep has held the files of .* for 0.1 s; end it"),
        held_for_a_moment(tmp_path, shared=True),
    ):
        raise AssertionError("these files are held")


def test_ctrl_c_twice_ends_it_at_once(tmp_path: Path) -> None:
    process = start(tmp_path, "deaf", "fine")
    wait_for(trial_folder(tmp_path, "deaf", 0) / "log.txt")
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=5) == 130
    assert not processes_with("child of deaf")


def test_a_torn_journal_and_a_stale_lock_are_mended(tmp_path: Path) -> None:
    plan = study("fine", "fine-2")
    run(plan, tmp_path, total=1)
    path = tmp_path / JOURNAL
    whole = path.read_bytes()
    path.write_bytes(whole + whole[: len(whole) // 3].splitlines()[-1][:7])
    (tmp_path / f"{JOURNAL}.lock").symlink_to(path)
    (tmp_path / f"{JOURNAL}.lockabc.rename").symlink_to(path)
    started = time.monotonic()
    trials = run(plan, tmp_path).trials
    assert time.monotonic() - started < 25  # a lock that is waited for takes Optuna 30 seconds
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 2
    assert path.read_bytes().startswith(whole)


# ------------------------------------------------------------------------------------- searches


def searching(mode: str, **changes: Any) -> Study:
    search = {"trials": 6, "objectives": ("intra_modal",), **changes}
    made = study("fine", seeds=(0, 1, 2), axes=(RATE,), searches={mode: Search(**search)})
    return made.in_mode(mode)  # type: ignore[arg-type]


def test_a_search_measures_the_baseline_and_every_point_with_every_seed(tmp_path: Path) -> None:
    plan = searching("qmc", sampler="QMCSampler")
    trials = run(plan, tmp_path).trials
    assert len(trials) == 6
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    rates = [trial.params["learning_rate"] for trial in trials]
    assert len(set(rates)) == 6
    document = read_json(tmp_path / "study.json")
    assert [arm["name"] for arm in document["arms"]] == ["fine", *(f"p{k:04d}" for k in range(6))]
    assert f"{rates[0]:.3g}" in document["arms"][1]["label"]
    assert len(list(tmp_path.glob("trials/*/result.json"))) == 7 * 3
    off = [(rate / 1e-3 - 1) ** 2 for rate in rates]
    assert [trial.value for trial in trials] == pytest.approx([1 - o - 0.01 for o in off])  # mean of seeds
    more = run(plan, tmp_path, total=8).trials
    assert len(more) == 8
    assert [trial.params for trial in more[:6]] == [trial.params for trial in trials]


def test_a_search_that_was_killed_draws_the_same_points(tmp_path: Path) -> None:
    plan = searching("tune", sampler="TPESampler", trials=14, split="val")
    whole = run(plan, tmp_path / "whole", workers=1).trials
    with held(tmp_path / "cut"):
        cut_off(coordinator(plan, tmp_path / "cut", workers=1), "_proceed", after=9)
    again = run(plan, tmp_path / "cut", workers=1).trials
    assert [t.params for t in again] == [t.params for t in whole]
    assert [t.value for t in again] == [t.value for t in whole]


def test_a_pruned_point_says_so_and_its_other_seeds_are_not_run(tmp_path: Path) -> None:
    plan = searching(
        "tune", sampler="RandomSampler", pruner="MedianPruner", trials=10, split="val",
        pruner_options={"n_startup_trials": 2},
    )  # fmt: skip
    trials = run(plan, tmp_path, workers=1).trials
    states = [trial.state for trial in trials]
    assert set(states) == {TrialState.COMPLETE, TrialState.PRUNED}
    number = states.index(TrialState.PRUNED)
    assert trials[number].user_attrs["reason"].startswith("pruned after 1 of 3 seeds")
    result = result_of(trial_folder(tmp_path, f"p{number:04d}", 2))
    assert result is not None
    assert result["state"] == "pruned"
    assert f"p{number:04d}-s2" not in starts(tmp_path)


def test_what_a_point_loses_against_the_baseline_makes_it_infeasible(tmp_path: Path) -> None:
    plan = searching("pareto", objectives=("inter_modal", "gap"), at_most={"zero_shot": 0.25}, split="val")
    found = run(plan, tmp_path)
    for trial in found.trials:
        off = (trial.params["learning_rate"] / 1e-3 - 1) ** 2  # the baseline's is 0
        assert trial.constraints == {"zero_shot": pytest.approx(off - 0.25)}
        assert len(trial.values) == 2
    assert found.user_attrs["baseline"]["zero_shot"] == pytest.approx(0.49)
    assert all(trial.constraints["zero_shot"] <= 0 for trial in found.best_trials)


def test_a_baseline_that_fails_ends_a_search(tmp_path: Path) -> None:
    made = study("exits", axes=(RATE,), searches={"qmc": Search(trials=2)}).in_mode("qmc")
    with pytest.raises(InputError, match=r"the baseline that points are compared with failed.*code 3"):
        run(made, tmp_path)
    assert Interrupted(130).code == 130


def test_a_failure_shows_how_the_log_and_the_traceback_end(tmp_path: Path) -> None:
    given = bad_trials.spec(study("fine"), tmp_path / "trials" / "fine-s0")
    given.folder.mkdir(parents=True)
    (given.folder / "log.txt").write_text("".join(f"line {number}\n" for number in range(100)))
    (given.folder / "error.txt").write_text("Traceback: here\nValueError: x\n")
    write_failure(given, "it raised")
    result = result_of(given.folder)
    assert result is not None
    assert result["reason"] == "it raised"
    assert result["log_tail"][-3:] == ["line 99", "Traceback: here", "ValueError: x"]
    assert len(result["log_tail"]) == 30
