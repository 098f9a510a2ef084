"""The terms that an objective can weigh: pure functions of unit rows that end in a 0-d tensor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from torch import Tensor

from crossgap.gap import centroid_uniformity, pair_distance, squared_centroid_distance
from crossgap.misalignment import cross_uniformity
from pretrain.terms.consistency import cross_modal_consistency, in_modal_consistency
from pretrain.terms.distribution import coral, in_modal_uniformity
from pretrain.terms.infonce import info_nce
from pretrain.terms.ntxent import nt_xent
from pretrain.terms.separation import intra_modal_separation


class Views(NamedTuple):
    """The embeddings of one batch, unit rows; the second views are there when a term needs them."""

    image_BD: Tensor
    text_BD: Tensor
    second_image_BD: Tensor | None = None
    second_text_BD: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Term:
    """A term of the objective and what it needs.

    ``inputs`` names the :class:`Views` that ``function`` takes, in order. ``temperature`` is a number for a
    term with a temperature of its own (the default), ``host`` for one that shares the model's, and ``None``
    for one without. ``weight`` is the default of the source.
    """

    function: Callable[..., Tensor]
    inputs: tuple[str, ...]
    temperature: float | Literal["host"] | None = None
    weight: float = 1.0


# name -> term. The gap terms are the gap metrics with gradients on.
TERMS: dict[str, Term] = {
    "clip": Term(function=info_nce, inputs=("image_BD", "text_BD"), temperature="host"),
    "image_ntxent": Term(function=nt_xent, inputs=("image_BD", "second_image_BD"), temperature=0.1),
    "text_ntxent": Term(function=nt_xent, inputs=("text_BD", "second_text_BD"), temperature=0.1),
    "centroid_penalty": Term(function=squared_centroid_distance, inputs=("image_BD", "text_BD")),
    "pair_alignment": Term(function=pair_distance, inputs=("image_BD", "text_BD")),
    "centroid_uniformity": Term(function=centroid_uniformity, inputs=("image_BD", "text_BD")),
    "in_modal_consistency": Term(function=in_modal_consistency, inputs=("image_BD", "text_BD"), weight=0.25),
    "cross_modal_consistency": Term(
        function=cross_modal_consistency, inputs=("image_BD", "text_BD"), weight=0.25
    ),
    "intra_modal_separation": Term(
        function=intra_modal_separation, inputs=("image_BD", "text_BD"), temperature="host", weight=0.5
    ),
    "in_modal_uniformity": Term(function=in_modal_uniformity, inputs=("image_BD", "text_BD")),
    "cross_uniformity": Term(function=cross_uniformity, inputs=("image_BD", "text_BD")),
    "coral": Term(function=coral, inputs=("image_BD", "text_BD")),
}
