"""The simulation: its vectorised statistics are the shipped ones, its model has the spread it states."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import statsmodels.formula.api as smf

from analysis import simulate
from analysis.stats import simulated
from analysis.stats.association import line_of
from analysis.stats.equivalence import equivalence
from analysis.stats.seeds import paired_seeds
from analysis.stats.simulated import EffectModel, SimulatedDifferences
from crossgap.command import run_command
from crossgap.metrics.intervals import Bootstrap, average_models, mean_interval, resample_counts
from tests.reference_two_level import two_level_t_interval

SMALL = EffectModel(n_queries=40, n_classes=8)
BOOTSTRAP = Bootstrap(resamples=80, seed=5)


def sample(n_seeds: int = 4, model: EffectModel = SMALL, repetitions: int = 3) -> SimulatedDifferences:
    return simulated.draw(model, n_seeds, repetitions, np.random.default_rng(0))


def as_frame(drawn: SimulatedDifferences, repetition: int) -> pd.DataFrame:
    values_SQ = drawn.values_XSQ[repetition]
    n_seeds, n_queries = values_SQ.shape
    return pd.DataFrame(
        {
            "seed": np.repeat(np.arange(n_seeds), n_queries),
            "query_id": np.tile([f"q{number:03}" for number in range(n_queries)], n_seeds),
            "query_class": np.tile(drawn.class_Q, n_seeds),
            "value": values_SQ.ravel(),
        }
    )


def test_intervals_are_the_shipped_ones() -> None:
    drawn = sample()
    means_XS = drawn.values_XSQ.mean(axis=2)
    over_t, two_t = simulated.t_over_seeds(means_XS), simulated.two_level_t(drawn)
    for place in range(3):
        frame = as_frame(drawn, place)
        seeds = paired_seeds(means_XS[place])
        assert (over_t.low_X[place], over_t.high_X[place]) == pytest.approx((seeds.low, seeds.high))
        table = two_level_t_interval(frame, [])
        assert (two_t.low_X[place], two_t.high_X[place]) == pytest.approx(
            (table.loc[0, "low"], table.loc[0, "high"])
        )
        for method in ("cluster", "query"):
            bootstrap = Bootstrap(method=method, resamples=80, seed=5)
            table = mean_interval(average_models(frame, []), [], bootstrap=bootstrap)
            bounds = simulated.over_queries(drawn, bootstrap)
            assert (bounds.low_X[place], bounds.high_X[place]) == pytest.approx(
                (table.loc[0, "low"], table.loc[0, "high"])
            )


def test_the_test_over_two_levels_is_the_shipped_one() -> None:
    drawn = sample(repetitions=30)
    bounds = simulated.two_level_t(drawn)
    p = np.array([two_level_t_interval(as_frame(drawn, place), []).loc[0, "p"] for place in range(30)])
    rejected = (bounds.low_X > 0) | (bounds.high_X < 0)
    assert 0 < rejected.sum() < 30
    assert list(rejected) == list(p <= 0.05)


def test_t_over_classes_is_that_of_regression_with_clusters() -> None:
    drawn = sample(1)
    sums_XC = np.stack([np.bincount(drawn.class_Q, weights=row) for row in drawn.values_XSQ[:, 0]])
    bounds = simulated.t_over_classes(sums_XC, np.bincount(drawn.class_Q))
    for place in range(3):
        frame = as_frame(drawn, place)
        fit = smf.ols("value ~ 1", frame).fit(
            cov_type="cluster", cov_kwds={"groups": frame["query_class"]}, use_t=True
        )
        expected = tuple(fit.conf_int().loc["Intercept"])
        assert (bounds.low_X[place], bounds.high_X[place]) == pytest.approx(expected)


def test_the_two_level_bootstrap_equals_a_listed_one() -> None:
    drawn = sample()
    bounds = simulated.two_level(drawn, BOOTSTRAP)
    seeds_RS = resample_counts(4, BOOTSTRAP)
    classes_RC = resample_counts(8, replace(BOOTSTRAP, seed=BOOTSTRAP.seed + 1))  # seeds and classes apart
    for place, values_SQ in enumerate(drawn.values_XSQ):
        means = []
        for of_seeds, of_classes in zip(seeds_RS, classes_RC, strict=True):
            weights_SQ = of_seeds[:, None] * of_classes[drawn.class_Q]
            means.append(np.average(values_SQ, weights=weights_SQ))
        expected = tuple(np.percentile(means, [2.5, 97.5]))
        assert (bounds.low_X[place], bounds.high_X[place]) == pytest.approx(expected)


def test_percentiles_and_bca_are_scipy_s() -> None:
    d = np.array([[0.2, 1.5, -0.4, 0.9, 3.0, 0.1, 0.7, 0.8]])
    many = Bootstrap(resamples=20_000)
    for function, method in (
        (simulated.percentile_over_seeds, "percentile"),
        (simulated.bca_over_seeds, "BCa"),
    ):
        bounds = function(d, many)
        expected = scipy.stats.bootstrap(
            (d[0],), np.mean, method=method, n_resamples=20_000, random_state=0, vectorized=True
        ).confidence_interval
        assert (bounds.low_X[0], bounds.high_X[0]) == pytest.approx(tuple(expected), abs=0.04)


def test_equivalence_is_the_shipped_one() -> None:
    means_XS = np.random.default_rng(2).normal(0, 0.8, (40, 5))
    bounds = simulated.t_over_seeds(means_XS, 0.9)
    inside = (bounds.low_X > -1) & (bounds.high_X < 1)
    assert inside.any()
    assert list(inside) == [equivalence(row, 1.0).equivalent for row in means_XS]


def test_slopes_are_those_of_regression() -> None:
    generator = np.random.default_rng(3)
    x, y = generator.random((1, 6, 3)), generator.random((1, 6, 3))
    bounds = simulated.slope_intervals(x, y)
    arms = np.repeat(np.arange(6), 3)
    flat = pd.DataFrame({"x": x.ravel(), "y": y.ravel(), "arm": arms})
    plain = smf.ols("y ~ x", flat).fit()
    clustered = plain.get_robustcov_results("cluster", groups=arms, use_t=True)
    expected = {
        "slope over arm means": line_of(x[0].mean(axis=1), y[0].mean(axis=1))[1:],
        "slope over models (arms ignored)": tuple(plain.conf_int().loc["x"]),
        "slope over models (errors by arm)": tuple(clustered.conf_int()[1]),
    }
    for method, ends in expected.items():
        assert (bounds[method].low_X[0], bounds[method].high_X[0]) == pytest.approx(ends)


@pytest.mark.parametrize("shape", ["normal", "heavy-tailed", "skewed"])
def test_the_model_has_the_spread_it_states(shape: str) -> None:
    model = EffectModel(shape=shape)
    drawn = simulated.draw(model, 6, 150, np.random.default_rng(4))
    sizes = np.bincount(drawn.class_Q)
    assert (sizes.sum(), len(sizes), sizes.min()) == (300, 60, 2)
    assert (np.diff(sizes) <= 0).all()
    between = drawn.values_XSQ.mean(axis=2).std(axis=1, ddof=1)
    share = (sizes**2).sum() / 300**2
    stated = model.seed**2 + model.seed_by_class**2 * share + model.rest**2 / 300
    assert np.mean(between**2) == pytest.approx(stated, rel=0.15)
    per_query = drawn.values_XSQ[:, 0].std(axis=1)
    assert per_query.mean() == pytest.approx(9.2, abs=0.4)
    assert np.mean(drawn.these_X) == pytest.approx(model.effect, abs=0.3)


@pytest.mark.parametrize("shape", ["normal", "skewed"])
def test_one_model_has_no_effect_of_its_seed(shape: str) -> None:
    model = replace(simulated.ONE_MODEL, class_shape=shape)
    assert model.query_class**2 == pytest.approx(
        EffectModel().query_class ** 2 + EffectModel().seed_by_class ** 2
    )
    assert model.query**2 == pytest.approx(EffectModel().query ** 2 + EffectModel().rest ** 2)
    drawn = simulated.draw(model, 1, 2000, np.random.default_rng(5))
    means = drawn.values_XSQ[:, 0].mean(axis=1)
    np.testing.assert_allclose(means, drawn.these_X)
    share = (np.bincount(drawn.class_Q) ** 2).sum() / 300**2
    assert means.var() == pytest.approx(13 * share + 72 / 300, rel=0.15)
    assert (scipy.stats.skew(means) > 0.2) == (shape == "skewed")


def test_numbers_do_not_change_with_the_other_cells() -> None:
    alone = simulate.simulate_seeds("skewed", 3, 20)
    among = simulate.simulate((2, 3), 20)
    here = among[(among["scenario"] == "skewed") & (among["n_seeds"] == 3)].reset_index(drop=True)
    pd.testing.assert_frame_equal(here, alone)


def test_the_command_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "coverage.csv"
    assert run_command(simulate.main, ["--repetitions", "12", "--seeds", "2", "6", "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "two-level bootstrap" in shown
    assert "6 seeds" in shown
    assert "60 classes" in shown
    assert "its larger side" in shown
    assert list(pd.read_csv(out).columns) == simulate.COLUMNS


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--repetitions", "3"], "--repetitions 3"),
        (["--seeds", "1", "2"], "--seeds 1 2"),
        (["--seeds", "3", "3"], "each once"),
        (["--seed", "-1"], "--seed -1"),
        (["--out", "/nowhere/at/all.csv"], "/nowhere/at/all.csv"),
    ],
)
def test_wrong_options_end_with_code_2(
    argv: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(simulate.main, argv) == 2
    assert said in capsys.readouterr().err


def test_options_that_cannot_be_read_end_with_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ending:
        run_command(simulate.main, ["--repetitions", "many"])
    assert ending.value.code == 2
