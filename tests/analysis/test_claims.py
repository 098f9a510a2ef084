"""Claims on invented studies whose truth is known: supported, contradicted, undecided, not measured."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.claims import Claim, Statement, decide
from analysis.results import Results, compute
from analysis.stats.evidence import Evidence, gather, side
from analysis.stats.families import holm
from analysis.stats.seeds import paired_seeds
from analysis.study import read_runs
from crossgap.metrics.intervals import Bootstrap
from tests.synthetic_study import SyntheticArm, SyntheticStudy, write_study

FEW = Bootstrap(resamples=300)
PLAN = SyntheticStudy(
    seeds=(0, 1, 2, 3, 4),
    n_queries=240,
    n_classes=24,
    steps=(25,),
    num_tokens=(1,),
    noise=0.02,
    pictures=False,
)
NAMED = replace(PLAN, seeds=(0, 1), n_queries=48)  # for what is said of arms, whatever their numbers


def judged(folder: Path, *arms: SyntheticArm, plan: SyntheticStudy = PLAN) -> Results:
    study = read_runs([write_study(folder, replace(plan, arms=arms))])
    return compute(study, FEW)


def claim(results: Results, number: int, modality: str = "image") -> Claim:
    return next(one for one in results.claims if (one.number, one.modality) == (number, modality))


def statement(found: Claim, role: str, words: str = "") -> Statement:
    return next(one for one in found.statements if one.role == role and words in one.text)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return judged(
        tmp_path_factory.mktemp("claims") / "study",
        SyntheticArm(name="baseline", label="Baseline", gain=0.06),
        SyntheticArm(name="term", label="With a term", gain=0.0, weights={"image_ntxent": 1.0}),
        SyntheticArm(name="views", label="Views", gain=0.06, weights={"clip": 0.5, "clip_second_view": 0.5}),
        SyntheticArm(name="hot", label="Hot", gain=0.06, gap=0.1, temperature=1.0),
        SyntheticArm(name="cool", label="Cool", gain=0.06, gap=0.7, temperature=0.02),
        SyntheticArm(name="longer", label="Longer", gain=0.07, steps=900),
    )


def test_a_gain_above_every_control_is_supported(results: Results) -> None:
    found = claim(results, 2)
    assert found.verdict == "supported"
    assert {one.verdict for one in found.statements} == {"supported"}
    effect = statement(found, "effect").evidence
    assert effect is not None
    assert effect.value == pytest.approx(0.06, abs=0.005)
    assert effect.models.n == 5
    assert {one.text.split("than ")[1] for one in found.statements} == {
        "native features", "untrained tokens", "class-name PCA", "centring", "a random subspace",
    }  # fmt: skip


def test_a_term_that_takes_the_gain_is_told_from_its_views(results: Results) -> None:
    found = claim(results, 4)
    assert found.verdict == "supported"
    effect, control = statement(found, "effect"), statement(found, "control")
    assert effect.note == "mean over With a term"
    assert effect.evidence is not None
    assert effect.evidence.value == pytest.approx(-0.06, abs=0.006)
    assert control.note == "mean over Views; Longer"
    assert control.evidence is not None
    assert control.evidence.value == pytest.approx(-0.065, abs=0.006)
    assert statement(found, "further").verdict == "supported"  # what is left is negligible
    assert claim(results, 4, "text").verdict == "not measured"


def test_a_closed_gap_that_changes_nothing_contradicts(results: Results) -> None:
    found = claim(results, 5)
    assert statement(found, "effect").verdict == "contradicted"
    assert statement(found, "effect").note == "mean over Hot"  # Cool keeps most of the gap
    assert found.verdict == "contradicted"
    slope = statement(found, "control").slope
    assert slope is not None
    assert slope.n_arms == 6


def test_what_was_not_measured_leaves_a_claim_undecided(results: Results) -> None:
    found = claim(results, 1)
    assert statement(found, "effect").verdict == "supported"
    assert statement(found, "control", "random").verdict == "supported"
    alone = statement(found, "control", "alone")
    assert (alone.verdict, alone.note) == ("not measured", "no arm was trained on images alone")
    assert found.verdict == "undecided"


def test_effects_share_one_correction_and_controls_do_not(results: Results) -> None:
    effects = [one for found in results.claims for one in found.statements if one.role == "effect"]
    measured = [one for one in effects if one.evidence]
    raw = sorted((one.evidence.p, one.p_holm) for one in measured if one.evidence)
    assert len(effects) == 10  # what could not be tested counts as well
    assert raw[0][1] == pytest.approx(min(1, len(effects) * raw[0][0]))
    assert all(p_holm >= p for p, p_holm in raw)
    others = [one for found in results.claims for one in found.statements if one.role != "effect"]
    assert all(one.p_holm != one.p_holm for one in others)


def test_a_gain_below_its_control_contradicts_and_no_gain_does(tmp_path: Path) -> None:
    small = judged(tmp_path / "small", SyntheticArm(name="baseline", label="B", gain=0.01))
    found = claim(small, 2)
    assert statement(found, "effect").verdict == "supported"
    assert statement(found, "control", "class-name PCA").verdict == "contradicted"  # .01 against .02
    assert found.verdict == "contradicted"
    none = claim(judged(tmp_path / "none", SyntheticArm(name="baseline", label="B", gain=0.0)), 2)
    assert statement(none, "effect").verdict == "contradicted"  # negligible, and shown to be
    harm = claim(judged(tmp_path / "harm", SyntheticArm(name="baseline", label="B", gain=-0.05)), 2)
    assert statement(harm, "effect").verdict == "contradicted"


def test_one_seed_speaks_of_a_model_but_not_of_arms(tmp_path: Path) -> None:
    arms = (
        SyntheticArm(name="baseline", label="B", gain=0.06),
        SyntheticArm(name="term", label="T", gain=0.0, weights={"image_ntxent": 1.0}),
    )
    results = judged(tmp_path / "study", *arms, plan=replace(PLAN, seeds=(0,), n_classes=40))
    assert statement(claim(results, 2), "effect").verdict == "supported"
    effect = statement(claim(results, 4), "effect")
    assert effect.verdict == "undecided"
    assert effect.note.endswith("one seed cannot tell arms apart")


def test_two_seeds_decide_only_what_both_intervals_show(tmp_path: Path) -> None:
    plan = replace(PLAN, seeds=(0, 1), noise=0.2)
    results = judged(tmp_path / "study", SyntheticArm(name="baseline", label="B", gain=0.03), plan=plan)
    effect = statement(claim(results, 2), "effect")
    assert effect.verdict == "undecided"


def made(value: float, half: float, *, n: int = 5) -> Evidence:
    bounds = (value - half, value + half)
    models = paired_seeds([value] * n)
    return Evidence(value, *bounds, models, *bounds, 100, 50, 1, 0.001)


@pytest.mark.parametrize(
    ("kind", "value", "half", "p_holm", "verdict"),
    [
        ("above", 0.02, 0.01, 0.01, "supported"),
        ("above", 0.02, 0.01, 0.06, "undecided"),  # lost by the correction
        ("above", -0.02, 0.01, 0.01, "contradicted"),
        ("above", -0.02, 0.01, 0.06, "undecided"),
        ("above", 0.001, 0.003, 0.9, "contradicted"),  # shown to be nothing
        ("above", 0.002, 0.001, 0.01, "contradicted"),  # above zero, and shown to be too little to count
        ("above", 0.004, 0.006, 0.9, "undecided"),
        ("below", -0.02, 0.01, 0.01, "supported"),
        ("below", 0.02, 0.01, 0.01, "contradicted"),
        ("negligible", 0.001, 0.003, 1.0, "supported"),
        ("negligible", 0.02, 0.01, 1.0, "contradicted"),
        ("negligible", 0.004, 0.006, 1.0, "undecided"),
    ],
)
def test_the_rule(kind: str, value: float, half: float, p_holm: float, verdict: str) -> None:
    one = Statement(text="", role="effect", kind=kind, evidence=made(value, half), p_holm=p_holm)  # type: ignore[arg-type]
    assert decide(one, 0.05, 0.005).verdict == verdict


def test_arms_are_never_pooled_as_models_of_one_kind(tmp_path: Path) -> None:
    arms = tuple(SyntheticArm(name=name, label=name, gain=0.06) for name in ("a", "b", "c"))
    folder = write_study(tmp_path / "study", replace(NAMED, arms=arms))
    study = replace(read_runs([folder]), baseline=None)
    effect = statement(claim(compute(study, FEW), 2), "effect").evidence
    assert effect is not None
    assert effect.models.n == 2  # the seeds of the first arm


def test_an_arm_that_takes_the_term_away_or_joins_it_to_views_plays_no_part(tmp_path: Path) -> None:
    results = judged(
        tmp_path / "study",
        SyntheticArm(name="baseline", label="With", gain=0.0, weights={"image_ntxent": 1.0}),
        SyntheticArm(name="without", label="Without", gain=0.06, weights={"image_ntxent": 0.0}),
        SyntheticArm(name="more", label="More", gain=0.0, weights={"image_ntxent": 2.0}),
        SyntheticArm(
            name="both", label="Both", gain=0.0, weights={"image_ntxent": 2.0, "clip_second_view": 0.5}
        ),
        plan=NAMED,
    )
    found = claim(results, 4)
    assert statement(found, "effect").note == "mean over More"
    assert statement(found, "control").note == "no arm has them without the term"


def test_an_arm_of_other_captions_does_not_count_as_closing_the_gap(tmp_path: Path) -> None:
    """Its gain may differ for what its captions say: neither the effect nor the slope is over it."""
    closing = [
        SyntheticArm(name="hot", label="Hot", gain=0.06, gap=0.1, temperature=1.0),
        SyntheticArm(name="cool", label="Cool", gain=0.06, gap=0.7, temperature=0.02),
        SyntheticArm(name="cold", label="Cold", gain=0.055, gap=0.75, temperature=0.005),
        SyntheticArm(name="mild", label="Mild", gain=0.058, gap=0.5, temperature=0.1),
    ]
    other = SyntheticArm(
        name="says-all", label="Says all", gain=-0.02, gap=0.1, settings={"data": {"mention": 1.0}}
    )
    base = SyntheticArm(name="baseline", label="Baseline", gain=0.06, settings={"data": {"mention": 0.3}})
    alike = [replace(arm, settings=base.settings) for arm in closing]
    without, with_it = (
        judged(tmp_path / name, base, *alike, *more) for name, more in (("less", ()), ("more", (other,)))
    )
    found = claim(with_it, 5)
    assert statement(found, "effect").note == "mean over Hot"
    assert found.verdict == claim(without, 5).verdict == "contradicted"
    slopes = [statement(claim(results, 5), "control").slope for results in (with_it, without)]
    assert slopes[0] is not None
    assert slopes[0] == slopes[1]
    assert slopes[0].n_arms == 5
    (within,) = [one for one in with_it.within if one.where.modality == "image"][:1]
    assert within.slope.n_arms == 6


def test_a_term_within_both_modalities_counts_for_each_and_not_as_closing_the_gap(tmp_path: Path) -> None:
    results = judged(
        tmp_path / "study",
        SyntheticArm(name="baseline", label="B", gain=0.06, gap=0.9),
        SyntheticArm(name="s", label="S", gain=0.0, gap=0.05, weights={"intra_modal_separation": 0.25}),
        SyntheticArm(name="m", label="M", gain=0.06, gap=0.1, weights={"mmd": 1.0}),
        SyntheticArm(name="d", label="D", gain=0.06, weights={"self_distillation": 1.0}),
        plan=NAMED,
    )
    assert statement(claim(results, 4), "effect").note == "mean over S; D"
    assert statement(claim(results, 4, "text"), "effect").note == "mean over S"
    assert statement(claim(results, 5), "effect").note == "mean over M"


@pytest.mark.parametrize(
    ("acts_on", "within_images", "within_texts", "closes"),
    [("image", True, False, False), ("text", False, True, False), ("both", True, True, False),
     ("across", False, False, True)],
)  # fmt: skip
def test_a_term_of_ones_own_is_judged_by_what_its_run_declares(
    tmp_path: Path, acts_on: str, within_images: bool, within_texts: bool, closes: bool
) -> None:
    own = {"weights": {"pull": 1.0}, "acts_on": {"pull": acts_on}}
    folder = write_study(
        tmp_path / "study",
        replace(
            NAMED,
            arms=(
                SyntheticArm(name="baseline", label="B", gap=0.9),
                SyntheticArm(name="own", label="Own", gap=0.1, **own),  # type: ignore[arg-type]
            ),
        ),
    )
    results = compute(read_runs([folder]), FEW)
    notes = {
        (number, modality): statement(claim(results, number, modality), "effect").note
        for number, modality in ((4, "image"), (4, "text"), (5, "image"))
    }
    assert (notes[4, "image"] == "mean over Own") == within_images
    assert (notes[4, "text"] == "mean over Own") == within_texts
    assert (notes[5, "image"] == "mean over Own") == closes
    assert not any("config.json" in note for note in notes.values())


def test_what_a_baseline_says_of_a_term_holds_for_an_arm_without_it(tmp_path: Path) -> None:
    results = judged(
        tmp_path / "study",
        SyntheticArm(name="baseline", label="With", weights={"pull": 1.0}, acts_on={"pull": "image"}),
        SyntheticArm(name="without", label="Without", gap=0.1),
        plan=NAMED,
    )
    assert statement(claim(results, 5), "effect").note == "no arm keeps at most half of the baseline's gap"


def test_arms_of_an_earlier_version_are_named_and_not_counted(tmp_path: Path) -> None:
    results = judged(
        tmp_path / "study",
        SyntheticArm(name="baseline", label="B", gap=0.9, acts_on=None),
        SyntheticArm(name="old", label="Old", gap=0.1, weights={"mmd": 1.0}, acts_on=None),
        SyntheticArm(name="hot", label="Hot", gap=0.1, temperature=1.0, acts_on=None),
        SyntheticArm(name="views", label="V", weights={"clip": 0.5, "clip_second_view": 0.5}, acts_on=None),
        plan=NAMED,
    )
    untold = (
        "not counted, as config.json does not say what a term acts on (an earlier version trained it): Old"
    )
    assert statement(claim(results, 4), "effect").note == f"no arm adds an image-image term alone; {untold}"
    assert statement(claim(results, 5), "effect").note == f"mean over Hot; {untold}"
    assert statement(claim(results, 4), "control").note == "mean over V"  # by the name of its view's term
    alone = statement(claim(results, 1), "control", "alone")
    assert alone.note == f"no arm was trained on images alone; {untold}"


def test_a_model_of_one_modality_alone_is_one_whose_terms_all_act_there(tmp_path: Path) -> None:
    base = {"clip": 0.0}
    results = judged(
        tmp_path / "study",
        SyntheticArm(name="baseline", label="B"),
        SyntheticArm(name="alone", label="Alone", weights={**base, "pull": 1.0}, acts_on={"pull": "image"}),
        SyntheticArm(name="beside", label="Beside", weights={"pull": 1.0}, acts_on={"pull": "image"}),
        SyntheticArm(name="sides", label="Sides", weights={**base, "pull": 1.0}, acts_on={"pull": "both"}),
        SyntheticArm(name="texts", label="Texts", weights={**base, "say": 1.0}, acts_on={"say": "text"}),
        plan=NAMED,
    )
    asked = {
        modality: statement(claim(results, 1, modality), "control", "alone") for modality in ("image", "text")
    }
    assert all(alone.evidence is not None and alone.note == "" for alone in asked.values())
    assert {modality: alone.asked.minus for modality, alone in asked.items() if alone.asked} == {
        "image": ("alone",), "text": ("texts",),
    }  # fmt: skip


def test_an_arm_whose_models_are_missing_is_named_and_takes_nothing_with_it(tmp_path: Path) -> None:
    folder = write_study(
        tmp_path / "study",
        replace(
            PLAN,
            arms=(
                SyntheticArm(name="baseline", label="B", gain=0.06),
                SyntheticArm(name="t1", label="T1", gain=0.0, weights={"image_ntxent": 1.0}),
                SyntheticArm(name="t2", label="T2", gain=0.0, weights={"image_ntxent": 2.0}),
            ),
        ),
    )
    for seed in PLAN.seeds[1:]:
        shutil.rmtree(folder / "trials" / f"t2-s{seed}")
    effect = statement(claim(compute(read_runs([folder]), FEW), 4), "effect")
    assert effect.note == "mean over T1; without T2: models are missing"
    assert effect.evidence is not None
    assert effect.evidence.models.n == 5
    assert effect.verdict == "supported"


def test_no_effect_is_decided_too_often_where_nothing_is_there() -> None:
    """Seeds and classes vary, nothing is there: Holm over ten effects errs in one study of twenty."""
    generator = np.random.default_rng(0)
    studies, effects, seeds, classes, queries = 60, 10, 5, 40, 120
    wrong = 0
    query_class = np.arange(queries) % classes
    for _ in range(studies):
        found = []
        for _ in range(effects):
            values = (
                generator.normal(0, 0.008, (seeds, 1))
                + generator.normal(0, 0.05, classes)[query_class]
                + generator.normal(0, 0.09, (seeds, queries))
            )
            table = pd.DataFrame(
                {
                    "dataset": "d",
                    "seed": np.repeat(np.arange(seeds), queries),
                    "query_id": np.tile([f"q{query}" for query in range(queries)], seeds),
                    "query_class": np.tile([f"c{number}" for number in query_class], seeds),
                    "value": values.ravel(),
                }
            )
            found.append(gather(table, bootstrap=Bootstrap(resamples=2)))
        corrected = holm([one.p for one in found if one])
        wrong += any(p <= 0.05 and side(one) for p, one in zip(corrected, found, strict=True) if one)
    assert wrong <= 0.05 * studies + 3 * (0.05 * 0.95 * studies) ** 0.5
