"""Figures drawn from statistics: their numbers by equality, with hand-made frames."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from analysis.effects import over_seeds
from analysis.leading import Headline
from analysis.plots.along import dose_info, draw_doses, draw_ladder, ladder_info
from analysis.plots.class_gains import class_gain_info, draw_class_gains
from analysis.plots.curves import CurvesInfo, plain_curves
from analysis.plots.forests import draw_factorial, draw_seed_effects, factorial_info, seed_effects_info
from analysis.plots.front import dominated, draw_front, front_info
from analysis.plots.headline import FittedLine, Group, HeadlineInfo, draw_headline, edge_arms, groups
from analysis.plots.histograms import histogram_infos
from analysis.plots.neighbours import Card, Strip, StripsInfo, draw_strips
from analysis.plots.place import Tag, place_tags
from analysis.plots.published_figure import change, draw_published, published_info
from analysis.plots.style import KINDS, SINGLE, figure_bytes, new_figure, short, spread, theme, wrapped
from analysis.plots.training import Course, TrainingInfo, courses
from crossgap.vocabulary import PUBLISHED, Published
from tests.analysis.test_plots import words
from tests.analysis.test_plots_legibility import STATISTICS, faults

WHERE = Headline("image", "emoji", "test", "image-subgroup", "oti")


def headline(labels: dict[str, str], points: list[tuple[str, int, float, float]]) -> HeadlineInfo:
    """Make the info of invented models: arm, seed, gap, gain."""
    frame = pd.DataFrame(points, columns=["arm", "seed", "gap", "gain"])
    bounds = {"gap_low": np.nan, "gap_high": np.nan, "low": frame["gain"] - 1, "high": np.nan, "n_queries": 9}
    gains = frame.groupby("arm")["gain"].mean().reset_index()
    controls = gains.assign(route="oti", low=np.nan, high=np.nan, n_seeds=1)
    return HeadlineInfo(WHERE, tuple(labels), tuple(labels.values()), frame.assign(**bounds), controls)


def test_a_legend_names_arms_ladders_or_the_edges() -> None:
    few = headline({"a": "A", "b": "B"}, [("a", 0, 0.5, 1), ("b", 0, 0.2, 2)])
    assert groups(few, ["a", "b"]) == (Group("A (baseline)", ("a",)), Group("B", ("b",)))
    assert groups(replace(few, baseline="b"), ["a", "b"])[0] == Group("B (baseline)", ("b",))
    strengths = {f"{kind}{x}": f"+ {kind}, x {x}" for kind in ("MMD", "CORAL", "CUA") for x in (0.25, 1, 4)}
    labels = {
        "base": "CLIP, temperature .01",
        **strengths,
        **{f"t{t}": f"temperature {t}" for t in (1, 2, 3)},
    }
    many = headline(labels, [(arm, 0, 0.1 * place, place) for place, arm in enumerate(labels)])
    kinds = {f"+ {kind}": tuple(f"{kind}{x}" for x in (0.25, 1, 4)) for kind in ("MMD", "CORAL", "CUA")}
    many = replace(many, ladders=kinds | {"temperature": ("t1", "t2", "t3")})
    assert groups(many, list(labels)) == (
        Group("CLIP, temperature .01 (baseline)", ("base",)),
        Group("+ MMD", ("MMD0.25", "MMD1", "MMD4"), ladder=True),
        Group("+ CORAL", ("CORAL0.25", "CORAL1", "CORAL4"), ladder=True),
        Group("+ CUA", ("CUA0.25", "CUA1", "CUA4"), ladder=True),
        Group("temperature", ("t1", "t2", "t3"), ladder=True),
    )
    assert not any(
        group.ladder for group in groups(replace(many, ladders={}), list(labels))
    )  # no words are read
    names = {f"n{place}": f"name {chr(97 + place)}" for place in range(20)}
    others = headline(names, [(arm, 0, 0.01 * place, -place) for place, arm in enumerate(names)])
    shown = groups(others, list(names))
    edges = ("n1", "n2", "n3", "n17", "n18", "n19")
    assert edge_arms(others.points, list(names)[1:]) == edges
    assert [group.arms[0] for group in shown[:-1]] == ["n0", *edges]
    assert shown[-1].label == "13 other arms"
    assert {arm for group in shown for arm in group.arms} == set(names)


def test_headline_draws_missing_gaps_and_bounds_and_the_slope_that_it_is_given() -> None:
    info = headline({"a": "A", "b": "B"}, [("a", 0, 0.5, 1), ("b", 0, np.nan, 2)])
    figure = draw_headline(replace(info, slope=FittedLine(-2.0, 1.0, -3.0, np.nan)), ["a", "b"])
    assert faults(figure) == []
    assert "slope: −0.20 points for .1 more gap" in words(figure)
    bounded = draw_headline(replace(info, slope=FittedLine(1.1, 1.0, -1.9, 4.0)), ["a", "b"])
    assert "slope: +0.11 [−0.19, 0.40] points for .1 more gap" in words(bounded)
    assert "slope" not in words(draw_headline(info, ["a", "b"]))


def test_labels_are_cut_in_their_middle_and_broken_in_lines() -> None:
    assert short("+ image-image", 26) == "+ image-image"
    assert short("abcdefghij", 5) == "ab…ij"
    assert wrapped("learnable temperature", 12) == "learnable\ntemperature"
    assert all(len(line) <= 9 for line in wrapped("x" * 90, 9).split("\n"))
    assert spread("abcdefghij", 4) == ("a", "d", "g", "j")
    assert spread("abc", 4) == ("a", "b", "c")


def test_facets_that_are_not_shown_are_named() -> None:
    arms = tuple(f"a{place}" for place in range(30))
    lines = pd.DataFrame({"arm": arms, "setting": "", "steps": 1, "num_tokens": 1, "value": 0.0})
    info = CurvesInfo(WHERE, arms, tuple(arm.upper() for arm in arms), lines, lines)
    shown = plain_curves(info)
    assert (len(shown.arms), shown.arms[0], shown.arms[-1]) == (12, "a0", "a29")
    assert {*shown.labels, *shown.left_out} == set(info.labels)


def test_arms_whose_temperature_takes_one_course_share_a_line() -> None:
    rows = [(arm, 0, step, 0.01 if arm != "c" else 0.07 - 0.01 * step) for arm in "abc" for step in (0, 1, 2)]
    temperatures = pd.DataFrame(rows, columns=["arm", "seed", "step", "temperature"])
    info = TrainingInfo(("a", "b", "c"), ("A", "B", "C"), pd.DataFrame(), temperatures)
    assert courses(info) == (Course(("a", "b"), "A and 1 more"), Course(("c",), "C"))


def test_histograms_compare_routes_of_at_most_four_arms() -> None:
    rows = [
        (f"a{arm}", 0, "emoji", "test", task, route, "same class", 0.0, 0.5, count)
        for arm in range(6)
        for task, route, count in (
            ("image-class", "native", 1),
            ("image-class", "oti", 3),
            ("gap", "native", 2),
        )
    ]
    columns = ["arm", "seed", "dataset", "split", "task", "route", "kind", "bin_low", "bin_high", "count"]
    by_class, gap = histogram_infos(
        pd.DataFrame(rows, columns=columns), "emoji", {f"a{arm}": f"A{arm}" for arm in range(6)}
    )
    assert (by_class.routes, by_class.arms) == (("native", "oti"), ("a0", "a2", "a3", "a5"))
    assert by_class.left_out == ("A1", "A4")
    assert (gap.routes, len(gap.arms), gap.left_out) == (("native",), 6, ())
    assert (by_class.bins["share"] == 1).all()


def test_seed_effects_draw_no_interval_below_three_seeds() -> None:
    comparisons = pd.DataFrame(
        {
            "quantity": "gap", "arm": ["a", "b"], "label": ["A", "B"], "value": [1.0, 2.0], "low": [0.5, 1.0],
            "high": [1.5, 3.0], "n_seeds": [2, 3], "unit": "distance",
            "per_seed": [((0, 0.5), (1, 1.5)), ((0, 1.0), (1, 2.0), (2, 3.0))],
        }
    )  # fmt: skip
    info = seed_effects_info(comparisons)
    assert (info.quantities, info.units, info.arms, info.labels) == (
        ("gap",),
        ("distance",),
        ("a", "b"),
        ("A", "B"),
    )
    np.testing.assert_array_equal(info.effects[["low", "high"]], [[np.nan, np.nan], [1.0, 3.0]])
    assert info.dots["value"].tolist() == [0.5, 1.5, 1.0, 2.0, 3.0]
    too_wide = "two seeds: interval too wide to draw (12.7 standard errors to each side), see the tables"
    assert info.note == too_wide
    assert too_wide in words(draw_seed_effects(info)).replace("\n", " ").replace("\N{NO-BREAK SPACE}", " ")
    lone = comparisons.assign(n_seeds=[1, 2])
    assert seed_effects_info(lone).note == f"one seed: no interval; {too_wide}"
    assert seed_effects_info(comparisons[1:]).note == ""
    assert seed_effects_info(comparisons, most_arms=1).left_out == ("B",)


def test_doses_have_the_means_over_seeds_and_no_interval_of_two() -> None:
    points = pd.DataFrame(
        [
            ("w", dose, f"a{dose}", seed, "gap", "distance", dose + seed)
            for dose in (0, 1, 4)
            for seed in (0, 1, 2)
        ],
        columns=["ladder", "dose", "arm", "seed", "quantity", "unit", "value"],
    )
    means = over_seeds(points, ["ladder", "dose", "arm", "quantity"], level=0.95)
    info = dose_info(points, means, {"a0": "Baseline"})
    assert info.means[["dose", "label", "value", "n_seeds"]].to_numpy().tolist() == [
        [0, "Baseline", 1.0, 3], [1, "a1", 2.0, 3], [4, "a4", 5.0, 3],
    ]  # fmt: skip
    half = 4.302653 / np.sqrt(3)  # t of two degrees of freedom
    np.testing.assert_allclose(info.means["high"] - info.means["value"], half, rtol=1e-6)
    assert dose_info(points, means.assign(n_seeds=2), {}).means["low"].isna().all()
    with pytest.raises(ValueError, match="0 is the baseline"):
        dose_info(points.assign(dose=-1), means, {})
    ticks = draw_doses(info).axes[0].get_xticklabels()
    assert [tick.get_text() for tick in ticks] == ["0\n(baseline)", "1", "4"]
    many = (pd.concat([frame.assign(ladder=f"w{place}") for place in range(10)]) for frame in (points, means))
    ladders = tuple(many)
    assert dose_info(*ladders, {}).left_out == ("w8", "w9")
    assert dose_info(*ladders, {}, ladders=["w9"]).ladders == ("w9",)


def test_a_ladder_of_temperatures_puts_native_and_inverted_into_one_panel() -> None:
    points = pd.DataFrame(
        [(t, f"t{t}", seed, q, "%", 10 * t + seed, False)
         for q in ("gap", "native mAP", "mAP by OTI", "OTI gain", "hit@1 across") for t in (0.1, 1.0)
         for seed in (0, 1)]
        + [(0.5 + seed, "learnable", seed, "gap", "%", 1.0, True) for seed in (0, 1)],
        columns=["temperature", "arm", "seed", "quantity", "unit", "value", "learnable"],
    )  # fmt: skip
    means = over_seeds(points, ["arm", "quantity"], level=0.95)
    info = ladder_info(points, means)
    assert [names for _, _, names in info.panels] == [
        ("gap",), ("native mAP", "mAP by OTI"), ("OTI gain",), ("hit@1 across",),
    ]  # fmt: skip
    gap = info.means[info.means["quantity"] == "gap"]
    assert gap[["temperature", "arm", "value", "learnable"]].to_numpy().tolist() == [
        [0.1, "t0.1", 1.5, False], [1.0, "t1.0", 10.5, False], [1.0, "learnable", 1.0, True],
    ]  # fmt: skip
    figure = draw_ladder(info)
    assert "learnable temperature, at its final value" in words(figure)
    assert figure.axes[0].get_xscale() == "log"
    assert not ladder_info(points.drop(columns="learnable"), means).means["learnable"].any()
    with pytest.raises(ValueError, match="positive"):
        ladder_info(points.assign(temperature=0.0), means)


def test_front_holds_the_arms_that_none_dominates() -> None:
    goals = np.array([[[1.0, 3.0], [2.0, 2.0], [1.5, 1.5], [3.0, 1.0], [3.0, 0.5], [2.0, 2.0]]])
    assert dominated(goals).tolist() == [[False, False, True, False, True, False]]
    rows = [
        (arm, seed, *goals)
        for seed in range(5)
        for arm, goals in (("a", (1, 3)), ("b", (2, 2) if seed < 2 else (0, 0)), ("c", (0.5, 0.5)))
    ]
    models = pd.DataFrame(rows, columns=["arm", "seed", "x", "y"]).assign(label="L", gap=0.5)
    info = front_info(models, x="x", y="y")
    assert info.means["on_front"].tolist() == [True, False, False]  # b's mean (.8, .8) lies below a
    assert info.dominated_share == pytest.approx(2 / 3)
    share = dict(zip(info.means["arm"], info.means["on_front_share"], strict=True))
    assert (share["a"], share["c"]) == (1.0, 0.0)
    assert share["b"] == pytest.approx(0.317, abs=0.05)  # where seeds 0 and 1 are three of five
    four = front_info(models[models["seed"] < 4], x="x", y="y")
    assert four.means["on_front_share"].isna().all()
    assert "%" not in words(draw_front(four))
    one = front_info(models[models["seed"] == 0], x="x", y="y").means
    assert one["on_front_share"].isna().all()
    assert one["on_front"].tolist() == [True, True, False]
    text = words(draw_front(info))
    assert "L (100 %)" in text
    pd.testing.assert_frame_equal(front_info(models, x="x", y="y").means, info.means)


def test_arms_off_the_front_have_names_where_all_find_room() -> None:
    rows = [(f"arm {arm}", 0, float(arm), float(arm)) for arm in range(9)]
    models = pd.DataFrame(rows, columns=["arm", "seed", "x", "y"]).assign(gap=0.5)
    models["label"] = models["arm"]
    apart = words(draw_front(front_info(models[1:], x="x", y="y")))
    assert all(f"arm {arm}" in apart for arm in range(1, 9))
    nine = words(draw_front(front_info(models, x="x", y="y")))
    assert [arm for arm in range(9) if f"arm {arm}" in nine] == [8]


def test_tags_of_which_one_finds_no_place_are_all_left_out() -> None:
    with theme():
        figure = new_figure(SINGLE, 1.5)
        axes = figure.subplots()
    tags = [Tag(0.5, 0.5, "near"), Tag(9.0, 9.0, "beyond the axes")]
    goals = np.array([[0.5, 0.5]])
    assert place_tags(figure, axes, tags, goals, all_or_none=True) == ("near", "beyond the axes")
    assert len(axes.texts) == len(axes.lines) == 0
    assert place_tags(figure, axes, tags, goals) == ("beyond the axes",)


def test_factorial_puts_main_effects_above_interactions() -> None:
    effects = pd.DataFrame(
        [("gap", "a × b", 2, 1.0, 0.5, 1.5, 0.0001, "distance"), ("gap", "a", 1, 0.0, -1, 1, 0.5, "distance"),
         ("gap", "b", 1, 0.0, np.nan, np.nan, np.nan, "distance")],
        columns=["quantity", "term", "order", "estimate", "low", "high", "p", "unit"],
    )  # fmt: skip
    info = factorial_info(effects)
    assert (info.terms, info.orders, info.units) == (("a", "b", "a × b"), (1, 1, 2), ("distance",))
    text = words(draw_factorial(info))
    assert "p < .001" in text
    assert "p = .500" in text


def test_class_gains_are_means_over_queries_then_seeds() -> None:
    rows = [("a", 0, "cat", "1", 0.1), ("a", 0, "cat", "2", 0.3), ("a", 1, "cat", "1", 0.0),
            ("a", 0, "dog", "3", -0.1), ("a", 1, "dog", "3", np.nan), ("a", 0, "eel", "4", 0.02)]  # fmt: skip
    frame = pd.DataFrame(rows, columns=["arm", "seed", "query_class", "query_id", "value"])
    info = class_gain_info(frame, {"a": "A", "b": "B"})
    assert info.classes["query_class"].tolist() == ["cat", "eel", "dog"]
    np.testing.assert_allclose(info.classes["value"], [10, 2, -10])
    assert info.classes[["n_queries", "n_seeds", "place"]].to_numpy().tolist() == [
        [2, 2, 0],
        [1, 1, 1],
        [1, 1, 2],
    ]
    assert info.shares == (pytest.approx(2 / 3),)
    ends = class_gain_info(frame, {"a": "A"}, most=1)
    assert ends.classes["place"].tolist() == [0, -1, 1]
    text = words(draw_class_gains(ends))
    assert "cat (2)" in text
    assert "eel" not in text
    assert "67 % of 3 classes gain" in text
    several = pd.concat([frame.assign(arm=f"a{arm}") for arm in range(6)])
    assert class_gain_info(several, {f"a{arm}": f"A{arm}" for arm in range(6)}).left_out == ("A4", "A5")


def test_published_averages_name_their_source_and_stay_apart_from_ours() -> None:
    ours = pd.DataFrame(
        [("text, OVI", "b", 20.0, 19.0), ("image, OTI", "b", 10.0, 12.0), ("text, OVI", "a", 1.0, 1.0)],
        columns=["what", "arm", "native", "value"],
    )
    info = published_info(
        ours, {"a": "A", "b": "B"}, published=(Published("P. 2025", "mAP", "CLIP", 1.0, "OTI", 2.0),)
    )
    assert info.published.to_numpy().tolist() == [["P. 2025: mAP; OTI", "CLIP", 1.0, 2.0]]
    assert info.ours[["group", "name"]].to_numpy().tolist() == [
        ["text, OVI", "A"], ["text, OVI", "B"], ["image, OTI", "B"],
    ]  # fmt: skip
    assert len(published_info(ours, {"a": "A"}).published) == len(PUBLISHED)
    figure = draw_published(info)
    assert len(figure.axes) == 2
    assert "Published, released models" in words(figure)
    assert "Published (continued)" not in words(figure)
    assert "This study" in words(figure)
    several = draw_published(published_info(ours, {"a": "A", "b": "B"}))
    assert len(several.axes) == 3
    assert "Published (continued)" in words(several)
    assert faults(several) == []
    assert "P. 2025" in words(figure)
    assert (change(10, 8.8), change(10, 9.99), change(1, 2)) == ("−1.2", "0.0", "+1.0")


@pytest.mark.parametrize("depth", [3, 5, 6, 10])
def test_frames_of_neighbours_are_whole_and_fill_the_width(depth: int) -> None:
    query = Card("q", "class", None, "query")
    cards = tuple(Card(f"n{place}", "class", None, "text", relevant=place > 1) for place in range(depth))
    info = StripsInfo("emoji", "image-class", "a", "A", 0, (Strip("native", query, cards),))
    axes = draw_strips(info).axes[0]
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    frames = [patch.get_bbox() for patch in axes.patches]
    assert len(frames) == depth + 1
    assert all(left < frame.x0 and frame.x1 < right and top < frame.y0 < bottom for frame in frames)
    blank = right - max(frame.x1 for frame in frames)
    assert blank < 0.1 or depth == 3


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_statistics_give_the_same_bytes(kind: str) -> None:
    for name in ("front, 4 plain arms, 2 seeds", "class gains, 1 arms, 3 classes", "doses, one quantity"):
        first, second = (figure_bytes(STATISTICS[name](), kind) for _ in range(2))
        assert first == second, name
