"""The page's template, style and script: what may run, what stays text, what appears when, and contrast."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

import analysis
from analysis.page.assembled import FEW_ROWS, MOST_ROWS, fitting, render
from analysis.typeset import Cell, Table
from tests.invented_page import PLACES, VERDICTS, claim, full_context, hostile, plain_context, table

FOLDER = Path(analysis.__file__).parent / "page"
_VOID = {"meta", "img", "input", "br", "hr", "link"}


class Tree(HTMLParser):
    """Collects the tags in order, with their attributes and the text inside each; they have to nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self._open: list[int] = []
        self.feed(html)
        self.close()
        assert not self._open, [self.elements[place] for place in self._open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        self.texts.append("")
        if tag not in _VOID:
            self._open.append(len(self.elements) - 1)

    def handle_endtag(self, tag: str) -> None:
        assert self.elements[self._open.pop()][0] == tag, tag

    def handle_data(self, data: str) -> None:
        for place in self._open:
            self.texts[place] += data

    def all(self, tag: str) -> list[tuple[dict[str, str], str]]:
        """List the attributes and the text of each element of this tag."""
        return [
            (found, text)
            for (name, found), text in zip(self.elements, self.texts, strict=True)
            if name == tag
        ]


def _sheets(value: object) -> Iterator[Table]:
    """Find the tables of a context."""
    if isinstance(value, Table):
        yield value
    elif isinstance(value, dict):
        yield from _sheets(list(value.values()))
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _sheets(part)


@pytest.fixture(scope="module")
def full() -> Tree:
    return Tree(render(full_context()))


def policy(tree: Tree) -> dict[str, str]:
    """Return the directives of the page's content security policy."""
    (content,) = [found["content"] for found, _ in tree.all("meta") if "http-equiv" in found]
    return dict(directive.strip().split(" ", 1) for directive in content.split(";"))


def test_the_policy_allows_our_one_script_and_nothing_else(full: Tree) -> None:
    ((attributes, script),) = full.all("script")
    assert attributes == {}
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy(full) == {
        "default-src": "'none'",
        "img-src": "data:",
        "style-src": "'unsafe-inline'",
        "script-src": f"'sha256-{digest}'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert script == (FOLDER / "report.js").read_text(encoding="utf-8")


def test_nothing_carries_a_handler_or_an_address(full: Tree) -> None:
    for tag, attributes in full.elements:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], tag
        assert attributes.get("src", "data:").startswith("data:")
        assert attributes.get("href", "#").startswith("data:image/" if tag == "image" else "#")


def test_style_and_script_cannot_end_early_or_load_anything() -> None:
    style, script = ((FOLDER / f"report.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    assert "</" not in style
    assert not re.search(r"url\(|@import|@font-face", style)
    assert "</" not in script
    assert "<!--" not in script
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|fetch\(", script)
    assert len(script.splitlines()) < 150


def test_hostile_names_stay_text() -> None:
    words = hostile("everywhere")
    context = full_context(names=words)
    context["claims"].append(claim(5, words, words))
    tree, tame = Tree(render(context)), Tree(render(full_context()))
    for tag in ("script", "style", "img", "table", "section"):
        assert len(tree.all(tag)) == len(tame.all(tag)) + (tag == "table"), tag
    assert {tag for tag, _ in tree.elements} == {tag for tag, _ in tame.elements}
    assert {name for _, found in tree.elements for name in found} == {
        name for _, found in tame.elements for name in found
    }
    for tag in ("title", "h1", "h3", "li", "th", "td", "small", "summary", "pre", "dd", "figcaption"):
        assert any(words in text for _, text in tree.all(tag)), tag
    assert sum(text == f"{words}, seed 0" for _, text in tree.all("title")) > 1  # what a point tells
    assert any(found.get("aria-label") == words and "drawn" in found["class"] for found, _ in tree.all("svg"))
    assert any(found.get("aria-label") == words and "class" not in found for found, _ in tree.all("svg"))
    assert any(found == {"class": "badge other"} and text == words for found, text in tree.all("span"))


def test_contents_list_the_sections_that_are_there(full: Tree) -> None:
    for tree in (full, Tree(render(plain_context()))):
        count = len(tree.all("section"))
        links = [
            (found["href"], text)
            for found, text in tree.all("a")
            if found.get("class") not in ("skip", "see")
        ]
        assert [href for href, _ in links[:count]] == [f"#{found['id']}" for found, _ in tree.all("section")]
        assert [text for _, text in links[:count]] == [text for _, text in tree.all("h2")]


def test_headings_descend_one_level_at_a_time_and_anchors_are_unique(full: Tree) -> None:
    levels = [int(tag[1]) for tag, _ in full.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    anchors = [found["id"] for _, found in full.elements if "id" in found]
    assert len(anchors) == len(set(anchors))
    targets = {found["href"][1:] for found, _ in full.all("a")}
    assert targets <= set(anchors)


def test_a_thumbnail_stands_on_the_page_once(full: Tree) -> None:
    assert len(full.all("image")) == 1
    shown = f"#{full.all('image')[0][0]['id']}"
    assert [found["href"] for found, _ in full.all("use")].count(shown) == 2


def test_pictures_have_words_and_captions(full: Tree) -> None:
    assert full.all("img") == []  # figures are part of the page, so that their points can tell what they are
    assert all(found["aria-label"].strip() for found, _ in full.all("svg") if "role" in found)
    pictures = [text for found, text in full.all("figure") if found["class"] == "picture"]
    assert len(pictures) > len(PLACES)
    assert all("figures/" in text for text in pictures)


@pytest.mark.parametrize("value", [None, [], {}, ()])
def test_without_the_optional_keys_their_sections_do_not_appear(value: object) -> None:
    keys = ("claims", "more_figures", "more_tables", "reproduce", "protocol")
    context = plain_context() | dict.fromkeys(keys, value)
    assert render(context) == render(plain_context())
    tree = Tree(render(context))
    assert [found["id"] for found, _ in tree.all("section")] == [
        "headline", "claims", "words", "curves", "glance", "details", "limits", "arms", "across", "gap",
        "neighbours", "training", "published", "provenance",
    ]  # fmt: skip
    assert any("nothing can be said of any here" in text for _, text in tree.all("p"))


@pytest.mark.parametrize(
    ("place", "anchor", "title"),
    [
        ("dose", "dose", "Dose and response"),
        ("ladder", "ladder", "Temperature ladder"),
        ("front", "front", "Trade-offs"),
        ("factorial", "factorial", "Factorial effects"),
        ("classes", "classes", "Gain by class"),
        ("seeds", "seeds", "Differences over seeds"),
        ("power", "power", "What these seeds could show"),
        ("importances", "importances", "Importance of settings"),
        ("over_datasets", "over_datasets", "Over datasets"),
        ("published_figure", "published", "Published figures"),
        ("association", "glance", "Arms at a glance"),
        ("a place nobody planned", "further", "Further figures and tables"),
    ],
)
def test_more_tables_appear_where_they_belong(place: str, anchor: str, title: str) -> None:
    tree = Tree(render(plain_context() | {"more_tables": {place: [table("The table asked for")]}}))
    (text,) = [text for found, text in tree.all("section") if found["id"] == anchor]
    assert "The table asked for" in text
    assert title in text


def test_a_claim_shows_its_verdict_and_its_statements_under_the_rule(full: Tree) -> None:
    assert any("Above .5 points." in text for _, text in full.all("p"))
    shown = [text for found, text in full.all("details") if found.get("class") == "claim"]
    assert len(shown) == len(VERDICTS)
    for text, verdict in zip(shown, VERDICTS, strict=True):
        for words in (verdict, "The gain is above the margin.", "[0.3, 2.1]"):
            assert words in text
    ((_, grid),) = [one for one in full.all("table") if one[0].get("class") == "verdicts"]
    for words in (*VERDICTS, "images", "+1.20", "[0.30, 2.10]"):
        assert words in grid
    badges = {text: found["class"] for found, text in full.all("span") if "badge" in found.get("class", "")}
    assert badges == {
        "supported": "badge supported",
        "contradicted": "badge contradicted",
        "undecided": "badge undecided",
        "not measured": "badge unmeasured",
    }


def test_verdicts_figures_and_tables_lead_to_each_other(full: Tree) -> None:
    addresses = [found["href"] for found, _ in full.all("a")]
    for number in range(1, len(VERDICTS) + 1):
        assert f"#claim-{number}a" in addresses  # a verdict leads to its statements
    seen = [found["href"] for found, _ in full.all("a") if found.get("class") == "see"]
    assert seen.count("#arms") == len(VERDICTS)  # these to the section of their numbers
    assert "#glance" in seen  # and a figure to its table


def test_what_figures_share_stands_on_the_page_once(full: Tree) -> None:
    assert [found.get("class") for found, _ in full.all("svg")].count("shared") == 1
    markers = [found for found, _ in full.all("path") if "id" in found]
    assert len(markers) == 1
    assert markers[0]["d"] == "M 0 3 C 1.66 3 3 1.66 3 0"
    assert {found["stroke"] for found in markers} == {"none"}
    uses = [found for found, _ in full.all("use") if found["href"] == f"#{markers[0]['id']}"]
    figures = [one for one, _ in full.all("figure") if one["class"] == "picture"]
    assert len(uses) == len(figures)
    assert all(found == {"href": uses[0]["href"], "x": "5", "y": "5.12", "fill": "#0b5a8f"} for found in uses)


def test_long_tables_and_many_tables_are_folded() -> None:
    short, long = table("Short", rows=3), table("Long", rows=40)
    tree = Tree(render(plain_context() | {"more_tables": {"seeds": [short, long, short, short]}}))
    (section,) = [text for found, text in tree.all("section") if found["id"] == "seeds"]
    captions = [text for _, text in tree.all("figcaption")]
    assert captions.count("Short") == 1
    folded = [text for _, text in tree.all("summary")]
    assert folded.count("Long") == 1
    assert folded.count("Short") == 2
    assert "39.5" in section  # all of it is there


def test_a_row_carries_the_name_of_its_group() -> None:
    rows = tuple((Cell(name), Cell("1")) for name in ("one", "", "two", ""))
    tree = Tree(render(plain_context(sheet=Table("Groups", ("arm", "value"), rows))))
    heads = [text for found, text in tree.all("th") if found["scope"] == "row"]
    assert heads[:4] == ["one", "one", "two", "two"]
    assert [text for found, text in tree.all("span") if found.get("class") == "again"][:2] == ["one", "two"]


def colours(block: str) -> dict[str, str]:
    """Read the colours of a ``:root`` block of the style."""
    return dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", block))


def luminance(colour: str) -> float:
    """Relative luminance of an sRGB colour, as WCAG 2 defines it."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours, as WCAG 2 defines it."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_of_black_on_white_is_21() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)


def test_text_has_the_contrast_of_wcag_aa_in_both_modes() -> None:
    blocks = re.findall(r":root \{[^}]*\}", (FOLDER / "report.css").read_text(encoding="utf-8"))
    assert len(blocks) == 2
    light, dark = map(colours, blocks)
    assert set(light) == set(dark)
    assert luminance(light["paper"]) > 0.9
    assert luminance(dark["paper"]) < 0.05
    for mode in (light, dark):
        for text in ("ink", "quiet", "accent", "open"):
            for ground in ("paper", "tint"):
                assert contrast(mode[text], mode[ground]) >= 4.5, (text, ground, mode)
        for ground in ("yes", "no"):
            assert contrast(mode["on"], mode[ground]) >= 4.5, ground


def test_a_section_has_room_for_so_many_rows_and_names_the_file_of_the_others() -> None:
    rows = (Cell("arm"), Cell("1.0"))
    tables = [
        Table(title=f"task {count}", columns=("arm", "mAP"), rows=(rows,) * count)
        for count in (MOST_ROWS - 10, FEW_ROWS + 1, FEW_ROWS, 10)
    ]
    kept = fitting(tables, "arms")
    assert [table.title for table in kept] == [table.title for table in tables]
    assert [len(table.rows) for table in kept] == [MOST_ROWS - 10, 0, FEW_ROWS, 10]
    page = Tree(render({**full_context(), "arms": kept}))
    told = [text for _, text in page.all("p") if "writes them to arms.md" in text]
    assert len(told) == 1
    assert told[0].startswith(f"{FEW_ROWS + 1} rows")


def test_cells_of_numbers_align_right_without_saying_so_each() -> None:
    style = (FOLDER / "report.css").read_text(encoding="utf-8")
    for words in range(1, 7):
        assert f".words-{words} td:nth-child(n+{words + 1})" in style
    assert max(sheet.text_columns for sheet in _sheets(full_context())) <= 6
