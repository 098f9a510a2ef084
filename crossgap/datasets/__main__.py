"""``python -m crossgap.datasets``: list the known datasets, and check a folder of them.

python -m crossgap.datasets --data-root data/
"""

from __future__ import annotations

import sys
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from crossgap.command import run_command
from crossgap.datasets.known.check import CheckedDataset, check_root
from crossgap.datasets.known.table import SPECS
from crossgap.errors import check_known


def main(*, dataset: tuple[str, ...] = (), data_root: Path | None = None) -> int:
    """List the known datasets: tasks, official counts, source, licence; with a root, what was found there.

    With --data-root every dataset in it is checked: the files of its layout, its counts against the official
    ones, that all images are there and a few of each part can be decoded. The exit code is 2 when one is
    damaged, or when one that --dataset names is missing.

    Args:
        dataset: only these.
        data_root: folder that holds the folders of datasets, as docs/reproduce.md lays them out.
    """
    for name in dataset:
        check_known(name, SPECS, "dataset")
    if data_root is None:
        for name in dataset or SPECS:
            _describe(name)
        print(
            "Besides these: a folder of class folders, shards 'path/{000..009}.tar', a table (CSV, parquet),"
        )
        print("and hf:OWNER/NAME. With --data-root DIR the folders of known datasets are checked.")
        return 0
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("dataset", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("items, or what is wrong", overflow="fold")
    folders = list(check_root(data_root, dataset))
    for folder in folders:
        counts = ", ".join(f"{part} {count}" for part, count in folder.counts.items())
        table.add_row(
            *(Text(cell) for cell in (folder.name, folder.state, "\n".join(folder.problems) or counts))
        )
    console = Console(file=sys.stdout)
    console.print(table)
    states = [folder.state for folder in folders]
    print(
        f"{states.count('whole')} whole, {states.count('damaged')} damaged, "
        f"{states.count('missing')} missing below {data_root}"
    )
    return 2 if any(_fails(folder, bool(dataset)) for folder in folders) else 0


def _fails(folder: CheckedDataset, named: bool) -> bool:
    return folder.state == "damaged" or (named and folder.state == "missing")


def _describe(name: str) -> None:
    spec = SPECS[name]
    print(f"{name}: {spec.title}")
    print(f"  items:   {', '.join(f'{part} {count}' for part, count in spec.counts.items())} ({spec.noun})")
    print(f"  tasks:   {', '.join(spec.tasks)}")
    if spec.folder:
        print(f"  layout:  {spec.folder}/ with {', '.join(spec.files)}")
    print(f"  source:  {spec.source}")
    print(f"  licence: {spec.licence}")
    for number, line in enumerate(spec.options):
        print(f"  {'options:' if not number else '':8} {line}")


if __name__ == "__main__":
    sys.exit(run_command(main))
