"""``python -m analysis.report``: turn run folders into one self-contained page, figures and tables.

python -m analysis.report runs/demo --format html md
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import tyro

from analysis import MARGIN
from crossgap.command import run_command
from crossgap.errors import InputError
from crossgap.progress import told

if TYPE_CHECKING:
    from analysis.study import RecordedStudy
    from crossgap.metrics.intervals import Bootstrap

Format = Literal["html", "md", "tex", "csv", "parquet", "pdf"]
# the formats in which figures are written for each of the report's
FIGURES: dict[str, tuple[str, ...]] = {"html": ("svg", "png"), "pdf": ("pdf",)}


def write_report(
    study: RecordedStudy,
    out: Path,
    formats: tuple[Format, ...],
    bootstrap: Bootstrap,
    *,
    margin: float = MARGIN,
) -> Path:
    """Write the report of a study into ``out`` and return the path of its page, or of its first file.

    Raises:
        InputError: a folder of the report cannot be made or written into; nothing is computed then.
    """
    # what computes and draws takes seconds to load: a command that only says its options does without
    from analysis.export import KINDS, write_frames
    from analysis.figures import Figures
    from analysis.page.assembled import files, page, sheets
    from analysis.plots.saving import Saver
    from analysis.results import conclude, measure
    from analysis.typeset import latex, markdown
    from crossgap.files import check_writable, write_text

    written = []
    kinds = [kind for name in FIGURES if name in formats for kind in FIGURES[name]]
    check_writable(out)
    for name, needing in (("figures", set(FIGURES)), ("tables", {"csv", "parquet"})):
        if needing.intersection(formats):
            check_writable(out / name)
    measured = measure(study, bootstrap)
    with Saver(kinds) as saver:
        figures = Figures(study, out / "figures", saver)
        drawn = figures.of_measured(measured) if kinds else None
        saver.start()  # beside what is computed now
        results = conclude(study, measured, margin=margin)
        with told("drawing figures"):
            drawn = drawn and drawn.with_more(figures.of_results(results))
            tables = sheets(study, results)
            saver.finish()
    if "html" in formats and drawn:
        write_text(out / "report.html", page(study, results, tables, drawn))
        written.append(out / "report.html")
    for kind, typeset in (("md", markdown), ("tex", latex)):
        if kind in formats:
            with told(f"writing tables ({kind})"):
                for name, of_file in files(results, tables).items():
                    write_text(out / f"{name}.{kind}", typeset(of_file))
                    written.append(out / f"{name}.{kind}")
    for frames in KINDS:
        if frames in formats:
            written += write_frames(study, results, out / "tables", frames)
    return written[0] if written else out / "figures"


def main(
    runs: tyro.conf.Positional[tuple[Path, ...]],
    /,
    *,
    out: Path | None = None,
    format: Annotated[
        tuple[Format, ...], tyro.conf.arg(help=f"{', '.join(get_args(Format))}: one or more")
    ] = ("html",),
    margin: float = 100 * MARGIN,
    baseline: str | None = None,
    title: str | None = None,
    label: dict[str, str] | None = None,
) -> int:
    """Write a report: one page with its figures, and tables as Markdown, LaTeX, CSV or parquet.

    Args:
        runs: study folders, or the --out folders of evaluations.
        out: folder for the report; default: 'report' inside the first run.
        format: what to write: the page (html) with its figures as SVG and PNG, tables, or figures as PDF.
        margin: points of mAP or accuracy that count as nothing in tests of equivalence; to be fixed before
            the results are looked at.
        baseline: what the other arms are compared with: an arm's name, its label, or the folder of its run;
            default: the study's, of several runs the first.
        title: of the report.
        label: what to call arms in it, each by its name, label or run's folder: runs/a "width 64".
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # products are small: threads would wait, not work
    from analysis.study import read_runs
    from crossgap.files import check_place
    from crossgap.metrics.intervals import Bootstrap

    if not format:
        raise InputError(f"--format needs at least one of {', '.join(get_args(Format))}")
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
