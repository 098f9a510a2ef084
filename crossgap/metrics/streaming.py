"""Retrieval metrics of large galleries: exact scores block by block, in bounded memory."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from crossgap.errors import InputError
from crossgap.metrics.counting import counted_metrics, harmonic_numbers
from crossgap.metrics.relevance import Judgement
from crossgap.metrics.retrieval import check_ks, metric_names
from crossgap.metrics.similarity import inner_products, unit_sides

# of scores, masks, places and what becomes of them, at their peak; beside the CPU a sort keeps places too
_BYTES_A_SCORE, _ON_A_DEVICE = 16, 48
# bytes of a block: what a processor's cores are busy with, and what a GPU's are
MEMORY, DEVICE_MEMORY = 1 << 29, 1 << 32


def streamed_metrics(
    query_QD: Tensor,
    gallery_GD: Tensor,
    relevance: Judgement,
    *,
    ks: Sequence[int] = (1, 5, 10),
    past_r: bool = False,
    memory: int | None = None,
    device: torch.device | None = None,
    share: tuple[int, int] = (0, 1),
) -> dict[str, Tensor]:
    """Compute :func:`crossgap.metrics.retrieval.retrieval_metrics` of cosine scores without holding them all.

    The same values as ``retrieval_metrics(cosine_scores(query_QD, gallery_GD), relevance)`` up to the
    rounding of scores, in ``memory`` bytes (:data:`MEMORY`, :data:`DEVICE_MEMORY`) beside the two sides and
    one normalised copy of them. That is on ``device``, by default where the queries are, and so are the
    scores; values are on the CPU. Scores are float32, or float64 where both sides are. Rows need not be unit
    rows. ``past_r`` adds ``mAP@R+1`` (:func:`crossgap.metrics.counting.counted_metrics`). Of ``share`` (k, n)
    every n-th block of queries from the k-th on is looked at; the values of other queries are 0, so that n
    shares add up to the whole.

    Shape: (Q, D), (G, D), relevance of (Q, G) -> metric name -> (Q,), float64, NaN for a query without
    relevant item. Unit: fraction. Range: [0, 1]; higher is better.

    Raises:
        InputError: shapes that do not fit, a row without direction, or a k below 1.
    """
    check_ks(ks)
    n_queries, n_gallery = len(query_QD), len(gallery_GD)
    if relevance.shape != (n_queries, n_gallery):
        raise InputError(
            f"relevance is of {relevance.shape[0]} queries and {relevance.shape[1]} gallery items, the "
            f"features are of {n_queries} and {n_gallery}"
        )
    query_QD, gallery_GD = unit_sides(query_QD, gallery_GD, device)
    on_cpu = query_QD.device.type == "cpu"
    memory = (MEMORY if on_cpu else DEVICE_MEMORY) if memory is None else memory
    names = [*metric_names(ks), *["mAP@R+1"] * past_r]
    values = {name: torch.zeros(n_queries, dtype=torch.float64) for name in names}
    rows_at_once = max(1, memory // ((_BYTES_A_SCORE if on_cpu else _ON_A_DEVICE) * max(1, n_gallery)))
    harmonic = harmonic_numbers(n_gallery, query_QD.device)
    first, every = share
    for start in range(first * rows_at_once, n_queries, every * rows_at_once):
        rows = slice(start, min(start + rows_at_once, n_queries))
        scores_BG = inner_products(query_QD[rows], gallery_GD)
        judged = relevance.rows(rows, query_QD.device)
        metrics = counted_metrics(scores_BG, judged, ks=ks, harmonic=harmonic, past_r=past_r)
        for name, metric_B in metrics.items():
            values[name][rows] = metric_B.cpu()
    return values
