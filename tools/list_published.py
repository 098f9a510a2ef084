"""Write the tables of docs/published.md: every published figure that the package holds, from where it stands.

python tools/list_published.py
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from crossgap.datasets.known.table import PAPER_CLASS_SETS, PAPER_IMAGE_SETS, PAPER_TEXT_SETS
from crossgap.encoders.backbones import BACKBONES
from crossgap.vocabulary import PUBLISHED, SOURCES

PAGE = Path(__file__).resolve().parent.parent / "docs" / "published.md"
MARK = "<!-- what follows is written by tools/list_published.py -->\n"


def tables() -> str:
    """Write the tables: averages by source, then single sets where they are published."""
    parts = []
    for source in dict.fromkeys(entry.source for entry in PUBLISHED):
        rows = [
            (entry.what, entry.model, f"{entry.native:.1f}", entry.route, f"{entry.value:.1f}",
             f"{entry.value - entry.native:+.1f}")
            for entry in PUBLISHED
            if entry.source == source
        ]  # fmt: skip
        head = ("what", "model", "native (%)", "route", "by the route (%)", "difference")
        parts.append(f"## {source}\n\n{_table(head, rows)}")
    single = [
        (backbone.title, name, f"{native:.1f}", f"{inverted:.1f}", f"{inverted - native:+.1f}")
        for backbone in BACKBONES.values()
        for line in backbone.published
        for name, (native, inverted) in line.of_set.items()
    ]
    sets = {
        "image retrieval": PAPER_IMAGE_SETS,
        "text retrieval": PAPER_TEXT_SETS,
        "zero-shot classification": PAPER_CLASS_SETS,
    }
    listed = "\n".join(f"- {what}: {', '.join(names)}" for what, names in sets.items())
    parts.append(f"## Sets of the first paper's averages\n\n{listed}")
    head = ("model", "set", "native (%)", "by OTI (%)", "difference")
    parts.append(f"## Single sets\n\nmAP of image retrieval, of {SOURCES[0]}\n\n{_table(head, single)}")
    return "\n\n".join(parts) + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Write the page anew, below its mark."""
    text = PAGE.read_text("utf-8")
    PAGE.write_text(text[: text.index(MARK) + len(MARK)] + "\n" + tables(), "utf-8")


if __name__ == "__main__":
    main()
