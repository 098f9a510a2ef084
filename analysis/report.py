"""``python -m analysis.report``: turn run folders into one self-contained page, figures and tables.

python -m analysis.report runs/demo --format html md
"""

from __future__ import annotations

import base64
import hashlib
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import jinja2
import tyro
from markupsafe import Markup

from analysis import findings, seed_sheets, sheets
from analysis.claims import RULE
from analysis.comparisons import MARGIN
from analysis.export import write_frames
from analysis.figures import Figures
from analysis.plots.neighbours import ROUTE_NAMES, StripsInfo, decode, strips_infos
from analysis.plots.saving import Saver
from analysis.protocol import protocol, reproduce
from analysis.results import Results, compute
from analysis.study import Study, read_runs
from analysis.typeset import Table, counted, latex, markdown
from crossgap.command import run_command
from crossgap.errors import InputError
from crossgap.files import check_place, check_writable, write_text
from crossgap.metrics.intervals import Bootstrap
from crossgap.progress import told

Format = Literal["html", "md", "tex", "csv", "parquet"]
_PAGE = Path(__file__).parent / "page"
_MEDIA = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"RIFF": "image/webp"}


def write_report(
    study: Study, out: Path, formats: tuple[Format, ...], bootstrap: Bootstrap, *, margin: float = MARGIN
) -> Path:
    """Write the report of a study into ``out`` and return the path of its page, or of its first file.

    Raises:
        InputError: a folder of the report cannot be made or written into; nothing is computed then.
    """
    written = []
    html = "html" in formats
    check_writable(out)
    for name, kinds in (("figures", {"html"}), ("tables", {"csv", "parquet"})):
        if kinds.intersection(formats):
            check_writable(out / name)
    with told("drawing figures"), Saver() as saver:
        figures = Figures(study, out / "figures", saver)
        # what needs no results is drawn while these are computed
        drawn = {"training": figures.training(), "projections": figures.projections()} if html else {}
        results = compute(study, bootstrap, margin=margin)
        context = _context(study, results, figures) | drawn if html else {}
    if html:
        with told("writing the page"):
            page = _environment().get_template("report.html.jinja").render(**context)
        write_text(out / "report.html", page)
        written.append(out / "report.html")
    for kind, typeset in (("md", markdown), ("tex", latex)):
        if kind in formats:
            with told(f"writing tables ({kind})"):
                for name, tables in _table_files(study, results).items():
                    write_text(out / f"{name}.{kind}", typeset(tables))
                    written.append(out / f"{name}.{kind}")
    frames: tuple[Literal["csv", "parquet"], ...] = ("csv", "parquet")
    for kind in frames:
        if kind in formats:
            written += write_frames(study, results, out / "tables", kind)
    return written[0] if written else out


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_PAGE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, script = ((_PAGE / f"report.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # our own files, written into the page as they are; the policy of the page allows this script alone
    environment.globals |= {
        "style": Markup(style),  # noqa: S704
        "script": Markup(script),  # noqa: S704
        "script_hash": f"sha256-{digest}",
    }
    return environment


def _context(study: Study, results: Results, figures: Figures) -> dict[str, object]:
    complete = int((study.trials["state"] == "complete").sum())
    strips = _strips(study, results, figures)
    return {
        "study": study,
        "facts": [
            counted(len(study.arms), "arm"),
            counted(len(study.seeds), "seed"),
            f"{complete} of {counted(len(study.trials), 'model')} complete",
            *dict.fromkeys(f"{name} data" for name in study.rows["dataset"]),
        ],
        "claims": seed_sheets.claims(results),
        "rule": _rule(results),
        "found": findings.found(study, results),
        "limits": findings.cannot_tell(study, results),
        "level": f"{100 * results.bootstrap.level:g} %",
        "glance": sheets.glance(study, results),
        "within": [
            {
                "headline": figures.headline(within),
                "curves": figures.curves(within),
                "setting_curves": figures.setting_curves(within),
                "grid": sheets.grid(study, results, within),
                "settings": sheets.chosen_settings(study, within),
            }
            for within in results.within
        ],
        "arms": [*sheets.arms(study, results), *sheets.probes(study, results)],
        "across": sheets.across(study, results),
        "gaps": sheets.gaps(study, results),
        "histograms": figures.histograms(results),
        "strips": strips,
        "thumbnails": thumbnails(info for infos in strips.values() for info in infos),
        "routes": ROUTE_NAMES,
        "published": sheets.published(study),
        "more_figures": figures.more(results),
        "more_tables": _more_tables(study, results),
        "protocol": protocol(results),
        "reproduce": reproduce(study),
        "provenance": _provenance(study, results),
        "logs": [
            (f"{study.label(trial['arm'])} seed {trial['seed']}", trial["log"])
            for trial in sheets.records(study.trials[study.trials["log"] != ""])
        ],
    }


def _rule(results: Results) -> str:
    return RULE.format(margin=100 * results.margin, alpha=1 - results.bootstrap.level)


def _table_files(study: Study, results: Results) -> dict[str, list[Table]]:
    glance = sheets.glance(study, results)
    grids = [sheets.grid(study, results, within) for within in results.within]
    settings = [sheets.chosen_settings(study, within) for within in results.within]
    more = _more_tables(study, results)
    return {
        "arms": [
            *([glance] if glance else []),
            *sheets.arms(study, results),
            *sheets.probes(study, results),
            *sheets.across(study, results),
            *(grid for grid in grids if grid is not None),
            *settings,
        ],
        "claims": seed_sheets.claims_in_files(results, _rule(results)),
        "seeds": [
            table
            for part in ("seeds", "power", "association", "factorial", "importances", "over_datasets")
            for table in more[part]
        ],
        "gap": sheets.gaps(study, results),
        "provenance": _provenance(study, results),
    }


def _more_tables(study: Study, results: Results) -> dict[str, list[Table]]:
    power, association = seed_sheets.power(study, results), seed_sheets.association(results)
    return {
        "seeds": [*seed_sheets.over_native(study, results), *seed_sheets.contrasts(study, results)],
        "power": [power] if power else [],
        "association": [association] if association else [],
        "factorial": seed_sheets.factorial(results),
        "importances": seed_sheets.importances(results),
        "over_datasets": seed_sheets.over_datasets(study, results),
    }


def _provenance(study: Study, results: Results) -> list[Table]:
    skipped = sheets.skipped(results)
    return [
        sheets.trials(study),
        *sheets.trainings(study),
        *([skipped] if skipped else []),
        sheets.sources(study, results),
    ]


def _strips(study: Study, results: Results, figures: Figures) -> dict[str, list[StripsInfo]]:
    """Group strips by task for the page; one arm's on the leading tasks become figures too."""
    leading = {within.where.task for within in results.within}
    first = study.baseline or study.arm_names[0]
    by_task: dict[str, list[StripsInfo]] = {}
    for info in strips_infos(sheets.leading_first(results, study.neighbours), figures.labels):
        if info.task in leading and info.arm == first:
            figures.strips(info)
        by_task.setdefault(f"{info.task} ({info.dataset})", []).append(info)
    return by_task


class Thumbnail(NamedTuple):
    """A picture that the page holds once and shows wherever it stands: its id on the page, its data URI."""

    id: str
    uri: str


def thumbnails(infos: Iterable[StripsInfo]) -> dict[bytes, Thumbnail]:
    """Give each picture of the strips once; what is no readable PNG, JPEG or WebP is left out."""
    cards = (card for info in infos for strip in info.strips for card in (strip.query, *strip.neighbours))
    images = dict.fromkeys(card.image for card in cards if card.image is not None)
    readable = [image for image in images if decode(image) is not None]
    return {image: Thumbnail(f"thumbnail-{place}", _data_uri(image)) for place, image in enumerate(readable)}


def _data_uri(image: bytes) -> str:
    media = next(media for magic, media in _MEDIA.items() if image.startswith(magic))
    return f"data:{media};base64,{base64.b64encode(image).decode()}"


def main(
    runs: tyro.conf.Positional[tuple[Path, ...]],
    /,
    *,
    out: Path | None = None,
    format: Annotated[tuple[Format, ...], tyro.conf.arg(help="html, md, tex, csv, parquet: one or more")] = (
        "html",
    ),
    margin: float = 100 * MARGIN,
    baseline: str | None = None,
    title: str | None = None,
    label: dict[str, str] | None = None,
) -> int:
    """Write a report: one page with its figures, and the tables as Markdown, LaTeX, CSV or parquet.

    Args:
        runs: study folders, or the --out folders of evaluations.
        out: folder for the report; default: 'report' inside the first run.
        format: what to write.
        margin: points of mAP or accuracy that count as nothing in tests of equivalence; to be fixed before
            the results are looked at.
        baseline: what the other arms are compared with: an arm's name, its label, or the folder of its run;
            default: the study's, of several runs the first.
        title: of the report.
        label: what to call arms in it, each by its name, label or run's folder: runs/a "width 64".
    """
    if not format:
        raise InputError("--format needs at least one of html, md, tex, csv, parquet")
    if not 0 < margin < 100:
        raise InputError(f"--margin {margin:g}: a margin lies between 0 and 100 points")
    if runs:
        check_place(out or runs[0])
    with told(f"reading {' '.join(map(str, runs))}"):
        study = read_runs(runs, baseline=baseline, labels=label, title=title)
    print(write_report(study, out or runs[0] / "report", format, Bootstrap(), margin=margin / 100))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
