"""What the processes of trials do in tests of the supervisor: train nothing, end well or badly by name."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from ablations.running.spec import RESULT, TrialSpec
from ablations.running.trial import BUSY, NO_SPACE
from ablations.study.named import demo
from ablations.study.smoke import smoke
from ablations.study.study import Arm, Study
from crossgap.evaluation.plan import EvaluationConfig
from crossgap.files import write_json
from pretrain.config import TrainConfig


def study(*names: str, seeds: tuple[int, ...] = (0,), **changes: object) -> Study:
    """Make a grid of arms that differ in their weight decay, named as :func:`act` knows them."""
    base = smoke(demo("emoji")).arms[0].train
    arms = tuple(
        Arm(name=name, label=name, description="", train=replace(base, weight_decay=0.1 * number))
        for number, name in enumerate(names)
    )
    made = Study(
        name="acted",
        description="",
        arms=arms,
        baseline=names[0],
        seeds=seeds,
        evaluation=EvaluationConfig(routes=("native",)),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def spec(plan: Study, folder: Path) -> TrialSpec:
    """Say what all trials of a study have in common."""
    return TrialSpec(
        study=plan.name, arm=plan.arms[0], seed=0, evaluation=plan.evaluation, dataset=plan.dataset,
        limit=None, split=plan.search.split, processes=1, device="cpu", threads=1, folder=folder,
        stages=folder.parent / ".stages",
    )  # fmt: skip


def values(train: TrainConfig) -> dict[str, float]:
    """Invent objectives that the settings decide: best in the middle of the range of learning rates."""
    off = (train.learning_rate / 1e-3 - 1) ** 2 + 0.01 * train.seed
    return {"intra_modal": 1 - off, "inter_modal": 1 - off, "zero_shot": 0.5 - off, "misalignment": off,
            "gap": 1.0 + off}  # fmt: skip


def act(given: TrialSpec) -> None:
    """End as the arm's name says, or complete."""
    name = given.arm.name
    with (given.folder.parent.parent / "starts.txt").open("a") as starts:
        starts.write(f"{given.folder.name}\n")
    print(f"{name} begins", flush=True)
    if name == "segfault":
        ctypes.string_at(0)
    elif name == "hang":
        time.sleep(600)
    elif name == "deaf":  # hangs where Python cannot run, answers no signal, has a process of its own
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)  # child of deaf"])
        ctypes.PyDLL(None).sleep(600)
    elif name == "exits":
        sys.exit(3)
    elif name == "greedy":
        held = bytearray(1 << 30)
        held[:: 1 << 12] = b"x" * len(held[:: 1 << 12])
        time.sleep(600)
    elif name == "busy":  # the first time
        marker = given.folder / "was-busy"
        if not marker.exists():
            marker.touch()
            sys.exit(BUSY)
    elif name == "full":
        sys.exit(NO_SPACE)
    elif name == "slow":
        time.sleep(3)
    about = {"arm": name, "seed": given.seed, "objectives": values(given.train_config())}
    write_json(given.folder / RESULT, {"state": "complete", **about})


def wait_for(path: Path, seconds: float = 60) -> None:
    """Wait until a file is there."""
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, path
        time.sleep(0.05)


def processes_with(text: str) -> list[str]:
    """List the command lines of processes that hold a text, this one left out."""
    listed = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    own = str(os.getpid())
    return [line for line in listed.splitlines() if text in line and line.split()[0] != own]
