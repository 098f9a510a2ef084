"""What is said before it costs: data, routes, prompts and plans of a study, what an estimate rests on."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock

from ablations import runs
from ablations.running.estimate import REFERENCE_STEP, print_plan
from ablations.running.run import _not_measured
from ablations.running.spec import TrialSpec
from ablations.study.checks import check_study
from ablations.study.files import read_study
from ablations.study.named import STUDIES
from ablations.study.smoke import smoke
from ablations.study.study import Study
from crossgap.errors import InputError
from crossgap.evaluation.plan import EvaluationConfig, InversionPlan
from crossgap.files import write_json
from crossgap.inversion.config import InversionConfig
from pretrain import train as training
from tools import list_settings

ROOT = Path(__file__).resolve().parent.parent.parent
PLAN = InversionPlan(config=InversionConfig(steps=4), token_counts=(1,), snapshots=(4,))


def study(**changes: object) -> Study:
    return replace(smoke(STUDIES["demo"]()), **changes)


# a study, before anything is trained


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dataset": "emoij"}, "dataset: unknown dataset .*'emoij'.*'emoji'"),
        (
            {"evaluation": EvaluationConfig(routes=("native", "ovi"), plans={"text": PLAN})},
            "route 'ovi' inverts into image, and there is no plan",
        ),
        (
            {
                "evaluation": EvaluationConfig(
                    routes=("oti",), plans={"text": replace(PLAN, templates=("a " * 40 + "{}",))}
                )
            },
            "takes 43 tokens; the model has 32",
        ),
        (
            {
                "evaluation": EvaluationConfig(
                    routes=("ovi",), plans={"image": replace(PLAN, token_counts=(99,))}
                )
            },
            "num_tokens 99 exceeds the 16 patches",
        ),
    ],
)
def test_what_would_fail_after_hours_is_refused_at_once(changes: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        check_study(study(**changes))


def test_a_study_that_can_run_says_which_routes_its_data_cannot_show(tmp_path: Path) -> None:
    assert check_study(study()) == []
    table = tmp_path / "texts.csv"
    table.write_text("text,label,split\n" + "".join(f"thing {n},{'ab'[n % 2]},test\n" for n in range(8)))
    (line,) = check_study(
        study(
            dataset=str(table),
            evaluation=EvaluationConfig(routes=("native", "oti", "ovi"), plans={"text": PLAN, "image": PLAN}),
        )
    )
    assert line.startswith("route oti will not be measured")


def test_what_was_asked_for_and_is_missing_has_a_line(tmp_path: Path) -> None:
    for name in ("a-s0", "b-s0"):
        skipped = {"image-concept/ovi": "no towers", "gap/anchor_condition": "is inf"}
        write_json(tmp_path / "trials" / name / "evaluation.json", {"skipped": skipped})
    assert _not_measured(study(), tmp_path, ["a-s0", "b-s0", "c-s0"]) == [
        "not measured: image-concept/ovi: no towers (2 trials)"
    ]


def test_the_placebo_looks_at_step_0_by_itself() -> None:
    with_it = EvaluationConfig(routes=("oti", "untrained_tokens"), plans={"text": PLAN})
    assert with_it.plans["text"].snapshots == (0, 4)
    assert EvaluationConfig(routes=("oti",), plans={"text": PLAN}).plans["text"].snapshots == (4,)


# estimates


def test_an_estimate_is_a_range_that_says_what_it_rests_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    joint = read_study(ROOT / "examples" / "studies" / "joint.toml")
    monkeypatch.setattr(
        "ablations.running.estimate._measure", lambda configs, workers: dict.fromkeys(configs, 0.13)
    )
    template = TrialSpec(
        study=joint.name, arm=joint.arm("baseline"), seed=0, evaluation=joint.evaluation, dataset="emoji",
        limit=None, split="test", processes=1, device="cpu", threads=1, folder=tmp_path,
        stages=tmp_path / ".stages",
    )  # fmt: skip
    print_plan(joint, tmp_path, template, total=len(joint.cells()), workers=2)
    *_, estimate, shared = capsys.readouterr().out.splitlines()
    trained = 6 * 0.13 * 500 / 120
    rest = 100 * 0.13 / REFERENCE_STEP - 0.13 * 500  # core_seconds, were they measured on this machine
    low, high = trained + 6 * rest / 2 / 120, trained + 72 * rest * 2 / 120
    assert f"between {low:.1f} and {high:.1f} minutes (training {trained:.1f}, from 0.130 s" in estimate
    assert "core_seconds = 100" in estimate
    assert shared.startswith("66 of them train nothing")


# states and warnings


def test_a_trial_that_was_killed_is_interrupted_and_one_that_is_held_runs(tmp_path: Path) -> None:
    trial = tmp_path / "trials" / "a-s0"
    trial.mkdir(parents=True)
    assert runs._state(trial)[0] == "not started"
    (trial / ".lock").touch()
    assert runs._state(trial)[0] == "interrupted before its first step"
    (trial / "metrics.jsonl").write_text('{"step": 20}\n{"step": 40}\n')
    assert runs._state(trial)[0] == "interrupted at step 40"
    held = (
        "import sys, time; from filelock import FileLock\n"
        "with FileLock(sys.argv[1]):\n    print('held', flush=True)\n    time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", held, str(trial / ".lock")], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert runs._state(trial)[0] == "running"
    finally:
        process.kill()
        process.communicate()
    assert runs._state(trial)[0] == "interrupted at step 40"
    with FileLock(trial / ".lock", timeout=0):
        pass


def test_a_released_model_at_the_rate_of_a_training_from_nothing_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pretrain.run.train_and_say", lambda *_: None)
    training.main(encoder="ViT-B-32", pretrained="openai", out=tmp_path / "a")
    assert "learning rate 0.001 with --encoder ViT-B-32" in capsys.readouterr().err
    training.main(recipe="fine-tune-01", encoder="ViT-B-32", pretrained="openai", out=tmp_path / "a")
    training.main(encoder="ViT-B-32", pretrained="openai", learning_rate=1e-5, out=tmp_path / "a")
    training.main(out=tmp_path / "a")
    assert capsys.readouterr().err == ""


# documentation


def test_the_page_of_settings_is_that_of_the_declarations() -> None:
    text = list_settings.PAGE.read_text("utf-8")
    assert text.split(list_settings.MARK)[1].lstrip("\n") == list_settings.tables()
