"""The two-level t over seeds and queries: variances by loops, by regression and by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from statsmodels.regression.linear_model import OLS

from analysis.stats.seeds import t_interval
from crossgap.errors import InputError
from tests.reference_two_level import two_level_t_interval

SIZES = (1, 2, 2, 4, 6)


def crossed(seed: int = 0, n_seeds: int = 4, spread: float = 1.0, **columns: object) -> pd.DataFrame:
    """Make paired differences of every query in every seed."""
    generator = np.random.default_rng(seed)
    rows = [
        {
            "seed": s,
            "query_class": f"c{c}",
            "query_id": f"c{c}-{number}",
            "value": generator.normal(c, spread),
        }
        for s in range(n_seeds)
        for c, size in enumerate(SIZES)
        for number in range(size)
    ]
    return pd.DataFrame(rows).assign(**columns)


def test_the_variances_are_those_of_regression_with_clusters() -> None:
    frame = crossed(1)
    result = two_level_t_interval(frame, [], level=0.9).iloc[0]
    means = frame.groupby("seed")["value"].mean()
    of_seeds = means.var() / 4
    per_query = frame.groupby(["query_class", "query_id"], as_index=False)["value"].mean()
    codes = pd.factorize(per_query["query_class"])[0]
    fit = OLS(per_query["value"].to_numpy(), np.ones((15, 1))).fit(
        cov_type="cluster", cov_kwds={"groups": codes}
    )
    of_classes = float(fit.cov_params()[0, 0])
    variance = of_seeds + of_classes
    df = variance**2 / (of_seeds**2 / 3 + of_classes**2 / 4)
    half = scipy.stats.t.ppf(0.95, df) * np.sqrt(variance)
    assert (result["low"], result["high"]) == pytest.approx((means.mean() - half, means.mean() + half))
    assert result["p"] == pytest.approx(2 * scipy.stats.t.sf(means.mean() / np.sqrt(variance), df))


@pytest.mark.parametrize("shift", [-2.0, -1.0, 0.0])
def test_the_p_is_what_the_interval_at_that_level_touches_zero_with(shift: float) -> None:
    frame = crossed(2).assign(value=lambda rows: rows["value"] + shift - 1.0)
    p = two_level_t_interval(frame, []).loc[0, "p"]
    touching = two_level_t_interval(frame, [], level=1 - p).iloc[0]
    assert 0 < p < 1
    assert min(abs(touching["low"]), abs(touching["high"])) == pytest.approx(0, abs=1e-9)


def test_without_class_effects_it_is_the_t_interval_over_seeds() -> None:
    levels = {0: 0.2, 1: 0.9, 2: -0.3, 3: 0.4}
    frame = crossed().assign(value=lambda rows: rows["seed"].map(levels))
    result = two_level_t_interval(frame, []).iloc[0]
    assert (result["low"], result["high"]) == pytest.approx(t_interval(np.array(list(levels.values()))))


def test_without_seed_effects_it_is_a_t_interval_over_equal_classes() -> None:
    levels = {f"c{place}": value for place, value in enumerate((0.2, 0.9, -0.3, 0.4, 1.1))}
    rows = crossed()[lambda frame: frame["query_id"].str.endswith("-0")]  # one query a class
    result = two_level_t_interval(rows.assign(value=rows["query_class"].map(levels)), []).iloc[0]
    assert (result["low"], result["high"]) == pytest.approx(t_interval(np.array(list(levels.values()))))


def test_all_equal_values_leave_no_width() -> None:
    result = two_level_t_interval(crossed().assign(value=0.1), []).iloc[0]
    assert tuple(result[["low", "high"]]) == (result["value"], result["value"]) == pytest.approx((0.1, 0.1))
    assert np.isnan(result["p"])


def datasets(seeds: int, **values: dict[str, list[float]]) -> pd.DataFrame:
    """Make datasets of classes of queries with the same value in every seed."""
    rows = [
        {"seed": seed, "dataset": dataset, "query_class": name, "query_id": f"{name}-{place}", "value": value}
        for seed in range(seeds)
        for dataset, classes in values.items()
        for name, of_class in classes.items()
        for place, value in enumerate(of_class)
    ]
    return pd.DataFrame(rows)


def test_what_sets_datasets_apart_is_no_variance() -> None:
    classes = {f"c{place}": [5.0] * 100 for place in range(10)}
    few = {f"c{place}": [5.0] * 5 for place in range(10)}
    alike = datasets(3, a=classes, b=few)
    for frame in (alike, alike.assign(value=alike["dataset"].map({"a": 7.0, "b": 3.0}))):
        result = two_level_t_interval(frame, [], strata="dataset").iloc[0]
        assert (result["value"], result["low"], result["high"]) == (5.0, 5.0, 5.0)
        assert tuple(result[["n_seeds", "n_classes", "n_queries"]]) == (3, 20, 1050)


def test_datasets_by_hand() -> None:
    # a: mean 2, classes' sums about it -2, 2 of 4 queries: V_a = 2 (4 + 4) / (2 * 4)² = 1/4.
    # b: mean 4, sums about it -1, 1, 0 of 3 queries: V_b = 3/2 (1 + 1) / (2 * 3)² = 1/12.
    # Seeds move by -1, 0, 1: V_seed = 1/3. V = 2/3, df = V² / (V_seed²/2 + V_a² + V_b²/2) = 128/35.
    frame = datasets(3, a={"x": [1.0, 1.0], "y": [2.0, 4.0]}, b={"x": [3.0], "y": [5.0], "z": [4.0]})
    frame["value"] += frame["seed"] - 1.0
    result = two_level_t_interval(frame, [], level=0.9, strata="dataset").iloc[0]
    half = scipy.stats.t.ppf(0.95, 128 / 35) * (2 / 3) ** 0.5
    assert tuple(result[["value", "low", "high"]]) == pytest.approx((3.0, 3.0 - half, 3.0 + half))
    assert result["p"] == pytest.approx(2 * scipy.stats.t.sf(3 / (2 / 3) ** 0.5, 128 / 35))


def test_one_dataset_is_no_dataset() -> None:
    for seed in range(5):
        frame = crossed(seed, dataset="a")
        pd.testing.assert_frame_equal(
            two_level_t_interval(frame, [], strata="dataset"), two_level_t_interval(frame, []), rtol=1e-12
        )


def test_a_dataset_of_one_class_has_no_interval() -> None:
    frame = datasets(3, a={"x": [1.0, 1.0], "y": [2.0, 4.0]}, b={"x": [3.0, 4.0]})
    result = two_level_t_interval(frame, [], strata="dataset").iloc[0]
    assert result["value"] == pytest.approx((2.0 + 3.5) / 2)
    assert np.isnan(result[["low", "high", "p"]].astype(float)).all()


def test_the_interval_over_two_datasets_covers() -> None:
    generator = np.random.default_rng(0)
    sizes = {"a": [30, 20, 10, 10] * 5, "b": [2, 1, 1, 1] * 5}
    where = [
        (d, f"c{c}", f"q{c}-{n}") for d, of in sizes.items() for c, size in enumerate(of) for n in range(size)
    ]
    cells = pd.DataFrame(where, columns=["dataset", "query_class", "query_id"])
    codes = pd.factorize(cells["dataset"] + cells["query_class"])[0]
    means = cells["dataset"].map({"a": -4.0, "b": 5.0}).to_numpy()
    covered = 0
    for _ in range(200):
        fixed = means + generator.normal(0, 3, codes.max() + 1)[codes] + generator.normal(0, 3, len(cells))
        frame = pd.concat(
            [
                cells.assign(seed=s, value=fixed + generator.normal() + generator.normal(0, 3, len(cells)))
                for s in range(4)
            ]
        )
        bounds = two_level_t_interval(frame, [], strata="dataset").iloc[0]
        covered += bounds["low"] <= 0.5 <= bounds["high"]
    assert 0.91 <= covered / 200 <= 0.99


def test_groups_keep_their_order_and_equal_each_alone() -> None:
    frames = [crossed(1, arm="z"), crossed(2, arm="a", n_seeds=3)]
    table = two_level_t_interval(pd.concat(frames), ["arm"])
    assert list(table["arm"]) == ["z", "a"]
    for place, frame in enumerate(frames):
        alone = two_level_t_interval(frame, ["arm"])
        pd.testing.assert_frame_equal(table.iloc[[place]].reset_index(drop=True), alone)


def test_the_order_of_rows_and_names_of_seeds_do_not_matter() -> None:
    frame = crossed()
    changed = frame.sample(frac=1, random_state=1).assign(seed=lambda rows: rows["seed"] * 7 + 11)
    here, there = two_level_t_interval(frame, []), two_level_t_interval(changed, [])
    pd.testing.assert_frame_equal(here, there, rtol=1e-12)


def test_queries_without_a_value_anywhere_are_skipped() -> None:
    frame = crossed()
    frame.loc[frame["query_class"] == "c3", "value"] = np.nan
    here = two_level_t_interval(frame, [])
    pd.testing.assert_frame_equal(here, two_level_t_interval(frame[frame["query_class"] != "c3"], []))
    assert here.loc[0, "n_classes"] == 4


def test_one_seed_or_one_class_has_no_interval() -> None:
    frame = crossed()
    for part in (frame[frame["seed"] == 0], frame[frame["query_class"] == "c4"], frame.iloc[:0]):
        table = two_level_t_interval(part, [])
        assert np.isnan(table.loc[0, ["low", "high", "p"]].astype(float)).all()


def test_seeds_that_answered_different_queries_are_refused() -> None:
    frame = crossed(arm="a")
    for wrong, said in (
        (frame.iloc[1:], "c0-0"),
        (pd.concat([frame, frame.iloc[:1]]), "twice"),
        (frame.assign(query_class=None), "without a class"),
    ):
        with pytest.raises(InputError, match=said):
            two_level_t_interval(wrong, ["arm"])
    with pytest.raises(InputError, match="level"):
        two_level_t_interval(frame, [], level=95)
