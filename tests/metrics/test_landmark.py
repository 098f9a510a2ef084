from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crossgap.errors import InputError
from crossgap.metrics.landmark import capped_precision, trapezoidal_ap
from crossgap.metrics.relevance import Relevance
from crossgap.metrics.retrieval import retrieval_metrics
from tests.reference_metrics import orders_of, plain_trapezoidal_ap, released_precisions

KINDS = ("easy", "hard", "junk", "wrong")


def test_trapezoids_by_hand() -> None:
    # junk first: it takes no rank. Hits at ranks 1 and 3: (1 + 1)/2 and (1/2 + 2/3)/2
    scores_QG = torch.tensor([[0.9, 0.8, 0.7, 0.6, 0.5]])
    relevance = Relevance(
        torch.tensor([[False, True, False, True, False]]), torch.tensor([[True, False, False, False, False]])
    )
    value = trapezoidal_ap(scores_QG, relevance)
    assert value.tolist() == pytest.approx([(1 + 7 / 12) / 2])
    assert value.dtype == torch.float64
    # the step AP of the same list is another number
    assert retrieval_metrics(scores_QG, relevance)["mAP"].item() == pytest.approx((1 + 2 / 3) / 2)


@pytest.mark.parametrize("rank, expected", [(1, 1.0), (2, 1 / 4), (3, 1 / 6), (10, 1 / 20)])
def test_one_relevant_item_at_a_rank(rank: int, expected: float) -> None:
    relevant_QG = (torch.arange(1, 12) == rank)[None]
    value = trapezoidal_ap(-torch.arange(11.0)[None], Relevance(relevant_QG, torch.zeros_like(relevant_QG)))
    assert value.item() == pytest.approx(expected)


LIST = st.lists(
    st.tuples(st.integers(-1, 1), st.sampled_from(["relevant", "other", "ignored"])), min_size=1, max_size=6
)


@given(LIST)
def test_ties_equal_the_mean_over_all_orders(items: list[tuple[int, str]]) -> None:
    scores = [float(score) for score, _ in items]
    relevant, ignored = ([kind == name for _, kind in items] for name in ("relevant", "ignored"))
    found = trapezoidal_ap(
        torch.tensor([scores]), Relevance(torch.tensor([relevant]), torch.tensor([ignored]))
    )
    expected = plain_trapezoidal_ap(scores, relevant, ignored)
    assert found.item() == pytest.approx(expected, abs=1e-12, nan_ok=True)
    assert math.isnan(expected) or 0 <= found.item() <= 1


def test_precision_stops_at_the_last_relevant_item() -> None:
    # junk first; hits at ranks 1 and 3 of what is left
    scores_QG = torch.tensor([[0.9, 0.8, 0.7, 0.6, 0.5, 0.4]])
    relevant_QG = torch.tensor([[False, True, False, True, False, False]])
    ignored_QG = torch.tensor([[True, False, False, False, False, False]])
    found = {
        k: capped_precision(scores_QG, Relevance(relevant_QG, ignored_QG), k=k).item() for k in (1, 2, 3, 10)
    }
    assert found == pytest.approx({1: 1, 2: 1 / 2, 3: 2 / 3, 10: 2 / 3})
    none = Relevance(torch.zeros_like(relevant_QG), ignored_QG)
    assert math.isnan(capped_precision(scores_QG, none, k=5).item())
    with pytest.raises(InputError, match="k=0"):
        capped_precision(scores_QG, none, k=0)


@given(LIST, st.integers(1, 8))
def test_precision_equals_the_released_form_averaged_over_orders(
    items: list[tuple[int, str]], k: int
) -> None:
    scores = [float(score) for score, _ in items]
    relevant, ignored = ([kind == name for _, kind in items] for name in ("relevant", "ignored"))
    found = capped_precision(
        torch.tensor([scores]), Relevance(torch.tensor([relevant]), torch.tensor([ignored])), k=k
    )
    ok, junk = ([item for item, is_in in enumerate(kinds) if is_in] for kinds in (relevant, ignored))
    orders = orders_of(scores, [False] * len(scores))  # the released code ranks junk among the others
    values = [released_precisions(order, ok, junk, [k])[0] for order in orders]
    assert found.item() == pytest.approx(math.fsum(values) / len(values), abs=1e-12, nan_ok=True)


def test_precision_of_long_lists_equals_the_released_form() -> None:
    generator = torch.Generator().manual_seed(0)
    scores_QG = torch.randn((40, 300), generator=generator)
    kind_QG = torch.randint(
        0, 40, (40, 300), generator=generator
    )  # some queries with fewer than ten positives
    relevance = Relevance(kind_QG < 1, kind_QG > 30)
    found = [capped_precision(scores_QG, relevance, k=k).tolist() for k in (1, 5, 10)]
    for query, of_query in enumerate(zip(*found, strict=True)):
        order = scores_QG[query].argsort(descending=True).tolist()
        masks = (relevance.relevant_QG[query], relevance.ignored_QG[query])
        ok, junk = (mask.nonzero().flatten().tolist() for mask in masks)
        assert of_query == pytest.approx(released_precisions(order, ok, junk, [1, 5, 10]), abs=1e-9)


def test_it_is_never_above_the_step_ap() -> None:
    # precision before a hit at rank r with i - 1 hits before is (i-1)/(r-1) <= i/r: only a first hit is equal
    generator = torch.Generator().manual_seed(0)
    scores_QG = torch.randn((30, 50), generator=generator)
    relevant_QG = torch.rand((30, 50), generator=generator) < 0.2
    relevance = Relevance(relevant_QG, torch.zeros_like(relevant_QG))
    step_Q = retrieval_metrics(scores_QG, relevance)["mAP"]
    assert (trapezoidal_ap(scores_QG, relevance) <= step_Q + 1e-12).all()


def test_scores_that_are_no_numbers_are_refused() -> None:
    none_QG = torch.zeros((1, 3), dtype=torch.bool)
    some_QG = torch.tensor([[False, True, False]])
    with pytest.raises(InputError, match="gallery item 2"):
        trapezoidal_ap(torch.tensor([[0.0, 0.0, math.nan]]), Relevance(some_QG, none_QG))
