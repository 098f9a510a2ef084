"""The jackknife's interval against the closed form for a mean, and its coverage."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import t as student

from crossgap.errors import InputError
from crossgap.metrics.gap import relative_modality_gap
from crossgap.metrics.jackknife import cluster_jackknife, jackknife
from tests.reference_metrics import plain_cluster_jackknife


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


def shared_captions(seed: int, concepts: int = 40, drawings: int = 5) -> tuple[torch.Tensor, ...]:
    """Draw concepts, each with one caption and several images that resemble each other."""
    generator = torch.Generator().manual_seed(seed)
    concept = torch.randn(concepts, 8, generator=generator, dtype=torch.float64)
    text = concept + torch.randn(concepts, 8, generator=generator, dtype=torch.float64)
    image = concept[:, None] + 0.5 * torch.randn(
        concepts, drawings, 8, generator=generator, dtype=torch.float64
    )
    return (
        torch.nn.functional.normalize(image.flatten(0, 1), dim=1),
        torch.nn.functional.normalize(text, dim=1).repeat_interleave(drawings, 0),
        torch.arange(concepts).repeat_interleave(drawings),
    )


def pair_cosine(image: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
    return (image * text).sum(1).mean()


@pytest.mark.parametrize("statistic", [pair_cosine, relative_modality_gap])
def test_images_that_share_a_caption_make_pairs_count_for_less(statistic) -> None:
    truth = sum(float(statistic(*shared_captions(seed, concepts=4000)[:2])) for seed in (98, 99)) / 2
    covered = {"pairs": 0, "clusters": 0}
    widths = {"pairs": 0.0, "clusters": 0.0}
    runs = 150
    for seed in range(runs):
        image, text, concept = shared_captions(seed)
        intervals = {
            "pairs": jackknife(statistic, image, text),
            "clusters": cluster_jackknife(statistic, image, text, clusters=concept.tolist()),
        }
        for name, (_, low, high) in intervals.items():
            covered[name] += low <= truth <= high
            widths[name] += (high - low) / runs
    # 95 % is what both say; only clusters keep it
    assert 0.90 * runs <= covered["clusters"] <= 0.99 * runs
    assert covered["pairs"] < 0.80 * runs
    assert widths["clusters"] > 1.5 * widths["pairs"]


def test_over_clusters_of_one_it_is_the_jackknife_over_items() -> None:
    image, text = pairs(40)
    value, low, high = cluster_jackknife(mean_difference, image, text, clusters=range(40))
    plain = jackknife(mean_difference, image, text)
    ratio = student.ppf(0.975, 39) / 1.959964
    assert (high - low) == pytest.approx(ratio * (plain.high - plain.low))
    assert value == plain.value


def test_over_clusters_it_equals_plain_loops() -> None:
    values, _ = pairs(30)
    clusters = [str(k % 7) for k in range(30)]
    found = cluster_jackknife(torch.mean, values[:, 0], clusters=clusters)
    error = plain_cluster_jackknife(values[:, 0].tolist(), clusters)
    assert (found.high - found.low) / 2 == pytest.approx(student.ppf(0.975, 6) * error)


def test_groups_of_whole_clusters_keep_the_width() -> None:
    image, text, concept = shared_captions(0, concepts=1000)
    assert concept.unique().numel() == 1000
    wide = cluster_jackknife(pair_cosine, image, text, clusters=concept.tolist())
    error = (image * text).sum(1).reshape(1000, 5).mean(1).std() / 1000**0.5
    assert (wide.high - wide.low) / 2 == pytest.approx(1.984 * float(error), rel=0.25)


def test_what_makes_no_clusters_is_refused() -> None:
    image, text = pairs(4)
    with pytest.raises(InputError, match="two of them, got 1 of 4 items"):
        cluster_jackknife(mean_difference, image, text, clusters=["same"] * 4)
    with pytest.raises(InputError, match="one cluster"):
        cluster_jackknife(mean_difference, image, text, clusters=["a", "b"])
    with pytest.raises(InputError, match="one row a column"):
        cluster_jackknife(mean_difference, clusters=[])
