"""One pre-norm transformer block read out of its module: weights in the arithmetic that is wanted.

Towers of open_clip and timm keep the same block under different names. :func:`read_block` gives it one
shape, so that a forward pass can compute single positions of it. In the weights' own dtype nothing is
copied: every tensor is the module's own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import timm
import torch
from open_clip.transformer import QuickGELU, ResidualAttentionBlock
from timm.models.vision_transformer import Block as TimmBlock
from torch import Tensor, nn
from torch.nn import functional as F

_QUICK = 1.702


class UnknownTowerError(Exception):
    """A tower is not built as a lean forward pass needs; the message says why, in words."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """Weights of ``x + s1 attn(norm1 x)``, then ``x + s2 down(act(up(norm2 x)))``.

    ``in_weight`` stacks queries, keys and values (3W, W). Weights of the four products are in the compute
    dtype, norms and scales in the residual stream's. QuickGELU(x) = SiLU(1.702 x) / 1.702: its factor sits in
    ``norm_2`` and both biases of the perceptron, and ``factor`` takes it out again.
    """

    heads: int
    norm_1: tuple[Tensor, Tensor]
    norm_2: tuple[Tensor, Tensor]
    eps: float
    in_weight: Tensor
    in_bias: Tensor | None
    out_weight: Tensor
    out_bias: Tensor | None
    up_weight: Tensor
    up_bias: Tensor | None
    down_weight: Tensor
    down_bias: Tensor | None
    scale_1: Tensor | None
    scale_2: Tensor | None
    activation: Callable[[Tensor], Tensor]
    factor: float

    @property
    def dtype(self) -> torch.dtype:
        """Of the matrix products."""
        return self.in_weight.dtype

    def project(self, states: Tensor, *, parts: slice) -> tuple[Tensor, ...]:
        """Norm rows of the residual stream (..., W) and project them: some of queries, keys, values.

        ``parts`` is a slice of (query, key, value). Each part comes back as (..., heads, head width).
        """
        width = states.shape[-1]
        rows = slice(parts.start * width, parts.stop * width)
        bias = None if self.in_bias is None else self.in_bias[rows]
        normed = F.layer_norm(states, (width,), *self.norm_1, self.eps).to(self.dtype)
        projected = F.linear(normed, self.in_weight[rows], bias)
        return projected.unflatten(-1, (parts.stop - parts.start, self.heads, -1)).unbind(-3)

    def finish(self, states: Tensor, attended: Tensor) -> Tensor:
        """Add attention's output (..., W) and the perceptron to the residual stream (..., W)."""
        moved = F.linear(attended.to(self.dtype), self.out_weight, self.out_bias)
        states = states + (moved if self.scale_1 is None else moved * self.scale_1)
        normed = F.layer_norm(states, states.shape[-1:], *self.norm_2, self.eps).to(self.dtype)
        hidden = self.activation(F.linear(normed, self.up_weight, self.up_bias))
        moved = F.linear(hidden, self.down_weight, self.down_bias)
        return torch.add(states, moved if self.scale_2 is None else moved * self.scale_2, alpha=self.factor)


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attend (B, L, heads, head width) to (B, M, heads, head width): (B, L, W).

    On a CPU, where attention in bfloat16 is slow, bfloat16 is attended in float32 and kept in bfloat16.
    """
    query, key, value = (part.transpose(1, 2) for part in (query, key, value))
    slow = query.dtype == torch.bfloat16 and not query.is_cuda
    attended = _InFloat32.apply(query, key, value, mask) if slow else _attention(query, key, value, mask)
    return attended.transpose(1, 2).flatten(2)


def _attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)


class _InFloat32(torch.autograd.Function):
    """Attention of bfloat16 in float32 that keeps its bfloat16 inputs alone: backward attends once more.

    Autograd would keep the three inputs and the output in float32, four times as much.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        ctx.save_for_backward(query, key, value, mask)
        return _attention(query.float(), key.float(), value.float(), _float(mask)).to(query.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        *inputs, mask = ctx.saved_tensors
        needed = ctx.needs_input_grad[:3]
        with torch.enable_grad():
            query, key, value = (
                part.float().requires_grad_(need) for part, need in zip(inputs, needed, strict=True)
            )
            attended = _attention(query, key, value, _float(mask))
        wanted = [part for part in (query, key, value) if part.requires_grad]
        found = iter(torch.autograd.grad(attended, wanted, gradient.float()))
        return (*(next(found).to(gradient.dtype) if need else None for need in needed), None)


def _float(mask: Tensor | None) -> Tensor | None:
    return None if mask is None else mask.float()


def read_block(module: Any, dtype: torch.dtype) -> Block:
    """Read the weights of a block of open_clip or timm, the four products in ``dtype``.

    Raises:
        UnknownTowerError: another kind of block, or one with norms or gates that ours has not.
    """
    kind = type(module)
    if kind is ResidualAttentionBlock:
        attention, mlp = module.attn, module.mlp
        _require(not hasattr(module, "ln_1_kv"), "a block attends to another tower")
        _require(attention.bias_k is None and attention.in_proj_weight is not None, "attention is not plain")
        norms, scales, gelu = (module.ln_1, module.ln_2), (module.ls_1, module.ls_2), mlp.gelu
        inward = (attention.in_proj_weight, attention.in_proj_bias)
        linears = (attention.out_proj, mlp.c_fc, mlp.c_proj)
    elif kind is TimmBlock:
        attention, mlp = module.attn, module.mlp
        extras = [getattr(attention, name, None) for name in ("q_norm", "k_norm", "norm", "gate")]
        _require(
            type(attention) is timm.layers.Attention and type(mlp) is timm.layers.Mlp,
            f"attention is {type(attention).__name__}, perceptron {type(mlp).__name__}",
        )
        _require(
            all(extra is None or isinstance(extra, nn.Identity) for extra in (*extras, mlp.norm)),
            "attention has norms or gates of its own",
        )
        norms, scales, gelu = (module.norm1, module.norm2), (module.ls1, module.ls2), mlp.act
        inward = (attention.qkv.weight, attention.qkv.bias)
        linears = (attention.proj, mlp.fc1, mlp.fc2)
    else:
        raise UnknownTowerError(f"its blocks are of type {kind.__name__}")
    products = [inward, *((linear.weight, linear.bias) for linear in linears)]
    plain = (isinstance(norm, nn.LayerNorm) and norm.bias is not None for norm in norms)
    _require(all(plain), "norms are not LayerNorm with weight and bias")
    _require(norms[0].eps == norms[1].eps, "the two norms of a block differ in epsilon")
    activation, quick = _activation(gelu)
    norm_1, norm_2 = ((norm.weight.detach(), norm.bias.detach()) for norm in norms)
    scale_1, scale_2 = (None if isinstance(scale, nn.Identity) else scale.gamma.detach() for scale in scales)
    (in_w, in_b), (out_w, out_b), (up_w, up_b), (down_w, down_b) = (
        (weight.detach().to(dtype), None if bias is None else bias.detach().to(dtype))
        for weight, bias in products
    )
    return Block(
        heads=attention.num_heads,
        norm_1=norm_1,
        norm_2=norm_2 if quick == 1 else (norm_2[0] * quick, norm_2[1] * quick),
        eps=norms[0].eps,
        in_weight=in_w,
        in_bias=in_b,
        out_weight=out_w,
        out_bias=out_b,
        up_weight=up_w,
        up_bias=up_b if up_b is None or quick == 1 else up_b * quick,
        down_weight=down_w,
        down_bias=down_b if down_b is None or quick == 1 else down_b * quick,
        scale_1=scale_1,
        scale_2=scale_2,
        activation=activation,
        factor=1 / quick,
    )


def _activation(module: nn.Module) -> tuple[Callable[[Tensor], Tensor], float]:
    """Return a function, and the factor that its input carries and its output is divided by."""
    if isinstance(module, QuickGELU):
        return F.silu, _QUICK
    _require(isinstance(module, nn.GELU | timm.layers.GELU | timm.layers.GELUTanh), "activation is not GELU")
    return module, 1.0


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise UnknownTowerError(otherwise)
