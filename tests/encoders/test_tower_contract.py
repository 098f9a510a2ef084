"""What every kind of model must do behind the encoder: one contract over a registry of tiny families."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from crossgap.encoders.image_towers import PatchEmbedding
from crossgap.encoders.loading import CONFIG_FILE, WEIGHTS_FILE, load_encoder
from crossgap.encoders.open_clip import OpenClipEncoder
from crossgap.errors import InputError
from crossgap.inversion.config import InversionConfig
from crossgap.inversion.loop import invert
from tests.tiny_hugging_face import FAMILIES
from tests.tiny_towers import (
    BERT,
    CONTEXT,
    GEMMA,
    ROBERTA,
    SIZE,
    TEXT,
    VIT,
    Family,
    bert_tokenizer,
    clip,
    hugging_face,
    local_tokenizer,
    mt5_tokenizer,
    piece_tokenizer,
    save_tokenizer,
    word_tokenizer,
)

SENTENCES = [
    ("a photo of {}", "cat"),
    ("a photo of {} in the park.", "big red cat"),
    ("{}, the dog", "red fish"),
]


def build(name: str, dtype: torch.dtype = torch.float64) -> OpenClipEncoder:
    family = FAMILIES[name]
    return OpenClipEncoder(family.model(dtype), family.tokenizer(), name=name)


@pytest.fixture(params=list(FAMILIES), scope="module")
def encoder(request: pytest.FixtureRequest) -> OpenClipEncoder:
    return build(request.param)


def features(output: Any) -> Tensor:
    return F.normalize(output[0] if isinstance(output, tuple) else output, dim=-1)


def pixels(count: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1), dtype=dtype)


def family_of(encoder: OpenClipEncoder) -> Family:
    return FAMILIES[encoder.name]


def state_of(model: torch.nn.Module) -> dict[str, Any]:
    """All that wrapping a model must leave alone."""
    modules = dict(model.named_modules())
    return {
        "weights": {name: tensor.numpy().tobytes() for name, tensor in model.state_dict().items()},
        "buffers": {name: tensor.numpy().tobytes() for name, tensor in model.named_buffers()},
        "attributes": {name: set(vars(module)) for name, module in modules.items()},
        "training": {name: module.training for name, module in modules.items()},
        "frozen": {name: parameter.requires_grad for name, parameter in model.named_parameters()},
        "hooks": sum(
            len(module._forward_hooks) + len(module._forward_pre_hooks) + len(module._backward_hooks)
            for module in modules.values()
        ),
    }


@pytest.mark.parametrize("template, words", SENTENCES)
def test_true_token_embeddings_reproduce_the_text_tower(
    encoder: OpenClipEncoder, template: str, words: str
) -> None:
    ids_1L = encoder.tokenize([template.format(words)])
    prompt = encoder.prompt(template, len(words.split()))
    others = torch.ones(CONTEXT, dtype=torch.bool).index_fill(0, prompt.positions, False)
    assert torch.equal(prompt.tokens_L[others], ids_1L[0, others])
    true_1KW = encoder.token_embedding(ids_1L)[:, prompt.positions]
    expected = features(encoder.model.encode_text(ids_1L))
    torch.testing.assert_close(encoder.encode_text_with(prompt, true_1KW), expected, rtol=0, atol=1e-12)


def test_text_is_encoded_as_the_tower_does(encoder: OpenClipEncoder) -> None:
    tokens_BL = encoder.tokenize(["a photo of a cat", "two", "", "the red bus in the park , one dog " * 3])
    expected = features(encoder.model.encode_text(tokens_BL))
    result = encoder.encode_text(tokens_BL)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(result.norm(dim=1), torch.ones(4, dtype=torch.float64))
    assert encoder.embed_dim == result.shape[1]


def test_the_placeholder_holds_no_id_that_the_tower_treats_specially(encoder: OpenClipEncoder) -> None:
    prompt = encoder.prompt("a photo of {}", 3)
    (filler,) = set(prompt.tokens_L[prompt.positions].tolist())
    empty_L = encoder.tokenize([""])[0]
    assert filler not in empty_L.tolist()
    tower = encoder.text_tower
    assert filler not in (getattr(tower, "pad_id", None), getattr(tower, "eos_id", None))


def test_the_reason_against_cutting_is_stated(encoder: OpenClipEncoder) -> None:
    expected = family_of(encoder).not_causal
    assert encoder.causal is not bool(expected)
    if expected:
        assert expected in str(encoder.why_not_causal)
    else:
        assert encoder.why_not_causal is None


def test_what_follows_the_text_matters_only_where_it_is_said_to(encoder: OpenClipEncoder) -> None:
    """In a causal encoder ids after the text change nothing; elsewhere the cut is not made."""
    prompt = encoder.prompt("a photo of {}", 1)
    tokens_1L = prompt.tokens_L[None].clone()
    before = features(encoder.model.encode_text(tokens_1L))
    tokens_1L[0, prompt.length :] = prompt.tokens_L[prompt.positions]
    after = features(encoder.model.encode_text(tokens_1L))
    assert torch.equal(before, after) or not encoder.causal


def test_true_patch_embeddings_reproduce_the_image_tower(encoder: OpenClipEncoder) -> None:
    images = pixels(3)
    expected = features(encoder.model.encode_image(images))
    torch.testing.assert_close(encoder.encode_image(images), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(expected.norm(dim=1), torch.ones(3, dtype=torch.float64))
    if encoder.why_no_patches:
        return
    visual = encoder.image_tower
    embedded = (visual.conv1 if hasattr(visual, "conv1") else visual.trunk.patch_embed)(images)
    if embedded.ndim == 4 and embedded.shape[3] == encoder.image_width:
        patches_BNW = embedded.flatten(1, 2)
    else:
        patches_BNW = embedded if embedded.ndim == 3 else embedded.flatten(2).transpose(1, 2)
    assert patches_BNW.shape == (3, encoder.num_patches, encoder.image_width)
    torch.testing.assert_close(encoder.encode_image_with(patches_BNW), expected, rtol=0, atol=1e-12)


def test_towers_without_patches_refuse_them_with_the_reason(encoder: OpenClipEncoder) -> None:
    expected = family_of(encoder).no_patches
    assert bool(encoder.why_no_patches) is bool(expected)
    if not expected:
        return
    assert expected in str(encoder.why_no_patches)
    with pytest.raises(InputError, match="takes no pseudo-patches"):
        encoder.encode_image_with(torch.zeros(1, 16, 32, dtype=torch.float64))
    for name in ("num_patches", "image_width"):
        with pytest.raises(InputError, match=expected):
            getattr(encoder, name)


def test_gradients_reach_every_pseudo_token(encoder: OpenClipEncoder) -> None:
    prompt = encoder.prompt("a photo of {} in the park", 3)
    tokens = 0.1 * torch.randn(2, 3, encoder.text_width, dtype=torch.float64)
    tokens.requires_grad_(True)
    (gradient,) = torch.autograd.grad(encoder.encode_text_with(prompt, tokens)[:, 0].sum(), tokens)
    assert (gradient.abs().amax(dim=2) > 0).all()
    if encoder.why_no_patches:
        return
    patches = 0.1 * torch.randn(2, encoder.num_patches, encoder.image_width, dtype=torch.float64)
    patches.requires_grad_(True)
    (gradient,) = torch.autograd.grad(encoder.encode_image_with(patches)[:, 0].sum(), patches)
    assert (gradient.abs().amax(dim=2) > 0).all()


@pytest.mark.parametrize("name", list(FAMILIES))
def test_the_model_is_left_alone(name: str) -> None:
    family = FAMILIES[name]
    model = family.model()
    before = state_of(model)
    encoder = OpenClipEncoder(model, family.tokenizer(), name=name)
    encoder.encode_text(encoder.tokenize(["cat"]))
    encoder.encode_image(pixels(1))
    prompt = encoder.prompt("a photo of {}", 1)
    encoder.encode_text_with(prompt, torch.zeros(2, 1, encoder.text_width, dtype=torch.float64))
    if not encoder.why_no_patches:
        encoder.encode_image_with(
            torch.zeros(2, encoder.num_patches, encoder.image_width, dtype=torch.float64)
        )
    assert state_of(model) == before


@pytest.mark.parametrize("into", ["text", "image"])
@pytest.mark.parametrize("name", list(FAMILIES))
def test_inversion_lowers_the_loss_or_is_refused(name: str, into: str) -> None:
    encoder = build(name, torch.float32)
    targets = encoder.encode_image(pixels(2, torch.float32))
    settings = {"config": InversionConfig(steps=10, num_tokens=2), "item_ids": ["a", "b"]}
    if into == "image" and FAMILIES[name].no_patches:
        with pytest.raises(InputError, match=FAMILIES[name].no_patches):
            invert(encoder, targets, into=into, **settings)
        return
    found = invert(encoder, targets, into=into, **settings)
    assert (found.losses[:, -1] < found.losses[:, 0] - 1e-3).all()
    torch.testing.assert_close(found.features.norm(dim=1), torch.ones(2))


def test_half_precision_runs(encoder: OpenClipEncoder) -> None:
    half = OpenClipEncoder(family_of(encoder).model(torch.float32), encoder.tokenizer, precision="bf16")
    prompt = half.prompt("a photo of {}", 1)
    assert half.encode_text_with(prompt, torch.zeros(1, 1, half.text_width)).dtype == torch.float32
    if not half.why_no_patches:
        patches = torch.zeros(2, half.num_patches, half.image_width)
        assert half.encode_image_with(patches).shape == (2, half.embed_dim)


def test_patches_are_laid_out_row_by_row() -> None:
    patches = torch.arange(2 * 6 * 4.0).reshape(2, 6, 4)
    layer = torch.nn.Identity()
    last = PatchEmbedding(layer, 4, 6, (2, 3), channels_last=True).arrange(patches)
    first = PatchEmbedding(layer, 4, 6, (2, 3), channels_last=False).arrange(patches)
    assert last.shape == (2, 2, 3, 4)
    assert torch.equal(first, last.permute(0, 3, 1, 2))
    assert torch.equal(last[1, 1, 0], patches[1, 3])


def test_an_end_id_that_the_tokenizer_does_not_write_is_noticed() -> None:
    """open_clip's default eos_id is 2; T5's end-of-text is 1."""
    family = Family(
        build=lambda: clip(None, {"vocab_size": 400, "pool_type": "eos"}), tokenizer=mt5_tokenizer
    )
    encoder = OpenClipEncoder(family.model(), family.tokenizer())
    assert not encoder.causal
    assert "not where its tokenizer ends a text" in str(encoder.why_not_causal)
    with pytest.raises(InputError, match="tokenizer and tower do not match"):
        encoder.prompt("a photo of {}", 1)


def test_an_end_id_of_zero_is_taken_at_its_word() -> None:
    special = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    tokenizer = local_tokenizer(piece_tokenizer(special, "$A </s>"), special)
    family = Family(build=lambda: clip(None, {"vocab_size": 400, "pool_type": "eos", "eos_id": 0}))
    encoder = OpenClipEncoder(family.model(), tokenizer)
    assert encoder.causal
    tokens_BL = encoder.tokenize(["a photo of a cat", "dog"])
    expected = features(encoder.model.encode_text(tokens_BL))
    torch.testing.assert_close(encoder.encode_text(tokens_BL), expected, rtol=0, atol=1e-12)


def test_pooling_the_highest_id_needs_a_tokenizer_whose_end_is_the_highest() -> None:
    family = Family(build=lambda: clip(None, {"vocab_size": 400}), tokenizer=bert_tokenizer)
    encoder = OpenClipEncoder(family.model(), family.tokenizer())
    assert not encoder.causal
    with pytest.raises(InputError, match="tokenizer and tower do not match"):
        encoder.prompt("a photo of {}", 1)


@pytest.mark.parametrize("side", ["left", "none"])
def test_a_tokenizer_that_is_not_understood_is_refused(side: str) -> None:
    if side == "left":
        tokenizer: Any = local_tokenizer(word_tokenizer(BERT, "[CLS] $A [SEP]"), BERT)
        tokenizer.tokenizer.padding_side = "left"
    else:

        def tokenizer(texts: list[str], context_length: int = CONTEXT) -> Tensor:
            return torch.arange(context_length).repeat(len(texts), 1)

    model = FAMILIES["bert"].model()
    with pytest.raises(InputError, match="not understood"):
        OpenClipEncoder(model, tokenizer)


def test_left_padding_without_a_start_is_refused() -> None:
    tokenizer = local_tokenizer(piece_tokenizer(GEMMA, "$A <eos>"), GEMMA)
    tokenizer.tokenizer.padding_side = "left"
    with pytest.raises(InputError, match="not understood"):
        OpenClipEncoder(FAMILIES["siglip2"].model(), tokenizer)


def test_a_tokenizer_without_common_words_is_refused_when_prompted() -> None:
    special = {**BERT}
    tokenizer = local_tokenizer(word_tokenizer(special, "[CLS] $A [SEP]", ["photo", "of", "a"]), special)
    encoder = OpenClipEncoder(FAMILIES["bert"].model(), tokenizer)
    with pytest.raises(InputError, match="knows no word to put there"):
        encoder.prompt("a photo of {}", 1)


@pytest.mark.parametrize("name", ["clip", "siglip", "roberta", "clips"])
def test_prompts_fill_the_context_and_no_more(name: str) -> None:
    encoder = build(name)
    room = int((encoder.prompt("a photo of {}", 1).tokens_L == encoder._frame.padding).sum())
    assert encoder.prompt("a photo of {}", 1 + room).length == CONTEXT - len(encoder._frame.after)
    with pytest.raises(InputError, match=f"takes {CONTEXT + 1} positions"):
        encoder.prompt("a photo of {}", 2 + room)
    with pytest.raises(InputError, match="takes more than"):
        encoder.prompt("a photo of " * 60 + "{}", 1)
    with pytest.raises(InputError, match="exactly once"):
        encoder.prompt("a photo", 1)


def test_letters_that_touch_the_placeholder_stay_apart() -> None:
    encoder = build("clip")
    assert torch.equal(encoder.prompt("two{}s", 1).tokens_L, encoder.prompt("two {} s", 1).tokens_L)


def test_a_model_without_preprocessing_is_refused() -> None:
    model = open_clip.CLIP(16, {**VIT}, {**TEXT}).eval()
    with pytest.raises(InputError, match="how to preprocess images"):
        OpenClipEncoder(model, open_clip.SimpleTokenizer(context_length=CONTEXT))


def test_fingerprints_tell_activations_and_vocabularies_apart() -> None:
    plain, quick = FAMILIES["clip"], FAMILIES["clip-quickgelu"]
    models = plain.model(), quick.model()
    models[1].load_state_dict(models[0].state_dict())
    one, other = (OpenClipEncoder(model, plain.tokenizer()) for model in models)
    assert one.fingerprint != other.fingerprint
    model = FAMILIES["bert"].model()
    shuffled = local_tokenizer(word_tokenizer(BERT, "[CLS] $A [SEP]", ["cat", "of", "a", "photo"]), BERT)
    assert (
        OpenClipEncoder(model, bert_tokenizer()).fingerprint
        == OpenClipEncoder(model, bert_tokenizer()).fingerprint
    )
    assert (
        OpenClipEncoder(model, bert_tokenizer()).fingerprint != OpenClipEncoder(model, shuffled).fingerprint
    )


def write_checkpoint(folder: Path, model: torch.nn.Module, config: dict[str, Any]) -> None:
    about = {"model_cfg": config, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}}
    (folder / CONFIG_FILE).write_text(json.dumps(about))
    save_file(model.state_dict(), folder / WEIGHTS_FILE)


def test_a_folder_with_a_sentencepiece_tokenizer_loads(tmp_path: Path) -> None:
    special = {"unk_token": "<unk>", "eos_token": "</s>", "pad_token": "</s>"}
    save_tokenizer(piece_tokenizer({"unk_token": "<unk>", "eos_token": "</s>"}, "$A </s>"), special, tmp_path)
    text = {
        **TEXT,
        "vocab_size": 400,
        "no_causal_mask": True,
        "proj_bias": True,
        "pool_type": "last",
        "hf_tokenizer_name": "local",
        "tokenizer_kwargs": {"clean": "canonicalize"},
    }
    config = {"embed_dim": 16, "custom_text": True, "vision_cfg": {**VIT}, "text_cfg": text}
    model = open_clip.CustomTextCLIP(16, {**VIT}, {**text})
    write_checkpoint(tmp_path, model, config)
    encoder = load_encoder(str(tmp_path), device="cpu")
    assert type(encoder.tokenizer).__name__ == "HFTokenizer"
    ids = encoder.tokenize(["A photo, of a cat!"])
    assert torch.equal(ids, encoder.tokenize(["a photo of a cat"]))
    assert ids[0, -1] == 1
    expected = F.normalize(model.eval().encode_text(ids), dim=-1)
    torch.testing.assert_close(encoder.encode_text(ids), expected)


def test_a_folder_with_a_hugging_face_tower_loads_without_a_network(tmp_path: Path) -> None:
    save_tokenizer(piece_tokenizer(ROBERTA, "<s> $A </s>"), ROBERTA, tmp_path)
    text = {
        **hugging_face(str(tmp_path), "xlm-roberta", "mean_pooler", pad_token_id=1),
        "context_length": CONTEXT,
    }
    text["hf_tokenizer_name"] = "local"
    model = open_clip.CustomTextCLIP(16, {**VIT}, {**text})
    write_checkpoint(tmp_path, model, {"embed_dim": 16, "vision_cfg": {**VIT}, "text_cfg": text})
    encoder = load_encoder(str(tmp_path), device="cpu", precision="fp64")
    assert "Hugging Face" in str(encoder.why_not_causal)
    ids = encoder.tokenize(["a photo of a cat"])
    with torch.no_grad():
        expected = F.normalize(model.eval().double().encode_text(ids), dim=-1)
        torch.testing.assert_close(encoder.encode_text(ids), expected)


def test_without_transformers_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: Any, **_kwargs: Any) -> None:
        raise RuntimeError("Please `pip install transformers` to use pre-trained HuggingFace models")

    monkeypatch.setattr(open_clip, "create_model", fail)
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(InputError, match="the extra hf"):
        load_encoder("roberta-ViT-B-32", "random", device="cpu")


def test_a_tower_that_returns_more_than_one_vector_is_refused() -> None:
    family = Family(build=lambda: clip({**VIT, "pool_type": "none"}))
    encoder = OpenClipEncoder(family.model(), family.tokenizer())
    with pytest.raises(InputError, match=r"features of shape \(2, 17, 16\)"):
        encoder.encode_image(pixels(2))
