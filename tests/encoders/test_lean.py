"""Lean forward passes against the towers they stand for: features, gradients, refusals, what they compute."""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from crossgap.encoders import lean
from crossgap.encoders.blocks import Block, UnknownTowerError, attend
from crossgap.encoders.lean import LeanImage, LeanWholeText, lean_text
from crossgap.encoders.open_clip import OpenClipEncoder
from crossgap.errors import InputError
from crossgap.inversion.config import InversionConfig
from crossgap.inversion.loop import invert, invert_grid, stretch
from tests.tiny_hugging_face import FAMILIES
from tests.tiny_towers import TEXT, VIT, Family, clip, custom, randomise, timm_vision

SCALED = {"ls_init_value": 0.5}
MORE = {
    "layer-scale": Family(build=partial(clip, {**VIT, **SCALED}, SCALED)),
    "average-pool": Family(build=partial(clip, {**VIT, "pool_type": "avg", "final_ln_after_pool": True})),
    "linear-projection": Family(build=partial(custom, {**VIT, "no_ln_pre": True}, {"proj_bias": True})),
    "no-projection": Family(build=partial(custom, None, {"proj_type": "none", "width": 16})),
    "timm-token": Family(build=partial(clip, timm_vision("crossgap_tiny_vit", "token", "linear"))),
    "timm-average": Family(build=partial(clip, timm_vision("crossgap_tiny_vit", "avg", "mlp"))),
}
ALL = {**FAMILIES, **MORE}
# towers that pool their first or last position: every position is computed, in the last layer one query
WHOLE_TEXT = ["clipa", "clips", "siglip", "siglip2", "hf-siglip", "hf-siglip2"]
# families whose towers are refused, with words of the reason
NO_LEAN_TEXT = {
    name: family.not_causal for name, family in ALL.items() if family.not_causal and name not in WHOLE_TEXT
}
NO_LEAN_TEXT["clip-qk-norm"] = "CustomResidualAttentionBlock"
NO_LEAN_IMAGE = {
    "siglip2": "images of any size",
    "timm-registers": "images of any size",
    "eva": "of type Eva",
    "eva02": "of type Eva",
    "pe-core": "of type Eva",
    "swin": "of type SwinTransformer",
}
LEAN_TEXT = [name for name in ALL if name not in NO_LEAN_TEXT]
LEAN_IMAGE = [name for name, family in ALL.items() if name not in NO_LEAN_IMAGE and not family.no_patches]


def build(name: str, dtype: torch.dtype = torch.float64, **options: Any) -> OpenClipEncoder:
    return OpenClipEncoder(ALL[name].model(dtype), ALL[name].tokenizer(), name=name, **options)


def pseudo_tokens(rows: int, num_tokens: int, width: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(num_tokens)
    tokens = 0.5 * torch.randn(rows, num_tokens, width, generator=generator, dtype=torch.float64)
    return tokens.to(dtype).requires_grad_(True)


def lean_image(encoder: OpenClipEncoder) -> LeanImage:
    return LeanImage(encoder, lambda tokens: stretch(tokens, encoder.num_patches))


def assert_equal_with_gradients(ours: list[Tensor], theirs: list[Tensor], pseudo: list[Tensor]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)
    weights = [torch.linspace(-1, 1, one.numel(), dtype=one.dtype).view_as(one) for one in ours]
    gradients = [
        torch.autograd.grad(
            sum((rows * weight).sum() for rows, weight in zip(found, weights, strict=True)), pseudo
        )
        for found in (ours, theirs)
    ]
    for one, other in zip(*gradients, strict=True):
        assert (other.abs().amax(dim=2) > 0).all()
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("template", ["a photo of {} in the park", "{}, the dog", "two {}"])
@pytest.mark.parametrize("name", LEAN_TEXT)
def test_text_equals_the_tower(name: str, template: str) -> None:
    """Groups of one and three pseudo-tokens at once; for mT5's tokenizer ``{}`` may be the first position."""
    encoder = build(name)
    prompts = [encoder.prompt(template, count) for count in (1, 3)]
    pseudo = [pseudo_tokens(rows, count, encoder.text_width) for rows, count in ((4, 1), (2, 3))]
    pairs = zip(prompts, pseudo, strict=True)
    theirs = [encoder.encode_text_with(prompt, tokens) for prompt, tokens in pairs]
    assert_equal_with_gradients(lean_text(encoder, prompts)(pseudo), theirs, pseudo)


@pytest.mark.parametrize("name", WHOLE_TEXT)
def test_a_tower_whose_every_position_is_computed_equals_it_to_rounding(name: str) -> None:
    """Features and gradients in float64 within 1e-12, with three layers so that one lies in the middle."""
    family = ALL[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = family.build()
        blocks = model.text.transformer.resblocks
        blocks.append(copy.deepcopy(blocks[0]))
        encoder = OpenClipEncoder(randomise(model, torch.float64), family.tokenizer(), name=name)
    prompts = [encoder.prompt("a photo of {} in the park", count) for count in (1, 2)]
    pseudo = [pseudo_tokens(rows, count, encoder.text_width) for rows, count in ((3, 1), (2, 2))]
    pairs = zip(prompts, pseudo, strict=True)
    theirs = torch.cat([encoder.encode_text_with(prompt, tokens) for prompt, tokens in pairs])
    lean = lean_text(encoder, prompts)
    assert type(lean) is LeanWholeText
    ours = torch.cat(lean(pseudo))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    weight = torch.linspace(-1, 1, ours.numel(), dtype=ours.dtype).view_as(ours)
    gradients = [torch.autograd.grad((rows * weight).sum(), pseudo) for rows in (ours, theirs)]
    for one, other in zip(*gradients, strict=True):
        assert other.abs().max() > 1e-3
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: setattr(text, "use_pad_mask", True), "bidirectional"),
        (lambda text: setattr(text, "pool_type", "argmax"), "bidirectional"),
        (lambda text: text.transformer.resblocks.pop(-1), "a single layer"),
    ],
)
def test_towers_whose_pooled_position_or_mask_is_not_fixed_are_refused(change: Any, reason: str) -> None:
    encoder = build("siglip")
    prompt = encoder.prompt("a photo of {}", 1)
    change(encoder.text_tower)
    with pytest.raises(UnknownTowerError, match=reason):
        LeanWholeText(encoder, [prompt])


@pytest.mark.parametrize("name", LEAN_IMAGE)
def test_image_equals_the_tower(name: str) -> None:
    encoder = build(name)
    pseudo = [pseudo_tokens(rows, count, encoder.image_width) for rows, count in ((4, 1), (2, 5))]
    theirs = [encoder.encode_image_with(stretch(tokens, encoder.num_patches)) for tokens in pseudo]
    assert_equal_with_gradients(lean_image(encoder)(pseudo), theirs, pseudo)


@pytest.mark.parametrize(
    ("name", "into", "reason"),
    [(name, "text", reason) for name, reason in NO_LEAN_TEXT.items()]
    + [(name, "image", reason) for name, reason in NO_LEAN_IMAGE.items()],
)
def test_towers_of_another_kind_are_refused_with_the_reason(name: str, into: str, reason: str) -> None:
    """Asked for it is an error; ``auto`` takes the tower without a word (a warning would fail the test)."""
    encoder = build(name)
    arguments = {"into": into, "config": InversionConfig(steps=1), "item_ids": ["a", "b"]}
    targets = torch.eye(2, encoder.embed_dim)
    with pytest.raises(InputError, match=rf"engine 'lean' is not possible .* into {into}: .*{reason}"):
        invert(encoder, targets, engine="lean", **arguments)
    assert invert(encoder, targets, **arguments).engine == "tower"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda block: setattr(block, "ln_1", torch.nn.RMSNorm(32, dtype=torch.float64)), "norms are not"),
        (lambda block: setattr(block.ln_2, "bias", None), "norms are not"),
        (lambda block: setattr(block.ln_2, "eps", 1e-3), "epsilon"),
        (lambda block: setattr(block.mlp, "gelu", torch.nn.ReLU()), "activation is not GELU"),
        (lambda block: setattr(block.attn, "in_proj_weight", None), "attention is not plain"),
        (lambda block: setattr(block, "ln_1_kv", block.ln_1), "another tower"),
    ],
)
def test_blocks_of_another_kind_are_refused(change: Any, reason: str) -> None:
    encoder = build("clip")
    change(encoder.image_tower.transformer.resblocks[1])
    with pytest.raises(UnknownTowerError, match=reason):
        lean_image(encoder)


@pytest.mark.parametrize(
    "changes",
    [{"qkv_bias": True, "qk_norm": True}, {"scale_attn_norm": True}, {"scale_mlp_norm": True}],
)
def test_norms_inside_a_timm_block_are_refused(changes: dict[str, bool]) -> None:
    family = Family(build=partial(clip, timm_vision("crossgap_tiny_vit", "token", "linear")))
    encoder = OpenClipEncoder(family.model(), family.tokenizer())
    kind = type(encoder.image_tower.trunk.blocks[0])
    encoder.image_tower.trunk.blocks[0] = kind(32, 2, **changes).double().eval()
    with pytest.raises(UnknownTowerError, match="norms or gates of its own"):
        lean_image(encoder)


def test_an_encoder_of_another_class_runs_its_tower() -> None:
    class Foreign:
        def __init__(self, inner: OpenClipEncoder) -> None:
            self._inner = inner

        def __getattr__(self, name: str) -> Any:
            return getattr(self._inner, name)

    arguments = {"into": "text", "config": InversionConfig(steps=1), "item_ids": ["a"]}
    targets = torch.eye(1, 16)
    assert invert(Foreign(build("clip")), targets, **arguments).engine == "tower"
    with pytest.raises(InputError, match="of type Foreign"):
        invert(Foreign(build("clip")), targets, engine="lean", **arguments)


@pytest.mark.parametrize("into", ["text", "image"])
@pytest.mark.parametrize(
    ("wrong", "dtype"), [(1e-4, torch.float64), (0.3, torch.float32), (float("nan"), torch.float32)]
)
def test_a_pass_that_disagrees_with_the_tower_is_not_used(
    monkeypatch: pytest.MonkeyPatch, into: str, wrong: float, dtype: torch.dtype
) -> None:
    """As when a newer library changes its towers under the same names."""
    read = lean.read_block

    def misread(module: Any, dtype: torch.dtype) -> Block:
        block = read(module, dtype)
        return replace(block, out_weight=block.out_weight * (1 + wrong))

    encoder = build("clip", dtype)
    arguments = {"into": into, "config": InversionConfig(steps=3), "item_ids": ["a", "b"]}
    targets = torch.eye(2, 16)
    monkeypatch.setattr(lean, "read_block", misread)
    with pytest.warns(UserWarning, match="differs from the tower by .*; the tower itself runs"):
        result = invert(encoder, targets, **arguments)
    with pytest.raises(InputError, match="differs from the tower by"):
        invert(encoder, targets, engine="lean", **arguments)
    expected = invert(encoder, targets, engine="tower", **arguments)
    assert result.engine == "tower"
    assert torch.equal(result.features, expected.features)


@pytest.mark.parametrize("name", ["clip", "clip-quickgelu", "siglip"])
@pytest.mark.parametrize("into", ["text", "image"])
def test_bfloat16_is_close_to_float32(name: str, into: str) -> None:
    """Cosine above .999 to float32 and to the tower under autocast; state and features stay float32."""
    single, half = build(name, torch.float32), build(name, torch.float32, precision="bf16")
    width = single.text_width if into == "text" else single.image_width
    tokens = pseudo_tokens(16, 2, width, torch.float32)
    if into == "text":
        prompt = single.prompt("a photo of {}", 2)
        reference, tower = (encoder.encode_text_with(prompt, tokens) for encoder in (single, half))
        (found,) = lean_text(half, [prompt])([tokens])
    else:
        patches = stretch(tokens, single.num_patches)
        reference, tower = (encoder.encode_image_with(patches) for encoder in (single, half))
        (found,) = lean_image(half)([tokens])
    assert found.dtype == torch.float32
    assert not torch.equal(found, reference)
    for other in (reference, tower):
        assert (found * other).sum(dim=1).min() > 0.999
    gradients = [
        torch.autograd.grad(rows[:, 0].sum(), tokens, retain_graph=True)[0] for rows in (found, reference)
    ]
    assert gradients[0].dtype == torch.float32
    cosine = torch.nn.functional.cosine_similarity(*(gradient.flatten() for gradient in gradients), dim=0)
    assert cosine > 0.99
    config = InversionConfig(steps=30, num_tokens=2)
    arguments = {"into": into, "config": config, "item_ids": [str(row) for row in range(16)]}
    targets = torch.randn(16, single.embed_dim, generator=torch.Generator().manual_seed(0))
    ours = invert(half, targets, engine="lean", **arguments)
    plain = invert(single, targets, **arguments)
    assert ours.tokens.dtype == ours.features.dtype == torch.float32
    assert (ours.losses[:, -1].mean() - plain.losses[:, -1].mean()).abs() < 0.02


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("constant", [False, True])
def test_attention_in_bfloat16_is_that_of_float32_and_keeps_its_inputs_alone(
    masked: bool, constant: bool
) -> None:
    """The same bits as autograd through float32 gives; one call keeps no float32 for its backward."""
    generator = torch.Generator().manual_seed(0)
    parts = [torch.randn(3, rows, 2, 8, generator=generator).bfloat16() for rows in (4, 6, 6)]
    needed = (True, not constant, True)
    query, key, value = (part.requires_grad_(need) for part, need in zip(parts, needed, strict=True))
    mask = torch.full((4, 6), -torch.inf).triu(3) if masked else None
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda one: kept.append(one) or one, lambda one: one):
        found = attend(query, key, value, None if mask is None else mask.bfloat16())
    singles = [part.float().transpose(1, 2) for part in (query, key, value)]
    single = torch.nn.functional.scaled_dot_product_attention(*singles, attn_mask=mask)
    expected = single.bfloat16().transpose(1, 2).flatten(2)
    assert torch.equal(found, expected)
    upstream = torch.randn(found.shape, generator=generator).bfloat16()
    wanted = [part for part in (query, key, value) if part.requires_grad]
    gradients = (torch.autograd.grad(one, wanted, upstream) for one in (found, expected))
    for ours, theirs in zip(*gradients, strict=True):
        assert ours.dtype == torch.bfloat16
        assert torch.equal(ours, theirs)
    assert {one.dtype for one in kept} == {torch.bfloat16}
    assert sum(one.numel() for one in kept) == sum(part.numel() for part in parts) + 24 * masked


def test_float32_weights_are_the_modules_own() -> None:
    for name in ("clip", "siglip", "layer-scale"):
        encoder = build(name, torch.float32)
        own = {tensor.data_ptr() for tensor in encoder.model.parameters()}
        prompt = encoder.prompt("a photo of {}", 1)
        passes: list[Any] = [lean_image(encoder), lean_text(encoder, [prompt])]
        for one in passes:
            for block in one._blocks:
                held = [*block.norm_1, *block.norm_2, *vars(block).values()]
                tensors = [tensor for tensor in held if isinstance(tensor, Tensor)]
                assert len(tensors) == (14 if name == "layer-scale" else 12)
                assert all(tensor.data_ptr() in own for tensor in tensors)


@pytest.mark.parametrize("into", ["text", "image"])
def test_the_model_is_left_alone(into: str) -> None:
    encoder = build("clip-quickgelu", torch.float32)
    before = {name: tensor.clone() for name, tensor in encoder.model.state_dict().items()}
    config = InversionConfig(steps=3)
    invert(encoder, torch.eye(2, 16), into=into, config=config, item_ids=["a", "b"], engine="lean")
    for name, tensor in encoder.model.state_dict().items():
        assert torch.equal(tensor, before[name])
    for parameter in encoder.model.parameters():
        assert parameter.grad is None
        assert not parameter.requires_grad
    for module in encoder.model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


def projections(monkeypatch: pytest.MonkeyPatch) -> list[tuple[tuple[int, ...], slice]]:
    """Record shape and parts of every projection to queries, keys and values."""
    seen: list[tuple[tuple[int, ...], slice]] = []
    project = Block.project

    def recorded(self: Block, states: Tensor, *, parts: slice) -> tuple[Tensor, ...]:
        seen.append((tuple(states.shape), parts))
        return project(self, states, parts=parts)

    monkeypatch.setattr(Block, "project", recorded)
    return seen


def test_a_step_into_text_computes_the_tail_of_the_prompt_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start, "a photo of", two pseudo-tokens and end: four positions once, three a step, one last query."""
    encoder = build("clip")
    width, every = encoder.text_width, slice(0, 3)
    seen = projections(monkeypatch)
    config = InversionConfig(steps=5, num_tokens=2)
    invert(encoder, torch.eye(3, 16), into="text", config=config, item_ids=["a", "b", "c"], engine="lean")
    assert TEXT["layers"] == 2
    once, check, steps = seen[:2], seen[2:5], seen[5:]
    assert once == [((1, 4, width), every)] * 2
    assert check == [((2 * 3, width), every), ((2 * 3, width), slice(1, 3)), ((2, width), slice(0, 1))]
    assert steps == 6 * [((3 * 3, width), every), ((3 * 3, width), slice(1, 3)), ((3, width), slice(0, 1))]


def test_a_step_into_a_bidirectional_tower_ends_in_one_query(monkeypatch: pytest.MonkeyPatch) -> None:
    """The prompt's projections once; a step: those of two pseudo-tokens, then of all 16, then one query."""
    encoder = build("siglip")
    width, every = encoder.text_width, slice(0, 3)
    seen = projections(monkeypatch)
    config = InversionConfig(steps=5, num_tokens=2)
    targets = torch.eye(3, encoder.embed_dim)
    invert(encoder, targets, into="text", config=config, item_ids=["a", "b", "c"], engine="lean")
    assert TEXT["layers"] == 2
    once, steps = seen[:1], seen[4:]
    assert once == [((1, 16, width), every)]
    step = [((3 * 2, width), every), ((3, 16, width), slice(1, 3)), ((3, 1, width), slice(0, 1))]
    assert steps == 6 * step


def test_a_step_into_images_ends_in_one_query(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = projections(monkeypatch)
    invert(
        build("clip"),
        torch.eye(3, 16),
        into="image",
        config=InversionConfig(steps=5),
        item_ids=["a", "b", "c"],
        engine="lean",
    )
    step = [((3, 17, 32), slice(0, 3)), ((3, 17, 32), slice(1, 3)), ((3, 1, 32), slice(0, 1))]
    assert seen[3:] == 6 * step


class Reads(TorchDispatchMode):
    """Counts what makes a host wait for its device."""

    waits = ("_local_scalar_dense", "item", "nonzero", "equal", "is_nonzero", "unique", "masked_select")

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name.startswith(self.waits):
            self.counts[name] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("method", ["adamw", "lbfgs"])
@pytest.mark.parametrize("engine", ["lean", "tower"])
@pytest.mark.parametrize("into", ["text", "image"])
def test_more_steps_read_and_tokenise_nothing_more(
    monkeypatch: pytest.MonkeyPatch, into: str, engine: str, method: str
) -> None:
    """Neither the host's reads of tensors nor calls of the tokenizer grow with the steps."""
    encoder = build("clip")
    tokenizer, calls = encoder.tokenizer, Counter[str]()

    def counted(*args: Any, **kwargs: Any) -> Tensor:
        calls["tokenizer"] += 1
        return tokenizer(*args, **kwargs)

    monkeypatch.setattr(encoder, "tokenizer", counted)
    for name in ("tolist", "cpu", "numpy", "__bool__", "item"):
        original = getattr(Tensor, name)

        def read(
            self: Tensor, *args: Any, _name: str = name, _original: Any = original, **kwargs: Any
        ) -> Any:
            calls[_name] += 1
            return _original(self, *args, **kwargs)

        monkeypatch.setattr(Tensor, name, read)

    def run(steps: int) -> Counter[str]:
        calls.clear()
        config = InversionConfig(steps=steps, method=method, weight_decay=0, target_cosine=0.9999)
        with Reads() as reads:
            invert(
                encoder,
                torch.eye(4, 16),
                into=into,
                config=config,
                item_ids=list("abcd"),
                snapshots=(0, 2),
                engine=engine,
            )
        return reads.counts + calls

    few, more = run(2), run(9)
    assert few["tolist"] > 0
    assert few["_local_scalar_dense"] > 0
    assert bool(few["tokenizer"]) is (into == "text")
    assert more == few


@pytest.mark.parametrize(("name", "into"), [("clip", "text"), ("clip", "image"), ("siglip", "text")])
def test_compiled_is_one_graph_with_the_same_numbers(
    monkeypatch: pytest.MonkeyPatch, name: str, into: str
) -> None:
    """Traced whole and run without a code generator, so that no C++ compiler or GPU is needed."""
    asked: list[dict[str, Any]] = []
    compile_ = torch.compile

    def traced(forward: Any, **options: Any) -> Any:
        asked.append(options)
        return compile_(forward, backend="eager", fullgraph=True, **options)

    monkeypatch.setattr(torch, "compile", traced)
    encoder = build(name, torch.float32)
    configs = [InversionConfig(steps=5), InversionConfig(steps=5, num_tokens=2)]
    arguments = {"into": into, "configs": configs, "item_ids": ["a", "b"], "engine": "lean"}
    expected = invert_grid(encoder, torch.eye(2, encoder.embed_dim), **arguments)
    assert not asked
    result = invert_grid(encoder, torch.eye(2, encoder.embed_dim), compiled=True, **arguments)
    assert asked == [{"dynamic": False}]
    for one, other in zip(result, expected, strict=True):
        torch.testing.assert_close(one.features, other.features, rtol=0, atol=1e-6)
        torch.testing.assert_close(one.losses, other.losses, rtol=0, atol=1e-6)
