"""One trial: train a model, measure it, write its rows; the same call resumes or does nothing."""

from __future__ import annotations

import errno
import subprocess
import sys
import traceback
from dataclasses import replace
from typing import Any

import torch

from ablations.objectives import OBJECTIVES, objective_values
from ablations.running.spec import ERROR, TrialSpec, result_of, write_failure
from ablations.running.stages import (
    Stages,
    evaluation_key,
    evaluation_settings,
    take_evaluation,
    take_training,
    training_key,
)
from ablations.study.study import AS_TRAINED
from crossgap.datasets.load import load_dataset
from crossgap.datasets.tasks import Dataset
from crossgap.encoders.loading import load_encoder
from crossgap.errors import InputError
from crossgap.evaluation.changed_plans import single_settings
from crossgap.evaluation.run import evaluate
from crossgap.files import RESULT, HeldError, claimed, remove_torn, write_json, write_text
from crossgap.provenance import Provenance, config_hash
from pretrain.config import TrainConfig
from pretrain.run import TrainResult, train
from pretrain.update import NonFiniteLoss

NO_SPACE = 75  # exit code of a trial that found its disk full: not its fault, the study stops
BUSY = 76  # exit code of a trial whose folder another live process holds: it is tried again later
TRAIN_FILE = "train.json"


def run_trial(spec: TrialSpec) -> None:
    """Train, measure and write ``result.json`` last; whatever was there before is reused.

    A loss that is not finite, or any other exception, ends the trial as failed with its reason; the study
    goes on. A full disk ends the process with code :data:`NO_SPACE` and no result, a folder that another
    live process holds, as two coordinators may on shared storage, with :data:`BUSY`.
    """
    spec.folder.mkdir(parents=True, exist_ok=True)
    try:
        with claimed(spec.folder, wait=60):
            _run_alone(spec)
    except HeldError as held:
        print(held, flush=True)
        sys.exit(BUSY)


def _run_alone(spec: TrialSpec) -> None:
    if result_of(spec.folder) is not None:
        return
    remove_torn(spec.folder)
    torch.set_num_threads(spec.threads)
    about = {"arm": spec.arm.name, "seed": spec.seed}
    try:
        measured = _train_and_measure(spec)
    except NonFiniteLoss as error:
        write_failure(spec, str(error))
    except Exception as error:
        # one trial's defect must not take the study with it: it is recorded, shown, and its traceback kept
        if is_no_space(error):
            traceback.print_exc()
            sys.exit(NO_SPACE)
        write_text(spec.folder / ERROR, traceback.format_exc())
        named = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
        write_failure(spec, f"{named}{error} (traceback in {spec.folder / ERROR})")
    else:
        write_json(spec.folder / RESULT, {"state": "complete", **about, **measured})


def is_no_space(error: BaseException) -> bool:
    """Tell whether an error says that the disk is full."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return "No space left on device" in str(error)  # as safetensors says it


def _train_and_measure(spec: TrialSpec) -> dict[str, Any]:
    spec.own_terms.learn()
    stages, config = Stages(spec.stages), spec.train_config()
    reused: dict[str, Any] = {}
    key = training_key(config, spec.study_folder, spec.own_terms)
    with stages.making("train", key):
        earlier = stages.find("train", key)
        if earlier is not None and take_training(earlier, spec.folder, config, spec.arm.label):
            reused["train"] = str(earlier)
        trained = _train(spec, config)
        if "train" not in reused:
            stages.record("train", key, spec.folder)
    encoder = load_encoder(str(spec.folder), device=spec.device)
    test, val = _reported_and_val(spec)
    evaluation = evaluation_settings(spec.evaluation)
    settings = {
        "train": config.as_json(),
        "evaluation": evaluation,
        "inversion": single_settings(spec.evaluation),
    }
    provenance = Provenance(
        study=spec.study,
        arm=spec.arm.name,
        seed=spec.seed,
        pairs_seen=trained.pairs_seen,
        config_hash=config_hash(settings),
    )
    key = evaluation_key(encoder.fingerprint, test, val, evaluation)
    earlier = stages.find("evaluate", key)
    result = None if earlier is None else take_evaluation(earlier, spec.folder, provenance)
    if result is not None:
        reused["evaluate"] = str(earlier)
    else:
        result = evaluate(
            encoder, test, val, config=spec.evaluation, provenance=provenance, cache=stages.features
        )
    write_json(spec.folder / "evaluation.json", {"settings": settings, "skipped": result.skipped})
    result.write(spec.folder)
    if "evaluate" not in reused:
        stages.record("evaluate", key, spec.folder)
    return {
        "train_seconds": trained.seconds,
        "objectives": objective_values(result.rows, list(OBJECTIVES), spec.split),
        "reused": reused | {name: count for name, count in result.reused.items() if count},
    }


def _reported_and_val(spec: TrialSpec) -> tuple[Dataset, Dataset | None]:
    """Load what is reported, and the validation split where that is another, to choose settings on."""
    return _measured_on(spec, spec.split), None if spec.split == "val" else _measured_on(spec, "val")


def _measured_on(spec: TrialSpec, split: str) -> Dataset:
    """Load what the study measures on, or the arm's own world, called alike for all arms.

    Of that, tasks that ask by captions are left out: arms would be asked different ones, which do not pair.
    """
    if spec.dataset != AS_TRAINED:
        return load_dataset(spec.dataset, split=split, limit=spec.limit)
    own = load_dataset(spec.arm.train.data, split=split, limit=spec.limit)
    tasks = tuple(replace(task, dataset=AS_TRAINED) for task in own.tasks if task.query.modality == "image")
    return replace(own, name=AS_TRAINED, tasks=tasks)


def _train(spec: TrialSpec, config: TrainConfig) -> TrainResult:
    """Train here, or in several processes under torchrun."""
    if spec.processes > 1:
        asked = {"config": config.as_json(), "label": spec.arm.label, "own_terms": spec.own_terms.as_json()}
        write_json(spec.folder / TRAIN_FILE, asked)
        torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(spec.processes)]
        command = [
            sys.executable,
            "-m",
            *torchrun,
            "-m",
            "ablations.running.train_together",
            str(spec.folder),
        ]
        subprocess.run(command, check=True)
    return train(config, spec.folder, progress=False, label=spec.arm.label)
