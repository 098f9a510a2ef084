"""Intervals against naive loops and closed forms; pairing by query id."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from analysis.stats.association import rank_association
from crossgap.errors import InputError
from crossgap.metrics.intervals import (
    MOST_CLUSTERS,
    Bootstrap,
    average_models,
    mean_interval,
    paired_difference,
    resample_counts,
)

FEW = Bootstrap(resamples=300)


def queries(values: list[float], classes: list[str], **columns: object) -> pd.DataFrame:
    """Make the per-query frame of one group."""
    ids = [f"q{number}" for number in range(len(values))]
    return pd.DataFrame({"query_id": ids, "query_class": classes, "value": values, **columns})


def naive_means(frame: pd.DataFrame, column: str, bootstrap: Bootstrap) -> np.ndarray:
    """Average each resample by listing its queries one by one."""
    groups = [list(group["value"]) for _, group in frame.groupby(column, sort=True)]
    means = []
    for counts in resample_counts(len(groups), bootstrap):
        drawn = []
        for values, count in zip(groups, counts, strict=True):
            for _ in range(int(count)):
                drawn.extend(values)
        means.append(sum(drawn) / len(drawn))
    return np.array(means)


def random_frame(seed: int = 0, n_queries: int = 40, n_classes: int = 7) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    classes = [f"c{number}" for number in rng.integers(0, n_classes, n_queries)]
    return queries(list(rng.random(n_queries)), classes)


@pytest.mark.parametrize(("method", "column"), [("cluster", "query_class"), ("query", "query_id")])
def test_interval_equals_the_naive_loop(method: str, column: str) -> None:
    frame = random_frame()
    bootstrap = Bootstrap(method=method, level=0.9, resamples=200, seed=5)
    result = mean_interval(frame, [], bootstrap=bootstrap).iloc[0]
    means = naive_means(frame, column, bootstrap)
    assert result["value"] == pytest.approx(frame["value"].mean(), abs=1e-12)
    assert result["low"] == pytest.approx(np.percentile(means, 5), abs=1e-12)
    assert result["high"] == pytest.approx(np.percentile(means, 95), abs=1e-12)


def test_each_resample_draws_as_many_clusters_as_there_are() -> None:
    counts = resample_counts(13, FEW)
    assert counts.shape == (300, 13)
    assert (counts.sum(axis=1) == 13).all()
    np.testing.assert_array_equal(counts, resample_counts(13, FEW))
    assert (counts != resample_counts(13, Bootstrap(resamples=300, seed=1))).any()


def test_clusters_are_drawn_with_equal_chance() -> None:
    counts = resample_counts(4, Bootstrap(resamples=20_000))
    np.testing.assert_allclose(counts.mean(axis=0), 1, atol=0.03)
    np.testing.assert_allclose(counts.var(axis=0), 4 * 0.25 * 0.75, rtol=0.05)  # binomial(4, 1/4)


def test_many_independent_queries_give_the_normal_interval() -> None:
    values = np.random.default_rng(2).normal(0.3, 0.2, 900)
    frame = queries(list(values), [f"c{number}" for number in range(900)])
    result = mean_interval(frame, [], bootstrap=Bootstrap()).iloc[0]
    half = 1.96 * values.std() / np.sqrt(900)
    assert result["high"] - result["value"] == pytest.approx(half, rel=0.04)
    assert result["value"] - result["low"] == pytest.approx(half, rel=0.04)


def test_repeating_queries_within_classes_narrows_only_the_query_interval() -> None:
    frame = random_frame(n_queries=30, n_classes=30).assign(query_class=[f"c{n}" for n in range(30)])
    repeated = pd.concat([frame.assign(query_id=frame["query_id"] + f"-{copy}") for copy in range(4)])
    width = {}
    for method in ("cluster", "query"):
        for name, values in (("once", frame), ("four times", repeated)):
            row = mean_interval(values, [], bootstrap=Bootstrap(method=method)).iloc[0]
            width[method, name] = row["high"] - row["low"]
    assert width["cluster", "four times"] == pytest.approx(width["cluster", "once"], abs=1e-12)
    assert width["query", "four times"] == pytest.approx(width["query", "once"] / 2, rel=0.05)


def test_micro_and_macro_means_by_hand() -> None:
    frame = queries([0.0, 0.0, 0.0, 1.0], ["a", "a", "a", "b"])
    result = mean_interval(frame, [], bootstrap=FEW).iloc[0]
    assert result["value"] == 0.25
    assert result["macro"] == 0.5
    # two classes are drawn: both a, both b, or one of each
    assert (result["low"], result["high"]) == (0.0, 1.0)


def test_queries_without_a_value_are_skipped_and_counted() -> None:
    frame = queries([0.2, np.nan, 0.4, np.nan], ["a", "a", "b", "c"])
    result = mean_interval(frame, [], bootstrap=FEW).iloc[0]
    assert result["value"] == pytest.approx(0.3)
    assert (result["n_queries"], result["n_skipped"], result["n_clusters"]) == (2, 2, 2)


@pytest.mark.parametrize("values", [[0.5, 0.7], [np.nan, np.nan], []])
def test_fewer_than_two_clusters_give_no_interval_and_no_warning(values: list[float]) -> None:
    frame = queries(values, ["a"] * len(values)).astype({"value": "float64"})
    result = mean_interval(frame, [], bootstrap=FEW).iloc[0]
    assert np.isnan(result["low"])
    assert np.isnan(result["high"])
    assert result["value"] == pytest.approx(np.mean(values)) if np.isfinite(values).any() else True


def test_groups_keep_their_order_and_equal_each_alone() -> None:
    first, second = random_frame(1).assign(arm="z"), random_frame(2).assign(arm="a")
    both = mean_interval(pd.concat([first, second]), ["arm"], bootstrap=FEW)
    assert list(both["arm"]) == ["z", "a"]
    for position, frame in enumerate((first, second)):
        alone = mean_interval(frame, ["arm"], bootstrap=FEW)
        pd.testing.assert_frame_equal(both.iloc[[position]].reset_index(drop=True), alone)


def test_a_query_that_stands_twice_is_refused() -> None:
    frame = pd.concat([random_frame(), random_frame()])
    with pytest.raises(ValueError, match="twice"):
        mean_interval(frame, [], bootstrap=FEW)


@given(shift=st.floats(-5, 5), scale=st.floats(0.1, 10), seed=st.integers(0, 99))
def test_intervals_move_and_stretch_with_the_values(shift: float, scale: float, seed: int) -> None:
    frame = random_frame(seed)
    bootstrap = Bootstrap(resamples=50)
    plain = mean_interval(frame, [], bootstrap=bootstrap).iloc[0]
    moved = mean_interval(frame.assign(value=scale * frame["value"] + shift), [], bootstrap=bootstrap).iloc[0]
    for name in ("value", "low", "high", "macro", "macro_low", "macro_high"):
        assert moved[name] == pytest.approx(scale * plain[name] + shift, abs=1e-9)


def test_intervals_do_not_depend_on_the_order_of_rows() -> None:
    frame = random_frame()
    shuffled = frame.sample(frac=1, random_state=4)
    expected, seen = (mean_interval(values, [], bootstrap=FEW) for values in (frame, shuffled))
    pd.testing.assert_frame_equal(seen, expected, rtol=1e-12)


def test_a_higher_level_gives_a_wider_interval() -> None:
    rows = [
        mean_interval(random_frame(), [], bootstrap=Bootstrap(level=level)).iloc[0] for level in (0.8, 0.95)
    ]
    assert rows[1]["low"] < rows[0]["low"] < rows[0]["high"] < rows[1]["high"]


@pytest.mark.parametrize("wrong", [{"level": 1.0}, {"level": 0.0}, {"resamples": 0}, {"method": "jackknife"}])
def test_wrong_settings_are_refused(wrong: dict) -> None:
    with pytest.raises(InputError):
        Bootstrap(**wrong)


def pair() -> tuple[pd.DataFrame, pd.DataFrame]:
    left = pd.concat([random_frame(1).assign(seed=0), random_frame(2).assign(seed=1)])
    right = pd.concat([random_frame(3).assign(seed=0), random_frame(4).assign(seed=1)])
    right["query_class"] = left["query_class"] = [f"c{number % 40 % 7}" for number in range(len(left))]
    return left, right


def test_differences_are_paired_by_query_id_when_rows_are_permuted() -> None:
    left, right = pair()
    result = paired_difference(
        left.sample(frac=1, random_state=1), right.sample(frac=1, random_state=2), on=["seed"], by=["seed"]
    )
    lookup = {(row["seed"], row["query_id"]): row["value"] for _, row in right.iterrows()}
    original = {(row["seed"], row["query_id"]): row["value"] for _, row in left.iterrows()}
    assert len(result) == len(left)
    for _, row in result.iterrows():
        key = (row["seed"], row["query_id"])
        assert row["value"] == original[key] - lookup[key]


def test_pairing_removes_what_queries_share() -> None:
    left, right = pair()
    right["value"] = left["value"].to_numpy() - 0.1
    result = paired_difference(left, right, on=["seed"], by=["seed"])
    row = mean_interval(average_models(result, []), [], bootstrap=FEW).iloc[0]
    assert (row["value"], row["low"], row["high"]) == pytest.approx((0.1, 0.1, 0.1))


def test_other_queries_in_the_reference_raise() -> None:
    left, right = pair()
    with pytest.raises(InputError, match="same queries"):
        paired_difference(left[left["query_id"] != "q3"], right, on=["seed"], by=["seed"])
    renamed = left.assign(query_id=left["query_id"].replace("q3", "stranger"))
    with pytest.raises(InputError, match="stranger"):
        paired_difference(renamed, right, on=["seed"], by=["seed"])


def test_a_group_without_any_reference_is_left_out() -> None:
    left, right = pair()
    result = paired_difference(left, right[right["seed"] == 1], on=["seed"], by=["seed"])
    assert set(result["seed"]) == {1}


def test_models_are_averaged_within_each_query() -> None:
    left, _ = pair()
    result = average_models(left.assign(arm="a", query_class="c"), ["arm"])
    expected = left.groupby("query_id")["value"].mean()
    assert (result["n_models"] == 2).all()
    for _, row in result.iterrows():
        assert row["value"] == pytest.approx(expected[row["query_id"]])


def test_seeds_measured_on_different_queries_raise() -> None:
    left, _ = pair()
    uneven = left.assign(arm="a", query_class="c").iloc[1:]
    with pytest.raises(InputError, match="different queries"):
        average_models(uneven, ["arm"])


def test_rank_association_equals_scipy_with_ties() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.integers(0, 5, 20), "y": rng.integers(0, 5, 20)})
    expected = scipy.stats.spearmanr(frame["x"], frame["y"]).statistic
    result = rank_association(frame, "x", "y")
    assert result.spearman == pytest.approx(expected)
    assert result.n == 20


@pytest.mark.parametrize("values", [[(1, 2), (2, 1)], [(1, 1), (1, 2), (1, 3)], []])
def test_no_association_from_two_points_or_a_constant(values: list[tuple[int, int]]) -> None:
    assert np.isnan(rank_association(pd.DataFrame(values, columns=["x", "y"]), "x", "y").spearman)


def test_groups_of_whole_clusters_keep_the_width_at_many_clusters() -> None:
    generator = np.random.default_rng(0)
    n = 3 * MOST_CLUSTERS
    means = generator.normal(size=n)
    frame = queries([*(means + 0.1), *(means - 0.1)], [*map(str, range(n)), *map(str, range(n))])
    row = mean_interval(frame, []).iloc[0]
    assert (row["n_clusters"], row["n_queries"]) == (n, 2 * n)
    assert (row["high"] - row["low"]) / 2 == pytest.approx(1.96 * means.std() / n**0.5, rel=0.08)
    shuffled = mean_interval(frame.sample(frac=1, random_state=0), []).iloc[0]
    assert (row["low"], row["high"]) == pytest.approx((shuffled["low"], shuffled["high"]))
