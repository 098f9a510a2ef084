"""List the known datasets: python -m crossgap.datasets"""

from __future__ import annotations

import sys

from crossgap.command import run_command
from crossgap.datasets.table import SPECS


def main() -> int:
    """Print what is known of each dataset: size, tasks, source and licence."""
    for name, spec in SPECS.items():
        print(f"{name}: {spec.title}")
        print(f"  splits:  {', '.join(f'{split} ({count})' for split, count in spec.counts.items())}")
        print(f"  tasks:   {', '.join(spec.tasks)}")
        print(f"  source:  {spec.source}")
        print(f"  licence: {spec.licence}")
    print("Besides these: a folder of class folders, shards 'path/{000..009}.tar', or a CSV file.")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
