"""What a trial is asked for, where it lies, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ablations.search import Split
from ablations.study.own_terms import NO_OWN_TERMS, OwnTerms
from ablations.study.study import Arm
from crossgap.evaluation.plan import EvaluationConfig
from crossgap.files import RESULT, read_json, write_json
from pretrain.config import TrainConfig

LOG = "log.txt"


ERROR = "error.txt"  # the traceback of a trial that raised


_TAIL = 30  # lines of a log that are kept with the reason of a failure


@dataclass(frozen=True, kw_only=True)
class TrialSpec:
    """Everything a worker process needs to train and measure one model.

    ``study`` is the study's name in rows, ``split`` what is measured, ``processes`` how many train the model
    together; ``stages`` is where finished stages of all studies are named; ``own_terms`` are those of the
    objective that the process must learn before it trains.
    """

    study: str
    arm: Arm
    seed: int
    evaluation: EvaluationConfig
    dataset: str
    limit: int | None
    split: Split
    processes: int
    device: str
    threads: int
    folder: Path
    stages: Path
    own_terms: OwnTerms = NO_OWN_TERMS

    @property
    def study_folder(self) -> Path:
        """The folder of the study."""
        return self.folder.parent.parent

    def train_config(self) -> TrainConfig:
        """Return the arm's training settings with this trial's seed, device and threads."""
        return replace(self.arm.train, seed=self.seed, device=self.device, threads=self.threads)


def trial_folder(out: Path, arm: str, seed: int) -> Path:
    """Return where a model of a study lives."""
    return out / "trials" / f"{arm}-s{seed}"


def result_of(folder: Path) -> dict[str, Any] | None:
    """Return a finished trial's ``result.json``, or None while it is not finished."""
    path = folder / RESULT
    return read_json(path) if path.exists() else None


def write_failure(spec: TrialSpec, reason: str, *, state: str = "failed") -> None:
    """Write the result of a trial that has none: why, and how its log ends."""
    texts = [spec.folder / name for name in (LOG, ERROR) if (spec.folder / name).exists()]
    lines = [line for path in texts for line in path.read_text("utf-8", errors="replace").splitlines()]
    tail = lines[-_TAIL:]
    about = {"state": state, "arm": spec.arm.name, "seed": spec.seed, "reason": reason}
    write_json(spec.folder / RESULT, {**about, "log_tail": tail})
