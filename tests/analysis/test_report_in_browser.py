"""The page as a browser shows it, under its own policy: whole, quiet, no wider than the window, sortable."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from analysis.page.assembled import render
from analysis.typeset import Cell, Table
from tests.chromium import Chromium, Tab
from tests.invented_page import full_context, hostile, plain_context
from tests.synthetic_study import write_study

pytestmark = pytest.mark.system

VALUES = ("−1.20", "–", "+.5", "1,200", "12 %", "0", "3.5", "−.3", "", "3.5")
BOUNDS = ("[.5, 1]", "[−2.0, 3.1]", "[10, 11]", "25 × 2", "25 × 1", "> 1,000", "", "ab12", "12ab", "ab2")
GROUPS = ("Baseline", "", "", "", "", "Narrow", "", "", "", "")


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with Chromium(tmp_path_factory.mktemp("chromium") / "profile") as browser:
        yield browser


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pages: of a study, of invented content with every section and hostile names, of one table."""
    folder = tmp_path_factory.mktemp("pages")
    study = write_study(folder / "study")
    subprocess.run(
        [sys.executable, "-m", "analysis.report", str(study), "--out", str(folder / "out")], check=True
    )
    (folder / "study.html").write_bytes((folder / "out" / "report.html").read_bytes())
    (folder / "full.html").write_text(render(full_context(names=hostile("browser"))), encoding="utf-8")
    rows = tuple(
        (Cell(group), Cell(value, f"[{place}, 99]"), Cell(f"word {place}"), Cell(BOUNDS[place]))
        for place, (group, value) in enumerate(zip(GROUPS, VALUES, strict=True))
    )
    sheet = Table("Sheet", ("arm", "value", "note", "bounds"), rows)
    (folder / "table.html").write_text(render(plain_context(sheet=sheet)), encoding="utf-8")
    return folder


@pytest.fixture(params=[1280, 390])
def width(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no-scripts"])
@pytest.mark.parametrize("name", ["study", "full", "table"])
def test_the_page_is_whole_quiet_and_no_wider_than_the_window(
    chromium: Chromium, folder: Path, name: str, width: int, scripts: bool
) -> None:
    tab = chromium.open((folder / f"{name}.html").as_uri(), width=width, scripts=scripts)
    tab.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    seen = tab.evaluate("""({
        inner: innerWidth,
        wide: document.documentElement.scrollWidth,
        sideways: (scrollTo(500, 0), scrollX),
        figures: document.querySelectorAll('svg.drawn').length,
        lost: [...document.querySelectorAll('svg.drawn use')].filter(
            use => !document.querySelector(use.getAttribute('href'))).length,
        unclipped: [...document.querySelectorAll('svg.drawn [clip-path]')].filter(
            part => !document.querySelector(part.getAttribute('clip-path').slice(4, -1))).length,
        nameless: document.querySelectorAll('svg[role=img]:not([aria-label])').length,
        thumbnails: document.querySelectorAll('svg[role=img]:not(.drawn)').length,
        blank: [...document.querySelectorAll('svg[role=img]')].filter(shown => shown.checkVisibility())
            .filter(shown => !shown.getBBox().width || !shown.querySelector('use').getBBox().width).length,
        rows: [...document.querySelectorAll('tbody tr')].filter(row => !row.offsetHeight).length,
        buttons: document.querySelectorAll('th button').length,
        filters: document.querySelectorAll('input').length,
    })""")
    assert seen["inner"] == width
    assert seen["wide"] <= width
    assert seen["sideways"] == 0
    assert seen["figures"] >= 5
    assert seen["lost"] == seen["unclipped"] == seen["nameless"] == 0
    assert seen["thumbnails"] >= 2
    assert seen["blank"] == 0
    assert seen["rows"] == 0  # every row is shown
    assert (seen["buttons"] > 0) is scripts
    assert seen["filters"] == 0 or scripts
    assert tab.problems() == []
    assert tab.requests() == []


def test_the_first_screen_shows_the_figure_the_verdicts_and_three_sentences(
    chromium: Chromium, folder: Path
) -> None:
    tab = chromium.open((folder / "study.html").as_uri(), width=1280, height=900)
    places = tab.evaluate("""[document.querySelector('h1'), document.querySelector('.facts'),
        [...document.querySelectorAll('#headline svg')].find(one => one.checkVisibility()),
        document.querySelector('.verdicts'), ...document.querySelectorAll('.short li')]
        .map(one => one.getBoundingClientRect()).map(place => [place.top, place.bottom, place.width])""")
    assert len(places) == 3 + 1 + 3
    assert all(0 <= top < bottom <= 900 and wide > 100 for top, bottom, wide in places)
    assert [top for top, _, _ in places[1:]] == sorted(top for top, _, _ in places[1:])  # in this order
    assert places[2][2] > 600  # the figure is large


def test_on_a_telephone_the_figure_comes_first_in_a_form_that_can_be_read(
    chromium: Chromium, folder: Path
) -> None:
    tab = chromium.open((folder / "study.html").as_uri(), width=390, height=800)
    seen = tab.evaluate("""(() => {
        const shown = [...document.querySelectorAll('#headline svg')].filter(one => one.checkVisibility());
        const first = document.querySelector('main .picture, main table, main p, main li');
        const place = shown[0].getBoundingClientRect();
        return {
            shown: shown.length,
            first: first.contains(shown[0]),
            top: place.top,
            wide: place.width,
            taller: place.height > place.width,
            text: place.width / shown[0].viewBox.baseVal.width,
        };
    })()""")
    assert seen["shown"] == 1
    assert seen["first"]
    assert seen["top"] < 400
    assert seen["wide"] <= 390
    assert seen["taller"]
    assert seen["text"] > 1.2  # 8 points are more than 9 pixels


def test_a_point_says_its_arm_seed_and_numbers(chromium: Chromium, folder: Path) -> None:
    tab = chromium.open((folder / "study.html").as_uri(), width=1280)
    titles = tab.evaluate("""[...document.querySelectorAll('#headline .roomy title')].map(title => {
        const spot = title.parentElement.querySelector('use').getBoundingClientRect();
        const found = document.elementFromPoint(spot.x + spot.width / 2, spot.y + spot.height / 2);
        return [title.textContent, found.closest('g:has(> title)') !== null];
    })""")
    words = [text for text, _ in titles]
    assert all(reached for _, reached in titles)
    for arm in ("Baseline", "Narrow gap"):
        for seed in (0, 1):
            assert any(
                re.fullmatch(
                    rf"{arm}, seed {seed}: gap \d\.\d+ \[.+\], gain [+−]?\d+\.\d\d points \[.+\], 39 queries",
                    one,
                )
                for one in words
            )
    assert any(re.fullmatch(r"Baseline, class-name PCA: gain .+, 2 seeds", one) for one in words)


def test_a_link_to_a_claim_opens_what_it_leads_to(chromium: Chromium, folder: Path) -> None:
    for scripts in (True, False):
        tab = chromium.open((folder / "study.html").as_uri(), width=1280, scripts=scripts)
        tab.evaluate("document.querySelector('a[href=\"#claim-2b\"]').click()")
        time.sleep(0.5)  # it scrolls there; a page without scripts cannot be asked to wait
        seen = tab.evaluate("""(target => [target.checkVisibility(),
            document.querySelector('#claim-1a').checkVisibility()])(document.querySelector('#claim-2b'))""")
        assert seen == [True, False]


def test_a_script_that_is_not_ours_is_refused_and_seen(chromium: Chromium, folder: Path) -> None:
    html = (folder / "table.html").read_text(encoding="utf-8")
    (folder / "changed.html").write_text(html.replace('"use strict";', '"use strict"; '), encoding="utf-8")
    tab = chromium.open((folder / "changed.html").as_uri(), width=1280)
    assert any("Content Security Policy" in problem for problem in tab.problems())
    assert tab.evaluate("document.querySelectorAll('th button').length") == 0


@pytest.fixture
def tab(chromium: Chromium, folder: Path, width: int) -> Tab:
    return chromium.open((folder / "table.html").as_uri(), width=width)


TABLE = "document.querySelector('#glance .sheet table')"


def column(tab: Tab, place: int) -> list[str]:
    """Read the visible rows of a column without what stands in small type."""
    return tab.evaluate(f"""[...{TABLE}.tBodies[0].rows].filter(row => row.offsetHeight).map(row => {{
        const cell = row.cells[{place}].cloneNode(true);
        cell.querySelectorAll('small').forEach(one => one.remove());
        return cell.textContent.trim();
    }})""")


def press(tab: Tab, place: int) -> str | None:
    """Click the head of a column and return how its table is then said to be sorted."""
    head = f"{TABLE}.tHead.rows[0].cells[{place}]"
    return tab.evaluate(f"({head}.querySelector('button').click(), {head}.getAttribute('aria-sort'))")


def test_a_click_sorts_numbers_by_value_and_the_third_restores(tab: Tab) -> None:
    before = column(tab, 2)
    assert press(tab, 1) == "ascending"
    assert column(tab, 1) == ["−1.20", "−.3", "0", "+.5", "3.5", "3.5", "12 %", "1,200", "–", ""]
    assert column(tab, 2)[4:6] == ["word 6", "word 9"]  # equal values stay in their order
    assert press(tab, 1) == "descending"
    assert column(tab, 1) == ["1,200", "12 %", "3.5", "3.5", "+.5", "0", "−.3", "−1.20", "–", ""]
    assert column(tab, 2)[2:4] == ["word 6", "word 9"]
    assert press(tab, 1) is None
    assert column(tab, 2) == before == [f"word {place}" for place in range(10)]


def test_intervals_lists_and_words_sort_by_what_they_open_with(tab: Tab) -> None:
    press(tab, 3)
    assert column(tab, 3) == [
        "[−2.0, 3.1]", "[.5, 1]", "[10, 11]", "25 × 1", "25 × 2", "> 1,000", "12ab", "ab2", "ab12", "",
    ]  # fmt: skip


def test_another_column_takes_the_order_over(tab: Tab) -> None:
    press(tab, 1)
    assert press(tab, 2) == "ascending"
    assert tab.evaluate(f"{TABLE}.querySelectorAll('[aria-sort]').length") == 1
    assert column(tab, 2) == [f"word {place}" for place in range(10)]


def test_the_keyboard_sorts(tab: Tab) -> None:
    tab.evaluate(f"{TABLE}.tHead.rows[0].cells[1].querySelector('button').focus()")
    tab.press("Enter", 13, "\r")
    assert column(tab, 1)[0] == "−1.20"
    assert tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    tab.press(" ", 32, " ")
    assert column(tab, 1)[0] == "1,200"


def shown_names(tab: Tab) -> list[bool]:
    """Say of each visible row whether the name of its group can be seen."""
    return tab.evaluate(f"""[...{TABLE}.tBodies[0].rows].filter(row => row.offsetHeight).map(row => {{
        const again = row.cells[0].querySelector('.again');
        return !again || again.offsetWidth > 2;
    }})""")


def test_rows_that_leave_their_group_show_its_name(tab: Tab) -> None:
    assert shown_names(tab) == [bool(name) for name in GROUPS]
    press(tab, 1)
    assert all(shown_names(tab))
    assert column(tab, 0)[:4] == ["Baseline", "Narrow", "Narrow", "Baseline"]
    press(tab, 1)
    press(tab, 1)
    assert shown_names(tab) == [bool(name) for name in GROUPS]


def fill(tab: Tab, words: str) -> str:
    """Type into the filter and return what it announces."""
    return tab.evaluate(f"""(() => {{
        const figure = {TABLE}.closest('figure');
        const input = figure.querySelector('input');
        input.value = {json.dumps(words)};
        input.dispatchEvent(new Event('input'));
        return figure.querySelector('[aria-live=polite]').textContent;
    }})()""")


def test_the_filter_keeps_rows_that_hold_the_words_and_announces_them(tab: Tab) -> None:
    assert fill(tab, "WORD 3") == "1 of 10 rows"
    assert column(tab, 2) == ["word 3"]
    assert shown_names(tab) == [True]
    assert fill(tab, "narrow") == "5 of 10 rows"  # also those that do not show their group's name
    assert column(tab, 2) == [f"word {place}" for place in range(5, 10)]
    press(tab, 1)
    assert column(tab, 1) == ["−.3", "0", "3.5", "3.5", ""]
    assert fill(tab, "nothing of the kind") == "0 of 10 rows"
    assert column(tab, 1) == []
    assert fill(tab, "") == ""
    assert len(column(tab, 1)) == 10


def test_a_table_wider_than_the_window_says_so_and_keeps_its_first_column(
    chromium: Chromium, folder: Path, width: int
) -> None:
    tab = chromium.open((folder / "study.html").as_uri(), width=width)
    seen = tab.evaluate("""new Promise(resolve => requestAnimationFrame(() => requestAnimationFrame(() => {
        const boxes = [...document.querySelectorAll('.scroll')].filter(box => box.checkVisibility());
        const wide = boxes.filter(box => box.scrollWidth > box.clientWidth + 1);
        const table = wide.find(box => box.querySelector('table'));
        table.scrollLeft = 200;
        const cell = table.querySelector('tbody th');
        resolve({
            told: wide.every(box => !box.previousElementSibling.hidden && box.tabIndex === 0),
            silent: boxes.filter(box => !wide.includes(box))
                .every(box => box.previousElementSibling.hidden && box.tabIndex === -1),
            moved: table.scrollLeft,
            stays: Math.abs(cell.getBoundingClientRect().left - table.getBoundingClientRect().left),
        });
    })))""")
    assert seen["told"]
    assert seen["silent"]
    assert seen["moved"] > 0
    assert seen["stays"] < 1


def test_figures_keep_a_white_card_in_the_dark(chromium: Chromium, folder: Path) -> None:
    for scheme, dark in (("light", False), ("dark", True)):
        media = {"prefers-color-scheme": scheme}
        tab = chromium.open((folder / "study.html").as_uri(), width=1280, media=media)
        ground, card = tab.evaluate("""[document.body, document.querySelector('.picture .scroll')]
            .map(one => getComputedStyle(one).backgroundColor)""")
        assert (ground != "rgb(255, 255, 255)") is dark
        assert card == "rgb(255, 255, 255)"


def test_the_contents_stand_beside_the_text_only_where_there_is_room(tab: Tab, width: int) -> None:
    beside, unfolded = tab.evaluate("""[
        document.querySelector('nav').getBoundingClientRect().right
            < document.querySelector('main').getBoundingClientRect().left,
        document.querySelector('nav details').open,
    ]""")
    assert beside is unfolded is (width == 1280)


def test_print_shows_what_is_folded_and_no_controls(tab: Tab) -> None:
    tab.send("Emulation.setEmulatedMedia", media="print")
    seen = tab.evaluate("""(dispatchEvent(new Event('beforeprint')), {
        folded: document.querySelectorAll('main details:not([open])').length,
        controls: [...document.querySelectorAll('nav, .filter, .hint')]
            .filter(one => one.offsetHeight).length,
    })""")
    assert seen == {"folded": 0, "controls": 0}
    tab.evaluate("dispatchEvent(new Event('afterprint'))")
    assert tab.evaluate("document.querySelectorAll('main details:not([open])').length") > 0


def test_a_sheet_of_paper_is_wide_enough(chromium: Chromium, folder: Path) -> None:
    tab = chromium.open(
        (folder / "study.html").as_uri(), width=720
    )  # A4 at 96 dots an inch, less its margins
    tab.send("Emulation.setEmulatedMedia", media="print")
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    wide = tab.evaluate("""[...document.querySelectorAll('.sheet .scroll')]
        .filter(box => box.scrollWidth > box.clientWidth + 1).map(box => box.getAttribute('aria-label'))""")
    assert wide == []


def test_the_first_stop_of_the_keyboard_leads_past_the_contents(tab: Tab) -> None:
    tab.press("Tab", 9)
    assert tab.evaluate("document.activeElement.hash") == "#main"
    assert tab.evaluate("document.activeElement.getBoundingClientRect().top >= 0")
