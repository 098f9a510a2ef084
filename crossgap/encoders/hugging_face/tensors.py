"""Weights of ``transformers`` under the names of open_clip and timm: the same numbers, none is recomputed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from crossgap.encoders.hugging_face.folder import SAFETENSORS, SHARDS, TORCH, shards
from crossgap.encoders.weight_files import check_tensors, read_torch
from crossgap.errors import InputError

# buffers that older files hold beside the weights: 0, 1, 2, ...
_NO_WEIGHTS = re.compile(r".*\.embeddings\.position_ids")
_SPLIT = re.compile(r"(?P<block>.*\.self_attn)\.q_proj\.(?P<kind>weight|bias)")

_BLOCKS = "encoder.layers."


class _Names(NamedTuple):
    """Names of a tower's tensors, theirs -> ours: outside its blocks, and within one behind its number."""

    outside: Mapping[str, str]
    blocks: str
    within: Mapping[str, str]


_OPEN_CLIP_BLOCK = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn.qkv.weight": "attn.in_proj_weight",
    "self_attn.qkv.bias": "attn.in_proj_bias",
    "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
_TIMM_BLOCK = {
    "layer_norm1": "norm1",
    "layer_norm2": "norm2",
    "self_attn.qkv": "attn.qkv",
    "self_attn.out_proj": "attn.proj",
    "mlp": "mlp",
}
_TEXT = _Names(
    {
        "embeddings.token_embedding": "token_embedding",
        "embeddings.position_embedding.weight": "positional_embedding",
        "final_layer_norm": "ln_final",
        "head": "text_projection",
    },
    "transformer.resblocks.",
    _OPEN_CLIP_BLOCK,
)
_CLIP_IMAGE = _Names(
    {
        "embeddings.class_embedding": "class_embedding",
        "embeddings.position_embedding.weight": "positional_embedding",
        "embeddings.patch_embedding": "conv1",
        "pre_layrnorm": "ln_pre",
        "post_layernorm": "ln_post",
    },
    "transformer.resblocks.",
    _OPEN_CLIP_BLOCK,
)
_CLIP_PROJECTIONS = {"text_projection.weight": "text_projection", "visual_projection.weight": "visual.proj"}
_SIGLIP_IMAGE = _Names(
    {
        "embeddings.position_embedding.weight": "pos_embed",
        "embeddings.patch_embedding": "patch_embed.proj",
        "post_layernorm": "norm",
        "head.probe": "attn_pool.latent",
        "head.attention.q": "attn_pool.q",
        "head.attention.kv": "attn_pool.kv",
        "head.attention.out_proj": "attn_pool.proj",
        "head.layernorm": "attn_pool.norm",
        "head.mlp": "attn_pool.mlp",
    },
    "blocks.",
    _TIMM_BLOCK,
)


def fill_clip(model: nn.Module, folder: Path) -> None:
    """Give open_clip's towers the weights of a CLIPModel.

    Raises:
        InputError: a file is damaged, or tensors are unknown, missing or of another shape.
    """
    state = _with_joint_projections(_read(folder))
    named = {
        **_renamed(state, "text_model.", "", _TEXT),
        **_renamed(state, "vision_model.", "visual.", _CLIP_IMAGE),
    }
    for theirs, ours in _CLIP_PROJECTIONS.items():
        if theirs in state:
            named[ours] = state.pop(theirs).T  # open_clip multiplies rows from the left
    _fill(model, {**named, **state}, folder)


def fill_siglip(model: nn.Module, folder: Path) -> None:
    """Give SigLIP's towers the weights of a SiglipModel.

    Raises:
        InputError: as of :func:`fill_clip`.
    """
    state = _with_joint_projections(_read(folder))
    for kind in ("weight", "bias"):
        joint = state.pop(f"vision_model.head.attention.in_proj_{kind}", None)
        if joint is not None:
            width = len(joint) // 3
            state[f"vision_model.head.attention.q.{kind}"] = joint[:width]
            state[f"vision_model.head.attention.kv.{kind}"] = joint[width:]
    named = {
        **_renamed(state, "text_model.", "text.", _TEXT),
        **_renamed(state, "vision_model.", "visual.trunk.", _SIGLIP_IMAGE),
    }
    if "visual.trunk.pos_embed" in named:
        named["visual.trunk.pos_embed"] = named["visual.trunk.pos_embed"][None]
    _fill(model, {**named, **state}, folder)


def _read(folder: Path) -> dict[str, Tensor]:
    if (folder / SAFETENSORS).exists() or (folder / SHARDS).exists():
        names = [SAFETENSORS] if (folder / SAFETENSORS).exists() else shards(folder)
        state: dict[str, Tensor] = {}
        for name in names:
            try:
                state |= load_file(folder / name)
            except (OSError, SafetensorError) as error:
                raise InputError(
                    f"weights {folder / name}: missing, damaged or cut off ({error}); fetch it again"
                ) from error
    else:
        state = read_torch(folder / TORCH)
        if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
            raise InputError(f"weights {folder / TORCH}: expected tensors by name (a state_dict)")
    return {name: tensor for name, tensor in state.items() if not _NO_WEIGHTS.fullmatch(name)}


def _with_joint_projections(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Stack the projections to queries, keys and values of each block, as open_clip and timm hold them."""
    for name in list(state):
        match = _SPLIT.fullmatch(name)
        parts = [f"{match['block']}.{part}_proj.{match['kind']}" for part in "qkv"] if match else []
        if match and all(part in state for part in parts):
            state[f"{match['block']}.qkv.{match['kind']}"] = torch.cat([state.pop(part) for part in parts])
    return state


def _renamed(state: dict[str, Tensor], theirs: str, ours: str, names: _Names) -> dict[str, Tensor]:
    """Take the tensors of a tower that have a name of ours out of ``state``; those left over are unknown."""
    named = {}
    for name in [name for name in state if name.startswith(theirs)]:
        rest, place, table = name.removeprefix(theirs), ours, names.outside
        if rest.startswith(_BLOCKS):
            number, _, rest = rest.removeprefix(_BLOCKS).partition(".")
            place, table = f"{ours}{names.blocks}{number}.", names.within
        translated = _translated(rest, table)
        if translated is not None:
            named[place + translated] = state.pop(name)
    return named


def _translated(name: str, table: Mapping[str, str]) -> str | None:
    theirs = next((theirs for theirs in table if name == theirs or name.startswith(f"{theirs}.")), None)
    return None if theirs is None else table[theirs] + name.removeprefix(theirs)


def _fill(model: nn.Module, state: dict[str, Tensor], folder: Path) -> None:
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    check_tensors(state, wanted, f"{folder}: its weights do not fit its config.json")
    model.load_state_dict(state)
