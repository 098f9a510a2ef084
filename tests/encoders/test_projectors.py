"""Linear projectors: what is returned is what the tower ends with; other towers say why they have none."""

from __future__ import annotations

from typing import Any, cast

import open_clip
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from crossgap.datasets.readers.feature_files import FeatureTable
from crossgap.encoders.open_clip import OpenClipEncoder
from crossgap.encoders.projectors import linear_projectors
from crossgap.encoders.protocol import Encoder
from crossgap.encoders.slip import SlipModel, SlipSize
from crossgap.posthoc import Band, isoclip
from tests.conftest import CONTEXT, tiny_encoder
from tests.encoders.test_tower_contract import build
from tests.tiny_towers import FAMILIES

LINEAR = {
    "clip", "clip-quickgelu", "clip-dropout", "clip-worldwide", "clip-worldwide-mt5", "clip-qk-norm",
    "custom-text", "custom-text-tuples", "clipa", "clips", "coca", "attention-pool", "sine-positions", "eva",
    "eva02", "pe-core", "timm-registers", "swin", "hybrid",
}  # fmt: skip
BIASED = {"eva02": "image_tower.trunk.head", "pe-core": "image_tower.trunk.head"}


def raw(model: Any, images: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    found = (model.encode_image(images), model.encode_text(tokens))
    first, second = (side[0] if isinstance(side, tuple) else side for side in found)
    return first, second


def head_of(encoder: OpenClipEncoder, place: str) -> nn.Linear:
    layer: Any = encoder
    for name in place.split("."):
        layer = getattr(layer, name)
    assert isinstance(layer, nn.Linear)
    return layer


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
        if family in BIASED:  # the matrix is a copy, with the bias as its last column
            head = head_of(encoder, BIASED[family])
            assert torch.equal(found.image, torch.cat([head.weight, head.bias[:, None]], dim=1))
            head.weight.copy_(turn @ found.image[:, :-1])
            head.bias.copy_(turn @ found.image[:, -1])
        else:
            found.image.copy_(turn @ found.image)
        found.text.copy_(turn @ found.text)
        after = raw(encoder.model, images, tokens)
    for old_BD, new_BD in zip(before, after, strict=True):
        expected_BD = F.normalize(old_BD @ turn.T, dim=1)  # CoCa gives unit rows already
        torch.testing.assert_close(F.normalize(new_BD, dim=1), expected_BD, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("family", BIASED)
def test_isoclip_of_a_head_with_a_bias_equals_the_replaced_projector(family: str) -> None:
    """Features from before the head, each with a 1 appended, go through the head with the band."""
    encoder = build(family)
    projectors = linear_projectors(encoder)
    assert not isinstance(projectors, str)
    seen: list[torch.Tensor] = []
    handle = head_of(encoder, BIASED[family]).register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0].detach())
    )
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(5, 3, 32, 32, generator=generator, dtype=encoder.dtype)
    features_BD = encoder.encode_image(images)
    handle.remove()
    before_BW = torch.cat([seen[0], torch.ones(5, 1, dtype=encoder.dtype)], dim=1)
    left_WR, strength_R, _ = torch.linalg.svd(projectors.image.T @ projectors.text, full_matrices=False)
    assert int((strength_R > 1e-12).sum()) == 16
    kept_WK = left_WR[:, 3:12]
    expected_BD = F.normalize(before_BW @ (projectors.image @ kept_WK @ kept_WK.T).T, dim=1)
    found_BD = isoclip(*projectors, band=Band(3, 4))(features_BD)
    torch.testing.assert_close(found_BD, expected_BD, rtol=1e-6, atol=1e-8)
    without_bias = isoclip(projectors.image[:, :-1], projectors.text, band=Band(3, 4))(features_BD)
    assert (without_bias - expected_BD).abs().max() > 2e-5


@pytest.mark.parametrize("family", ["siglip", "siglip2"])
def test_siglip_says_what_stands_in_the_way(family: str) -> None:
    reason = linear_projectors(build(family))
    assert isinstance(reason, str)
    assert "perceptron behind attention pooling (visual.trunk.attn_pool)" in reason
    assert "linearises it, on features from before it" in reason


def test_other_heads_are_named_by_their_tower() -> None:
    for family in ("resnet", "convnext"):
        assert "image tower" in str(linear_projectors(build(family)))
    assert linear_projectors(build("bert")) == "the text tower does not end in a linear projection"


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
