"""What stands on the page of a report and in its files of tables, in their order."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from markupsafe import Markup

from analysis import limits, sentences
from analysis.between import what_differs
from analysis.page.inline import Inliner
from analysis.pictures import DrawnFigures
from analysis.plots.neighbours import ROUTE_NAMES, StripsInfo, decode
from analysis.protocol import protocol, reproduce
from analysis.results import Results
from analysis.sheets import inferred, measured, provenance
from analysis.sheets.columns import records
from analysis.study import RecordedStudy
from analysis.typeset import Table, counted

_PAGE = Path(__file__).parent
MOST_ROWS, FEW_ROWS = 800, 40  # of the tables of one section, and of a table that always has room
_MEDIA = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"RIFF": "image/webp"}


@dataclass(frozen=True, kw_only=True)
class Sheets:
    """The tables of a report: ``grids`` and ``settings`` by leading task, ``more`` by section of the page."""

    glance: list[Table]
    grids: list[list[Table]]
    settings: list[Table]
    arms: list[Table]
    across: list[Table]
    gaps: list[Table]
    more: dict[str, list[Table]]
    provenance: list[Table]


def page(study: RecordedStudy, results: Results, tables: Sheets, drawn: DrawnFigures) -> str:
    """Write the page, with the figures whose files lie there."""
    return render(_context(study, results, tables, drawn))


def render(context: Mapping[str, Any]) -> str:
    """Fill the template."""
    inliner = Inliner()
    return (
        environment()
        .get_template("report.html.jinja")
        .render(**context, inline=inliner.figure, shared=inliner.shared)
    )


def environment() -> jinja2.Environment:
    """Make the template's environment, with the page's own style and script."""
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


def sheets(study: RecordedStudy, results: Results) -> Sheets:
    """Make every table of a report once, for the page and for files alike."""
    return Sheets(
        glance=measured.glance(study, results),
        grids=[measured.grid(study, results, within) for within in results.within],
        settings=[measured.chosen_settings(study, within) for within in results.within],
        arms=[*measured.arms(study, results), *measured.probes(study, results)],
        across=measured.across(study, results),
        gaps=measured.gaps(study, results),
        more={
            "between": inferred.between(study, results),
            "seeds": [*inferred.over_native(study, results), *inferred.contrasts(study, results)],
            "power": inferred.power(study, results),
            "association": inferred.association(results),
            "factorial": inferred.factorial(results),
            "importances": inferred.importances(results),
            "over_datasets": inferred.over_datasets(study, results),
        },
        provenance=[
            provenance.trials(study),
            *provenance.trainings(study),
            *provenance.skipped(results),
            provenance.sources(study, results),
        ],
    )


def files(results: Results, tables: Sheets) -> dict[str, list[Table]]:
    """Group the tables of a report by the file that holds them."""
    grids = [table for of_task in tables.grids for table in of_task]
    return {
        "arms": [*tables.glance, *tables.arms, *tables.across, *grids, *tables.settings],
        "claims": inferred.claims_in_files(results, inferred.rule_of(results)),
        "seeds": [table for part in tables.more.values() for table in part],
        "gap": tables.gaps,
        "provenance": tables.provenance,
    }


def _context(study: RecordedStudy, results: Results, tables: Sheets, drawn: DrawnFigures) -> dict[str, Any]:
    return {
        "study": study,
        "facts": _facts(study),
        "claims": inferred.claims(results),
        "rule": inferred.rule_of(results),
        "differs": what_differs(study),
        "lead": sentences.lead(study, results),
        "found": sentences.found(study, results),
        "limits": limits.cannot_tell(study, results),
        "glance": next(iter(tables.glance), None),
        "within": [
            {
                **pictures,
                "title": f"{within.where.modality.capitalize()} retrieval: {within.where.task} "
                f"({within.where.dataset})",
                "grid": next(iter(grid), None),
                "settings": settings,
            }
            for within, pictures, grid, settings in zip(
                results.within, drawn.within, tables.grids, tables.settings, strict=True
            )
        ],
        "arms": fitting(tables.arms, "arms"),
        "across": fitting(tables.across, "arms"),
        "gaps": fitting(tables.gaps, "gap"),
        **drawn.of_study,
        "histograms": drawn.histograms,
        "strips": drawn.strips,
        "thumbnails": thumbnails(info for infos in drawn.strips.values() for info in infos),
        "routes": ROUTE_NAMES,
        "published": provenance.published(study),
        "more_figures": drawn.more,
        "more_tables": {part: fitting(sheets, "seeds") for part, sheets in tables.more.items()},
        "protocol": protocol(results),
        "reproduce": reproduce(study),
        "provenance": tables.provenance,
        "logs": [
            (f"{study.label(trial['arm'])} seed {trial['seed']}", trial["log"])
            for trial in records(study.trials[study.trials["log"] != ""])
        ],
    }


def fitting(tables: Iterable[Table], file: str) -> list[Table]:
    """Leave the rows of what a section has no room for to the file that holds every table."""
    room, fitting = MOST_ROWS, []
    for table in tables:
        if len(table.rows) <= max(room, FEW_ROWS):
            room -= len(table.rows)
            fitting.append(table)
        else:
            note = (
                f"{len(table.rows)} rows, more than this page has room for: --format md of the report's "
                f"command writes them to {file}.md."
            )
            fitting.append(replace(table, rows=(), note=note))
    return fitting


def _facts(study: RecordedStudy) -> list[str]:
    """Say in four facts how much was run, and on what."""
    complete = int((study.trials["state"] == "complete").sum())
    datasets = list(dict.fromkeys(study.rows["dataset"]))
    measured = ", ".join(datasets) if len(datasets) < 3 else counted(len(datasets), "dataset")
    return [
        counted(len(study.arms), "arm"),
        counted(len(study.seeds), "seed"),
        f"{complete} of {counted(len(study.trials), 'model')} complete",
        *[f"measured on {measured}"] * bool(datasets),
    ]


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
