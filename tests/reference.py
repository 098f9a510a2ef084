"""Slow twins: formulas written straight down as plain loops, used by tests and benchmarks only."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from crossgap.inversion.loop import initial_tokens


def plain_inversion(encoder, targets_ND, into, config, item_ids, snapshots=(), *, averaged=False):
    """Invert batch by batch as the paper's loop does: each step runs the whole tower at full context length.

    No hook, no cut, nothing kept between steps; torch's own AdamW. Deviations from the published code: noise
    keyed by (seed, item id), float32 or bfloat16 autocast, and the loss summed over items; with ``averaged``
    it is their mean, as in the published code, and an item's result depends on the size of its batch.
    For open_clip's CLIP and CustomTextCLIP, with image towers of open_clip or timm's vision transformer.

    Returns (features_ND, losses_NS, {snapshot step: features_ND}).
    """
    device, dtype = encoder.device, encoder.dtype
    features, losses, kept = [], [], {step: [] for step in snapshots}
    for start in range(0, len(item_ids), config.batch_size):
        ids = item_ids[start : start + config.batch_size]
        targets_BD = F.normalize(targets_ND[start : start + len(ids)].to(device, dtype), dim=-1)
        if into == "text":
            tower, width = plain_text_tower(encoder, config, len(ids)), encoder.text_width
        else:
            tower, width = plain_image_tower(encoder, config), encoder.image_width
        tokens_BKW = initial_tokens(ids, config, width).to(device, dtype).requires_grad_(True)
        optimizer = torch.optim.AdamW([tokens_BKW], lr=config.learning_rate, weight_decay=config.weight_decay)
        trajectory = []
        for step in range(config.steps + 1):
            with torch.autocast(device.type, torch.bfloat16, enabled=encoder.precision == "bf16"):
                features_BD = tower(tokens_BKW)
            features_BD = F.normalize(features_BD.to(dtype), dim=-1)
            loss_B = 1 - (features_BD * targets_BD).sum(dim=1)
            trajectory.append(loss_B.detach())
            if step in kept:
                kept[step].append(features_BD.detach())
            if step < config.steps:
                optimizer.zero_grad()
                (loss_B.mean() if averaged else loss_B.sum()).backward()
                optimizer.step()
        features.append(features_BD.detach())
        losses.append(torch.stack(trajectory, dim=1))
    return torch.cat(features), torch.cat(losses), {step: torch.cat(rows) for step, rows in kept.items()}


def plain_text_tower(encoder, config, count):
    """Tokenise the prompt for a batch; return pseudo-tokens (B, K, W) -> features (B, D), not normalised."""
    text = getattr(encoder.model, "text", encoder.model)
    one, other = (
        encoder.tokenize([config.template.format(" ".join([word] * config.num_tokens))])
        for word in ("cat", "dog")
    )
    at = (one != other)[0].nonzero().flatten()  # the placeholders: what changes with the word
    assert len(at) == config.num_tokens
    ids_BL = one.repeat(count, 1).to(encoder.device)
    rows = torch.arange(count, device=encoder.device)
    kind = getattr(text, "text_pool_type", None) or text.pool_type
    if kind == "argmax":
        pooled = ids_BL.argmax(dim=1)
    elif kind == "eos":
        pooled = (ids_BL == (getattr(text, "text_eos_id", None) or text.eos_id)).int().argmax(dim=1)
    else:
        pooled = torch.full_like(rows, {"first": 0, "last": ids_BL.shape[1] - 1}[kind])

    def tower(tokens_BKW):
        x_BLW = text.token_embedding(ids_BL)
        x_BLW[:, at] = tokens_BKW
        x_BLW = text.transformer(x_BLW + text.positional_embedding, attn_mask=text.attn_mask)
        x_BW = text.ln_final(x_BLW)[rows, pooled]
        projection = text.text_projection
        return projection(x_BW) if isinstance(projection, torch.nn.Linear) else x_BW @ projection

    return tower


def plain_image_tower(encoder, config):
    """Return pseudo-patches (B, K, W), each repeated over its band of patches -> features (B, D)."""
    visual = encoder.model.visual
    bands_N = torch.arange(encoder.num_patches, device=encoder.device) * config.num_tokens
    bands_N = bands_N // encoder.num_patches

    def open_clip_tower(tokens_BKW):
        x_BNW = tokens_BKW[:, bands_N]
        class_B1W = visual.class_embedding.expand(len(x_BNW), 1, -1)
        x_BLW = visual.ln_pre(torch.cat([class_B1W, x_BNW], dim=1) + visual.positional_embedding)
        x_BLW = visual.ln_post(visual.transformer(x_BLW))
        pooled_BW = {"tok": x_BLW[:, 0], "avg": x_BLW[:, 1:].mean(dim=1)}[visual.pool_type]
        return pooled_BW @ visual.proj

    def timm_tower(tokens_BKW):
        trunk = visual.trunk
        x_BLW = tokens_BKW[:, bands_N]
        if trunk.cls_token is not None:
            x_BLW = torch.cat([trunk.cls_token.expand(len(x_BLW), -1, -1), x_BLW], dim=1)
        x_BLW = trunk.norm(trunk.blocks(trunk.norm_pre(x_BLW + trunk.pos_embed)))
        return visual.head(trunk.forward_head(x_BLW))

    return timm_tower if hasattr(visual, "trunk") else open_clip_tower


def plain_encoding(encoder, items, batch_size=256):
    """Decode and preprocess a batch of images by open_clip's own transform, encode it, decode the next."""
    features = []
    for start in range(0, len(items), batch_size):
        images = [items.image(place) for place in range(start, min(start + batch_size, len(items)))]
        with torch.no_grad():
            features.append(encoder.encode_image(encoder.preprocess(images)).cpu())
    return torch.cat(features)


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


def plain_cosines(query_QD: Tensor, gallery_GD: Tensor) -> list[list[float]]:
    return [
        [
            math.fsum(u * v for u, v in zip(q, g, strict=True)) / (math.hypot(*q) * math.hypot(*g))
            for g in gallery_GD.tolist()
        ]
        for q in query_QD.tolist()
    ]
