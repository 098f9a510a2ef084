"""Tables that pictures are drawn from: neighbours, a 2-D projection, similarity histograms."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from crossgap.datasets.tasks import Items, Task
from crossgap.evaluation.measuring import DENSE
from crossgap.evaluation.routes import INTRA
from crossgap.evaluation.sides import Sides
from crossgap.metrics.relevance import Judgement
from crossgap.metrics.similarity import cosine_scores

_THUMBNAIL = 64
_BINS = 100


class Lines(NamedTuple):
    """Lines of one of :data:`crossgap.records.TABLES`."""

    table: str
    frame: pd.DataFrame


def task_pictures(shown: Sequence[Sides], usable_Q: Tensor, *, num_neighbours: int) -> Iterator[Lines]:
    """Give neighbours of a few usable queries and histograms of scores, for each way to make a task's sides.

    A task across modalities has none. Of many scores those of evenly spread queries are counted.
    """
    task = shown[0].made.task
    if task.kind not in INTRA:
        return
    queries = spread_queries(num_neighbours, usable_Q)
    most = max(1, DENSE // len(task.gallery))
    counted = range(0, len(task.query), -(-len(task.query) // most))  # all, or evenly spread queries
    common = {"dataset": task.dataset, "split": task.split}
    for scored in shown:
        route = scored.made.route
        listed = neighbours(task, scored.query_QD, scored.gallery_GD, scored.relevance, queries, route=route)
        if listed:
            yield Lines("neighbours", pd.DataFrame(listed).assign(**common))
        scores_QG = cosine_scores(scored.query_QD[list(counted)], scored.gallery_GD)
        relevance = scored.relevance.rows(slice(0, len(task.query), counted.step))
        other_QG = ~(relevance.relevant_QG | relevance.ignored_QG)
        about = {**common, "task": task.name, "route": route}
        for kind, mask in (("same class", relevance.relevant_QG), ("other class", other_QG)):
            yield Lines("histograms", histogram(scores_QG[mask], kind).assign(**about))


def pair_pictures(image_ND: Tensor, text_ND: Tensor, items: Items, about: dict[str, str]) -> Iterator[Lines]:
    """Give the projection of both modalities of the same items, and histograms of scores within and across.

    Of many pairs those evenly spread are counted.
    """
    count = len(image_ND)
    yield Lines("projection", projection(image_ND, text_ND, items).assign(**about))
    kept = torch.arange(0, count, -(-count * count // DENSE) if count else 1)
    images_ND, texts_ND = image_ND[kept], text_ND[kept]
    off_diagonal = ~torch.eye(len(kept), dtype=torch.bool)
    across = cosine_scores(images_ND, texts_ND)
    for kind, scores in (
        ("image-image", cosine_scores(images_ND, images_ND)[off_diagonal]),
        ("text-text", cosine_scores(texts_ND, texts_ND)[off_diagonal]),
        ("image-text, other pairs", across[off_diagonal]),
        ("image-text, true pairs", across.diagonal()),
    ):
        yield Lines("histograms", histogram(scores, kind).assign(task="gap", route="native", **about))


def spread_queries(count: int, usable_Q: Tensor) -> list[int]:
    """Choose ``count`` queries evenly over those with something to find."""
    usable = usable_Q.nonzero().flatten()
    places = torch.linspace(0, len(usable) - 1, min(count, len(usable))).round().long()
    return [int(index) for index in usable[places]]


def neighbours(
    task: Task,
    query_QD: Tensor,
    gallery_GD: Tensor,
    relevance: Judgement,
    queries: list[int],
    *,
    route: str,
    depth: int = 5,
) -> list[dict[str, Any]]:
    """List the nearest gallery items of a few queries, with thumbnails; ignored items are left out."""
    records = []
    for query in queries:
        scores_G = cosine_scores(query_QD[query : query + 1], gallery_GD)[0]
        judged = relevance.rows(slice(query, query + 1))
        ignored_G, relevant_G = judged.ignored_QG[0], judged.relevant_QG[0]
        ranked_G = scores_G.masked_fill(ignored_G, -torch.inf)
        left = int((~ignored_G).sum())
        for rank, item in enumerate(
            ranked_G.argsort(descending=True, stable=True)[: min(depth, left)].tolist()
        ):
            records.append(
                {
                    "task": task.name,
                    "route": route,
                    "query_id": task.query.ids[query],
                    "query_class": task.query.labels[query],
                    "query_image": _thumbnail(task.query, query),
                    "query_text": _text(task.query, query),
                    "rank": rank + 1,
                    "neighbour_id": task.gallery.ids[item],
                    "neighbour_class": task.gallery.labels[item],
                    "neighbour_image": _thumbnail(task.gallery, item),
                    "neighbour_text": _text(task.gallery, item),
                    "score": float(scores_G[item]),
                    "relevant": bool(relevant_G[item]),
                }
            )
    return records


def projection(image_ND: Tensor, text_ND: Tensor, items: Items) -> pd.DataFrame:
    """Project both modalities of the same items on their pooled first two principal components.

    Each component's sign is fixed by making its largest loading positive, so that equal features give
    equal pictures.
    """
    pooled_ND = torch.cat([image_ND, text_ND]).double()
    centred_ND = pooled_ND - pooled_ND.mean(dim=0)
    _, _, directions = torch.linalg.svd(centred_ND, full_matrices=False)
    axes_2D = directions[:2]
    strongest = axes_2D.abs().argmax(dim=1, keepdim=True)
    axes_2D = axes_2D * axes_2D.gather(1, strongest).sign()
    points_N2 = centred_ND @ axes_2D.T
    count = len(image_ND)
    return pd.DataFrame(
        {
            "method": "PCA",
            "modality": ["image"] * count + ["text"] * count,
            "item_id": [*items.ids, *items.ids],
            "label": [*items.labels, *items.labels],
            "x": points_N2[:, 0].tolist(),
            "y": points_N2[:, 1].tolist(),
        }
    )


def histogram(values: Tensor, kind: str) -> pd.DataFrame:
    """Count cosines in equal bins over [-1, 1]."""
    edges = torch.linspace(-1, 1, _BINS + 1)
    counts = torch.histc(values.float().clamp(-1, 1), bins=_BINS, min=-1, max=1)
    return pd.DataFrame(
        {
            "kind": kind,
            "bin_low": edges[:-1].tolist(),
            "bin_high": edges[1:].tolist(),
            "count": counts.long().tolist(),
        }
    )


def _thumbnail(items: Items, index: int) -> bytes | None:
    if items.modality != "image" or not items.contents:
        return None
    image = items.image(index)
    image.thumbnail((_THUMBNAIL, _THUMBNAIL))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def _text(items: Items, index: int) -> str | None:
    content = items.contents[index] if items.contents else None
    return content if isinstance(content, str) else None
