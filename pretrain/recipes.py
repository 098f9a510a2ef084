"""Named training runs: each function returns a full config, and each says where its numbers come from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pretrain.config import TrainConfig
from pretrain.objective import ObjectiveConfig, TemperatureConfig


def baseline() -> TrainConfig:
    """CLIP at the fixed temperature .01, where trained CLIPs end up; the arm that others are compared with.

    [0] Radford et al., 2021, arXiv 2103.00020.

    Batch, steps, learning rate and crops were chosen on the validation concepts of the emoji, for a training
    of some hundred seconds on one core; all arms share them.

        python -m pretrain.train --recipe baseline
    """
    return TrainConfig(recipe="baseline")


def learnable() -> TrainConfig:
    """CLIP with a learnable temperature from .07, clamped to a logit scale of 100.

    [0] Radford et al., 2021, arXiv 2103.00020, section 2.5.

        python -m pretrain.train --recipe learnable
    """
    temperature = TemperatureConfig(regime="learnable", initial=0.07)
    return replace(baseline(), recipe="learnable", objective=ObjectiveConfig(temperature=temperature))


def image_image() -> TrainConfig:
    """CLIP and NT-Xent between two crops of each image, on the shared embedding.

    [0] Mu et al., 2021, arXiv 2112.12750 (SLIP): temperature .1, weight 1, but behind a head of its own.
    [1] Goel et al., 2022, arXiv 2205.14459 (CyCLIP): in-modal contrast on the shared embedding.

        python -m pretrain.train --recipe image-image
    """
    return _with_terms("image-image", {"image_ntxent": 1.0})


def text_text() -> TrainConfig:
    """CLIP and NT-Xent between two captions of each image.

    [0] Gao et al., 2021, arXiv 2104.08821 (SimCSE): contrast of sentences, there under two dropout masks.
    [1] Goel et al., 2022, arXiv 2205.14459 (CyCLIP): in-modal contrast on the shared embedding.

        python -m pretrain.train --recipe text-text
    """
    return _with_terms("text-text", {"text_ntxent": 1.0})


def image_text_both() -> TrainConfig:
    """CLIP and NT-Xent within both modalities, half the weight each.

    [0] Goel et al., 2022, arXiv 2205.14459 (CyCLIP): the mean of image-image and text-text contrast.

        python -m pretrain.train --recipe image-image-text-text
    """
    return _with_terms("image-image-text-text", {"image_ntxent": 0.5, "text_ntxent": 0.5})


def centroid() -> TrainConfig:
    """CLIP and a penalty on the squared distance between the centres of the modalities.

    python -m pretrain.train --recipe centroid
    """
    return _with_terms("centroid", {"centroid_penalty": 1.0})


def align_uniform() -> TrainConfig:
    """CLIP, alignment of true pairs and uniformity of their midpoints.

    [0] ModGap, 2026, arXiv 2601.18525: both weights 1.

        python -m pretrain.train --recipe align-uniform
    """
    return _with_terms("align-uniform", {"pair_alignment": 1.0, "centroid_uniformity": 1.0})


def smoke(config: TrainConfig) -> TrainConfig:
    """Shrink a run to its smallest form: the same path in a few seconds on one core."""
    return replace(
        config,
        steps=6,
        batch_size=16,
        warmup_steps=2,
        limit=64,
        log_every=2,
        checkpoint_every=3,
        model=replace(config.model, width=32, layers=2, heads=2, embed_dim=32),
    )


def _with_terms(recipe: str, weights: dict[str, float]) -> TrainConfig:
    base = baseline()
    objective = replace(base.objective, weights={**base.objective.weights, **weights})
    return replace(base, recipe=recipe, objective=objective)


RECIPES: dict[str, Callable[[], TrainConfig]] = {
    "baseline": baseline,
    "learnable": learnable,
    "image-image": image_image,
    "text-text": text_text,
    "image-image-text-text": image_text_both,
    "centroid": centroid,
    "align-uniform": align_uniform,
}
