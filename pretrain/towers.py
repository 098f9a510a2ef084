"""Run open_clip's towers on less: captions without padding, the last layer only where it is read.

:func:`encode_images` and :func:`encode_text` equal ``model.encode_image`` and ``model.encode_text`` up to
rounding (a test says so). What is left out cannot reach the result: the image tower reads only the class
token of its last layer; the text tower is causal and reads only the end-of-text token, so nothing after that
token matters. The states are what the towers give before the projection into the embedding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from open_clip import CLIP
from open_clip.transformer import ResidualAttentionBlock, Transformer, VisionTransformer
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

# (..., I), weight (O, I), bias (O,) -> (..., O)
Linear = Callable[[Tensor, Tensor, Tensor], Tensor]
# what a view of a caption multiplies the states of a place of the tower with: (T, W), or (B, W) in the last
# block
Dropout = Callable[[int, Tensor], Tensor]


class PackedText(NamedTuple):
    """Captions of a batch, one after another without padding: T tokens in all, the longest has L.

    ``tokens_T`` index the rows of the token table that :func:`encode_text` is given, ``positions_T`` count
    from 0 within a caption, ``cells_T`` are the places in a padded (B, L) grid, ``last_B`` says where in T
    each caption ends (its end-of-text token).
    """

    tokens_T: Tensor
    positions_T: Tensor
    cells_T: Tensor
    last_B: Tensor
    lengths_B: Tensor
    longest: int

    def to(self, device: torch.device) -> PackedText:
        """Move the tensors to a device."""
        tokens_T, positions_T, cells_T, last_B, lengths_B = (part.to(device) for part in self[:-1])
        return PackedText(tokens_T, positions_T, cells_T, last_B, lengths_B, self.longest)


def pack_text(ids_BL: Tensor, lengths_B: Tensor) -> PackedText:
    """Pack padded token ids; row k counts up to ``lengths_B[k]``, its end-of-text token included."""
    longest = int(lengths_B.max())
    inside_BL = torch.arange(longest) < lengths_B[:, None]
    cells_T = inside_BL.flatten().nonzero().squeeze(1)
    tokens_T = ids_BL[:, :longest].reshape(-1)[cells_T]
    return PackedText(tokens_T, cells_T % longest, cells_T, lengths_B.cumsum(0) - 1, lengths_B, longest)


def encode_images(model: CLIP, pixels_BCHW: Tensor) -> Tensor:
    """Embed images; equals ``model.encode_image(pixels_BCHW, normalize=True)``.

    Returns:
        Unit rows, (B, D).
    """
    return F.normalize(image_states(model.visual, pixels_BCHW) @ model.visual.proj, dim=-1)


def image_states(visual: VisionTransformer, pixels_BCHW: Tensor, *, linear: Linear = F.linear) -> Tensor:
    """Give what the image tower projects, (B, W); ``linear`` makes the products of its blocks."""
    states_BLW = visual._embeds(pixels_BCHW)
    for block in visual.transformer.resblocks[:-1]:
        states_BLW = _through(visual.transformer, _image_block, block, states_BLW, linear)
    last = visual.transformer.resblocks[-1]
    states_BW: Tensor = visual.ln_post(_class_token_block(last, states_BLW, linear))
    return states_BW


def encode_text(model: CLIP, text: PackedText, table_VW: Tensor) -> Tensor:
    """Embed packed captions; equals ``model.encode_text(ids, normalize=True)`` on the padded ids.

    Args:
        model: its token embedding is not used, everything else of the text tower is.
        text: packed captions whose tokens index ``table_VW``.
        table_VW: token embeddings, for instance those of the tokens that occur in a corpus.

    Returns:
        Unit rows, (B, D).
    """
    return F.normalize(text_states(model, text, table_VW) @ model.text_projection, dim=-1)


def text_states(
    model: CLIP,
    text: PackedText,
    table_VW: Tensor,
    dropout: Dropout = lambda place, states: states,
    *,
    linear: Linear = F.linear,
) -> Tensor:
    """Give what the text tower projects into the embedding, (B, W).

    Args:
        model: its token embedding is not used, everything else of the text tower is.
        text: packed captions whose tokens index ``table_VW``.
        table_VW: token embeddings.
        dropout: applied to the embeddings (place 0) and to what each block adds by attention and by its MLP
            (places 1 and 2 of the first block, 3 and 4 of the second, ...); by default nothing.
        linear: makes the products of the blocks.
    """
    states_TW = F.embedding(text.tokens_T, table_VW)
    states_TW = dropout(0, states_TW + F.embedding(text.positions_T, model.positional_embedding))
    *blocks, last = model.transformer.resblocks
    for index, block in enumerate(blocks):
        place = _Place(dropout, 2 * index + 1)
        states_TW = _through(model.transformer, _text_block, block, states_TW, text, place, linear)
    states_BW: Tensor = model.ln_final(
        _end_of_text_block(last, states_TW, text, _Place(dropout, 2 * len(blocks) + 1), linear)
    )
    return states_BW


class _Place(NamedTuple):
    """Dropout of one block: its first place is that of attention, the next that of the MLP."""

    dropout: Dropout
    first: int


_NO_DROPOUT = _Place(lambda place, states: states, 0)


def _through(transformer: Transformer, block: Callable[..., Tensor], *inputs: Any) -> Tensor:
    """Run a block; where the transformer says so, its activations are computed again when they are needed.

    [0] Chen et al., 2016, arXiv 1604.06174.
    """
    if transformer.grad_checkpointing and torch.is_grad_enabled():
        states: Tensor = checkpoint(block, *inputs, use_reentrant=False)
        return states
    return block(*inputs)


def _image_block(block: ResidualAttentionBlock, states_BLW: Tensor, linear: Linear) -> Tensor:
    batch, length, _ = states_BLW.shape
    projected = _project(block, block.ln_1(states_BLW), 0, 3, linear)
    query, key, value = _heads(projected, (batch, length), 3, block.attn.num_heads)
    mixed = F.scaled_dot_product_attention(query, key, value)
    return _finish(block, states_BLW, mixed.transpose(1, 2).flatten(2), _NO_DROPOUT, linear)


def _class_token_block(block: ResidualAttentionBlock, states_BLW: Tensor, linear: Linear) -> Tensor:
    batch, length, _ = states_BLW.shape
    normed_BLW = block.ln_1(states_BLW)
    keys_values = _project(block, normed_BLW, 1, 3, linear)
    grid = (batch, length)
    return _one_query(block, normed_BLW[:, 0], keys_values, states_BLW[:, 0], grid, None, _NO_DROPOUT, linear)


def _text_block(
    block: ResidualAttentionBlock, states_TW: Tensor, text: PackedText, dropped: _Place, linear: Linear
) -> Tensor:
    grid = (len(text.lengths_B), text.longest)
    padded = _pad(_project(block, block.ln_1(states_TW), 0, 3, linear), text)
    query, key, value = _heads(padded, grid, 3, block.attn.num_heads)
    mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
    mixed_TW = mixed.transpose(1, 2).reshape(-1, states_TW.shape[-1]).index_select(0, text.cells_T)
    return _finish(block, states_TW, mixed_TW, dropped, linear)


def _end_of_text_block(
    block: ResidualAttentionBlock, states_TW: Tensor, text: PackedText, dropped: _Place, linear: Linear
) -> Tensor:
    grid = (len(text.lengths_B), text.longest)
    normed_TW = block.ln_1(states_TW)
    padded = _pad(_project(block, normed_TW, 1, 3, linear), text)
    inside_BL = torch.arange(text.longest, device=text.lengths_B.device) < text.lengths_B[:, None]
    last_BW = normed_TW.index_select(0, text.last_B)
    ends_BW = states_TW.index_select(0, text.last_B)
    return _one_query(block, last_BW, padded, ends_BW, grid, inside_BL, dropped, linear)


def _one_query(
    block: ResidualAttentionBlock,
    normed_BW: Tensor,
    keys_values: Tensor,
    states_BW: Tensor,
    grid: tuple[int, int],
    inside_BL: Tensor | None,
    dropped: _Place,
    linear: Linear,
) -> Tensor:
    """Run a block for one query a row; ``keys_values`` are projected and laid out on the (B, L) grid."""
    (query,) = _heads(_project(block, normed_BW, 0, 1, linear), (grid[0], 1), 1, block.attn.num_heads)
    key, value = _heads(keys_values, grid, 2, block.attn.num_heads)
    scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
    if inside_BL is not None:
        scores = scores.masked_fill(~inside_BL[:, None, None, :], -torch.inf)
    mixed_BW = (scores.softmax(-1) @ value).flatten(1)
    return _finish(block, states_BW, mixed_BW, dropped, linear)


def _project(block: ResidualAttentionBlock, normed: Tensor, first: int, end: int, linear: Linear) -> Tensor:
    """Apply the thirds ``first`` to ``end`` of the query, key and value projection."""
    width = normed.shape[-1]
    rows = slice(first * width, end * width)
    return linear(normed, block.attn.in_proj_weight[rows], block.attn.in_proj_bias[rows])


def _heads(projected: Tensor, grid: tuple[int, int], parts: int, heads: int) -> tuple[Tensor, ...]:
    """Split (B * L, parts * W) into ``parts`` tensors of (B, heads, L, W / heads)."""
    split = projected.reshape(*grid, parts, heads, -1)
    return split.permute(2, 0, 3, 1, 4).unbind(0)


def _pad(packed: Tensor, text: PackedText) -> Tensor:
    cells = len(text.lengths_B) * text.longest
    return packed.new_zeros(cells, packed.shape[-1]).index_copy(0, text.cells_T, packed)


def _finish(
    block: ResidualAttentionBlock, states: Tensor, mixed: Tensor, dropped: _Place, linear: Linear
) -> Tensor:
    out, mlp = block.attn.out_proj, block.mlp
    states = states + dropped.dropout(dropped.first, linear(mixed, out.weight, out.bias))
    hidden = mlp.gelu(linear(block.ln_2(states), mlp.c_fc.weight, mlp.c_fc.bias))
    added = linear(hidden, mlp.c_proj.weight, mlp.c_proj.bias)
    return states + dropped.dropout(dropped.first + 1, added)


def narrow_linear(x: Tensor, weight_OI: Tensor, bias_O: Tensor) -> Tensor:
    """Multiply by a weight in bfloat16, forward and backward; what goes in and comes out is float32.

    Factors are rounded once each and products summed in float32, as on tensor cores. Unlike autocast it
    leaves all between products (norms, attention, activations, sums) in float32, where a CPU is no slower
    than in bfloat16, and its factors for the backward pass take half the memory.

    Shape: (..., I), (O, I), (O,) -> (..., O).
    """
    narrow: Tensor = _NarrowLinear.apply(x, weight_OI, bias_O)
    return narrow


class _NarrowLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_OI: Tensor, bias_O: Tensor) -> Tensor:
        x_NI, narrow_OI = x.flatten(0, -2).bfloat16(), weight_OI.bfloat16()
        ctx.save_for_backward(x_NI, narrow_OI)
        return (F.linear(x_NI, narrow_OI).float() + bias_O).view(*x.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x_NI, narrow_OI = ctx.saved_tensors
        grad_NO = grad.flatten(0, -2)
        narrow_NO = grad_NO.bfloat16()
        to_x = (narrow_NO @ narrow_OI).float().view(*grad.shape[:-1], -1)
        return to_x, (narrow_NO.T @ x_NI).float(), grad_NO.sum(0)
