"""Injection reproduces the towers, leaves the model untouched and fails closed."""

from __future__ import annotations

import pytest
import torch

from crossgap.encoders.inject import InjectionError, cut_sequence, replaced_output
from tests.conftest import tiny_encoder

TEXTS = ["a photo of a cat", "two", "a very long caption of a red car on the road at night"]


def hooks_of(model: torch.nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


def test_injecting_the_true_token_embeddings_reproduces_encode_text(encoder) -> None:
    for text in ("a photo of cat", "a photo of big cat"):
        num_tokens = len(text.split()) - 3
        prompt = encoder.prompt("a photo of {}", num_tokens)
        ids_L = encoder.tokenize([text])[0]
        true_1KW = encoder.token_embedding.weight[ids_L[prompt.positions]][None]
        injected_1D = encoder.encode_text_with(prompt, true_1KW)
        full_1D = torch.nn.functional.normalize(encoder.model.encode_text(ids_L[None]), dim=-1)
        torch.testing.assert_close(injected_1D, full_1D, rtol=0, atol=1e-12)


def test_injecting_the_true_patch_embeddings_reproduces_encode_image(encoder) -> None:
    pixels = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    patches_BNW = encoder.model.visual.conv1(pixels).flatten(2).transpose(1, 2)
    expected = torch.nn.functional.normalize(encoder.model.encode_image(pixels), dim=-1)
    torch.testing.assert_close(encoder.encode_image_with(patches_BNW), expected, rtol=0, atol=1e-12)


def test_cutting_after_end_of_text_is_exact(encoder) -> None:
    assert encoder.causal
    tokens_BL = encoder.tokenize(TEXTS)
    full = torch.nn.functional.normalize(encoder.model.encode_text(tokens_BL), dim=-1)
    torch.testing.assert_close(encoder.encode_text(tokens_BL), full, rtol=0, atol=1e-12)


def test_cut_sequence_really_shortens(encoder) -> None:
    seen: list[tuple[int, ...]] = []
    block = encoder.text_tower.transformer.resblocks[0]
    handle = block.register_forward_pre_hook(lambda _m, args: seen.append(args[0].shape))
    encoder.encode_text(encoder.tokenize(["cat"]))
    handle.remove()
    assert seen == [(1, 3, 24)]


def test_gradients_reach_the_injected_tokens(encoder) -> None:
    prompt = encoder.prompt("a photo of {}", 2)
    pseudo = torch.randn(3, 2, encoder.text_width, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(encoder.encode_text_with(prompt, pseudo)[:, 0].sum(), pseudo)
    assert (gradient.abs().amax(dim=(1, 2)) > 0).all()


def test_hooks_are_removed_after_success_and_after_an_exception(encoder) -> None:
    prompt = encoder.prompt("a photo of {}", 1)
    encoder.encode_text_with(prompt, torch.zeros(1, 1, encoder.text_width, dtype=torch.float64))
    assert hooks_of(encoder.model) == 0
    with pytest.raises(RuntimeError):
        encoder.encode_text_with(prompt, torch.zeros(1, 1, encoder.text_width + 1, dtype=torch.float64))
    assert hooks_of(encoder.model) == 0


@pytest.mark.parametrize("runs", [0, 2])
def test_a_hook_that_does_not_fire_exactly_once_raises(runs: int) -> None:
    layer = torch.nn.Linear(2, 2)
    with pytest.raises(InjectionError, match=f"ran {runs} times"), replaced_output(layer, lambda out: out):
        for _ in range(runs):
            layer(torch.zeros(1, 2))
    with pytest.raises(InjectionError, match="ran 0 times"), cut_sequence(layer, 1):
        pass
    assert hooks_of(layer) == 0


def test_an_exception_inside_the_block_is_not_masked() -> None:
    layer = torch.nn.Linear(2, 2)
    with pytest.raises(KeyError, match="mine"), replaced_output(layer, lambda out: out):
        raise KeyError("mine")


def test_the_wrapped_model_gains_no_attribute() -> None:
    encoder = tiny_encoder()
    before = {name: set(vars(module)) for name, module in encoder.model.named_modules()}
    encoder.encode_image_with(torch.zeros(1, encoder.num_patches, encoder.image_width))
    assert {name: set(vars(module)) for name, module in encoder.model.named_modules()} == before
