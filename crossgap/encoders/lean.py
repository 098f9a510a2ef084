"""Lean forward passes of the two towers for inversion: nothing constant is computed twice.

A text tower that is causal and pools at end-of-text: keys and values of the prompt's prefix are computed
once per layer, each step computes the pseudo-tokens and what follows them up to end-of-text, and the last
layer has one query. A text tower that pools its first or last position (SigLIP): every position sees the
pseudo-tokens, so that only the projections of the others in the first layer are constant, and the last layer
has one query. A vision transformer that pools its class token: one query in the last layer.

These passes repeat the arithmetic of other people's towers, so none is trusted unseen: building one
compares it with the tower itself on two random inputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from open_clip import CLIP
from open_clip.transformer import TextTransformer, VisionTransformer
from timm.models.vision_transformer import VisionTransformer as TimmVisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from crossgap.encoders.blocks import Block, UnknownTowerError, attend, read_block
from crossgap.encoders.open_clip import OpenClipEncoder, Prompt
from crossgap.encoders.text_towers import pooling

# Largest difference between a unit row of the tower and of the lean pass that is taken for rounding.
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-3, torch.bfloat16: 0.1}

Forward = Callable[[Sequence[Tensor]], list[Tensor]]


class DisagreementError(UnknownTowerError):
    """A lean pass of a known structure does not give the tower's features."""


class LeanText:
    """Encode prompts with pseudo-tokens: groups of (B_g, K_g, W) -> groups of unit rows (B_g, D).

    Groups may differ in their number of pseudo-tokens; the matrix products run over all of them at once.

    Args:
        prompts: one per group, of the same template.

    Raises:
        UnknownTowerError: the text tower is not causal with pooling at end-of-text, or built otherwise.
    """

    def __init__(self, encoder: OpenClipEncoder, prompts: Sequence[Prompt]) -> None:
        if encoder.why_not_causal is not None:
            raise UnknownTowerError(encoder.why_not_causal)
        text: Any = encoder.text_tower
        if not isinstance(text, CLIP | TextTransformer):
            raise UnknownTowerError(f"its text tower is of type {type(text).__name__}")
        self._text = text
        self._blocks = [read_block(block, _product_dtype(encoder)) for block in text.transformer.resblocks]
        self._first = int(prompts[0].positions[0])
        self._groups = [_Tail(text, prompt, self._first) for prompt in prompts]
        with torch.no_grad():
            self._prefix = self._prefix_of(text, prompts[0].tokens_L[: self._first])

    def _prefix_of(self, text: Any, tokens_P: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Keys and values (1, P, heads, head width) of the positions before the pseudo-tokens, per layer."""
        states_1PW = (text.token_embedding(tokens_P) + text.positional_embedding[: self._first])[None]
        mask_PP = torch.full((self._first, self._first), -math.inf, device=states_1PW.device).triu(1)
        per_layer = []
        for block in self._blocks:
            query, key, value = block.project(states_1PW, parts=slice(0, 3))
            per_layer.append((key, value))
            states_1PW = block.finish(states_1PW, attend(query, key, value, mask_PP.to(query.dtype)))
        return per_layer

    def __call__(self, pseudo: Sequence[Tensor]) -> list[Tensor]:
        started = [group.states(tokens) for tokens, group in zip(pseudo, self._groups, strict=True)]
        shapes = [states_BLW.shape[:2] for states_BLW in started]
        states_TW = _packed(started)
        masks = [group.mask_LM for group in self._groups]
        for block, prefix in zip(self._blocks[:-1], self._prefix[:-1], strict=True):
            queries, keys, values = (
                _unpacked(part_THC, shapes) for part_THC in block.project(states_TW, parts=slice(0, 3))
            )
            states_TW = block.finish(states_TW, _attended(prefix, queries, keys, values, masks))
        block, prefix = self._blocks[-1], self._prefix[-1]
        keys, values = (
            _unpacked(part_THC, shapes) for part_THC in block.project(states_TW, parts=slice(1, 3))
        )
        ends_BW = _joined([states[:, -1] for states in _unpacked(states_TW, shapes)])
        rows = [len(tokens) for tokens in pseudo]
        (query_BHC,) = block.project(ends_BW, parts=slice(0, 1))
        queries = [query[:, None] for query in query_BHC.split(rows)]
        attended_BW = _attended(prefix, queries, keys, values, [None] * len(rows))
        features_BD = _text_features(self._text, block.finish(ends_BW, attended_BW))
        return list(features_BD.split(rows))


class _Tail:
    """What is constant of a prompt from its first pseudo-token on."""

    def __init__(self, text: Any, prompt: Prompt, first: int) -> None:
        end = first + len(prompt.positions)
        after_L = prompt.tokens_L[end : prompt.length]
        positions = text.positional_embedding.detach()
        self.length = prompt.length - first
        self.place_KW = positions[first:end]
        self.after_LW = (text.token_embedding(after_L) + positions[end : prompt.length]).detach()
        # the prefix is visible to all; of themselves and each other, positions see what came before
        seen_LL = torch.full((self.length, self.length), -math.inf, device=positions.device).triu(1)
        dtype = torch.float32 if positions.dtype != torch.float64 else torch.float64
        self.mask_LM = F.pad(seen_LL, (first, 0)).to(dtype)

    def states(self, pseudo_BKW: Tensor) -> Tensor:
        """Embed from the first pseudo-token to end-of-text: (B, K + after, W)."""
        after_BLW = self.after_LW.expand(len(pseudo_BKW), -1, -1)
        return torch.cat([pseudo_BKW + self.place_KW, after_BLW], dim=1)


class LeanWholeText:
    """Encode prompts of a tower that pools its first or last position: as :class:`LeanText`.

    Without a causal mask every position sees the pseudo-tokens after one layer. What is constant are the
    projections of the other positions in the first layer; what is not needed is all but one query, its
    attention and its perceptron in the last one.

    Args:
        prompts: one per group, of the same template.

    Raises:
        UnknownTowerError: the text tower pools otherwise, or is built otherwise.
    """

    def __init__(self, encoder: OpenClipEncoder, prompts: Sequence[Prompt]) -> None:
        text: Any = encoder.text_tower
        how = pooling(text)
        plain = isinstance(text, CLIP | TextTransformer) and getattr(text, "cls_emb", None) is None
        if not plain or how.kind not in ("first", "last") or getattr(text, "use_pad_mask", False):
            raise UnknownTowerError(encoder.why_not_causal or f"it pools {how}")
        if len(text.transformer.resblocks) == 1:
            raise UnknownTowerError("its text tower has a single layer")
        self._text = text
        self._blocks = [read_block(block, _product_dtype(encoder)) for block in text.transformer.resblocks]
        mask_LL = text.attn_mask
        length = len(prompts[0].tokens_L)
        self._pooled = slice(0, 1) if how.kind == "first" else slice(length - 1, length)
        dtype = torch.float64 if encoder.dtype == torch.float64 else torch.float32
        self._mask_LL = None if mask_LL is None else mask_LL[:length, :length].to(dtype)
        with torch.no_grad():
            self._groups = [_Around(text, prompt, self._blocks[0]) for prompt in prompts]

    def __call__(self, pseudo: Sequence[Tensor]) -> list[Tensor]:
        placed = [tokens + group.place_KW for tokens, group in zip(pseudo, self._groups, strict=True)]
        shapes = [tokens.shape[:2] for tokens in placed]
        first, last = self._blocks[0], self._blocks[-1]
        own = [_unpacked(part, shapes) for part in first.project(_packed(placed), parts=slice(0, 3))]
        states_BLW = _joined(
            [group.states(tokens) for group, tokens in zip(self._groups, placed, strict=True)]
        )
        query, key, value = (
            _joined([group.around(part, rows) for group, rows in zip(self._groups, parts, strict=True)])
            for part, parts in enumerate(own)
        )
        states_BLW = first.finish(states_BLW, attend(query, key, value, self._mask(query, slice(None))))
        for block in self._blocks[1:-1]:
            query, key, value = block.project(states_BLW, parts=slice(0, 3))
            states_BLW = block.finish(states_BLW, attend(query, key, value, self._mask(query, slice(None))))
        key, value = last.project(states_BLW, parts=slice(1, 3))
        pooled_B1W = states_BLW[:, self._pooled]
        (query,) = last.project(pooled_B1W, parts=slice(0, 1))
        pooled_B1W = last.finish(pooled_B1W, attend(query, key, value, self._mask(query, self._pooled)))
        features_BD = _text_features(self._text, pooled_B1W[:, 0])
        return list(features_BD.split([len(tokens) for tokens in pseudo]))

    def _mask(self, query: Tensor, rows: slice) -> Tensor | None:
        return None if self._mask_LL is None else self._mask_LL[rows].to(query.dtype)


class _Around:
    """What is constant of a prompt around its pseudo-tokens, up to the first layer's attention."""

    def __init__(self, text: Any, prompt: Prompt, first: Block) -> None:
        begin = int(prompt.positions[0])
        end = begin + len(prompt.positions)
        positions_LW = text.positional_embedding.detach()[: len(prompt.tokens_L)]
        states_1LW = (text.token_embedding(prompt.tokens_L) + positions_LW).detach()[None]
        self.place_KW = positions_LW[begin:end]
        self._begin, self._end = begin, end
        self._states = states_1LW
        self._projected = first.project(states_1LW, parts=slice(0, 3))

    def states(self, placed_BKW: Tensor) -> Tensor:
        """Put pseudo-tokens, with their positions, into the embedded prompt: (B, L, W)."""
        return self._filled(self._states, placed_BKW)

    def around(self, part: int, own: Tensor) -> Tensor:
        """Put the pseudo-tokens' queries (part 0), keys or values (B, K, ...) among the prompt's."""
        return self._filled(self._projected[part], own)

    def _filled(self, whole: Tensor, own: Tensor) -> Tensor:
        before, after = (
            side.expand(len(own), *side.shape[1:])
            for side in (whole[:, : self._begin], whole[:, self._end :])
        )
        return torch.cat([before, own, after], dim=1)


def lean_text(encoder: OpenClipEncoder, prompts: Sequence[Prompt]) -> Forward:
    """Return the lean pass that the text tower of an encoder allows. Raises UnknownTowerError if none."""
    return LeanText(encoder, prompts) if encoder.causal else LeanWholeText(encoder, prompts)


class LeanImage:
    """Encode stretched pseudo-patches: groups of (B_g, K_g, W) -> groups of unit rows (B_g, D).

    Args:
        stretch: (B, K, W) -> (B, N, W) over all patches.

    Raises:
        UnknownTowerError: the image tower is neither open_clip's nor timm's plain vision transformer.
    """

    def __init__(self, encoder: OpenClipEncoder, stretch: Callable[[Tensor], Tensor]) -> None:
        visual: Any = encoder.image_tower
        self._stretch = stretch
        if type(visual) is VisionTransformer:
            self._embed, self._pool = self._open_clip(visual)
            blocks, by_class_token = visual.transformer.resblocks, visual.attn_pool is None
            by_class_token = by_class_token and visual.pool_type == "tok"
        elif type(getattr(visual, "trunk", None)) is TimmVisionTransformer:
            trunk = visual.trunk
            self._embed, self._pool = self._timm(visual)
            blocks, by_class_token = trunk.blocks, trunk.attn_pool is None and trunk.global_pool == "token"
        else:
            kind = type(getattr(visual, "trunk", visual)).__name__
            raise UnknownTowerError(f"its image tower is of type {kind}")
        # pooling that reads the class token alone needs one query in the last layer
        self._last_queries = slice(0, 1) if by_class_token else slice(None)
        self._blocks = [read_block(block, _product_dtype(encoder)) for block in blocks]

    def __call__(self, pseudo: Sequence[Tensor]) -> list[Tensor]:
        states_BLW = self._embed(_joined([self._stretch(tokens) for tokens in pseudo]))
        for block in self._blocks[:-1]:
            states_BLW = block.finish(states_BLW, attend(*block.project(states_BLW, parts=slice(0, 3))))
        block = self._blocks[-1]
        key, value = block.project(states_BLW, parts=slice(1, 3))
        states_BLW = states_BLW[:, self._last_queries]
        (query,) = block.project(states_BLW, parts=slice(0, 1))
        features_BD = self._pool(block.finish(states_BLW, attend(query, key, value)))
        return list(F.normalize(features_BD, dim=-1).split([len(tokens) for tokens in pseudo]))

    @staticmethod
    def _open_clip(visual: Any) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
        positions_LW = visual.positional_embedding.detach()
        class_1W = (visual.class_embedding + positions_LW[0]).detach()[None]

        def embed(patches_BNW: Tensor) -> Tensor:
            classes_B1W = class_1W.expand(len(patches_BNW), 1, -1)
            return visual.ln_pre(torch.cat([classes_B1W, patches_BNW + positions_LW[1:]], dim=1))

        def pool(states_BLW: Tensor) -> Tensor:
            pooled_BW, _ = visual._pool(states_BLW)
            return pooled_BW if visual.proj is None else pooled_BW @ visual.proj

        return embed, pool

    @staticmethod
    def _timm(visual: Any) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
        trunk = visual.trunk
        if trunk.dynamic_img_size:
            raise UnknownTowerError("its image tower takes images of any size")
        return (
            lambda patches_BNW: trunk.norm_pre(trunk._pos_embed(patches_BNW)),
            lambda states_BLW: visual.head(trunk.forward_head(trunk.norm(states_BLW))),
        )


def _text_features(text: Any, states_BW: Tensor) -> Tensor:
    """Norm and project the pooled states of a text tower of open_clip: unit rows (B, D)."""
    states_BW = text.ln_final(states_BW)
    projection = text.text_projection
    if projection is None:
        features_BD = states_BW
    elif isinstance(projection, nn.Linear):
        features_BD = projection(states_BW)
    else:
        features_BD = states_BW @ projection
    return F.normalize(features_BD, dim=-1)


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(parts)) if len(parts) > 1 else parts[0]


def _packed(parts: Sequence[Tensor]) -> Tensor:
    """Lay (B_g, L_g, W) of all groups one after the other: (T, W)."""
    return _joined([part.flatten(0, 1) for part in parts])


def _unpacked(states: Tensor, shapes: Sequence[torch.Size]) -> list[Tensor]:
    """Undo :func:`_packed`: (T, ...) to (B_g, L_g, ...) per group."""
    parts = states.split([shape.numel() for shape in shapes])
    return [part.unflatten(0, shape) for part, shape in zip(parts, shapes, strict=True)]


def _attended(
    prefix: tuple[Tensor, Tensor],
    queries: Sequence[Tensor],
    keys: Sequence[Tensor],
    values: Sequence[Tensor],
    masks: Sequence[Tensor | None],
) -> Tensor:
    """Let each group's rows attend to the prefix that all share, then to themselves: packed (T, W)."""
    attended = []
    for query, *own, mask in zip(queries, keys, values, masks, strict=True):
        key, value = (
            torch.cat([shared.expand(len(part), -1, -1, -1), part], dim=1)
            for shared, part in zip(prefix, own, strict=True)
        )
        attended.append(attend(query, key, value, None if mask is None else mask.to(query.dtype)))
    return _packed(attended)


def _product_dtype(encoder: OpenClipEncoder) -> torch.dtype:
    return torch.bfloat16 if encoder.precision == "bf16" else encoder.dtype


def trial_tokens(shapes: Sequence[tuple[int, int]], encoder: OpenClipEncoder) -> list[Tensor]:
    """Draw two random inputs per (K, W) of ``shapes``, to compare a lean pass with its tower on."""
    generator = torch.Generator().manual_seed(0)
    return [
        (0.02 * torch.randn(2, *shape, generator=generator)).to(encoder.device, encoder.dtype)
        for shape in shapes
    ]


def check_lean(
    lean: Forward, pseudo: Sequence[Tensor], expected: Sequence[Tensor], encoder: OpenClipEncoder
) -> None:
    """Check that ``lean`` gives what the tower made of the same inputs.

    Raises:
        DisagreementError: it does not, for instance because a newer library changed its towers.
    """
    with torch.no_grad():
        pairs = zip(lean(pseudo), expected, strict=True)
        difference = max(float((ours - theirs).norm(dim=-1).max()) for ours, theirs in pairs)
    if not difference <= _TOLERANCE[_product_dtype(encoder)]:
        raise DisagreementError(f"the lean pass differs from the tower by {difference:.2g}")
