"""Slow twins: formulas written straight down as plain loops, used by tests and benchmarks only."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from crossgap.inversion import initial_tokens


def plain_inversion(encoder, targets_ND, into, config, item_ids, snapshot):
    """Invert one item at a time through the whole tower, written straight down (no hook, no cut).

    Returns (features_ND, losses_NS, features_ND at the snapshot step).
    """
    model = encoder.model
    text = getattr(model, "text", model)
    rows, losses, kept = [], [], []
    for target_D, item_id in zip(targets_ND, item_ids, strict=True):
        width = encoder.text_width if into == "text" else encoder.image_width
        tokens_KW = initial_tokens([item_id], config, width)[0].to(target_D.dtype).requires_grad_(True)
        optimizer = torch.optim.AdamW([tokens_KW], lr=config.learning_rate, weight_decay=config.weight_decay)
        trajectory = []
        for step in range(config.steps + 1):
            optimizer.zero_grad()
            if into == "text":
                words = config.template.format(" ".join(["x"] * config.num_tokens))
                ids_1L = encoder.tokenize([words])
                at = (ids_1L[0] == encoder.tokenize(["x"])[0, 1]).nonzero().flatten()
                assert len(at) == config.num_tokens
                x = text.token_embedding(ids_1L).clone()
                x[0, at] = tokens_KW
                x = text.transformer(x + text.positional_embedding, attn_mask=text.attn_mask)
                feature_D = (text.ln_final(x)[0, ids_1L[0].argmax()] @ text.text_projection).flatten()
            else:
                vision = model.visual
                bands = torch.arange(encoder.num_patches) * config.num_tokens // encoder.num_patches
                x = torch.cat([vision.class_embedding[None], tokens_KW[bands]])[None]
                x = vision.transformer(vision.ln_pre(x + vision.positional_embedding))
                feature_D = vision.ln_post(x)[0, 0] @ vision.proj
            loss = 1 - torch.nn.functional.cosine_similarity(feature_D, target_D, dim=0)
            trajectory.append(loss.detach())
            unit_D = (feature_D / feature_D.norm()).detach()
            if step == snapshot:
                kept.append(unit_D)
            if step < config.steps:
                loss.backward()
                optimizer.step()
        rows.append(unit_D)
        losses.append(torch.stack(trajectory))
    return torch.stack(rows), torch.stack(losses), torch.stack(kept)


def plain_retrieval(
    scores: Sequence[float], relevant: Sequence[bool], ignored: Sequence[bool], ks: Sequence[int]
) -> dict[str, float]:
    """Average the metrics of one list over every order that its scores allow: enumeration, tiny lists only.

    ``scores``, ``relevant`` and ``ignored`` are plain lists over the gallery; NaN without relevant item.
    """
    kept = [item for item in range(len(scores)) if not ignored[item]]
    total = sum(bool(relevant[item]) for item in kept)
    if total == 0:
        return dict.fromkeys(_list_metrics([True], 1, ks), math.nan)
    levels = sorted({scores[item] for item in kept}, reverse=True)
    runs = [[item for item in kept if scores[item] == level] for level in levels]
    found = []
    for orders in itertools.product(*(itertools.permutations(run) for run in runs)):
        ordered = [bool(relevant[item]) for order in orders for item in order]
        found.append(_list_metrics(ordered, total, ks))
    return {name: math.fsum(one[name] for one in found) / len(found) for name in found[0]}


def _list_metrics(ordered: Sequence[bool], total: int, ks: Sequence[int]) -> dict[str, float]:
    """Give the metrics of one list in a known order."""
    precision, precision_at_r, hits = 0.0, 0.0, 0
    hits_at = {0: 0}
    for rank, right in enumerate(ordered, start=1):
        hits += right
        hits_at[rank] = hits
        if right:
            precision += hits / rank
            precision_at_r += hits / rank if rank <= total else 0.0
    metrics = {
        "mAP": precision / total,
        "mAP@R": precision_at_r / total,
        "R-precision": hits_at[min(total, len(ordered))] / total,
    }
    for k in ks:
        metrics[f"hit@{k}"] = float(hits_at[min(k, len(ordered))] > 0)
        metrics[f"recall@{k}"] = hits_at[min(k, len(ordered))] / total
    return metrics


def plain_relevance(
    query_ids: Sequence[str],
    gallery_ids: Sequence[str],
    query_labels: Sequence[str],
    gallery_labels: Sequence[str],
    query_groups: Sequence[str],
    gallery_groups: Sequence[str],
) -> tuple[list[list[bool]], list[list[bool]]]:
    """Judge one pair after the other, the query itself and its group ignored (pass () for no groups)."""
    relevant: list[list[bool]] = []
    ignored: list[list[bool]] = []
    for q, query_id in enumerate(query_ids):
        relevant.append([])
        ignored.append([])
        for g, gallery_id in enumerate(gallery_ids):
            own_group = bool(query_groups) and query_groups[q] != "" and query_groups[q] == gallery_groups[g]
            out = query_id == gallery_id or own_group
            ignored[-1].append(out)
            relevant[-1].append(query_labels[q] == gallery_labels[g] and not out)
    return relevant, ignored


def plain_auc(same: Sequence[float], other: Sequence[float]) -> float:
    """Compare every same-class score with every other-class score; a tie counts half."""
    wins = sum((s > o) + 0.5 * (s == o) for s in same for o in other)
    return wins / (len(same) * len(other))


def plain_alignment(x_BD: Tensor, y_BD: Tensor, alpha: float) -> float:
    distances = [math.dist(x_D, y_D) ** alpha for x_D, y_D in zip(x_BD.tolist(), y_BD.tolist(), strict=True)]
    return math.fsum(distances) / len(distances)


def plain_cross_uniformity(x_BD: Tensor, y_BD: Tensor, t: float) -> float:
    x, y = x_BD.tolist(), y_BD.tolist()
    kernels = [
        math.exp(-t * math.dist(x[j], y[k]) ** 2) for j in range(len(x)) for k in range(len(y)) if j != k
    ]
    return math.log(math.fsum(kernels) / len(kernels))


def plain_relative_modality_gap(image_BD: Tensor, text_BD: Tensor) -> float:
    """Average D(a, b) = (1 - <a, b>) / 2 over pairs, and over ordered pairs j != k of one modality."""

    def half_cosine_distance(a: Sequence[float], b: Sequence[float]) -> float:
        return (1 - math.fsum(u * v for u, v in zip(a, b, strict=True))) / 2

    def inner(rows: Sequence[Sequence[float]]) -> float:
        found = [half_cosine_distance(a, b) for a, b in itertools.permutations(rows, 2)]
        return math.fsum(found) / len(found)

    image, text = image_BD.tolist(), text_BD.tolist()
    matched = [half_cosine_distance(i, t) for i, t in zip(image, text, strict=True)]
    mean = max(math.fsum(matched) / len(matched), 1e-3)
    return mean / (mean + (inner(image) + inner(text)) / 2)


def plain_cosines(query_QD: Tensor, gallery_GD: Tensor) -> list[list[float]]:
    return [
        [
            math.fsum(u * v for u, v in zip(q, g, strict=True)) / (math.hypot(*q) * math.hypot(*g))
            for g in gallery_GD.tolist()
        ]
        for q in query_QD.tolist()
    ]


def plain_info_nce(image_BD: Tensor, text_BD: Tensor, temperature: float) -> float:
    image, text = image_BD.tolist(), text_BD.tolist()
    losses = []
    for rows, columns in ((image, text), (text, image)):
        for k, row in enumerate(rows):
            scores = [math.fsum(u * v for u, v in zip(row, c, strict=True)) / temperature for c in columns]
            losses.append(math.log(math.fsum(math.exp(s - scores[k]) for s in scores)))
    return math.fsum(losses) / len(losses)


def plain_nt_xent(first_BD: Tensor, second_BD: Tensor, temperature: float) -> float:
    rows = first_BD.tolist() + second_BD.tolist()
    batch = len(rows) // 2
    losses = []
    for i, row in enumerate(rows):
        partner = i + batch if i < batch else i - batch
        scores = {
            k: math.fsum(u * v for u, v in zip(row, other, strict=True)) / temperature
            for k, other in enumerate(rows)
            if k != i
        }
        losses.append(math.log(math.fsum(math.exp(s - scores[partner]) for s in scores.values())))
    return math.fsum(losses) / len(losses)


def plain_centroid_penalty(image_BD: Tensor, text_BD: Tensor) -> float:
    columns = zip(zip(*image_BD.tolist(), strict=True), zip(*text_BD.tolist(), strict=True), strict=True)
    return math.fsum((math.fsum(i) / len(i) - math.fsum(t) / len(t)) ** 2 for i, t in columns)


def plain_pair_alignment(image_BD: Tensor, text_BD: Tensor) -> float:
    pairs = list(zip(image_BD.tolist(), text_BD.tolist(), strict=True))
    return math.fsum(math.dist(i, t) ** 2 for i, t in pairs) / len(pairs)


def plain_centroid_uniformity(image_BD: Tensor, text_BD: Tensor) -> float:
    middles = []
    for image, text in zip(image_BD.tolist(), text_BD.tolist(), strict=True):
        middle = [(u + v) / 2 for u, v in zip(image, text, strict=True)]
        middles.append([u / math.hypot(*middle) for u in middle])
    found = [math.exp(-2 * math.dist(a, b) ** 2) for a, b in itertools.permutations(middles, 2)]
    return math.log(math.fsum(found) / len(found))
