"""The towers of open_clip and timm that compute what a configuration of ``transformers`` describes."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import open_clip
import torch
from open_clip.transformer import LayerNorm, QuickGELU, TextTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from crossgap.errors import InputError, check_known


class SiglipImageTower(nn.Module):
    """timm's ViT with SigLIP's attention pooling; laid out as open_clip's TimmModel."""

    def __init__(self, trunk: VisionTransformer) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = nn.Identity()

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        return self.head(self.trunk(pixels_BCHW))


class SiglipModel(nn.Module):
    """SigLIP's two towers behind the methods that open_clip's models have."""

    def __init__(self, visual: SiglipImageTower, text: TextTransformer) -> None:
        super().__init__()
        self.visual = visual
        self.text = text
        self.logit_scale = nn.Parameter(torch.empty(1))
        self.logit_bias = nn.Parameter(torch.empty(1))

    def encode_image(self, pixels_BCHW: Tensor) -> Tensor:
        return self.visual(pixels_BCHW)

    def encode_text(self, tokens_BL: Tensor) -> Tensor:
        return self.text(tokens_BL)


def clip(config: Any) -> open_clip.CLIP:
    """Build the towers of a CLIPConfig, with random weights.

    Raises:
        InputError: an activation or a size that they do not have.
    """
    text, vision = config.text_config, config.vision_config
    activations = {part.hidden_act: _activation(part) for part in (text, vision)}
    if len(activations) > 1:
        raise InputError(
            f"{_called(config)}: the activations of the two towers differ ({', '.join(activations)})"
        )
    (activation,) = activations.values()
    end = text.eos_token_id
    # files from before the library knew the id say 2, and the highest id is pooled
    pooled = (
        {"pool_type": "argmax"} if end == 2 else {"pool_type": "eos", "eos_id": _whole(text, "eos_token_id")}
    )
    common = {"act_kwargs": activation.options}
    return open_clip.CLIP(
        config.projection_dim,
        {
            **_sizes(vision),
            **common,
            "head_width": vision.hidden_size // vision.num_attention_heads,
            "image_size": _whole(vision, "image_size"),
            "patch_size": _whole(vision, "patch_size"),
            "norm_kwargs": {"eps": vision.layer_norm_eps},
        },
        {
            **_sizes(text),
            **common,
            **pooled,
            "heads": text.num_attention_heads,
            "context_length": text.max_position_embeddings,
            "vocab_size": text.vocab_size,
            "norm_kwargs": {"eps": text.layer_norm_eps},
        },
        quick_gelu=activation.quick,
    )


def siglip(config: Any) -> SiglipModel:
    """Build the towers of a SiglipConfig, with random weights.

    Raises:
        InputError: an activation or a size that they do not have, or an image tower without its pooling head.
    """
    text, vision = config.text_config, config.vision_config
    # versions of the library that know neither this nor projection_size have no other models
    if not getattr(vision, "vision_use_head", True):
        raise InputError(f"{_called(config)}: its image tower has no pooling head (vision_use_head is false)")
    sizes = _sizes(vision)
    trunk = VisionTransformer(
        img_size=_whole(vision, "image_size"),
        patch_size=_whole(vision, "patch_size"),
        num_classes=0,
        global_pool="map",
        embed_dim=sizes["width"],
        depth=sizes["layers"],
        num_heads=vision.num_attention_heads,
        mlp_ratio=sizes["mlp_ratio"],
        class_token=False,
        norm_layer=partial(nn.LayerNorm, eps=vision.layer_norm_eps),
        act_layer=_activation(vision).layer,
    )
    tower = TextTransformer(
        **_sizes(text),
        heads=text.num_attention_heads,
        context_length=text.max_position_embeddings,
        vocab_size=text.vocab_size,
        output_dim=getattr(text, "projection_size", None) or text.hidden_size,
        no_causal_mask=True,
        pool_type="last",
        proj_bias=True,
        norm_layer=partial(LayerNorm, eps=text.layer_norm_eps),
        act_layer=_activation(text).layer,
    )
    return SiglipModel(SiglipImageTower(trunk), tower)


class _Activation(NamedTuple):
    quick: bool
    options: dict[str, str] | None

    @property
    def layer(self) -> Any:
        return QuickGELU if self.quick else partial(nn.GELU, **(self.options or {}))


_ACTIVATIONS = {
    "quick_gelu": _Activation(True, None),
    "gelu": _Activation(False, None),
    "gelu_new": _Activation(False, {"approximate": "tanh"}),
    "gelu_pytorch_tanh": _Activation(False, {"approximate": "tanh"}),
}


def _activation(config: Any) -> _Activation:
    return _ACTIVATIONS[check_known(config.hidden_act, _ACTIVATIONS, f"hidden_act of {_called(config)}")]


def _sizes(config: Any) -> dict[str, Any]:
    """Return width, layers and the ratio of which int(width * ratio) is the perceptron's width."""
    return {
        "width": config.hidden_size,
        "layers": config.num_hidden_layers,
        # rounded down by the towers: half a unit keeps 4304 / 1152 from becoming 4303
        "mlp_ratio": (config.intermediate_size + 0.5) / config.hidden_size,
    }


def _whole(config: Any, name: str) -> int:
    value = getattr(config, name)
    if not isinstance(value, int):
        raise InputError(f"{_called(config)}: {name} is {value!r}, expected one whole number")
    return value


def _called(config: Any) -> str:
    return f"the configuration of {config.model_type!r}"
