"""Classify images by the nearest mean of a few labelled ones."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from crossgap.errors import InputError
from crossgap.metrics.relevance import Relevance
from crossgap.metrics.retrieval import retrieval_metrics
from crossgap.metrics.similarity import check_sides, cosine_scores, unit_rows

_ROWS = 8192  # handled at once


def draw_shots(ids: Sequence[str], labels: Sequence[str], *, shots: int, seed: int, draw: int = 0) -> Tensor:
    """Choose ``shots`` items of each class, or all of a class that has fewer.

    The items of a class stand in the order of the hash of (seed, draw, id), and the first are taken: a draw
    of few shots is part of that of more, an item's place depends on no other item, and the order of the
    items does not matter.

    Shape: N ids and labels -> rows, ascending, int64.

    Raises:
        InputError: lengths that differ, or fewer than one shot.
    """
    if len(ids) != len(labels) or shots < 1:
        raise InputError(f"each item needs an id and a label, and {shots=} must be at least 1")
    by_class: dict[str, list[tuple[bytes, int]]] = {}
    for row, (name, label) in enumerate(zip(ids, labels, strict=True)):
        key = hashlib.sha256(f"{seed}:{draw}:{name}".encode()).digest()
        by_class.setdefault(label, []).append((key, row))
    rows = [row for items in by_class.values() for _, row in sorted(items)[:shots]]
    return torch.tensor(sorted(rows), dtype=torch.int64)


def class_mean_accuracy(
    query_QD: Tensor,
    support_ND: Tensor,
    *,
    labels: Sequence[str],
    support_labels: Sequence[str],
    draws: Sequence[Tensor],
) -> Tensor:
    """Say for each query in which share of the draws the nearest class mean is that of its own class.

    ``hit@1 = 1 if argmax_c cos(x, m_c) = label``, ``m_c = 1/|S_c| sum_{s in S_c} s/|s|``, with S_c the drawn
    items of class c; under ties the expectation over their random order. The mean is not scaled to length 1,
    which a cosine does not see. [0] Magistri et al., 2026, arXiv 2603.19862 (nearest class mean, all training
    images); [1] Herzog and Wang, 2026, arXiv 2603.16100 (1 to 16 shots). [0]'s code averages features of
    their own length, and for IsoCLIP features before the projection; here each feature is mapped and scaled
    first, so that no image counts more than another.

    Shape: (Q, D), (N, D), Q labels, N labels, rows into N for each draw -> (Q,), float64, NaN for a query
    whose class no draw has. Unit: fraction. Range: [0, 1]; higher is better; chance is 1/K for K classes.

    Raises:
        InputError: shapes and numbers of labels that do not fit, no draw, a row or a mean without direction.
    """
    check_sides(query_QD, support_ND)
    if len(labels) != len(query_QD) or len(support_labels) != len(support_ND):
        raise InputError(
            f"each row needs one label: {len(query_QD)} queries and {len(labels)} labels, {len(support_ND)} "
            f"items and {len(support_labels)} labels"
        )
    if not draws:
        raise InputError("class means need at least one draw of items")
    hits = []
    for rows in draws:
        drawn_labels = [support_labels[row] for row in rows.tolist()]
        classes = list(dict.fromkeys(drawn_labels))
        means_KD = _class_means(support_ND, rows, drawn_labels, classes)
        hits.append(own_class_hits(cosine_scores(query_QD.double(), means_KD), labels, classes))
    return torch.stack(hits).mean(dim=0)


def own_class_hits(scores_QK: Tensor, labels: Sequence[str], classes: Sequence[str]) -> Tensor:
    """Say for each query whether its own class has the highest score.

    ``hit@1``; under ties the expectation over their random order.

    Shape: (Q, K), Q labels, K distinct classes -> (Q,), float64, NaN where the label is none of the classes.
    Unit: fraction. Range: [0, 1]; higher is better.

    Raises:
        InputError: numbers of labels or classes that do not fit.
    """
    if scores_QK.shape != (len(labels), len(classes)):
        raise InputError(
            f"scores of shape {tuple(scores_QK.shape)} do not fit {len(labels)} labels and {len(classes)} "
            "classes"
        )
    place = {label: number for number, label in enumerate(classes)}
    own_Q = torch.tensor([place.get(label, -1) for label in labels], device=scores_QK.device)
    class_K = torch.arange(len(classes), device=scores_QK.device)
    parts = []
    for start in range(0, len(labels), _ROWS):
        rows = slice(start, start + _ROWS)
        relevant_BK = own_Q[rows, None] == class_K
        relevance = Relevance(relevant_BK, torch.zeros_like(relevant_BK))
        parts.append(retrieval_metrics(scores_QK[rows], relevance, ks=(1,))["hit@1"])
    return torch.cat(parts)


def _class_means(
    support_ND: Tensor, rows: Tensor, drawn_labels: Sequence[str], classes: Sequence[str]
) -> Tensor:
    """Average the unit rows of each class in float64, piece by piece."""
    place = {label: number for number, label in enumerate(classes)}
    class_R = torch.tensor([place[label] for label in drawn_labels], device=support_ND.device)
    sums_KD = support_ND.new_zeros((len(classes), support_ND.shape[1]), dtype=torch.float64)
    for start in range(0, len(rows), _ROWS):
        piece = slice(start, start + _ROWS)
        chosen_BD = support_ND[rows[piece].to(support_ND.device)].double()
        sums_KD.index_add_(0, class_R[piece], unit_rows(chosen_BD, what="training images", first=start))
    return sums_KD / class_R.bincount(minlength=len(classes)).unsqueeze(1)
