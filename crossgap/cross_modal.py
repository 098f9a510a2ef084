"""Retrieval between images and their captions, both ways."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from crossgap.errors import InputError
from crossgap.relevance import relevance_from_labels
from crossgap.retrieval import retrieval_metrics
from crossgap.similarity import cosine_scores


class CrossModal(NamedTuple):
    """Per-query values of both directions, by the name of the metric."""

    image_to_text: dict[str, Tensor]
    text_to_image: dict[str, Tensor]


def cross_modal_metrics(
    image_ND: Tensor,
    text_MD: Tensor,
    *,
    image_groups: Sequence[str],
    text_groups: Sequence[str],
    ks: Sequence[int] = (1, 5, 10),
) -> CrossModal:
    """Compute hit@k and recall@k from images to texts and from texts to images.

    An image and a text belong together when they have the same group (an image id, or a concept that several
    images and captions share). With R partners of a query: ``hit@k = 1 if one of them is among the k
    nearest``, which is what the literature on CLIP calls recall@k, and ``recall@k = partners among the k
    nearest / R``. The two agree where R = 1. Under ties both are expectations over their random order.

    Shape: (N, D), (M, D), N and M groups -> metric name -> (N,) and (M,), float64, NaN for a query without
    partner. Unit: fraction. Range: [0, 1]; higher is better.

    Raises:
        InputError: numbers or widths that do not fit, an empty group, a k below 1, or a row without
            direction.
    """
    if len(image_groups) != len(image_ND) or len(text_groups) != len(text_MD):
        raise InputError(
            f"each item needs one group: {len(image_ND)} images, {len(image_groups)} groups; "
            f"{len(text_MD)} texts, {len(text_groups)} groups"
        )
    scores_NM = cosine_scores(image_ND, text_MD)
    images, texts = ([str(row) for row in range(len(side))] for side in (image_ND, text_MD))
    both = []
    for scores_QG, queries, gallery, query_groups, gallery_groups in (
        (scores_NM, images, texts, image_groups, text_groups),
        (scores_NM.T, texts, images, text_groups, image_groups),
    ):
        relevance = relevance_from_labels(queries, gallery, query_groups, gallery_groups, drop_self=False)
        found = retrieval_metrics(scores_QG, relevance, ks=ks)
        kept = [name for name in found if name.startswith(("hit@", "recall@"))]
        both.append({name: found[name] for name in kept})
    return CrossModal(*both)
