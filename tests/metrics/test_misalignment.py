from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from torch import Tensor

from crossgap.errors import InputError
from crossgap.metrics.misalignment import (
    alignment,
    cross_uniformity,
    same_other_auc,
    same_other_overlap,
    uniformity,
)
from crossgap.metrics.relevance import Relevance
from tests.reference import plain_alignment, plain_auc, plain_cross_uniformity
from tests.reference_metrics import plain_d_prime, plain_overlap


def unit_rows(n: int = 9, dim: int = 5, seed: int = 0) -> Tensor:
    x_BD = torch.randn((n, dim), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x_BD / x_BD.norm(dim=1, keepdim=True)


def judged(relevant: list[list[int]], ignored: list[list[int]] | None = None) -> Relevance:
    relevant_QG = torch.tensor(relevant).bool()
    return Relevance(
        relevant_QG, torch.zeros_like(relevant_QG) if ignored is None else torch.tensor(ignored).bool()
    )


def test_auc_by_hand_with_a_tie_and_an_ignored_pair() -> None:
    scores_QG = torch.tensor([[0.9, 0.5, 0.5], [-0.2, 99.0, -0.3]])
    relevance = judged([[1, 1, 0], [1, 0, 0]], [[0, 0, 0], [0, 1, 0]])
    # same: .9 .5 -.2; other: .5 -.3; wins: .9 twice, .5 once and a half, -.2 once
    auc = same_other_auc(scores_QG, relevance)
    assert auc.item() == (2 + 1.5 + 1) / 6
    assert auc.ndim == 0
    assert auc.dtype == torch.float64


PAIR = st.tuples(st.integers(-3, 3), st.sampled_from(["same", "other", "ignored"]))


@given(st.lists(PAIR, min_size=1, max_size=40))
def test_auc_equals_plain_loops_and_scikit_learn(pairs: list[tuple[int, str]]) -> None:
    same = [score for score, kind in pairs if kind == "same"]
    other = [score for score, kind in pairs if kind == "other"]
    scores_QG = torch.tensor([[score for score, _ in pairs]]).double() / 8
    relevance = judged([[kind == "same" for _, kind in pairs]], [[kind == "ignored" for _, kind in pairs]])
    if not same or not other:
        with pytest.raises(InputError, match="pairs of two kinds"):
            same_other_auc(scores_QG, relevance)
        return
    auc = same_other_auc(scores_QG, relevance).item()
    assert auc == pytest.approx(plain_auc(same, other), abs=1e-14)
    assert auc == pytest.approx(roc_auc_score([1] * len(same) + [0] * len(other), same + other), abs=1e-12)


def test_auc_ignores_order_and_increasing_maps_and_mirrors_under_negation() -> None:
    generator = torch.Generator().manual_seed(0)
    scores_QG = torch.randint(-9, 9, (20, 30), generator=generator).double() / 10
    kind_QG = torch.randint(3, (20, 30), generator=generator)
    relevance = Relevance(kind_QG == 0, kind_QG == 1)
    auc = same_other_auc(scores_QG, relevance).item()
    order_Q, order_G = torch.randperm(20, generator=generator), torch.randperm(30, generator=generator)
    shuffled = Relevance(
        relevance.relevant_QG[order_Q][:, order_G], relevance.ignored_QG[order_Q][:, order_G]
    )
    assert same_other_auc(scores_QG[order_Q][:, order_G], shuffled).item() == auc
    assert same_other_auc(scores_QG.exp(), relevance).item() == auc
    assert same_other_auc(-scores_QG, relevance).item() == pytest.approx(1 - auc, abs=1e-14)
    assert same_other_auc(torch.zeros((20, 30)), relevance).item() == 0.5


def test_auc_refuses_what_it_cannot_rank() -> None:
    with pytest.raises(InputError, match="finite"):
        same_other_auc(torch.tensor([[math.nan, 0.0]]), judged([[1, 0]]))
    with pytest.raises(InputError, match="one shape"):
        same_other_auc(torch.zeros((1, 3)), judged([[1, 0]]))


def test_alignment_closed_forms() -> None:
    x_BD = torch.eye(4, dtype=torch.float64)
    assert alignment(x_BD, x_BD).item() == 0
    assert alignment(x_BD, -x_BD).item() == 4
    assert alignment(x_BD, -x_BD, alpha=1).item() == 2
    assert alignment(x_BD, x_BD.roll(1, dims=0)).item() == pytest.approx(2)


def test_uniformity_closed_forms() -> None:
    same_BD = torch.ones((6, 4), dtype=torch.float64) / 2
    assert uniformity(same_BD).item() == pytest.approx(0, abs=1e-12)
    # orthogonal rows: every squared distance is 2
    assert uniformity(torch.eye(5, dtype=torch.float64)).item() == pytest.approx(-4)
    assert uniformity(torch.eye(5, dtype=torch.float64), t=0.5).item() == pytest.approx(-1)
    # an antipodal pair: squared distance 4
    assert uniformity(torch.tensor([[0.0, 1.0], [0.0, -1.0]])).item() == pytest.approx(-8)
    # own pairs do not count: x_k = y_k at distance 0 would raise the mean
    x_BD = torch.eye(5, dtype=torch.float64)
    assert cross_uniformity(x_BD, x_BD.clone()).item() == pytest.approx(-4)


@pytest.mark.parametrize("alpha", [1, 2, 3])
def test_alignment_equals_plain_loops(alpha: float) -> None:
    x_BD, y_BD = unit_rows(seed=0), unit_rows(seed=1)
    assert alignment(x_BD, y_BD, alpha=alpha).item() == pytest.approx(
        plain_alignment(x_BD, y_BD, alpha), rel=1e-12
    )


@pytest.mark.parametrize("t", [0.5, 2])
def test_uniformity_equals_plain_loops(t: float) -> None:
    x_BD, y_BD = unit_rows(seed=0), unit_rows(seed=1)
    assert uniformity(x_BD, t=t).item() == pytest.approx(plain_cross_uniformity(x_BD, x_BD, t), rel=1e-12)
    assert cross_uniformity(x_BD, y_BD, t=t).item() == pytest.approx(
        plain_cross_uniformity(x_BD, y_BD, t), rel=1e-12
    )


def test_rotation_and_order_of_pairs_change_nothing() -> None:
    x_BD, y_BD = unit_rows(seed=0), unit_rows(seed=1)
    rotation_DD = torch.linalg.qr(unit_rows(n=5, seed=2)).Q
    order_B = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    for measure in (alignment, cross_uniformity):
        torch.testing.assert_close(measure(x_BD @ rotation_DD, y_BD @ rotation_DD), measure(x_BD, y_BD))
        torch.testing.assert_close(measure(x_BD[order_B], y_BD[order_B]), measure(x_BD, y_BD))
        torch.testing.assert_close(measure(y_BD, x_BD), measure(x_BD, y_BD))


def test_gradients() -> None:
    x_BD, y_BD = unit_rows(n=5).requires_grad_(), unit_rows(n=5, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(alignment, (x_BD, y_BD))
    assert torch.autograd.gradcheck(uniformity, (x_BD,))
    assert torch.autograd.gradcheck(cross_uniformity, (x_BD, y_BD))


def test_gradients_stay_finite_for_rows_that_coincide() -> None:
    x_BD = torch.ones((4, 3), dtype=torch.float64, requires_grad=True)
    (alignment(x_BD, x_BD.detach()) + alignment(x_BD, x_BD.detach(), alpha=1) + uniformity(x_BD)).backward()
    assert x_BD.grad is not None
    assert torch.equal(x_BD.grad, torch.zeros_like(x_BD))


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(InputError, match="two rows, got 1"):
        uniformity(unit_rows(n=1))
    with pytest.raises(InputError, match="as many rows"):
        alignment(unit_rows(n=2), unit_rows(n=3))


def test_overlap_by_hand() -> None:
    # bins of a half between -1 and 1: same 0, 0, 1/2, 1/2; other 1/2, 1/2, 0, 0 of each four
    scores_QG = torch.tensor([[1.0, 0.6, 0.2, 0.3, -1.0, -0.9, 0.1, 0.2]])
    relevance = judged([[1, 1, 1, 1, 0, 0, 0, 0]])
    found = same_other_overlap(scores_QG, relevance, bins=4)
    assert (found.shared.item(), found.iou.item()) == pytest.approx((0.5, 1 / 3))
    apart = same_other_overlap(torch.tensor([[0.9, 0.1]]), judged([[1, 0]]))
    assert (apart.shared.item(), apart.iou.item(), apart.d_prime.item()) == (0, 0, math.inf)
    equal = same_other_overlap(torch.full((2, 3), 0.4), judged([[1, 0, 0], [0, 1, 0]]))
    assert (equal.shared.item(), equal.iou.item(), equal.d_prime.item()) == (1, 1, 0)


@given(st.lists(PAIR, min_size=1, max_size=40), st.integers(1, 8))
def test_overlap_equals_plain_loops(pairs: list[tuple[int, str]], bins: int) -> None:
    same = [score / 8 for score, kind in pairs if kind == "same"]
    other = [score / 8 for score, kind in pairs if kind == "other"]
    relevance = judged([[kind == "same" for _, kind in pairs]], [[kind == "ignored" for _, kind in pairs]])
    scores_QG = torch.tensor([[score for score, _ in pairs]]).double() / 8
    if not same or not other:
        with pytest.raises(InputError, match=f"got {len(same)} same-class and {len(other)} other-class"):
            same_other_overlap(scores_QG, relevance, bins=bins)
        return
    found = same_other_overlap(scores_QG, relevance, bins=bins)
    expected = plain_overlap(same, other, bins)
    # a score on the border of two bins may fall to either side by rounding
    low, high = min(same + other), max(same + other)
    borders = [(score - low) / max(high - low, 1e-9) * bins for score in same + other]
    if all(abs(border - round(border)) > 1e-9 or border in (0, bins) for border in borders):
        assert (found.shared.item(), found.iou.item()) == pytest.approx(expected, abs=1e-12)
    if len(set(same)) > 1 or len(set(other)) > 1:
        assert found.d_prime.item() == pytest.approx(plain_d_prime(same, other), abs=1e-9)


def test_overlap_of_two_normal_clouds() -> None:
    generator = torch.Generator().manual_seed(0)
    scores_QG = torch.randn((2, 40_000), generator=generator, dtype=torch.float64)
    scores_QG[0] += 2
    relevant_QG = torch.tensor([[True], [False]]).expand(2, 40_000)
    relevance = Relevance(relevant_QG.clone(), torch.zeros(2, 40_000, dtype=torch.bool))
    found = same_other_overlap(scores_QG, relevance)
    shared = math.erfc(1 / math.sqrt(2))  # 2 Phi(-d'/2)
    assert found.shared.item() == pytest.approx(shared, abs=0.02)
    assert found.iou.item() == pytest.approx(shared / (2 - shared), abs=0.02)
    assert found.d_prime.item() == pytest.approx(2, abs=0.03)
    moved = same_other_overlap(3 * scores_QG - 5, relevance)
    torch.testing.assert_close(moved.d_prime, found.d_prime)
    assert moved.shared.item() == pytest.approx(found.shared.item(), abs=1e-3)


def test_overlap_refuses_what_it_cannot_count() -> None:
    with pytest.raises(InputError, match="bins=0"):
        same_other_overlap(torch.zeros((1, 2)), judged([[1, 0]]), bins=0)
    with pytest.raises(InputError, match="finite"):
        same_other_overlap(torch.tensor([[math.nan, 0.0]]), judged([[1, 0]]))
