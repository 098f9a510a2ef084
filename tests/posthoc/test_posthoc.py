from __future__ import annotations

import math

import pytest
import torch
from sklearn.decomposition import PCA
from torch import Tensor

from crossgap.errors import InputError
from crossgap.metrics.similarity import cosine_scores
from crossgap.posthoc import LinearMap, centring, class_pca, random_subspace


def rows(n: int, dim: int, seed: int = 0) -> Tensor:
    x_ND = torch.randn((n, dim), generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.3
    return x_ND / x_ND.norm(dim=1, keepdim=True)


def test_centring_by_hand() -> None:
    values_ND = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    centred = centring(values_ND, fitted_on="train images")
    half = math.sqrt(0.5)
    torch.testing.assert_close(centred(values_ND), torch.tensor([[half, -half], [-half, half]]))
    assert (centred.name, centred.fitted_on) == ("centred", "train images")


def test_centring_undoes_an_offset() -> None:
    values_ND = rows(40, 6)
    shifted_ND = values_ND + torch.linspace(-2, 2, 6, dtype=torch.float64)
    torch.testing.assert_close(centring(shifted_ND)(shifted_ND), centring(values_ND)(values_ND))


def test_class_pca_is_the_projection_on_the_main_directions() -> None:
    prompts_KD, values_ND = rows(30, 8, seed=1), rows(10, 8, seed=2)
    found_ND = class_pca(prompts_KD, rank=3, fitted_on="class prompts")(values_ND)
    basis_RD = torch.from_numpy(PCA(n_components=3).fit(prompts_KD.numpy()).components_)
    expected_ND = values_ND @ basis_RD.T @ basis_RD  # the values are not centred
    expected_ND = expected_ND / expected_ND.norm(dim=1, keepdim=True)
    torch.testing.assert_close(found_ND, expected_ND)


def test_class_pca_by_hand() -> None:
    # prompts differ along the first axis most, then along the second; their common third part is no direction
    prompts_KD = torch.tensor([[2.0, 0, 9], [-2, 0, 9], [0, 1, 9], [0, -1, 9]])
    found_ND = class_pca(prompts_KD, rank=1)(torch.tensor([[-0.5, 3.0, 7.0]]))
    torch.testing.assert_close(found_ND, torch.tensor([[-1.0, 0.0, 0.0]]))
    found_ND = class_pca(prompts_KD, rank=2)(torch.tensor([[3.0, 4.0, 7.0]]))
    torch.testing.assert_close(found_ND, torch.tensor([[0.6, 0.8, 0.0]]))


@pytest.mark.parametrize(
    "projection",
    [class_pca(rows(30, 8), rank=3), random_subspace(8, rank=3, seed=0)],
    ids=["class_pca", "random_subspace"],
)
def test_projections_are_orthogonal_of_the_asked_rank(projection: LinearMap) -> None:
    matrix_DD = projection.matrix_DD
    torch.testing.assert_close(matrix_DD @ matrix_DD, matrix_DD)
    torch.testing.assert_close(matrix_DD, matrix_DD.T)
    assert matrix_DD.trace().item() == pytest.approx(3)
    assert torch.linalg.matrix_rank(matrix_DD) == 3
    assert not projection.mean_D.any()
    values_ND = rows(5, 8, seed=4)
    once_ND = projection(values_ND)
    torch.testing.assert_close(projection(once_ND), once_ND)


def test_full_rank_projection_keeps_every_cosine() -> None:
    values_ND = rows(7, 6)
    for projection in (class_pca(rows(30, 6, seed=1), rank=6), random_subspace(6, rank=6, seed=0)):
        mapped_ND = projection(values_ND)
        torch.testing.assert_close(cosine_scores(mapped_ND, mapped_ND), cosine_scores(values_ND, values_ND))


def test_maps_turn_with_the_space() -> None:
    rotation_DD = torch.linalg.qr(rows(8, 8, seed=5)).Q
    fit_ND, values_ND = rows(30, 8, seed=1), rows(6, 8, seed=2)
    for fit in (lambda x_ND: class_pca(x_ND, rank=3), centring):
        turned_ND = fit(fit_ND @ rotation_DD)(values_ND @ rotation_DD)
        torch.testing.assert_close(turned_ND, fit(fit_ND)(values_ND) @ rotation_DD)


def test_random_subspace_depends_on_its_seed_alone() -> None:
    first = random_subspace(8, rank=4, seed=0)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    assert torch.equal(random_subspace(8, rank=4, seed=0).matrix_DD, first.matrix_DD)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.allclose(random_subspace(8, rank=4, seed=1).matrix_DD, first.matrix_DD)
    # every direction is as likely: the mean projection is rank / dim times the identity
    mean_DD = torch.stack([random_subspace(4, rank=2, seed=seed).matrix_DD for seed in range(2000)]).mean(0)
    torch.testing.assert_close(mean_DD, torch.eye(4, dtype=torch.float64) / 2, rtol=0, atol=0.04)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_outputs_are_unit_rows_of_the_input_precision(dtype: torch.dtype) -> None:
    values_ND = rows(9, 8).to(dtype)
    for made in (centring(values_ND), class_pca(values_ND, rank=4), random_subspace(8, rank=4, seed=0)):
        mapped_ND = made(values_ND)
        assert mapped_ND.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        torch.testing.assert_close(mapped_ND.norm(dim=1), torch.ones(9, dtype=mapped_ND.dtype))
        assert made(values_ND[:0]).shape == (0, 8)


def test_a_rank_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match="rank=5 must lie between 1 and 4"):
        class_pca(rows(5, 8), rank=5)  # five centred prompts span four directions
    with pytest.raises(InputError, match="rank=0"):
        class_pca(rows(5, 8), rank=0)
    # prompts repeated add no direction, in whatever precision they are given
    for dtype in (torch.float64, torch.float32):
        with pytest.raises(InputError, match="between 1 and 4"):
            class_pca(rows(5, 8).to(dtype).repeat(20, 1), rank=5)
    # nor do rounding errors of that precision
    noisy_KD = rows(5, 8).float().repeat(20, 1)
    noisy_KD *= 1 + 1e-7 * torch.randn(noisy_KD.shape, generator=torch.Generator().manual_seed(0))
    with pytest.raises(InputError, match="between 1 and 4"):
        class_pca(noisy_KD, rank=5)
    with pytest.raises(InputError, match="between 1 and 0"):
        class_pca(rows(1, 8).repeat(3, 1), rank=1)
    for rank in (0, 9):
        with pytest.raises(InputError, match=f"rank={rank} must lie between 1 and the width 8"):
            random_subspace(8, rank=rank, seed=0)


def test_values_that_do_not_fit_are_refused() -> None:
    centred = centring(rows(5, 8))
    with pytest.raises(InputError, match="rows of width 8"):
        centred(rows(5, 7))
    with pytest.raises(InputError, match="row 0 of the output of the map 'centred'"):
        centring(rows(1, 8))(rows(1, 8))
    with pytest.raises(InputError, match="one item a row"):
        centring(rows(5, 8)[:0])
    with pytest.raises(InputError, match="finite"):
        class_pca(torch.full((3, 2), math.nan), rank=1)
    with pytest.raises(InputError, match="needs a mean"):
        LinearMap(mean_D=torch.zeros(3), matrix_DD=torch.eye(2), name="odd", fitted_on="nothing")
