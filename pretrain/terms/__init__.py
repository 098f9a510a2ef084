"""The terms that an objective can weigh, each ending in a 0-d tensor.

A term is a pure function of views, or a module with parameters or a memory of its own; modifiers change the
CLIP loss itself (:mod:`pretrain.terms.modifiers`). Terms see the whole batch: gathering rows across processes
is the trainer's business.
"""

from __future__ import annotations

from collections.abc import Mapping

from crossgap.metrics.gap import centroid_uniformity, pair_distance, squared_centroid_distance
from crossgap.metrics.misalignment import cross_uniformity
from pretrain.terms.adversarial import ModalityClassifier
from pretrain.terms.consistency import cross_modal_consistency, in_modal_consistency
from pretrain.terms.distillation import SelfDistillation
from pretrain.terms.distribution import coral, in_modal_uniformity, mmd, sliced_wasserstein
from pretrain.terms.infonce import info_nce
from pretrain.terms.nearest import NearestNeighbours
from pretrain.terms.ntxent import ProjectedNTXent, nt_xent
from pretrain.terms.rafa import random_feature_alignment
from pretrain.terms.separation import intra_modal_separation, semantic_separation
from pretrain.terms.sigmoid import SigmoidLoss
from pretrain.terms.supervised import supervised_contrast
from pretrain.terms.term import ActsOn, Setup, Term, TermModule
from pretrain.terms.vicreg import ExpandedVICReg

__all__ = ["OF_THE_PACKAGE", "TERMS", "ActsOn", "Setup", "Term", "TermModule"]

_PAIR = ("image_BD", "text_BD")
_IMAGES = ("image_BD", "second_image_BD")
_TEXTS = ("text_BD", "second_text_BD")

# name -> term. The gap terms are the gap metrics with gradients on.
TERMS: dict[str, Term] = {
    # hosts
    "clip": Term(function=info_nce, inputs=_PAIR, acts_on="across", temperature="host"),
    "siglip": Term(module=SigmoidLoss, inputs=_PAIR, acts_on="across", temperature="host"),
    "clip_second_view": Term(
        function=info_nce, inputs=("second_image_BD", "text_BD"), acts_on="across", temperature="host"
    ),
    # within a modality
    "image_ntxent": Term(function=nt_xent, inputs=_IMAGES, acts_on="image", temperature=0.1),
    "image_ntxent_head": Term(
        module=ProjectedNTXent,
        inputs=("second_image_state_BW", "third_image_state_BW"),
        acts_on="image",
        temperature=0.1,
    ),
    "text_ntxent": Term(function=nt_xent, inputs=_TEXTS, acts_on="text", temperature=0.1),
    "text_ntxent_words": Term(
        function=nt_xent, inputs=("text_BD", "fewer_words_text_BD"), acts_on="text", temperature=0.1
    ),
    "text_ntxent_dropout": Term(
        function=info_nce, inputs=("text_BD", "dropout_text_BD"), acts_on="text", temperature=0.05
    ),
    "image_supervised": Term(
        function=supervised_contrast,
        inputs=(*_IMAGES, "concept_B"),
        acts_on="image",
        temperature=0.1,
        weight=0.5,
    ),
    "text_supervised": Term(
        function=supervised_contrast,
        inputs=(*_TEXTS, "concept_B"),
        acts_on="text",
        temperature=0.1,
        weight=0.5,
    ),
    "in_modal_consistency": Term(function=in_modal_consistency, inputs=_PAIR, acts_on="both", weight=0.25),
    "intra_modal_separation": Term(
        function=intra_modal_separation, inputs=_PAIR, acts_on="both", temperature="host", weight=0.25
    ),
    "semantic_separation": Term(
        function=semantic_separation,
        inputs=(*_PAIR, "semantic_BS"),
        acts_on="both",
        temperature="host",
        weight=0.25,
    ),
    "image_vicreg": Term(
        module=ExpandedVICReg,
        inputs=("image_state_BW", "second_image_state_BW"),
        acts_on="image",
        weight=0.02,
    ),
    "text_vicreg": Term(
        module=ExpandedVICReg, inputs=("text_state_BW", "second_text_state_BW"), acts_on="text", weight=0.02
    ),
    "image_nearest": Term(
        module=NearestNeighbours, inputs=_IMAGES, acts_on="image", temperature=0.1, weight=0.1
    ),
    "text_nearest": Term(
        module=NearestNeighbours, inputs=_TEXTS, acts_on="text", temperature=0.1, weight=0.1
    ),
    "self_distillation": Term(
        module=SelfDistillation, inputs=("local_state_BKW", "teacher_state_BW"), acts_on="image"
    ),
    # across the gap
    "centroid_penalty": Term(function=squared_centroid_distance, inputs=_PAIR, acts_on="across"),
    "pair_alignment": Term(function=pair_distance, inputs=_PAIR, acts_on="across"),
    "centroid_uniformity": Term(function=centroid_uniformity, inputs=_PAIR, acts_on="across"),
    "in_modal_uniformity": Term(function=in_modal_uniformity, inputs=_PAIR, acts_on="both"),
    "cross_uniformity": Term(function=cross_uniformity, inputs=_PAIR, acts_on="across"),
    "cross_modal_consistency": Term(
        function=cross_modal_consistency, inputs=_PAIR, acts_on="across", weight=0.25
    ),
    "sliced_wasserstein": Term(function=sliced_wasserstein, inputs=_PAIR, acts_on="across", random=True),
    "mmd": Term(function=mmd, inputs=_PAIR, acts_on="across"),
    "coral": Term(function=coral, inputs=_PAIR, acts_on="across"),
    "adversarial": Term(module=ModalityClassifier, inputs=_PAIR, acts_on="across", progress=True),
    "rafa": Term(
        function=random_feature_alignment,
        inputs=("image_raw_BD", "text_raw_BD"),
        acts_on="across",
        random=True,
    ),
}
# what is here without a user's own: a term that another process may have to learn is not among these
OF_THE_PACKAGE: Mapping[str, Term] = dict(TERMS)
