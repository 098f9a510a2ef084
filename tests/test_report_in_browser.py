"""The report as a browser shows it: everything is inside the one file and nothing sticks out."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from tests.synthetic_study import write_study

pytestmark = pytest.mark.system

PROBE = """<script>window.addEventListener('load', () => {
  const all = [...document.querySelectorAll('*')];
  document.documentElement.dataset.probe = JSON.stringify({
    broken: [...document.images].filter(image => !image.naturalWidth).length,
    images: document.images.length,
    outside: performance.getEntriesByType('resource').map(entry => entry.name)
      .filter(name => !name.startsWith('data:')),
    wider: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    headings: document.querySelectorAll('h2').length,
  });
});</script></body>"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict:
    folder = tmp_path_factory.mktemp("browser")
    study = write_study(folder / "study")
    subprocess.run(
        [sys.executable, "-m", "analysis.report", str(study), "--out", str(folder / "out")], check=True
    )
    page = folder / "probe.html"
    html = (folder / "out" / "report.html").read_text().replace("</body>", PROBE)
    assert "default-src 'none';" in html  # the page forbids itself everything; the probe needs its script
    page.write_text(html.replace("default-src 'none';", "default-src 'none'; script-src 'unsafe-inline';"))
    dumped = subprocess.run(
        [
            "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
            "--disable-background-networking", "--disable-component-update", "--window-size=1280,2000",
            f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=10000", "--dump-dom",
            page.as_uri(),
        ],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    ).stdout  # fmt: skip
    found = re.search(r'data-probe="([^"]*)"', dumped)
    assert found, dumped[:500]
    return json.loads(found[1].replace("&quot;", '"'))


def test_every_picture_is_there(seen: dict) -> None:
    assert seen["images"] > 5
    assert seen["broken"] == 0


def test_nothing_is_loaded_from_outside(seen: dict) -> None:
    assert seen["outside"] == []


def test_the_page_is_no_wider_than_the_window(seen: dict) -> None:
    assert seen["wider"] <= 0
    assert seen["headings"] >= 5
