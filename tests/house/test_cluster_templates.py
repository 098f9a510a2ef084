"""Templates for clusters: valid shell, options that exist, and a run of each with stand-ins for SLURM."""

from __future__ import annotations

import inspect
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from torch.distributed.run import get_args_parser

from crossgap.files import read_json
from pretrain.recipes import LARGE
from pretrain.train import main
from tests.training_shards import write_shard

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parent.parent.parent
TEMPLATES = sorted((ROOT / "examples" / "cluster").iterdir())
MEASURING = [path for path in TEMPLATES if path.stem == "measure"]
TRAINING = [path for path in TEMPLATES if path not in MEASURING]
BATCH = [path for path in TRAINING if path.suffix == ".sbatch"]

# what SLURM's commands do here: srun starts the command once for each of its nodes, all on this machine;
# scancel without --batch signals the steps, not the script; scontrol lists hosts and notes what was requeued
_SRUN = """#!/usr/bin/env bash
[[ $1 == --kill-on-bad-exit=1 ]] && shift
pids=()
for ((node = 0; node < SLURM_JOB_NUM_NODES; node++)); do "$@" & pids+=($!); done
printf '%s\\n' "${pids[@]}" > "$STANDINS/steps"
code=0
for pid in "${pids[@]}"; do wait "$pid" || code=$?; done
exit $code
"""
_SCANCEL = """#!/usr/bin/env bash
[[ $1 == --signal=TERM && $2 == "$SLURM_JOB_ID" ]] || exit 1
kill -TERM $(cat "$STANDINS/steps")
"""
_SCONTROL = """#!/usr/bin/env bash
case $1 in
show) [[ $2 == hostnames ]] && tr , '\\n' <<< "$3" ;;
requeue) echo "$2" >> "$STANDINS/requeued" ;;
*) exit 1 ;;
esac
"""


def commands(template: Path) -> list[list[str]]:
    """Give the words of each command of a template, lines put together."""
    lines = template.read_text().replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.strip() and line[0] != "#"]


def options_after(words: list[str], module: str) -> set[str]:
    return {word for word in words[words.index(module) + 1 :] if word.startswith("--")}


def launcher_options() -> str:
    return get_args_parser().format_help()


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_a_template_is_valid_shell_and_can_be_executed(template: Path) -> None:
    done = subprocess.run(["bash", "-n", str(template)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert os.access(template, os.X_OK)


def test_every_option_of_the_templates_exists() -> None:
    known = {f"--{name.replace('_', '-')}" for name in inspect.signature(main).parameters}
    launcher, found = launcher_options(), 0
    for template in TRAINING:
        shown = re.findall(
            r"^# +(?:sbatch|\S*one-node\.sh).*?(?:sbatch|one-node\.sh) (--.*)$", template.read_text(), re.M
        )
        for line in shown:  # in the head, how it is called
            assert {word for word in line.split() if word.startswith("--")} <= known, line
        for words in commands(template):
            if "pretrain.train" in words:
                assert options_after(words, "pretrain.train") <= known
                starts = words[
                    words.index("torch.distributed.run") : words.index(
                        "-m", words.index("torch.distributed.run")
                    )
                ]
                for option in starts[1:]:
                    assert not option.startswith("--") or re.search(rf"{option}\b", launcher), option
                found += 1
    assert found == len(TRAINING)


def test_every_option_in_the_heads_of_measuring_templates_exists() -> None:
    for template in MEASURING:
        calls = re.findall(r"^# +\S*.*measure\.(?:sh|sbatch) (\w+) (--.*)$", template.read_text(), re.M)
        assert calls
        for command, options in calls:
            known = inspect.signature(import_module(f"crossgap.{command}").main).parameters
            given = {word for word in options.split() if word.startswith("--")}
            assert given <= {f"--{name.replace('_', '-')}" for name in known}, options


@pytest.mark.parametrize("template", MEASURING, ids=lambda path: path.name)
def test_a_measuring_template_starts_torchrun_with_the_command(
    template: Path, tmp_path: Path, stand_ins: dict[str, str]
) -> None:
    python = tmp_path / "python"
    python.write_text('#!/usr/bin/env bash\nprintf "%s\\n" "$@"\n')
    python.chmod(0o755)
    given = {**stand_ins, "PYTHON": str(python), "PROCESSES": "3", "SLURM_JOB_NUM_NODES": "1"}
    done = subprocess.run(
        [str(template), "encode", "--dataset", "a folder"], capture_output=True, text=True, env=given
    )
    assert done.returncode == 0, done.stderr
    words = done.stdout.splitlines()
    assert words[:2] == ["-m", "torch.distributed.run"]
    assert words[words.index("--nproc-per-node") + 1] == "3"
    assert words[-4:] == ["-m", "crossgap.encode", "--dataset", "a folder"]
    launcher = launcher_options()
    for option in words[2:-4]:
        assert not option.startswith("--") or re.search(rf"{option}\b", launcher), option
    assert subprocess.run([str(template)], capture_output=True, env=given).returncode != 0


@pytest.mark.parametrize("template", TRAINING, ids=lambda path: path.name)
def test_a_template_shows_a_recipe_of_its_size_with_the_options_that_it_gives(template: Path) -> None:
    (name,) = re.findall(r"^# .*--recipe (\S+)", template.read_text(), re.M)
    (words,) = (words for words in commands(template) if "pretrain.train" in words)
    given = words[words.index("pretrain.train") + 1 :]
    settings: dict[str, Any] = {"data": "x.tar"}
    for option, setting, kind in (("--loading", "loading", str), ("--workers", "workers", int)):
        if option in given:
            settings[setting] = kind(given[given.index(option) + 1])
    config = replace(LARGE[name](), precision=given[given.index("--precision") + 1], **settings)
    assert config.batch_size % (4 * 4) == 0  # parts of four nodes with four GPUs each


@pytest.mark.parametrize("template", BATCH, ids=lambda path: path.name)
def test_a_batch_script_is_told_in_time_and_queued_again(template: Path) -> None:
    text = template.read_text()
    for line in ("--signal=B:USR1@300", "--requeue", "--open-mode=append", "--ntasks-per-node=1"):
        assert f"#SBATCH {line}\n" in text
    assert "Not run on a SLURM cluster" in text


@pytest.fixture
def stand_ins(tmp_path: Path) -> dict[str, str]:
    """Give the environment in which SLURM would start a script."""
    folder = tmp_path / "stand-ins"
    folder.mkdir()
    for name, text in (("srun", _SRUN), ("scancel", _SCANCEL), ("scontrol", _SCONTROL)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return {
        **os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "STANDINS": str(folder),
        "PYTHON": sys.executable, "SLURM_JOB_ID": str(os.getpid()), "SLURM_JOB_NODELIST": "localhost",
        "SLURM_JOB_NUM_NODES": "1", "SLURM_GPUS_ON_NODE": "2",
    }  # fmt: skip


def test_batch_scripts_ask_and_requeue_alike() -> None:
    """One of them is run below: what they do when their time is up is the same text."""
    asking, ending = (
        {re.search(rf"^{start}.*?^{end}", path.read_text(), re.M | re.S)[0] for path in BATCH}  # type: ignore[index]
        for start, end in (("asked=0", "trap ask USR1"), ("run=", 'exit "\\$code"'))
    )
    assert len(asking) == len(ending) == 1


def test_a_job_whose_time_is_up_writes_a_checkpoint_is_requeued_and_goes_on(
    tmp_path: Path, stand_ins: dict[str, str]
) -> None:
    template = ROOT / "examples" / "cluster" / "nodes.sbatch"
    out, requeued = tmp_path / "run", tmp_path / "stand-ins" / "requeued"
    given = {
        **stand_ins, "DATA": str(write_shard(tmp_path / "a.tar")), "OUT": str(out),
        "SLURM_JOB_NUM_NODES": "2", "PROCESSES": "1",
    }  # fmt: skip
    arguments = [
        "--smoke",
        "--device",
        "cpu",
        "--precision",
        "fp32",
        "--threads",
        "1",
        "--batch-size",
        "8",
        "--workers",
        "0",
        "--loading",
        "memory",
    ]
    job = subprocess.Popen(
        [str(template), *arguments, "--steps", "100"], cwd=ROOT, env=given, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not (out / "checkpoints" / "latest").exists():
        assert time.monotonic() < deadline
        assert job.poll() is None
        time.sleep(0.02)
    job.send_signal(signal.SIGUSR1)
    _, said = job.communicate(timeout=60)
    assert "stopped after step" in said
    assert requeued.read_text().split() == [given["SLURM_JOB_ID"]]
    assert read_json(out / "checkpoints" / "latest")["step"] < 100
    assert not (out / "result.json").exists()
    again = subprocess.run(
        [str(template), *arguments, "--steps", "100"],
        cwd=ROOT,
        env=given,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert again.returncode == 0, again.stderr
    assert read_json(out / "result.json")["pairs_seen"] == 100 * 8
    assert requeued.read_text().split() == [given["SLURM_JOB_ID"]]


def test_one_node_trains_without_a_scheduler(tmp_path: Path) -> None:
    given = {**os.environ, "PYTHON": sys.executable, "PROCESSES": "1", "OUT": str(tmp_path / "run")}
    given["DATA"] = str(write_shard(tmp_path / "a.tar"))
    arguments = ["--smoke", "--device", "cpu", "--threads", "1", "--batch-size", "8", "--steps", "2"]
    done = subprocess.run(
        [str(ROOT / "examples/cluster/one-node.sh"), *arguments],
        cwd=ROOT,
        env=given,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "validation.jsonl").exists()
