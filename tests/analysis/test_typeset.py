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
    assert r"\textless{}script\textgreater{}\textbar{}50 \% & $-$1.20 [$-$2.00, 0.10] \\" in text
    assert r"{\footnotesize $\tau$ = 1\par}" in text
    assert r"\resizebox" not in text.split(r"\begin{table}")[1]


def test_latex_rules_are_those_of_booktabs_and_the_first_line_names_it() -> None:
    text = latex([TABLE, TABLE])
    assert text.splitlines()[0].startswith(r"% Needs \usepackage{booktabs}")
    for command in (r"\begin{table}", r"\end{table}", r"\toprule", r"\midrule", r"\bottomrule"):
        assert text.count(command) == 2
    assert r"\hline" not in text
    order = [text.index(rule) for rule in (r"\toprule", r"arm & mAP (\%) \\", r"\midrule", r"\bottomrule")]
    assert order == sorted(order)


def test_latex_parts_groups_of_rows_and_scales_what_is_wide() -> None:
    rows = tuple((Cell(name), Cell("word " * 30)) for name in ("one", "", "two"))
    text = latex([Table("Wide", ("arm", "what"), rows, text_columns=2)])
    assert text.count(r"\addlinespace") == 1
    assert text.index("one &") < text.index(r"\addlinespace") < text.index("two &")
    assert "\\resizebox" not in text
    assert r"\begin{tabular}{lp{0.4\linewidth}}" in text
    assert r"\addlinespace" not in latex([TABLE])
    text = latex([Table("Wider", ("arm", *"abcdef"), ((Cell("one"), *[Cell("1234567890123456")] * 6),))])
    assert "\\resizebox{\\linewidth}{!}{%\n\\begin{tabular}{lrrrrrr}" in text
    assert "\\end{tabular}}\n" in text


def test_words_below_a_cell_are_told_from_it_on_one_line() -> None:
    row = (Cell("within", "p .012"), Cell("1.20", "[1.00, 1.40]"), Cell("", "alone"))
    assert "| within; p .012 | 1.20 \\[1.00, 1.40\\] | alone |" in markdown(
        [Table("T", ("a", "b", "c"), (row,))]
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"a\b{c}", r"a\textbackslash{}b\{c\}"),
        ("x_1^2 ~ $5 #3", r"x\_1\textasciicircum{}2 \textasciitilde{} \$5 \#3"),
        ("--out 5 – 6", "-{}-out 5 -- 6"),
        ("[0, 1]", "{}[0, 1]"),
        ("*", "{}*"),
        ('ρ ≥ 1, "quoted"', r"$\rho$ $\geq$ 1, \char34{}quoted\char34{}"),
        ("two\nlines\\\\", r"two lines\textbackslash{}\textbackslash{}"),
    ],
)
def test_latex_leaves_nothing_to_be_read_as_a_command(text: str, expected: str) -> None:
    assert f"\n{expected} \\\\\n" in latex([Table("T", ("c",), ((Cell(text),),))])


def test_latex_braces_and_environments_balance() -> None:
    hostile = r"}{\end{table} % \input{/etc/passwd} $"
    text = latex([Table(hostile, (hostile, hostile), ((Cell(hostile), Cell(hostile, hostile)),), hostile)])
    body = text.split("\n", 2)[2].replace(r"\{", "").replace(r"\}", "")
    assert body.count("{") == body.count("}")
    assert body.count(r"\end{table}") == 1
    assert r"\input" not in body
