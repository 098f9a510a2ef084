"""Published figures: those of the poster agree with the table that evaluation compares itself with."""

from __future__ import annotations

import pytest

from crossgap.encoders.backbones import BACKBONES
from crossgap.vocabulary import PUBLISHED, PUBLISHED_ENCODERS, SOURCES
from tools import list_published

WHAT = {
    "image retrieval": ("image retrieval, mAP, mean of 15 sets", "OTI"),
    "text retrieval": ("text retrieval, mAP, mean of 3 sets", "OVI"),
    "zero-shot classification": ("zero-shot accuracy, mean of 11 sets", "OTI"),
}


def poster(what: str) -> dict[str, tuple[float, float]]:
    """Take the poster's averages of one experiment by model, without what a label adds in brackets."""
    return {
        one.model.split(" (")[0]: (one.native, one.value)
        for one in PUBLISHED
        if one.source == "Mistretta et al. 2025" and one.what == what
    }


def test_the_page_lists_every_figure() -> None:
    text = list_published.PAGE.read_text("utf-8")
    assert text.split(list_published.MARK)[1].lstrip("\n") == list_published.tables()
    for entry in PUBLISHED:
        line = f"| {entry.what} | {entry.model} | {entry.native:.1f} | {entry.route} | {entry.value:.1f} |"
        assert line in text


def test_the_published_encoders_are_the_backbones_with_released_weights() -> None:
    assert set(PUBLISHED_ENCODERS) == {one.encoder for one in BACKBONES.values() if one.model}


@pytest.mark.parametrize(("experiment", "count"), [("image retrieval", 7), ("text retrieval", 5),
                                                   ("zero-shot classification", 5)])  # fmt: skip
def test_all_averages_of_the_poster_are_there_and_agree_with_the_other_table(
    experiment: str, count: int
) -> None:
    what, route = WHAT[experiment]
    found = poster(what)
    assert len(found) == count
    assert {one.route for one in PUBLISHED if one.what == what} == {route}
    elsewhere = {
        backbone.title.split(",")[0]: (line.native, line.inverted)
        for backbone in BACKBONES.values()
        for line in backbone.published
        if line.experiment == experiment and f"mean of {len(line.sets)} sets" in what
    }
    assert {name: elsewhere[name] for name in found if name in elsewhere} == found


def test_gains_are_those_that_the_poster_prints() -> None:
    gains = {
        what: [round(value - native, 1) for native, value in poster(what).values()]
        for what, _ in WHAT.values()
    }
    assert gains == {
        "image retrieval, mAP, mean of 15 sets": [2.0, 3.3, 2.2, 3.2, 2.8, 0.2, 0.4],
        "text retrieval, mAP, mean of 3 sets": [2.9, 3.1, 2.5, 1.9, 3.6],
        "zero-shot accuracy, mean of 11 sets": [-5.5, -3.8, -3.3, -1.9, -8.8],
    }


def test_every_source_is_named_in_full() -> None:
    surnames = {one.source.split()[0] for one in PUBLISHED}
    assert all(any(source.startswith(name) for source in SOURCES) for name in surnames)
