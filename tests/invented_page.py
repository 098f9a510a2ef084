"""The page's template filled with invented content, some of it hostile, without a study behind it."""

from __future__ import annotations

import base64
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from analysis.page.assembled import environment, thumbnails
from analysis.plots.neighbours import ROUTE_NAMES, Card, Strip, StripsInfo
from analysis.typeset import Cell, Table
from tests.synthetic_study import thumbnail

PIXEL = f"data:image/png;base64,{base64.b64encode(thumbnail((11, 90, 143))).decode()}"
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


def picture(name: str) -> SimpleNamespace:
    """Make a picture of one disc."""
    return SimpleNamespace(
        path=Path(f"{name}.svg"), caption=f"Caption of {name}.", alt=f"A disc for {name}", uri=PIXEL
    )


def claim(number: int, verdict: str, title: str = "A gap makes inversion gain") -> dict[str, Any]:
    """Make a judged claim with one statement."""
    row = (Cell("Baseline"), Cell("The gain is above the margin."), Cell("+1.2", "[0.3, 2.1]"), Cell(verdict))
    statements = Table("Statements", ("arm", "statement", "points", "verdict"), (row,), "", 2)
    return {
        "number": number,
        "title": title,
        "verdict": verdict,
        "statements": statements,
    }


def plain_context(*, names: str = "Invented", sheet: Table | None = None) -> dict[str, Any]:
    """Fill every key that the page needs; ``names`` stands wherever a name or a text of the data stands."""
    sheet = sheet or Table(names, ("arm", names), ((Cell(names), Cell(names, names)),), names)
    card = Card(names, names, None, names, relevant=True)
    image = Card(names, names, thumbnail((90, 20, 20)), names, relevant=False)
    strips = (Strip("native", card, (card, image)), Strip("oti", card, (image,)))
    info = StripsInfo("emoji", names, "baseline", names, 0, strips)
    arm = SimpleNamespace(name="baseline", label=names, description=names)
    shown = SimpleNamespace(path=Path("a-long-file-name" * 6), caption=names, alt=names, uri=PIXEL)
    return {
        "study": SimpleNamespace(
            name=names,
            heading=names,
            description=names,
            smoke=True,
            selection=names,
            baseline="baseline",
            arms=[arm],
        ),
        "facts": ["1 arm", f"{names} data"],
        "found": [SimpleNamespace(topic=names, sentences=(names,))],
        "limits": [names],
        "level": "95 %",
        "glance": sheet,
        "within": [
            {"headline": shown, "curves": shown, "setting_curves": None, "grid": sheet, "settings": sheet}
        ],
        "arms": [sheet],
        "baseline": [sheet],
        "across": [sheet],
        "gaps": [sheet],
        "projections": [shown],
        "histograms": [shown, shown],
        "strips": {names: [info]},
        "thumbnails": thumbnails([info]),
        "routes": ROUTE_NAMES,
        "training": [shown],
        "published": sheet,
        "provenance": [sheet],
        "logs": [(names, names)],
    }


def full_context(*, names: str = "Invented") -> dict[str, Any]:
    """Fill the optional keys too."""
    return {
        **plain_context(names=names),
        "claims": [
            claim(number, verdict, f"{names}, claim {number}") for number, verdict in enumerate(VERDICTS, 1)
        ],
        "rule": f"Above .5 points. {names}",
        "more_figures": {place: [picture(place)] for place in PLACES},
        "more_tables": {place: [table(f"Table of {place}, {names}")] for place in PLACES},
        "reproduce": [f"python -m ablations.sweep '{names}'", "python -m analysis.report runs/gap"],
        "protocol": [names],
    }


def render(context: dict[str, Any]) -> str:
    """Render the page."""
    return environment().get_template("report.html.jinja").render(**context)
