"""Linear projectors: what is returned is what the tower ends with; other towers say why they have none."""

from __future__ import annotations

from typing import Any, cast

import open_clip
import pytest
import torch
from torch.nn import functional as F

from crossgap.encoders import Encoder
from crossgap.feature_files import FeatureTable
from crossgap.projectors import linear_projectors
from crossgap.slip import SlipModel, SlipSize
from tests.conftest import CONTEXT, tiny_encoder
from tests.test_tower_contract import build
from tests.tiny_towers import FAMILIES

LINEAR = {
    "clip", "clip-quickgelu", "clip-dropout", "clip-worldwide", "clip-worldwide-mt5", "clip-qk-norm",
    "custom-text", "custom-text-tuples", "clipa", "clips", "coca", "attention-pool", "sine-positions", "eva",
    "timm-registers", "swin", "hybrid",
}  # fmt: skip


def raw(model: Any, images: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    found = (model.encode_image(images), model.encode_text(tokens))
    first, second = (side[0] if isinstance(side, tuple) else side for side in found)
    return first, second


@pytest.mark.parametrize("family", FAMILIES)
def test_projectors_are_what_the_towers_end_with(family: str) -> None:
    """A tower that ends in P x gives M P x when P is replaced by M P."""
    encoder = build(family)
    found = linear_projectors(encoder)
    assert (not isinstance(found, str)) == (family in LINEAR), found
    if isinstance(found, str):
        assert "tower" in found
        return
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(3, 3, 32, 32, generator=generator, dtype=encoder.dtype)
    tokens = encoder.tokenize(["a cat", "two dogs", "tree"])
    turn = torch.randn(encoder.embed_dim, encoder.embed_dim, generator=generator, dtype=encoder.dtype)
    with torch.no_grad():
        before = raw(encoder.model, images, tokens)
        for projector in found:
            projector.copy_(turn @ projector)
        after = raw(encoder.model, images, tokens)
    for old_BD, new_BD in zip(before, after, strict=True):
        expected_BD = F.normalize(old_BD @ turn.T, dim=1)  # CoCa gives unit rows already
        torch.testing.assert_close(F.normalize(new_BD, dim=1), expected_BD, rtol=1e-5, atol=1e-6)


def test_slip_ends_in_linear_projections() -> None:
    size = SlipSize(
        vision_width=32, vision_layers=1, vision_heads=2, embed_dim=16, image_size=32, patch_size=8,
        context_length=CONTEXT, vocab_size=49408, text_width=24, text_layers=1, text_heads=2,
    )  # fmt: skip
    model = SlipModel(size).eval().requires_grad_(False)
    open_clip.model.set_model_preprocess_cfg(
        model, {**open_clip.transform.PreprocessCfg().__dict__, "size": 32}
    )
    encoder = type(tiny_encoder())(model, open_clip.SimpleTokenizer(context_length=CONTEXT))
    found = linear_projectors(encoder)
    assert not isinstance(found, str)
    assert found.image.shape == (16, 32)
    assert found.text.shape == (16, 24)


def test_features_without_towers_have_no_projectors() -> None:
    table = FeatureTable(name="given", fingerprint="0", embed_dim=4, sides={})
    assert linear_projectors(table) == "features that come without their model come without projectors"


def test_towers_of_another_kind_are_named() -> None:
    class OwnEncoder:
        pass

    assert "not of OwnEncoder" in str(linear_projectors(cast("Encoder", OwnEncoder())))
