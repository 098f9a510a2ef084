"""Slow twins: formulas written straight down as plain loops, used by tests and benchmarks only."""

from __future__ import annotations

import torch

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
