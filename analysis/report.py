"""``python -m analysis.report``: turn run folders into one self-contained page, figures and tables.

python -m analysis.report runs/demo --format html md
"""

from __future__ import annotations

import base64
import hashlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import jinja2
import tyro
from markupsafe import Markup
from matplotlib.figure import Figure

from analysis import findings, sheets
from analysis.plots.curves import draw_curves
from analysis.plots.headline import draw_headline
from analysis.plots.histograms import draw_histograms, histogram_infos
from analysis.plots.neighbours import ROUTE_NAMES, Card, StripsInfo, decode, draw_strips, strips_infos
from analysis.plots.projection import draw_projection, projection_info
from analysis.plots.setting_curves import draw_setting_curves
from analysis.plots.style import save_figure
from analysis.plots.training import draw_losses, draw_temperatures, training_info
from analysis.results import Results, Within, compute
from analysis.stats.bootstrap import Bootstrap
from analysis.study import Study, read_runs
from analysis.typeset import Table, counted, latex, markdown
from crossgap.command import run_command
from crossgap.errors import InputError
from crossgap.records import write_text

Format = Literal["html", "md", "tex"]
_PAGE = Path(__file__).parent / "page"
_MEDIA = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"RIFF": "image/webp"}

_HEADLINE_CAPTION = (
    "One point a trained model. Up: the mAP points that inverting the query ({route}) adds on {task} "
    "({dataset}, {split}). Right: how far the model's image and text embeddings lie apart. Bars are 95 % "
    "intervals, over queries (up) and over pairs (right). Beside it, on the same scale, what linear "
    "controls add: an inversion gain says little about misalignment where a control that inverts nothing "
    "gains as much."
)


@dataclass(frozen=True)
class Picture:
    """A figure on the page: its file name without suffix, what it shows in words, and its data URI."""

    name: str
    caption: str
    alt: str
    uri: str


def write_report(study: Study, out: Path, formats: tuple[Format, ...], bootstrap: Bootstrap) -> Path:
    """Write the report of a study into ``out`` and return the path of its page, or of its first file."""
    results = compute(study, bootstrap)
    written = []
    if "html" in formats:
        page = _environment().get_template("report.html.jinja").render(**_context(study, results, out))
        write_text(out / "report.html", page)
        written.append(out / "report.html")
    for kind, typeset in (("md", markdown), ("tex", latex)):
        if kind in formats:
            for name, tables in _table_files(study, results).items():
                write_text(out / f"{name}.{kind}", typeset(tables))
                written.append(out / f"{name}.{kind}")
    return written[0]


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_PAGE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["data_uri"] = data_uri
    style, script = ((_PAGE / f"report.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # our own files, written into the page as they are; the policy of the page allows this script alone
    environment.globals |= {
        "style": Markup(style),  # noqa: S704
        "script": Markup(script),  # noqa: S704
        "script_hash": f"sha256-{digest}",
    }
    return environment


def _context(study: Study, results: Results, out: Path) -> dict[str, object]:
    labels = {arm.name: arm.label for arm in study.arms}
    figures = _Figures(out / "figures")
    complete = int((study.trials["state"] == "complete").sum())
    return {
        "study": study,
        "facts": [
            counted(len(study.arms), "arm"),
            counted(len(study.seeds), "seed"),
            f"{complete} of {counted(len(study.trials), 'model')} complete",
            *dict.fromkeys(f"{name} data" for name in study.rows["dataset"]),
        ],
        "found": findings.found(study, results),
        "limits": findings.cannot_tell(study, results),
        "level": f"{100 * results.bootstrap.level:g} %",
        "glance": sheets.glance(study, results),
        "within": [
            {
                "headline": figures.headline(study, within),
                "curves": figures.curves(within),
                "setting_curves": figures.setting_curves(within),
                "grid": sheets.grid(study, results, within),
                "settings": sheets.chosen_settings(study, within),
            }
            for within in results.within
        ],
        "arms": sheets.arms(study, results),
        "baseline": sheets.against_baseline(study, results),
        "across": sheets.across(study, results),
        "gaps": sheets.gaps(study, results),
        "projections": figures.projections(study, labels),
        "histograms": figures.histograms(study, results, labels),
        "strips": _strips(study, results, labels, figures),
        "routes": ROUTE_NAMES,
        "training": figures.training(study, labels),
        "published": sheets.published(),
        "provenance": _provenance(study, results),
        "logs": [
            (f"{study.label(trial['arm'])} seed {trial['seed']}", trial["log"])
            for trial in sheets.records(study.trials[study.trials["log"] != ""])
        ],
    }


def _table_files(study: Study, results: Results) -> dict[str, list[Table]]:
    glance, baseline = sheets.glance(study, results), sheets.against_baseline(study, results)
    grids = [sheets.grid(study, results, within) for within in results.within]
    settings = [sheets.chosen_settings(study, within) for within in results.within]
    return {
        "arms": [
            *([glance] if glance else []),
            *sheets.arms(study, results),
            *sheets.across(study, results),
            *baseline,
            *(grid for grid in grids if grid is not None),
            *settings,
        ],
        "gap": sheets.gaps(study, results),
        "provenance": _provenance(study, results),
    }


def _provenance(study: Study, results: Results) -> list[Table]:
    skipped = sheets.skipped(results)
    return [sheets.trials(study), *([skipped] if skipped else []), sheets.sources(study, results)]


def _histogram_caption(task: str, dataset: str) -> str:
    shares = "as shares of each kind of pair; one model an arm, its first seed."
    if task == "gap":
        return f"Cosine similarities within and across modalities ({dataset}), {shares}"
    return (
        f"Cosine similarities of native embeddings on {task} ({dataset}), {shares} Overlap alone does not "
        "show misalignment: models trained with an image-image loss overlap too."
    )


class _Figures:
    """Draws figures, saves them as PNG and SVG, and hands the page what to embed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def picture(self, draw: Callable[[], Figure], name: str, caption: str, alt: str) -> Picture:
        svg = save_figure(draw(), self.folder, name)
        return Picture(name, caption, alt, f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}")

    def headline(self, study: Study, within: Within) -> Picture | None:
        info, where = within.headline, within.where
        if info.points["gap"].isna().all():
            return None
        route = where.route.upper()
        return self.picture(
            lambda: draw_headline(info, study.arm_names),
            _slug(f"misalignment-against-gap-{where.modality}", where.dataset, study),
            _HEADLINE_CAPTION.format(route=route, task=where.task, dataset=where.dataset, split=where.split),
            f"{route} gain against modality gap for {counted(len(info.points), 'model')}, with controls",
        )

    def curves(self, within: Within) -> Picture | None:
        info, where = within.curves, within.where
        if not info.arms:
            return None
        return self.picture(
            lambda: draw_curves(info),
            _slug(f"inversion-curves-{where.modality}", where.dataset),
            f"Gain of {where.route.upper()} over native by number of inversion steps on {where.task} "
            f"({where.dataset}, {where.split}), one line a token count, mean over seeds; bands are 95 % "
            "intervals over queries. Red rings mark the settings quoted elsewhere. Step 0 is untrained "
            "tokens, the placebo.",
            f"Inversion curves of {counted(len(info.arms), 'arm')}",
        )

    def setting_curves(self, within: Within) -> Picture | None:
        info, where = within.setting_curves, within.where
        if not info.arms:
            return None
        return self.picture(
            lambda: draw_setting_curves(info),
            _slug(f"inversion-settings-{where.modality}", where.dataset),
            f"Gain of {where.route.upper()} over native by number of inversion steps on {where.task} "
            f"({where.dataset}, {where.split}), one panel a token count, one line a setting, mean over "
            "seeds; bands are 95 % intervals over queries. Red rings mark the settings quoted "
            "elsewhere. Of so many points the highest is too high by chance alone.",
            f"Inversion curves of {counted(len(info.settings), 'setting')}",
        )

    def training(self, study: Study, labels: dict[str, str]) -> list[Picture]:
        if not {"step", "loss", "temperature"} <= set(study.training.columns):
            return []
        info = training_info(study.training, labels)
        return [
            self.picture(
                lambda: draw_losses(info),
                "training-loss",
                "Loss and its parts as weighted in the objective, one line a seed. Models that failed or "
                "have not finished are drawn as far as they came.",
                f"Training loss of {counted(len(info.arms), 'arm')}",
            ),
            self.picture(
                lambda: draw_temperatures(info, study.arm_names),
                "training-temperature",
                "Temperature of the contrastive loss during training, on a logarithmic axis, one line a "
                "seed.",
                f"Temperature of {counted(len(info.arms), 'arm')} during training",
            ),
        ]

    def projections(self, study: Study, labels: dict[str, str]) -> list[Picture]:
        pictures = []
        for dataset in dict.fromkeys(study.projection["dataset"]):
            info = projection_info(study.projection, dataset, labels)
            pictures.append(
                self.picture(
                    lambda info=info: draw_projection(info),  # type: ignore[misc]
                    _slug("projection", dataset),
                    f"Both modalities' embeddings of {dataset} in two dimensions ({info.method}), one "
                    "model an arm (its first seed). Two coordinates of many: distances here are not the "
                    "gap that is reported.",
                    f"Image and text embeddings of {counted(len(info.arms), 'arm')} in two dimensions",
                )
            )
        return pictures

    def histograms(self, study: Study, results: Results, labels: dict[str, str]) -> dict[str, list[Picture]]:
        """Draw the leading tasks and the pairs of the gap (``main``), and the other tasks (``more``)."""
        leading = {"gap", *(within.where.task for within in results.within)}
        pictures: dict[str, list[Picture]] = {"main": [], "more": []}
        for dataset in dict.fromkeys(study.histograms["dataset"]):
            for info in histogram_infos(study.histograms, dataset, labels):
                pictures["main" if info.task in leading else "more"].append(
                    self.picture(
                        lambda info=info: draw_histograms(info),  # type: ignore[misc]
                        _slug(f"similarities-{info.task}", dataset),
                        _histogram_caption(info.task, dataset),
                        f"Histograms of cosine similarity on {info.task}",
                    )
                )
        return pictures

    def strips(self, info: StripsInfo) -> None:
        save_figure(draw_strips(info), self.folder, _slug(f"neighbours-{info.task}-{info.arm}", info.dataset))


def _strips(
    study: Study, results: Results, labels: dict[str, str], figures: _Figures
) -> dict[str, list[StripsInfo]]:
    """Group strips by task for the page; those of the leading tasks are saved as figures too."""
    leading = {within.where.task for within in results.within}
    by_task: dict[str, list[StripsInfo]] = {}
    for info in strips_infos(sheets.leading_first(results, study.neighbours), labels):
        if info.task in leading:
            figures.strips(info)
        by_task.setdefault(f"{info.task} ({info.dataset})", []).append(info)
    return by_task


def data_uri(card: Card) -> str | None:
    """Return a card's thumbnail as a data URI; None when it is absent or not a readable PNG, JPEG or WebP."""
    if card.image is None or decode(card.image) is None:
        return None
    media = next(media for magic, media in _MEDIA.items() if card.image.startswith(magic))
    return f"data:{media};base64,{base64.b64encode(card.image).decode()}"


def _slug(*parts: object) -> str:
    text = "-".join(str(part) for part in parts if isinstance(part, str))
    return "".join(character if character.isalnum() or character in "-_" else "_" for character in text)


def main(
    runs: tyro.conf.Positional[tuple[Path, ...]],
    /,
    *,
    out: Path | None = None,
    format: Annotated[tuple[Format, ...], tyro.conf.arg(help="html, md, tex: one or more")] = ("html",),
) -> int:
    """Write a report: one page with its figures, and the tables as Markdown or LaTeX.

    Args:
        runs: study folders, or the --out folders of evaluations.
        out: folder for the report; default: 'report' inside the first run.
        format: what to write.
    """
    if not format:
        raise InputError("--format needs at least one of html, md, tex")
    study = read_runs(runs)
    print(write_report(study, out or runs[0] / "report", format, Bootstrap()))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
