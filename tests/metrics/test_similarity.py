from __future__ import annotations

import math

import pytest
import torch

from crossgap.errors import InputError
from crossgap.metrics.similarity import check_sides, cosine_scores, unit_rows
from tests.reference import plain_cosines


def rows(n: int, dim: int, seed: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn((n, dim), generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def test_angles_give_their_cosine() -> None:
    angles = torch.tensor([0.0, 60.0, 90.0, 180.0], dtype=torch.float64)
    gallery_GD = torch.stack([angles.deg2rad().cos(), angles.deg2rad().sin()], dim=1) * 7.0
    scores_QG = cosine_scores(torch.tensor([[0.1, 0.0]], dtype=torch.float64), gallery_GD)
    torch.testing.assert_close(scores_QG, torch.tensor([[1.0, 0.5, 0.0, -1.0]], dtype=torch.float64))


def test_equals_plain_loops() -> None:
    query_QD, gallery_GD = rows(5, 7, 0), rows(6, 7, 1)
    expected_QG = torch.tensor(plain_cosines(query_QD, gallery_GD), dtype=torch.float64)
    torch.testing.assert_close(cosine_scores(query_QD, gallery_GD), expected_QG, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 1000])
def test_chunk_size_changes_nothing(chunk: int) -> None:
    query_QD, gallery_GD = rows(5, 16, 0), rows(11, 16, 1)
    scores_QG = cosine_scores(query_QD, gallery_GD, chunk=chunk)
    torch.testing.assert_close(scores_QG, cosine_scores(query_QD, gallery_GD), rtol=0, atol=1e-14)


def test_a_common_rotation_changes_nothing() -> None:
    query_QD, gallery_GD = rows(5, 8, 0), rows(6, 8, 1)
    rotation_DD = torch.linalg.qr(rows(8, 8, 2)).Q
    torch.testing.assert_close(
        cosine_scores(query_QD @ rotation_DD, gallery_GD @ rotation_DD), cosine_scores(query_QD, gallery_GD)
    )


@pytest.mark.parametrize(
    "query, gallery, result",
    [
        (torch.float64, torch.float64, torch.float64),
        (torch.float64, torch.float32, torch.float32),
        (torch.float32, torch.float32, torch.float32),
        (torch.bfloat16, torch.float16, torch.float32),
    ],
)
def test_precision_of_the_result(query: torch.dtype, gallery: torch.dtype, result: torch.dtype) -> None:
    query_QD, gallery_GD = rows(3, 8, 0, query), rows(4, 8, 1, gallery)
    scores_QG = cosine_scores(query_QD, gallery_GD)
    assert scores_QG.dtype == result
    # half-precision input is widened before the product: only the input itself was rounded
    exact_QG = cosine_scores(query_QD.double(), gallery_GD.double())
    torch.testing.assert_close(scores_QG.double(), exact_QG, rtol=0, atol=1e-6)


def test_autocast_does_not_lower_the_precision() -> None:
    query_QD, gallery_GD = rows(30, 64, 0, torch.float32), rows(40, 64, 1, torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores_QG = cosine_scores(query_QD, gallery_GD)
    torch.testing.assert_close(scores_QG, cosine_scores(query_QD, gallery_GD), rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_very_short_and_very_long_rows_keep_their_direction(size: float) -> None:
    query_QD = torch.tensor([[size, size]])
    torch.testing.assert_close(
        cosine_scores(query_QD, torch.tensor([[1.0, 1.0], [-1.0, 1.0]]))[0, 0].item(), 1.0
    )


def test_empty_gallery_and_no_queries() -> None:
    assert cosine_scores(rows(2, 4, 0), rows(0, 4, 1)).shape == (2, 0)
    assert cosine_scores(rows(0, 4, 0), rows(3, 4, 1)).shape == (0, 3)


@pytest.mark.parametrize("value", [0.0, math.nan, math.inf])
def test_a_row_without_direction_is_named(value: float) -> None:
    bad_ND = rows(4, 3, 0)
    bad_ND[2] = value
    with pytest.raises(InputError, match="row 2 of the gallery"):
        cosine_scores(rows(2, 3, 1), bad_ND)
    with pytest.raises(InputError, match="row 2 of the prompts"):
        unit_rows(bad_ND, what="prompts")


def test_shapes_that_do_not_fit() -> None:
    with pytest.raises(InputError, match=r"width.*\(2, 3\) and \(2, 4\)"):
        cosine_scores(rows(2, 3, 0), rows(2, 4, 0))
    with pytest.raises(InputError, match="matrices"):
        cosine_scores(rows(2, 3, 0)[0], rows(2, 3, 0))
    with pytest.raises(InputError, match="chunk=0"):
        cosine_scores(rows(2, 3, 0), rows(2, 3, 0), chunk=0)
    with pytest.raises(InputError, match="as many rows"):
        check_sides(rows(2, 3, 0), rows(3, 3, 0), paired=True)
    with pytest.raises(InputError, match="no pair"):
        check_sides(rows(0, 3, 0), rows(0, 3, 0), paired=True)
