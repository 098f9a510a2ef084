"""Named runs of the small CLIPs: each is the baseline with one thing changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pretrain.config import TrainConfig
from pretrain.recipes.recipe import Recipe, named, temperature
from pretrain.settings import AugmentConfig

# How models are trained on scenes, in place of what the recipes have for emoji: two to three minutes of one
# core. Chosen on the validation split by what captions say; docs/scenes.md lists what was tried. The first
# view is not cropped or recoloured, as captions name places and colours; later ones are.
SCENES: Mapping[str, Any] = {
    "steps": 2400,
    "batch_size": 64,
    "learning_rate": 5e-4,
    "warmup_steps": 100,
    "augment": AugmentConfig(area=(1.0, 1.0), ratio=(1.0, 1.0), brightness=0, contrast=0, saturation=0),
}
SCENES_MODEL: Mapping[str, Any] = {
    "image_size": 32,
    "patch_size": 8,
    "width": 96,
    "layers": 3,
    "heads": 3,
    "embed_dim": 128,
}


def on_scenes(config: TrainConfig, data: str = "scenes") -> TrainConfig:
    """Train what a recipe trains on a world of scenes, with the settings that all arms share there.

    What the recipe changes stays changed: its terms, its temperature, what towers share, views after the
    first; a recipe with more steps than the baseline has so many times as many here.
    """
    more = config.steps / TrainConfig(recipe="baseline").steps
    settings = {**SCENES, "steps": round(SCENES["steps"] * more)}
    settings["extra_augment"] = config.extra_augment or config.augment
    return replace(config, data=data, model=replace(config.model, **SCENES_MODEL), **settings)


STRONG = AugmentConfig(area=(0.3, 1.0), brightness=0.4, contrast=0.4, saturation=0.4)

# Batch, steps, learning rate and crops of the baseline were chosen on the validation concepts of the emoji,
# for a training of some hundred seconds on one core; all arms share them.
_RECIPES: dict[str, Recipe] = {
    "baseline": Recipe(
        family="host",
        label="CLIP, temperature .01",
        without_temperature=("CLIP", "CLIP loss alone"),
        description="CLIP loss alone, temperature fixed at .01",
        source="Radford et al., 2021, arXiv 2103.00020; .01 is where trained CLIPs end up",
    ),
    "siglip": Recipe(
        family="host",
        label="SigLIP",
        description="sigmoid loss over all pairs, temperature learned from .1 and bias from -10",
        without_temperature=("SigLIP", "sigmoid loss over all pairs"),
        source="Zhai et al., 2023, arXiv 2303.15343",
        weights={"clip": 0, "siglip": 1},
        objective=temperature("learnable", 0.1),
    ),
    "learnable": Recipe(
        family="temperature",
        label="learnable temperature",
        without_temperature=("CLIP", "CLIP loss alone"),
        description="CLIP loss alone, temperature learned from .07 (500 steps move it little)",
        source="Radford et al., 2021, arXiv 2103.00020, section 2.5",
        objective=temperature("learnable", 0.07),
    ),
    "slow-temperature": Recipe(
        family="temperature",
        label="slow temperature",
        without_temperature=("CLIP", "CLIP loss alone"),
        description="CLIP loss alone, temperature learned from .07 at a tenth of the learning rate",
        source="Yaras et al., 2024, arXiv 2412.07909",
        objective=temperature("learnable", 0.07, rate=0.1),
    ),
    "temperature-04": Recipe(
        family="temperature",
        label="temperature .04",
        without_temperature=("CLIP", "CLIP loss alone"),
        description="CLIP loss alone, temperature fixed at .04",
        source="Yaras et al., 2024, arXiv 2412.07909: the ladder of fixed temperatures",
        objective=temperature("fixed", 0.04),
    ),
    "temperature-linear": Recipe(
        family="temperature",
        label="temperature .01 to .05, linear",
        without_temperature=("CLIP", "CLIP loss alone"),
        description="CLIP loss alone, temperature from .01 in the first step to .05 in the last, linearly",
        source="Yaras et al., 2024, arXiv 2412.07909",
        objective=temperature("linear", 0.01, final=0.05),
    ),
    "temperature-cosine": Recipe(
        family="temperature",
        label="temperature .01 to .05, cosine",
        without_temperature=("CLIP", "CLIP loss alone"),
        description="CLIP loss alone, temperature from .01 to .05 along half a cosine",
        source="after Yaras et al., 2024, arXiv 2412.07909, whose schedule is linear",
        objective=temperature("cosine", 0.01, final=0.05),
    ),
    "image-image": Recipe(
        family="intra-modal",
        label="+ image-image",
        description="CLIP loss and NT-Xent between two views of an image, on the shared embedding",
        source="Goel et al., CyCLIP, 2022, arXiv 2205.14459: in-modal contrast on the shared embedding; "
        "temperature .1 and weight 1 of SLIP, Mu et al., 2021, arXiv 2112.12750",
        weights={"image_ntxent": 1},
    ),
    "slip": Recipe(
        family="intra-modal",
        label="+ image-image behind a head (SLIP)",
        description="CLIP loss and NT-Xent between two further, stronger views of an image, behind a head",
        source="Mu et al., SLIP, 2021, arXiv 2112.12750; the head in its proportions, crops from .3 instead "
        "of .08 of the image, no blur, grey or flips",
        weights={"image_ntxent_head": 1},
        train={"extra_augment": STRONG},
    ),
    "text-text": Recipe(
        family="intra-modal",
        label="+ text-text, two captions",
        description="CLIP loss and NT-Xent between two captions of each image",
        source="after Gao et al., SimCSE, 2021, arXiv 2104.08821; temperature .1 of SLIP",
        weights={"text_ntxent": 1},
    ),
    "text-text-words": Recipe(
        family="intra-modal",
        label="+ text-text, fewer words",
        description="CLIP loss and NT-Xent between a caption and itself with words left out",
        source="after Gao et al., SimCSE, 2021, arXiv 2104.08821 (word deletion, section 3)",
        weights={"text_ntxent_words": 1},
    ),
    "text-text-dropout": Recipe(
        family="intra-modal",
        label="+ text-text, dropout",
        description="CLIP loss and SimCSE's contrast between a caption and itself under dropout of .1",
        source="Gao et al., SimCSE, 2021, arXiv 2104.08821: temperature .05; here one of the two sides has "
        "dropout, so that the CLIP loss sees none; symmetrised",
        weights={"text_ntxent_dropout": 1},
    ),
    "image-image-text-text": Recipe(
        family="intra-modal",
        label="+ image-image and text-text",
        description="CLIP loss and NT-Xent within both modalities, half the weight each",
        source="Goel et al., CyCLIP, 2022, arXiv 2205.14459: the mean of image-image and text-text contrast",
        weights={"image_ntxent": 0.5, "text_ntxent": 0.5},
    ),
    "supervised": Recipe(
        family="intra-modal",
        label="+ supervised contrast",
        description="CLIP loss and supervised contrast over concepts within both modalities",
        source="Khosla et al., 2020, arXiv 2004.11362: temperature .1; no source for it beside CLIP: "
        "weight .5 a modality",
        weights={"image_supervised": 0.5, "text_supervised": 0.5},
    ),
    "in-modal-consistency": Recipe(
        family="intra-modal",
        label="+ in-modal consistency",
        description="CLIP loss and CyCLIP's in-modal consistency",
        source="Goel et al., CyCLIP, 2022, arXiv 2205.14459",
        weights={"in_modal_consistency": 0.25},
    ),
    "separation": Recipe(
        family="intra-modal",
        label="+ intra-modal separation",
        description="CLIP loss and AlignCLIP's intra-modal separation, all negatives alike",
        source="Eslami and de Melo, AlignCLIP, 2024, arXiv 2406.17639, without its shared towers; weight .5 "
        "of its released code, whose CLIP loss is the sum of both directions, halved",
        weights={"intra_modal_separation": 0.25},
    ),
    "separation-semantic": Recipe(
        family="intra-modal",
        label="+ intra-modal separation by meaning",
        description="CLIP loss and AlignCLIP's intra-modal separation, negatives weighed by "
        "the unlikeness of their captions",
        source="Eslami and de Melo, AlignCLIP, 2024, arXiv 2406.17639, without its shared towers; weight .5 "
        "of its released code, whose CLIP loss is the sum of both directions, halved; likeness "
        "of captions from their words (TF-IDF) unless semantics gives a file of sentence embeddings",
        weights={"semantic_separation": 0.25},
    ),
    "vicreg": Recipe(
        family="intra-modal",
        label="+ VICReg",
        description="CLIP loss and VICReg between two views within both modalities, each behind an expander",
        source="Bardes et al., 2021, arXiv 2105.04906: coefficients 25, 25, 1, variance halved as in its "
        "released code; no source for it beside CLIP: weight 1/50 a modality, the mean of both over 25",
        weights={"image_vicreg": 0.02, "text_vicreg": 0.02},
    ),
    "in-modal-uniformity": Recipe(
        family="intra-modal",
        label="+ in-modal uniformity",
        description="CLIP loss and the uniformity of images and of texts",
        source="Wang and Isola, 2020, arXiv 2005.10242; weight 1 as in Fahim et al., 2024, arXiv 2405.18570",
        weights={"in_modal_uniformity": 1},
    ),
    "nearest": Recipe(
        family="intra-modal",
        label="+ nearest neighbours",
        description="CLIP loss and contrast with the nearest earlier item within both modalities",
        source="Dwibedi et al., NNCLR, 2021, arXiv 2104.14548: temperature .1; weight .2 of DeCLIP, Li et "
        "al., 2021, arXiv 2110.05208, halved between the modalities",
        weights={"image_nearest": 0.1, "text_nearest": 0.1},
    ),
    "self-distillation": Recipe(
        family="intra-modal",
        label="+ self-distillation",
        description="CLIP loss and agreement of small crops with the whole image as an averaged "
        "teacher sees it",
        source="Naeem et al., SILC, 2023, arXiv 2310.13355, after Caron et al., DINO, 2021, arXiv "
        "2104.14294; two small crops instead of eight, resized to the full size; fixed momentum .996",
        weights={"self_distillation": 1},
    ),
    "centroid": Recipe(
        family="gap",
        label="+ centroid penalty",
        description="CLIP loss and the squared distance of the two centroids",
        source="the penalty form of the gap of Liang et al., 2022, arXiv 2203.02053; weight 1",
        weights={"centroid_penalty": 1},
    ),
    "pair-alignment": Recipe(
        family="gap",
        label="+ pair alignment",
        description="CLIP loss and the squared distance of true pairs",
        source="Wang and Isola, 2020, arXiv 2005.10242; weight 1",
        weights={"pair_alignment": 1},
    ),
    "cross-uniformity": Recipe(
        family="gap",
        label="+ cross-modal uniformity",
        description="CLIP loss and the uniformity of images against texts",
        source="Fahim, Murphy and Fyshe, 2024, arXiv 2405.18570; weight 1",
        weights={"cross_uniformity": 1},
    ),
    "cua": Recipe(
        family="gap",
        label="+ alignment and uniformity (CUA)",
        description="CLIP loss, alignment of true pairs and in-modal uniformity",
        source="Fahim, Murphy and Fyshe, 2024, arXiv 2405.18570; weights 1, temperature .01",
        weights={"pair_alignment": 1, "in_modal_uniformity": 1},
    ),
    "cuaxu": Recipe(
        family="gap",
        label="+ CUA and cross-modal uniformity",
        description="CLIP loss, alignment of true pairs, in-modal and cross-modal uniformity",
        source="Fahim, Murphy and Fyshe, 2024, arXiv 2405.18570; weights 1, temperature .01",
        weights={"pair_alignment": 1, "in_modal_uniformity": 1, "cross_uniformity": 1},
    ),
    "align-uniform": Recipe(
        family="gap",
        label="+ alignment and midpoint uniformity (ModGap)",
        description="CLIP loss, alignment of true pairs and uniformity of their midpoints",
        source="ModGap, 2026, arXiv 2601.18525; weights 1",
        weights={"pair_alignment": 1, "centroid_uniformity": 1},
    ),
    "cross-modal-consistency": Recipe(
        family="gap",
        label="+ cross-modal consistency",
        description="CLIP loss and CyCLIP's cross-modal consistency",
        source="Goel et al., CyCLIP, 2022, arXiv 2205.14459",
        weights={"cross_modal_consistency": 0.25},
    ),
    "sliced-wasserstein": Recipe(
        family="gap",
        label="+ sliced Wasserstein",
        description="CLIP loss and the sliced Wasserstein distance of images and texts over 128 directions",
        source="Bonneel et al., 2015; no source for it beside CLIP: weight 1",
        weights={"sliced_wasserstein": 1},
    ),
    "mmd": Recipe(
        family="gap",
        label="+ MMD",
        description="CLIP loss and the maximum mean discrepancy of images and texts",
        source="Gretton et al., 2012; no source for it beside CLIP: weight 1",
        weights={"mmd": 1},
    ),
    "coral": Recipe(
        family="gap",
        label="+ CORAL",
        description="CLIP loss and the difference of the covariances of images and texts",
        source="Sun and Saenko, 2016, arXiv 1607.01719; no source for it beside CLIP: weight 1",
        weights={"coral": 1},
    ),
    "adversarial": Recipe(
        family="gap",
        label="+ adversarial classifier",
        description="CLIP loss and a classifier of the modality whose gradient is reversed, ramped up",
        source="Ganin et al., 2016, arXiv 1505.07818; no source for it beside CLIP: weight 1",
        weights={"adversarial": 1},
    ),
    "rafa": Recipe(
        family="gap",
        label="+ random feature alignment (RaFA)",
        description="CLIP loss and the mean squared difference of both sides of a pair to one random vector",
        source="CLIP-Refine, 2025, arXiv 2504.12717: scale and weight 1 of its released code, which "
        "post-trains released models by it and a distillation, without a CLIP loss",
        weights={"rafa": 1},
    ),
    "label-smoothing": Recipe(
        family="gap",
        label="label smoothing .1",
        description="CLIP loss with a tenth of each target spread over the batch",
        source="Szegedy et al., 2016, arXiv 1512.00567: .1",
        objective={"modifiers": {"label_smoothing": 0.1}},
    ),
    "swap-hard": Recipe(
        family="gap",
        label="modality swapping, hard",
        description="CLIP loss on embeddings whose entries change sides in one step of a thousand",
        source="Yaras et al., 2024, arXiv 2412.07909: 1e-3",
        objective={"modifiers": {"swap_hard": 1e-3}},
    ),
    "swap-soft": Recipe(
        family="gap",
        label="modality swapping, soft",
        description="CLIP loss on embeddings whose entries are mixed across sides in one step of twenty",
        source="Yaras et al., 2024, arXiv 2412.07909: 5e-2",
        objective={"modifiers": {"swap_soft": 5e-2}},
    ),
    "shared-projection": Recipe(
        family="model",
        label="shared projection",
        description="CLIP loss alone, one projection into the embedding for images and texts",
        source="a part of SharedCLIP: Eslami and de Melo, 2024, arXiv 2406.17639",
        model={"shared": "projection"},
    ),
    "shared-towers": Recipe(
        family="model",
        label="shared towers (SharedCLIP)",
        description="CLIP loss alone, one transformer and one projection for images and texts",
        source="Eslami and de Melo, 2024, arXiv 2406.17639; outer norms and attention masks stay their own",
        model={"shared": "towers"},
    ),
    "images-alone": Recipe(
        family="control",
        label="image-image alone",
        description="NT-Xent between two views of an image and no CLIP loss: the text tower stays untrained",
        source="control: the image-only reference",
        weights={"clip": 0, "image_ntxent": 1},
    ),
    "extra-views": Recipe(
        family="control",
        label="extra views, no extra loss",
        description="CLIP loss on two views of each image, half the weight each",
        source="control: the views of image-image without its loss",
        weights={"clip": 0.5, "clip_second_view": 0.5},
    ),
    "matched-compute": Recipe(
        family="control",
        label="baseline, matched compute",
        description="CLIP loss alone, 1.65 times as many steps: what a second image view costs",
        source="control: the step of image-image took 1.65 times that of the baseline",
        train={"steps": 825},
    ),
}
RECIPES = named(_RECIPES)
