"""Studies on a real PostgreSQL server: many processes, several coordinators, one of them killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from ablations.running.ledger import Ledger
from ablations.running.storage import open_storage
from ablations.search import Search
from tests.bad_trials import processes_with, wait_for
from tests.many_workers import TRIALS, count_of_each, start_workers

pytestmark = pytest.mark.system

ROOT = Path(__file__).resolve().parent.parent.parent
VARIABLE = "CROSSGAP_TEST_STORAGE"


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Start a server, put its URL into a variable, and give the password, which must not be seen."""
    folder = Path(f"/tmp/crossgap-test-postgres-{os.getpid()}")  # noqa: S108  (its user must reach it)
    subprocess.run([ROOT / "tools" / "postgres.sh", "up", folder], check=True)
    try:
        url = (folder / "url").read_text().strip()
        monkeypatch.setenv(VARIABLE, url)
        yield url.split(":")[2].split("@")[0]
    finally:
        subprocess.run([ROOT / "tools" / "postgres.sh", "down", folder], check=True)


def test_eight_processes_take_each_trial_once_and_one_that_is_killed_is_retried_once(
    server: str, tmp_path: Path
) -> None:
    storage = open_storage(f"env:{VARIABLE}", tmp_path, heartbeat=1)
    made = Ledger(storage, "t", Search(objectives=("intra_modal",)), ["x"])
    made.queue_points(TRIALS)
    (victim,) = start_workers(f"env:{VARIABLE}", tmp_path, 1, hang="held")
    wait_for(tmp_path / "held")
    workers = start_workers(f"env:{VARIABLE}", tmp_path, 8)
    time.sleep(1)
    victim.kill()
    victim.join()
    for process in workers:
        process.join(timeout=240)
        assert process.exitcode == 0
    assert made.counts() == {"complete": TRIALS, "fail": 1}
    told = count_of_each(tmp_path)
    assert len(told) == TRIALS
    assert set(told.values()) == {1}
    (failed,) = made.study.get_trials(states=(TrialState.FAIL,))
    retried = [
        trial for trial in made.study.trials if trial.system_attrs.get("failed_trial") == failed.number
    ]
    assert [trial.state for trial in retried] == [TrialState.COMPLETE]
    assert str(retried[0].user_attrs["point"]) == (tmp_path / "held").read_text()
    storage.close()


def sweep(out: Path) -> subprocess.Popen[str]:
    command = [
        sys.executable, "-m", "ablations.sweep", "--smoke", "--out", str(out), "--seeds", "1", "--workers",
        "1", "--storage", f"env:{VARIABLE}", "--heartbeat", "2",
    ]  # fmt: skip
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_coordinators_share_a_study_and_one_takes_over_when_the_other_is_killed(
    server: str, tmp_path: Path
) -> None:
    out = tmp_path / "shared"
    first = sweep(out)
    wait_for(out / "trials" / "baseline-s0" / "metrics.jsonl", 120)
    second = sweep(out)
    wait_for(out / "trials" / "image-image-s0" / "metrics.jsonl", 120)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    output, errors = second.communicate(timeout=300)
    assert second.returncode == 0, errors
    assert "4 of 4 trials complete" in output
    assert not processes_with(str(out))
    lines = [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]
    assert {line["arm"] for line in lines} == {"baseline", "image-image", "centroid", "says-all"}
    storage = open_storage(f"env:{VARIABLE}", out, heartbeat=2)
    study = optuna.load_study(study_name="demo", storage=storage.backend)
    complete = [trial for trial in study.trials if trial.state == TrialState.COMPLETE]
    storage.close()
    assert len({trial.params["arm"] for trial in complete}) == len(complete) == 4
    seen = [output, errors, *(path.read_text("utf-8", "replace") for path in out.rglob("*.json*"))]
    assert not any(server in text for text in seen)
    assert json.loads((out / "study.json").read_text())["machine"]["storage"] == "postgresql"
