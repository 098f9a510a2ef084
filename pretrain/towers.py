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
from torch.utils.checkpoint import checkpoint

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


def image_states(visual: VisionTransformer, pixels_BCHW: Tensor) -> Tensor:
    """Give what the image tower projects into the embedding, (B, W)."""
    states_BLW = visual._embeds(pixels_BCHW)
    for block in visual.transformer.resblocks[:-1]:
        states_BLW = _through(visual.transformer, _image_block, block, states_BLW)
    states_BW: Tensor = visual.ln_post(_class_token_block(visual.transformer.resblocks[-1], states_BLW))
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
    model: CLIP, text: PackedText, table_VW: Tensor, dropout: Dropout = lambda place, states: states
) -> Tensor:
    """Give what the text tower projects into the embedding, (B, W).

    Args:
        model: its token embedding is not used, everything else of the text tower is.
        text: packed captions whose tokens index ``table_VW``.
        table_VW: token embeddings.
        dropout: applied to the embeddings (place 0) and to what each block adds by attention and by its MLP
            (places 1 and 2 of the first block, 3 and 4 of the second, ...); by default nothing.
    """
    states_TW = F.embedding(text.tokens_T, table_VW)
    states_TW = dropout(0, states_TW + F.embedding(text.positions_T, model.positional_embedding))
    *blocks, last = model.transformer.resblocks
    for index, block in enumerate(blocks):
        place = _Place(dropout, 2 * index + 1)
        states_TW = _through(model.transformer, _text_block, block, states_TW, text, place)
    states_BW: Tensor = model.ln_final(
        _end_of_text_block(last, states_TW, text, _Place(dropout, 2 * len(blocks) + 1))
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


def _image_block(block: ResidualAttentionBlock, states_BLW: Tensor) -> Tensor:
    batch, length, _ = states_BLW.shape
    query, key, value = _heads(_project(block, states_BLW, 0, 3), (batch, length), 3, block.attn.num_heads)
    mixed = F.scaled_dot_product_attention(query, key, value)
    return _finish(block, states_BLW, mixed.transpose(1, 2).flatten(2))


def _class_token_block(block: ResidualAttentionBlock, states_BLW: Tensor) -> Tensor:
    batch, length, _ = states_BLW.shape
    normed_BLW = block.ln_1(states_BLW)
    return _one_query(
        block, normed_BLW[:, 0], _linear(block, normed_BLW, 1, 3), states_BLW[:, 0], (batch, length), None
    )


def _text_block(
    block: ResidualAttentionBlock, states_TW: Tensor, text: PackedText, dropped: _Place
) -> Tensor:
    grid = (len(text.lengths_B), text.longest)
    padded = _pad(_project(block, states_TW, 0, 3), text)
    query, key, value = _heads(padded, grid, 3, block.attn.num_heads)
    mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
    mixed_TW = mixed.transpose(1, 2).reshape(-1, states_TW.shape[-1]).index_select(0, text.cells_T)
    return _finish(block, states_TW, mixed_TW, dropped)


def _end_of_text_block(
    block: ResidualAttentionBlock, states_TW: Tensor, text: PackedText, dropped: _Place
) -> Tensor:
    grid = (len(text.lengths_B), text.longest)
    normed_TW = block.ln_1(states_TW)
    padded = _pad(_linear(block, normed_TW, 1, 3), text)
    inside_BL = torch.arange(text.longest, device=text.lengths_B.device) < text.lengths_B[:, None]
    last_BW = normed_TW.index_select(0, text.last_B)
    ends_BW = states_TW.index_select(0, text.last_B)
    return _one_query(block, last_BW, padded, ends_BW, grid, inside_BL, dropped)


def _one_query(
    block: ResidualAttentionBlock,
    normed_BW: Tensor,
    keys_values: Tensor,
    states_BW: Tensor,
    grid: tuple[int, int],
    inside_BL: Tensor | None,
    dropped: _Place = _NO_DROPOUT,
) -> Tensor:
    """Run a block for one query a row; ``keys_values`` are projected and laid out on the (B, L) grid."""
    (query,) = _heads(_linear(block, normed_BW, 0, 1), (grid[0], 1), 1, block.attn.num_heads)
    key, value = _heads(keys_values, grid, 2, block.attn.num_heads)
    scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
    if inside_BL is not None:
        scores = scores.masked_fill(~inside_BL[:, None, None, :], -torch.inf)
    mixed_BW = (scores.softmax(-1) @ value).flatten(1)
    return _finish(block, states_BW, mixed_BW, dropped)


def _project(block: ResidualAttentionBlock, states: Tensor, first: int, end: int) -> Tensor:
    return _linear(block, block.ln_1(states), first, end)


def _linear(block: ResidualAttentionBlock, normed: Tensor, first: int, end: int) -> Tensor:
    """Apply the thirds ``first`` to ``end`` of the query, key and value projection."""
    width = normed.shape[-1]
    rows = slice(first * width, end * width)
    return F.linear(normed, block.attn.in_proj_weight[rows], block.attn.in_proj_bias[rows])


def _heads(projected: Tensor, grid: tuple[int, int], parts: int, heads: int) -> tuple[Tensor, ...]:
    """Split (B * L, parts * W) into ``parts`` tensors of (B, heads, L, W / heads)."""
    split = projected.reshape(*grid, parts, heads, -1)
    return split.permute(2, 0, 3, 1, 4).unbind(0)


def _pad(packed: Tensor, text: PackedText) -> Tensor:
    cells = len(text.lengths_B) * text.longest
    return packed.new_zeros(cells, packed.shape[-1]).index_copy(0, text.cells_T, packed)


def _finish(
    block: ResidualAttentionBlock, states: Tensor, mixed: Tensor, dropped: _Place = _NO_DROPOUT
) -> Tensor:
    states = states + dropped.dropout(dropped.first, block.attn.out_proj(mixed))
    return states + dropped.dropout(dropped.first + 1, block.mlp(block.ln_2(states)))
