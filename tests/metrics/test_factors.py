"""What an embedding holds of each factor, against plain loops and embeddings that are made of one factor."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from crossgap.datasets.tasks import Factor
from crossgap.errors import InputError
from crossgap.metrics.factors import (
    TEMPERATURE,
    commonest_share,
    factor_agreement,
    factor_metrics,
    held_by_neighbours,
    held_linearly,
    similarity_explained,
    similarity_moments,
    similarity_slopes,
    unmeasured,
)
from tests.reference_metrics import neighbour_votes, rank_correlation, shared_factor_table

N = 60
SHAPES, SHADES, SIDES = "abcde", "xyz", "lr"


def made(seed: int = 0, count: int = N) -> list[tuple[str, ...]]:
    """Draw three factors, each by itself."""
    random = np.random.default_rng(seed)
    return [tuple(random.choice(list(kinds), count).tolist()) for kinds in (SHAPES, SHADES, SIDES)]


def one_hot(values: Sequence[str]) -> torch.Tensor:
    kinds = sorted(set(values))
    return torch.eye(len(kinds), dtype=torch.float64)[[kinds.index(value) for value in values]]


def noisy(width: int = 7, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(2, N, width, dtype=torch.float64, generator=generator))


def factors(
    values: Sequence[Sequence[str]], fitted: Sequence[Sequence[str]] = ((), (), ())
) -> dict[str, Factor]:
    names = ("shape", "shade", "side")
    return {
        name: Factor(tuple(of), tuple(there), name != "side")
        for name, of, there in zip(names, values, fitted, strict=True)
    }


@pytest.mark.parametrize("k", [1, 4, 10])
def test_votes_of_neighbours_are_those_of_a_loop(k: int) -> None:
    query, gallery = noisy()
    for values in made():
        expected = neighbour_votes(query.tolist(), gallery.tolist(), values, k=k, temperature=TEMPERATURE)
        assert held_by_neighbours(query, gallery, values, k=k).tolist() == pytest.approx(expected)


def test_equal_votes_are_shared() -> None:
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]], dtype=torch.float64)
    held = held_by_neighbours(rows, rows, ["a", "a", "b"], k=2)
    assert held[0] == 0.5  # both others are equally far: "a" and "b" have one vote each


def test_slopes_and_explained_share_are_least_squares_over_a_loop() -> None:
    query, gallery = noisy()
    values = made()
    cosines, shared = shared_factor_table(query.tolist(), gallery.tolist(), values)
    y = np.concatenate([np.array(row) - np.mean(row) for row in cosines])
    x = np.concatenate([np.array(rows) - np.mean(rows, axis=0) for rows in shared])
    slopes, residual, *_ = np.linalg.lstsq(x, y, rcond=None)
    moments = similarity_moments(query, gallery, values)
    assert similarity_slopes(moments).tolist() == pytest.approx((slopes / y.std()).tolist(), abs=1e-10)
    assert float(similarity_explained(moments)) == pytest.approx(1 - residual[0] / (y**2).sum(), abs=1e-10)


def test_agreement_is_the_rank_correlation_of_a_loop() -> None:
    query, gallery = noisy()
    values = made()
    cosines, shared = shared_factor_table(query.tolist(), gallery.tolist(), values)
    agreement = factor_agreement(query, gallery, values).tolist()
    for query_cosines, query_shared, value in zip(cosines, shared, agreement, strict=True):
        counts = [sum(row) for row in query_shared]
        assert value == pytest.approx(rank_correlation(query_cosines, counts))
        assert value == pytest.approx(spearmanr(query_cosines, counts).statistic)


def test_an_embedding_of_one_factor_holds_and_follows_that_one_alone() -> None:
    values, fitted = made(), made(seed=9, count=400)
    rows, fitted_rows = one_hot(values[0]), one_hot(fitted[0])
    found = {
        metric.name: metric
        for metric in factor_metrics(
            rows, rows, factors(values, fitted), clusters=values[0], fitted_MD=fitted_rows
        )
    }
    assert found["holds_shape_knn"].value == found["holds_shape_probe"].value == 1
    assert found["similarity_explained"].value == pytest.approx(1)
    # the cosine is 1 with the same shape and 0 with others: a standard deviation is that of the indicator
    same = np.array([[a == b for b in values[0]] for a in values[0]], dtype=float)
    within = np.concatenate(
        [np.delete(row, own) - np.delete(row, own).mean() for own, row in enumerate(same)]
    )
    assert found["similarity_by_shape"].value == pytest.approx(1 / within.std())
    for other, of in (("shade", values[1]), ("side", values[2])):
        assert found[f"similarity_by_{other}"].value == pytest.approx(0, abs=1e-9)
        assert abs(found[f"holds_{other}_probe"].value - commonest_share(of)) < 0.15
        assert found[f"holds_{other}_chance"].value == commonest_share(of)
    assert "factor_agreement" in found


def test_factors_together_order_as_they_are_counted() -> None:
    values = made()
    rows = torch.cat([one_hot(of) for of in values], dim=1)
    assert factor_agreement(rows, rows, values).tolist() == pytest.approx([1.0] * N)
    moments = similarity_moments(rows, rows, values)
    assert float(similarity_explained(moments)) == pytest.approx(1)
    slopes = similarity_slopes(moments)
    assert slopes.tolist() == pytest.approx([float(slopes[0])] * 3)  # each adds a third to the cosine


def test_nothing_depends_on_rotation_scale_order_or_what_moves_all_scores_of_a_query() -> None:
    query, gallery = noisy()
    values = made()
    names = factors(values)
    rotation, _ = torch.linalg.qr(
        torch.randn(7, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    )
    order = torch.randperm(N, generator=torch.Generator().manual_seed(3))
    shuffled = factors([[of[place] for place in order] for of in values])

    def measured(first: torch.Tensor, second: torch.Tensor, known: dict[str, Factor]) -> list[float]:
        return [
            metric.value for metric in factor_metrics(first, second, known, clusters=known["shape"].values)
        ]

    plain = measured(query, gallery, names)
    assert measured(3 * query @ rotation, gallery @ rotation, names) == pytest.approx(plain)
    assert measured(query[order], gallery[order], shuffled) == pytest.approx(plain)


def test_a_probe_finds_what_is_linear_and_nothing_in_noise() -> None:
    values, fitted = made(count=200), made(seed=5, count=500)
    mixing = torch.randn(5, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    noise = torch.randn(500, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    linear = held_linearly(one_hot(fitted[0]) @ mixing, fitted[0], one_hot(values[0]) @ mixing, values[0])
    assert float(linear.mean()) == 1
    nothing = held_linearly(noise, fitted[0], noise[:200].flip(0), values[0])
    assert abs(float(nothing.mean()) - 0.2) < 0.1


def test_intervals_are_over_classes_of_queries_and_absent_with_one() -> None:
    query, gallery = noisy()
    values = made()
    for metric in factor_metrics(query, gallery, factors(values), clusters=values[0]):
        if metric.name.endswith("_chance"):
            assert metric.low is None
        else:
            assert metric.low is not None
            assert metric.high is not None
            assert metric.low <= metric.value <= metric.high
    alone = factor_metrics(query, gallery, factors(values), clusters=["one"] * N)
    assert {metric.low for metric in alone} == {None}


def test_what_cannot_be_measured_is_left_out_and_named() -> None:
    values = [("a",) * N, tuple(map(str, range(N))), made()[2]]
    known = factors(values, (("a",), ("0",), ("l",)))
    reasons = unmeasured(known, probed=True)
    assert reasons["shape"] == "all images have one value of it, 'a'"
    assert reasons["shade"] == "no two images share a value of it"
    assert "1 of 2 values" in reasons["holds_side_probe"]
    assert not {"holds_side_probe"} & set(unmeasured(known, probed=False))
    query, gallery = noisy()
    names = {
        metric.name
        for metric in factor_metrics(query, gallery, known, clusters=values[2], fitted_MD=query[:1])
    }
    assert names == {"holds_side_knn", "holds_side_chance", "similarity_by_side", "similarity_explained"}


def test_equal_rows_follow_nothing() -> None:
    rows = torch.ones(N, 3, dtype=torch.float64)
    names = {metric.name for metric in factor_metrics(rows, rows, factors(made()), clusters=made()[0])}
    assert not any(name.startswith("similarity") or name == "factor_agreement" for name in names)
    assert all(math.isnan(value) for value in factor_agreement(rows, rows, made()).tolist())


def test_bad_input_is_named() -> None:
    query, gallery = noisy()
    with pytest.raises(InputError, match="59 for 60"):
        held_by_neighbours(query, gallery, ["a"] * 59)
    with pytest.raises(InputError, match="k=60 neighbours among 59"):
        held_by_neighbours(query, gallery, ["a"] * 60, k=60)
    with pytest.raises(InputError, match="two values"):
        held_linearly(query, ["a"] * N, gallery, ["a"] * N)
    with pytest.raises(InputError, match="59 for 60 fitted"):
        held_linearly(query, ["a"] * 59, gallery, ["a"] * N)
    with pytest.raises(InputError, match="three images"):
        list(factor_metrics(query[:2], gallery[:2], {}, clusters=["a", "b"]))
