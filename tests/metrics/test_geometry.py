"""CKA, spectrum, recoverability and clustering: the shape of a space in a few numbers."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from sklearn.metrics import normalized_mutual_info_score
from torch import Tensor

from crossgap.errors import InputError
from crossgap.metrics.clustering import group_clustering
from crossgap.metrics.kernel_alignment import linear_cka
from crossgap.metrics.recoverability import recoverability
from crossgap.metrics.spectrum import effective_rank, participation_ratio
from tests.reference_metrics import (
    plain_adjusted_rand,
    plain_cka,
    plain_homogeneity,
    plain_unbiased_cka,
    plain_v_measure,
    released_nmi,
)


def normal(n: int, dim: int, seed: int = 0) -> Tensor:
    return torch.randn((n, dim), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unit(values_ND: Tensor) -> Tensor:
    return values_ND / values_ND.norm(dim=1, keepdim=True)


@settings(max_examples=15)
@given(st.integers(0, 10_000), st.integers(4, 6), st.integers(1, 4), st.integers(1, 4))
def test_cka_equals_plain_loops(seed: int, n: int, dim: int, other: int) -> None:
    x_ND, y_NE = normal(n, dim, seed), normal(n, other, seed + 1)
    expected = plain_cka(x_ND.tolist(), y_NE.tolist())
    assert linear_cka(x_ND, y_NE, unbiased=False).item() == pytest.approx(expected, rel=1e-9)
    expected = plain_unbiased_cka(x_ND.tolist(), y_NE.tolist())
    assert linear_cka(x_ND, y_NE).item() == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("unbiased", [True, False])
def test_cka_ignores_rotation_scale_offset_and_order(unbiased: bool) -> None:
    x_ND, y_NE = normal(30, 5), normal(30, 8, seed=1)
    value = linear_cka(x_ND, y_NE, unbiased=unbiased)
    turn_DD = torch.linalg.qr(normal(5, 5, seed=2)).Q
    order_N = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(linear_cka(3 * x_ND @ turn_DD + 7, y_NE, unbiased=unbiased), value)
    torch.testing.assert_close(linear_cka(x_ND[order_N], y_NE[order_N], unbiased=unbiased), value)
    torch.testing.assert_close(linear_cka(y_NE, x_ND, unbiased=unbiased), value)
    assert linear_cka(x_ND, -2 * x_ND @ turn_DD, unbiased=unbiased).item() == pytest.approx(1)


def test_only_the_unbiased_form_is_zero_for_unrelated_wide_spaces() -> None:
    unbiased = [linear_cka(normal(40, 200, seed), normal(40, 200, seed + 100)).item() for seed in range(20)]
    biased = [
        linear_cka(normal(40, 200, seed), normal(40, 200, seed + 100), unbiased=False).item()
        for seed in range(20)
    ]
    mean = sum(unbiased) / 20
    error = math.sqrt(sum((value - mean) ** 2 for value in unbiased) / 19 / 20)
    assert abs(mean) < 4 * error
    assert min(biased) > 0.7


def test_cka_has_gradients_and_refuses_what_does_not_vary() -> None:
    x_ND, y_NE = normal(6, 3).requires_grad_(), normal(6, 2, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(linear_cka, (x_ND, y_NE))
    with pytest.raises(InputError, match="the second space do not vary"):
        linear_cka(normal(6, 3), torch.ones(6, 3))
    with pytest.raises(InputError, match="do not vary, or are not finite"):
        linear_cka(torch.full((6, 3), math.nan), normal(6, 3))
    with pytest.raises(InputError, match="unbiased four; got 3"):
        linear_cka(normal(3, 3), normal(3, 3))
    with pytest.raises(InputError, match="the same items"):
        linear_cka(normal(6, 3), normal(5, 3))


def axes(spreads: list[float]) -> Tensor:
    """Give rows at plus and minus each axis, so that the variances are the squared spreads."""
    points_RD = torch.diag(torch.tensor(spreads, dtype=torch.float64))
    return torch.cat([points_RD, -points_RD])


def test_ranks_by_hand() -> None:
    for measure in (effective_rank, participation_ratio):
        assert measure(axes([1, 1, 1, 1])).item() == pytest.approx(4)
        assert measure(axes([1, 0, 0])).item() == pytest.approx(1)
        assert measure(torch.ones(5, 3)).item() == 0
        assert measure(torch.full((5, 3), 0.1)).item() == 0  # a mean that rounds is no variation
    # shares 4/5 and 1/5
    assert participation_ratio(axes([2, 1])).item() == pytest.approx(25 / 17)
    entropy = -(0.8 * math.log(0.8) + 0.2 * math.log(0.2))
    assert effective_rank(axes([2, 1])).item() == pytest.approx(math.exp(entropy))


@pytest.mark.parametrize("measure", [effective_rank, participation_ratio])
def test_ranks_ignore_rotation_scale_and_offset_and_have_gradients(
    measure: Callable[[Tensor], Tensor],
) -> None:
    x_ND = normal(20, 5) * torch.tensor([3.0, 2, 1, 1, 0.1])
    turn_DD = torch.linalg.qr(normal(5, 5, seed=2)).Q
    torch.testing.assert_close(measure(9 * x_ND @ turn_DD - 4), measure(x_ND))
    assert 1 < participation_ratio(x_ND) < effective_rank(x_ND) < 5
    # fewer rows than directions: the smaller Gram matrix has the same eigenvalues
    torch.testing.assert_close(measure(torch.cat([x_ND[:4], torch.zeros(4, 9)], 1)), measure(x_ND[:4]))
    assert torch.autograd.gradcheck(measure, (normal(6, 3).requires_grad_(),))
    with pytest.raises(InputError, match="two rows"):
        measure(x_ND[:1])
    with pytest.raises(InputError, match="finite"):
        measure(torch.full((3, 2), math.inf))


def test_similarities_are_recovered_exactly_from_enough_anchors_without_noise() -> None:
    image_ND, text_MD = unit(normal(40, 6)), unit(normal(50, 6, seed=1))
    found = recoverability(image_ND, text_MD, noise=0, seed=0)
    assert found.relative_error.item() < 1e-9
    few = recoverability(image_ND, text_MD, noise=0, seed=0, num_anchors=4)
    assert few.relative_error.item() > 0.1
    assert few.condition.item() == math.inf
    more = recoverability(image_ND, text_MD, noise=0, seed=0, num_anchors=50)
    assert more.condition.item() == pytest.approx(
        float(torch.linalg.cond(text_MD[torch.randperm(50, generator=torch.Generator().manual_seed(0))]))
    )


def test_the_error_is_that_of_the_whole_matrix() -> None:
    image_ND, text_MD = unit(normal(12, 4)), unit(normal(9, 4, seed=1))
    found = recoverability(image_ND, text_MD, noise=0.05, seed=3, num_anchors=6)
    generator = torch.Generator().manual_seed(3)
    anchor_JD = text_MD[torch.randperm(9, generator=generator)[:6]]
    noise_JN = torch.randn((6, 12), generator=generator, dtype=torch.float64)
    seen_JN = anchor_JD @ image_ND.T + 0.05 * noise_JN
    rebuilt_ND = torch.linalg.lstsq(anchor_JD, seen_JN).solution.T
    error = (rebuilt_ND @ rebuilt_ND.T - image_ND @ image_ND.T).norm() / (image_ND @ image_ND.T).norm()
    torch.testing.assert_close(found.relative_error, error)


def test_noise_hurts_more_where_anchors_are_narrow() -> None:
    image_ND, wide_MD = unit(normal(60, 6)), unit(normal(60, 6, seed=1))
    narrow_MD = unit(wide_MD * torch.tensor([1, 1, 1, 1, 0.05, 0.05]))
    errors = [
        recoverability(image_ND, wide_MD, noise=noise, seed=0, num_anchors=30).relative_error.item()
        for noise in (0.01, 0.05, 0.2)
    ]
    assert errors == sorted(errors)
    wide, narrow = (
        recoverability(image_ND, side, noise=0.05, seed=0, num_anchors=30) for side in (wide_MD, narrow_MD)
    )
    assert narrow.condition > 5 * wide.condition
    assert narrow.relative_error > 5 * wide.relative_error


def test_recoverability_refuses_what_it_cannot_use() -> None:
    image_ND, text_MD = unit(normal(5, 3)), unit(normal(4, 3))
    for arguments, message in (
        ({"noise": -1}, "noise=-1"),
        ({"noise": 0, "num_anchors": 5}, "num_anchors=5 must lie between 1 and the number of texts, 4"),
    ):
        with pytest.raises(InputError, match=message):
            recoverability(image_ND, text_MD, seed=0, **arguments)
    with pytest.raises(InputError, match="finite"):
        recoverability(image_ND * math.nan, text_MD, noise=0, seed=0)
    with pytest.raises(InputError, match="directions"):
        recoverability(image_ND[:0], text_MD, noise=0, seed=0)


def grouped(gap: float, spread: float = 0.05) -> tuple[Tensor, Tensor, list[str]]:
    """Give two modalities of three tight classes; ``gap`` moves them apart along an axis of its own."""
    labels = [str(k % 3) for k in range(30)]
    centre_ND = torch.eye(5, dtype=torch.float64)[torch.arange(30) % 3]
    image_ND, text_ND = (centre_ND + spread * normal(30, 5, seed) for seed in (1, 2))
    image_ND[:, 3] += gap
    text_ND[:, 3] -= gap
    return unit(image_ND), unit(text_ND), labels


def test_clusters_are_classes_without_a_gap_and_modalities_with_a_wide_one() -> None:
    image_ND, text_ND, labels = grouped(0)
    closed = group_clustering(image_ND, text_ND, image_labels=labels, text_labels=labels, seed=0)
    assert closed == pytest.approx((1, 1, 1, 0), abs=1e-9)
    image_ND, text_ND, labels = grouped(5)
    wide = group_clustering(
        image_ND, text_ND, image_labels=labels, text_labels=labels, seed=0, num_clusters=2
    )
    assert wide == pytest.approx((0, 0, 0, 1), abs=0.05)


@settings(max_examples=20)
@given(st.lists(st.sampled_from("abc"), min_size=4, max_size=9).filter(lambda names: len(set(names)) > 1))
def test_clustering_scores_equal_plain_loops(labels: list[str]) -> None:
    both_ND = unit(normal(2 * len(labels), 3, seed=len(labels)))
    image_ND, text_ND = both_ND[: len(labels)], both_ND[len(labels) :]
    found = group_clustering(
        image_ND, text_ND, image_labels=labels, text_labels=labels, seed=0, num_clusters=3
    )
    clusters = KMeans(3, n_init=4, random_state=0).fit(both_ND.numpy()).labels_.tolist()
    assert found.v_measure == pytest.approx(plain_v_measure(labels * 2, clusters), abs=1e-9)
    assert found.homogeneity == pytest.approx(plain_homogeneity(labels * 2, clusters), abs=1e-9)
    assert found.adjusted_rand == pytest.approx(plain_adjusted_rand(labels * 2, clusters), abs=1e-9)
    assert found.modality_v_measure == pytest.approx(
        plain_v_measure(["image"] * len(labels) + ["text"] * len(labels), clusters), abs=1e-9
    )


def test_v_measure_is_the_released_nmi() -> None:
    labels = list("aabbcccab")
    both_ND = unit(normal(2 * len(labels), 3, seed=1))
    found = group_clustering(*both_ND.split(9), image_labels=labels, text_labels=labels, seed=0)
    clusters = KMeans(3, n_init=4, random_state=0).fit(both_ND.numpy()).labels_.tolist()
    assert 0 < found.v_measure == pytest.approx(released_nmi(labels * 2, clusters))
    assert found.v_measure == pytest.approx(normalized_mutual_info_score(labels * 2, clusters))
    # one cluster: nothing is told apart, and the single class of each cluster is no merit
    assert plain_homogeneity(labels, [0] * 9) == pytest.approx(0, abs=1e-12)
    assert plain_homogeneity(labels, range(9)) == pytest.approx(1)


def test_clustering_of_collapsed_rows_is_defined_and_odd_input_refused() -> None:
    same_ND, labels = torch.ones(4, 3), list("aabb")
    assert (
        group_clustering(same_ND, same_ND, image_labels=labels, text_labels=labels, seed=0).adjusted_rand == 0
    )
    for arguments, message in (
        ({"text_labels": ["a"]}, "one label"),
        ({"image_labels": ["a"] * 4, "text_labels": ["a"] * 4}, "there must be two, got 1"),
        ({"num_clusters": 9}, "num_clusters=9 must lie between 2 and the number of items, 8"),
    ):
        call = {"image_labels": labels, "text_labels": labels, "seed": 0, **arguments}
        with pytest.raises(InputError, match=message):
            group_clustering(same_ND, same_ND, **call)
