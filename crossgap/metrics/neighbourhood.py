"""Measures of who stands next to whom, exact under ties.

Neighbours are the k items of highest cosine. Where the k-th cosine is shared, each of the items that share it
counts with the chance that a random order of ties puts it among the k.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from scipy.sparse import csr_array, vstack
from torch import Tensor

from crossgap.errors import InputError
from crossgap.metrics.similarity import check_sides, unit_rows

_ROWS = 1024


def modality_mixing(image_ND: Tensor, text_MD: Tensor, *, k: int, paired: bool = True) -> Tensor:
    """Measure how far the neighbours of an item come from the other modality.

    Over all items of both modalities: the share of the other modality among the k nearest of both, self left
    out, divided by the share expected if modality played no role, ``n_other / n_candidates``; averaged. With
    ``paired`` row k of the images belongs to row k of the texts and an item's own partner is left out too, so
    that the pairs' alignment does not pass for mixing. A definition of this project; unlike linear
    separability it does not saturate while the modalities are apart. Not differentiable.

    Shape: (N, D), (M, D), N = M where paired -> 0-d, float64. Unit: ratio to chance. Range: [0, 2] for
    pairs; 0 = separated, 1 = mixed, above 1 = the other modality is nearer than the own.

    Raises:
        InputError: shapes that do not fit, a modality without item, k outside 1 ... the number of candidates,
            or a row without direction.
    """
    return modality_mixings(image_ND, text_MD, ks=(k,), paired=paired)[k]


def modality_mixings(
    image_ND: Tensor, text_MD: Tensor, *, ks: Sequence[int], paired: bool = True
) -> dict[int, Tensor]:
    """Measure :func:`modality_mixing` for several k from one set of similarities.

    Shape: (N, D), (M, D) -> k -> 0-d, float64. Unit: ratio to chance. Range: [0, 2] for pairs; 0 = separated,
    1 = mixed.

    Raises:
        InputError: as :func:`modality_mixing`.
    """
    check_sides(image_ND, text_MD, paired=paired)
    counts = (image_ND.shape[0], text_MD.shape[0])
    total = sum(counts)
    if not all(counts):
        raise InputError(f"modality mixing needs items of both modalities, got {counts[0]} and {counts[1]}")
    left_out = 2 if paired else 1
    _check_ks(ks, total - left_out, "modality mixing")
    dtype = torch.promote_types(image_ND.dtype, text_MD.dtype)
    unit_ND = unit_rows(torch.cat([image_ND.detach().to(dtype), text_MD.detach().to(dtype)]))
    is_text_N = torch.arange(total, device=unit_ND.device) >= counts[0]
    ratio = {k: unit_ND.new_zeros((), dtype=torch.float64) for k in ks}
    for rows, scores_QN in _self_scores(unit_ND):
        number_Q = torch.arange(total, device=unit_ND.device)[rows]
        if paired:
            partner_Q = (number_Q + counts[0]) % total
            scores_QN.scatter_(1, partner_Q[:, None], -torch.inf)
        n_other_Q = torch.where(is_text_N[rows], counts[0], counts[1]) - int(paired)
        for k, text_Q in _counted(scores_QN, is_text_N, ks).items():
            other_Q = torch.where(is_text_N[rows], k - text_Q, text_Q)
            ratio[k] += (other_Q / k * (total - left_out) / n_other_Q.clamp_min(1)).sum()
    return {k: summed / total for k, summed in ratio.items()}


def mutual_knn(x_ND: Tensor, y_NE: Tensor, *, k: int) -> Tensor:
    """Measure how far two spaces agree on the neighbours of the same items.

    ``mean_i |N_k^X(i) and N_k^Y(i)| / k``, an item not being its own neighbour. [0] Huh, Cheung, Wang and
    Isola, 2024, arXiv 2405.07987. The spaces may differ in width: image against text features of pairs, CLIP
    against an image-only model, native against inverted features. Not differentiable.

    Shape: (N, D), (N, E) -> 0-d, float64. Unit: fraction. Range: [0, 1]; 1 = the same neighbours, k/(N-1) by
    chance.

    Raises:
        InputError: not as many rows, k outside 1 ... N - 1, or a row without direction.
    """
    return mutual_knns(x_ND, y_NE, ks=(k,))[k]


def mutual_knns(x_ND: Tensor, y_NE: Tensor, *, ks: Sequence[int]) -> dict[int, Tensor]:
    """Measure :func:`mutual_knn` for several k from one set of similarities.

    Shape: (N, D), (N, E) -> k -> 0-d, float64. Unit: fraction. Range: [0, 1]; 1 = the same neighbours.

    Raises:
        InputError: as :func:`mutual_knn`.
    """
    check_items(x_ND, y_NE, "mutual_knn")
    count = x_ND.shape[0]
    _check_ks(ks, count - 1, "mutual kNN")
    shared = {k: x_ND.new_zeros((), dtype=torch.float64) for k in ks}
    sides = (_self_scores(unit_rows(x_ND.detach())), _self_scores(unit_rows(y_NE.detach())))
    for (_, first_QN), (_, second_QN) in zip(*sides, strict=True):
        for k in ks:
            shared[k] += (_membership(first_QN, k) * _membership(second_QN, k)).sum().double()
    return {k: summed / (k * count) for k, summed in shared.items()}


def cycle_knn(x_ND: Tensor, y_NE: Tensor, *, k: int) -> Tensor:
    """Measure how often a way through the neighbours of two spaces comes back to its item.

    From item i to its k neighbours in the second space, and from each to its k neighbours in the first:
    ``mean_i [i is in the union of N_k^X(j) over j in N_k^Y(i)]``. [0] Huh, Cheung, Wang and Isola, 2024,
    arXiv 2405.07987, in the form of its released code ([1] ``cycle_knn(feats_A = x, feats_B = y)``), of unit
    rows. Not symmetric in the spaces. Under ties the chance that a random order of them brings the item back.
    [1] github.com/minyoungg/platonic-rep, metrics.py. Not differentiable.

    Shape: (N, D), (N, E) -> 0-d, float64. Unit: fraction. Range: [0, 1]; 1 = every item is found again.

    Raises:
        InputError: not as many rows, k outside 1 ... N - 1, or a row without direction.
    """
    check_items(x_ND, y_NE, "cycle_knn")
    _check_ks((k,), x_ND.shape[0] - 1, "cycle kNN")
    back, there = (neighbour_lists(side_ND, k) for side_ND in (x_ND, y_NE))
    return x_ND.new_tensor(_found_again(back, there, k), dtype=torch.float64)


def _found_again(back: csr_array, there: csr_array, k: int) -> float:
    """Average over items the chance that a neighbour in the second space has the item among its own."""
    returning = back.T.tocsr()  # row i, column j: the chance that i is a neighbour of j
    per_item = []
    for item in range(there.shape[0]):
        neighbours, chances = _row(there, item)
        among = dict(zip(*(column.tolist() for column in _row(returning, item)), strict=True))
        lost = np.array([1 - among.get(neighbour, 0.0) for neighbour in neighbours.tolist()])
        certain = chances == 1
        tied = lost[~certain]
        per_item.append(1 - lost[certain].prod() * _mean_product(tied, k - int(certain.sum())))
    return float(np.mean(per_item))


def _row(matrix: csr_array, row: int) -> tuple[np.ndarray, np.ndarray]:
    part = slice(matrix.indptr[row], matrix.indptr[row + 1])
    return matrix.indices[part], matrix.data[part]


def _mean_product(values: np.ndarray, count: int) -> float:
    """Average the product of ``count`` of the values, drawn without replacement.

    With m(s, c) that of c among the first s: ``m(s, c) = (1 - c/s) m(s-1, c) + (c/s) value_s m(s-1, c-1)``.
    """
    if len(values) == 0 or values.min() == values.max():
        return float(values[0] ** count) if count else 1.0
    mean = np.zeros(count + 1)
    mean[0] = 1
    drawn = np.arange(1, count + 1)
    for number, value in enumerate(values, start=1):
        share = np.minimum(drawn / number, 1)
        mean[1:] = (1 - share) * mean[1:] + share * value * mean[:-1]
    return float(mean[count])


def neighbour_lists(side_ND: Tensor, k: int) -> csr_array:
    """List, row by row, the chance of each other item to be among the k nearest, where it has one."""
    blocks = [
        csr_array(_membership(scores_QN, k).double().cpu().numpy())
        for _, scores_QN in _self_scores(unit_rows(side_ND.detach()))
    ]
    return vstack(blocks, format="csr")


def check_items(x_ND: Tensor, y_NE: Tensor, what: str) -> None:
    """Check that two spaces, of whatever widths, hold the same items.

    Raises:
        InputError: not two matrices with as many rows, or no row.
    """
    if x_ND.ndim != 2 or y_NE.ndim != 2 or x_ND.shape[0] != y_NE.shape[0] or x_ND.shape[0] == 0:
        raise InputError(
            f"{what} compares two spaces on the same items: matrices with as many rows, row k for item k; "
            f"got {tuple(x_ND.shape)} and {tuple(y_NE.shape)}"
        )


def _self_scores(unit_ND: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Give blocks of cosines of every item with all items, -inf with itself."""
    for start in range(0, len(unit_ND), _ROWS):
        rows = slice(start, min(start + _ROWS, len(unit_ND)))
        scores_QN = unit_ND[rows] @ unit_ND.T
        scores_QN[:, rows].fill_diagonal_(-torch.inf)
        yield rows, scores_QN


def _membership(scores_QN: Tensor, k: int) -> Tensor:
    """Give each item's chance to be among the k of highest score under a random order of ties."""
    last_Q1 = scores_QN.topk(k, dim=1).values[:, -1:]
    above_QN, tied_QN = scores_QN > last_Q1, scores_QN == last_Q1
    free_Q1 = k - above_QN.sum(dim=1, keepdim=True)
    share_Q1 = free_Q1.to(scores_QN) / tied_QN.sum(dim=1, keepdim=True)
    return torch.where(tied_QN, share_Q1, above_QN.to(scores_QN))


def _counted(scores_QN: Tensor, marked_N: Tensor, ks: Sequence[int]) -> dict[int, Tensor]:
    """Count the marked items among the k of highest score, in expectation where the last place ties."""
    depth = min(max(ks) + 1, scores_QN.shape[1])
    top_QK, item_QK = scores_QN.topk(depth, dim=1)
    sum_QK = marked_N[item_QK].double().cumsum(dim=1)
    counts = {}
    for k in ks:
        counts[k] = sum_QK[:, k - 1]
        if k < depth:
            tied_Q = (top_QK[:, k - 1] == top_QK[:, k]).nonzero().squeeze(1)
            if len(tied_Q):
                counts[k][tied_Q] = _membership(scores_QN[tied_Q], k).double() @ marked_N.double()
    return counts


def _check_ks(ks: Sequence[int], candidates: int, what: str) -> None:
    k = next((k for k in ks if not 1 <= k <= candidates), None)
    if k is not None:
        raise InputError(f"{what}: {k=} must lie between 1 and the {candidates} other items an item has")
