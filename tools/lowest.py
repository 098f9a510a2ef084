"""Print the lowest version of each direct dependency that pyproject.toml declares, as requirements for pip.

python -m tools.lowest > lowest.txt && pip install -r lowest.txt && pip install --no-deps -e .
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"
_LEAST = re.compile(r"(?P<name>[\w.-]+(\[[\w,]+\])?)>=(?P<version>[\w.]+)")


def lowest(requirements: list[str]) -> list[str]:
    """Pin requirements at their lower bounds.

    Raises:
        ValueError: a requirement has no lower bound.
    """
    pinned = []
    for requirement in requirements:
        found = _LEAST.match(requirement)
        if found is None:
            raise ValueError(f"{PROJECT}: {requirement!r} has no lower bound (>=)")
        pinned.append(f"{found['name']}=={found['version']}")
    return pinned


if __name__ == "__main__":
    print("\n".join(lowest(tomllib.loads(PROJECT.read_text("utf-8"))["project"]["dependencies"])))
