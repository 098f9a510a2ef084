"""What an evaluation prints: numbers against plain numpy, and text as a terminal shows it."""

from __future__ import annotations

import io
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from analysis.export import frames
from analysis.results import compute
from analysis.study import read_runs
from crossgap.errors import InputError
from crossgap.evaluation.comparison import RouteResult, compare_routes
from crossgap.evaluation.routes import ROUTES
from crossgap.evaluation.summary import summary
from crossgap.files import read_lines
from crossgap.metrics.intervals import Bootstrap, resample_counts
from crossgap.records import TABLES, Row
from tests.synthetic_study import SyntheticStudy, write_study

CLASSES = list("aaabbbccddd")


def row(route: str, value: float, **changes: Any) -> Row:
    fields: dict[str, Any] = {
        "study": "evaluate",
        "arm": "tiny",
        "seed": 0,
        "encoder": "f",
        "dataset": "made",
        "dataset_hash": "h",
        "split": "test",
        "task": "image-class",
        "protocol": f"Each image queries the others. {ROUTES[route].about}; fitted on 3 images",
        "metric": "mAP",
        "n_queries": len(CLASSES),
        "n_gallery": 40,
        "config_hash": "c",
        "versions": "v",
        "commit": "0",
    }
    return Row(**{**fields, "route": route, "value": value, **changes})


def measured(
    values: dict[str, Any], classes: list[str] = CLASSES, **changes: Any
) -> tuple[list[Row], pd.DataFrame]:
    """Make the rows and per-query values of one task from the values of each route."""
    settings = {
        "oti": {"steps": 150, "num_tokens": 1, "selection": "val"},
        "class_pca": {"setting": "rank 64", "selection": "val"},
        "whitened": {"setting": "shrinkage 0.1", "selection": "preset"},
    }
    rows, frames = [], []
    for route, column in values.items():
        made = row(
            route,
            float(np.mean(column)),
            n_queries=len(classes),
            **{**settings.get(route, {}), **changes},
        )
        rows.append(made)
        frames.append(per_query(made, column, classes))
    return rows, pd.concat(frames, ignore_index=True)


def per_query(made: Row, column: Any, classes: list[str]) -> pd.DataFrame:
    ids = [f"{made.dataset}/q{number}" for number in range(len(classes))]
    frame = pd.DataFrame({"query_id": ids, "query_class": classes, "value": column})
    known = {name: getattr(made, name) for name in TABLES["per_query"] if hasattr(made, name)}
    del known["value"]
    for name in ("steps", "num_tokens"):
        known[name] = pd.array([known[name]] * len(frame), dtype="Int64")
    return frame.assign(**known)


def by_hand(values: Any, clusters: list[Any]) -> tuple[float, float, float]:
    """Draw whole clusters again and again: mean and the middle 95 % of the means."""
    values, names = np.asarray(values, dtype=float), np.asarray(clusters)
    kept = ~np.isnan(values)
    values, names = values[kept], names[kept]
    known = np.unique(names)
    means = []
    for counts in resample_counts(len(known), Bootstrap()):
        weights = counts[np.searchsorted(known, names)]
        means.append(np.average(values, weights=weights))
    low, high = np.percentile(means, [2.5, 97.5])
    return values.mean(), low, high


def printed(
    rows: list[Row],
    frame: pd.DataFrame,
    skipped: dict[str, str] | None = None,
    *,
    width: int = 100,
    details: bool = False,
) -> str:
    """Print as to a terminal of a width, without colour; no line is longer, and nothing is NaN."""
    console = Console(file=io.StringIO(), width=width, color_system=None)
    for part in summary(rows, frame, skipped or {}, details=details):
        console.print(part)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert max(len(line) for line in text.splitlines()) <= width
    assert "nan" not in text.lower().split()
    return text


def line(text: str, start: str) -> str:
    found = next(one for one in text.splitlines() if one.split()[:1] == [start])
    return " ".join(found.split())


def results(rows: list[Row], frame: pd.DataFrame) -> dict[str, RouteResult]:
    (task,) = compare_routes(rows, frame)
    return {result.row.route: result for result in task.routes}


def numbers(seed: int = 0, routes: tuple[str, ...] = ("chance", "native", "oti", "class_pca", "whitened")):
    generator = np.random.default_rng(seed)
    base = generator.uniform(0.2, 0.6, len(CLASSES))
    return {route: base + generator.normal(0.02, 0.05, len(CLASSES)) for route in routes}


def test_values_differences_and_intervals_equal_plain_numpy() -> None:
    values = numbers()
    rows, frame = measured(values)
    found = results(rows, frame.sample(frac=1, random_state=0))
    assert found["native"].difference is None
    assert found["native"].own == pytest.approx(by_hand(values["native"], CLASSES))
    for route in ("chance", "oti", "class_pca", "whitened"):
        assert found[route].own is None
        assert found[route].difference == pytest.approx(by_hand(values[route] - values["native"], CLASSES))


def test_inversions_stand_beside_the_best_map_on_the_same_queries() -> None:
    values = numbers(3)
    (task,) = compare_routes(*measured(values))
    best = max(("class_pca", "whitened"), key=lambda name: values[name].mean())
    (found,) = task.maps
    assert (found.inversion, found.best_map, found.n_maps) == ("oti", best, 2)
    assert found.difference == pytest.approx(by_hand(values["oti"] - values[best], CLASSES))
    text = printed(*measured(values))
    value, low, high = (100 * one for one in found.difference)
    assert f"oti - {best} (the highest of 2 maps): {value:+.2f} points [{low:+.2f}, {high:+.2f}]" in text
    assert "That map is the highest on these very queries, which favours it." in text
    assert "points" not in line(
        printed(*measured(numbers(3, ("native", "oti")))), "oti"
    )  # no map: nothing to compare


def sure_and_unsure(classes: list[str]) -> str:
    n = len(classes)
    native = np.linspace(0.2, 0.6, n)
    wave = np.tile([1.0, -1.0], n)[:n]
    routes = {"native": native, "oti": native + 0.1 + 0.001 * wave, "whitened": native + 0.1 * wave}
    return printed(*measured(routes, classes))


def test_an_interval_that_excludes_zero_is_marked_without_colour() -> None:
    text = sure_and_unsure([str(number // 2) for number in range(80)])
    assert line(text, "oti").endswith("] * 1 token, 150 steps (val)")
    assert line(text, "whitened").endswith("] shrinkage 0.1 (preset)")
    assert "oti - whitened (the only map): " in text
    assert "not corrected for the number of routes, 2. * excludes 0." in " ".join(text.split())


def test_too_few_classes_decide_nothing() -> None:
    text = sure_and_unsure([str(number % 39) for number in range(80)])
    assert line(text, "oti").endswith("] 1 token, 150 steps (val)")
    assert "*" not in text
    plain = " ".join(text.split())
    assert "From so few they are too narrow to decide anything; that takes 40 classes." in plain


def test_equal_features_are_no_difference_whatever_the_rounding() -> None:
    native = np.linspace(0.2, 0.6, len(CLASSES))
    text = printed(*measured({"native": native, "random_rotation": native - 1e-16}))
    assert line(text, "random_rotation") == "random_rotation 40.00 +0.00 [+0.00, +0.00]"


@pytest.mark.parametrize("width", [80, 120])
def test_the_text_of_a_table(width: int) -> None:
    values = numbers(1)
    rows, frame = measured(values)
    text = printed(rows, frame, width=width)
    assert text.startswith("made, split test: tiny\n\nimage-class: 11 queries, gallery 40")
    order = [one.split()[0] for one in text.splitlines() if one.split()[:1] and one.split()[0] in ROUTES]
    assert order[:5] == ["chance", "native", "oti", "whitened", "class_pca"]
    value, low, high = (100 * one for one in by_hand(values["native"], CLASSES))
    assert line(text, "native") == f"native {value:.2f} value: [{low:.2f}, {high:.2f}]"
    plain = " ".join(text.split())
    assert (
        "Intervals: bootstrap over 4 classes of queries; one a row, not corrected for the number of "
        "routes, 4." in plain
    )
    assert "Protocol: Each image queries the others." in plain
    assert "features as the model gives them" not in plain  # of the task, not of a route


@pytest.mark.parametrize("width", [80, 120])
def test_the_widest_cells_fit(width: int) -> None:
    rows, frame = measured({"native": [0.0] * 10, "orthogonal_closing": [1.0] * 10}, ["a"] * 5 + ["b"] * 5)
    rows[1] = replace(rows[1], setting="without top 120, bottom 340", selection="preset", n_queries=9)
    frame.loc[frame["route"] == "orthogonal_closing", "selection"] = "preset"
    text = printed(rows, frame, width=width)
    assert "100.00" in text
    assert "orthogonal_closing" in text
    assert "(preset)" in text or width == 80  # folded there
    assert "queries (+ skipped) / gallery differ by route" in text
    assert "9 / 40" in text


def test_sizes_and_skipped_queries_are_named() -> None:
    rows, frame = measured(numbers(), n_skipped=2)
    assert "image-class: 11 queries (+ 2 skipped), gallery 40" in printed(rows, frame)


def test_one_class_gives_no_interval() -> None:
    values = numbers()
    rows, frame = measured(values, ["a"] * len(CLASSES))
    difference = results(rows, frame)["oti"].difference
    assert difference == (pytest.approx(np.mean(values["oti"] - values["native"])), None, None)
    text = printed(*measured({"native": [0.5], "oti": [0.25]}, ["a"]))
    assert line(text, "oti") == "oti 25.00 -25.00 1 token, 150 steps (val)"
    assert "No intervals: the queries are of one class." in text


def test_without_native_there_is_no_difference() -> None:
    rows, frame = measured(numbers(0, ("oti", "whitened")))
    text = printed(rows, frame)
    assert all(one.difference is None for one in results(rows, frame).values())
    assert "No native features were measured: no differences." in text
    assert "oti - whitened (the only map): " in text


def test_rows_without_per_query_values_keep_their_value() -> None:
    rows, frame = measured(numbers())
    text = printed(rows, frame[frame["route"] != "oti"])
    assert line(text, "oti").endswith("1 token, 150 steps (val)")
    assert "[" not in line(text, "oti")
    empty = pd.DataFrame(columns=list(TABLES["per_query"]))
    assert "oti" in printed(rows, empty)


def test_queries_without_value_are_left_out_on_both_sides() -> None:
    values = numbers()
    for column in values.values():
        column[4] = math.nan
    rows, frame = measured({name: np.nan_to_num(column) for name, column in values.items()})
    frame["value"] = np.concatenate(list(values.values()))
    kept = [number for number in range(len(CLASSES)) if number != 4]
    expected = by_hand((values["oti"] - values["native"])[kept], [CLASSES[number] for number in kept])
    assert results(rows, frame)["oti"].difference == pytest.approx(expected)
    printed(rows, frame)


def test_queries_that_do_not_pair_are_named() -> None:
    rows, frame = measured(numbers())
    lone = frame.drop(frame[(frame["route"] == "oti") & (frame["query_id"] == "made/q3")].index)
    with pytest.raises(InputError, match=r"'route': 'oti'}: 10 queries against 11 of the reference"):
        summary(rows, lone, {})
    other = frame.assign(value=frame["value"] + 0.1)
    with pytest.raises(InputError, match=r"query 'made/q0' has two values"):
        summary(rows, pd.concat([frame, other]), {})
    with pytest.raises(InputError, match="two rows claim the same measurement"):
        summary([*rows, *rows], frame, {})


def test_beside_a_leading_task_the_others_have_a_row_each_and_all_routes_on_demand() -> None:
    leading, first = measured(numbers(0))
    other = numbers(1)
    rows, second = measured(other, task="image-colour")
    zero_shot, third = measured(
        numbers(2), task="zero-shot-class", metric="hit@1", classes=["a"] * len(CLASSES)
    )
    everything, frame = [*leading, *rows, *zero_shot], pd.concat([first, second, third], ignore_index=True)
    text = printed(everything, frame, width=80)
    assert text.count("image-class: ") == 1
    assert text.count("chance") == 1
    gain = {
        route: 100 * (other[route] - other["native"]).mean() for route in ("oti", "class_pca", "whitened")
    }
    best = max(("class_pca", "whitened"), key=lambda route: other[route].mean())
    shown = line(text, "image-colour")
    assert shown.startswith(f"image-colour {100 * other['native'].mean():.2f} oti {gain['oti']:+.2f} [")
    assert f"{best} {gain[best]:+.2f}" in shown
    assert "mAP of image-colour; hit@1 of zero-shot-class" in " ".join(text.split())
    whole = printed(everything, frame, width=80, details=True)
    assert "image-colour: " in whole
    assert whole.count("chance") == 3
    assert "--details" not in whole
    alone = printed(rows, second, width=80)
    assert "image-colour: " in alone  # where nothing leads, each has its table


def test_zero_shot_is_headed_by_its_hit_rate() -> None:
    values = numbers()
    rows, frame = measured(values, task="zero-shot-class", metric="hit@1")
    rows += [replace(one, metric="hit@5", value=0.99) for one in rows]
    text = printed(rows, frame)
    assert "hit@1 %" in text
    assert "99.00" not in text


def test_curves_and_the_split_of_choices_are_no_results() -> None:
    values = numbers()
    rows, frame = measured(values)
    curve = row("oti", 0.77, steps=5, num_tokens=1, selection="curve")
    chosen_on, of_val = measured(values, split="val")
    everything = [*chosen_on, curve, *rows]
    text = printed(everything, pd.concat([of_val, frame, per_query(curve, values["oti"], CLASSES)]))
    assert "split val" not in text
    assert text == printed(rows, frame)
    # where val is what was asked for, it is reported
    assert printed(chosen_on, of_val).startswith("made, split val")


def test_a_placebo_of_a_curve_is_shown_with_the_tokens_of_the_inversion() -> None:
    values = numbers()
    rows, frame = measured(values)
    points = [
        row("untrained_tokens", 0.1 * count, steps=0, num_tokens=count, selection="curve") for count in (2, 1)
    ]
    more = [per_query(point, values["chance"] - 0.01 * point.value, CLASSES) for point in points]
    rows, frame = [*rows, *points], pd.concat([frame, *more])
    assert line(printed(rows, frame), "untrained_tokens").endswith("1 token, 0 steps (val)")
    difference = values["chance"] - 0.001 - values["native"]
    assert results(rows, frame)["untrained_tokens"].difference == pytest.approx(by_hand(difference, CLASSES))


@pytest.mark.parametrize("width", [80, 120])
def test_several_datasets_stand_apart_and_their_names_are_no_markup(width: int) -> None:
    first, second = "/data/[bold]sets[/bold]/[red", "/data/:smile:/" + "long-name/" * 12
    parts = [measured(numbers(seed), dataset=name) for seed, name in enumerate((first, second))]
    rows, frame = [one for made, _ in parts for one in made], pd.concat([made for _, made in parts])
    text = printed(rows, frame, width=width)
    assert f"{first}, split test: tiny" in text
    assert second in text.replace("\n", "")
    assert text.count("image-class: 11 queries") == 2
    values = numbers(1)
    low = 100 * by_hand(values["oti"] - values["native"], CLASSES)[1]
    assert f"[{low:+.2f}," in text.split(":smile:")[1]


def test_a_report_of_the_run_shows_the_same_numbers(tmp_path: Path) -> None:
    folder = write_study(tmp_path, SyntheticStudy(seeds=(0,), pictures=False))
    trial = folder / "trials" / "narrow-s0"
    rows = [Row(**made) for made in read_lines(trial / "rows.jsonl")]
    evaluated = compare_routes(rows, pd.read_parquet(trial / "per_query.parquet"))
    study = read_runs([folder])
    shown = frames(study, compute(study, Bootstrap()))["measurements"]
    shown = shown[shown["arm"] == "narrow"].set_index(["task", "metric", "route"])
    for task in evaluated:
        for result in task.routes:
            reported = shown.loc[(task.task, task.metric, result.row.route)]
            assert result.value == reported["value"]
            if result.own is not None:
                assert result.own == tuple(reported[["value", "low", "high"]])
            if result.difference is not None:
                names = ["difference", "difference_low", "difference_high"]
                assert result.difference == tuple(reported[names])
    placebos = {
        result.row.route: (result.row.num_tokens, result.row.steps)
        for task in evaluated
        for result in task.routes
        if result.row.route in ("untrained_tokens", "oti") and task.task == "image-subgroup"
    }
    assert placebos["untrained_tokens"] == (placebos["oti"][0], 0)


def test_gap_and_misalignment_stand_in_a_small_table() -> None:
    rows, frame = measured(numbers())
    gap = {"task": "gap", "protocol": "11 aligned pairs; intervals: jackknife over pairs."}
    rows += [
        row("native", 0.81234, metric="centroid_distance", unit="distance", low=0.8, high=0.83, **gap),
        row("native", 1.0, metric="linear_separability", unit="fraction", **gap),
        row("native", 0.5, metric="v_measure", unit="score", **gap),
        row("native", 0.64, metric="same_other_auc"),
        row("oti", 0.99, metric="same_other_auc", selection="val"),
    ]
    text = printed(rows, frame, width=80)
    assert line(text, "centroid_distance") == "centroid_distance 0.8123 [0.8, 0.83] distance"
    assert line(text, "linear_separability") == "linear_separability 1 fraction"
    assert line(text, "same_other_auc,") == "same_other_auc, image-class 0.64 fraction"
    assert "v_measure" not in text
    plain = " ".join(text.split())
    assert "Protocol: 11 aligned pairs; intervals: jackknife over pairs." in plain
    assert plain.endswith("1 more of its metrics: --details, or rows.jsonl.")
    everything = printed(rows, frame, width=80, details=True)
    assert line(everything, "v_measure") == "v_measure 0.5 score"
    assert "--details" not in everything
    rows[-5] = replace(rows[-5], value=-2.7e-08, low=None, high=None)  # nothing but rounding
    assert line(printed(rows, frame, width=80), "centroid_distance") == "centroid_distance 0 distance"


@pytest.mark.parametrize("width", [80, 120])
def test_what_was_skipped_is_named_with_its_reason(width: int) -> None:
    skipped = {
        "image-class/isoclip": "needs linear projectors: the towers have [none]",
        "text-class/isoclip": "needs linear projectors: the towers have [none]",
        "ovi": "needs a task of kind text-text or zero-shot",
    }
    rows, frame = measured(numbers())
    text = printed(rows, frame, skipped, width=width)
    assert "not measured" in text
    for name in skipped:
        assert name in text
    assert " ".join(text.split()).count("needs linear projectors") == 1  # once for both tasks
    assert "needs linear projectors" in " ".join(printed([], frame, skipped).split())


def test_every_route_of_a_large_evaluation_is_laid_out_at_once() -> None:
    generator = np.random.default_rng(0)
    classes = [str(number % 130) for number in range(400)]
    parts = []
    for task in range(8):
        values = {route: generator.uniform(size=400) for route in list(ROUTES)[:20]}
        parts.append(measured(values, classes, task=f"task-{task}"))
    rows, frame = [one for made, _ in parts for one in made], pd.concat([made for _, made in parts])
    start = time.process_time()
    printed(rows, frame)
    assert time.process_time() - start < 2


def test_several_settings_of_inversion_are_said_with_where_they_are() -> None:
    rows, per_query = measured({"native": 0.2, "oti": 0.3})
    curve = [
        replace(rows[-1], route="oti", selection="curve", setting=f"learning rate {rate}", steps=step)
        for rate in (0.02, 0.1)
        for step in (5, 150)
    ]
    several = " ".join(printed(rows + curve, per_query).split())
    assert "measured under 2 settings (1 token, learning rate 0.02; 1 token, learning rate 0.1)" in several
    assert "All are in rows.jsonl" in several
    assert "selection curve" in several
    assert "measured under" not in printed(rows + curve[:2], per_query)
