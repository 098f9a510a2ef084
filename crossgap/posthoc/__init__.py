"""Training-free maps of an embedding space: the controls that a gain by inversion must beat.

A map is fitted by a function of its name, then called on rows: ``class_pca(prompts_KD, rank=256)(x_ND)``.
It gives unit rows; its ``fitted_on`` says what it was fitted on.
"""

from crossgap.posthoc.adapter import RIDGE_STRENGTHS, procrustes, ridge
from crossgap.posthoc.isoclip import (
    ISOCLIP_BANDS,
    Band,
    band_candidates,
    isoclip,
    isoclip_preset,
    published_bands,
)
from crossgap.posthoc.linear_map import LinearMap
from crossgap.posthoc.offset import SHIFT_STRENGTHS, centring, gap_shift, orthogonal_closing
from crossgap.posthoc.placebo import random_rotation, shuffled_targets
from crossgap.posthoc.subspace import (
    SHARED_TOLERANCES,
    caption_pca,
    class_pca,
    image_pca,
    random_subspace,
    rank_candidates,
    shared_space,
)
from crossgap.posthoc.whitening import WHITENING_SHRINKAGES, top_candidates, top_removal, whitening

__all__ = [
    "ISOCLIP_BANDS",
    "RIDGE_STRENGTHS",
    "SHARED_TOLERANCES",
    "SHIFT_STRENGTHS",
    "WHITENING_SHRINKAGES",
    "Band",
    "LinearMap",
    "band_candidates",
    "caption_pca",
    "centring",
    "class_pca",
    "gap_shift",
    "image_pca",
    "isoclip",
    "isoclip_preset",
    "orthogonal_closing",
    "procrustes",
    "published_bands",
    "random_rotation",
    "random_subspace",
    "rank_candidates",
    "ridge",
    "shared_space",
    "shuffled_targets",
    "top_candidates",
    "top_removal",
    "whitening",
]
