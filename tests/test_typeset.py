"""Numbers as text and tables as Markdown and LaTeX."""

from __future__ import annotations

import math

import pytest

from analysis.typeset import Cell, Table, counted, interval, joined, latex, markdown, number, points


@pytest.mark.parametrize(
    ("value", "digits", "signed", "expected"),
    [
        (1.234, 2, False, "1.23"),
        (1.234, 2, True, "+1.23"),
        (-1.234, 2, True, "−1.23"),
        (-0.001, 2, True, "0.00"),
        (0.0, 1, True, "0.0"),
        (-0.06, 1, False, "−0.1"),
        (math.nan, 2, True, "–"),
        (None, 2, True, "–"),
    ],
)
def test_numbers(value: float | None, digits: int, signed: bool, expected: str) -> None:
    assert number(value, digits, signed=signed) == expected


def test_fractions_as_points() -> None:
    assert points(0.2345) == "23.5" or points(0.2345) == "23.4"
    assert points(-0.012, 2, signed=True) == "−1.20"


def test_intervals() -> None:
    assert interval(-0.5, 1.25, 2) == "[−0.50, 1.25]"
    assert interval(math.nan, math.nan, 2) == ""


def test_words() -> None:
    assert joined(["a"]) == "a"
    assert joined(["a", "b", "c"]) == "a, b and c"
    assert counted(1, "query", "queries") == "1 query"
    assert counted(1200, "query", "queries") == "1,200 queries"


TABLE = Table(
    "Arms & routes_1",
    ("arm", "mAP (%)"),
    ((Cell("<script>|50 %"), Cell("−1.20", "[−2.00,\n0.10]")),),
    note="τ = 1",
)


def test_markdown_escapes_and_aligns() -> None:
    assert markdown([TABLE]) == (
        "## Arms &amp; routes\\_1\n"
        "\n"
        "| arm | mAP (%) |\n"
        "| --- | ---: |\n"
        "| &lt;script&gt;\\|50 % | −1.20 \\[−2.00, 0.10\\] |\n"
        "\n"
        "τ = 1\n"
    )


def test_latex_escapes_and_aligns() -> None:
    text = latex([TABLE])
    assert r"\caption{Arms \& routes\_1}" in text
    assert r"\begin{tabular}{lr}" in text
    assert r"\textless{}script\textgreater{}|50 \% & $-$1.20 [$-$2.00, 0.10] \\" in text
    assert r"\par $\tau$ = 1" in text
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 1
