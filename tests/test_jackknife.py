"""The jackknife's interval against the closed form for a mean, and its coverage."""

from __future__ import annotations

import pytest
import torch

from crossgap.jackknife import jackknife


def pairs(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, count, 3, generator=generator, dtype=torch.float64).unbind()


def mean_difference(image: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
    return (image - text)[:, 0].mean()


def test_of_a_mean_it_is_the_standard_error_of_the_mean() -> None:
    image, text = pairs(40)
    value, low, high = jackknife(mean_difference, image, text)
    difference = (image - text)[:, 0]
    error = difference.std() / 40**0.5
    assert value == pytest.approx(float(difference.mean()))
    assert (high - low) / 2 == pytest.approx(1.959964 * float(error))


def test_groups_keep_the_width_at_many_pairs() -> None:
    image, text = pairs(5000)
    _, low, high = jackknife(mean_difference, image, text)
    assert (high - low) / 2 == pytest.approx(1.96 * (2 / 5000) ** 0.5, rel=0.25)


def test_it_covers_the_truth_about_as_often_as_it_says() -> None:
    def spread(image: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        return (image - text).square().sum(1).mean().sqrt()

    truth = 6**0.5
    intervals = [jackknife(spread, *pairs(60, seed)) for seed in range(200)]
    covered = sum(low <= truth <= high for _, low, high in intervals)
    assert 180 <= covered <= 198


def test_one_pair_has_no_width() -> None:
    image, text = pairs(1)
    value, low, high = jackknife(mean_difference, image, text)
    assert low == value == high
