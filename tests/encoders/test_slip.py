"""SLIP's checkpoints: a file in exactly the released layout encodes as a plain forward pass does."""

from __future__ import annotations

import argparse
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from crossgap.encoders import slip
from crossgap.encoders.loading import load_encoder
from crossgap.errors import InputError
from crossgap.inversion.config import InversionConfig
from crossgap.inversion.loop import invert

WIDTH, HEADS, LAYERS, EMBED, TEXT_WIDTH, PATCH, SIDE, CONTEXT = 32, 4, 2, 16, 24, 8, 32, 12
TINY = slip.SlipSize(
    vision_width=WIDTH,
    vision_layers=LAYERS,
    vision_heads=HEADS,
    image_size=SIDE,
    patch_size=PATCH,
    embed_dim=EMBED,
    context_length=CONTEXT,
    text_width=TEXT_WIDTH,
    text_layers=LAYERS,
    text_heads=HEADS,
)


def released_tensors() -> dict[str, Tensor]:
    """Name every tensor of a released checkpoint, the head of the self-supervised loss included."""
    shapes: dict[str, tuple[int, ...]] = {
        "positional_embedding": (CONTEXT, TEXT_WIDTH),
        "image_projection": (WIDTH, EMBED),
        "text_projection": (TEXT_WIDTH, EMBED),
        "logit_scale": (),
        "visual.cls_token": (1, 1, WIDTH),
        "visual.pos_embed": (1, 1 + (SIDE // PATCH) ** 2, WIDTH),
        "visual.patch_embed.proj.weight": (WIDTH, 3, PATCH, PATCH),
        "visual.patch_embed.proj.bias": (WIDTH,),
        "token_embedding.weight": (49408, TEXT_WIDTH),
    }
    linear = {"ln_final": (TEXT_WIDTH,), "visual.norm": (WIDTH,)}
    for number in range(LAYERS):
        text, image = f"transformer.resblocks.{number}.", f"visual.blocks.{number}."
        shapes[text + "attn.in_proj_weight"] = (3 * TEXT_WIDTH, TEXT_WIDTH)
        shapes[text + "attn.in_proj_bias"] = (3 * TEXT_WIDTH,)
        linear[text + "attn.out_proj"] = (TEXT_WIDTH, TEXT_WIDTH)
        linear[image + "attn.qkv"] = (3 * WIDTH, WIDTH)
        linear[image + "attn.proj"] = (WIDTH, WIDTH)
        for place, width, first, second in (
            (text, TEXT_WIDTH, "mlp.c_fc", "mlp.c_proj"),
            (image, WIDTH, "mlp.fc1", "mlp.fc2"),
        ):
            linear[place + first], linear[place + second] = (4 * width, width), (width, 4 * width)
        linear |= {text + "ln_1": (TEXT_WIDTH,), text + "ln_2": (TEXT_WIDTH,)}
        linear |= {image + "norm1": (WIDTH,), image + "norm2": (WIDTH,)}
    for number, wide in ((1, WIDTH), (2, 40), (3, 40)):
        linear[f"image_mlp.layer{number}"] = (8 if number == 3 else 40, wide)
    for number in (1, 2):
        linear[f"image_mlp.bn{number}"] = (40,)
        shapes |= {f"image_mlp.bn{number}.running_{what}": (40,) for what in ("mean", "var")}
    for name, shape in linear.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    generator = torch.Generator().manual_seed(0)
    tensors = {
        name: 0.2 * torch.randn(shape, generator=generator) + float("norm" in name or ".ln_" in name)
        for name, shape in shapes.items()
    }
    counts = {f"image_mlp.bn{number}.num_batches_tracked": torch.tensor(7) for number in (1, 2)}
    return {**tensors, **counts}


def write(path: Path, tensors: dict[str, Tensor], **changes: Any) -> Path:
    args = argparse.Namespace(model="SLIP_VITB16", betas=(0.9, 0.98), gpu=None, lr=3e-3, distributed=True)
    checkpoint = {
        "epoch": 25,
        "state_dict": OrderedDict((f"module.{name}", value) for name, value in tensors.items()),
        "optimizer": {"state": {0: {"step": 3, "exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 3e-3}]},
        "scaler": {"scale": 65536.0, "growth_factor": 2.0},
        "best_acc1": 31.5,
        "args": args,
    }
    torch.save({**checkpoint, **changes}, path)
    return path


@pytest.fixture(autouse=True)
def _tiny_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(slip.SIZES, "slip-vit-b-16", TINY)


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    return released_tensors()


@pytest.fixture
def file(tmp_path: Path, tensors: dict[str, Tensor]) -> Path:
    return write(tmp_path / "slip_base_100ep.pt", tensors)


def attend(x: Tensor, weights: Tensor, bias: Tensor, mask: Tensor | None) -> Tensor:
    queries, keys, values = (
        part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in (x @ weights.T + bias).chunk(3, dim=-1)
    )
    scores = queries @ keys.transpose(-1, -2) / queries.shape[-1] ** 0.5
    attention = (scores if mask is None else scores + mask).softmax(dim=-1)
    return (attention @ values).transpose(1, 2).flatten(2)


def plain_image(t: dict[str, Tensor], pixels: Tensor) -> Tensor:
    """timm's ViT: pre-norm blocks, exact GELU, epsilon 1e-6, the class token's row after the last norm."""

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, (WIDTH,), t[f"visual.{name}.weight"], t[f"visual.{name}.bias"], 1e-6)

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ t[f"visual.{name}.weight"].T + t[f"visual.{name}.bias"]

    rows = F.unfold(pixels, PATCH, stride=PATCH).transpose(1, 2)
    x = rows @ t["visual.patch_embed.proj.weight"].flatten(1).T + t["visual.patch_embed.proj.bias"]
    x = torch.cat([t["visual.cls_token"].expand(len(x), -1, -1), x], dim=1) + t["visual.pos_embed"]
    for number in range(LAYERS):
        block = f"blocks.{number}"
        qkv = f"visual.{block}.attn.qkv"
        mixed = attend(norm(x, f"{block}.norm1"), t[f"{qkv}.weight"], t[f"{qkv}.bias"], None)
        x = x + linear(mixed, f"{block}.attn.proj")
        x = x + linear(F.gelu(linear(norm(x, f"{block}.norm2"), f"{block}.mlp.fc1")), f"{block}.mlp.fc2")
    return F.normalize(norm(x, "norm")[:, 0] @ t["image_projection"], dim=-1)


def plain_text(t: dict[str, Tensor], tokens_BL: Tensor) -> Tensor:
    """The text tower of CLIP with QuickGELU, pooled at the highest id."""

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, (TEXT_WIDTH,), t[f"{name}.weight"], t[f"{name}.bias"], 1e-5)

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ t[f"{name}.weight"].T + t[f"{name}.bias"]

    mask = torch.full((CONTEXT, CONTEXT), float("-inf"), dtype=torch.float64).triu(1)
    x = t["token_embedding.weight"][tokens_BL] + t["positional_embedding"]
    for number in range(LAYERS):
        block = f"transformer.resblocks.{number}"
        attention = f"{block}.attn"
        weights, bias = t[f"{attention}.in_proj_weight"], t[f"{attention}.in_proj_bias"]
        x = x + linear(attend(norm(x, f"{block}.ln_1"), weights, bias, mask), f"{attention}.out_proj")
        wide = linear(norm(x, f"{block}.ln_2"), f"{block}.mlp.c_fc")
        x = x + linear(wide * torch.sigmoid(1.702 * wide), f"{block}.mlp.c_proj")
    pooled = norm(x, "ln_final")[torch.arange(len(x)), tokens_BL.argmax(dim=1)]
    return F.normalize(pooled @ t["text_projection"], dim=-1)


def test_a_checkpoint_encodes_as_a_plain_forward_pass(file: Path, tensors: dict[str, Tensor]) -> None:
    encoder = load_encoder("slip-vit-b-16", str(file), device="cpu", precision="fp64")
    double = {name: tensor.double() for name, tensor in tensors.items()}
    pixels = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    tokens_BL = encoder.tokenize(["a photo of a cat", "two dogs"])
    torch.testing.assert_close(encoder.encode_image(pixels), plain_image(double, pixels), rtol=0, atol=1e-12)
    torch.testing.assert_close(
        encoder.encode_text(tokens_BL), plain_text(double, tokens_BL), rtol=0, atol=1e-12
    )
    assert encoder.name == "slip-vit-b-16"  # the presets' key
    assert encoder.causal


def test_images_are_prepared_as_for_imagenet(file: Path) -> None:
    encoder = load_encoder("slip-vit-b-16", str(file), device="cpu")
    (pixels,) = encoder.preprocess([Image.new("RGB", (SIDE, SIDE), (255, 0, 128))])
    expected = [(1 - 0.485) / 0.229, (0 - 0.456) / 0.224, (128 / 255 - 0.406) / 0.225]
    torch.testing.assert_close(pixels[:, 3, 3], torch.tensor(expected))
    assert encoder._preprocess_config["interpolation"] == "bilinear"
    assert encoder._preprocess_config["resize_mode"] == "shortest"


@pytest.mark.parametrize("into", ["text", "image"])
def test_it_is_inverted_both_ways(file: Path, into: Any) -> None:
    encoder = load_encoder("slip-vit-b-16", str(file), device="cpu")
    targets = torch.randn(2, EMBED, generator=torch.Generator().manual_seed(2))
    found = invert(encoder, targets, into=into, config=InversionConfig(steps=10), item_ids=["a", "b"])
    assert (found.losses[:, -1] < found.losses[:, 0]).all()


def test_the_baseline_without_the_head_loads_too(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    plain = {name: value for name, value in tensors.items() if not name.startswith("image_mlp.")}
    load_encoder("slip-vit-b-16", str(write(tmp_path / "clip.pt", plain)), device="cpu")


def test_released_sizes() -> None:
    small, large = slip.SIZES["slip-vit-s-16"], slip.SIZES["slip-vit-l-16"]
    assert (small.vision_width, small.vision_layers, small.vision_heads) == (384, 12, 12)
    assert (large.vision_width, large.vision_layers, large.vision_heads) == (1024, 24, 16)
    assert {(size.embed_dim, size.text_width, size.context_length) for size in (small, large)} == {
        (512, 512, 77)
    }


def test_unknown_missing_and_odd_tensors_are_named(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    more = write(tmp_path / "more.pt", {**tensors, "visual.head.weight": torch.zeros(2)})
    with pytest.raises(InputError, match=r"unknown tensors: visual\.head\.weight; missing: none"):
        load_encoder("slip-vit-b-16", str(more), device="cpu")
    fewer = {name: value for name, value in tensors.items() if name != "visual.norm.bias"}
    with pytest.raises(InputError, match=r"unknown tensors: none; missing: visual\.norm\.bias"):
        load_encoder("slip-vit-b-16", str(write(tmp_path / "fewer.pt", fewer)), device="cpu")
    odd = {**tensors, "image_projection": torch.zeros(WIDTH, EMBED + 1)}
    with pytest.raises(InputError, match=r"image_projection has shape \(32, 17\), expected \(32, 16\)"):
        load_encoder("slip-vit-b-16", str(write(tmp_path / "odd.pt", odd)), device="cpu")


class Intruder:
    """A class that no checkpoint has a reason to hold."""


def test_other_classes_than_namespace_are_refused(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    path = write(tmp_path / "intruder.pt", tensors, args=Intruder())
    with pytest.raises(InputError, match="pickled objects"):
        load_encoder("slip-vit-b-16", str(path), device="cpu")


def test_the_exception_ends_with_the_reading(file: Path) -> None:
    load_encoder("slip-vit-b-16", str(file), device="cpu")
    assert argparse.Namespace not in torch.serialization.get_safe_globals()
    with pytest.raises(pickle.UnpicklingError):
        torch.load(file, weights_only=True)


@pytest.mark.parametrize("content", [{"epoch": 1}, {"state_dict": {"module.a": 1}}, torch.zeros(2)])
def test_other_files_are_refused(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "other.pt"
    torch.save(content, path)
    with pytest.raises(InputError, match="no state_dict of tensors"):
        load_encoder("slip-vit-b-16", str(path), device="cpu")


def test_what_is_lacking_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs --pretrained FILE"):
        load_encoder("slip-vit-b-16", device="cpu")
    with pytest.raises(InputError, match="no such file"):
        load_encoder("slip-vit-b-16", str(tmp_path / "none.pt"), device="cpu")
    with pytest.raises(InputError, match="Did you mean 'slip-vit-b-16'"):
        load_encoder("slip-vit-b-6", "file.pt", device="cpu")
