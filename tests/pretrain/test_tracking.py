"""Trackers: told what metrics.jsonl is told, resumed in the same place, and unable to stop a run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from crossgap.command import run_command
from crossgap.errors import InputError
from crossgap.files import read_json, read_lines
from pretrain.run import train
from pretrain.tracking import TRACKERS, open_trackers, tracker_packages
from pretrain.train import main
from tests.training_shards import small_config as config
from tests.training_shards import write_shard

ROOT = Path(__file__).resolve().parent.parent.parent
CONFIG = {"steps": 6, "objective": {"weights": {"clip": 1.0}}}


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_shard(tmp_path_factory.mktemp("shards") / "shapes.tar"))


class FakeWandB:
    """The calls of wandb that are used, with its rules: steps do not go back, names of runs are unique."""

    def __init__(self) -> None:
        self.runs: dict[str, SimpleNamespace] = {}

    def init(self, *, project: str, name: str, id: str, resume: str, dir: str, config: dict[str, Any]) -> Any:
        assert resume == "allow"
        assert Path(dir).is_dir()
        run = self.runs.setdefault(id, SimpleNamespace(values={}, finished=0, step=0))
        run.project, run.name, run.config = project, name, config

        def log(values: dict[str, float], *, step: int) -> None:
            assert isinstance(values, dict)
            if step >= run.step:  # wandb leaves out, with a warning, what lies before
                run.step = step
                run.values |= {(key, step): value for key, value in values.items()}

        def finish() -> None:
            run.finished += 1

        return SimpleNamespace(log=log, finish=finish)


class FakeMLflow:
    """The calls of MLflow's client that are used; it refuses names with other signs than its own."""

    def __init__(self) -> None:
        self.runs: dict[str, SimpleNamespace] = {}
        self.experiments: dict[str, str] = {}
        self.uris: list[str] = []

    def MlflowClient(self, *, tracking_uri: str) -> Any:
        self.uris.append(tracking_uri)
        return self

    def get_experiment_by_name(self, name: str) -> Any:
        found = self.experiments.get(name)
        return None if found is None else SimpleNamespace(experiment_id=found)

    def create_experiment(self, name: str) -> str:
        assert name not in self.experiments
        self.experiments[name] = str(len(self.experiments))
        return self.experiments[name]

    def create_run(self, experiment_id: str, *, run_name: str) -> Any:
        identity = f"run{len(self.runs)}"
        run = SimpleNamespace(name=run_name, params={}, values={}, status="RUNNING", experiment=experiment_id)
        self.runs[identity] = run
        return SimpleNamespace(info=SimpleNamespace(run_id=identity))

    def log_param(self, run_id: str, key: str, value: str) -> None:
        assert isinstance(value, str)
        assert len(value) <= 500
        self.runs[run_id].params[key] = value

    def log_metric(self, run_id: str, key: str, value: float, *, step: int) -> None:
        assert all(sign.isalnum() or sign in "_-. /" for sign in key), key
        assert self.runs[run_id].status == "RUNNING"
        self.runs[run_id].values[key, step] = value

    def update_run(self, run_id: str, *, status: str) -> None:
        self.runs[run_id].status = status

    def set_terminated(self, run_id: str) -> None:
        self.runs[run_id].status = "FINISHED"


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    found = {"wandb": FakeWandB(), "mlflow": FakeMLflow()}
    for name, fake in found.items():
        monkeypatch.setitem(sys.modules, name, fake)  # type: ignore[arg-type]
    return found


def read(name: str, out: Path, fakes: dict[str, Any]) -> dict[tuple[str, int], float]:
    """Give what a tracker holds of the one run that it was told of: (name, step) -> value."""
    if name == "tensorboard":
        events = EventAccumulator(str(out / "tensorboard"))
        events.Reload()
        found = {}
        for tag in events.Tags()["scalars"]:
            steps = [event.step for event in events.Scalars(tag)]
            assert steps == sorted(set(steps)), f"{tag}: {steps}"
            found |= {(tag, event.step): event.value for event in events.Scalars(tag)}
        return found
    (run,) = fakes[name].runs.values()
    values: dict[tuple[str, int], float] = run.values
    return values


@pytest.mark.parametrize("name", TRACKERS)
def test_a_tracker_keeps_what_it_is_told_and_goes_on_in_the_same_place(
    tmp_path: Path, fakes: dict[str, Any], name: str
) -> None:
    warned: list[str] = []

    def told(step: int, lines: Mapping[int, Mapping[str, float]]) -> None:
        with open_trackers(
            tracker_packages([name]), tmp_path, name="run", config=CONFIG, step=step, warn=warned.append
        ) as trackers:
            for at, values in lines.items():
                trackers.log(at, values)

    told(0, {10: {"loss": 3.5, "raw/clip": 3.0}, 20: {"loss": 2.5}, 30: {"loss": 9.0}})
    told(20, {30: {"loss": 1.5, "validation/image-text/hit@1": 0.25}})  # after step 20 it was killed
    assert warned == []
    hit = "validation/image-text/hit" + ("_at_1" if name == "mlflow" else "@1")
    expected = {
        ("loss", 10): 3.5,
        ("raw/clip", 10): 3.0,
        ("loss", 20): 2.5,
        ("loss", 30): 1.5,
        (hit, 30): 0.25,
    }
    assert read(name, tmp_path, fakes) == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", TRACKERS)
def test_a_run_tells_a_tracker_what_it_writes_interrupted_or_not(
    tmp_path: Path, shard: str, fakes: dict[str, Any], name: str
) -> None:
    given, out = config(shard, validation="emoji", checkpoint_every=3), tmp_path / "run"
    train(given, out, progress=False, track=[name])
    last = read_json(out / "checkpoints" / "latest")["folder"]
    (out / "checkpoints" / last / "state.json").unlink()  # damaged: the run goes on from the one before
    train(given, out, progress=False, track=[name])
    expected: dict[tuple[str, int], float] = {}
    for line in read_lines(out / "metrics.jsonl"):
        expected |= {(key, line["step"]): value for key, value in line.items()}
    for line in read_lines(out / "validation.jsonl"):
        expected |= {(f"validation/{k}", line["step"]): v for k, v in line.items() if k != "step"}
    if name == "mlflow":
        expected = {(key.replace("@", "_at_"), step): value for (key, step), value in expected.items()}
    # how long it took, which a tracker that was told twice may know of the first time
    times = ("seconds", "pairs_per_second")
    found = {at: value for at, value in read(name, out, fakes).items() if at[0] not in times}
    assert found == pytest.approx({at: v for at, v in expected.items() if at[0] not in times})


def test_fakes_are_told_of_the_run(tmp_path: Path, shard: str, fakes: dict[str, Any]) -> None:
    out = tmp_path / "a run"
    train(config(shard), out, progress=False, track=["wandb", "mlflow"])
    (run,) = fakes["wandb"].runs.values()
    assert (run.project, run.name, run.finished) == ("crossgap", "a run", 1)
    assert run.config["steps"] == 6
    (kept,) = fakes["mlflow"].runs.values()
    assert (kept.name, kept.status, kept.experiment) == ("a run", "FINISHED", "0")
    assert kept.params["batch_size"] == "8"
    assert fakes["mlflow"].uris == [f"sqlite:///{(out / 'mlflow.db').resolve()}"]
    assert read_json(out / "mlflow.json") == {"run_id": "run0"}


class Broken:
    """A tracker that raises at one of its moments and counts how often it was called."""

    def __init__(self, at: str) -> None:
        self.at, self.calls = at, 0

    def start(self, package: Any, out: Path, name: str, config: dict[str, Any], step: int) -> Broken:
        return self._raise("start") or self

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._raise("log")

    def close(self) -> None:
        self._raise("close")

    def _raise(self, moment: str) -> None:
        if moment == self.at:
            self.calls += 1
            raise ConnectionError("no network")


@pytest.mark.parametrize("moment", ["start", "log", "close"])
def test_a_tracker_that_fails_is_named_once_and_never_stops_a_run(
    tmp_path: Path,
    shard: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    moment: str,
) -> None:
    broken = Broken(moment)
    monkeypatch.setitem(TRACKERS, "broken", ("json", broken.start))
    done = train(config(shard), tmp_path / "run", progress=False, track=["broken", "tensorboard"])
    said = capsys.readouterr().err
    assert said.count("tracker broken is left out") == 1
    assert "ConnectionError: no network" in said
    assert broken.calls == 1
    assert done.pairs_seen == 6 * 8
    assert read("tensorboard", tmp_path / "run", {})  # the other one is told all the same
    plain = train(config(shard), tmp_path / "plain", progress=False).checkpoint
    weights = "open_clip_model.safetensors"
    assert (done.checkpoint / weights).read_bytes() == (plain / weights).read_bytes()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tensorbord", "unknown tracker 'tensorbord'. Did you mean 'tensorboard'"),
        ("wandb", "pip install '.[track]' in the folder of crossgap's source, or leave --track wandb out"),
    ],
)
def test_a_tracker_that_cannot_be_had_is_refused_before_data_are_read(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    message: str,
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)  # type: ignore[arg-type]  # as if not installed
    given = ["--smoke", "--data", "nowhere/{000..001}.tar", "--device", "cpu", "--out", str(tmp_path / "run")]
    assert run_command(main, [*given, "--track", name]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "nowhere" not in said
    assert "Traceback" not in said
    assert not (tmp_path / "run").exists()


def test_a_dataset_to_validate_on_is_refused_before_data_are_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'emoij'\. Did you mean 'emoji'"):
        train(config("nowhere/0.tar", validation="emoij"), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_without_a_tracker_none_is_imported(tmp_path: Path, shard: str) -> None:
    code = (
        "import sys; from pathlib import Path; from pretrain.train import main\n"
        f"main(smoke=True, data={shard!r}, batch_size=8, device='cpu', threads=1, steps=1,\n"
        f"     out=Path({str(tmp_path)!r}))\n"
        "sys.exit(sum(name in sys.modules for name in ('tensorboard', 'wandb', 'mlflow')))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "result.json").exists()
