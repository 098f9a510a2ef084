"""The protocol of revisited Oxford and Paris: three settings over easy, hard and junk items, and its own AP.

[0] Radenovic, Iscen, Tolias, Avrithis and Chum, 2018, "Revisiting Oxford and Paris", CVPR, arXiv 1803.11285.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from crossgap.errors import InputError, check_known
from crossgap.ranking import check_scores, rankings
from crossgap.relevance import Relevance

Setting = Literal["easy", "medium", "hard"]


def revisited_relevance(
    easy_QG: Tensor, hard_QG: Tensor, *, junk_QG: Tensor, setting: Setting = "medium"
) -> Relevance:
    """Judge gallery items by their difficulty, as one of the three settings asks [0].

    easy: easy items are relevant, hard and junk ones ignored; medium: easy and hard relevant, junk ignored;
    hard: hard relevant, easy and junk ignored. All other items are wrong answers.

    Shape: three bool masks (Q, G), never two true at one place -> masks (Q, G).

    Raises:
        InputError: an unknown setting, masks that differ in shape or type, or overlap.
    """
    check_known(setting, ("easy", "medium", "hard"), "setting")
    masks = {"easy": easy_QG, "hard": hard_QG, "junk": junk_QG}
    for name, mask_QG in masks.items():
        if mask_QG.dtype != torch.bool or mask_QG.shape != easy_QG.shape or mask_QG.ndim != 2:
            raise InputError(
                f"{name} must be a bool matrix of the shape of the others, queries x gallery; "
                f"got {mask_QG.dtype}, {tuple(mask_QG.shape)}"
            )
    twice_QG = (easy_QG.int() + hard_QG.int() + junk_QG.int()) > 1
    if bool(twice_QG.any()):
        query, item = twice_QG.nonzero()[0].tolist()
        raise InputError(f"gallery item {item} has more than one difficulty for query {query}")
    right = {"easy": ("easy",), "medium": ("easy", "hard"), "hard": ("hard",)}[setting]
    relevant_QG, ignored_QG = torch.zeros_like(easy_QG), torch.zeros_like(easy_QG)
    for name, mask_QG in masks.items():
        if name in right:
            relevant_QG = relevant_QG | mask_QG
        else:
            ignored_QG = ignored_QG | mask_QG
    return Relevance(relevant_QG, ignored_QG)


def trapezoidal_ap(scores_QG: Tensor, relevance: Relevance) -> Tensor:
    """Compute the average precision of revisited Oxford and Paris for every query.

    With ignored (junk) items removed before ranks are counted, and the hits at ranks r_1 < ... < r_R: ``1/R
    sum_i (p_before + p_after) / 2`` with ``p_before = (i-1) / (r_i - 1)``, 1 where r_i = 1, and ``p_after = i
    / r_i``: the area under the precision-recall curve by the trapezoidal rule [0]. Not the AP of
    :func:`crossgap.retrieval.retrieval_metrics`, and never above it: do not average the two
    kinds. Under ties it is the expectation over their random order.

    Shape: (Q, G) -> (Q,), float64, NaN for a query without relevant item. Unit: fraction. Range: [0, 1];
    higher is better.

    Raises:
        InputError: scores that do not fit the masks or are not finite.
    """
    check_scores(scores_QG, relevance)
    values_Q = scores_QG.new_full(scores_QG.shape[:1], torch.nan, dtype=torch.float64)
    for numbers_Q, ranking in rankings(scores_QG, relevance):
        rank_G = torch.arange(1, scores_QG.shape[1] + 1, device=scores_QG.device, dtype=torch.float64)
        earlier_QG = ranking.precision_QG * rank_G - 1  # E[hits before this rank | a hit at this rank]
        before_QG = torch.where(rank_G > 1, earlier_QG / (rank_G - 1).clamp_min(1), 1.0)
        area_Q = (ranking.chance_QG * (before_QG + ranking.precision_QG) / 2).sum(dim=1)
        relevant_Q = torch.where(ranking.relevant_Q > 0, ranking.relevant_Q, torch.nan)
        values_Q[numbers_Q] = area_Q / relevant_Q
    return values_Q
