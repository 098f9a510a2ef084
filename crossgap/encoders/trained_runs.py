"""The training behind an encoder that was trained here: its arm, seed and settings, and its curves."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from crossgap.encoders.loading import newest_checkpoint
from crossgap.files import read_json, read_lines, write_json, write_text

_CONFIG, _CURVES = "config.json", "metrics.jsonl"
_AVERAGED = "ema"  # the folder of averaged weights beside a checkpoint's own


class TrainedRun(NamedTuple):
    """A run directory and the checkpoint of it that is measured.

    ``about`` is its ``config.json``, with the arm and label that the measured model has: a study's own for a
    trial of a study; of a checkpoint before the last, and of averaged weights, they say so.
    """

    folder: Path
    step: int
    about: dict[str, Any]

    @property
    def arm(self) -> str:
        """The name of what was trained, the seed left out."""
        return str(self.about["arm"])

    @property
    def seed(self) -> int:
        """The training's seed."""
        return int(self.about["config"]["seed"])

    @property
    def pairs_seen(self) -> int:
        """Pairs that the model has been trained on."""
        return self.step * int(self.about["config"]["batch_size"])


def trained_run(encoder: Path) -> TrainedRun | None:
    """Find the run that a checkpoint folder or a run directory belongs to; None if no run of ours made it."""
    if not encoder.is_dir():
        return None
    checkpoint = newest_checkpoint(encoder).resolve()
    averaged = checkpoint.name == _AVERAGED
    whole = checkpoint.parent if averaged else checkpoint
    step = re.fullmatch(r"step-(\d+)", whole.name)
    folder = whole.parent.parent
    if step is None or whole.parent.name != "checkpoints" or not (folder / _CONFIG).exists():
        return None
    about = read_json(folder / _CONFIG)
    if not isinstance(about, dict) or "config" not in about:
        return None
    config = dict(about["config"])
    arm, label = _named(folder, about)
    if int(step[1]) < config["steps"]:
        config["stopped_at"] = int(step[1])
        arm, label = f"{arm}-step-{int(step[1])}", f"{label}, step {int(step[1])}"
    if averaged:
        config["weights"] = "averaged"
        arm, label = f"{arm}-{_AVERAGED}", f"{label}, averaged weights"
    return TrainedRun(folder, int(step[1]), {**about, "config": config, "arm": arm, "label": label})


def carry(run: TrainedRun, out: Path) -> None:
    """Write the settings and curves of a run beside what is measured of it, up to the measured step."""
    write_json(out / _CONFIG, run.about)
    curves = run.folder / _CURVES
    if curves.exists():
        lines = [line for line in read_lines(curves) if line["step"] <= run.step]
        write_text(out / _CURVES, "".join(json.dumps(line) + "\n" for line in lines))


def _named(folder: Path, about: dict[str, Any]) -> tuple[str, str]:
    """Give arm and label: a study's own of a trial, else those that the run wrote of its settings."""
    recipe = str(about["config"].get("recipe", folder.name))
    arm = str(about.get("arm", recipe))
    study = folder.parent.parent / "study.json"
    trial = re.fullmatch(r"(?P<arm>.+)-s\d+", folder.name)
    if folder.parent.name == "trials" and trial and study.exists():
        arm = trial["arm"]
        labels = {entry["name"]: entry.get("label") for entry in read_json(study)["arms"]}
        return arm, labels.get(arm) or str(about.get("label", arm))
    return arm, str(about.get("label", arm))
