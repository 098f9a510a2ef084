"""Embed batches through a model's own forward pass, where the packed one of CLIP's towers does not apply."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from open_clip.timm_model import TimmModel
from torch import Tensor

from pretrain.data.batches import Batch, Captions
from pretrain.data.streams import stream_seed
from pretrain.data.views import Embedder
from pretrain.terms.views import Tower, View


@dataclass(frozen=True, kw_only=True)
class WholeEmbedder(Embedder):
    """Embed batches as ``model.encode_image`` and ``model.encode_text`` do, captions at full length.

    Token ids are the tokenizer's own; ``table_VW`` is the model's own table. What a tower draws (dropout,
    stochastic depth) depends on (seed, step, part, first row) alone. The state of a timm tower is what its
    trunk pools; of others, where no last projection can be told apart, it is the embedding before it is
    scaled to length 1.
    """

    def _states(self, batch: Batch, view: View, step: int) -> Tensor:
        device = self.table_VW.device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(stream_seed(self.seed, "tower", step, view.part, batch.first_row))
            return super()._states(batch, view, step)

    def _image_states(self, visual: Any, pixels_BCHW: Tensor) -> Tensor:
        return image_states(visual, pixels_BCHW)

    def _text_states(self, captions: Captions, first_row: int, tower: Tower, step: int) -> Tensor:
        ids_BL = captions.ids_BL.to(self.table_VW.device)
        states_BD: Tensor = pooled(self.model.encode_text(ids_BL, normalize=False))
        return states_BD

    def _project(self, states: Tensor, tower: Tower) -> Tensor:
        return project_image(self.model.visual, states) if tower == "image" else states

    @property
    def _narrow(self) -> bool:
        return False

    def _tower(self, states: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return states


def image_states(visual: Any, pixels_BCHW: Tensor) -> Tensor:
    """Give what an image tower pools, before its last projection where that can be told apart."""
    states: Tensor = pooled(visual.trunk(pixels_BCHW) if _projects_last(visual) else visual(pixels_BCHW))
    return states


def project_image(visual: Any, states: Tensor) -> Tensor:
    """Bring what :func:`image_states` gave into the embedding."""
    embedded: Tensor = visual.head(states) if _projects_last(visual) else states
    return embedded


def pooled(features: Any) -> Any:
    """Take the feature of an item where a tower returns its tokens beside it."""
    return features[0] if isinstance(features, tuple) else features


def _projects_last(visual: Any) -> bool:
    return isinstance(visual, TimmModel) and not hasattr(visual.head, "pool")
