"""Factorial effects against contrasts by hand and a mixed model; unbalanced designs are refused."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from itertools import product

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import statsmodels.formula.api as smf
from hypothesis import given
from hypothesis import strategies as st

from analysis.stats.factorial import factorial_effects
from crossgap.errors import InputError


def design(
    value: Callable[[float, str, int], float], n_seeds: int = 3, noise: float = 0.3, seed: int = 0
) -> pd.DataFrame:
    """Run every cell of gap weight x term with every seed; seeds have effects of their own."""
    generator = np.random.default_rng(seed)
    of_seed = generator.normal(0, 2, n_seeds)
    rows = [
        {"gap": gap, "term": term, "seed": number}
        | {"value": value(gap, term, number) + of_seed[number] + noise * generator.standard_normal()}
        for gap, term, number in product((0.0, 0.5), ("off", "on"), range(n_seeds))
    ]
    return pd.DataFrame(rows)


def plain(gap: float, term: str, seed: int) -> float:
    return 3 * gap + 2 * (term == "on") - 4 * gap * (term == "on")


def test_effects_without_noise_by_hand() -> None:
    table = factorial_effects(design(plain, noise=0.0), ["gap", "term"]).set_index("term")
    # gap: off +1.5, on -.5; term: at gap 0 +2, at gap .5 +0
    assert table.loc["gap", "estimate"] == pytest.approx((1.5 - 0.5) / 2)
    assert table.loc["term", "estimate"] == pytest.approx((2 + 0) / 2)
    assert table.loc["gap:term", "estimate"] == pytest.approx((-0.5 - 1.5) / 2)
    assert list(table["order"]) == [1, 1, 2]


def test_estimates_are_contrasts_of_cell_means_and_their_errors_pooled() -> None:
    frame = design(plain)
    table = factorial_effects(frame, ["gap", "term"], level=0.9).set_index("term")
    means = frame.groupby(["gap", "term"])["value"].mean()
    expected = (means[0.5, "on"] + means[0.5, "off"] - means[0.0, "on"] - means[0.0, "off"]) / 2
    assert table.loc["gap", "estimate"] == pytest.approx(expected)
    cells = frame.pivot_table(index=["gap", "term"], columns="seed", values="value").to_numpy()
    rest = cells - cells.mean(axis=1, keepdims=True) - cells.mean(axis=0) + cells.mean()
    df = (4 - 1) * (3 - 1)
    error = np.sqrt((rest**2).sum() / df * 4 / frame.shape[0])  # difference of two halves of twelve rows
    half = scipy.stats.t.ppf(0.95, df) * error
    assert (table["df"] == df).all()
    assert (table["high"] - table["estimate"]).to_numpy() == pytest.approx(half)
    assert (table["estimate"] - table["low"]).to_numpy() == pytest.approx(half)
    assert table.loc["gap", "p"] == pytest.approx(2 * scipy.stats.t.sf(abs(expected) / error, df))


def test_it_equals_the_mixed_model_with_a_random_seed_intercept() -> None:
    frame = design(plain, n_seeds=5)
    table = factorial_effects(frame, ["gap", "term"]).set_index("term")
    coded = frame.assign(a=np.sign(frame["gap"] - 0.25), b=np.where(frame["term"] == "on", 1, -1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its optimiser
        mixed = smf.mixedlm("value ~ a * b", coded, groups=coded["seed"]).fit(reml=True)
    for term, name in (("gap", "a"), ("term", "b"), ("gap:term", "a:b")):
        assert table.loc[term, "estimate"] == pytest.approx(2 * mixed.params[name], rel=1e-6)
        half = scipy.stats.t.ppf(0.975, table.loc[term, "df"]) * 2 * mixed.bse[name]
        assert table.loc[term, "high"] - table.loc[term, "estimate"] == pytest.approx(half, rel=1e-3)


def test_two_cells_are_a_paired_t_test() -> None:
    frame = design(plain, n_seeds=6)
    frame = frame[frame["term"] == "off"]
    row = factorial_effects(frame, ["gap"]).iloc[0]
    d = frame.pivot_table(index="seed", columns="gap", values="value")
    expected = scipy.stats.ttest_rel(d[0.5], d[0.0])
    assert row["p"] == pytest.approx(expected.pvalue)
    assert (row["low"], row["high"]) == pytest.approx(tuple(expected.confidence_interval()))


@given(st.floats(-5, 5), st.floats(0.1, 9), st.integers(0, 50))
def test_levels_of_seeds_units_and_order_of_rows_do_not_matter(shift: float, scale: float, seed: int) -> None:
    frame = design(plain, seed=seed).assign(term=lambda rows: pd.Categorical(rows["term"], ["off", "on"]))
    moved = frame.assign(value=scale * frame["value"] + shift * frame["seed"])
    here = factorial_effects(frame, ["gap", "term"])
    there = factorial_effects(moved.sample(frac=1, random_state=seed), ["gap", "term"])
    for name in ("estimate", "low", "high"):
        np.testing.assert_allclose(there[name], scale * here[name], atol=1e-9)
    np.testing.assert_allclose(there["p"], here["p"], atol=1e-9)


def test_three_levels_are_coded_by_place_in_the_order_of_the_factor() -> None:
    rows = [
        {"tau": tau, "on": on, "seed": seed, "value": place + 10.0 * seed + 0.5 * on}
        for place, tau in enumerate((0.01, 0.02, 0.5))
        for on in (True, False)
        for seed in range(2)
    ]
    table = factorial_effects(pd.DataFrame(rows), ["tau", "on"]).set_index("term")
    assert table.loc["tau", "estimate"] == pytest.approx(2)  # from the lowest to the highest
    assert table.loc["on", "estimate"] == pytest.approx(0.5)  # False stands before True
    turned = pd.DataFrame(rows).assign(
        tau=lambda frame: pd.Categorical(frame["tau"], [0.5, 0.02, 0.01], ordered=True)
    )
    assert factorial_effects(turned, ["tau", "on"]).loc[0, "estimate"] == pytest.approx(-2)


def test_no_residual_degree_of_freedom_leaves_bounds_open() -> None:
    table = factorial_effects(design(plain, n_seeds=1), ["gap", "term"])
    assert (table["df"] == 0).all()
    assert table[["low", "high", "p"]].isna().all(axis=None)
    assert table["estimate"].notna().all()


def test_unbalanced_designs_are_refused_by_name() -> None:
    frame = design(plain)
    missing = frame[~((frame["gap"] == 0.5) & (frame["term"] == "on") & (frame["seed"] == 2))]
    with pytest.raises(InputError, match=r"1 of 12 cells.*'gap': 0.5, 'term': 'on', 'seed': 2"):
        factorial_effects(missing, ["gap", "term"])
    with pytest.raises(InputError, match=r"'seed': 0.* stands 2 times"):
        factorial_effects(pd.concat([frame, frame.iloc[:1]]), ["gap", "term"])
    doubled = factorial_effects(pd.concat([frame, frame]), ["gap", "term"])
    assert (doubled["df"] == 24 - 3 - 3).all()


def test_what_cannot_be_a_factor_is_refused() -> None:
    frame = design(plain)
    for factors, said in (
        ([], "at least one"),
        (["gap", "gap"], "each once"),
        (["gap", "tau"], "tau"),
        (["gap", "one"], "one level"),
    ):
        with pytest.raises(InputError, match=said):
            factorial_effects(frame.assign(one=1), factors)
    with pytest.raises(InputError, match="NaN"):
        factorial_effects(frame.assign(value=np.nan), ["gap"])
