"""``python -m analysis.findings``: keep the published study's rows, go on with it elsewhere, write its page.

python -m analysis.findings keep runs/findings docs/study/scenes
python -m analysis.findings restore docs/study/scenes runs/findings
python -m analysis.findings page docs/study
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Annotated

import tyro

from crossgap.command import run_commands
from crossgap.errors import InputError
from crossgap.progress import told


def keep_run(
    run: Annotated[Path, tyro.conf.Positional], folder: Annotated[Path, tyro.conf.Positional]
) -> int:
    """Write what is finished of a study into a folder small enough for version control.

    Args:
        run: the study's folder, as runs/findings.
        folder: where to keep it, as docs/study/scenes.
    """
    from analysis.findings.kept import keep
    from analysis.typeset import counted

    with told(f"keeping {run}"):
        written = keep(run, folder)
    print(f"{folder}: {counted(len(written), 'file')} written" if written else f"{folder}: nothing new")
    return 0


def restore_run(
    folder: Annotated[Path, tyro.conf.Positional], run: Annotated[Path, tyro.conf.Positional]
) -> int:
    """Write a kept study as a study's folder again: its sweep goes on with it, reports read it.

    Args:
        folder: of a kept study, as docs/study/scenes.
        run: the study's folder to make or to complete, as runs/findings.
    """
    from analysis.findings.kept import restore
    from analysis.typeset import counted

    with told(f"restoring {folder}"):
        count = restore(folder, run)
    print(f"{run}: {counted(count, 'trial')} restored" if count else f"{run}: nothing new")
    return 0


def write_page(folder: Annotated[Path, tyro.conf.Positional], *, out: Path = Path("docs")) -> int:
    """Write findings.md with its figures, and all tables beside the kept studies.

    Refuses a study of which a trial is not finished: nothing is looked at before.

    Args:
        folder: whose folders are kept studies, a world each: docs/study. Sentences about them are read from
            its said.md.jinja.
        out: where the page goes; its figures and tables go into its folder 'study'.
    """
    from analysis.findings.figure import draw_findings
    from analysis.findings.kept import STUDY, restore
    from analysis.findings.page import page, tables
    from analysis.findings.questions import answer
    from analysis.plots.style import save_figure
    from analysis.study import read_runs
    from crossgap.files import check_writable, write_text
    from crossgap.metrics.intervals import Bootstrap

    kept = sorted((path.parent for path in folder.glob(f"*/{STUDY}")), reverse=True)
    if not kept:
        raise InputError(
            f"{folder}: no kept study lies here; keep one first: python -m analysis.findings keep"
        )
    check_writable(out / "study")
    worlds = {}
    with tempfile.TemporaryDirectory() as place:
        for world in kept:
            with told(f"reading {world}"):
                restore(world, Path(place) / world.name)
                study = read_runs([Path(place) / world.name])
            ended = study.trials["state"].isin(["complete", "failed"])
            if not ended.all():
                raise InputError(
                    f"{world}: {int((~ended).sum())} of {len(ended)} trials are not finished; go on with the "
                    "study, and keep them: nothing of it is looked at before"
                )
            worlds[world.name] = answer(study, Bootstrap())
    written = {out / "study" / "tables.md": tables(worlds, folder), out / "findings.md": page(worlds, folder)}
    for name, found in worlds.items():
        for modality in ("image", "text"):
            save_figure(draw_findings(found, modality), out / "study", f"{name}-{modality}", ("png",))
    for path, text in written.items():
        write_text(path, text)
    print(out / "findings.md")
    return 0


def main() -> int:
    """Run one of the commands."""
    return run_commands({"keep": keep_run, "restore": restore_run, "page": write_page})


if __name__ == "__main__":
    sys.exit(main())
