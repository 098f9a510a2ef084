"""Text towers of CLIP-like models: where they embed tokens, what they pool, whether they are causal."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from open_clip.hf_model import HFTextEncoder
from torch import Tensor, nn

from crossgap.errors import InputError


class Pooling(NamedTuple):
    """How a tower chooses the position that becomes its feature; eos_id counts for kind ``eos`` alone."""

    kind: str
    eos_id: int | None

    def __str__(self) -> str:
        places = {"argmax": "the highest token id", "eos": f"the first token of id {self.eos_id}"}
        return places.get(self.kind, f"the {self.kind} position")


def find_text_tower(model: Any) -> nn.Module:
    """Return what owns the token embedding: ``model.text``, or the model itself (open_clip's CLIP)."""
    text = getattr(model, "text", None)
    return text if isinstance(text, nn.Module) else model


def find_token_embedding(tower: nn.Module) -> nn.Embedding:
    """Return the module that turns token ids into vectors.

    Raises:
        InputError: the tower is neither open_clip's own nor a Hugging Face model in open_clip's wrapper.
    """
    if isinstance(tower, HFTextEncoder):
        return tower.transformer.get_input_embeddings()
    embedding = getattr(tower, "token_embedding", None)
    if not isinstance(embedding, nn.Embedding):
        raise InputError(
            f"text tower {type(tower).__name__} has no token_embedding; known are open_clip's CLIP, "
            "CustomTextCLIP, CoCa and Hugging Face towers"
        )
    return embedding


def pooling(tower: nn.Module) -> Pooling:
    """Return what the tower pools: ``argmax`` (the highest id), ``eos``, ``first``, ``last`` or ``other``.

    An appended class token (CoCa) is the last position. Hugging Face poolers are ``other``.
    """
    if getattr(tower, "cls_emb", None) is not None:
        return Pooling("last", None)
    for kind, eos_id in (("text_pool_type", "text_eos_id"), ("pool_type", "eos_id")):
        if hasattr(tower, kind):
            return Pooling(getattr(tower, kind), getattr(tower, eos_id, None))
    return Pooling("other", None)


def pooled_positions(how: Pooling, tokens_BL: Tensor) -> Tensor | None:
    """Return the position that each row is pooled at, or None where it does not depend on the ids."""
    if how.kind == "argmax":
        return tokens_BL.argmax(dim=1)
    if how.kind == "eos" and how.eos_id is not None:
        return torch.eq(tokens_BL, how.eos_id).int().argmax(dim=1)
    return None


def why_not_causal(tower: nn.Module) -> str | None:
    """Return None if positions after the pooled one cannot influence the feature, else the reason in words.

    Only towers that pool where the ids say so (``argmax``, ``eos``) under a causal mask qualify.
    """
    how = pooling(tower)
    if isinstance(tower, HFTextEncoder):
        return "its text tower is a Hugging Face model, which attends both ways"
    if getattr(tower, "cls_emb", None) is not None:
        return "a class token is appended after the text (CoCa)"
    if not hasattr(tower, "attn_mask") or tower.attn_mask is None:
        return "its text tower is bidirectional (no causal mask)"
    if not _is_causal(tower.attn_mask):
        return "the mask of its text tower is not a causal one"
    if how.kind not in ("argmax", "eos"):
        return f"it pools {how}, not end-of-text"
    return None


def masked_ids(tower: nn.Module) -> set[int]:
    """Return the ids that the tower treats by their value: padding to mask, end-of-text to pool at."""
    config = getattr(tower, "config", None)
    named = [getattr(tower, "pad_id", None), getattr(config, "pad_token_id", None)]
    how = pooling(tower)
    return {int(token) for token in [*named, how.eos_id if how.kind == "eos" else None] if token is not None}


def _is_causal(mask: Any) -> bool:
    if not isinstance(mask, Tensor) or mask.ndim != 2:
        return False
    above = torch.ones_like(mask, dtype=torch.bool).triu(1)
    return bool(torch.isneginf(mask[above]).all() and (mask[~above] == 0).all())
