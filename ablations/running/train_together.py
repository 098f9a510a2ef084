"""``torchrun -m ablations.running.train_together FOLDER``: one of several processes that train a model."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import torch
import tyro

from ablations.running.trial import TRAIN_FILE
from ablations.study.own_terms import OwnTerms
from crossgap.command import run_command
from crossgap.files import read_json
from crossgap.processes import joined
from crossgap.settings.strict import strict
from pretrain.config import TrainConfig
from pretrain.run import train


def main(folder: Annotated[Path, tyro.conf.Positional]) -> None:
    """Train the model that a trial's folder describes, together with the other processes.

    Args:
        folder: of the trial.
    """
    asked = read_json(folder / TRAIN_FILE)
    own_terms: OwnTerms = strict(asked["own_terms"], OwnTerms, TRAIN_FILE)
    own_terms.learn()
    config: TrainConfig = strict(asked["config"], TrainConfig, TRAIN_FILE)
    torch.set_num_threads(config.threads or 1)
    with joined(config.device) as processes:
        train(config, folder, progress=False, processes=processes, label=asked["label"])


if __name__ == "__main__":
    sys.exit(run_command(main))
