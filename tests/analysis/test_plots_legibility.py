"""Every figure at its final size: no text is small, cut off or on top of another."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from analysis.effects import over_seeds
from analysis.leading import at, headlines
from analysis.plots.along import DoseInfo, LadderInfo, dose_info, draw_doses, draw_ladder, ladder_info
from analysis.plots.class_gains import class_gain_info, draw_class_gains
from analysis.plots.curves import (
    CurvesInfo,
    curves_info,
    draw_curves,
    draw_setting_curves,
    plain_curves,
    setting_curves_info,
)
from analysis.plots.forests import draw_factorial, draw_seed_effects, factorial_info, seed_effects_info
from analysis.plots.front import draw_front, front_info
from analysis.plots.headline import FittedLine, draw_headline, headline_info
from analysis.plots.histograms import draw_histograms, histogram_infos
from analysis.plots.neighbours import draw_strips, strips_infos
from analysis.plots.projection import draw_projection, projection_info
from analysis.plots.published_figure import draw_published, published_info
from analysis.plots.style import DOUBLE, SINGLE, theme
from analysis.plots.training import draw_losses, draw_temperatures, training_info
from analysis.study import RecordedStudy, read_runs
from crossgap.metrics.intervals import Bootstrap
from crossgap.reading.quoting import quoted, quoted_queries
from crossgap.reading.route_values import measurements
from tests.synthetic_study import SyntheticArm, SyntheticStudy, write_study

FEW = Bootstrap(resamples=50)
SMALLEST = 6.5  # points
HOSTILE = "$\\frac{1}{2}$ <b>'🦐' a_very_long_label_without_any_break_in_it_whatsoever_number"
LADDERS = (
    "+ centroid penalty", "+ pair alignment", "+ cross-modal uniformity", "+ alignment and uniformity (CUA)",
    "+ CUA and cross-modal uniformity", "+ alignment and midpoint uniformity (ModGap)",
    "+ cross-modal consistency", "+ sliced Wasserstein", "+ MMD", "+ CORAL", "+ adversarial classifier",
    "+ random feature alignment (RaFA)", "label smoothing .1", "modality swapping, hard",
    "modality swapping, soft", "+ image-image and text-text",
)  # fmt: skip


@contextlib.contextmanager
def recorded() -> Iterator[list[Text]]:
    """List the texts that are drawn, which are fewer than those a figure holds (ticks beyond its limits)."""
    drawn: list[Text] = []
    original = Text.draw

    def draw(self: Text, renderer: object, *args: object, **kwargs: object) -> None:
        original(self, renderer, *args, **kwargs)  # type: ignore[call-arg, arg-type]
        if self.get_visible() and self.get_text().strip():
            drawn.append(self)

    Text.draw = draw  # type: ignore[method-assign, assignment]
    try:
        yield drawn
    finally:
        Text.draw = original  # type: ignore[method-assign]


def faults(figure: Figure) -> list[str]:
    """Say what a reader of the printed figure could not read."""
    canvas = FigureCanvasAgg(figure)
    with theme():
        canvas.draw()  # the layout
        with recorded() as texts:
            canvas.draw()
    renderer = canvas.get_renderer()
    unit = figure.dpi / 72
    page = figure.bbox.padded(0.5 * unit)
    found = []
    if figure.get_figwidth() not in (SINGLE, DOUBLE):
        found.append(f"{figure.get_figwidth()} inches wide")
    boxes: list[tuple[str, Bbox]] = []
    for text in texts:
        words = text.get_text()
        if text.get_fontsize() < SMALLEST:
            found.append(f"{words!r} has {text.get_fontsize()} points")
        box = text.get_window_extent(renderer)
        if box.x0 < page.x0 or box.y0 < page.y0 or box.x1 > page.x1 or box.y1 > page.y1:
            found.append(f"{words!r} leaves the figure: {box.extents / unit}")
        boxes.append((words, box.padded(-0.4 * unit)))
    for place, (words, box) in enumerate(boxes):
        found += [f"{words!r} lies on {other!r}" for other, over in boxes[:place] if box.overlaps(over)]
    return found


LABELS = {
    "one": ["Baseline"],
    "demo": ["CLIP, temperature .01", "+ image-image", "+ centroid penalty", "learnable temperature"],
    "twelve": ["CLIP, temperature .01", *LADDERS[:11]],
    "ladders": [
        "CLIP, temperature .01",
        *(f"{name}, x {multiple}" for name in LADDERS for multiple in (0.25, 1, 4)),
        *(f"temperature {value}" for value in (0.02, 0.04, 0.07, 0.1, 0.2, 0.4, 1, 2)),
    ],
    "hostile": [f"{HOSTILE} {number} 🦐" for number in range(57)],
}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> RecordedStudy:
    return one_arm(tmp_path_factory.mktemp("legible"))


def one_arm(folder: Path) -> RecordedStudy:
    """Write and read a study of one arm, which the studies here repeat: quicker than writing them all."""
    arm = SyntheticArm(name="narrow", label="Narrow", gap=0.1)
    return read_runs([write_study(folder, SyntheticStudy(arms=(arm,), n_queries=24, num_tokens=(1, 2)))])


def repeated(frame: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """Repeat the rows of one arm under other names; ``place`` numbers the copies."""
    copies = [frame.assign(arm=name, place=place) for place, name in enumerate(names)]
    return pd.concat(copies, ignore_index=True)


def figures_of(study: RecordedStudy, kind: str) -> dict[str, Figure]:
    """Draw every figure of a study whose arms have the labels of this kind."""
    names = [f"arm-{place}" for place in range(len(LABELS[kind]))]
    labels = dict(zip(names, LABELS[kind], strict=True))
    rows, per_query, training = (
        repeated(frame, names) for frame in (study.rows, study.per_query, study.training)
    )
    apart = 0.9 * ((rows["place"] * 0.37) % 1) * (rows["task"] == "gap")
    rows[["value", "low", "high"]] = rows[["value", "low", "high"]].add(apart, axis=0)
    gains = 0.03 * ((per_query["place"] * 0.61) % 1) * (per_query["route"] == "oti")
    per_query["value"] = per_query["value"] + gains
    cooling = 0.03 * (training["place"] % 4) * training["step"] / 300
    training["temperature"] = training["temperature"] * (1 - cooling)
    if kind == "one":
        rows, per_query = (frame[frame["seed"] == 0] for frame in (rows, per_query))
    chosen = quoted(rows)
    queries = quoted_queries(per_query, chosen)
    where = headlines(chosen)[0]
    slope = FittedLine(2.5, -0.5, 0.4, 4.6)
    measured = at(measurements(chosen, queries, "mAP", bootstrap=FEW), where)
    info = headline_info(chosen, queries, measured, where, labels, bootstrap=FEW, slope=slope)
    curves = curves_info(rows, chosen, per_query, where, labels, bootstrap=FEW)
    figures = {
        "headline": draw_headline(info, names),
        "curves": draw_curves(plain_curves(curves)),
        "losses": draw_losses(training_info(training, labels)),
        "temperatures": draw_temperatures(training_info(training, labels), names),
        "projection": draw_projection(projection_info(repeated(study.projection, names), "emoji", labels)),
    }
    for shown in histogram_infos(repeated(study.histograms, names), "emoji", labels):
        figures[f"histograms {shown.task}"] = draw_histograms(shown)
    for strips in strips_infos(repeated(study.neighbours, names[:1]), labels):
        figures[f"strips {strips.task}"] = draw_strips(strips)
    if len(names) <= 4:
        several = pd.concat([curves.lines.assign(setting=f"learning rate {rate}") for rate in (0.01, 0.1)])
        settings = CurvesInfo(curves.where, curves.arms, curves.labels, several, curves.chosen)
        figures["settings"] = draw_setting_curves(setting_curves_info(settings))
    return figures


@pytest.mark.slow
@pytest.mark.parametrize("kind", LABELS)
def test_every_text_is_legible_at_the_final_size(written: RecordedStudy, kind: str) -> None:
    found = {name: faults(figure) for name, figure in figures_of(written, kind).items()}
    assert {name: said for name, said in found.items() if said} == {}


def test_faults_are_found() -> None:
    with theme():
        figure = Figure(figsize=(DOUBLE, 2))
        figure.text(0.5, 0.5, "one")
        figure.text(0.5, 0.52, "another")
        figure.text(0.1, 0.5, "small", fontsize=5)
        figure.text(0.99, 0.1, "beyond the edge")
        figure.text(0.5, 0.5, "hidden", visible=False)
    assert [fault.split(":")[0] for fault in faults(figure)] == [
        "'small' has 5.0 points",
        "'beyond the edge' leaves the figure",
        "'another' lies on 'one'",
    ]


# Frames of the figures that are drawn from statistics, with what is awkward in them
def effects_of(labels: list[str], seeds: int) -> pd.DataFrame:
    """Invent differences to the baseline for four quantities."""
    rng = np.random.default_rng(3)
    units = {"native mAP, image-subgroup": "mAP points", "inversion gain (OTI)": "mAP points",
             "modality gap": "distance", "hit@1, image-text": "points", "hit@1, text-image": "points",
             "uniformity of image embeddings": "log mean"}  # fmt: skip
    rows = []
    for quantity, unit in units.items():
        for place, label in enumerate(labels):
            values = rng.normal(place % 5 - 2, 0.8, seeds)
            mean, half = values.mean(), 1.5
            rows.append((quantity, f"arm-{place}", label, mean, mean - half, mean + half, seeds,
                         tuple(enumerate(values)), unit))  # fmt: skip
    columns = ["quantity", "arm", "label", "value", "low", "high", "n_seeds", "per_seed", "unit"]
    return pd.DataFrame(rows, columns=columns)


def factors(names: list[str]) -> pd.DataFrame:
    """Invent the effects of a factorial study of these factors."""
    rng = np.random.default_rng(4)
    terms = [(name, 1) for name in names]
    terms += [(f"{a} × {b}", 2) for place, a in enumerate(names) for b in names[place + 1 :]]
    rows = []
    for quantity, unit in (
        ("native mAP", "mAP points"),
        ("inversion gain", "mAP points"),
        ("gap", "distance"),
    ):
        for term, order in terms[::-1]:
            estimate = rng.normal(0, 2)
            rows.append(
                (quantity, term, order, estimate, estimate - 1.2, estimate + 1.2, rng.random() ** 4, unit)
            )
    rows[0] = (*rows[0][:4], np.nan, np.nan, np.nan, rows[0][7])
    columns = ["quantity", "term", "order", "estimate", "low", "high", "p", "unit"]
    return pd.DataFrame(rows, columns=columns)


def doses(ladders: list[str], strengths: tuple[float, ...], seeds: int, quantities: int = 4) -> pd.DataFrame:
    """Invent ladders of strengths."""
    rng = np.random.default_rng(5)
    units = {"native mAP": "mAP points", "inversion gain": "mAP points", "gap": "distance",
             "hit@1 image-text": "points"}  # fmt: skip
    rows = [
        (ladder, dose, f"{ladder}-{dose:g}" if dose else "baseline", seed, quantity, unit,
         place + np.log1p(dose) * (number - 1.5) + rng.normal(0, 0.2))
        for number, (quantity, unit) in enumerate(list(units.items())[:quantities])
        for place, ladder in enumerate(ladders)
        for dose in (0.0, *strengths)
        for seed in range(seeds)
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["ladder", "dose", "arm", "seed", "quantity", "unit", "value"])


def doses_info(points: pd.DataFrame, labels: dict[str, str] | None = None) -> DoseInfo:
    means = over_seeds(points, ["ladder", "dose", "arm", "quantity"], level=0.95)
    return dose_info(points, means, labels or {})


def temperatures_info(points: pd.DataFrame) -> LadderInfo:
    return ladder_info(points, over_seeds(points, ["arm", "quantity"], level=0.95))


def temperatures(values: tuple[float, ...], seeds: int) -> pd.DataFrame:
    """Invent a ladder of temperatures with a learnable one."""
    rng = np.random.default_rng(6)
    units = {"gap": "distance", "native mAP": "mAP (%)", "inverted mAP": "mAP (%)",
             "inversion gain": "mAP points", "hit@1 image-text": "%", "hit@1 text-image": "%"}  # fmt: skip
    rows = [
        (temperature * (1 + 0.02 * seed * learnable), f"τ {temperature}", seed, quantity, unit,
         10 + 3 * number - 2 * np.log10(temperature) * number + rng.normal(0, 0.3), learnable)
        for number, (quantity, unit) in enumerate(units.items())
        for temperature, learnable in [*((value, False) for value in values), (0.033, True)]
        for seed in range(seeds)
    ]  # fmt: skip
    columns = ["temperature", "arm", "seed", "quantity", "unit", "value", "learnable"]
    return pd.DataFrame(rows, columns=columns)


def models(labels: list[str], seeds: int) -> pd.DataFrame:
    """Invent two goals and a gap that one arm lacks."""
    rng = np.random.default_rng(7)
    rows = []
    for place, label in enumerate(labels):
        x, y = rng.normal(30, 5), rng.normal(20, 3)
        gap = np.nan if place == 1 else rng.uniform(0.1, 1)
        rows += [
            (f"arm-{place}", label, seed, x + rng.normal(0, 1), y + rng.normal(0, 1), gap)
            for seed in range(seeds)
        ]
    frame = pd.DataFrame(rows, columns=["arm", "label", "seed", "x", "y", "gap"])
    return frame.assign(y_low=frame["y"] - 0.8, y_high=frame["y"] + 0.8, x_low=np.nan, x_high=np.nan)


def class_differences(arms: int, classes: int, seeds: int) -> pd.DataFrame:
    """Invent gains of queries of named classes."""
    rng = np.random.default_rng(8)
    rows = [
        (f"arm-{arm}", seed, f"{'a class of a rather long name' if number % 7 == 3 else 'name'} {number} 🦐",
         f"{number}/{query}", rng.normal((number % 9 - 4) / 80, 0.03))
        for arm in range(arms)
        for seed in range(seeds)
        for number in range(classes)
        for query in range(1 + number % 4)
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["arm", "seed", "query_class", "query_id", "value"])


def our_averages(arms: int) -> pd.DataFrame:
    """Invent our own averages."""
    rng = np.random.default_rng(9)
    rows = [
        (what, f"arm-{arm}", native, native + rng.normal(0, 3))
        for what in ("image retrieval, mAP, OTI (emoji)", "text retrieval, mAP, OVI (emoji)")
        for arm in range(arms)
        for native in [rng.uniform(10, 30)]
    ]
    return pd.DataFrame(rows, columns=["what", "arm", "native", "value"])


def histograms(arms: int) -> pd.DataFrame:
    """Invent similarities by four routes."""
    edges = np.linspace(-1, 1, 81)
    middles = (edges[:-1] + edges[1:]) / 2
    rows = []
    for arm in range(arms):
        for route, centre in (("native", 0.6), ("oti", 0.3), ("centred", 0.0)):
            for kind, shift in (("same class", 0.15), ("other class", 0.0)):
                counts = 1e5 * np.exp(-((middles - centre - shift - 0.02 * arm) ** 2) / 0.02)
                rows += [
                    (
                        "s",
                        f"arm-{arm}",
                        0,
                        "emoji",
                        "test",
                        "image-subgroup",
                        route,
                        kind,
                        low,
                        high,
                        int(count),
                    )
                    for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True)
                ]
    columns = [
        "study",
        "arm",
        "seed",
        "dataset",
        "split",
        "task",
        "route",
        "kind",
        "bin_low",
        "bin_high",
        "count",
    ]
    return pd.DataFrame(rows, columns=columns)


def names_of(count: int, kind: str) -> list[str]:
    """Name arms as studies do, or as nobody should."""
    if kind == "hostile":
        return [f"{HOSTILE} {number} 🦐" for number in range(count)]
    every = [
        "CLIP, temperature .01",
        *(f"{name}, x {multiple}" for name in LADDERS for multiple in (0.25, 1, 4)),
    ]
    return (every * 2)[:count]


STATISTICS: dict[str, Callable[[], Figure]] = {
    **{
        f"seed effects, {count} {kind} arms, {seeds} seeds": lambda count=count, kind=kind, seeds=seeds: (
            draw_seed_effects(seed_effects_info(effects_of(names_of(count, kind), seeds)))
        )
        for count, kind, seeds in ((1, "plain", 1), (4, "plain", 3), (57, "plain", 2), (12, "hostile", 5))
    },
    "factorial, 3 factors": lambda: draw_factorial(
        factorial_info(factors(["image ntxent", "centroid penalty", "temperature"]))
    ),
    "factorial, hostile": lambda: draw_factorial(factorial_info(factors([HOSTILE, HOSTILE[::-1]]))),
    "factorial, one": lambda: draw_factorial(factorial_info(factors(["a"]).query("quantity == 'gap'"))),
    "doses, 3 ladders": lambda: draw_doses(
        doses_info(doses(["image_ntxent weight", "text_ntxent weight", "both, weight"], (0.25, 0.5, 1, 2), 3))
    ),
    "doses, 16 ladders": lambda: draw_doses(doses_info(doses(list(LADDERS), (0.25, 1, 4), 2))),
    "doses, many doses": lambda: draw_doses(
        doses_info(doses([HOSTILE], (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 11, 12, 100), 1))
    ),
    "doses, one quantity": lambda: draw_doses(doses_info(doses(["weight"], (1,), 1, quantities=1))),
    "ladder": lambda: draw_ladder(
        temperatures_info(temperatures((0.01, 0.02, 0.04, 0.07, 0.1, 0.2, 0.4, 1), seeds=3))
    ),
    "ladder, two close": lambda: draw_ladder(temperatures_info(temperatures((0.07, 0.071), seeds=1))),
    **{
        f"front, {count} {kind} arms, {seeds} seeds": lambda count=count, kind=kind, seeds=seeds: draw_front(
            front_info(
                models(names_of(count, kind), seeds),
                x="hit@1 across modalities, image to text (%)",
                y="mAP, image-subgroup (%)",
                colour="modality gap (distance of centroids)",
            )
        )
        for count, kind, seeds in ((1, "plain", 1), (4, "plain", 2), (57, "plain", 3), (57, "hostile", 3))
    },
    **{
        f"class gains, {arms} arms, {classes} classes": lambda arms=arms, classes=classes: draw_class_gains(
            class_gain_info(class_differences(arms, classes, 2), dict(enumerate_names(arms)))
        )
        for arms, classes in ((1, 3), (2, 31), (5, 90))
    },
    **{
        f"published, {arms} arms": lambda arms=arms: draw_published(
            published_info(our_averages(arms), dict(enumerate_names(arms)))
        )
        for arms in (1, 4, 20)
    },
    **{
        f"histograms, {arms} arms": lambda arms=arms: draw_histograms(
            histogram_infos(histograms(arms), "emoji", dict(enumerate_names(arms)))[0]
        )
        for arms in (1, 2, 9)
    },
}


def enumerate_names(count: int) -> list[tuple[str, str]]:
    """Pair arms with labels."""
    return [(f"arm-{place}", label) for place, label in enumerate(names_of(count, "plain"))]


@pytest.mark.parametrize("name", STATISTICS)
def test_figures_of_statistics_are_legible(name: str) -> None:
    assert faults(STATISTICS[name]()) == []
