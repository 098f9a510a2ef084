from __future__ import annotations

import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from crossgap.errors import InputError
from crossgap.metrics import neighbourhood
from crossgap.metrics.kernel_alignment import cknna
from crossgap.metrics.neighbourhood import cycle_knn, modality_mixing, mutual_knn
from tests.reference_metrics import (
    plain_cycle_knn,
    plain_modality_mixing,
    plain_mutual_knn,
    released_cknna,
    released_cycle_knn,
)


def unit(degrees: list[float]) -> Tensor:
    angle_B = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack([angle_B.cos(), angle_B.sin()], dim=1)


def clouds(n: int, dim: int = 6, offset: float = 0.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    both = torch.randn((2, n, dim), generator=generator, dtype=torch.float64)
    both[0, :, 0] += offset
    both[1, :, 0] -= offset
    image_ND, text_ND = both / both.norm(dim=2, keepdim=True)
    return image_ND, text_ND


def test_mixing_by_hand() -> None:
    # images 0, 10, 20 beside texts 100, 110, 120: nobody has a neighbour from the other side
    assert modality_mixing(unit([0, 10, 20]), unit([100, 110, 120]), k=1).item() == 0
    # alternating: each one's nearest is of the other modality (own partners 0-30 etc. are far apart)
    image_ND, text_ND = unit([0, 100, 200]), unit([202, 2, 102])
    value = modality_mixing(image_ND, text_ND, k=1)
    assert value.item() == pytest.approx(2.0)
    assert value.dtype == torch.float64
    # with every candidate among the neighbours, modality plays no role
    assert modality_mixing(image_ND, text_ND, k=4).item() == pytest.approx(1.0)


def test_partners_count_only_when_asked() -> None:
    image_ND, text_ND = unit([0, 100, 200]), unit([2, 102, 202])
    assert modality_mixing(image_ND, text_ND, k=1).item() == pytest.approx(
        plain_modality_mixing(image_ND.tolist(), text_ND.tolist(), 1, True)
    )
    # the partner is the nearest of all: share 1 over the expected 3/5
    assert modality_mixing(image_ND, text_ND, k=1, paired=False).item() == pytest.approx(5 / 3)


# rows of signs: their cosines are multiples of a half, exactly, and tie often
SIGNS = st.lists(st.lists(st.sampled_from([-1.0, 1.0]), min_size=4, max_size=4), min_size=3, max_size=3)


@settings(max_examples=25)
@given(SIGNS, SIGNS, st.integers(1, 4), st.booleans())
def test_mixing_equals_plain_loops_under_ties(
    image: list[list[float]], text: list[list[float]], k: int, paired: bool
) -> None:
    found = modality_mixing(torch.tensor(image).double(), torch.tensor(text).double(), k=k, paired=paired)
    assert found.item() == pytest.approx(plain_modality_mixing(image, text, k, paired), abs=1e-12)


@settings(max_examples=25)
@given(st.lists(st.tuples(*[st.sampled_from([-1.0, 1.0])] * 8), min_size=4, max_size=5), st.integers(1, 3))
def test_mutual_knn_equals_plain_loops_under_ties(rows: list[tuple[float, ...]], k: int) -> None:
    x, y = [row[:4] for row in rows], [row[4:] for row in rows]
    found = mutual_knn(torch.tensor(x).double(), torch.tensor(y).double(), k=k)
    assert found.item() == pytest.approx(plain_mutual_knn(x, y, k), abs=1e-12)


@settings(max_examples=25)
@given(st.lists(st.tuples(*[st.sampled_from([-1.0, 1.0])] * 8), min_size=4, max_size=5), st.integers(1, 3))
def test_cycle_knn_equals_plain_loops_under_ties(rows: list[tuple[float, ...]], k: int) -> None:
    x, y = [row[:4] for row in rows], [row[4:] for row in rows]
    found = cycle_knn(torch.tensor(x).double(), torch.tensor(y).double(), k=k)
    assert found.item() == pytest.approx(plain_cycle_knn(x, y, k), abs=1e-12)


@pytest.mark.parametrize("k", [2, 3, 7])
def test_cycle_knn_and_cknna_equal_the_released_forms(k: int) -> None:
    x_ND, y_NE = clouds(25, seed=1)[0], clouds(25, dim=4, seed=2)[0]
    for first, second in ((x_ND, y_NE), (y_NE, x_ND), (x_ND, x_ND + 0.1 * y_NE.repeat(1, 2)[:, :6])):
        sides = [(side / side.norm(dim=1, keepdim=True)).tolist() for side in (first, second)]
        assert cycle_knn(first * 3, second, k=k).item() == pytest.approx(released_cycle_knn(*sides, k))
        found = cknna(first * 3, second, k=k).item()
        assert found == pytest.approx(released_cknna(*sides, k, guard=0), rel=1e-9)
        assert found == pytest.approx(released_cknna(*sides, k), rel=1e-2)  # with its 1e-6 below


def test_cycle_knn_by_hand() -> None:
    # neighbours in the first space: 1, 0, 1, 2; in the second: 1, 0, 3, 2
    first_ND, second_ND = unit([0, 10, 21, 33]), unit([0, 5, 100, 110])
    assert cycle_knn(first_ND, second_ND, k=1).item() == 0.75  # 0-1-0, 1-0-1, 2-3-2, but 3-2-1
    assert cycle_knn(first_ND, second_ND, k=3).item() == 1


def test_cknna_of_a_space_with_itself_and_with_noise() -> None:
    x_ND, y_ND = clouds(60, seed=1)
    turn_DD = torch.linalg.qr(clouds(6, seed=3)[0]).Q
    assert cknna(x_ND, x_ND @ turn_DD * 3, k=5).item() == pytest.approx(1)
    twice_ND = x_ND.repeat(2, 1)  # every item is tied with another
    assert cknna(twice_ND, twice_ND, k=2).item() == pytest.approx(1)
    unrelated, near = cknna(x_ND, y_ND, k=5).item(), cknna(x_ND, x_ND + 0.2 * y_ND, k=5).item()
    assert abs(unrelated) < 0.15
    assert 0.5 < near < 1
    order_N = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    assert cknna(x_ND[order_N], y_ND[order_N], k=5).item() == pytest.approx(unrelated)


def test_cknna_without_structure_is_refused() -> None:
    x_ND, y_ND = clouds(12)
    with pytest.raises(InputError, match="k=1 must lie between 2 and the 11 other items"):
        cknna(x_ND, y_ND, k=1)
    with pytest.raises(InputError, match="needs four items, got 3"):
        cknna(x_ND[:3], y_ND[:3], k=2)
    with pytest.raises(InputError, match="in the second space differ too little"):
        cknna(x_ND, torch.ones(12, 3), k=3)


def test_mixed_clouds_mix_and_separated_ones_do_not() -> None:
    mixed = modality_mixing(*clouds(600), k=10).item()
    assert mixed == pytest.approx(1, abs=0.05)
    assert modality_mixing(*clouds(600, offset=20), k=10).item() == 0
    between = [modality_mixing(*clouds(600, offset=offset), k=10).item() for offset in (0.2, 0.5, 1.0)]
    assert mixed > between[0] > between[1] > between[2] > 0


def test_sides_of_different_size_mix_to_one() -> None:
    image_ND, text_ND = clouds(900)
    assert modality_mixing(image_ND, text_ND[:150], k=10, paired=False).item() == pytest.approx(1, abs=0.06)


def test_mutual_knn_by_hand() -> None:
    # first space: neighbours 1, 0, 1, 2 along a line of angles; second: pairs (0, 2) and (1, 3)
    first_ND, second_ND = unit([0, 10, 21, 33]), unit([0, 100, 5, 110])
    assert mutual_knn(first_ND, second_ND, k=1).item() == 0
    assert mutual_knn(first_ND, first_ND, k=2).item() == 1
    assert mutual_knn(first_ND, second_ND, k=3).item() == 1  # all others, in both spaces
    assert mutual_knn(first_ND, torch.cat([second_ND, second_ND], dim=1), k=1).item() == 0  # wider


@pytest.mark.parametrize("k", [1, 3, 7])
def test_mutual_knn_equals_scikit_learn_and_plain_loops(k: int) -> None:
    x_ND, _ = clouds(9, seed=1)
    y_NE, _ = clouds(9, dim=4, seed=2)
    sets = []
    for side_ND in (x_ND, y_NE):
        index = NearestNeighbors(n_neighbors=k + 1, metric="cosine").fit(side_ND.numpy())
        found = index.kneighbors(side_ND.numpy(), return_distance=False)
        sets.append([set(row) - {item} for item, row in enumerate(found)])
    expected = sum(len(a & b) for a, b in zip(*sets, strict=True)) / (9 * k)
    assert mutual_knn(x_ND, y_NE, k=k).item() == pytest.approx(expected, abs=1e-12)
    assert plain_mutual_knn(x_ND.tolist(), y_NE.tolist(), k) == pytest.approx(expected, abs=1e-12)


def test_ties_count_by_their_chance() -> None:
    # all rows equal: any two of three others are as likely in either space; expected overlap k/(N-1)
    same_ND = torch.ones((4, 3))
    assert mutual_knn(same_ND, same_ND, k=2).item() == pytest.approx(2 / 3)
    assert modality_mixing(same_ND, same_ND, k=2).item() == pytest.approx(1)


def test_unrelated_spaces_share_neighbours_by_chance_and_rotations_all() -> None:
    x_ND, y_ND = clouds(400)
    assert mutual_knn(x_ND, y_ND, k=20).item() == pytest.approx(20 / 399, abs=0.01)
    turn_DD = torch.linalg.qr(clouds(6, seed=3)[0]).Q
    assert mutual_knn(x_ND, x_ND @ turn_DD * 3, k=20).item() == pytest.approx(1)


def test_block_size_and_scale_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    image_ND, text_ND = clouds(50, offset=0.3)
    mixing, mutual = modality_mixing(image_ND, text_ND, k=5), mutual_knn(image_ND, text_ND, k=5)
    cycle, aligned = cycle_knn(image_ND, text_ND, k=5), cknna(image_ND, text_ND, k=5)
    monkeypatch.setattr(neighbourhood, "_ROWS", 7)
    monkeypatch.setattr("crossgap.metrics.kernel_alignment._ENTRIES", 11)
    torch.testing.assert_close(modality_mixing(image_ND * 9, text_ND, k=5), mixing)
    torch.testing.assert_close(mutual_knn(image_ND, text_ND / 9, k=5), mutual)
    torch.testing.assert_close(cycle_knn(image_ND, text_ND / 9, k=5), cycle)
    torch.testing.assert_close(cknna(image_ND, text_ND / 9, k=5), aligned)


def test_neighbours_that_are_not_there_are_refused() -> None:
    image_ND, text_ND = clouds(4)
    with pytest.raises(InputError, match="k=7 must lie between 1 and the 6 other items"):
        modality_mixing(image_ND, text_ND, k=7)
    assert modality_mixing(image_ND, text_ND, k=7, paired=False).item() == pytest.approx(1)
    with pytest.raises(InputError, match="k=4 must lie between 1 and the 3 other items"):
        mutual_knn(image_ND, text_ND, k=4)
    with pytest.raises(InputError, match="as many rows"):
        modality_mixing(image_ND, text_ND[:3], k=1)
    with pytest.raises(InputError, match="the same items"):
        mutual_knn(image_ND, text_ND[:3], k=1)
    with pytest.raises(InputError, match="no direction"):
        mutual_knn(image_ND, torch.zeros(4, 6), k=1)


def test_a_thousand_pairs_take_no_second() -> None:
    image_ND, text_ND = (side.float() for side in clouds(1000, dim=64))
    seconds = []
    for _ in range(3):  # the best of three: other work on the machine only ever adds
        start = time.perf_counter()
        modality_mixing(image_ND, text_ND, k=10)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 1
