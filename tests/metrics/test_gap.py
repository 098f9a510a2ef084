from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from crossgap.errors import InputError
from crossgap.metrics.gap import (
    centre_angle,
    centroid_distance,
    centroid_uniformity,
    linear_separability,
    mean_pair_cosine,
    pair_distance,
    pair_residual,
    relative_modality_gap,
    squared_centroid_distance,
)
from crossgap.metrics.misalignment import uniformity
from crossgap.metrics.separability import modality_probe
from tests.reference import plain_cross_uniformity
from tests.reference_metrics import released_relative_modality_gap

SMOOTH = [
    centroid_distance,
    squared_centroid_distance,
    centre_angle,
    mean_pair_cosine,
    pair_distance,
    pair_residual,
    relative_modality_gap,
    centroid_uniformity,
]


def unit(degrees: list[float]) -> Tensor:
    """Give unit vectors in the plane by their angle."""
    angle_B = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack([angle_B.cos(), angle_B.sin()], dim=1)


def clouds(n: int = 12, dim: int = 6, seed: int = 0, offset: float = 1.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    both = torch.randn((2, n, dim), generator=generator, dtype=torch.float64)
    both[0, :, 0] += offset
    both[1, :, 1] += offset
    image_BD, text_BD = both / both.norm(dim=2, keepdim=True)
    return image_BD, text_BD


# rows by angle: images 0, 60, 120 with their texts at 60, 120, 180
THREE = unit([0, 60, 120]), unit([60, 120, 180])


def test_three_pairs_worked_out_by_hand() -> None:
    image_BD, text_BD = THREE
    # centres: both (two directions of 60 around the middle one) of length (1 + 2 cos 60) / 3 = 2/3, 60 apart
    assert centroid_distance(image_BD, text_BD).item() == pytest.approx(2 / 3)
    assert squared_centroid_distance(image_BD, text_BD).item() == pytest.approx(4 / 9)
    assert centre_angle(image_BD, text_BD).item() == pytest.approx(60)
    assert mean_pair_cosine(image_BD, text_BD).item() == pytest.approx(0.5)
    assert pair_distance(image_BD, text_BD).item() == pytest.approx(1.0)
    assert pair_residual(image_BD, text_BD).item() == pytest.approx(5 / 9)
    # D within a pair: (1 - 1/2)/2 = 1/4; inside a modality cosines 1/2, 1/2, -1/2, mean 1/6, D = 5/12
    assert relative_modality_gap(image_BD, text_BD).item() == pytest.approx((1 / 4) / (1 / 4 + 5 / 12))
    # midpoints at 30, 90, 150: squared distances 1, 1, 3
    expected = math.log((2 * math.exp(-2) + math.exp(-6)) / 3)
    assert centroid_uniformity(image_BD, text_BD).item() == pytest.approx(expected)


def test_closed_gap() -> None:
    image_BD = THREE[0]
    for measure in (centroid_distance, squared_centroid_distance, centre_angle, pair_distance, pair_residual):
        assert measure(image_BD, image_BD).item() == 0.0
    assert mean_pair_cosine(image_BD, image_BD).item() == pytest.approx(1.0)
    axes_BD = torch.eye(3, dtype=torch.float64)  # cosines 0 between rows: D = 1/2
    assert relative_modality_gap(axes_BD, axes_BD).item() == pytest.approx(1e-3 / (1e-3 + 1 / 2))
    longer_BD = axes_BD * (1 + 1e-9)  # rounding may say that pairs are nearer than possible
    assert relative_modality_gap(longer_BD, axes_BD).item() == pytest.approx(1e-3 / (1e-3 + 1 / 2))


@pytest.mark.parametrize("matched", [2e-7, 1e-5, 5e-4, 9.9e-4, 1.1e-3])
def test_relative_gap_of_near_pairs_is_not_lifted_as_released(matched: float) -> None:
    # two images a right angle apart, each text turned by one angle: m = (1 - cos a) / 2, D = 1/2 inside
    angle = math.degrees(math.acos(1 - 2 * matched))
    image_BD, text_BD = unit([0, 90]), unit([angle, 90 + angle])
    value = relative_modality_gap(image_BD, text_BD).item()
    assert value == pytest.approx(matched / (matched + 1 / 2), rel=1e-6)
    released = released_relative_modality_gap(image_BD.tolist(), text_BD.tolist())
    assert value == pytest.approx(released, rel=1e-12)


def test_the_released_form_is_worked_out_by_hand() -> None:
    image, text = (side.tolist() for side in THREE)
    assert released_relative_modality_gap(image, text) == pytest.approx((1 / 4) / (1 / 4 + 5 / 12))
    axes = torch.eye(3).tolist()
    assert released_relative_modality_gap(axes, axes) == pytest.approx(1e-3 / (1e-3 + 1 / 2))


def test_antipodal_points_are_as_far_as_can_be() -> None:
    image_BD, text_BD = unit([90, 90]), unit([-90, -90])
    assert centroid_distance(image_BD, text_BD).item() == pytest.approx(2)
    assert centre_angle(image_BD, text_BD).item() == pytest.approx(180)
    assert mean_pair_cosine(image_BD, text_BD).item() == pytest.approx(-1)
    # nothing differs inside a modality: all of the distance is gap
    assert relative_modality_gap(image_BD, text_BD).item() == pytest.approx(1)


@pytest.mark.parametrize("offset", [0.0, 1.0, 10.0])
def test_relative_gap_equals_the_released_form(offset: float) -> None:
    image_BD, text_BD = clouds(offset=offset)
    expected = released_relative_modality_gap(image_BD.tolist(), text_BD.tolist())
    assert relative_modality_gap(image_BD, text_BD).item() == pytest.approx(expected, rel=1e-12)


def test_centroid_uniformity_equals_plain_loops() -> None:
    image_BD, text_BD = clouds()
    middle_BD = image_BD + text_BD
    middle_BD = middle_BD / middle_BD.norm(dim=1, keepdim=True)
    expected = plain_cross_uniformity(middle_BD, middle_BD, 2)
    assert centroid_uniformity(image_BD, text_BD).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("offset", [0.0, 1.0, 10.0])
def test_pair_distance_splits_into_offset_and_shape(offset: float) -> None:
    image_BD, text_BD = clouds(offset=offset)
    whole = pair_distance(image_BD, text_BD)
    torch.testing.assert_close(
        whole,
        squared_centroid_distance(image_BD, text_BD) + pair_residual(image_BD, text_BD),
        rtol=1e-13,
        atol=0,
    )
    torch.testing.assert_close(whole, 2 - 2 * mean_pair_cosine(image_BD, text_BD), rtol=1e-12, atol=0)
    torch.testing.assert_close(
        squared_centroid_distance(image_BD, text_BD), centroid_distance(image_BD, text_BD).square()
    )


def test_a_shift_of_one_modality_leaves_the_residual() -> None:
    image_BD, text_BD = clouds()
    shifted_BD = text_BD + torch.linspace(-1, 1, 6, dtype=torch.float64)
    torch.testing.assert_close(pair_residual(image_BD, shifted_BD), pair_residual(image_BD, text_BD))


@pytest.mark.parametrize("measure", SMOOTH)
def test_rotation_and_order_of_pairs_change_nothing(measure: Callable[[Tensor, Tensor], Tensor]) -> None:
    image_BD, text_BD = clouds()
    generator = torch.Generator().manual_seed(1)
    rotation_DD = torch.linalg.qr(torch.randn((6, 6), generator=generator, dtype=torch.float64)).Q
    order_B = torch.randperm(12, generator=generator)
    expected = measure(image_BD, text_BD)
    assert expected.ndim == 0
    torch.testing.assert_close(measure(image_BD @ rotation_DD, text_BD @ rotation_DD), expected)
    torch.testing.assert_close(measure(image_BD[order_B], text_BD[order_B]), expected)
    torch.testing.assert_close(measure(text_BD, image_BD), expected)


def test_pairing_matters_only_where_it_should() -> None:
    image_BD, text_BD = clouds()
    other_BD = text_BD.roll(1, dims=0)
    torch.testing.assert_close(centroid_distance(image_BD, other_BD), centroid_distance(image_BD, text_BD))
    assert not torch.isclose(mean_pair_cosine(image_BD, other_BD), mean_pair_cosine(image_BD, text_BD))
    assert not torch.isclose(
        relative_modality_gap(image_BD, other_BD), relative_modality_gap(image_BD, text_BD)
    )


@pytest.mark.parametrize("measure", SMOOTH)
def test_gradients(measure: Callable[[Tensor, Tensor], Tensor]) -> None:
    image_BD, text_BD = (side_BD.requires_grad_() for side_BD in clouds(n=5, dim=4))
    assert torch.autograd.gradcheck(measure, (image_BD, text_BD))


@pytest.mark.parametrize("measure", SMOOTH)
def test_gradients_stay_finite_when_the_gap_is_closed(measure: Callable[[Tensor, Tensor], Tensor]) -> None:
    image_BD = clouds(n=5, dim=4)[0].requires_grad_()
    text_BD = image_BD.detach().clone().requires_grad_()
    measure(image_BD, text_BD).backward()
    assert image_BD.grad is not None
    assert torch.isfinite(image_BD.grad).all()


def test_a_step_down_the_penalty_lowers_the_metric() -> None:
    image_BD, text_BD = (side_BD.requires_grad_() for side_BD in clouds())
    squared_centroid_distance(image_BD, text_BD).backward()
    assert image_BD.grad is not None
    moved_BD = image_BD.detach() - image_BD.grad
    assert centroid_distance(moved_BD, text_BD) < centroid_distance(image_BD, text_BD)


def test_centroid_uniformity_of_a_closed_gap_is_uniformity() -> None:
    image_BD = clouds()[0]
    torch.testing.assert_close(centroid_uniformity(image_BD, image_BD), uniformity(image_BD))


def test_sides_of_different_length_have_centres_but_no_pairs() -> None:
    image_BD, text_BD = unit([0, 0, 0]), unit([90])
    assert centroid_distance(image_BD, text_BD).item() == pytest.approx(math.sqrt(2))
    assert centre_angle(image_BD, text_BD).item() == pytest.approx(90)
    for measure in (
        mean_pair_cosine,
        pair_distance,
        pair_residual,
        relative_modality_gap,
        centroid_uniformity,
    ):
        with pytest.raises(InputError, match="as many rows"):
            measure(image_BD, text_BD)


def test_centre_angle_is_exact_where_arccos_is_not() -> None:
    tiny = 1e-6
    assert centre_angle(unit([10.0]), unit([10.0 + tiny])).item() == pytest.approx(tiny, rel=1e-6)
    assert math.isnan(
        centre_angle(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), torch.tensor([[0.0, 1.0]])).item()
    )


def test_too_few_rows_are_refused() -> None:
    for measure in (relative_modality_gap, centroid_uniformity):
        with pytest.raises(InputError, match="two"):
            measure(unit([0]), unit([90]))
    with pytest.raises(InputError, match="at least one row"):
        centroid_distance(unit([]), unit([90]))
    with pytest.raises(InputError, match="five pairs, got 4"):
        linear_separability(unit([0, 1, 2, 3]), unit([4, 5, 6, 7]), seed=0)


def test_disjoint_cones_are_separable_and_mixed_clouds_are_not() -> None:
    disjoint = linear_separability(*clouds(n=300, dim=8, offset=20.0), seed=0)
    assert disjoint.dtype == torch.float64
    assert disjoint.ndim == 0
    assert disjoint.item() == 1.0
    mixed = linear_separability(*clouds(n=3000, dim=8, offset=0.0), seed=0).item()
    assert abs(mixed - 0.5) < 4 * 0.5 / math.sqrt(1200)
    partly = linear_separability(*clouds(n=3000, dim=8, offset=0.6), seed=0).item()
    assert 0.6 < partly < 0.9


def test_separability_of_a_closed_gap_is_a_coin_toss() -> None:
    # partners stay on one side of the split: whatever is guessed, one of the two copies is right
    image_BD = clouds(n=50, dim=40)[0]
    assert linear_separability(image_BD, image_BD, seed=3).item() == 0.5


def test_separability_found_in_one_weak_direction() -> None:
    # two features are enough to separate CLIP; an offset far smaller than the spread must be found as well
    generator = torch.Generator().manual_seed(0)
    image_BD, text_BD = torch.randn((2, 2000, 8), generator=generator, dtype=torch.float64)
    image_BD[:, 0], text_BD[:, 0] = 0.3, -0.3
    assert linear_separability(image_BD, text_BD, seed=0).item() == 1.0


def test_separability_depends_on_the_seed_alone() -> None:
    image_BD, text_BD = clouds(n=200, offset=0.5)
    first = linear_separability(image_BD, text_BD, seed=0)
    torch.manual_seed(99)
    state = torch.get_rng_state()
    assert linear_separability(image_BD, text_BD, seed=0) == first
    assert torch.equal(torch.get_rng_state(), state)
    values = {linear_separability(image_BD, text_BD, seed=seed).item() for seed in range(5)}
    assert len(values) > 1


def test_separability_ignores_scale_and_rotation() -> None:
    image_BD, text_BD = clouds(n=300, offset=0.6)
    generator = torch.Generator().manual_seed(1)
    rotation_DD = torch.linalg.qr(torch.randn((6, 6), generator=generator, dtype=torch.float64)).Q
    expected = linear_separability(image_BD, text_BD, seed=0).item()
    assert linear_separability(image_BD * 1e-3, text_BD * 1e-3, seed=0).item() == expected
    turned = linear_separability(image_BD @ rotation_DD, text_BD @ rotation_DD, seed=0).item()
    assert turned == pytest.approx(expected, abs=0.01)


def test_separability_of_collapsed_and_broken_embeddings() -> None:
    same_BD = torch.ones((10, 3))
    assert linear_separability(same_BD, same_BD, seed=0).item() == 0.5
    broken_BD = same_BD.clone()
    broken_BD[3, 1] = torch.nan
    with pytest.raises(InputError, match="finite"):
        linear_separability(same_BD, broken_BD, seed=0)


def test_the_margin_goes_on_growing_where_accuracy_stands_still() -> None:
    probes = [modality_probe(*clouds(n=300, dim=8, offset=offset), seed=0) for offset in (0, 5, 8, 20)]
    assert probes[0].accuracy.item() == pytest.approx(0.5, abs=0.15)
    assert probes[0].auc.item() == pytest.approx(0.5, abs=0.15)
    assert [probe.accuracy.item() for probe in probes[2:]] == [1, 1]
    assert [probe.auc.item() for probe in probes[2:]] == [1, 1]
    margins = [probe.margin.item() for probe in probes]
    assert margins == sorted(margins)
    assert abs(margins[0]) < 0.3 < margins[-1]


def test_a_probe_of_few_features_takes_those_that_differ() -> None:
    generator = torch.Generator().manual_seed(0)
    image_BD, text_BD = torch.randn((2, 400, 20), generator=generator, dtype=torch.float64)
    image_BD[:, 7], text_BD[:, 7] = 9, -9
    assert modality_probe(image_BD, text_BD, seed=0, num_features=1).accuracy.item() == 1
    # a gap spread over all features is little of a gap in any of them
    spread = [side_BD[:, :7] + move for side_BD, move in ((image_BD, 0.5), (text_BD, -0.5))]
    assert modality_probe(*spread, seed=0, num_features=1).auc < modality_probe(*spread, seed=0).auc - 0.1
    same_BD = torch.ones((10, 3))
    assert modality_probe(same_BD, same_BD, seed=0) == (0.5, 0.5, 0)
    for num_features in (0, 7):
        with pytest.raises(InputError, match=f"{num_features=} must lie between 1 and the width 6"):
            modality_probe(*clouds(), seed=0, num_features=num_features)
