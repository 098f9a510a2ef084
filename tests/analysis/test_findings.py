"""The published study: kept small and restored without a change of verdict, its questions, its page."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import analysis
from analysis.effects import of
from analysis.findings import page
from analysis.findings.__main__ import write_page
from analysis.findings.figure import draw_findings
from analysis.findings.kept import keep, restore
from analysis.findings.questions import Answer, Findings, _judged, answer
from analysis.results import compute
from analysis.stats.evidence import Evidence
from analysis.stats.seeds import paired_seeds
from analysis.study import read_runs
from crossgap.errors import InputError
from crossgap.files import read_json, write_json
from crossgap.metrics.intervals import Bootstrap
from tests.synthetic_study import SyntheticArm, SyntheticStudy, write_study

DOCS = Path(analysis.__file__).parents[1] / "docs"
FEW = Bootstrap(resamples=100)
GAINS = {0.0: 0.06, 0.3: 0.03, 1.0: -0.02}  # true gain at each mention
FAILED = ("image-image", 3)


def arms() -> tuple[SyntheticArm, ...]:
    made = []
    for recipe, weights in (("baseline", {}), ("image-image", {"image_ntxent": 1.0})):
        for mention in (0.3, 0.0, 1.0):
            alike = mention == 0.3
            name = recipe if alike else f"says-{100 * mention:03.0f}-{recipe}"
            more = 0.02 if weights and alike else 0.0
            made.append(
                SyntheticArm(
                    name=name,
                    label=f"label of {name}",
                    gain=GAINS[mention] + more,
                    weights=weights,
                    settings={"data": {"mention": mention}},
                )
            )
    return tuple(sorted(made, key=lambda arm: arm.name != "baseline"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of six arms and four seeds, one trial of which failed."""
    study = SyntheticStudy(
        arms=arms(), seeds=(0, 1, 2, 3), noise=0.01, n_queries=90, n_classes=30, num_tokens=(1,), steps=(25,),
        failed={FAILED: "it took long"}, pictures=False,
    )  # fmt: skip
    return write_study(tmp_path_factory.mktemp("study") / "run", study)


@pytest.fixture(scope="module")
def kept(run: Path) -> Path:
    folder = run.parent / "docs" / "scenes"
    assert len(keep(run, folder)) == 12
    return folder


@pytest.fixture(scope="module")
def found(run: Path) -> Findings:
    return answer(read_runs([run]), FEW)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_what_was_kept_says_of_claims_what_the_study_says(run: Path, kept: Path, tmp_path: Path) -> None:
    assert restore(kept, tmp_path / "again") == 24
    first, second = (compute(read_runs([folder]), FEW) for folder in (run, tmp_path / "again"))
    assert [claim.verdict for claim in first.claims] == [claim.verdict for claim in second.claims]
    both = [
        [one.evidence for claim in results.claims for one in claim.statements if one.evidence]
        for results in (first, second)
    ]
    assert len(both[0]) == len(both[1]) > 5
    for mine, other in zip(*both, strict=True):
        assert (mine.n_queries, mine.n_classes, mine.models.n) == (
            other.n_queries, other.n_classes, other.models.n
        )  # fmt: skip
        for name in ("value", "low", "high", "both_low", "both_high", "p"):
            assert getattr(mine, name) == pytest.approx(getattr(other, name), abs=1e-6, nan_ok=True)


def test_keeping_what_was_restored_changes_nothing(kept: Path, tmp_path: Path) -> None:
    restore(kept, tmp_path / "again")
    before = files(kept)
    assert keep(tmp_path / "again", kept) == []
    assert files(kept) == before
    keep(tmp_path / "again", tmp_path / "kept")
    assert files(tmp_path / "kept") == before


def test_a_failed_trial_is_kept_with_its_reason_and_an_unfinished_one_is_not(
    run: Path, kept: Path, tmp_path: Path
) -> None:
    restore(kept, tmp_path)
    trials = read_runs([tmp_path]).trials.set_index(["arm", "seed"])
    assert trials.loc[FAILED, "state"] == "failed"
    assert trials.loc[FAILED, "reason"] == "it took long"
    assert not (tmp_path / "trials" / f"{FAILED[0]}-s{FAILED[1]}" / "rows.jsonl").exists()
    write_study(tmp_path / "other", SyntheticStudy(unfinished=(("narrow", 1),), pictures=False))
    keep(tmp_path / "other", tmp_path / "small")
    assert restore(tmp_path / "small", tmp_path / "back") == 3


def test_a_trial_that_has_a_result_is_left_alone(kept: Path, tmp_path: Path) -> None:
    mine = tmp_path / "trials" / "baseline-s0"
    mine.mkdir(parents=True)
    write_json(mine / "result.json", {"state": "complete", "mine": True})
    restore(kept, tmp_path)
    assert read_json(mine / "result.json")["mine"]
    assert not (mine / "rows.jsonl").exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda run: write_json(run / "study.json", {**read_json(run / "study.json"), "baseline": "other"}),
         "another study than"),
        (lambda run: (run / "trials" / "baseline-s0" / "result.json").unlink(), "keeps 1 trials that"),
    ],
)  # fmt: skip
def test_nothing_that_was_kept_is_lost(
    change: Callable[[Path], None], says: str, kept: Path, tmp_path: Path
) -> None:
    restore(kept, tmp_path)
    change(tmp_path)
    before = files(kept)
    with pytest.raises(InputError, match=says):
        keep(tmp_path, kept) if "trials" in says else restore(kept, tmp_path)
    assert files(kept) == before


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        keep(tmp_path / "nothing", tmp_path)
    with pytest.raises(InputError, match="name a kept study"):
        restore(tmp_path, tmp_path / "run")
    with pytest.raises(InputError, match="no kept study lies here"):
        write_page(tmp_path, out=tmp_path)


def test_arguments_that_were_swapped_and_folders_of_other_results_are_refused(
    run: Path, kept: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="no trial is kept here"):
        restore(run, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    (tmp_path / "training" / "checkpoints").mkdir(parents=True)
    with pytest.raises(InputError, match="holds a training"):
        restore(kept, tmp_path / "training")
    assert restore(kept, tmp_path / "run") == 24
    assert restore(kept, tmp_path / "run") == 0


def test_claims_are_judged_on_arms_with_the_captions_of_the_baseline(found: Findings) -> None:
    assert set(found.alike) == {"baseline", "image-image"}
    assert set(found.results.values["arm"]) == set(found.alike)
    assert {arm for _, arm in found.gains} == {arm.name for arm in arms()}


def test_the_gain_is_followed_from_mention_to_mention(found: Findings) -> None:
    for recipe, more in (("baseline", 0.0), ("image-image", 0.02)):
        first, second = found.to("Q6", recipe, "image")
        assert (first.of, second.of) == ("G(0) − G(0.3)", "G(0.3) − G(1)")
        assert first.evidence
        assert second.evidence
        assert first.evidence.value == pytest.approx(GAINS[0.0] - GAINS[0.3] - more, abs=0.01)
        assert second.evidence.value == pytest.approx(GAINS[0.3] - GAINS[1.0] + more, abs=0.01)
    assert found.verdict("Q6", "baseline", "image") == "supported"
    assert not found.to("Q6", "image-image", "text")  # the plan follows it among images alone


def test_a_task_that_was_not_measured_decides_nothing(found: Findings) -> None:
    answers = found.to("Q9")
    assert [one.about for one in answers if one.modality == "image"] == [
        "image-object", "image-colour", "image-place",
    ]  # fmt: skip
    assert {one.verdict for one in answers} == {"not measured"}
    assert {one.p for one in answers} == {1.0}  # the family stays as large
    assert found.verdict("Q9") == "undecided"


def evidence(value: float, half: float, *, p: float = 0.001) -> Evidence:
    models = paired_seeds([value - half, value, value + half], level=0.95)
    return Evidence(value, value - half, value + half, models, value - half, value + half, 100, 50, 1, p)


@pytest.mark.parametrize(
    ("value", "half", "p", "verdict"),
    [
        (0.01, 0.002, 0.001, "supported"),
        (0.0, 0.004, 1.0, "supported"),  # within half a point of zero hurts nobody
        (-0.01, 0.004, 0.001, "contradicted"),
        (-0.01, 0.004, 0.2, "undecided"),  # not beyond Holm
        (-0.01, 0.007, 0.001, "undecided"),
    ],
)
def test_crossing_hurts_where_it_loses_more_than_the_margin(
    value: float, half: float, p: float, verdict: str
) -> None:
    one = Answer(question="Q9", about="", of="", modality="image", evidence=evidence(value, half), p=p)
    assert _judged(one, 0.05, 0.005).verdict == verdict


def test_maps_are_compared_with_inversion_in_the_baseline(found: Findings, run: Path) -> None:
    maps = {one.about: one for one in found.to("Q8", modality="image")}
    assert set(maps) == {"centred", "class_pca", "random_subspace"}
    table = of(found.results.effects, "minus native")
    here = table[(table["arm"] == "baseline") & (table["task"] == "image-subgroup")].set_index("route")
    for route, one in maps.items():
        expected = here.loc[route, "estimate"] - here.loc["oti", "estimate"]
        assert one.evidence is not None
        assert one.evidence.value == pytest.approx(expected, abs=1e-12)
    assert maps["random_subspace"].verdict == "less"


def test_the_page_says_the_numbers_of_the_answers(found: Findings) -> None:
    worlds = {"scenes": found}
    text, tables = page.page(worlds), page.tables(worlds)
    assert "We trained 23 small CLIPs" in text
    assert "1 trials failed: image-image, seed 3: it took long." in text
    for one in (*found.to("Q6"), *found.to("Q8", modality="image")):
        assert page.size(one).replace("[", "\\[").replace("]", "\\]") in tables
    for claim in found.results.claims:
        row = next(line for line in text.splitlines() if line.startswith(f"| {claim.number}. {claim.words}"))
        assert page.MARKS[claim.verdict] in row
        assert claim.title in tables


def test_the_page_says_what_surprises_and_what_it_contradicts(found: Findings) -> None:
    text = page.page({"scenes": found})
    surprised = {
        (number, modality)
        for (number, modality), allowed in page.EXPECTED.items()
        if found.claim(number, modality).verdict not in allowed
    }
    section = text.partition("## What surprised")[2].partition("## ")[0]
    assert section.count("was expected") == len(surprised) > 0
    for number, modality in surprised:
        assert f"Claim {number} among {modality}s: " in section
    against = text.partition("## Against the paper")[2].partition("## ")[0]
    for claim in found.results.claims:
        named = f"{claim.number} ({claim.modality}s on scenes: " in against
        assert named == (claim.verdict == "contradicted")
    for name in page.CRITICS:
        for one in found.to("Q8", name):
            assert f"{one.modality}s {page.size(one)} ({one.verdict}; over native " in against


def test_sentences_of_a_study_take_their_numbers_from_its_rows(found: Findings, tmp_path: Path) -> None:
    (tmp_path / page.SAID).write_text(
        """{% set found %}
Inversion adds {{ gain("scenes", "image") }}, where all is named
{{ gain("scenes", "image", "says-100-baseline") }}. Before: {{ native("scenes", "image") }},
gap {{ gap("scenes") }}, centred {{ route("scenes", "image", "centred") }}.
{% endset %}
{% set otherwise %}
A seed was lost.
{% endset %}""",
        encoding="utf-8",
    )
    text = page.page({"scenes": found}, tmp_path)
    section = text.partition("## What was found")[2].partition("## ")[0]
    effects = of(found.results.effects, "minus native")
    here = effects[(effects["arm"] == "baseline") & (effects["task"] == "image-subgroup")].set_index("route")
    assert f"adds {100 * here.loc['oti', 'estimate']:+.1f} [" in section
    assert f"centred {100 * here.loc['centred', 'estimate']:+.1f} [".replace("-", "−") in section
    assert page.size(found.gains["image", "says-100-baseline"]) in section
    table = found.results.mean_ap
    native = table[
        (table["arm"] == "baseline") & (table["route"] == "native") & (table["task"] == "image-subgroup")
    ]["value"].mean()
    assert f"Before: {100 * native:.1f},\ngap " in section
    assert "[before the tables]" in text
    assert page.tables({"scenes": found}, tmp_path).startswith(
        "## What went otherwise than planned\n\nA seed was lost.\n\n## Scenes"
    )
    plain = page.page({"scenes": found})
    assert "## What was found" not in plain
    assert "[before the tables]" not in plain


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ('{% set found %}{{ gain("scenes", "image", "no-arm") }}{% endset %}', "no-arm"),
        ("{% set found %}{{ other_world }}{% endset %}", "'other_world' is undefined"),
        ("{% set found %}", "Unexpected end of template"),
        ("{% set found %}{{ gain.__globals__ }}{% endset %}", "unsafe"),
    ],
)
def test_sentences_that_cannot_be_filled_in_are_refused(
    found: Findings, tmp_path: Path, written: str, says: str
) -> None:
    (tmp_path / page.SAID).write_text(written, encoding="utf-8")
    with pytest.raises(InputError, match=says) as raised:
        page.page({"scenes": found}, tmp_path)
    assert str(tmp_path / page.SAID) in str(raised.value)


def test_the_verdicts_of_the_other_questions_stand_in_the_tables(found: Findings) -> None:
    table = page.asked("scenes", found)
    rows = [[cell.text for cell in row] for row in table.rows]
    assert [row[1] for row in rows] == [
        "images, baseline", "images, image-image", "texts, baseline", "images", "texts", "images", "texts",
    ]  # fmt: skip
    assert rows[0][2] == "✔ supported"
    assert all(page.size(one) in rows[0][3] for one in found.to("Q6", "baseline", "image"))
    assert page.markdown([table]) in page.tables({"scenes": found})


def test_every_result_in_readme_stands_in_the_findings() -> None:
    """A result has a sign or an interval; versions, sizes and times have neither."""
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    findings = (DOCS / "findings.md").read_text(encoding="utf-8").replace("\n", " ")
    results = re.findall(r"[+−-]?\d*\.?\d+ ?\[[^\]\s][^\]]*\]|[+−]\d*\.\d+", readme.replace("\n", " "))
    assert len(results) >= 3
    assert [one for one in results if one not in findings] == []
    section = readme.partition("## What was found")[2].partition("\n## ")[0]
    assert "](docs/study/scenes-image.png)" in section
    numbers = re.findall(r"\d+\.\d+|\d+", section.partition(")")[2])
    assert [one for one in numbers if one not in findings] == []


def test_the_figure_shows_the_effects(found: Findings) -> None:
    routes, gap, mention = draw_findings(found).axes
    table = of(found.results.effects, "minus native")
    mine = table[(table["arm"] == "baseline") & (table["task"] == "image-subgroup")].set_index("route")
    ticks = [label.get_text() for label in routes.get_xticklabels()]
    drawn = dict(zip(ticks, [line.get_ydata()[0] for line in routes.lines], strict=False))
    assert set(ticks) == {"OTI", "untrained tokens", "centred", "class-name PCA", "random subspace"}
    assert drawn["OTI"] == pytest.approx(100 * mine.loc["oti", "estimate"])
    assert drawn["centred"] == pytest.approx(100 * mine.loc["centred", "estimate"])
    assert len(gap.lines) == len(found.alike) + 1  # and zero
    gains = [100 * found.gains["image", arm].value for arm in ("says-000-baseline", "baseline")]
    lines = [line.get_ydata() for line in mention.lines if len(line.get_xdata()) == 3]
    assert any(list(line[:2]) == pytest.approx(gains) for line in lines)


def test_nothing_is_looked_at_before_all_is_finished(tmp_path: Path) -> None:
    write_study(tmp_path / "run", SyntheticStudy(unfinished=(("narrow", 1),), pictures=False))
    keep(tmp_path / "run", tmp_path / "study" / "scenes")
    with pytest.raises(InputError, match="1 of 4 trials are not finished"):
        write_page(tmp_path / "study", out=tmp_path / "docs")
    assert not (tmp_path / "docs" / "findings.md").exists()


@pytest.mark.slow
def test_the_page_is_built_again_with_the_same_bytes(kept: Path, tmp_path: Path) -> None:
    built = []
    for name in ("first", "second"):
        write_page(kept.parent, out=tmp_path / name)
        built.append(files(tmp_path / name))
    assert built[0] == built[1]
    assert set(built[0]) == {
        "findings.md", "study/tables.md", "study/scenes-image.png", "study/scenes-text.png"
    }  # fmt: skip


@pytest.mark.slow
def test_the_published_page_is_what_the_kept_rows_say(tmp_path: Path) -> None:
    if not (DOCS / "findings.md").exists():  # there is no page before all is finished
        with pytest.raises(InputError, match="trials are not finished"):
            write_page(DOCS / "study", out=tmp_path)
        assert files(tmp_path) == {}
        return
    write_page(DOCS / "study", out=tmp_path)
    for name, content in files(tmp_path).items():
        published = DOCS / name
        if published.suffix == ".md":
            assert published.read_bytes() == content, name
        else:
            with Image.open(published) as here, Image.open(io.BytesIO(content)) as again:
                assert here.size == again.size, name
                difference = np.asarray(here.convert("RGB"), float) - np.asarray(again.convert("RGB"), float)
            assert np.abs(difference).mean() < 0.5, name  # another version of a font moves an edge
