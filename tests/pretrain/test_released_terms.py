"""Terms and weights of recipes against the objectives of authors' released code (tests/released_terms.py)."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.data.streams import stream
from pretrain.objective import Moment, evaluate_objective
from pretrain.recipes import RECIPES
from pretrain.settings import ObjectiveConfig
from pretrain.terms import TERMS, Setup
from pretrain.terms.infonce import info_nce
from pretrain.terms.separation import intra_modal_separation, semantic_separation
from pretrain.terms.vicreg import ExpandedVICReg, vicreg
from tests.released_terms import (
    released_alignclip,
    released_clip_refine,
    released_projector,
    released_vicreg,
)

CASES = [(batch, dim, seed) for batch, dim in ((2, 4), (5, 4), (16, 32)) for seed in (0, 1)]


def draw(batch: int, dim: int, seed: int, count: int = 3) -> list[Tensor]:
    return list(torch.randn((count, batch, dim), generator=stream(seed), dtype=torch.float64))


@pytest.mark.parametrize("batch, dim, seed", CASES)
@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_released_alignclip_is_twice_clip_and_a_quarter_of_separation(
    batch: int, dim: int, seed: int, temperature: float
) -> None:
    image, text, captions = (F.normalize(rows, dim=1) for rows in draw(batch, dim, seed))
    ours = 2 * (
        info_nce(image, text, temperature=temperature)
        + 0.25 * semantic_separation(image, text, captions, temperature=temperature)
    )
    released = released_alignclip(image.tolist(), text.tolist(), captions.tolist(), temperature)
    assert ours.item() == pytest.approx(released, rel=4e-15, abs=4e-15)


@pytest.mark.parametrize("recipe, term", [
    ("separation", "intra_modal_separation"), ("separation-semantic", "semantic_separation"),
])  # fmt: skip
def test_released_alignclip_has_the_weights_of_the_recipe(recipe: str, term: str) -> None:
    """The minimised sum of the recipe is half of the released total, so it has the same direction."""
    objective = RECIPES[recipe]().objective
    assert objective.weights == {"clip": 1.0, term: 0.25}
    assert TERMS[term].weight == 0.25
    image, text, captions = (F.normalize(rows, dim=1) for rows in draw(6, 5, 3))
    if recipe == "separation":  # as with captions that are all unlike
        captions = torch.eye(6, dtype=torch.float64)
    views = {"image_BD": image, "text_BD": text, "semantic_BS": captions}
    total = evaluate_objective(views, objective, temperature=0.07).total
    released = released_alignclip(image.tolist(), text.tolist(), captions.tolist(), 0.07)
    assert 2 * total.item() == pytest.approx(released, rel=4e-15)


def test_released_alignclip_without_semantics_takes_the_item_itself() -> None:
    """The documented deviation: its positive has cosine 1 there, that of the pair here."""
    image, text, _ = (F.normalize(rows, dim=1) for rows in draw(5, 4, 0))
    clip, apart = info_nce(image, text, temperature=0.3), intra_modal_separation(image, text, temperature=0.3)
    released = released_alignclip(image.tolist(), text.tolist(), None, 0.3)
    assert 2 * (clip + 0.25 * apart).item() != pytest.approx(released, abs=0.1)
    # each modality by itself, where the pair is the item
    alone = sum(intra_modal_separation(rows, rows, temperature=0.3).item() / 2 for rows in (image, text))
    assert 2 * (clip.item() + 0.25 * alone) == pytest.approx(released, rel=4e-15)


@pytest.mark.parametrize("batch, dim, seed", CASES)
def test_released_rafa_is_a_mean_over_all_entries(batch: int, dim: int, seed: int) -> None:
    image, text, _ = draw(batch, dim, seed)
    noise = torch.randn(image.shape, generator=stream(seed, "rafa", 2), dtype=torch.float64)
    ours = evaluate_objective(
        {"image_raw_BD": image, "text_raw_BD": text},
        ObjectiveConfig(weights={"rafa": 1.0}),
        temperature=0.07,
        moment=Moment(step=2, steps=5, seed=seed),
    ).total
    released = released_clip_refine(image.tolist(), text.tolist(), noise.tolist())
    assert ours.item() == pytest.approx(released, rel=4e-15)
    assert RECIPES["rafa"]().objective.weights["rafa"] == TERMS["rafa"].weight == 1.0


@pytest.mark.parametrize("batch, dim, seed", CASES)
@pytest.mark.parametrize("spread", [0.3, 1.0, 3.0])
def test_released_vicreg_halves_the_variance(batch: int, dim: int, seed: int, spread: float) -> None:
    first, second, _ = (spread * rows for rows in draw(batch, dim, seed))
    released = released_vicreg(first.tolist(), second.tolist())
    assert vicreg(first, second).item() == pytest.approx(released, rel=1e-13)


def test_released_vicreg_has_an_expander_without_a_last_bias() -> None:
    module = ExpandedVICReg(Setup(width=6, embed_dim=4)).double()
    linear = [layer for layer in module.expander if isinstance(layer, nn.Linear)]
    assert [layer.bias is None for layer in linear] == [False, False, True]
    norms = [
        (layer.weight.tolist(), layer.bias.tolist())
        for layer in module.expander
        if isinstance(layer, nn.BatchNorm1d)
    ]
    weights = [layer.weight.tolist() for layer in linear]
    first, second, _ = draw(5, 6, 2)
    expanded = [released_projector(weights, norms, rows.tolist()) for rows in (first, second)]
    assert module(first, second).item() == pytest.approx(released_vicreg(*expanded), rel=1e-12)
