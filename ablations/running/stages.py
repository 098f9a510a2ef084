"""What is done once: trained models and evaluations, found again by what decided them.

Beside the folders of studies lies ``.stages``. ``train/<key>.json`` and ``evaluate/<key>.json`` name the
trial that made a stage; ``features/`` holds features and inversions. A trial whose key is there takes the
files of the other trial as hard links (copies, on another file system): it stands by itself, whatever becomes
of the other one. Nothing is found that was made with another version of torch or of this package.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from filelock import FileLock

import crossgap
from ablations.study.own_terms import NO_OWN_TERMS, OwnTerms
from crossgap.datasets.tasks import Dataset
from crossgap.errors import InputError
from crossgap.evaluation.plan import EvaluationConfig
from crossgap.evaluation.result import Evaluation
from crossgap.files import read_json, read_lines, write_json
from crossgap.provenance import Provenance, commit, versions
from crossgap.records import TABLES, Row, read_table
from pretrain.checkpoint import find_checkpoint
from pretrain.config import TrainConfig
from pretrain.data.pairs import shards_of
from pretrain.labels import about_run

Stage = Literal["train", "evaluate"]

TRAINED = ("metrics.jsonl", "validation.jsonl", "checkpoints")
EVALUATED = ("rows.jsonl", *(f"{name}.parquet" for name in TABLES))


@dataclass(frozen=True)
class Stages:
    """The index of finished stages, in ``root``."""

    root: Path

    @property
    def features(self) -> Path:
        """Where features and inversions are kept."""
        return self.root / "features"

    def find(self, stage: Stage, key: str) -> Path | None:
        """Return the folder of the trial that made a stage; None if there is none any more."""
        entry = self.root / stage / f"{key}.json"
        if not entry.exists():
            return None
        folder = self.root.parent / read_json(entry)["folder"]
        return folder if folder.is_dir() else None

    @contextmanager
    def making(self, stage: Stage, key: str) -> Iterator[None]:
        """Hold a stage that is looked for and, if it is not there, made: whoever else wants it waits."""
        (self.root / stage).mkdir(parents=True, exist_ok=True)
        with FileLock(self.root / stage / f"{key}.lock"):
            yield

    def record(self, stage: Stage, key: str, folder: Path) -> None:
        """Name the trial that made a stage."""
        place = os.path.relpath(folder.resolve(), self.root.parent.resolve())
        write_json(self.root / stage / f"{key}.json", {"folder": place, "commit": commit()})


def training_key(config: TrainConfig, study: Path, own_terms: OwnTerms = NO_OWN_TERMS) -> str:
    """Hash what decides a trained model.

    The recipe's name is left out: two arms with the same settings are the same model. What depends on files
    that have no key of their own here (a CLIP to start from, an architecture, embeddings of captions) is
    known in the folder of its study alone; so are terms of a user's own, with what their files say.
    """
    settings = {name: value for name, value in config.as_json().items() if name != "recipe"}
    made_by = {"torch": torch.__version__, "crossgap": crossgap.__version__}
    decisive = {"config": settings, "data": _data_identity(config.data), **made_by}
    files = (config.encoder, config.architecture, config.semantics, config.validation)
    if any(name is not None for name in files):
        decisive["study"] = str(study.resolve())
    if own_terms.names:
        decisive |= {"study": str(study.resolve()), "own_terms": own_terms.contents()}
    return _hash(decisive)


def evaluation_key(
    fingerprint: str, test: Dataset, val: Dataset | None, evaluation: Mapping[str, Any]
) -> str:
    """Hash what decides an evaluation: the model's weights, the data, the settings, versions and threads."""
    return _hash(
        {
            "encoder": fingerprint,
            "dataset": test.name,
            "test": test.hash,
            "val": None if val is None else val.hash,
            "evaluation": evaluation,
            "versions": versions(),
        }
    )


def take_training(source: Path, folder: Path, config: TrainConfig, label: str) -> bool:
    """Link another trial's trained model into ``folder``; False if it is not whole.

    ``config.json`` is that of the source with this arm's name and label, and says what the terms act on,
    which a source of an earlier version may not.
    """
    if source.resolve() == folder.resolve() or (folder / "checkpoints").exists():
        return False
    try:
        trained = find_checkpoint(source / "checkpoints", lambda damage: None)
        recorded = read_json(source / "config.json")
    except InputError:  # damaged beyond use: it is trained again
        return False
    if trained is None or trained[1].progress["step"] < config.steps:
        return False
    _link(source, folder, TRAINED)
    own = {"config": config.as_used(), **about_run(config, label)}
    write_json(folder / "config.json", {**recorded, **own})
    return True


def take_evaluation(source: Path, folder: Path, provenance: Provenance) -> Evaluation | None:
    """Read another trial's evaluation as this one's; None if it is not whole."""
    if source.resolve() == folder.resolve():
        return None
    try:
        about = read_json(source / "evaluation.json")
        names: dict[str, Any] = {
            "study": provenance.study, "arm": provenance.arm, "seed": provenance.seed,
        }  # fmt: skip
        more: dict[str, Any] = {
            "pairs_seen": provenance.pairs_seen, "config_hash": provenance.config_hash,
        }  # fmt: skip
        lines = read_lines(source / "rows.jsonl")
        rows = [Row(**{**line, **names, **more}) for line in lines]
        tables = {name: read_table([source], name) for name in TABLES}
    except (InputError, OSError, TypeError):  # it is measured again
        return None
    return Evaluation(rows, {name: table.assign(**names) for name, table in tables.items()}, about["skipped"])


def evaluation_settings(config: EvaluationConfig) -> dict[str, Any]:
    """Give an evaluation's settings as plain JSON values."""
    values: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return values


def _link(source: Path, folder: Path, names: tuple[str, ...]) -> None:
    """Link files and folders; each appears whole or not at all, the last of them after the others."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        origin, target = source / name, folder / name
        if not origin.exists():
            continue
        temporary = folder / f".{name}.taken"
        shutil.rmtree(temporary, ignore_errors=True)
        if origin.is_dir():
            shutil.copytree(origin, temporary, copy_function=_link_file)
        else:
            temporary.unlink(missing_ok=True)
            _link_file(str(origin), str(temporary))
        temporary.rename(target)


def _link_file(origin: str, target: str) -> None:
    try:
        os.link(origin, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(origin, target)


def _data_identity(data: str) -> list[Any]:
    if data == "emoji":
        return ["emoji"]
    shards: list[Any] = []
    for shard in shards_of(data):
        path = Path(shard)
        stat = path.stat() if path.exists() else None
        shards.append([shard, None if stat is None else [stat.st_size, stat.st_mtime_ns]])
    return shards


def _hash(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:32]
