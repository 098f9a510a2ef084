"""Intervals over seeds and queries: a listed bootstrap, variances by loops and by regression."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from statsmodels.regression.linear_model import OLS

from analysis.stats.bootstrap import Bootstrap, mean_interval, resample_counts
from analysis.stats.seeds import t_interval, two_level_interval, two_level_t_interval
from crossgap.errors import InputError

FEW = Bootstrap(level=0.9, resamples=60, seed=3)
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


def both(frame: pd.DataFrame, by: list[str]) -> list[pd.DataFrame]:
    return [two_level_interval(frame, by, bootstrap=FEW), two_level_t_interval(frame, by, level=0.9)]


def test_the_bootstrap_equals_a_listed_one() -> None:
    frame = crossed()
    result = two_level_interval(frame, [], bootstrap=FEW).iloc[0]
    means = []
    classes = resample_counts(len(SIZES), replace(FEW, seed=FEW.seed + 1))  # seeds and classes apart
    for of_seeds, of_classes in zip(resample_counts(4, FEW), classes, strict=True):
        drawn: list[float] = []
        for row in frame.itertuples():
            times = int(of_seeds[row.seed] * of_classes[int(row.query_class[1:])])
            drawn += [row.value] * times
        means.append(sum(drawn) / len(drawn))
    assert (result["low"], result["high"]) == pytest.approx(tuple(np.percentile(means, [5, 95])))
    assert result["value"] == pytest.approx(frame["value"].mean())
    assert tuple(result[["n_seeds", "n_classes", "n_queries"]]) == (4, 5, 15)


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


def test_without_seed_effects_it_is_the_bootstrap_over_classes() -> None:
    once = crossed(n_seeds=1)
    frame = pd.concat([once.assign(seed=seed) for seed in range(3)])
    many = Bootstrap(resamples=4000)
    result = two_level_interval(frame, [], bootstrap=many).iloc[0]
    expected = mean_interval(once, [], bootstrap=many).iloc[0]
    assert (result["low"], result["high"]) == pytest.approx((expected["low"], expected["high"]))


def test_all_equal_values_leave_no_width() -> None:
    for table in both(crossed().assign(value=0.5), []):
        assert tuple(table.loc[0, ["value", "low", "high"]]) == pytest.approx((0.5, 0.5, 0.5))
    assert np.isnan(table.loc[0, "p"])  # of the t interval, the second: nothing to divide by


def test_groups_keep_their_order_and_equal_each_alone() -> None:
    frames = [crossed(1, arm="z"), crossed(2, arm="a", n_seeds=3)]
    for at, table in enumerate(both(pd.concat(frames), ["arm"])):
        assert list(table["arm"]) == ["z", "a"]
        for place, frame in enumerate(frames):
            alone = both(frame, ["arm"])[at]
            pd.testing.assert_frame_equal(table.iloc[[place]].reset_index(drop=True), alone)


def test_the_order_of_rows_and_names_of_seeds_do_not_matter() -> None:
    frame = crossed()
    changed = frame.sample(frac=1, random_state=1).assign(seed=lambda rows: rows["seed"] * 7 + 11)
    for here, there in zip(both(frame, []), both(changed, []), strict=True):
        pd.testing.assert_frame_equal(here, there, rtol=1e-12)


def test_queries_without_a_value_anywhere_are_skipped() -> None:
    frame = crossed()
    frame.loc[frame["query_class"] == "c3", "value"] = np.nan
    for here, there in zip(both(frame, []), both(frame[frame["query_class"] != "c3"], []), strict=True):
        pd.testing.assert_frame_equal(here, there)
        assert here.loc[0, "n_classes"] == 4


def test_one_seed_or_one_class_has_no_interval() -> None:
    frame = crossed()
    for part in (frame[frame["seed"] == 0], frame[frame["query_class"] == "c4"], frame.iloc[:0]):
        for table in both(part, []):
            assert np.isnan(table.loc[0, ["low", "high"]].astype(float)).all()


def test_seeds_that_answered_different_queries_are_refused() -> None:
    frame = crossed(arm="a")
    for wrong, said in (
        (frame.iloc[1:], "c0-0"),
        (pd.concat([frame, frame.iloc[:1]]), "twice"),
        (frame.assign(query_class=None), "without a class"),
    ):
        for function in (
            lambda rows: two_level_interval(rows, ["arm"], bootstrap=FEW),
            lambda rows: two_level_t_interval(rows, ["arm"]),
        ):
            with pytest.raises(InputError, match=said):
                function(wrong)
    with pytest.raises(InputError, match="level"):
        two_level_t_interval(frame, [], level=95)
