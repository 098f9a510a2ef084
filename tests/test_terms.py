from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from open_clip.loss import ClipLoss
from torch import Tensor

from pretrain.terms import TERMS, Views
from pretrain.terms.infonce import info_nce
from pretrain.terms.ntxent import nt_xent
from tests.reference import (
    plain_centroid_penalty,
    plain_centroid_uniformity,
    plain_coral,
    plain_cross_modal_consistency,
    plain_cross_uniformity,
    plain_in_modal_consistency,
    plain_in_modal_uniformity,
    plain_info_nce,
    plain_intra_modal_separation,
    plain_nt_xent,
    plain_pair_alignment,
)

PLAIN: dict[str, Callable[..., float]] = {
    "clip": plain_info_nce,
    "image_ntxent": plain_nt_xent,
    "text_ntxent": plain_nt_xent,
    "centroid_penalty": plain_centroid_penalty,
    "pair_alignment": plain_pair_alignment,
    "centroid_uniformity": plain_centroid_uniformity,
    "in_modal_consistency": plain_in_modal_consistency,
    "cross_modal_consistency": plain_cross_modal_consistency,
    "intra_modal_separation": plain_intra_modal_separation,
    "in_modal_uniformity": plain_in_modal_uniformity,
    "cross_uniformity": partial(plain_cross_uniformity, t=2),
    "coral": plain_coral,
}
# terms that see two clouds and no pairs
UNPAIRED = {"centroid_penalty", "in_modal_uniformity", "coral"}


def unit_rows(count: int, batch: int = 5, dim: int = 4, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn((count, batch, dim), generator=generator, dtype=torch.float64)
    return list(torch.nn.functional.normalize(rows, dim=-1))


def call(name: str, *rows: Tensor) -> Tensor:
    return call_at(name, 0.3, *rows)


def call_at(name: str, temperature: float, *rows: Tensor) -> Tensor:
    term = TERMS[name]
    return term.function(*rows) if term.temperature is None else term.function(*rows, temperature=temperature)


@pytest.mark.parametrize("name", TERMS)
class TestContract:
    """What every term of the registry promises."""

    def test_inputs_are_views(self, name: str) -> None:
        assert set(TERMS[name].inputs) <= set(Views._fields)
        assert len(TERMS[name].inputs) == 2

    def test_is_a_scalar_of_the_dtype_of_its_inputs(self, name: str) -> None:
        for dtype in (torch.float32, torch.float64):
            value = call(name, *(rows.to(dtype) for rows in unit_rows(2)))
            assert value.shape == ()
            assert value.dtype == dtype

    @pytest.mark.parametrize("batch", [2, 5])
    def test_equals_a_plain_loop(self, name: str, batch: int) -> None:
        assert name in PLAIN, f"write {name} as a plain loop in tests/reference.py and list it in PLAIN"
        rows = unit_rows(2, batch)
        temperature = [] if TERMS[name].temperature is None else [0.3]
        assert call(name, *rows).item() == pytest.approx(PLAIN[name](*rows, *temperature), rel=1e-12)

    def test_gradients(self, name: str) -> None:
        rows = [row.requires_grad_() for row in unit_rows(2)]
        assert torch.autograd.gradcheck(lambda *r: call(name, *r), rows)
        for gradient in torch.autograd.grad(call(name, *rows), rows):
            assert gradient.abs().max() > 0

    def test_ignores_the_order_of_the_pairs(self, name: str) -> None:
        first, second = unit_rows(2)
        order = torch.tensor([3, 1, 4, 0, 2])
        assert torch.allclose(call(name, first, second), call(name, first[order], second[order]))

    def test_depends_on_which_rows_are_paired_or_says_not(self, name: str) -> None:
        first, second = unit_rows(2)
        same = torch.allclose(call(name, first, second), call(name, first, second.roll(1, 0)))
        assert same == (name in UNPAIRED)

    def test_ignores_a_common_rotation(self, name: str) -> None:
        first, second = unit_rows(2)
        rotation = torch.linalg.qr(unit_rows(1, 4)[0])[0]
        assert torch.allclose(call(name, first, second), call(name, first @ rotation, second @ rotation))

    def test_is_symmetric_in_its_sides(self, name: str) -> None:
        first, second = unit_rows(2)
        assert torch.allclose(call(name, first, second), call(name, second, first))

    def test_temperature_may_be_a_tensor_that_learns(self, name: str) -> None:
        if TERMS[name].temperature is None:
            return
        temperature = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
        value = TERMS[name].function(*unit_rows(2), temperature=temperature)
        value.backward()
        assert temperature.grad is not None
        assert temperature.grad.abs() > 0


@pytest.mark.parametrize("batch", [2, 7])
@pytest.mark.parametrize("temperature", [0.01, 0.1, 1.0])
def test_closed_forms(batch: int, temperature: float) -> None:
    same = torch.eye(1, 3, dtype=torch.float64).expand(batch, -1)
    assert info_nce(same, same, temperature=temperature).item() == pytest.approx(math.log(batch))
    assert nt_xent(same, same, temperature=temperature).item() == pytest.approx(math.log(2 * batch - 1))
    apart = torch.eye(batch, dtype=torch.float64)
    small = math.exp(-1 / temperature)
    assert info_nce(apart, apart, temperature=temperature).item() == pytest.approx(
        math.log1p((batch - 1) * small), abs=1e-15
    )
    assert nt_xent(apart, apart, temperature=temperature).item() == pytest.approx(
        math.log1p((2 * batch - 2) * small), abs=1e-15
    )


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_closed_forms_of_terms_that_tie_geometries(temperature: float) -> None:
    batch = 4
    apart, same = (
        torch.eye(batch, dtype=torch.float64),
        torch.eye(1, batch, dtype=torch.float64).expand(batch, -1),
    )
    shifted = apart.roll(1, dims=0)

    def value(name: str, image_BD: Tensor, text_BD: Tensor) -> float:
        return call_at(name, temperature, image_BD, text_BD).item()

    # orthogonal images whose texts are one point: every pair but the own differs by 1
    assert value("in_modal_consistency", apart, same) == pytest.approx(batch - 1)
    assert value("in_modal_consistency", apart, shifted) == 0  # each geometry is the other's
    # texts are the images of their neighbours: <i_j, t_k> is a shift, its transpose the other shift
    assert value("cross_modal_consistency", apart, shifted) == pytest.approx(2)
    assert value("cross_modal_consistency", apart, apart) == 0
    small = math.exp(-1 / temperature)
    assert value("intra_modal_separation", apart, apart) == pytest.approx(2 * math.log1p((batch - 1) * small))
    assert value("intra_modal_separation", same, same) == pytest.approx(2 * math.log(batch))
    assert value("in_modal_uniformity", same, same) == pytest.approx(0)
    assert value("in_modal_uniformity", apart, apart) == pytest.approx(-4)  # squared distance 2, t = 2
    assert value("cross_uniformity", same, -same) == pytest.approx(-8)
    assert value("coral", apart, shifted) == pytest.approx(0, abs=1e-30)
    # covariance of the unit vectors: (Id - 1/B) / (B - 1), of one point: 0; its squared norm is 1/(B - 1)
    assert value("coral", apart, same) == pytest.approx(1 / (batch - 1) / (4 * batch**2))


def test_one_antipodal_pair_of_views_has_only_its_positive() -> None:
    row = torch.tensor([[1.0, 0.0]])
    assert nt_xent(row, -row, temperature=0.1).item() == 0.0


def test_info_nce_equals_open_clip() -> None:
    image_BD, text_BD = unit_rows(2, 6)
    assert torch.allclose(
        info_nce(image_BD, text_BD, temperature=0.07), ClipLoss()(image_BD, text_BD, torch.tensor(1 / 0.07))
    )


def test_nt_xent_punishes_likeness_within_a_view() -> None:
    first, second = unit_rows(2, 6)
    crowded = torch.nn.functional.normalize(first + 5 * first[:1], dim=-1)
    assert nt_xent(crowded, crowded, temperature=0.1) > nt_xent(first, first, temperature=0.1)
    assert nt_xent(first, first, temperature=0.1) < nt_xent(first, second, temperature=0.1)


def test_sharp_temperature_stays_finite() -> None:
    image_BD, text_BD = (rows.float() for rows in unit_rows(2))
    assert info_nce(image_BD, text_BD, temperature=0.01).isfinite()
    assert nt_xent(image_BD, text_BD, temperature=0.01).isfinite()
