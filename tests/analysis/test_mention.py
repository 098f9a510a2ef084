"""What captions say: arms that differ in mention alone, and the figures of mention and of factors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp

from analysis.designs import changes, mention_lines
from analysis.leading import Headline, factor_slopes
from analysis.plots.along import draw_mention, mention_info
from analysis.plots.factors import draw_factors, factor_info
from analysis.plots.heat_maps import draw_mention_and_steps
from analysis.quantities import model_values
from analysis.responses import over_mention, over_mention_and_steps
from analysis.study import RecordedArm, RecordedStudy, read_runs
from crossgap.files import read_json, write_json
from tests.synthetic_study import SyntheticStudy, write_study
from tools.shared_information import _table

WHERE = Headline("image", "as trained", "test", "image-object", "oti")
MENTIONS = (0.0, 0.3, 1.0)


def configs() -> dict[str, dict[str, Any]]:
    def config(mention: float, weight: float) -> dict[str, Any]:
        weights = {"clip": 1.0} | ({"image_ntxent": weight} if weight else {})
        return {"data": {"mention": mention, "objects": 100}, "objective": {"weights": weights}, "steps": 9}

    return {
        f"{name}-{mention}": config(mention, weight)
        for name, weight in (("plain", 0.0), ("term", 1.0))
        for mention in MENTIONS
    }


def study() -> RecordedStudy:
    arms = tuple(RecordedArm(name=name, label=f"label of {name}") for name in configs())
    empty = pd.DataFrame()
    return RecordedStudy(
        name="own", description="", arms=arms, baseline="plain-0.3", seeds=(0, 1), smoke=False, selection="",
        trials=empty, rows=empty, per_query=empty, neighbours=empty, projection=empty, histograms=empty,
        training=empty, configs=configs(),
    )  # fmt: skip


def values() -> pd.DataFrame:
    """Give a native mAP of .1 + mention / 10 and a gain of .02 - mention / 50, in seed 1 .01 more."""
    rows = []
    for arm in configs():
        mention = float(arm.split("-")[1])
        for seed in (0, 1):
            about = {"dataset": "as trained", "split": "test", "arm": arm, "seed": seed, "unit": "fraction"}
            rows += [
                {**about, "task": "image-object", "quantity": "native", "value": 0.1 + mention / 10},
                {
                    **about,
                    "task": "image-object",
                    "quantity": "gain",
                    "value": 0.02 - mention / 50 + seed / 100,
                },
                {**about, "task": "gap", "quantity": "centroid_distance", "value": 1 - mention / 2},
                {**about, "task": "factors", "quantity": "object bias", "value": 0.5 - mention},
            ]
    return pd.DataFrame(rows)


def gains() -> pd.DataFrame:
    return pd.DataFrame(
        {"arm": arm, "value": 0.02, "low": 0.01, "high": 0.03} for arm in configs()
    )  # fmt: skip


def test_arms_that_differ_in_mention_alone_are_a_line() -> None:
    arms = changes(configs(), "plain-0.3")
    lines = mention_lines(arms, configs())
    assert [line.name for line in lines] == ["", "image_ntxent weight 1"]
    assert lines[1].doses == {"term-0.0": 0.0, "term-0.3": 0.3, "term-1.0": 1.0}


def test_of_arms_with_the_same_settings_the_first_counts() -> None:
    twice = configs() | {"again": configs()["plain-1.0"]}
    first, _ = mention_lines(changes(twice, "plain-0.3"), twice)
    assert first.doses == {"plain-0.0": 0.0, "plain-0.3": 0.3, "plain-1.0": 1.0}


@pytest.mark.parametrize("left", [("plain-0.3", "plain-1.0", "term-0.3", "term-1.0"), ("plain-0.3",)])
def test_two_mentions_are_no_line(left: tuple[str, ...]) -> None:
    some = {arm: config for arm, config in configs().items() if arm in left}
    assert mention_lines(changes(some, "plain-0.3"), some) == []
    own = replace(study(), configs=some)
    assert over_mention(own, values(), WHERE, gains(), level=0.95)[0].empty


def test_data_without_mention_are_no_line() -> None:
    others = {name: {**config, "data": "emoji"} for name, config in configs().items()}
    assert mention_lines(changes(others, "plain-0.3"), others) == []


def test_gain_has_the_interval_over_queries_and_the_rest_those_over_seeds() -> None:
    points, means = over_mention(study(), values(), WHERE, gains(), level=0.95)
    assert list(dict.fromkeys(points["line"])) == ["label of plain-0.3", "image_ntxent weight 1"]
    assert len(points) == 6 * 2 * 4
    gain = means[means["quantity"] == "OTI gain"]
    np.testing.assert_allclose(gain[["value", "low", "high"]], [[2.0, 1.0, 3.0]] * 6)
    native = means[(means["quantity"] == "native mAP") & (means["arm"] == "term-1.0")]
    assert native["value"].item() == pytest.approx(20.0)
    info = mention_info(points, means)
    assert info.quantities == ("OTI gain", "native mAP", "modality gap", "object bias")
    figure = draw_mention(info)
    drawn = [line.get_xydata() for line in figure.axes[0].lines if len(line.get_xydata()) == 3]
    np.testing.assert_allclose(np.array(drawn)[:, :, 1], 2.0)
    np.testing.assert_allclose(np.array(drawn)[:, :, 0], [MENTIONS] * 2, atol=0.01)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(info.lines)


def curve() -> pd.DataFrame:
    rows = [
        {
            "arm": arm, "num_tokens": tokens, "steps": steps, "setting": "", "value": steps / 10 - tokens,
            "low": steps / 10 - tokens - 0.5, "high": steps / 10 - tokens + 0.5,
        }
        for arm in configs() for tokens in (1, 4) for steps in (0, 2, 14, 30)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_the_surface_is_of_one_token_count_and_marks_what_is_decided() -> None:
    gains = over_mention_and_steps(study(), curve())
    assert len(gains) == 6 * 3
    assert set(gains["steps"]) == {2, 14, 30}
    first = gains[(gains["steps"] == 14) & (gains["mention"] == 1)]
    np.testing.assert_allclose(first[["value", "low", "high"]], [[0.4, -0.1, 0.9]] * 2)
    figure = draw_mention_and_steps(gains)
    texts = {text.get_text(): text.get_fontweight() for text in figure.axes[0].texts}
    assert texts == {"-0.8": "bold", "+0.4": "normal", "+2.0": "bold"}
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["2", "14", "30"]


def test_without_mention_there_is_no_surface() -> None:
    assert over_mention_and_steps(replace(study(), configs={}), curve()).empty


def test_a_mention_is_a_probability() -> None:
    points = pd.DataFrame({"mention": [1.5], "line": "a", "quantity": "q", "unit": "u"})
    with pytest.raises(ValueError, match=r"mention=1\.5: a probability"):
        mention_info(points, points)


def rows_of_factors() -> pd.DataFrame:
    rows = []
    for arm, more in (("a", 0.0), ("b", 0.5)):
        for seed in (0, 1):
            for route, times in (("native", 1.0), ("oti", 2.0)):
                for factor, slope in (("colour", 0.2), ("object", 1.0)):
                    value = times * slope + more + 0.1 * seed
                    rows.append(
                        {
                            "dataset": "scenes", "split": "test", "arm": arm, "seed": seed, "route": route,
                            "task": "factors", "metric": f"similarity_by_{factor}", "value": value,
                            "low": value - 0.1, "high": value + 0.1,
                        }
                    )  # fmt: skip
    other = {**rows[0], "metric": "holds_colour_knn", "value": 9.0}
    return pd.DataFrame([*rows, other, {**rows[0], "task": "gap"}])


def test_slopes_are_averaged_over_seeds_with_their_bounds() -> None:
    slopes = factor_slopes(rows_of_factors())
    assert len(slopes) == 2 * 2 * 2
    (one,) = slopes[
        (slopes["arm"] == "b") & (slopes["route"] == "oti") & (slopes["factor"] == "object")
    ].itertuples()
    assert (one.value, one.low, one.high) == pytest.approx((2.55, 2.45, 2.65))
    assert one.n_seeds == 2


def test_object_bias_is_what_similarity_follows_the_object_more_than_the_colour() -> None:
    about = {"unit": "standard deviations", "setting": "", "inversion_seed": 0, "steps": 0, "num_tokens": 0}
    found = model_values(rows_of_factors().assign(**about))
    bias = found[found["quantity"] == "object bias"]
    assert sorted(zip(bias["arm"], bias["seed"], strict=True)) == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]
    np.testing.assert_allclose(bias["value"], 0.8)


def test_factors_are_ordered_by_strength_and_routes_stand_beside_each_other() -> None:
    info = factor_info(factor_slopes(rows_of_factors()), {"b": "arm b", "a": "arm a", "none": "not measured"})
    assert info.arms == ("b", "a")
    assert info.factors == ("object", "colour")
    assert info.left_out == ()
    figure = draw_factors(info)
    native, inverted = (
        line for line in figure.axes[1].lines if len(line.get_xydata()) == 2 and line.get_marker() in "os"
    )
    np.testing.assert_allclose(sorted(native.get_xdata()), [0.25, 1.05])
    np.testing.assert_allclose(sorted(inverted.get_xdata()), [0.45, 2.05])
    assert (np.asarray(native.get_ydata()) < np.asarray(inverted.get_ydata())).all()


def test_of_many_arms_some_are_shown_and_the_others_named() -> None:
    rows = pd.concat([factor_slopes(rows_of_factors()).assign(arm=f"arm-{number}") for number in range(20)])
    rows = rows.drop_duplicates(["arm", "route", "factor"])
    info = factor_info(rows, {f"arm-{number}": f"label {number}" for number in range(20)})
    assert len(info.arms) == 12
    assert len(info.left_out) == 8


def test_options_of_a_world_are_settings_of_a_run(tmp_path: Path) -> None:
    folder = write_study(tmp_path, SyntheticStudy(seeds=(0,), pictures=False))
    for arm, mention in (("baseline", 0.3), ("narrow", 0.6)):
        path = folder / "trials" / f"{arm}-s0" / "config.json"
        document = read_json(path)
        document["config"]["data"] = f"scenes:version=1,mention={mention}"
        write_json(path, document | {"world": {"mention": mention, "objects": 100}})
    configs = read_runs([folder]).configs
    assert configs["narrow"]["data"] == {"mention": 0.6, "objects": 100}
    assert changes(configs, "baseline")["narrow"]["data.mention"] == 0.6


def test_the_ends_of_a_line_differ_by_a_mean_with_its_interval_over_seeds() -> None:
    cells = [("a", 0, 1.0), ("a", 1, 2.0), ("b", 0, 4.0), ("b", 1, 4.0)]
    frame = pd.DataFrame(
        {"line": line, "seed": seed, "mention": mention, "value": start - mention * (2 + seed)}
        for line, seed, start in cells
        for mention in (0.0, 0.5, 1.0)
    )
    head, _, a, b, over = _table(frame).splitlines()
    assert head == "| line | 0 | 0.5 | 1 | 1 minus 0 |"
    low, high = ttest_1samp([-2.0, -3.0], 0).confidence_interval(0.95)
    assert a == f"| a | 1.50 | 0.25 | -1.00 | -2.50 [{low:+.2f}, {high:+.2f}] |"
    assert b.startswith("| b | 4.00 | 2.75 | 1.50 | -2.50 [")
    assert over == "| over lines | | | | -2.50 [-2.50, -2.50] |"
