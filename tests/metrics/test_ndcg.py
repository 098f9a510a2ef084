from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crossgap.errors import InputError
from crossgap.metrics import ranking
from crossgap.metrics.ndcg import ndcg
from tests.reference_metrics import plain_ndcg


def test_by_hand() -> None:
    scores_QG = torch.tensor([[0.9, 0.8, 0.7, 0.6]])
    gains_QG = torch.tensor([[1.0, 0.0, 3.0, 2.0]])
    reached = 1 + 3 / math.log2(4) + 2 / math.log2(5)
    ideal = 3 + 2 / math.log2(3) + 1 / 2
    assert ndcg(scores_QG, gains_QG, k=4).item() == pytest.approx(reached / ideal)
    assert ndcg(scores_QG, gains_QG, k=9).item() == pytest.approx(reached / ideal)
    assert ndcg(scores_QG, gains_QG, k=1).item() == pytest.approx(1 / 3)
    # the exponential form is another gain
    exponential = (1 + 7 / 2 + 3 / math.log2(5)) / (7 + 3 / math.log2(3) + 1 / 2)
    assert ndcg(scores_QG, 2**gains_QG - 1, k=4).item() == pytest.approx(exponential)
    ignored_QG = torch.tensor([[False, False, True, False]])
    value = ndcg(scores_QG, gains_QG, k=4, ignored_QG=ignored_QG)
    assert value.item() == pytest.approx((1 + 2 / 2) / (2 + 1 / math.log2(3)))
    assert value.dtype == torch.float64


ITEM = st.tuples(st.integers(-1, 1), st.integers(0, 3), st.booleans())


@given(st.lists(ITEM, min_size=1, max_size=6), st.integers(1, 7))
def test_ties_equal_the_mean_over_all_orders(items: list[tuple[int, int, bool]], k: int) -> None:
    scores, gains, ignored = (list(column) for column in zip(*items, strict=True))
    found = ndcg(
        torch.tensor([scores]).double() / 4, torch.tensor([gains]), k=k, ignored_QG=torch.tensor([ignored])
    )
    expected = plain_ndcg(scores, gains, ignored, k)
    assert found.item() == pytest.approx(expected, abs=1e-12, nan_ok=True)
    assert math.isnan(expected) or 0 <= found.item() <= 1 + 1e-12


def test_block_size_and_order_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    scores_QG = torch.randint(6, (12, 40), generator=generator).double() - 3
    gains_QG = torch.randint(4, (12, 40), generator=generator)
    found_Q = ndcg(scores_QG, gains_QG, k=10)
    order_G = torch.randperm(40, generator=generator)
    torch.testing.assert_close(ndcg(scores_QG[:, order_G], gains_QG[:, order_G], k=10), found_Q)
    monkeypatch.setattr(ranking, "_BLOCK", 100)
    assert torch.equal(ndcg(scores_QG, gains_QG, k=10), found_Q)


def test_a_query_without_gain_has_no_value_and_bad_gains_are_named() -> None:
    assert math.isnan(ndcg(torch.zeros((1, 3)), torch.zeros((1, 3)), k=2).item())
    assert ndcg(torch.zeros((2, 0)), torch.zeros((2, 0)), k=2).isnan().all()
    for gain in (-1.0, math.nan, math.inf):
        with pytest.raises(InputError, match=r"gain of gallery item 1 for query 0"):
            ndcg(torch.zeros((1, 2)), torch.tensor([[0.0, gain]]), k=2)
    with pytest.raises(InputError, match="k=0"):
        ndcg(torch.zeros((1, 2)), torch.zeros((1, 2)), k=0)
    with pytest.raises(InputError, match="one gain"):
        ndcg(torch.zeros((1, 2)), torch.zeros((1, 3)), k=1)
    with pytest.raises(InputError, match="finite scores"):
        ndcg(torch.tensor([[math.nan, 0]]), torch.zeros((1, 2)), k=1)
