"""Figures: their numbers by equality, their axes by name, and nothing on top of anything else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from analysis.leading import Headline, at, headlines
from analysis.plots.curves import (
    CurvesInfo,
    SettingCurvesInfo,
    curves_info,
    draw_curves,
    draw_setting_curves,
    plain_curves,
    setting_curves_info,
)
from analysis.plots.headline import HeadlineInfo, draw_headline, headline_info
from analysis.plots.histograms import HistogramInfo, draw_histograms, histogram_infos
from analysis.plots.neighbours import Card, StripsInfo, decode, draw_strips, strips_infos
from analysis.plots.projection import ProjectionInfo, draw_projection, projection_info
from analysis.plots.style import KINDS, arm_styles, facet_shape, figure_bytes, plain, save_figure
from analysis.plots.training import TrainingInfo, draw_losses, draw_temperatures, training_info
from analysis.study import RecordedStudy, read_runs
from crossgap.metrics.intervals import Bootstrap
from crossgap.reading.quoting import quoted, quoted_queries
from crossgap.reading.route_values import measurements
from tests.synthetic_study import SyntheticArm, SyntheticStudy, thumbnail, write_study

FEW = Bootstrap(resamples=100)
ARMS = ["baseline", "narrow"]
# in the order in which evaluation might write them
SETTINGS = {"learning rate 0.02": 0.0, "learning rate 0.005": 0.03, "learning rate 0.1": -0.02}


@dataclass(frozen=True)
class Infos:
    """One info of each kind, of one small study."""

    study: RecordedStudy
    headline: HeadlineInfo
    curves: CurvesInfo
    setting_curves: SettingCurvesInfo
    training: TrainingInfo
    projection: ProjectionInfo
    histogram: HistogramInfo
    strips: StripsInfo


def measured(rows: pd.DataFrame, queries: pd.DataFrame, where: Headline) -> pd.DataFrame:
    return at(measurements(rows, queries, "mAP", bootstrap=FEW), where)


@pytest.fixture(scope="module")
def infos(tmp_path_factory: pytest.TempPathFactory) -> Infos:
    study = read_runs([write_study(tmp_path_factory.mktemp("study"))])
    rows = quoted(study.rows)
    queries = quoted_queries(study.per_query, rows)
    labels = {arm.name: arm.label for arm in study.arms}
    where = headlines(rows)[0]
    several = read_runs(
        [write_study(tmp_path_factory.mktemp("several"), SyntheticStudy(settings=SETTINGS, pictures=False))]
    )
    of_several = quoted(several.rows)
    grid = curves_info(several.rows, of_several, several.per_query, where, labels, bootstrap=FEW)
    return Infos(
        study=study,
        headline=headline_info(rows, queries, measured(rows, queries, where), where, labels, bootstrap=FEW),
        curves=curves_info(study.rows, rows, study.per_query, where, labels, bootstrap=FEW),
        setting_curves=setting_curves_info(grid),
        training=training_info(study.training, labels),
        projection=projection_info(study.projection, "emoji", labels),
        histogram=histogram_infos(study.histograms, "emoji", labels)[0],
        strips=strips_infos(study.neighbours, labels)[0],
    )


DRAWINGS: dict[str, Callable[[Infos], Figure]] = {
    "headline": lambda infos: draw_headline(infos.headline, ARMS),
    "curves": lambda infos: draw_curves(infos.curves),
    "setting curves": lambda infos: draw_setting_curves(infos.setting_curves),
    "losses": lambda infos: draw_losses(infos.training),
    "temperatures": lambda infos: draw_temperatures(infos.training, ARMS),
    "projection": lambda infos: draw_projection(infos.projection),
    "histograms": lambda infos: draw_histograms(infos.histogram),
    "strips": lambda infos: draw_strips(infos.strips),
}


def words(figure: Figure) -> str:
    """Collect every text of a figure."""
    return "\n".join(text.get_text() for text in figure.findobj(matplotlib.text.Text))


def test_headline_numbers(infos: Infos) -> None:
    points = infos.headline.points.set_index(["arm", "seed"])
    assert set(points.index) == {(arm, seed) for arm in ARMS for seed in (0, 1)}
    np.testing.assert_allclose(points["gap"], [0.80, 0.81, 0.20, 0.21])
    np.testing.assert_allclose(points["gap_high"] - points["gap"], 0.02)
    per_query = infos.study.per_query[
        (infos.study.per_query["metric"] == "mAP")
        & (infos.study.per_query["task"] == "image-subgroup")
        & (infos.study.per_query["split"] == "test")
        & (infos.study.per_query["arm"] == "baseline")
        & (infos.study.per_query["seed"] == 0)
    ]
    native = per_query[per_query["route"] == "native"].set_index("query_id")["value"]
    chosen = per_query[per_query["selection"] == "val"].set_index("query_id")["value"]
    assert points.loc[("baseline", 0), "gain"] == pytest.approx(100 * (chosen - native).mean())
    assert (points["low"] < points["gain"]).all()
    assert (points["gain"] < points["high"]).all()


def test_the_inversion_gain_stands_beside_its_controls(infos: Infos) -> None:
    controls = infos.headline.controls
    assert list(dict.fromkeys(controls["route"])) == ["oti", "class_pca", "centred", "random_subspace"]
    by_arm = controls[controls["route"] == "oti"].set_index("arm")["gain"]
    models = infos.headline.points.groupby("arm")["gain"].mean()
    pd.testing.assert_series_equal(by_arm, models, check_names=False, check_index_type=False)


def test_curves_numbers(infos: Infos) -> None:
    assert list(infos.curves.lines.columns[:3]) == ["arm", "num_tokens", "steps"]
    assert set(infos.curves.lines["steps"]) == {0, 5, 25, 100}
    chosen = infos.curves.chosen
    assert chosen[["arm", "num_tokens", "steps", "n_models"]].to_numpy().tolist() == [
        ["baseline", 1, 25, 2],
        ["narrow", 1, 25, 2],
    ]
    on_line = infos.curves.lines.set_index(["arm", "num_tokens", "steps"])["value"]
    assert chosen["value"].tolist() == [on_line["baseline", 1, 25], on_line["narrow", 1, 25]]


def test_setting_curves_numbers(infos: Infos) -> None:
    info = infos.setting_curves
    assert info.settings == ("learning rate 0.005", "learning rate 0.02", "learning rate 0.1")
    assert (info.arms, info.token_counts) == (("baseline", "narrow"), (1, 2))
    assert len(info.lines) == 2 * 2 * 4 * 3  # arms, token counts, steps, settings
    line = info.lines.set_index(["arm", "num_tokens", "steps", "setting"])["value"]
    low, high = (line["baseline", 1, 25, f"learning rate {rate}"] for rate in ("0.1", "0.005"))
    assert high - low == pytest.approx(5, abs=2)
    assert (info.lines["low"] < info.lines["value"]).all()
    assert (info.lines["value"] < info.lines["high"]).all()
    columns = ["arm", "num_tokens", "steps", "setting", "n_models"]
    assert info.chosen[columns].to_numpy().tolist() == [
        [arm, 1, 25, "learning rate 0.005", 2] for arm in ("baseline", "narrow")
    ]
    assert info.chosen["value"].iloc[0] == high


def test_panels_and_lines_of_setting_curves(infos: Infos) -> None:
    figure = draw_setting_curves(infos.setting_curves)
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        f"{label}: {tokens}" for label in ("Baseline", "Narrow gap") for tokens in ("1 token", "2 tokens")
    ]
    drawn = [[line for line in axes.lines if len(line.get_xdata()) == 4] for axes in figure.axes]
    assert [len(lines) for lines in drawn] == [3] * 4
    mine = infos.setting_curves.lines
    mine = mine[(mine["arm"] == "narrow") & (mine["num_tokens"] == 2)]
    for line, setting in zip(drawn[3], infos.setting_curves.settings, strict=True):
        here = mine[mine["setting"] == setting]
        np.testing.assert_array_equal(line.get_xdata(), here["steps"])
        np.testing.assert_array_equal(line.get_ydata(), here["value"])


def test_an_arm_is_in_one_of_the_two_figures_of_curves(infos: Infos) -> None:
    plain, several = infos.curves, infos.setting_curves
    assert plain_curves(plain).arms == plain.arms
    pd.testing.assert_frame_equal(plain_curves(plain).lines, plain.lines)
    assert setting_curves_info(plain).arms == ()
    lines = pd.concat(
        [plain.lines[plain.lines["arm"] == "baseline"], several.lines[several.lines["arm"] == "narrow"]]
    )
    mixed = CurvesInfo(plain.where, plain.arms, plain.labels, lines, plain.chosen)
    assert plain_curves(mixed).arms == ("baseline",)
    assert set(plain_curves(mixed).lines["arm"]) == {"baseline"}
    assert setting_curves_info(mixed).arms == ("narrow",)
    assert setting_curves_info(mixed).labels == ("Narrow gap",)


def test_training_numbers(infos: Infos) -> None:
    losses = infos.training.losses
    assert set(losses.loc[losses["arm"] == "baseline", "part"]) == {"total"}  # one term is its own total
    assert set(losses.loc[losses["arm"] == "narrow", "part"]) == {"total", "contrastive", "centroid"}
    parts = losses[losses["arm"] == "narrow"].pivot_table(
        index=["seed", "step"], columns="part", values="loss"
    )
    np.testing.assert_allclose(parts["contrastive"] + parts["centroid"], parts["total"])


def test_projection_shows_one_seed_an_arm(infos: Infos) -> None:
    assert infos.projection.seeds == (0, 0)
    counts = infos.projection.points.groupby(["arm", "modality"]).size()
    assert set(counts) == {40}


def test_histogram_shares_of_each_kind_sum_to_one(infos: Infos) -> None:
    sums = infos.histogram.bins.groupby(["arm", "route", "kind"])["share"].sum()
    np.testing.assert_allclose(sums, 1)


def test_strips_keep_the_order_of_queries_and_put_native_first(infos: Infos) -> None:
    groups = infos.strips.by_query
    assert [group[0].query.item_id for group in groups] == [f"concept-{n}/noto" for n in range(3)]
    assert all([strip.route for strip in group] == ["native", "oti"] for group in groups)
    cards = groups[0][0].neighbours
    assert [card.relevant for card in cards] == [True, True, False, True, True]
    assert cards[0].item_id == "concept-1/other"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("headline", ["Modality gap", "unit vectors", "mAP points:\nmAP(OTI) − mAP(native)", "class-\nname"]),
        ("curves", ["Inversion steps (0 = untrained tokens)", "in mAP points", "quoted setting"]),
        (
            "setting curves",
            ["in mAP points", "Narrow gap: 2 tokens", "learning rate 0.005", "quoted setting"],
        ),
        ("losses", ["Training step", "Loss (nats)", "parts as weighted"]),
        ("temperatures", ["Training step", "Temperature τ (no unit)"]),
        ("projection", ["First coordinate of PCA of both modalities (no unit)", "image", "text"]),
        ("histograms", ["Cosine similarity (no unit)", "Share of pairs\nof that kind (%)", "same class"]),
        ("strips", ["native", "through\nOTI", "✓", "✗"]),
    ],
)
def test_axes_say_what_they_show_and_in_which_unit(infos: Infos, name: str, expected: list[str]) -> None:
    text = words(DRAWINGS[name](infos))
    assert [phrase for phrase in expected if phrase not in text] == []


@pytest.mark.parametrize("name", [name for name in DRAWINGS if name != "strips"])
def test_the_legend_covers_no_axes_and_no_label(infos: Infos, name: str) -> None:
    figure = DRAWINGS[name](infos)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # places everything
    renderer = canvas.get_renderer()
    legend = figure.legends[0].get_window_extent(renderer)
    for axes in figure.axes:
        assert not legend.overlaps(axes.get_tightbbox(renderer)), axes.get_title(loc="left")
    for label in (figure._supxlabel, figure._supylabel):  # type: ignore[attr-defined]
        assert label is None or not legend.overlaps(label.get_window_extent(renderer))
    assert legend.x0 >= 0
    assert legend.x1 <= figure.bbox.width


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", DRAWINGS)
def test_the_same_numbers_give_the_same_bytes(infos: Infos, name: str, kind: str) -> None:
    first, second = (figure_bytes(DRAWINGS[name](infos), kind) for _ in range(2))
    assert first == second
    assert b"<dc:date>" not in first
    assert b"CreationDate" not in first


def test_drawing_leaves_no_global_state(infos: Infos) -> None:
    import matplotlib.pyplot as plt

    before, open_before = dict(matplotlib.rcParams), plt.get_fignums()
    for draw in DRAWINGS.values():
        draw(infos)
    assert dict(matplotlib.rcParams) == before
    assert plt.get_fignums() == open_before


def test_figures_are_saved_as_pdf_png_and_svg(infos: Infos, tmp_path: Path) -> None:
    svg = save_figure(DRAWINGS["headline"](infos), tmp_path, "headline")["svg"]
    assert (tmp_path / "headline.svg").read_bytes() == svg
    assert decode((tmp_path / "headline.png").read_bytes()) is not None
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "headline.pdf",
        "headline.png",
        "headline.svg",
    ]
    assert (tmp_path / "headline.pdf").read_bytes().startswith(b"%PDF")


def test_every_interval_of_the_headline_is_inside_its_axes(infos: Infos) -> None:
    left, right = draw_headline(infos.headline, ARMS).axes
    low, high = left.get_ylim()
    bounds = pd.concat([infos.headline.points, infos.headline.controls])
    assert low < bounds["low"].min() < 0 < bounds["high"].max() < high
    assert right.get_ylim() == (low, high)  # the same scale


def test_forty_arms_are_told_apart_by_colour_and_marker() -> None:
    styles = arm_styles([f"arm-{number}" for number in range(40)])
    assert len(set(styles.values())) == 40
    first = list(styles.values())[:8]
    assert len({style.colour for style in first}) == len({style.marker for style in first}) == 8
    assert arm_styles(["a", "b"])["b"] == arm_styles(["a", "b", "c"])["b"]


@pytest.mark.parametrize("count", range(1, 14))
def test_facets_hold_every_arm(count: int) -> None:
    rows, columns = facet_shape(count)
    assert (rows - 1) * columns < count <= rows * columns
    assert columns <= 4


def test_labels_are_drawn_as_they_stand() -> None:
    assert plain("τ = 1 $x$") == "τ = 1 $x$"
    assert plain("shrimp 🦐") == "shrimp ▯"


def test_many_arms_with_odd_labels_are_drawn(tmp_path: Path) -> None:
    arms = tuple(
        SyntheticArm(name=f"arm-{number}", label=f"$\\frac{{1}}{{2}}$ a long label 🦐 <b> number {number}")
        for number in range(9)
    )
    study = read_runs([write_study(tmp_path, SyntheticStudy(arms=arms, seeds=(0,), n_queries=12))])
    rows = quoted(study.rows)
    labels = {arm.name: arm.label for arm in study.arms}
    where = headlines(rows)[0]
    queries = quoted_queries(study.per_query, rows)
    info = headline_info(rows, queries, measured(rows, queries, where), where, labels, bootstrap=FEW)
    curves = curves_info(study.rows, rows, study.per_query, where, labels, bootstrap=FEW)
    for figure in (draw_headline(info, study.arm_names), draw_curves(curves)):
        assert figure_bytes(figure, "png").startswith(b"\x89PNG")


def test_values_far_below_are_named_where_the_axis_is_cut() -> None:
    lines = pd.DataFrame(
        [("a", 1, 0, -30.0, -31.0, -29.0, 9, 1), ("a", 1, 5, 1.0, 0.0, 2.0, 9, 1)],
        columns=["arm", "num_tokens", "steps", "value", "low", "high", "n_queries", "n_seeds"],
    )
    chosen = pd.DataFrame([("a", 1, 5, 1, 1.0)], columns=["arm", "num_tokens", "steps", "n_models", "value"])
    where = Headline("image", "emoji", "test", "image-subgroup", "oti")
    figure = draw_curves(CurvesInfo(where, ("a",), ("A",), lines, chosen))
    assert figure.axes[0].get_ylim()[0] > -10
    assert "untrained tokens: −30.0" in words(figure)


def test_a_thumbnail_that_is_no_image_is_left_out() -> None:
    assert decode(None) is None
    assert decode(b"no image") is None
    assert decode(thumbnail((10, 20, 30))).shape == (24, 24, 3)  # type: ignore[union-attr]


def test_neighbours_of_a_few_of_many_arms_are_shown(infos: Infos) -> None:
    one = infos.study.neighbours[infos.study.neighbours["arm"] == "baseline"]
    names = {f"arm {number}": f"Arm {number}" for number in range(9)}
    shown = strips_infos(pd.concat([one.assign(arm=arm) for arm in names]), names, most=3)
    for task in {info.task for info in shown}:
        assert [info.arm for info in shown if info.task == task] == ["arm 0", "arm 4", "arm 8"]


def test_an_ignored_neighbour_has_neither_tick_nor_cross() -> None:
    query = Card("q", "class", None, "query")
    neighbours = pd.DataFrame(
        {
            "study": "s", "arm": "a", "seed": 0, "dataset": "emoji", "split": "test", "task": "t",
            "route": "native", "query_id": "q", "query_class": "class", "query_image": None,
            "query_text": "query", "rank": [1], "neighbour_id": ["n"], "neighbour_class": ["c"],
            "neighbour_image": [None], "neighbour_text": ["word"], "score": [0.5], "relevant": [None],
        }
    )  # fmt: skip
    info = strips_infos(neighbours, {"a": "A"})[0]
    assert info.strips[0].query == query
    assert info.strips[0].neighbours[0].relevant is None
    text = words(draw_strips(info))
    assert "✓" not in text
    assert "✗" not in text
