"""The nearest gallery items of every query, exactly."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from crossgap.errors import InputError, check_known
from crossgap.similarity import check_sides, unit_copy

Engine = Literal["torch", "faiss"]
_SCORES = 1 << 26  # held at once


class Nearest(NamedTuple):
    """The k nearest items of each query, nearest first."""

    cosine_QK: Tensor
    item_QK: Tensor  # rows of the gallery, int64


def nearest(query_QD: Tensor, gallery_GD: Tensor, *, k: int, engine: Engine = "torch") -> Nearest:
    """Find the k gallery items of highest cosine for every query, without holding all scores.

    ``faiss`` is a flat index of inner products on the CPU (the extra ``faiss``): exact too. Both work in
    float32; items of equal cosine come in any order. Lists are for looking at: metrics that know about ties
    are in :mod:`crossgap.streaming`.

    Shape: (Q, D), (G, D) -> (Q, k), (Q, k).

    Raises:
        InputError: shapes that do not fit, a row without direction, k outside 1 ... G, or faiss not
            installed.
    """
    check_known(engine, get_args(Engine), "engine")
    check_sides(query_QD, gallery_GD)
    if not 1 <= k <= len(gallery_GD):
        raise InputError(f"nearest: {k=} must lie between 1 and the {len(gallery_GD)} items of the gallery")
    query_QD = unit_copy(query_QD, torch.float32, "queries")
    gallery_GD = unit_copy(gallery_GD, torch.float32, "gallery")
    if engine == "faiss":
        return _faiss(query_QD, gallery_GD, k)
    rows_at_once = max(1, _SCORES // len(gallery_GD))
    parts = [(block_BD @ gallery_GD.T).topk(k, dim=1) for block_BD in query_QD.split(rows_at_once)]
    return Nearest(torch.cat([part.values for part in parts]), torch.cat([part.indices for part in parts]))


def _faiss(query_QD: Tensor, gallery_GD: Tensor, k: int) -> Nearest:
    try:
        import faiss
    except ImportError as error:
        raise InputError("engine 'faiss' needs the package: pip install 'crossgap[faiss]'") from error
    index = faiss.IndexFlatIP(gallery_GD.shape[1])
    index.add(gallery_GD.cpu().numpy())
    cosine, items = index.search(query_QD.cpu().numpy(), k)
    return Nearest(*(torch.from_numpy(found).to(query_QD.device) for found in (cosine, items)))
