from __future__ import annotations

import open_clip
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pretrain.model import build_model
from pretrain.settings import ModelConfig
from pretrain.towers import Linear, PackedText, encode_images, encode_text, narrow_linear, pack_text

CONFIG = ModelConfig(width=24, layers=3, heads=2, embed_dim=16, context_length=12)
CAPTIONS = ["cat", "a photo of a red apple", "", "one two three four five six seven eight nine ten eleven"]


@pytest.fixture(scope="module")
def model() -> open_clip.CLIP:
    model = build_model(CONFIG, seed=0, temperature=0.01)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():  # random everywhere: zeros and ones would hide a mistake
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model.double()


def packed(captions: list[str]) -> tuple[Tensor, PackedText]:
    ids_BL = open_clip.SimpleTokenizer(context_length=CONFIG.context_length)(captions)
    return ids_BL, pack_text(ids_BL, ids_BL.argmax(1) + 1)


def test_images_equal_open_clip(model: open_clip.CLIP) -> None:
    pixels = torch.randn((3, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = model.encode_image(pixels, normalize=True)
    assert torch.allclose(encode_images(model, pixels), expected, atol=1e-12)


@pytest.mark.parametrize("captions", [CAPTIONS, CAPTIONS[:1], [CAPTIONS[3]] * 2, CAPTIONS[2:3]])
def test_text_equals_open_clip(model: open_clip.CLIP, captions: list[str]) -> None:
    ids_BL, text = packed(captions)
    expected = model.encode_text(ids_BL, normalize=True)
    result = encode_text(model, text, model.token_embedding.weight)
    assert torch.allclose(result, expected, atol=1e-12)


def test_gradients_equal_open_clip(model: open_clip.CLIP) -> None:
    ids_BL, text = packed(CAPTIONS)
    pixels = torch.randn((4, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    target = torch.randn((16,), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    names, parameters = zip(*model.named_parameters(), strict=True)

    def gradients(image_BD: Tensor, text_BD: Tensor) -> tuple[Tensor | None, ...]:
        return torch.autograd.grad(
            ((image_BD + 2 * text_BD) @ target).square().sum(), parameters, allow_unused=True
        )

    ours = gradients(encode_images(model, pixels), encode_text(model, text, model.token_embedding.weight))
    theirs = gradients(model.encode_image(pixels, normalize=True), model.encode_text(ids_BL, normalize=True))
    for name, our, their in zip(names, ours, theirs, strict=True):
        if their is None:
            assert our is None
            assert name == "logit_scale"
        else:
            assert our is not None
            assert torch.allclose(our, their, atol=1e-10), name


def test_a_table_of_the_tokens_that_occur_serves_as_well(model: open_clip.CLIP) -> None:
    text = packed(CAPTIONS)[1]
    vocabulary_V, indices_T = text.tokens_T.unique(return_inverse=True)
    table_VW = model.token_embedding.weight[vocabulary_V]
    assert torch.allclose(
        encode_text(model, text._replace(tokens_T=indices_T), table_VW),
        encode_text(model, text, model.token_embedding.weight),
    )


def test_packing_drops_the_padding_alone() -> None:
    ids_BL = torch.tensor([[7, 8, 9, 0, 0], [7, 9, 0, 0, 0], [7, 1, 2, 9, 0]])
    text = pack_text(ids_BL, torch.tensor([3, 2, 4]))
    assert text.tokens_T.tolist() == [7, 8, 9, 7, 9, 7, 1, 2, 9]
    assert text.positions_T.tolist() == [0, 1, 2, 0, 1, 0, 1, 2, 3]
    assert text.cells_T.tolist() == [0, 1, 2, 4, 5, 8, 9, 10, 11]
    assert text.last_B.tolist() == [2, 4, 8]
    assert text.longest == 4


def test_a_caption_does_not_depend_on_its_neighbours(model: open_clip.CLIP) -> None:
    alone = encode_text(model, packed(CAPTIONS[:1])[1], model.token_embedding.weight)
    among = encode_text(model, packed(CAPTIONS)[1], model.token_embedding.weight)
    assert torch.allclose(alone[0], among[0], atol=1e-12)


@pytest.mark.parametrize("shape", [(6, 5), (2, 3, 5)])
def test_a_narrow_product_rounds_its_factors_and_nothing_else(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(s, generator=generator) for s in (shape, (4, 5), (4,)))
    wanted = torch.randn((*shape[:-1], 4), generator=generator)

    def gradients(linear: Linear, dtype: torch.dtype, rounded: bool) -> list[Tensor]:
        given = [part.bfloat16() if rounded else part for part in (x, weight)]
        leaves = [part.to(dtype).requires_grad_() for part in (*given, bias)]
        upstream = wanted.bfloat16().to(dtype) if rounded else wanted.to(dtype)
        made = linear(*leaves)
        return [made.detach(), *torch.autograd.grad(made, leaves, upstream)]

    narrow = gradients(narrow_linear, torch.float32, False)
    assert {part.dtype for part in narrow} == {torch.float32}
    exact = gradients(F.linear, torch.float64, True)
    for ours, theirs in zip(narrow[:-1], exact[:-1], strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=2**-7, atol=2**-7)
    assert torch.equal(narrow[-1], wanted.flatten(0, -2).sum(0))  # of the bias, which is not rounded
