"""Modality inversion: OTI (image feature -> text tower) and OVI (text feature -> image tower) as one loop.

[0] Mistretta et al., Cross the Gap, ICLR 2025, arXiv 2502.04263, Algorithm 1.
[1] Baldrati et al., SEARLE, ICCV 2023, arXiv 2303.15247 (the optimisation-based inversion that OTI follows).

Known deviations from the published code, all deliberate: the noise is drawn per item from (seed, item id)
instead of from the global generator in batch order; the loss is summed over items instead of averaged; the
arithmetic is float32 (or float64) instead of mixed precision with a gradient scaler. With them an item's
result depends on nothing but the item, the settings and the seed. AdamW is invariant to the scale of the
loss up to its epsilon, so the sum changes no trajectory noticeably.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from crossgap.encoders import Encoder
from crossgap.errors import InputError, check_known

Target = Literal["text", "image"]


@dataclass(frozen=True, kw_only=True)
class InversionConfig:
    """Settings of one inversion; the defaults are the paper's OTI settings [0].

    Args:
        steps: updates of the pseudo-tokens.
        num_tokens: pseudo-tokens (R for OTI, P for OVI).
        learning_rate, weight_decay: of AdamW, with torch's default betas and epsilon.
        init_std: standard deviation of the initial noise.
        template: prompt of OTI; ``{}`` is where the pseudo-tokens go.
        seed: of the per-item noise.
        batch_size: items optimised side by side; no influence on an item's result beyond rounding.
    """

    steps: int = 150
    num_tokens: int = 1
    learning_rate: float = 2e-2
    weight_decay: float = 0.01
    init_std: float = 0.02
    template: str = "a photo of {}"
    seed: int = 0
    batch_size: int = 64

    def __post_init__(self) -> None:
        for name, least in (("steps", 0), ("num_tokens", 1), ("batch_size", 1)):
            if getattr(self, name) < least:
                raise InputError(f"{name} must be at least {least}, not {getattr(self, name)}")
        for name in ("learning_rate", "weight_decay", "init_std"):
            value = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise InputError(f"{name} must be finite and not negative, not {value}")


@dataclass(frozen=True)
class Inversion:
    """Result of :func:`invert`, in the order of its items.

    features_ND: inverted features, unit rows. tokens_NKW: final pseudo-tokens. losses_NS: 1 - cosine to the
    target before each update and after the last (S = steps + 1). snapshots: step -> features_ND then.
    """

    features: Tensor
    tokens: Tensor
    losses: Tensor
    snapshots: dict[int, Tensor]


def invert(
    encoder: Encoder,
    targets_ND: Tensor,
    *,
    into: Target,
    config: InversionConfig,
    item_ids: Sequence[str],
    snapshots: Sequence[int] = (),
    progress: Callable[[int], None] | None = None,
) -> Inversion:
    """Find pseudo-tokens whose feature in the other modality matches each target.

    Minimises L = sum_n (1 - cos(target_n, g(v_n))) over v_n in R^{K x W}, v_n ~ N(0, init_std^2), with AdamW.
    ``into="text"`` is OTI: g runs the text tower on ``config.template`` with v_n in place of ``{}``.
    ``into="image"`` is OVI: g runs the vision transformer on v_n stretched over its patches by
    nearest-neighbour interpolation along the flattened patch index.

    Args:
        targets_ND: features to match; rows need not have unit length.
        item_ids: one unique id per target; with ``config.seed`` it fixes the item's noise.
        snapshots: steps (0 is the untrained start) whose features are kept; one run of n steps holds every
            shorter run.
        progress: called with the number of items finished after each batch.

    Raises:
        InputError: ids missing or repeated, a snapshot outside 0..steps, a target that is zero or not finite,
            more pseudo-patches than patches, or a loss that becomes infinite or NaN.
    """
    check_known(into, get_args(Target), "modality to invert into")
    wanted = _check(encoder, targets_ND, into, config, item_ids, snapshots)
    forward = _forward(encoder, into, config)
    width = encoder.text_width if into == "text" else encoder.image_width
    parts: list[tuple[Tensor, Tensor, Tensor, dict[int, Tensor]]] = []
    for start in range(0, len(item_ids), config.batch_size):
        batch = slice(start, start + config.batch_size)
        noise_BKW = initial_tokens(item_ids[batch], config, width).to(encoder.device, encoder.dtype)
        targets_BD = F.normalize(targets_ND[batch].to(encoder.device, encoder.dtype), dim=-1)
        part = _optimise(forward, targets_BD, noise_BKW, config, wanted)
        _check_finite(part[2], item_ids[batch], config)
        parts.append(part)
        if progress is not None:
            progress(len(targets_BD))
    features, tokens, losses, kept = zip(*parts, strict=True)
    return Inversion(
        torch.cat(features),
        torch.cat(tokens),
        torch.cat(losses),
        {step: torch.cat([part[step] for part in kept]) for step in sorted(wanted)},
    )


def initial_tokens(item_ids: Sequence[str], config: InversionConfig, width: int) -> Tensor:
    """Draw noise_BKW ~ N(0, init_std^2), each item from its own generator keyed by (seed, item id)."""
    rows = []
    for item_id in item_ids:
        digest = hashlib.sha256(f"{config.seed}:{item_id}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big", signed=True))
        rows.append(torch.randn(config.num_tokens, width, generator=generator))
    return torch.stack(rows) * config.init_std


def _check(
    encoder: Encoder,
    targets_ND: Tensor,
    into: Target,
    config: InversionConfig,
    item_ids: Sequence[str],
    snapshots: Sequence[int],
) -> frozenset[int]:
    if len(item_ids) != len(targets_ND) or len(set(item_ids)) != len(item_ids) or not item_ids:
        raise InputError(
            f"inversion needs one unique id per target: {len(targets_ND)} targets, {len(item_ids)} ids, "
            f"{len(set(item_ids))} distinct"
        )
    bad = [
        item
        for item, norm in zip(item_ids, targets_ND.norm(dim=1).tolist(), strict=True)
        if not 0 < norm < 1e30
    ]
    if bad:
        raise InputError(f"{len(bad)} targets are zero or not finite, the first is {bad[0]!r}")
    outside = [step for step in snapshots if not 0 <= step <= config.steps]
    if outside:
        raise InputError(f"snapshot steps {outside} lie outside 0..{config.steps} (steps)")
    if into == "image" and config.num_tokens > encoder.num_patches:
        raise InputError(
            f"num_tokens {config.num_tokens} exceeds the {encoder.num_patches} patches of the image tower"
        )
    return frozenset(snapshots)


def _check_finite(losses_BS: Tensor, item_ids: Sequence[str], config: InversionConfig) -> None:
    bad_BS = ~losses_BS.isfinite()
    if bool(bad_BS.any()):
        item, step = (int(place) for place in bad_BS.nonzero()[0])
        raise InputError(
            f"inversion of {item_ids[item]!r}: the loss is not finite at step {step} with learning_rate "
            f"{config.learning_rate}; lower the learning rate"
        )


def _forward(encoder: Encoder, into: Target, config: InversionConfig) -> Callable[[Tensor], Tensor]:
    if into == "text":
        prompt = encoder.prompt(config.template, config.num_tokens)
        return lambda tokens_BKW: encoder.encode_text_with(prompt, tokens_BKW)
    return lambda tokens_BKW: encoder.encode_image_with(stretch(tokens_BKW, encoder.num_patches))


def stretch(tokens_BKW: Tensor, num_patches: int) -> Tensor:
    """Repeat K pseudo-patches to ``num_patches`` contiguous raster bands (nearest-neighbour) [0]."""
    return F.interpolate(tokens_BKW.transpose(1, 2), size=num_patches, mode="nearest").transpose(1, 2)


def _optimise(
    forward: Callable[[Tensor], Tensor],
    targets_BD: Tensor,
    noise_BKW: Tensor,
    config: InversionConfig,
    wanted: frozenset[int],
) -> tuple[Tensor, Tensor, Tensor, dict[int, Tensor]]:
    tokens_BKW = noise_BKW.requires_grad_(True)
    optimizer = torch.optim.AdamW([tokens_BKW], lr=config.learning_rate, weight_decay=config.weight_decay)
    kept: dict[int, Tensor] = {}
    losses: list[Tensor] = []
    for step in range(config.steps + 1):
        last = step == config.steps
        with torch.set_grad_enabled(not last):
            features_BD = forward(tokens_BKW)
            losses_B = 1 - (features_BD * targets_BD).sum(dim=1)
        losses.append(losses_B.detach())
        if step in wanted:
            kept[step] = features_BD.detach()
        if not last:
            (tokens_BKW.grad,) = torch.autograd.grad(losses_B.sum(), tokens_BKW)
            optimizer.step()
    return features_BD.detach(), tokens_BKW.detach(), torch.stack(losses, dim=1), kept


def _oti(num_tokens: int) -> InversionConfig:
    return InversionConfig(steps=150, num_tokens=num_tokens)


def _ovi(num_tokens: int) -> InversionConfig:
    return InversionConfig(steps=1000, num_tokens=num_tokens)


# The settings of the paper's released configurations [0]: into -> backbone -> settings.
PRESETS: dict[str, dict[str, InversionConfig]] = {
    "text": {
        "ViT-B-32/openai": _oti(1),
        "ViT-L-14/openai": _oti(1),
        "ViT-B-32/datacomp_xl_s13b_b90k": _oti(1),
        "ViT-L-14/datacomp_xl_s13b_b90k": _oti(1),
        "ViT-B-16-SigLIP/webli": _oti(1),
        "slip-vit-b-16": _oti(1),
        "slip-vit-l-16": _oti(1),
        "default": _oti(1),
    },
    "image": {
        "ViT-B-32/openai": _ovi(1),
        "ViT-L-14/openai": _ovi(4),
        "ViT-B-32/datacomp_xl_s13b_b90k": _ovi(1),
        "ViT-L-14/datacomp_xl_s13b_b90k": _ovi(2),
        "ViT-B-16-SigLIP/webli": _ovi(4),
        "slip-vit-b-16": _ovi(1),
        "slip-vit-l-16": _ovi(2),
        "default": _ovi(1),
    },
}


def preset(encoder_name: str, into: Target) -> InversionConfig:
    """Return the paper's settings for a backbone, or its most common ones for any other encoder."""
    return PRESETS[into].get(encoder_name, PRESETS[into]["default"])
