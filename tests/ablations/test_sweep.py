"""The sweep with real processes: whole, resumed after kill -9, with a failing trial, refused when unfit."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import optuna
import pytest

from ablations import sweep
from ablations.running.ledger import cell_params, suggest_cell
from ablations.study.named import STUDIES, demo
from ablations.study.smoke import smoke
from ablations.study.study import Study
from analysis.findings.kept import keep, restore
from crossgap.errors import InputError
from crossgap.files import read_lines
from tests import commands

TIMING = ("seconds",)


def command(out: Path, *more: str) -> list[str]:
    return ["ablations.sweep", "--smoke", "--out", str(out), *more]


def run(out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return commands.run(*command(out, *more))


def rows(out: Path) -> list[dict]:
    lines = (out / "rows.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key not in TIMING} for line in lines]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A smoke study of two trials that nothing interrupted, started as a user starts it."""
    out = tmp_path_factory.mktemp("sweep") / "whole"
    result = subprocess.run(
        [sys.executable, "-m", *command(out, "--trials", "2", "--workers", "2")],
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return out


def test_a_study_ends_with_rows_of_every_trial(whole: Path) -> None:
    arms = {row["arm"] for row in rows(whole)}
    assert arms == {"baseline", "image-image"}
    for arm in arms:
        assert json.loads((whole / "trials" / f"{arm}-s0" / "result.json").read_text())["state"] == "complete"
    assert {row["route"] for row in rows(whole)} >= {"native", "oti", "ovi", "centred", "class_pca", "chance"}


def test_a_smoke_form_says_what_it_leaves_out(tmp_path: Path) -> None:
    out = tmp_path / "out"
    said = run(out, "--study", "claims", "--print-config").stderr
    assert "smoke form of claims: seed 0 of 5 (--seeds 5 runs them all), 6 steps of training" in said
    assert "smoke form of demo: seeds 0, 1, 6 steps" in run(out, "--print-config").stderr


def test_a_finished_study_is_a_no_op(whole: Path) -> None:
    def stamps() -> dict[str, int]:
        return {str(path): path.stat().st_mtime_ns for path in whole.rglob("*") if path.is_file()}

    before = stamps()
    result = run(whole, "--trials", "2")
    assert result.returncode == 0
    assert "2 of 2 trials complete" in result.stdout
    assert stamps() == before


def test_optuna_knows_every_trial_and_its_values(whole: Path) -> None:
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(whole / "journal.log"))
    )
    study = optuna.load_study(study_name="demo", storage=storage)
    assert [trial.params for trial in study.trials] == [
        {"arm": "baseline", "seed": 0},
        {"arm": "image-image", "seed": 0},
    ]
    for trial in study.trials:
        assert trial.state == optuna.trial.TrialState.COMPLETE
        measured = {
            row["metric"]: row["value"]
            for row in rows(whole)
            if (row["arm"], row["split"], row["route"]) == (trial.params["arm"], "test", "native")
            and row["task"] in ("image-object", "gap")
        }
        assert trial.values == [measured["mAP"], measured["centroid_distance"]]


def without_names(lines: list[dict]) -> list[dict]:
    return [{key: value for key, value in line.items() if key != "study"} for line in lines]


@pytest.mark.slow
def test_another_study_reuses_models_and_evaluations_and_says_so(whole: Path) -> None:
    out = whole.parent / "again"
    result = run(out, "--trials", "2", "--workers", "2")
    assert result.returncode == 0, result.stderr
    for arm in ("baseline", "image-image"):
        assert f"train reused from {whole}/trials/{arm}-s0" in result.stderr
        assert f"evaluate reused from {whole}/trials/{arm}-s0" in result.stderr
    assert rows(out) == rows(whole)
    ours, theirs = (folder / "trials" / "baseline-s0" / "checkpoints" for folder in (out, whole))
    newest = json.loads((ours / "latest").read_text())["folder"]
    name = f"{newest}/open_clip_model.safetensors"
    assert (ours / name).stat().st_ino == (theirs / name).stat().st_ino


@pytest.mark.slow
def test_a_reused_model_that_is_damaged_is_trained_again(whole: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(whole, tmp_path / "first")
    shutil.copytree(whole.parent / ".stages", tmp_path / ".stages")
    for path in (tmp_path / ".stages").glob("*/*.json"):
        entry = json.loads(path.read_text())
        path.write_text(json.dumps({**entry, "folder": entry["folder"].replace("whole", "first")}))
    for weights in tmp_path.glob("first/trials/*/checkpoints/*/open_clip_model.safetensors"):
        weights.write_bytes(weights.read_bytes()[:1000])
    result = run(tmp_path / "second", "--trials", "1")
    assert result.returncode == 0, result.stderr
    assert "train reused" not in result.stderr
    assert rows(tmp_path / "second") == [row for row in rows(whole) if row["arm"] == "baseline"]


@pytest.mark.slow
def test_a_search_trains_and_measures_its_points_on_validation_items(tmp_path: Path) -> None:
    description = """
        name = "mine"
        seeds = [0]
        [[axes]]
        name = "objective.weights.image_ntxent"
        low = 0.1
        high = 1.0
        log = true
    """
    (tmp_path / "mine.toml").write_text(description)
    out = tmp_path / "out"
    given = ["--study", str(tmp_path / "mine.toml"), "--mode", "pareto", "--trials", "1"]
    result = run(out, *given)
    assert result.returncode == 0, result.stderr
    assert {(row["arm"], row["split"]) for row in rows(out)} == {("baseline", "val"), ("p0000", "val")}
    assert "2 of 2 trials complete" in result.stdout
    assert "which axes mattered is not said" in result.stdout
    again = run(out, *given)
    assert again.returncode == 0
    assert again.stdout == result.stdout
    assert "started" not in again.stderr
    assert "needs some" in run(tmp_path / "no-axes", "--mode", "tune").stderr


@pytest.mark.slow
def test_several_processes_train_one_model_inside_a_trial(whole: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from dataclasses import replace\n"
        "from ablations.study.named import demo\n\n"
        "def study():\n"
        "    made = demo()\n"
        "    return replace(made, name='mine', arms=made.arms[:1], seeds=(0,), processes=2)\n"
    )
    out = tmp_path / "out"
    result = run(out, "--study", str(tmp_path / "mine.py"), "--set", 'evaluation.routes=["native"]')
    assert result.returncode == 0, result.stderr
    one, two = (read_lines(folder / "trials" / "baseline-s0" / "metrics.jsonl") for folder in (whole, out))
    assert [line["step"] for line in two] == [line["step"] for line in one]
    for ours, theirs in zip(two, one, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-4)


def processes_in(folder: Path) -> set[str]:
    """Name the processes that have a file of a folder open: a trial has its log."""
    found = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):  # it has ended, or was closed
            if os.readlink(link).startswith(f"{folder}/"):
                found.add(link.parts[2])
    return found


@pytest.mark.slow
def test_killed_in_the_middle_of_a_trial_it_ends_with_the_same_rows(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    process = commands.Process(*command(out, "--trials", "2", "--workers", "2"))
    deadline = time.monotonic() + 120
    while not list(out.glob("trials/*/checkpoints/step-*")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    assert processes_in(out) - {str(process.pid)}
    process.kill()  # the coordinator alone: its workers end by themselves
    process.wait()
    deadline = time.monotonic() + 60
    while processes_in(out):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert not list(out.glob("trials/*/result.json"))
    before = sorted((path, path.stat().st_mtime_ns) for path in out.rglob("*"))
    time.sleep(2)
    assert sorted((path, path.stat().st_mtime_ns) for path in out.rglob("*")) == before
    result = run(out, "--trials", "2", "--workers", "2")
    assert result.returncode == 0, result.stderr
    assert rows(out) == rows(whole)
    hidden = {path.name for path in out.rglob("*") if path.name.startswith(".")}
    assert hidden == {".lock", ".coordinator.json"}  # no file that a killed process had begun


def test_a_loss_that_is_not_finite_fails_its_trial_and_the_study_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def exploding() -> Study:
        study = demo()
        first, second, *_ = study.arms
        broken = replace(
            second, name="broken", train=replace(second.train, learning_rate=1e30, gradient_clip=None)
        )
        native = replace(study.evaluation, routes=("native",), plans={})
        return replace(study, name="exploding", arms=(broken, first), evaluation=native)

    monkeypatch.setitem(STUDIES, "exploding", exploding)
    out = tmp_path / "exploding"
    assert sweep.main(study="exploding", smoke=True, out=out, seeds=1, workers=2) == 0
    result = json.loads((out / "trials" / "broken-s0" / "result.json").read_text())
    assert result["state"] == "failed"
    assert "finite" in result["reason"]
    assert {row["arm"] for row in rows(out)} == {"baseline"}
    assert "broken-s0: failed" in capsys.readouterr().out


def test_a_folder_of_another_study_is_refused(whole: Path) -> None:
    with pytest.raises(InputError, match="holds the study in mode grid, smoke form, now it is grid"):
        sweep.main(study="demo", out=whole)


def test_another_thread_count_is_refused(whole: Path) -> None:
    with pytest.raises(InputError, match=r"machine.threads was 1, now 2"):
        sweep.main(study="demo", smoke=True, out=whole, threads=2)


@pytest.mark.slow
def test_a_dry_run_lists_trials_and_writes_nothing(tmp_path: Path) -> None:
    out = tmp_path / "dry"
    result = run(out, "--dry-run", "--seeds", "3")
    assert result.returncode == 0
    assert "centroid-s2 (+ centroid penalty): to run" in result.stdout
    assert "12 of 12 trials to run" in result.stdout
    assert "minutes" in result.stdout
    assert not out.exists()


def test_the_space_maps_parameters_to_the_cell_they_name() -> None:
    study = demo()
    names = [arm.name for arm in study.arms]
    for cell in study.cells():
        assert suggest_cell(optuna.trial.FixedTrial(cell_params(cell)), names) == cell


def test_arms_differ_from_the_baseline_in_one_thing() -> None:
    study = demo()
    base = study.arm(study.baseline).train
    for arm in study.arms:
        same = replace(arm.train, recipe=base.recipe, objective=base.objective, data=base.data)
        assert same == base
        changes = (arm.train.objective.weights != base.objective.weights) + (arm.train.data != base.data)
        assert arm.train.objective.temperature == base.objective.temperature
        assert changes == (arm.name != study.baseline)


def test_seeds_may_grow_but_settings_may_not_change() -> None:
    study = demo()
    assert replace(study, seeds=(0, 1, 2)).definition() == study.definition()
    assert smoke(study).definition() != study.definition()


def test_the_slurm_array_starts_coordinators_with_options_that_exist(tmp_path: Path) -> None:
    (tmp_path / "srun").write_text('#!/usr/bin/env bash\nexec "$@"\n')
    (tmp_path / "srun").chmod(0o755)
    script = Path(__file__).resolve().parent.parent.parent / "examples" / "studies" / "slurm-array.sbatch"
    given = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHON": "echo", "SLURM_CPUS_PER_TASK": "8"}

    def run_it(**more: str) -> subprocess.CompletedProcess[str]:
        asked = ["bash", str(script), "--study", "claims"]
        return subprocess.run(asked, capture_output=True, text=True, env={**given, **more})

    assert "CROSSGAP_STORAGE: export it" in run_it().stderr
    words = run_it(CROSSGAP_STORAGE="postgresql://me:secret@host/db").stdout.split()
    assert words[:2] == ["-m", "ablations.sweep"]
    assert "secret" not in " ".join(words)
    options = {word[2:].replace("-", "_") for word in words if word.startswith("--")}
    assert options == {"storage", "out", "workers", "threads", "study"}
    assert options <= set(inspect.signature(sweep.main).parameters)


def test_an_arm_whose_data_are_not_there_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    study = tmp_path / "mine.toml"
    study.write_text('name = "mine"\n[[arms]]\nname = "other"\ntrain.data = "nowhere.tar"\n')
    with pytest.raises(InputError, match=r"arm 'other', train.data: .*nowhere\.tar"):
        sweep.main(study=str(study), smoke=True, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_database_of_ones_own_is_shared_and_needs_no_folder_to_itself(whole: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'mine.db'}"
    result = run(whole.parent / "database", "--trials", "1", "--storage", url)
    assert result.returncode == 0, result.stderr
    assert "1 of 1 trials complete" in result.stdout
    assert rows(whole.parent / "database") == [row for row in rows(whole) if row["arm"] == "baseline"]


def test_a_study_that_was_kept_and_restored_has_nothing_left_to_do(whole: Path, tmp_path: Path) -> None:
    keep(whole, tmp_path / "kept")
    restore(tmp_path / "kept", tmp_path / "elsewhere")
    result = run(tmp_path / "elsewhere", "--trials", "2")
    assert result.returncode == 0, result.stderr
    assert "2 of 2 trials complete" in result.stdout
    assert "started" not in result.stderr
    assert not list(tmp_path.glob("elsewhere/trials/*/checkpoints"))
    few = [row for row in rows(tmp_path / "elsewhere") if row["metric"] == "mAP"]
    known = {json.dumps(row, sort_keys=True) for row in rows(whole)}
    assert few
    assert {json.dumps(row, sort_keys=True) for row in few} <= known
