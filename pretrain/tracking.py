"""Experiment trackers: what ``metrics.jsonl`` is told, they are told too, and none of them can stop a run.

Their packages are the extra ``track``; without a tracker none is imported. Only the first process tracks. One
that hangs holds the run up: that is not guarded against.
"""

from __future__ import annotations

import hashlib
import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from crossgap.errors import InputError, check_known, installed_by
from crossgap.files import read_json, write_json

Warn = Callable[[str], None]


class Tracker(Protocol):
    """Where numbers of a run are shown."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Tell the values of a step."""

    def close(self) -> None:
        """Tell that there will be no more."""


class Trackers:
    """Several trackers; one that fails is named by ``warn``, once, and left out from then on."""

    def __init__(self, trackers: Mapping[str, Tracker], warn: Warn) -> None:
        self._trackers = dict(trackers)
        self._warn = warn

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Tell each the values of a step."""
        for name, tracker in list(self._trackers.items()):
            self._guarded(name, partial(tracker.log, step, values))

    def __enter__(self) -> Trackers:
        return self

    def __exit__(self, *_: object) -> None:
        for name, tracker in list(self._trackers.items()):
            self._guarded(name, tracker.close)

    def _guarded(self, name: str, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:  # whatever a tracker and its network raise, the run goes on
            self._trackers.pop(name)
            self._warn(f"tracker {name} is left out from now on: {type(error).__name__}: {error}")


def tracker_packages(names: Sequence[str]) -> dict[str, Any]:
    """Import what trackers need, by their names in :data:`TRACKERS`.

    Raises:
        InputError: an unknown name, or a package that is not installed.
    """
    packages = {}
    for name in names:
        package, _ = TRACKERS[check_known(name, TRACKERS, "tracker")]
        try:
            packages[name] = importlib.import_module(package)
        except ImportError as error:
            raise InputError(
                f"tracker {name!r}: {error}; {installed_by('track')}, or leave --track {name} out"
            ) from error
    return packages


def open_trackers(
    packages: Mapping[str, Any], out: Path, *, name: str, config: dict[str, Any], step: int, warn: Warn
) -> Trackers:
    """Start trackers; one that cannot be started is left out.

    Args:
        packages: what :func:`tracker_packages` imported.
        out: run directory; what they keep on disk lies in it, and a resumed run goes on in the same place.
        name: what the run is called.
        config: its settings.
        step: from which it goes on; 0 at its start.
        warn: told once of a tracker that fails.
    """
    started = {}
    for tracker, package in packages.items():
        _, start = TRACKERS[tracker]
        try:
            started[tracker] = start(package, out, name, config, step)
        except Exception as error:  # as in Trackers: no account, no network, no disk
            warn(f"tracker {tracker} is left out: {type(error).__name__}: {error}")
    return Trackers(started, warn)


class TensorBoard:
    """Event files in ``tensorboard/`` of the run; what a resumed run logs again replaces what was there."""

    def __init__(self, package: Any, out: Path, name: str, config: dict[str, Any], step: int) -> None:
        self._writer = package.SummaryWriter(str(out / "tensorboard"), purge_step=step + 1 if step else None)
        self._writer.add_text("config", f"{name}: {config}")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Write a scalar for each value."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()


class WandB:
    """A run of Weights & Biases, whose id is that of the run directory; WANDB_MODE and the like are yours."""

    def __init__(self, package: Any, out: Path, name: str, config: dict[str, Any], step: int) -> None:
        identity = hashlib.sha256(str(out.resolve()).encode()).hexdigest()[:16]
        self._run = package.init(
            project="crossgap", name=name, id=identity, resume="allow", dir=str(out), config=config
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Log the values of a step."""
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()


class MLflow:
    """A run of MLflow, at MLFLOW_TRACKING_URI or in ``mlflow.db`` of the run; its id is kept beside it."""

    def __init__(self, package: Any, out: Path, name: str, config: dict[str, Any], step: int) -> None:
        uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(out / 'mlflow.db').resolve()}"
        self._client = package.MlflowClient(tracking_uri=uri)
        kept = out / "mlflow.json"
        if kept.exists():
            self._run = read_json(kept)["run_id"]
            self._client.update_run(self._run, status="RUNNING")
            return
        existing = self._client.get_experiment_by_name("crossgap")
        experiment = (
            self._client.create_experiment("crossgap") if existing is None else existing.experiment_id
        )
        self._run = self._client.create_run(experiment, run_name=name).info.run_id
        for key, value in config.items():
            self._client.log_param(self._run, key, str(value)[:500])
        write_json(kept, {"run_id": self._run})

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Log the values of a step."""
        for name, value in values.items():
            self._client.log_metric(self._run, name.replace("@", "_at_"), value, step=step)

    def close(self) -> None:
        """Finish the run."""
        self._client.set_terminated(self._run)


# name -> the module it needs, and what starts it
TRACKERS: dict[str, tuple[str, Callable[[Any, Path, str, dict[str, Any], int], Tracker]]] = {
    "tensorboard": ("torch.utils.tensorboard", TensorBoard),
    "wandb": ("wandb", WandB),
    "mlflow": ("mlflow", MLflow),
}
