"""How sure a mean is: closed forms, and the rule of which intervals have to agree."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.stats.evidence import average_arms, deciding, gather, negligible, side
from analysis.stats.seeds import sign_flip
from crossgap.errors import InputError
from crossgap.metrics.intervals import Bootstrap, mean_interval
from tests.reference_two_level import two_level_t_interval

FEW = Bootstrap(resamples=400)


def frame(values: dict[tuple[str, int], list[float]], classes: int = 5) -> pd.DataFrame:
    """Write (dataset, seed) -> values of queries 0, 1, ... as a frame; classes go round."""
    return pd.DataFrame(
        [
            (dataset, seed, f"q{number}", f"c{number % classes}", value)
            for (dataset, seed), mine in values.items()
            for number, value in enumerate(mine)
        ],
        columns=["dataset", "seed", "query_id", "query_class", "value"],
    )


def noisy(seeds: int, *, level: float = 0.0, spread: float = 1.0, queries: int = 60) -> pd.DataFrame:
    generator = np.random.default_rng(seeds)
    return frame({("d", s): list(level + spread * generator.normal(size=queries)) for s in range(seeds)})


def test_one_model_has_the_interval_over_queries_alone() -> None:
    values = noisy(1, level=0.3)
    found = gather(values, bootstrap=FEW)
    assert found is not None
    expected = mean_interval(values.drop(columns="seed"), ["dataset"], bootstrap=FEW).iloc[0]
    assert (found.value, found.low, found.high) == pytest.approx(tuple(expected[["value", "low", "high"]]))
    assert deciding(found) == [(found.low, found.high)]
    assert found.p == sign_flip(values["value"].to_numpy(), values["query_class"].to_numpy(str))
    assert (found.models.n, found.n_queries, found.n_datasets) == (1, 60, 1)


def test_two_models_need_both_intervals() -> None:
    found = gather(frame({("d", 0): [1.0] * 9 + [1.2], ("d", 1): [3.0] * 9 + [3.2]}), bootstrap=FEW)
    assert found is not None
    assert math.isnan(found.both_low)  # no simulated support for two
    assert len(deciding(found)) == 2
    assert found.low > 0  # every query gains, the seeds differ: two of them say nothing of others
    assert found.models.low < 0
    assert side(found) == 0
    assert found.p == pytest.approx(stats.ttest_1samp([1.02, 3.02], 0).pvalue)  # the larger of two
    low, high = stats.t.interval(0.95, 1, loc=2.02, scale=1.0)
    assert (found.models.low, found.models.high) == pytest.approx((low, high))


def test_from_three_models_on_one_interval_covers_both() -> None:
    found = gather(noisy(4, level=0.8), bootstrap=FEW)
    assert found is not None
    assert deciding(found) == [(found.both_low, found.both_high)]
    assert found.both_high - found.both_low > 0.9 * (found.high - found.low)
    assert side(found) == 1
    assert side(found, beyond=2.0) == 0
    bounds = two_level_t_interval(noisy(4, level=0.8), [], strata="dataset").iloc[0]
    assert (found.both_low, found.both_high, found.p) == tuple(bounds[["low", "high", "p"]])


def test_the_sign_is_told_and_little_is_negligible() -> None:
    down = gather(noisy(3, level=-0.9, spread=0.5), bootstrap=FEW)
    assert down is not None
    assert side(down) == -1
    assert not negligible(down, 0.5)
    nothing = gather(noisy(3, spread=0.01), bootstrap=FEW)
    assert nothing is not None
    assert side(nothing) == 0
    assert negligible(nothing, 0.1)
    assert not negligible(nothing, 1e-6)


def test_datasets_count_alike_whatever_their_size() -> None:
    values = pd.concat([frame({("small", 0): [4.0] * 10}), frame({("large", 0): [0.0] * 90})])
    found = gather(values, bootstrap=FEW)
    assert found is not None
    assert found.value == pytest.approx(2.0)
    assert (found.low, found.high) == pytest.approx((2.0, 2.0))
    assert (found.n_queries, found.n_datasets) == (100, 2)
    several = pd.concat([values, values.assign(seed=1), values.assign(seed=2)])
    both = gather(several, bootstrap=FEW)
    assert both is not None
    assert (both.both_low, both.both_high) == pytest.approx((2.0, 2.0))  # datasets apart are no spread


def test_nothing_measured_is_no_evidence() -> None:
    assert gather(frame({}), bootstrap=FEW) is None
    assert gather(frame({("d", 0): [math.nan]}), bootstrap=FEW) is None


def test_a_query_stands_once_in_a_seed_and_has_a_class() -> None:
    values = noisy(3)
    with pytest.raises(InputError, match="stands twice"):
        gather(pd.concat([values, values[:1]]), bootstrap=FEW)
    with pytest.raises(InputError, match="without a class"):
        gather(values.assign(query_class=None), bootstrap=FEW)


def test_one_class_has_no_interval_and_decides_nothing() -> None:
    found = gather(frame({("d", 0): [1.0, 2.0]}, classes=1), bootstrap=FEW)
    assert found is not None
    assert side(found) == 0
    assert not negligible(found, 100.0)


def test_arms_are_averaged_over_the_seeds_that_all_have() -> None:
    one = frame({("d", 0): [1.0], ("d", 1): [3.0]}).assign(arm="a")
    other = frame({("d", 1): [5.0], ("d", 2): [9.0]}).assign(arm="b")
    found = average_arms(pd.concat([one, other]), ["a", "b"])
    assert found[["seed", "value"]].to_numpy().tolist() == [[1, 4.0]]
    assert average_arms(pd.concat([one, other]), ["a"])["value"].tolist() == [1.0, 3.0]


def test_models_that_lack_a_dataset_or_a_query_leave_the_others_whole() -> None:
    whole = [frame({(name, seed): [1.0, 2.0, 3.0] * 4 for seed in (0, 1, 2)}) for name in ("d", "e")]
    values = pd.concat(whole).assign(value=lambda table: table["value"] + table["seed"])
    lacking = values[~((values["dataset"] == "e") & (values["seed"] == 2))]
    found = gather(lacking, bootstrap=FEW)
    assert found is not None
    assert (found.models.n, found.n_datasets) == (2, 2)  # four cells; one dataset has three
    assert found.value == pytest.approx(2.5)
    holed = values[~((values["query_id"] == "q0") & (values["seed"] == 1))]
    found = gather(holed, bootstrap=FEW)
    assert found is not None
    assert (found.models.n, found.n_queries) == (3, 22)


def test_too_few_classes_decide_nothing_of_one_model() -> None:
    clear = {("d", 0): [1.0 + 0.01 * query for query in range(80)]}
    few, many = (gather(frame(clear, classes=classes), bootstrap=FEW) for classes in (20, 40))
    assert few is not None
    assert many is not None
    assert (few.n_classes, many.n_classes) == (20, 40)
    assert few.low > 0
    assert (side(few), side(many)) == (0, 1)
    assert (negligible(few, 9.0), negligible(many, 9.0)) == (False, True)
    several = pd.concat([frame(clear, classes=5).assign(seed=seed) for seed in (0, 1, 2)])
    assert side(gather(several.assign(value=several["value"] + several["seed"] / 50), bootstrap=FEW)) == 1  # type: ignore[arg-type]


def test_classes_of_several_datasets_count_by_what_they_contribute() -> None:
    alternating = [1.0, -1.0] * 60
    alike = pd.concat([frame({(name, 0): alternating}, classes=30) for name in "abcd"])
    found = gather(alike, bootstrap=FEW)
    assert found is not None
    assert found.n_classes == 1 + 4 * 29
    wide = frame({("a", 0): [9.0, -9.0, 0.0] * 40}, classes=3)
    found = gather(pd.concat([wide, alike[alike["dataset"] == "b"]]), bootstrap=FEW)
    assert found is not None
    assert found.n_classes < 5  # the few classes of one dataset carry all the spread
