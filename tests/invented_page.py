"""The page's template filled with invented content, some of it hostile, without a study behind it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.sax.saxutils import escape

import pandas as pd

from analysis.page.assembled import thumbnails
from analysis.pictures import Picture
from analysis.plots.neighbours import ROUTE_NAMES, Card, Strip, StripsInfo
from analysis.typeset import Cell, Table
from tests.synthetic_study import thumbnail

DISC = """<?xml version="1.0"?>
<svg xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 10 10" xmlns="http://www.w3.org/2000/svg">
 <metadata/><defs><style type="text/css">*{stroke-linejoin: round; stroke-linecap: butt}</style></defs>
 <g id="figure_1"><defs><path id="m1" d="M 0 3.00000 C 1.65685 3 3 1.65685 3 0" style="stroke: none"/></defs>
  <g><title>NAME, seed 0</title><use xlink:href="#m1" x="5" y="5.123456" style="fill: #0b5a8f"/></g>
 </g>
</svg>
"""  # as matplotlib writes one
VERDICTS = ("supported", "contradicted", "undecided", "not measured")
PLACES = ("dose", "ladder", "front", "factorial", "classes", "published_figure", "seeds", "power",
          "over_datasets", "association", "importances")  # fmt: skip


def hostile(where: str) -> str:
    """Write markup that would run or break out if it were taken as markup, and name where it stands."""
    return (
        f"""</script></style><script>alert('{where}')</script><img src=x onerror="alert(1)"> "{where}" & co"""
    )


def table(title: str = "Invented", rows: int = 2) -> Table:
    """Make a table of one group: its name stands in the first row only."""
    body = [(Cell("group" if place == 0 else ""), Cell(f"{place}.5", "[0, 1]")) for place in range(rows)]
    return Table(title, ("arm", "value"), tuple(body), "A note.")


def picture(name: str, *, caption: str = "", alt: str = "", reading: str = "") -> Picture:
    """Make a picture of one disc, whose point is called as the caption says."""
    path = Path(tempfile.mkdtemp()) / f"{name}.svg"
    path.write_text(DISC.replace("NAME", escape(caption or name)), encoding="utf-8")
    return Picture(path, caption or f"Caption of {name}.", alt or f"A disc for {name}", reading)


def claim(number: int, verdict: str, title: str = "A gap makes inversion gain") -> dict[str, Any]:
    """Make a judged claim with one statement."""
    row = (Cell("Baseline"), Cell("The gain is above the margin."), Cell("+1.2", "[0.3, 2.1]"), Cell(verdict))
    statements = Table("Statements", ("arm", "statement", "points", "verdict"), (row,), "", 2)
    return {
        "number": f"{number}a",
        "row": number,
        "modality": "images",
        "title": title,
        "words": title,
        "verdict": verdict,
        "size": Cell("+1.20", "[0.30, 2.10]"),
        "statements": statements,
        "see": "arms",
    }


def plain_context(*, names: str = "Invented", sheet: Table | None = None) -> dict[str, Any]:
    """Fill every key that the page needs; ``names`` stands wherever a name or a text of the data stands."""
    sheet = sheet or Table(names, ("arm", names), ((Cell(names), Cell(names, names)),), names)
    card = Card(names, names, None, names, relevant=True)
    image = Card(names, names, thumbnail((90, 20, 20)), names, relevant=False)
    strips = (Strip("native", card, (card, image)), Strip("oti", card, (image,)))
    info = StripsInfo("emoji", names, "baseline", names, 0, strips)
    arm = SimpleNamespace(name="baseline", label=names, description=names)
    pictures = iter(picture(f"{'a-long-file-name' * 6}-{place}", caption=names, alt=names, reading=names)
                    for place in range(9))  # fmt: skip
    return {
        "study": SimpleNamespace(
            rows=pd.DataFrame({"value": [0.5]}),
            name=names,
            heading=names,
            description=names,
            smoke=True,
            selection=names,
            baseline="baseline",
            arms=[arm],
        ),
        "facts": ["1 arm", f"{names} data"],
        "differs": [],
        "lead": (names,),
        "found": [SimpleNamespace(topic=names, sentences=(names,))],
        "limits": [names],
        "glance": sheet,
        "within": [
            {
                "title": names,
                "headline": next(pictures),
                "curves": next(pictures),
                "setting_curves": None,
                "grid": sheet,
                "settings": sheet,
            }
        ],
        "arms": [sheet],
        "baseline": [sheet],
        "across": [sheet],
        "gaps": [sheet],
        "projections": [next(pictures)],
        "histograms": [next(pictures), next(pictures)],
        "strips": {names: [info]},
        "thumbnails": thumbnails([info]),
        "routes": ROUTE_NAMES,
        "training": [next(pictures)],
        "published": sheet,
        "provenance": [sheet],
        "logs": [(names, names)],
    }


def full_context(*, names: str = "Invented") -> dict[str, Any]:
    """Fill the optional keys too."""
    return {
        **plain_context(names=names),
        "differs": [names],
        "claims": [
            claim(number, verdict, f"{names}, claim {number}") for number, verdict in enumerate(VERDICTS, 1)
        ],
        "rule": f"Above .5 points. {names}",
        "more_figures": {place: [picture(place)] for place in PLACES},
        "more_tables": {place: [table(f"Table of {place}, {names}")] for place in PLACES},
        "reproduce": [f"python -m ablations.sweep '{names}'", "python -m analysis.report runs/gap"],
        "protocol": [names],
    }
