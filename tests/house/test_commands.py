"""Every command: its options are frozen here, and a user's mistake ends with exit code 2 and no traceback."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from ablations.study.named import STUDIES
from crossgap.command import run_command
from tests.commands import run
from tests.miniatures import put

_ENCODER = {
    "encoder", "pretrained", "dataset", "data_root", "split", "limit", "max_bad", "max_pixels", "whole_texts",
    "out", "device", "precision", "threads", "workers", "batch_size",
}  # fmt: skip
_INVERSION = {
    "steps", "num_tokens", "snapshots", "template", "seed", "learning_rate", "weight_decay", "init_std",
}  # fmt: skip
# ``changes`` stands for --set, --config and --print-config
OPTIONS = {
    "crossgap.encode": _ENCODER,
    "crossgap.invert": {
        *_ENCODER, *_INVERSION, "into", "target_cosine", "schedule", "engine", "compiled",
        "changes",
    },
    "crossgap.evaluate": {
        *_ENCODER, *_INVERSION, "embeddings", "routes", "probes", "choose", "schedule", "engine", "preset",
        "backbone", "method", "cache", "details", "smoke", "changes",
    },
    "pretrain.train": {
        "recipe", "data", "steps", "batch_size", "learning_rate", "schedule", "weights", "modifiers",
        "schedules", "extra_views", "semantics", "accumulate", "max_bad", "max_pixels", "whole_texts",
        "validation", "term_gradients",
        "loading", "workers", "model", "encoder", "pretrained", "locked", "ema", "local_loss", "recompute",
        "compiled", "track", "seed", "device", "precision", "threads", "smoke", "dry_run", "out", "epochs",
        "changes",
    },
    "pretrain.prepare": {
        "data", "out", "per_shard", "image_size", "limit", "max_bad", "max_pixels", "whole_texts",
        "data_root",
    },
    "ablations.sweep": {
        "study", "data", "mode", "smoke", "out", "trials", "seeds", "workers", "threads", "device", "storage",
        "heartbeat", "time_limit", "memory_limit", "dry_run", "changes",
    },
}  # fmt: skip


@pytest.mark.parametrize("module", OPTIONS)
def test_the_options_of_a_command_are_these(module: str) -> None:
    assert set(inspect.signature(import_module(module).main).parameters) == OPTIONS[module]


@pytest.mark.parametrize(
    ("module", "arguments", "says"),
    [
        ("ablations.sweep", ["--study", "dmo"], ["unknown study 'dmo'", "'demo'", "Known:"]),
        ("ablations.sweep", ["--storage", "env:NOWHERE_SET"], ["NOWHERE_SET is not set", "export it"]),
        ("ablations.sweep", ["--trials", "0"], ["--trials", "at least 1"]),
        ("ablations.sweep", ["--device", "gpu"], ["unknown device 'gpu'"]),
        ("ablations.sweep", ["--sedes", "3"], ["--sedes", "--seeds"]),
        ("pretrain.train", ["--recipe", "basline"], ["unknown recipe 'basline'", "'baseline'"]),
        (
            "pretrain.train",
            ["--weights", "clip", "1", "image_ntxnt", "1"],
            ["'image_ntxnt'", "'image_ntxent'"],
        ),
        ("pretrain.train", ["--set", "model.widht=64"], ["unknown setting 'widht'", "'width'"]),
        ("pretrain.train", ["--set", "modle.width=64"], ["unknown setting 'modle'", "'model'"]),
        ("pretrain.train", ["--set", "steps"], ["PATH=VALUE"]),
        ("pretrain.train", ["--set", "steps=many"], ["steps: 'many' is text; it wants a whole number"]),
        ("pretrain.train", ["--steps", "3", "--set", "steps=4"], ["steps is given twice", "--steps"]),
        ("pretrain.train", ["--config", "nowhere.toml"], ["config file 'nowhere.toml' does not exist"]),
        ("pretrain.train", ["--epochs", "2", "--steps", "3"], ["--epochs and --steps"]),
        ("pretrain.train", ["--epochs", "2", "--data", "scenes"], ["no epochs; give --steps"]),
        ("pretrain.train", ["--data", "nowhere/{0..1}.tar"], ["nowhere/0.tar", "no such file"]),
        ("crossgap.encode", ["--encoder", "ViT-B-23", "--dataset", "emoji"], ["'ViT-B-23'", "'ViT-B-32'"]),
        ("crossgap.encode", ["--encoder", "ViT-B-32", "--dataset", "emoij"], ["'emoij'", "'emoji'"]),
        (
            "crossgap.encode",
            ["--encoder", "ViT-B-32", "--dataset", "emoji"],
            ["needs --pretrained", "openai"],
        ),
        (
            "crossgap.evaluate",
            ["--encoder", "ViT-B-32", "--dataset", "scenes:objects=5000"],
            ["objects=5000 must lie between 2 and"],
        ),
        (
            "crossgap.evaluate",
            ["--encoder", "ViT-B-32", "--dataset", "emoji", "--set", "limit=3"],
            ["limit is an option of its own: --limit"],
        ),
        (
            "crossgap.evaluate",
            ["--encoder", "ViT-B-32", "--dataset", "emoji", "--routes", "nativ"],
            ["unknown route 'nativ'", "'native'"],
        ),
        (
            "crossgap.evaluate",
            ["--encoder", "ViT-B-32", "--dataset", "emoji", "--steps", "4", "8"],
            ["--steps 4 8: one number, where inversion ends; --steps 8 --snapshots 4 8"],
        ),
    ],
)
def test_a_mistake_ends_with_code_2_and_no_traceback(
    tmp_path: Path, module: str, arguments: list[str], says: list[str]
) -> None:
    out = tmp_path / "out"
    result = run(module, *arguments, "--out", str(out))
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    for part in says:
        assert part in result.stderr + result.stdout
    assert not out.exists()


def test_the_choices_of_probes_are_probes() -> None:
    said = run("crossgap.evaluate", "--out", "x", "--probes", "class-men")
    assert said.returncode == 2
    assert "class-mean" in said.stderr + said.stdout
    assert "None" not in said.stderr + said.stdout


def test_the_help_of_sweep_lists_the_studies() -> None:
    told = run("ablations.sweep", "--help").stdout
    assert all(name in told for name in STUDIES)


def test_an_output_that_nobody_reads_ends_a_command_quietly() -> None:
    command = [sys.executable, "-m", "crossgap.datasets"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()  # before a line was written
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 141


def refused(filename: str | None) -> None:
    raise OSError(28, "No space left on device", filename)


def test_what_the_system_refuses_is_a_message_with_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(lambda: refused("/full/file"), []) == 2
    assert "error: /full/file: No space left on device" in capsys.readouterr().err
    with pytest.raises(OSError, match="No space"):  # nothing says where: a defect of ours
        run_command(lambda: refused(None), [])


def test_names_that_are_no_text_can_be_shown(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.csv")
    result = run("crossgap.encode", "--encoder", "x", "--dataset", name, "--out", str(tmp_path / "out"))
    assert (result.returncode, "Traceback" in result.stderr) == (2, False)
    assert r"caf\xe9.csv" in result.stderr


@pytest.mark.parametrize(
    ("module", "arguments", "lies", "says"),
    [
        ("pretrain.train", ["--smoke"], "study.json", "holds a study"),
        ("pretrain.train", ["--smoke"], "datasets/emoji/result.json", "holds an evaluation"),
        ("pretrain.train", ["--smoke"], "settings.json", "holds features or inversions"),
        ("ablations.sweep", ["--smoke"], "checkpoints/latest", "holds a training"),
        ("ablations.sweep", ["--smoke"], "datasets/emoji/result.json", "holds an evaluation"),
    ],
)
def test_a_folder_of_other_results_is_refused_and_left_as_it_is(
    module: str, arguments: list[str], lies: str, says: str, tmp_path: Path
) -> None:
    put(tmp_path / lies, b"{}")
    said = run(module, *arguments, "--out", str(tmp_path))
    assert said.returncode == 2
    assert says in said.stderr
    assert str(tmp_path) in said.stderr
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / lies]


def test_a_model_that_is_no_folder_is_named_as_it_was_given(tmp_path: Path) -> None:
    said = run(
        "crossgap.encode", "--encoder", str(tmp_path / "aa"), "--dataset", "emoji", "--out", str(tmp_path)
    )
    assert said.returncode == 2
    assert f"encoder '{tmp_path / 'aa'}': no such folder" in said.stderr
