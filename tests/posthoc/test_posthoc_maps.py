"""Maps against scikit-learn, scipy, plain loops, closed forms and invariances."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import orthogonal_procrustes, subspace_angles
from sklearn.covariance import ShrunkCovariance
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from torch import Tensor

from crossgap.errors import InputError
from crossgap.metrics.gap import centroid_distance
from crossgap.metrics.similarity import cosine_scores
from crossgap.posthoc import (
    ISOCLIP_BANDS,
    RIDGE_STRENGTHS,
    SHARED_TOLERANCES,
    SHIFT_STRENGTHS,
    WHITENING_SHRINKAGES,
    Band,
    LinearMap,
    band_candidates,
    caption_pca,
    centring,
    class_pca,
    gap_shift,
    image_pca,
    isoclip,
    isoclip_preset,
    orthogonal_closing,
    procrustes,
    random_rotation,
    rank_candidates,
    ridge,
    shared_space,
    shuffled_targets,
    top_candidates,
    top_removal,
    whitening,
)
from tests.reference_metrics import plain_gap_shift, released_isoclip


def rows(n: int, dim: int, seed: int = 0, offset: float = 0.3) -> Tensor:
    x_ND = torch.randn((n, dim), generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + offset
    return x_ND / x_ND.norm(dim=1, keepdim=True)


def unit(values_ND: Tensor) -> Tensor:
    return values_ND / values_ND.norm(dim=1, keepdim=True)


IMAGE, TEXT = rows(40, 6, seed=1), rows(50, 6, seed=2, offset=-0.3)
PAIRED = rows(40, 6, seed=3, offset=-0.3)
WIDE_IMAGE, WIDE_TEXT = rows(6, 9, seed=4, offset=0), rows(6, 7, seed=5, offset=0)

# every map that is fitted, on rows turned by R: fit(R) -> map
FITTED: dict[str, Callable[[Tensor], LinearMap]] = {
    "shifted": lambda turn_DD: gap_shift(IMAGE @ turn_DD, TEXT @ turn_DD, strength=0.3),
    "orthogonal_closing": lambda turn_DD: orthogonal_closing(TEXT @ turn_DD, IMAGE @ turn_DD, rank=2),
    "whitened": lambda turn_DD: whitening(IMAGE @ turn_DD, shrinkage=0.1),
    "top_removed": lambda turn_DD: top_removal(IMAGE @ turn_DD, rank=2),
    "caption_pca": lambda turn_DD: caption_pca(TEXT @ turn_DD, rank=3),
    "image_pca": lambda turn_DD: image_pca(IMAGE @ turn_DD, rank=3),
    "class_pca": lambda turn_DD: class_pca(TEXT @ turn_DD, rank=3, mean_of_ND=IMAGE @ turn_DD),
    "shared_space": lambda turn_DD: shared_space(
        IMAGE @ turn_DD, TEXT @ turn_DD, variance=0.9, tolerance=0.5
    ),
    "ridge": lambda turn_DD: ridge(IMAGE @ turn_DD, PAIRED @ turn_DD, strength=0.1),
    "procrustes": lambda turn_DD: procrustes(IMAGE @ turn_DD, PAIRED @ turn_DD),
    "isoclip": lambda turn_DD: isoclip(turn_DD.T @ WIDE_IMAGE, turn_DD.T @ WIDE_TEXT, band=Band(1, 2)),
}


@pytest.mark.parametrize("name", FITTED)
def test_maps_turn_with_the_space(name: str) -> None:
    identity_DD = torch.eye(6, dtype=torch.float64)
    turn_DD = torch.linalg.qr(rows(6, 6, seed=9)).Q
    values_ND = rows(7, 6, seed=8)
    made = FITTED[name](identity_DD)
    assert made.name == name
    torch.testing.assert_close(FITTED[name](turn_DD)(values_ND @ turn_DD), made(values_ND) @ turn_DD)
    torch.testing.assert_close(made(values_ND).norm(dim=1), torch.ones(7, dtype=torch.float64))
    assert made(values_ND.float()).dtype == torch.float32
    assert made(values_ND[:0]).shape == (0, 6)


@pytest.mark.parametrize("strength", SHIFT_STRENGTHS)
def test_shift_equals_plain_loops(strength: float) -> None:
    found_ND = gap_shift(IMAGE, TEXT, strength=strength)(IMAGE)
    expected = plain_gap_shift(IMAGE.tolist(), IMAGE.tolist(), TEXT.tolist(), strength)
    torch.testing.assert_close(found_ND, torch.tensor(expected, dtype=torch.float64))


def test_half_a_shift_lets_the_centres_meet() -> None:
    moved = [
        own_ND - gap_shift(own_ND, other_ND, strength=0.5).mean_D
        for own_ND, other_ND in ((IMAGE, TEXT), (TEXT, IMAGE))
    ]
    torch.testing.assert_close(moved[0].mean(0), moved[1].mean(0))
    native = gap_shift(IMAGE, TEXT, strength=0)(IMAGE)
    torch.testing.assert_close(native, IMAGE)
    assert centroid_distance(*(unit(side_ND) for side_ND in moved)) < centroid_distance(IMAGE, TEXT) / 4


def test_orthogonal_closing_leaves_what_lies_along_the_main_directions() -> None:
    # texts vary along the first axis; the gap is (1, 2, 0): only its second part is closed
    text_ND = torch.tensor([[1.0, 1, 1], [-1, 1, 1], [0, 1, 1]], dtype=torch.float64) + torch.tensor(
        [1.0, 0, 0]
    )
    image_ND = torch.tensor([[0.0, -1, 1]], dtype=torch.float64)
    closing = orthogonal_closing(text_ND, image_ND, rank=1)
    torch.testing.assert_close(closing.mean_D, torch.tensor([0.0, 2, 0], dtype=torch.float64))
    torch.testing.assert_close(closing(text_ND), unit(text_ND - torch.tensor([0.0, 2, 0])))
    wider = orthogonal_closing(text_ND, image_ND, rank=1, alpha=0.5)
    torch.testing.assert_close(wider.mean_D, torch.tensor([0.0, -1, 0], dtype=torch.float64))


@pytest.mark.parametrize("shrinkage", [0.01, 0.3, 1.0])
def test_whitening_is_the_inverse_root_of_the_shrunk_covariance(shrinkage: float) -> None:
    made = whitening(IMAGE, shrinkage=shrinkage)
    covariance_DD = torch.from_numpy(ShrunkCovariance(shrinkage=shrinkage).fit(IMAGE.numpy()).covariance_)
    squared_DD = made.matrix_DD @ made.matrix_DD
    scale = squared_DD[0, 0] / torch.linalg.inv(covariance_DD)[0, 0]
    torch.testing.assert_close(squared_DD, scale * torch.linalg.inv(covariance_DD))
    torch.testing.assert_close(made.matrix_DD, made.matrix_DD.T)


def test_whitening_makes_the_cloud_round_and_full_shrinkage_is_centring() -> None:
    made = whitening(IMAGE, shrinkage=1e-9)
    spread_DD = torch.cov(((IMAGE - made.mean_D) @ made.matrix_DD.T).T)
    torch.testing.assert_close(spread_DD / spread_DD[0, 0], torch.eye(6, dtype=torch.float64))
    torch.testing.assert_close(whitening(IMAGE, shrinkage=1)(TEXT), centring(IMAGE)(TEXT))
    # more directions than rows: shrinkage keeps it defined
    assert torch.isfinite(whitening(IMAGE[:3], shrinkage=0.1)(IMAGE)).all()


def test_top_removal_leaves_nothing_of_the_main_directions() -> None:
    basis_RD = torch.from_numpy(PCA(n_components=2).fit(IMAGE.numpy()).components_)
    removed_ND = top_removal(IMAGE, rank=2)(TEXT)
    torch.testing.assert_close(removed_ND @ basis_RD.T, torch.zeros(50, 2, dtype=torch.float64))
    centred_ND = TEXT - IMAGE.mean(0)
    torch.testing.assert_close(removed_ND, unit(centred_ND - centred_ND @ basis_RD.T @ basis_RD))


@pytest.mark.parametrize("fit", [class_pca, caption_pca, image_pca])
def test_principal_projections_equal_scikit_learn(fit: Callable[..., LinearMap]) -> None:
    basis_RD = torch.from_numpy(PCA(n_components=3).fit(TEXT.numpy()).components_)
    torch.testing.assert_close(fit(TEXT, rank=3)(IMAGE), unit(IMAGE @ basis_RD.T @ basis_RD))


def test_mean_adjustment_puts_back_what_the_projection_drops_of_the_mean() -> None:
    plain, adjusted = class_pca(TEXT, rank=3), class_pca(TEXT, rank=3, mean_of_ND=IMAGE)
    dropped_D = IMAGE.mean(0) - plain.matrix_DD @ IMAGE.mean(0)
    torch.testing.assert_close(adjusted(IMAGE), unit(IMAGE @ plain.matrix_DD.T + dropped_D))
    # the mean of the mapped rows, before they are normalised, is the mean of the rows
    before_ND = IMAGE @ adjusted.matrix_DD.T + dropped_D
    torch.testing.assert_close(before_ND.mean(0), IMAGE.mean(0))
    # in a narrow cone, cosines move back to their range
    cone_ND = rows(40, 6, seed=1, offset=2)
    means = [
        float(cosine_scores(x_ND, x_ND).mean())
        for x_ND in (
            class_pca(TEXT, rank=3)(cone_ND),
            class_pca(TEXT, rank=3, mean_of_ND=cone_ND)(cone_ND),
            cone_ND,
        )
    ]
    assert abs(means[1] - means[2]) < abs(means[0] - means[2])


def test_shared_space_holds_the_directions_at_small_principal_angles() -> None:
    generator = torch.Generator().manual_seed(0)
    first_ND, second_ND = torch.randn((2, 30, 6), generator=generator, dtype=torch.float64)
    first_ND[:, 4:], second_ND[:, :2] = 0, 0  # axes 0-3 against axes 2-5: 2 and 3 are shared
    made = shared_space(first_ND, second_ND, variance=1.0)
    torch.testing.assert_close(
        made.matrix_DD, torch.diag(torch.tensor([0, 0, 1, 1, 0, 0])).double(), atol=1e-12, rtol=0
    )
    angles = subspace_angles(first_ND.T.numpy()[:, :4], second_ND.T.numpy()[:, :4])
    assert int((np.cos(angles) > 1 - 1e-3).sum()) == round(made.matrix_DD.trace().item()) == 2
    torch.testing.assert_close(shared_space(second_ND, first_ND, variance=1.0).matrix_DD, made.matrix_DD)
    with pytest.raises(InputError, match=r"largest cosine between the two subspaces is 0\.0000"):
        shared_space(torch.eye(6)[:2], torch.eye(6)[3:])


@pytest.mark.parametrize("strength", RIDGE_STRENGTHS)
def test_ridge_equals_scikit_learn(strength: float) -> None:
    variance = float((IMAGE - IMAGE.mean(0)).square().mean())
    fitted = Ridge(alpha=strength * variance * len(IMAGE)).fit(IMAGE.numpy(), PAIRED.numpy())
    expected_ND = unit(torch.from_numpy(fitted.predict(TEXT.numpy())))
    torch.testing.assert_close(ridge(IMAGE, PAIRED, strength=strength)(TEXT), expected_ND)


def test_procrustes_equals_scipy_and_finds_a_rotation() -> None:
    rotation_DD, _ = orthogonal_procrustes(IMAGE.numpy(), PAIRED.numpy())
    torch.testing.assert_close(procrustes(IMAGE, PAIRED)(TEXT), TEXT @ torch.from_numpy(rotation_DD))
    turn_DD = torch.linalg.qr(rows(6, 6, seed=9)).Q
    torch.testing.assert_close(procrustes(IMAGE, IMAGE @ turn_DD)(TEXT), TEXT @ turn_DD)


def test_isoclip_equals_the_projector_that_the_paper_replaces() -> None:
    feature_NW = rows(20, 9, seed=6)
    left_WR, strength_R, _ = torch.linalg.svd(WIDE_IMAGE.T @ WIDE_TEXT)
    assert int((strength_R > 1e-9).sum()) == 6
    for band in band_candidates(6):
        kept_WK = left_WR[:, band.top : 6 - band.bottom]
        expected_ND = unit(feature_NW @ (WIDE_IMAGE @ kept_WK @ kept_WK.T).T)
        made = isoclip(WIDE_IMAGE, WIDE_TEXT, band=band)
        torch.testing.assert_close(made(unit(feature_NW @ WIDE_IMAGE.T)), expected_ND)
    # for texts the operator is the transpose
    _, _, right_RV = torch.linalg.svd(WIDE_IMAGE.T @ WIDE_TEXT)
    kept_VK = right_RV[1:5].T
    feature_NV = rows(20, 7, seed=7)
    expected_ND = unit(feature_NV @ (WIDE_TEXT @ kept_VK @ kept_VK.T).T)
    made = isoclip(WIDE_TEXT, WIDE_IMAGE, band=Band(1, 1))
    torch.testing.assert_close(made(unit(feature_NV @ WIDE_TEXT.T)), expected_ND)


@pytest.mark.parametrize(("wide", "narrow"), [(9, 5), (5, 9), (6, 6), (6, 4)])
def test_bottom_counts_as_released_where_the_shared_width_is_no_smaller(wide: int, narrow: int) -> None:
    own_DW, other_DV = rows(6, wide, seed=21), rows(6, narrow, seed=22)  # D = 6 >= min(W, V)
    feature_NW = rows(20, wide, seed=23)
    for band in band_candidates(min(wide, narrow)):
        expected_ND = unit(feature_NW @ released_isoclip(own_DW, other_DV, *band).T)
        found_ND = isoclip(own_DW, other_DV, band=band)(unit(feature_NW @ own_DW.T))
        torch.testing.assert_close(found_ND, expected_ND)


def test_bottom_as_released_counts_directions_that_do_not_exist_in_a_narrow_space() -> None:
    feature_NW = rows(20, 9, seed=6)
    native_ND = unit(feature_NW @ WIDE_IMAGE.T)
    # 9 and 7 wide on 6 dimensions: 7 singular values, of which one is 0
    released_ND = unit(feature_NW @ released_isoclip(WIDE_IMAGE, WIDE_TEXT, 0, 1).T)
    torch.testing.assert_close(released_ND, native_ND)
    assert (isoclip(WIDE_IMAGE, WIDE_TEXT, band=Band(0, 1))(native_ND) - native_ND).abs().max() > 1e-2
    released_ND = unit(feature_NW @ released_isoclip(WIDE_IMAGE, WIDE_TEXT, 1, 3).T)
    torch.testing.assert_close(isoclip(WIDE_IMAGE, WIDE_TEXT, band=Band(1, 2))(native_ND), released_ND)


def test_a_band_of_everything_changes_nothing() -> None:
    made = isoclip(WIDE_IMAGE, WIDE_TEXT, band=Band(0, 0))
    torch.testing.assert_close(made(IMAGE), IMAGE)


def test_a_weak_direction_of_single_precision_weights_counts() -> None:
    strength_D = torch.tensor([1, 1, 1, 1, 1, 1e-9])
    weak_DV = (torch.linalg.qr(rows(6, 6, seed=9)).Q @ torch.diag(strength_D.double())).float()
    first = isoclip(WIDE_IMAGE.float(), weak_DV, band=Band(0, 1))
    assert first.matrix_DD.trace().item() == pytest.approx(5)  # five of six are kept
    with pytest.raises(InputError, match="nothing of 5 directions"):
        isoclip(WIDE_IMAGE, weak_DV[:, :5], band=Band(3, 2))


def test_published_bands() -> None:
    assert isoclip_preset("image", "CLIP B/32") == Band(150, 50)
    assert isoclip_preset("text", "CLIP L/14") == (10, 300)
    assert all(min(band) > 0 for bands in ISOCLIP_BANDS.values() for band in bands.values())
    with pytest.raises(InputError, match="published text band 'PE-Core B/16'"):
        isoclip_preset("text", "PE-Core B/16")


def test_random_rotation_keeps_cosines_on_both_sides_and_breaks_correspondence_on_one() -> None:
    made = random_rotation(6, seed=0)
    torch.testing.assert_close(made.matrix_DD @ made.matrix_DD.T, torch.eye(6, dtype=torch.float64))
    torch.testing.assert_close(cosine_scores(made(IMAGE), made(TEXT)), cosine_scores(IMAGE, TEXT))
    turned = cosine_scores(made(IMAGE), IMAGE).diagonal()
    assert turned.max() < 0.9
    torch.manual_seed(3)
    assert torch.equal(random_rotation(6, seed=0).matrix_DD, made.matrix_DD)
    # the uniform distribution: entries have mean 0 and variance 1/D, and both signs of the determinant occur
    many = torch.stack([random_rotation(4, seed=seed).matrix_DD for seed in range(1500)])
    torch.testing.assert_close(many.mean(0), torch.zeros(4, 4).double(), rtol=0, atol=0.06)
    torch.testing.assert_close(many.square().mean(0), torch.full((4, 4), 0.25).double(), rtol=0, atol=0.03)
    assert 650 < int((torch.linalg.det(many) > 0).sum()) < 850


@given(st.integers(0, 60), st.integers(-5, 5), st.randoms(use_true_random=False))
def test_shuffled_targets_move_every_item_whatever_their_order(n: int, seed: int, random) -> None:
    names = [f"item-{k}" for k in range(n)]
    source_N = shuffled_targets(names, seed=seed)
    assert sorted(source_N.tolist()) == list(range(n))
    assert n < 2 or not bool((source_N == torch.arange(n)).any())
    partner = {names[k]: names[int(source_N[k])] for k in range(n)}
    other = random.sample(names, n)
    again_N = shuffled_targets(other, seed=seed)
    assert partner == {other[k]: other[int(again_N[k])] for k in range(n)}


def test_shuffled_targets_depend_on_the_seed_and_spread_evenly() -> None:
    drawn = [shuffled_targets("abcd", seed=seed).tolist() for seed in range(1200)]
    counts = Counter(row[0] for row in drawn)
    assert set(counts) == {1, 2, 3}
    assert all(340 < count < 460 for count in counts.values())
    with pytest.raises(InputError, match="'a' occurs more than once"):
        shuffled_targets(["a", "b", "a"], seed=0)


def test_candidates_fit_the_space() -> None:
    assert rank_candidates(512) == (64, 128, 192, 256, 320, 384, 448)
    assert rank_candidates(512, at_most=99) == (64, 99)
    assert rank_candidates(3) == (1, 2, 3)
    assert rank_candidates(8, at_most=0) == ()
    assert top_candidates(512) == (3, 5, 10, 26, 51)
    assert 1 in top_candidates(64)
    bands = band_candidates(512)
    assert Band(0, 0) in bands
    assert len(bands) == len(set(bands))
    for rank in (1, 2, 7, 512):
        assert all(sum(band) < rank for band in band_candidates(rank))
    for band in band_candidates(6):
        isoclip(WIDE_IMAGE, WIDE_TEXT, band=band)
    for shrinkage in WHITENING_SHRINKAGES:
        whitening(IMAGE, shrinkage=shrinkage)
    for tolerance in SHARED_TOLERANCES:
        shared_space(IMAGE, TEXT, tolerance=tolerance, variance=1.0)
    for rank in rank_candidates(6, at_most=5):
        image_pca(IMAGE, rank=rank)


@pytest.mark.parametrize(
    "fit, message",
    [
        (lambda: gap_shift(IMAGE, TEXT[:, :5], strength=0.5), "one width"),
        (lambda: gap_shift(IMAGE, TEXT, strength=math.nan), "strength=nan"),
        (lambda: gap_shift(IMAGE[:0], TEXT, strength=0.5), "one item a row"),
        (lambda: orthogonal_closing(IMAGE, TEXT, rank=7), "rank=7 must lie between 1 and 6"),
        (lambda: orthogonal_closing(IMAGE, TEXT, rank=1, alpha=math.inf), "alpha=inf"),
        (lambda: whitening(IMAGE, shrinkage=0), r"shrinkage=0 must lie in \(0, 1\]"),
        (lambda: whitening(IMAGE[:1].repeat(5, 1), shrinkage=0.1), "do not vary"),
        (lambda: top_removal(IMAGE, rank=6), "below the width 6"),
        (lambda: caption_pca(TEXT[:3], rank=3), "rank of 3 centred captions"),
        (lambda: image_pca(IMAGE[:3], rank=3), "rank of 3 centred images"),
        (lambda: class_pca(TEXT, rank=2, mean_of_ND=IMAGE[:, :5]), "one width"),
        (lambda: shared_space(IMAGE, TEXT, variance=99), "variance=99"),
        (lambda: shared_space(IMAGE, torch.zeros(3, 6)), "only zero rows"),
        (lambda: ridge(IMAGE, TEXT, strength=0.1), "row k belongs to row k"),
        (lambda: ridge(IMAGE, PAIRED, strength=0), "strength=0"),
        (lambda: ridge(IMAGE[:1], PAIRED[:1], strength=1), "do not vary"),
        (lambda: procrustes(IMAGE, TEXT), "row k belongs to row k"),
        (lambda: isoclip(WIDE_IMAGE, WIDE_TEXT, band=Band(4, 2)), "leaves nothing of 6 directions"),
        (lambda: isoclip(WIDE_IMAGE, WIDE_TEXT, band=Band(-1, 2)), "leaves nothing"),
        (lambda: isoclip(WIDE_IMAGE, WIDE_TEXT[:5], band=Band(1, 1)), "with one D"),
        (lambda: random_rotation(0, seed=0), "at least 1"),
        (lambda: whitening(torch.full((2, 2), math.nan), shrinkage=1), "row 0 is not"),
        (
            lambda: LinearMap(
                mean_D=torch.zeros(2),
                matrix_DD=torch.eye(2),
                offset_D=torch.zeros(3),
                name="odd",
                fitted_on="",
            ),
            "offset of that width",
        ),
    ],
)
def test_what_does_not_fit_is_refused(fit: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit()
