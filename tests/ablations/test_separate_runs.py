"""Runs that were trained and evaluated one by one are reported as the study that they could have been."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ablations.running.spec import TrialSpec, trial_folder
from ablations.running.trial import run_trial
from ablations.search import MODES
from ablations.study.study import Arm, Study
from analysis.report import main as report
from analysis.results import Results, compute
from analysis.study import read_runs
from crossgap.command import run_command
from crossgap.datasets.load import load_dataset
from crossgap.encoders.trained_runs import trained_run
from crossgap.errors import InputError
from crossgap.evaluate import main as evaluate
from crossgap.evaluation.plan import EvaluationConfig, InversionPlan
from crossgap.files import read_json, write_json
from crossgap.inversion.presets import preset
from crossgap.metrics.intervals import Bootstrap
from pretrain.config import smoke
from pretrain.labels import label_of
from pretrain.recipes import RECIPES
from pretrain.run import train
from tests.synthetic_study import SyntheticArm, SyntheticStudy, write_study

pytestmark = pytest.mark.slow
FEW = Bootstrap(resamples=100)
ROUTES = ("chance", "native", "oti", "untrained_tokens", "class_pca")
ARMS = {"baseline": "plain", "image-image": "with"}
LIMIT = 24


def config(recipe: str) -> Any:
    return replace(smoke(RECIPES[recipe]()), threads=1, device="cpu")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    """Give the folder of a study of two arms, and those of the same two trained and evaluated one by one."""
    root = tmp_path_factory.mktemp("runs")
    arms = tuple(
        Arm(name=name, label=label_of(config(name)), description="", train=config(name)) for name in ARMS
    )
    template = load_dataset("emoji", split="test", limit=LIMIT).default_template
    plan = InversionPlan(
        config=replace(preset("any", "text", "paper"), steps=4, template=template),
        token_counts=(1,),
        snapshots=(0, 2, 4),
    )
    study = Study(
        name="two", description="", arms=arms, baseline="baseline", seeds=(0,), limit=LIMIT,
        evaluation=EvaluationConfig(routes=ROUTES, plans={"text": plan}, probes=()),
    )  # fmt: skip
    write_json(root / "two" / "study.json", study.as_json())
    separate = []
    for arm in arms:
        run_trial(
            TrialSpec(
                study="two", arm=arm, seed=0, evaluation=study.evaluation, dataset="emoji", limit=LIMIT,
                split=MODES["grid"].split, processes=1, device="cpu", threads=1, stages=root / ".stages",
                folder=trial_folder(root / "two", arm.name, 0),
            )
        )  # fmt: skip
        train(arm.train, root / arm.name, progress=False)
        out = root / f"{arm.name}-measured"
        evaluate(
            out=out, encoder=str(root / arm.name), dataset=("emoji",), routes=ROUTES, probes=(), limit=LIMIT,
            steps=4, num_tokens=(1,), snapshots=(0, 2, 4), device="cpu", threads=1,
        )  # fmt: skip
        separate.append(out)
    return root / "two", separate


@pytest.fixture(scope="module")
def both(folders: tuple[Path, list[Path]]) -> tuple[Results, Results]:
    study, separate = folders
    return compute(read_runs([study]), FEW), compute(read_runs(separate), FEW)


def test_separate_runs_give_the_contrasts_of_the_study(both: tuple[Results, Results]) -> None:
    ours, theirs = (results.contrasts.drop(columns="arm") for results in both)
    assert len(ours) > 5
    pd.testing.assert_frame_equal(ours, theirs)


def test_separate_runs_give_the_verdicts_of_the_study(both: tuple[Results, Results]) -> None:
    def verdicts(results: Results) -> list[tuple[Any, ...]]:
        return [
            (claim.number, claim.modality, claim.verdict, one.text, one.verdict, one.note)
            for claim in results.claims
            for one in claim.statements
        ]

    ours, theirs = map(verdicts, both)
    assert ours == theirs
    assert len({one[2] for one in ours}) > 1  # some are judged, others were not measured


def test_separate_runs_have_labels_curves_and_differences(folders: tuple[Path, list[Path]]) -> None:
    study, separate = folders
    whole, joined = read_runs([study]), read_runs(separate)
    assert [arm.label for arm in joined.arms] == [arm.label for arm in whole.arms]
    assert joined.label(joined.arm_names[1]).startswith("+ image-image")
    assert joined.baseline == joined.arm_names[0]
    shared = ["seed", "step", "loss", "temperature"]
    pd.testing.assert_frame_equal(whole.training[shared], joined.training[shared])
    assert set(joined.rows["pairs_seen"]) == {6 * 16}


def test_the_other_run_can_be_the_baseline_and_be_called_something(
    folders: tuple[Path, list[Path]],
) -> None:
    _, (plain, term) = folders
    study = read_runs([plain, term], baseline=str(term), labels={plain.name: "plain"}, title="Two")
    assert (study.baseline, study.heading, study.label(study.arm_names[0])) == (
        study.arm_names[1], "Two", "plain",
    )  # fmt: skip
    with pytest.raises(InputError, match="--baseline: unknown arm"):
        read_runs([plain, term], baseline="nobody")


def test_the_report_of_separate_runs_is_that_of_a_study(
    folders: tuple[Path, list[Path]], tmp_path: Path
) -> None:
    _, separate = folders
    arguments = [*map(str, separate), "--out", str(tmp_path), "--format", "md", "--title", "Two runs"]
    assert run_command(report, [*arguments, "--label", separate[1].name, "with the term"]) == 0
    seeds = (tmp_path / "seeds.md").read_text()
    assert "with the term" in seeds
    told = (tmp_path / "provenance.md").read_text()
    assert "How the models were trained" in told
    assert "image_ntxent weight 1" in told.replace("\\", "")


def test_a_trial_keeps_the_arm_and_label_of_its_study(folders: tuple[Path, list[Path]]) -> None:
    study, _ = folders
    run = trained_run(study / "trials" / "image-image-s0")
    assert run is not None
    assert (run.arm, run.about["label"]) == (
        "image-image",
        read_json(study / "study.json")["arms"][1]["label"],
    )


def test_an_early_checkpoint_is_another_arm(folders: tuple[Path, list[Path]]) -> None:
    study, _ = folders
    run = trained_run(study / "trials" / "baseline-s0" / "checkpoints" / "step-000003")
    assert run is not None
    assert (run.arm, run.step, run.pairs_seen) == ("baseline-step-3", 3, 48)
    assert run.about["label"].endswith(", step 3")
    assert run.about["config"]["stopped_at"] == 3


def alone(folder: Path, source: Path, **changes: Any) -> Path:
    """Copy a trial as an evaluated run of its own, its training changed."""
    folder.mkdir()
    for path in source.iterdir():
        if path.suffix in (".jsonl", ".parquet"):
            (folder / path.name).write_bytes(path.read_bytes())
    about = read_json(source / "config.json")
    seed = int(source.name.rpartition("-s")[2])
    about["config"] = {**about["config"], "seed": seed, **changes}
    (folder / "config.json").write_text(json.dumps(about))
    return folder


def test_seeds_of_one_training_are_one_arm_and_other_trainings_are_not(tmp_path: Path) -> None:
    arms = (SyntheticArm(name="a", label="A"), SyntheticArm(name="b", label="B"))
    made = write_study(tmp_path / "study", SyntheticStudy(arms=arms, pictures=False))
    first, second = (alone(tmp_path / f"a{seed}", made / "trials" / f"a-s{seed}") for seed in (0, 1))
    pooled = read_runs([first, second])
    assert pooled.arm_names == ["a"]
    assert pooled.seeds == (0, 1)
    wider = alone(tmp_path / "wider", made / "trials" / "a-s1", steps=900)
    apart = read_runs([first, wider])
    assert apart.arm_names == ["a (a0)", "a (wider)"]
    effect = next(
        one
        for claim in compute(apart, FEW).claims
        if claim.number == 2
        for one in claim.statements
        if one.role == "effect"
    )
    assert effect.evidence is not None
    assert effect.evidence.models.n == 1
