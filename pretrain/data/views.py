"""The views of a batch that terms can ask for, and how they are embedded."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from open_clip import CLIP
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.transformer import VisionTransformer
from torch import Tensor

from pretrain.architectures.patch_dropout import PatchDropout
from pretrain.data.batches import Batch, Captions
from pretrain.data.streams import stream
from pretrain.terms.views import VIEWS, Tower, View, Views
from pretrain.towers import (
    Dropout,
    Linear,
    PackedText,
    image_states,
    narrow_linear,
    pack_text,
    text_states,
)


@dataclass(frozen=True, kw_only=True)
class Embedder:
    """Embed batches: towers, the trained rows of the token table, and what is particular to some views.

    Args:
        model: both towers.
        table_VW: embeddings of the tokens that occur.
        teacher: averaged image tower, where a term has a teacher.
        text_dropout: probability of dropout in views that have it.
        seed: of dropout; a row's mask depends on (seed, step, row) alone.
        bf16: run the towers under autocast; on a CPU make the products of their blocks in bfloat16 alone.
        mean, std: of the colours, that the image tower expects.
        compiled: run the towers through ``torch.compile``.
    """

    model: CLIP
    table_VW: Tensor
    teacher: VisionTransformer | None = None
    text_dropout: float = 0.0
    seed: int = 0
    bf16: bool = False
    mean: Sequence[float] = OPENAI_DATASET_MEAN
    std: Sequence[float] = OPENAI_DATASET_STD
    compiled: bool = False

    def __call__(self, batch: Batch, names: Collection[str], *, step: int) -> Views:
        """Compute the named views, each part of the batch once for all its levels; unit rows in float32."""
        states: dict[tuple[str, Tower], Tensor] = {}
        views = {}
        device = self.table_VW.device
        for name in names:
            view = VIEWS[name]
            if view.tower == "given":
                views[name] = batch.given[view.part].to(device)
                continue
            with torch.autocast(device.type, torch.bfloat16, enabled=self.bf16 and not self._narrow):
                key = (view.part, view.tower)
                if key not in states:
                    states[key] = self._states(batch, view, step)
                embedded = states[key]
                if view.level != "state":
                    embedded = self._project(embedded, view.tower)
                if view.level == "unit":
                    embedded = F.normalize(embedded, dim=-1)
            views[name] = embedded.float() if embedded.dtype == torch.bfloat16 else embedded
        return views

    @property
    def _narrow(self) -> bool:
        """Whether products alone are in bf16: on a CPU, where autocast costs more than it saves."""
        return self.bf16 and self.table_VW.device.type == "cpu"

    @property
    def _linear(self) -> Linear:
        return narrow_linear if self._narrow else F.linear

    def _project(self, states: Tensor, tower: Tower) -> Tensor:
        projection: Tensor = self.model.visual.proj if tower == "image" else self.model.text_projection
        return states @ projection

    def _states(self, batch: Batch, view: View, step: int) -> Tensor:
        if view.tower in ("text", "dropout"):
            return self._text_states(batch.texts[view.part], batch.first_row, view.tower, step)
        pixels = batch.images[view.part]
        if view.tower == "teacher":
            assert self.teacher is not None
            with torch.no_grad():
                return self._image_states(self.teacher, self._colours(pixels))
        patches = getattr(self.model.visual, "patch_dropout", None)
        if isinstance(patches, PatchDropout):
            patches.draw_for(step, view.part, batch.first_row * pixels[0].shape[:-3].numel())
        states = self._image_states(self.model.visual, self._colours(pixels.flatten(0, -4)))
        return states.unflatten(0, pixels.shape[:-3])

    def _image_states(self, visual: VisionTransformer, pixels_BCHW: Tensor) -> Tensor:
        return self._tower(image_states)(visual, pixels_BCHW, linear=self._linear)

    def _colours(self, pixels_BCHW: Tensor) -> Tensor:
        colours = torch.tensor([list(self.mean), list(self.std)], device=pixels_BCHW.device)
        mean_C11, std_C11 = colours[:, :, None, None]
        dtype = self.table_VW.dtype
        return ((pixels_BCHW - mean_C11) / std_C11).to(dtype)

    def _text_states(self, captions: Captions, first_row: int, tower: Tower, step: int) -> Tensor:
        text = pack_text(captions.ids_BL, captions.lengths_B).to(self.table_VW.device)
        if tower == "text":
            return self._tower(text_states)(self.model, text, self.table_VW, linear=self._linear)
        dropout = self._dropout(text, first_row, step)
        return text_states(self.model, text, self.table_VW, dropout, linear=self._linear)

    def _tower(self, states: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return _compiled(states) if self.compiled else states

    def _dropout(self, text: PackedText, first_row: int, step: int) -> Dropout:
        """Draw the masks of all places, row by row: (P, T, W), what is kept is scaled up."""
        width = self.table_VW.shape[1]
        places = 1 + 2 * len(self.model.transformer.resblocks)
        masks = []
        for row, length in enumerate(text.lengths_B.tolist(), start=first_row):
            generator = stream(self.seed, "dropout", step, row)
            # token by token: the mask of a token does not depend on the length of the caption
            masks.append(torch.rand((length, places, width), generator=generator) >= self.text_dropout)
        kept_PTW = torch.cat(masks).transpose(0, 1).to(self.table_VW) / (1 - self.text_dropout)

        def dropout(place: int, states: Tensor) -> Tensor:
            mask = kept_PTW[place]
            return states * (mask if len(states) == len(mask) else mask[text.last_B])

        return dropout


@cache
def _compiled(states: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Compile once; the number of tokens of a batch varies."""
    compiled: Callable[..., Tensor] = torch.compile(states, dynamic=True)
    return compiled
