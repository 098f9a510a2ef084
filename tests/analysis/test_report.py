"""The report of an invented study: what it says, shows, escapes and survives."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from analysis.export import frames
from analysis.limits import cannot_tell
from analysis.report import main, write_report
from analysis.results import compute
from analysis.sentences import found, lead
from analysis.sheets.inferred import power
from analysis.sheets.measured import glance
from analysis.sheets.provenance import published
from analysis.study import read_runs
from crossgap.command import run_command
from crossgap.metrics.intervals import Bootstrap
from crossgap.vocabulary import PUBLISHED
from tests.synthetic_study import SyntheticArm, SyntheticStudy, write_run, write_study

FEW = Bootstrap(resamples=100)
SMALL = SyntheticStudy(pictures=False, steps=(25,), num_tokens=(1,), n_queries=24)
HOSTILE = '<script>alert("arm")</script> & "co"'
REASON = "NonFiniteLoss: loss is nan at step 30 <img src=x onerror=alert(1)>"
ARMS = (
    SyntheticArm(name="baseline", label="Baseline", description="The contrastive loss alone."),
    SyntheticArm(name="harmful", label=HOSTILE, gap=0.2, gain=-0.03, description="<b>bold</b> claim"),
    SyntheticArm(name="widening", label="Widening", gap=1.1, gain=0.08),
)


class Page(HTMLParser):
    """Collects tags, attributes, headings and text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def study_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    plan = SyntheticStudy(arms=ARMS, failed={("harmful", 1): REASON}, missing=(("widening", 1),))
    return write_study(tmp_path_factory.mktemp("study") / "runs", plan)


@pytest.fixture(scope="module")
def out(study_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    path = write_report(read_runs([study_folder]), folder, ("html", "md", "tex"), FEW)
    assert path == folder / "report.html"
    return folder


@pytest.fixture(scope="module")
def html(out: Path) -> str:
    return (out / "report.html").read_text()


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_every_section_is_there(page: Page, html: str) -> None:
    anchors = re.findall(r'<li><a href="#(\w+)">', html)
    assert anchors == [
        "headline", "claims", "words", "curves", "tasks", "glance", "details", "limits", "front", "arms",
        "seeds", "across", "classes", "gap", "neighbours", "training", "protocol", "provenance", "reproduce",
    ]  # fmt: skip
    assert set(anchors) <= {value for name, value in page.attributes if name == "id"}


def test_the_page_needs_nothing_from_outside(page: Page) -> None:
    assert not {"link", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    assert page.tags.count("script") == 1  # ours, without a source; test_page.py holds its hash
    assert not [value for name, value in page.attributes if name in ("src", "srcset", "data", "poster")]
    addresses = [value for name, value in page.attributes if name == "href"]
    assert all(value.startswith(("#", "data:image/")) for value in addresses)
    assert not [value for name, value in page.attributes if name == "style" and "url(" in value]


def test_hostile_labels_and_reasons_are_shown_as_text(page: Page, html: str) -> None:
    assert html.lower().count("<script") == 1
    assert html.lower().count("</script") == 1
    assert "<img src=x" not in html
    assert HOSTILE in page.text
    assert REASON in page.text
    assert "<b>bold</b> claim" in page.text


def test_failed_and_missing_models_are_named(page: Page) -> None:
    assert "Of 6 models, 4 complete, 1 failed" in page.text
    assert "1 not started (Widening seed 1)" in page.text
    assert "failed, step 30" in page.text
    assert f"How the log of {HOSTILE} seed 1 ends" in page.text
    assert "loading <harmful>\nKilled" in page.text


def test_what_was_found_follows_the_numbers(page: Page) -> None:
    assert "The gain's interval is above zero for 2 of 3 arms (Baseline; Widening)" in page.text
    assert f"is below zero for 1 of 3 arms ({HOSTILE})" in page.text
    assert "is larger for 1 of 3 arms (Widening)" in page.text  # than the gain of class-name PCA


def test_three_sentences_answer_first(study_folder: Path, page: Page) -> None:
    study = read_runs([study_folder])
    helps, exceeds, changes = lead(study, compute(study, FEW))
    for sentence in (helps, exceeds, changes):
        assert sentence in page.text
    assert helps.startswith("Inverting the query changes the baseline's mAP by +")
    assert "points [" in helps
    assert "on image-subgroup (OTI), as Mistretta et al. (ICLR 2025) report for CLIP, and by +" in helps
    assert "OTI gains more in 1 and less in 2 of 3 arms and OVI gains more in 1 and less in 1 of 3" in exceeds
    assert changes == (
        "With one seed no gain can be told from the baseline's; the rank correlation of gap and gain over "
        "arms is +1.00 for OTI (3 arms) and +1.00 for OVI (3 arms)."
    )


def test_a_claim_is_said_once_with_its_verdict(html: str, page: Page) -> None:
    title = "Inverting the query, so that retrieval among images crosses modalities, helps"
    assert page.text.count(title) == 1
    assert html.count(f'aria-label="Claim 2a: {title}"') == 1
    assert "One seed decides nothing about a difference between arms" in page.text


def test_tables_are_written_as_csv_and_parquet(study_folder: Path, tmp_path: Path) -> None:
    path = write_report(read_runs([study_folder]), tmp_path, ("csv", "parquet"), FEW)
    assert path == tmp_path / "tables" / "models.csv"
    names = {path.stem for path in (tmp_path / "tables").glob("*.parquet")}
    assert names == {
        "models",
        "arms",
        "contrasts",
        "slopes",
        "measurements",
        "gaps",
        "claims",
        "over_native",
    }
    for name in names:
        of_csv = pd.read_csv(tmp_path / "tables" / f"{name}.csv")
        of_parquet = pd.read_parquet(tmp_path / "tables" / f"{name}.parquet")
        assert list(of_csv.columns) == list(of_parquet.columns)
        assert len(of_csv) == len(of_parquet) > 0
    claims = pd.read_parquet(tmp_path / "tables" / "claims.parquet")
    assert set(claims["verdict"]) <= {"supported", "contradicted", "undecided", "not measured"}
    changes = pd.read_csv(tmp_path / "tables" / "contrasts.csv")
    assert json.loads(changes["per_seed"].iloc[0])[0][0] == 0
    assert not list((tmp_path / "tables").glob(".*"))  # nothing half-written


def test_slopes_and_seeds_needed_are_exported_as_the_page_shows_them(tmp_path: Path) -> None:
    arms = (
        *ARMS,
        SyntheticArm(name="middle", label="Middle", gap=0.5),
        SyntheticArm(name="e", label="E", gap=1),
    )
    study = read_runs([write_study(tmp_path / "study", replace(SMALL, arms=arms))])
    results = compute(study, FEW)
    found = frames(study, results)
    for row, within in zip(found["slopes"].to_dict("records"), results.within, strict=True):
        assert (row["modality"], row["route"], row["task"]) == (within.where.modality, within.where.route,
                                                                within.where.task)  # fmt: skip
        assert (row["slope"], row["low"], row["high"]) == within.slope[:3]
        assert (row["partial"], row["n_arms"]) == (within.slope.partial, 5)
        assert row["gap_native_spearman"] == within.gap_native.spearman
    (shown,) = power(study, results)
    one_point = found["power"][found["power"]["effect"] == 0.01]
    column = shown.columns.index("seeds for 1 points")
    assert [row[column].text for row in shown.rows] == [
        "> 1,000" if pd.isna(seeds) else f"{seeds:,}" for seeds in one_point["seeds"]
    ]
    assert [row[2].text for row in shown.rows] == [f"{100 * sd:.2f}" for sd in one_point["sd"]]
    write_report(study, tmp_path / "out", ("csv", "parquet"), FEW)
    for name in ("power", "slopes"):
        again = pd.read_parquet(tmp_path / "out" / "tables" / f"{name}.parquet")
        pd.testing.assert_frame_equal(again, found[name], check_dtype=False)


@pytest.mark.parametrize("margin", ["0", "-1", "100"])
def test_a_margin_that_is_none_is_refused(
    study_folder: Path, margin: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(main, [str(study_folder), "--margin", margin]) == 2
    assert "a margin lies between 0 and 100 points" in capsys.readouterr().err


def test_two_and_five_seeds_are_said_for_what_they_are(tmp_path: Path) -> None:
    _, two = words(SMALL, tmp_path / "two")
    assert "two seeds say next to nothing about other seeds" in two
    _, five = words(replace(SMALL, seeds=(0, 1, 2, 3, 4)), tmp_path / "five")
    assert "A sign-flip test of so few cannot go below p = 0.06" in five


def test_what_the_data_cannot_tell_is_said(page: Page) -> None:
    assert "With 1 to 2 seeds, the intervals are over queries; they do not cover seed variation." in page.text
    assert "they say little about released CLIPs" in page.text
    assert "Emoji are small, clean drawings" in page.text
    assert "chosen on the validation split" in page.text


def test_every_route_and_its_settings_are_in_the_tables(page: Page) -> None:
    for words in (
        "chance",
        "native",
        "OTI",
        "untrained tokens",
        "centred",
        "class-name PCA",
        "random subspace",
    ):
        assert words in page.text
    assert "25 × 1" in page.text
    assert "Skipped queries" in page.text


def test_provenance_names_its_sources(page: Page) -> None:
    for words in ("fingerprint-bas", "hash-baseline", "torch 2.0", "c" * 40, "d" * 16, "100 resamples"):
        assert words in page.text


def test_every_figure_is_also_a_png_and_an_svg(out: Path, html: str) -> None:
    names = set(re.findall(r"figures/([\w-]+)\.svg", html))
    assert {"misalignment-against-gap-image-emoji", "misalignment-against-gap-text-emoji"} <= names
    files = {path.name for path in (out / "figures").iterdir()}
    assert {f"{name}.{kind}" for name in names for kind in ("png", "svg")} <= files
    assert any(name.startswith("neighbours-image-subgroup") for name in files)


def test_tables_are_written_as_markdown_and_latex(out: Path) -> None:
    assert re.search(r"The claim is \w+", (out / "claims.md").read_text())
    for name in ("arms", "gap", "provenance"):
        assert (out / f"{name}.md").read_text().startswith("## ")
        assert r"\toprule" in (out / f"{name}.tex").read_text()
    assert "&lt;script&gt;" in (out / "arms.md").read_text()
    assert "<script>" not in (out / "arms.md").read_text()


def test_the_same_rows_give_the_same_bytes(study_folder: Path, out: Path, tmp_path: Path) -> None:
    write_report(read_runs([study_folder]), tmp_path, ("html",), FEW)
    assert (tmp_path / "report.html").read_bytes() == (out / "report.html").read_bytes()
    for path in sorted((tmp_path / "figures").iterdir()):
        assert path.read_bytes() == (out / "figures" / path.name).read_bytes(), path.name


def test_nothing_names_the_folder_of_the_run(html: str, study_folder: Path) -> None:
    assert str(study_folder) not in html
    assert str(study_folder.parent) not in html


def words(plan: SyntheticStudy, folder: Path) -> tuple[str, str]:
    """Return what was found and what cannot be told of an invented study."""
    study = read_runs([write_study(folder, plan)])
    results = compute(study, FEW)
    sentences = [sentence for finding in found(study, results) for sentence in finding.sentences]
    sentences = [*lead(study, results), *sentences]
    return " ".join(sentences), " ".join(cannot_tell(study, results))


def test_a_result_against_the_paper_is_said_as_plainly(tmp_path: Path) -> None:
    arms = (SyntheticArm(name="baseline", label="Baseline", gain=-0.05),)
    said, _ = words(SyntheticStudy(arms=arms, seeds=(0,), pictures=False), tmp_path)
    assert "against what Mistretta et al. (ICLR 2025) report for CLIP" in said
    assert "rank correlation" not in said  # one arm


def test_a_gain_below_its_control_is_said(tmp_path: Path) -> None:
    arms = (SyntheticArm(name="baseline", label="Baseline", gain=0.005),)
    said, _ = words(SyntheticStudy(arms=arms, seeds=(0,), pictures=False, n_queries=200), tmp_path)
    assert "OTI gains less than it" in said


def test_an_inversion_far_from_its_targets_is_said(tmp_path: Path) -> None:
    arms = (
        SyntheticArm(name="baseline", label="Baseline", loss=0.1),
        SyntheticArm(name="far", label="Far", loss=0.8),
    )
    _, limits = words(SyntheticStudy(arms=arms, pictures=False), tmp_path)
    assert (
        "OTI: inversion did not come close to its targets for Far (1 − cosine 0.80 and 0.82 by seed; 0.10 "
        "to 0.12 for the others): a gain there is that of a feature far from its target." in limits
    )
    study = read_runs([tmp_path])
    (sheet,) = glance(study, compute(study, FEW))
    place = sheet.columns.index("OTI 1 − cosine")
    assert [row[place].text for row in sheet.rows] == ["0.11", "0.81"]


def test_inversions_unequally_close_are_said(tmp_path: Path) -> None:
    arms = (
        SyntheticArm(name="baseline", label="Baseline", loss=0.4),
        SyntheticArm(name="close", label="Close", loss=0.1),
    )
    _, limits = words(SyntheticStudy(arms=arms, seeds=(0,), pictures=False), tmp_path)
    assert "unequally close to their targets (OTI: 1 − cosine 0.10 to 0.40, farthest for Baseline)" in limits
    assert "did not come close" not in limits


def test_the_strongest_control_is_named(study_folder: Path) -> None:
    study = read_runs([study_folder])
    results = compute(study, FEW)
    for within, finding in zip(results.within, found(study, results), strict=False):
        controls = within.headline.controls
        row = controls[(controls["arm"] == "baseline") & (controls["route"] == "class_pca")].iloc[0]
        start = f"), class-name PCA adds most: +{row['gain']:.2f} points ["
        assert any(
            sentence.startswith("Of the controls that the figure shows (class-name PCA, ")
            and start in sentence
            and "for the baseline" in sentence
            for sentence in finding.sentences
        )


def test_a_learned_temperature_that_hardly_moved_is_said(tmp_path: Path) -> None:
    arms = (
        SyntheticArm(name="baseline", label="Baseline", cooling=0),
        SyntheticArm(name="still", label="Still", cooling=0.05),
        SyntheticArm(name="cooling", label="Cooling", cooling=0.3),
    )
    _, limits = words(SyntheticStudy(arms=arms, pictures=False), tmp_path)
    assert limits.count("The learned temperature of") == 1
    assert "The learned temperature of Still moved only from 0.070 to 0.067 in this run" in limits


def test_a_grid_of_settings_has_a_figure_and_says_what_is_optimistic(tmp_path: Path) -> None:
    settings = {"learning rate 0.02": 0.0, 'template "<b> {}"': 0.04}
    grid = SyntheticStudy(settings=settings, pictures=False, seeds=(0, 1))
    study = read_runs([write_study(tmp_path / "study", grid)])
    path = write_report(study, tmp_path / "out", ("html", "md"), FEW)
    html = path.read_text()
    page = Page(html)
    figures = {file.stem for file in (tmp_path / "out" / "figures").iterdir()}
    assert {"inversion-settings-image-emoji", "inversion-settings-text-emoji"} <= figures
    assert not {name for name in figures if name.startswith("inversion-curves")}
    assert "OTI over its settings on image-subgroup (emoji)" in page.text
    assert "chosen on test, optimistic" in page.text
    assert 'template "<b> {}"' in page.text
    assert "<b> {}" not in html
    assert "chosen on test, optimistic" in (tmp_path / "out" / "arms.md").read_text()


def test_a_plain_plan_has_the_plain_figure_alone(out: Path, page: Page) -> None:
    figures = {file.stem for file in (out / "figures").iterdir()}
    assert {"inversion-curves-image-emoji", "inversion-curves-text-emoji"} <= figures
    assert not {name for name in figures if name.startswith("inversion-settings")}
    assert "optimistic" not in page.text


def test_one_seed_and_a_smoke_run_are_said(tmp_path: Path) -> None:
    _, limits = words(
        SyntheticStudy(seeds=(0,), smoke=True, n_queries=6, n_classes=2, pictures=False), tmp_path
    )
    assert "With one seed, the intervals are over queries" in limits
    assert "A difference between arms may be a difference between seeds." in limits
    assert "This is a smoke run" in limits
    assert "with only 5 to 6 queries" in limits


def test_a_study_where_nothing_finished_is_reported(tmp_path: Path) -> None:
    keys = [(arm, seed) for arm in ("baseline", "narrow") for seed in (0, 1)]
    plan = SyntheticStudy(failed={keys[0]: "out of memory"}, unfinished=tuple(keys[1:]))
    study = read_runs([write_study(tmp_path / "study", plan)])
    path = write_report(study, tmp_path / "out", ("html", "md", "tex"), FEW)
    text = Page(path.read_text()).text
    assert "No model has been evaluated yet" in text
    assert "out of memory" in text
    assert "Of 4 models, 0 complete, 1 failed (Baseline seed 0) and 3 unfinished" in text


def test_an_evaluation_of_one_query_class_is_reported(tmp_path: Path) -> None:
    plan = SyntheticStudy(n_queries=3, n_classes=1)
    write_run(tmp_path / "run", plan, SyntheticArm(name="ViT-B-32", label=""), 0)
    path = write_report(read_runs([tmp_path / "run"]), tmp_path / "out", ("html",), FEW)
    assert "too few query classes for an interval" in Page(path.read_text()).text


def test_two_evaluations_share_a_report(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_run(tmp_path / name, SyntheticStudy(pictures=False), SyntheticArm(name="ViT-B-32", label=""), 0)
    path = write_report(read_runs([tmp_path / "one", tmp_path / "two"]), tmp_path / "out", ("md",), FEW)
    assert path.name == "arms.md"
    assert "ViT-B-32 (two)" in path.read_text()


def test_evaluations_of_several_datasets_stay_apart(tmp_path: Path) -> None:
    for name in ("one", "two"):
        arm = SyntheticArm(name="/data/models/small", label="")
        write_run(tmp_path / name, SyntheticStudy(pictures=False), arm, 0)
    study = read_runs([tmp_path / "one"])
    assert [arm.label for arm in study.arms] == ["models/small"]
    for name in ("rows", "per_query"):
        frame = getattr(study, name)
        other = frame.assign(dataset="photos")
        study = replace(study, **{name: pd.concat([frame, other], ignore_index=True)})
    (sheet,) = glance(study, compute(study, FEW))
    assert len(set(sheet.columns)) == len(sheet.columns)
    assert {"emoji: gap", "photos: gap"} <= set(sheet.columns)


def test_rows_alone_make_a_report(tmp_path: Path) -> None:
    write_run(tmp_path / "run", SyntheticStudy(pictures=False), SyntheticArm(name="m", label=""), 0)
    (tmp_path / "run" / "per_query.parquet").unlink()
    path = write_report(read_runs([tmp_path / "run"]), tmp_path / "out", ("html",), FEW)
    text = Page(path.read_text()).text
    assert "quoted rows without per-query values: 17" in text
    assert "nothing of the inversion gain" in text


def test_the_command_prints_where_the_report_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = SyntheticStudy(seeds=(0,), pictures=False, n_queries=10)
    folder = write_study(tmp_path / "study", plan)
    assert run_command(main, [str(folder), "--format", "md", "tex"]) == 0
    assert capsys.readouterr().out.strip() == str(folder / "report" / "arms.md")
    assert not (folder / "report" / "report.html").exists()


@pytest.mark.parametrize("arguments", [["nowhere"], ["."], []])
def test_a_folder_that_is_no_run_ends_with_exit_code_2(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_command(main, arguments) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "rows.jsonl: no row was written into it; evaluate again"),
        (b'{"schema": 3, "study"', "rows.jsonl: no row was written into it; evaluate again"),
        (b"[1, 2]\n", "rows.jsonl, line 1: a JSON object was expected, not [1, 2]"),
        (b"{}\nnull\n", "rows.jsonl, line 2: a JSON object was expected, not None"),
        (b'{"arm": "caf\xe9"}\n', "rows.jsonl: not UTF-8 text"),
    ],
)
def test_damaged_rows_end_with_exit_code_2(
    content: bytes, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    write_run(run, SyntheticStudy(pictures=False), SyntheticArm(name="m", label=""), 0)
    (run / "rows.jsonl").write_bytes(content)
    assert run_command(main, [str(run)]) == 2
    assert says in capsys.readouterr().err
    assert not (run / "report").exists()


@pytest.mark.parametrize(
    ("out", "format", "says"),
    [
        ("file", "md", "file: a file, expected a folder"),
        ("file/below", "md", "file is a file, expected a folder"),
        ("/proc/nowhere", "md", "/proc/nowhere: this folder cannot be made ("),
        ("/proc", "md", "/proc: no file can be written into this folder ("),
        ("taken", "html", "figures: this folder cannot be made (File exists"),
        ("taken", "csv", "tables: this folder cannot be made (File exists"),
    ],
)
def test_a_place_that_takes_no_report_ends_with_exit_code_2_before_any_work(
    out: str,
    format: str,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_run(tmp_path / "run", SyntheticStudy(pictures=False), SyntheticArm(name="m", label=""), 0)
    (tmp_path / "file").touch()
    (tmp_path / "taken").mkdir()
    for name in ("figures", "tables"):
        (tmp_path / "taken" / name).touch()
    monkeypatch.setattr("analysis.figures.Figures", None)
    monkeypatch.setattr("analysis.results.compute", None)
    assert run_command(main, [str(tmp_path / "run"), "--out", str(tmp_path / out), "--format", format]) == 2
    assert says in capsys.readouterr().err


def test_the_module_runs_as_a_command(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "analysis.report", str(tmp_path / "nowhere")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "no such folder" in done.stderr
    assert "Traceback" not in done.stderr


def test_published_figures_stand_beside_a_model_that_they_are_of(tmp_path: Path) -> None:
    for name, shown in (("ViT-B-32/openai", True), ("ViT-B-32/own.pt", False)):
        folder = tmp_path / str(shown)
        write_run(folder, SyntheticStudy(pictures=False), SyntheticArm(name=name, label=""), 0)
        assert (published(read_runs([folder])) is not None) == shown


def test_an_optimism_of_nothing_is_not_printed(study_folder: Path) -> None:
    study = read_runs([study_folder])
    results = compute(study, FEW)
    assert any("would have raised a gain by up to" in said for said in cannot_tell(study, results))
    within = tuple(replace(one, settings=one.settings.assign(optimism=1e-6)) for one in results.within)
    said = cannot_tell(study, replace(results, within=within))
    assert any("do not cover that choice." in sentence for sentence in said)
    assert not any("by up to" in sentence for sentence in said)


def test_published_numbers_are_plausible_percentages() -> None:
    frame = pd.DataFrame(PUBLISHED)
    assert not frame.duplicated(["source", "what", "model", "route"]).any()
    assert frame[["native", "value"]].gt(1).all(axis=None)
    assert frame[["native", "value"]].lt(100).all(axis=None)
