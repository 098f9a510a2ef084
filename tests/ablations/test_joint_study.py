"""Studies over training and inversion together: axes, shared models and batches, what the report draws."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import optuna
import pandas as pd
import pytest

from ablations import runs
from ablations.search import Mode
from ablations.study.axes import Axis, check_axes, configure_point, describe, suggest_settings
from ablations.study.changed import changed_study
from ablations.study.files import read_study
from ablations.study.named import STUDIES
from ablations.study.study import Study
from analysis import responses
from analysis.designs import changes
from analysis.leading import headlines
from analysis.plots.heat_maps import draw_surface, surface_info
from analysis.quantities import model_values
from analysis.responses import key_quantities
from analysis.study import read_runs
from crossgap.datasets.load import load_dataset
from crossgap.encoders.loading import load_encoder
from crossgap.errors import InputError
from crossgap.evaluation.changed_plans import sharing, single_settings, together
from crossgap.evaluation.plan import EvaluationConfig, InversionPlan
from crossgap.evaluation.run import evaluate
from crossgap.files import read_json
from crossgap.inversion.config import InversionConfig
from crossgap.provenance import Provenance
from crossgap.reading.quoting import quoted
from crossgap.records import read_rows
from pretrain.recipes import RECIPES
from tests import commands

pytestmark = pytest.mark.slow
EXAMPLE = Path(__file__).resolve().parent.parent.parent / "examples" / "studies" / "joint.toml"
BASE = RECIPES["baseline"]()
PLAN = InversionPlan(
    config=InversionConfig(steps=10, batch_size=128), token_counts=(1, 4), snapshots=(0, 5, 10)
)
EVALUATION = EvaluationConfig(routes=("native", "oti"), plans={"text": PLAN})


def plan_of(settings: dict[str, float | int | str | bool]) -> InversionPlan:
    _, evaluation = configure_point(BASE, EVALUATION, settings)
    return evaluation.plans["text"]


# settings


def test_a_point_is_a_training_and_an_evaluation() -> None:
    train, evaluation = configure_point(
        BASE,
        EVALUATION,
        {
            "learning_rate": 0.01,
            "evaluation.text.learning_rate": 0.1,
            "evaluation.text.steps": 7,
            "evaluation.text.num_tokens": 2,
            "evaluation.text.template": "a {}",
        },
    )
    assert train == replace(BASE, learning_rate=0.01)
    (config,) = evaluation.plans["text"].configs
    assert config == InversionConfig(
        steps=7, batch_size=128, learning_rate=0.1, num_tokens=2, template="a {}"
    )
    assert evaluation.plans["text"].snapshots == (0, 7)
    assert single_settings(evaluation)["text"]["steps"] == 7
    assert configure_point(BASE, EVALUATION, {}) == (BASE, EVALUATION)


def test_one_value_takes_the_place_of_several_and_lbfgs_has_no_weight_decay() -> None:
    assert plan_of({"evaluation.text.num_tokens": 4}).token_counts == (4,)
    assert plan_of({"evaluation.text.method": "lbfgs"}).config.weight_decay == 0
    assert plan_of({"evaluation.text.init_std": 0.5}).snapshots == PLAN.snapshots


@pytest.mark.parametrize(
    ("axis", "said"),
    [
        (Axis(name="evaluation.text.learning_rat", choices=(0.1,)), "Did you mean 'learning_rate'"),
        (Axis(name="evaluation.txt.steps", choices=(1,)), "Did you mean 'text'"),
        (Axis(name="evaluation.image.steps", choices=(1,)), "no route inverts into image"),
        (Axis(name="evaluation.text.num_tokens", choices=("one",)), "it wants a whole number"),
        (Axis(name="evaluation.text.template", choices=("nowhere",)), r"must contain \{\} exactly once"),
    ],
)
def test_an_axis_that_no_inversion_has_is_refused_before_anything_runs(axis: Axis, said: str) -> None:
    with pytest.raises(InputError, match=said):
        check_axes([axis], BASE, EVALUATION)


def test_a_figure_says_what_a_point_is() -> None:
    settings = {"objective.weights.mmd": 0.5, "evaluation.text.learning_rate": 0.02}
    assert describe(settings) == "mmd 0.5, OTI learning rate 0.02"


def test_the_example_crosses_three_axes_in_every_mode() -> None:
    study = read_study(EXAMPLE)
    assert len(study.arms) == 3 * 3 * 4  # the baseline is one of the combinations
    assert len({str(replace(arm.train, recipe="")) for arm in study.arms}) == 3
    for mode in get_args(Mode):
        drawn = study.in_mode(mode)
        space = {"objective.weights.image_ntxent": 0.7, "evaluation.text.learning_rate": 0.03}
        settings = suggest_settings(
            optuna.trial.FixedTrial({**space, "evaluation.text.steps": 5}), drawn.axes
        )
        point = drawn.point(0, settings)
        assert point.train.objective.weights["image_ntxent"] == 0.7
        assert point.evaluation is not None
        assert single_settings(point.evaluation)["text"]["learning_rate"] == 0.03


# batches


def test_arms_of_one_model_invert_in_the_same_batch_whoever_comes_first() -> None:
    study = read_study(EXAMPLE)
    evaluations = {arm.name: study.evaluation_of(arm) for arm in study.arms}
    batches = {evaluation.plans["text"].within for evaluation in evaluations.values()}
    ((batch,),) = batches
    assert len(batch.configs) == 3
    assert {config.steps for config in batch.configs} == {20}
    assert batch.snapshots == (0, 2, 5, 10, 20)
    for evaluation in evaluations.values():
        ((used, places),) = evaluation.plans["text"].made_in("text")
        assert used == batch
        assert list(places) == list(evaluation.plans["text"].configs)


def test_templates_and_methods_have_batches_of_their_own_and_a_shorter_run_holds_no_longer_one() -> None:
    plans = [plan_of({"evaluation.text.template": text}) for text in ("a {}", "the {}")]
    assert len(together(plans, "text")) == 2
    (short,) = together([plan_of({"evaluation.text.steps": 3})], "text")
    long = replace(PLAN, within=(short,))
    assert all(batch != short for batch, _ in long.made_in("text"))


def test_shared_inversions_are_those_of_a_batch_of_their_own() -> None:
    from tests.conftest import tiny_encoder
    from tests.evaluation.test_evaluate import CONFIG, PROVENANCE, dataset

    own = replace(CONFIG, routes=("native", "oti"), probes=())
    other = configure_point(BASE, own, {"evaluation.text.learning_rate": 0.3, "evaluation.text.steps": 9})[1]
    alone, shared = (
        evaluate(tiny_encoder(), dataset("test"), None, config=config, provenance=PROVENANCE).rows
        for config in (own, sharing(own, [other]))
    )
    assert len(alone) == len(shared)
    for ours, theirs in zip(shared, alone, strict=True):
        assert (ours.task, ours.route, ours.metric, ours.steps, ours.setting) == (
            theirs.task, theirs.route, theirs.metric, theirs.steps, theirs.setting,
        )  # fmt: skip
        assert ours.value == pytest.approx(theirs.value, abs=1e-3)


# settings on the command line


def test_a_study_is_changed_as_its_file_would_be() -> None:
    study = STUDIES["demo"]()
    changed = changed_study(
        study,
        {"train.model.width": 48, "evaluation.text.steps": 20, "limit": 9, "search.tune.trials": 3},
    )
    assert {arm.train.model.width for arm in changed.arms} == {48}
    assert changed.evaluation.plans["text"].config.steps == 20
    assert (changed.limit, changed.searches["tune"].trials) == (9, 3)
    assert changed_study(study, {"model.width": 48}).arms == changed.arms
    assert changed_study(study, {}) == study


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"seed": 3}, "not a study's to change"),
        ({"model.widht": 3}, "Did you mean 'width'"),
        ({"evaluation.text.step": 3}, "Did you mean 'steps'"),
        ({"search.tune.trails": 3}, "Did you mean 'trials'"),
        ({"limit": "many"}, "limit: 'many' is text"),
    ],
)
def test_a_study_refuses_what_is_no_setting_of_it(settings: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        changed_study(STUDIES["demo"](), settings)


# the whole of it


def small(folder: Path) -> Path:
    """The example with fewer values, so that it takes two models a seed."""
    text = EXAMPLE.read_text()
    for old, new in (("[0.0, 0.5, 1.0]", "[0.0, 1.0]"), ("[2, 5, 10, 20]", "[2, 10]")):
        assert old in text
        text = text.replace(old, new)
    path = folder / "joint.toml"
    path.write_text(text)
    return path


def sweep(study: Path, out: Path, *more: str) -> None:
    given = ("--study", str(study), "--smoke", "--out", str(out), *more)
    result = commands.run("ablations.sweep", *given, timeout=550)
    assert result.returncode == 0, result.stderr


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("joint")
    sweep(small(folder), folder / "out", "--seeds", "2", "--workers", "2")
    return folder / "out"


def test_a_model_is_trained_once_and_inverted_once_for_all_its_arms(done: Path) -> None:
    results = {path.parent.name: read_json(path) for path in done.glob("trials/*/result.json")}
    assert len(results) == 2 * 12
    assert {result["state"] for result in results.values()} == {"complete"}
    assert sum("train" not in result["reused"] for result in results.values()) == 2 * 2
    assert sum("inverted" in result["reused"] for result in results.values()) == 2 * 2
    assert sum("encoded" in result["reused"] for result in results.values()) == 2 * 2


def test_a_cell_is_what_an_evaluation_of_its_model_gives(done: Path) -> None:
    trial = done / "trials" / "g-1-2-1-s0"
    settings = read_json(trial / "evaluation.json")["settings"]
    assert settings["inversion"]["text"]["learning_rate"] == 0.08
    config = EvaluationConfig(
        routes=("chance", "native", "oti", "untrained_tokens"),
        plans={
            "text": InversionPlan(
                config=InversionConfig(steps=10, learning_rate=0.08, batch_size=128),
                token_counts=(1,),
                snapshots=(0, 10),
            )
        },
    )
    rows = evaluate(
        load_encoder(str(trial), device="cpu"),
        load_dataset("emoji", split="test", limit=60),
        None,
        config=config,
        provenance=Provenance(study="joint", arm="x", seed=0, config_hash=""),
    ).rows
    kept = read_rows([trial / "rows.jsonl"])
    losses = kept[kept["metric"] == "loss"].set_index("steps")["value"].to_dict()
    assert losses == pytest.approx({row.steps: row.value for row in rows if row.metric == "loss"}, abs=1e-4)


def test_its_report_has_importances_and_the_surface(done: Path) -> None:
    study = read_runs([done])
    varied = changes(study.configs, study.baseline)
    assert varied["g-1-0-0"] == {
        "objective.weights.image_ntxent": 1.0,
        "evaluation.text.learning_rate": 0.005, "evaluation.text.steps": 2,
    }  # fmt: skip
    rows = quoted(study.rows)
    quantities = key_quantities(model_values(rows), headlines(rows))
    shares = responses.importances(study, quantities).table
    gain = shares[shares["quantity"] == "OTI gain"].set_index("axis")["share"]
    assert set(gain.index) == {"image_ntxent weight", "OTI learning rate", "OTI steps"}
    assert gain.sum() == pytest.approx(1)
    native = shares[shares["quantity"] == "native mAP, images"].set_index("axis")["share"]
    assert native["image_ntxent weight"] > 0.99  # no inversion changes what is native
    ((quantity, points, settings),) = responses.surface(study, quantities)
    info = surface_info(points, settings, quantity=quantity.name, unit=quantity.unit)
    assert (info.ys, info.xs, info.panels) == (("0", "1"), ("0.005", "0.02", "0.08"), ("2", "10"))
    cell = points[(points["image_ntxent weight"] == 1) & (points["OTI steps"] == 2)]
    cell = cell[cell["OTI learning rate"] == 0.02]
    shown = info.cells.set_index(["panel", "y", "x"])["value"]
    assert len(cell) == 2
    assert shown["2", "1", "0.02"] == pytest.approx(cell["value"].mean())
    figure = draw_surface(info)
    assert [axes.get_title(loc="left") for axes in figure.axes[:2]] == ["OTI steps 2", "OTI steps 10"]


def test_its_rows_are_exported_with_the_settings_of_inversion(done: Path, tmp_path: Path) -> None:
    assert runs.export(done, to=tmp_path / "rows.csv") == 0
    exported = pd.read_csv(tmp_path / "rows.csv")
    by_arm = exported.groupby("arm")["evaluation.text.learning_rate"]
    assert (by_arm.nunique() == 1).all()
    assert by_arm.first().nunique() > 1


def test_points_drawn_over_both_share_the_trained_baseline(done: Path) -> None:
    text = small(done.parent).read_text()
    place = text.index("[[axes]]")
    (done.parent / "inverted.toml").write_text(text[:place] + text[text.index("[[axes]]", place + 1) :])
    out = done.parent / "drawn"
    sweep(done.parent / "inverted.toml", out, "--mode", "qmc", "--trials", "2", "--seeds", "1")
    results = {path.parent.name: read_json(path) for path in out.glob("trials/*/result.json")}
    assert set(results) == {"baseline-s0", "p0000-s0", "p0001-s0"}
    assert all("train" in result["reused"] for result in results.values())
    rows = read_rows([out / "rows.jsonl"])
    assert set(rows["arm"]) == {"baseline", "p0000", "p0001"}


# the figure


def test_a_surface_averages_over_seeds_and_further_settings() -> None:
    rng = np.random.default_rng(0)
    points = pd.DataFrame(
        [
            {"a": a, "b": b, "c": c, "d": d, "value": float(rng.normal())}
            for a in (0, 10, 2)
            for b in ("x", "y")
            for c in (0.5, 0.1)
            for d in (1, 2)
        ]
    )
    info = surface_info(points, ["a", "b", "c", "d"], quantity="gain", unit="points", most=1)
    assert (info.ys, info.xs, info.panels, info.left_out) == (
        ("0", "2", "10"),
        ("x", "y"),
        ("0.1",),
        ("c 0.5",),
    )
    mine = points[(points["a"] == 10) & (points["b"] == "y") & (points["c"] == 0.1)]
    shown = info.cells.set_index(["panel", "y", "x"])["value"]
    assert shown["0.1", "10", "y"] == pytest.approx(mine["value"].mean())
    two = surface_info(points, ["a", "b"], quantity="gain", unit="points")
    assert two.panels == ("",)
    assert len(two.cells) == 6
    draw_surface(two)


def test_a_study_that_varies_no_inversion_has_no_surface() -> None:
    study: Study = STUDIES["factorial"]()
    assert all(arm.evaluation is None for arm in study.arms)
    assert all(study.evaluation_of(arm) == study.evaluation for arm in study.arms)
