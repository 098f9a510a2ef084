"""Words and plain data that measuring and reporting share. Imports no torch.

Routes with their family and words, kinds of task and which of them lead, and published figures.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

Precision = Literal["fp32", "bf16", "fp64"]
Modality = Literal["image", "text"]
Probe = Literal["class-mean", "linear-probe"]
Kind = Literal["image-image", "text-text", "image-text", "text-image", "zero-shot"] | Probe
PROBES: tuple[Probe, ...] = get_args(Probe)
WITHIN: dict[Modality, Kind] = {"image": "image-image", "text": "text-text"}
Family = Literal["reference", "inversion", "placebo", "map"]

# the route that inverts the query of a task within this modality
INVERSIONS = {"image": "oti", "text": "ovi"}
CROSS_TASKS = ("image-text", "text-image")
# Settings are chosen on these and results told of them first: classes, where others are single things.
LEADING_TASKS = ("image-subgroup", "text-subgroup", "image-class", "image-object", "text-object")


def is_cross_modal(task: str) -> bool:
    """Tell whether a task compares an image with a text (retrieval across modalities, zero-shot)."""
    return task in CROSS_TASKS or task.startswith("zero-shot")


def leading_place(task: str) -> int:
    """Give the place of a task among the leading ones; the tasks that are none of them share the last."""
    return LEADING_TASKS.index(task) if task in LEADING_TASKS else len(LEADING_TASKS)


class RouteWords(NamedTuple):
    """What a route is for, and what it is called in a table, in a sentence, and on a narrow axis."""

    family: Family
    label: str
    words: str
    tick: str = ""


ROUTE_WORDS = {
    "chance": RouteWords("reference", "chance", "a random order"),
    "native": RouteWords("reference", "native", "native features"),
    "oti": RouteWords("inversion", "OTI", "OTI", "OTI"),
    "ovi": RouteWords("inversion", "OVI", "OVI", "OVI"),
    "oti_both": RouteWords("inversion", "OTI, both sides", "OTI on both sides"),
    "ovi_both": RouteWords("inversion", "OVI, both sides", "OVI on both sides"),
    "untrained_tokens": RouteWords("placebo", "untrained tokens", "untrained tokens"),
    "shuffled_targets": RouteWords("placebo", "shuffled targets", "shuffled targets"),
    "random_rotation": RouteWords("placebo", "random rotation", "a random rotation"),
    "centred": RouteWords("map", "centred", "centring", "centred"),
    "shifted": RouteWords("map", "gap shift", "a shift of the gap"),
    "whitened": RouteWords("map", "whitened", "whitening"),
    "top_removed": RouteWords("map", "top components removed", "removing top components"),
    "class_pca": RouteWords("map", "class-name PCA", "class-name PCA", "class-\nname\nPCA"),
    "caption_pca": RouteWords("map", "caption PCA", "caption PCA"),
    "image_pca": RouteWords("map", "image PCA", "image PCA"),
    "random_subspace": RouteWords("map", "random subspace", "a random subspace", "random\nsub-\nspace"),
    "isoclip": RouteWords("map", "IsoCLIP band", "the IsoCLIP band", "IsoCLIP"),
    "shared_space": RouteWords("map", "shared space", "the shared space"),
    "orthogonal_closing": RouteWords("map", "orthogonal closing", "orthogonal closing"),
    "ridge": RouteWords("map", "ridge", "ridge regression", "ridge"),
    "procrustes": RouteWords("map", "Procrustes", "Procrustes"),
}


class Published(NamedTuple):
    """One published comparison: what was measured, natively and by the route, in percent."""

    source: str
    what: str
    model: str
    native: float
    route: str
    value: float


SEED_PAPER = "Mistretta et al. 2025"
_CONTRARY = "Herzog & Wang 2026"
IMAGE_AVERAGE = "image retrieval, mAP, mean of 15 sets"
TEXT_AVERAGE = "text retrieval, mAP, mean of 3 sets"
ZERO_SHOT_AVERAGE = "zero-shot accuracy, mean of 11 sets"
_THIRTEEN = "image retrieval, mAP, mean of 13 sets"
FINE_TUNED_AVERAGE = "image retrieval, mAP, mean of 5 sets, fine-tuned on COCO"

SOURCES = (
    "Mistretta, Baldrati, Agnolucci, Bertini and Bagdanov, Cross the Gap, ICLR 2025, arXiv 2502.04263 "
    "(poster).",
    "Herzog and Wang, Reevaluating the Intra-Modal Misalignment Hypothesis in CLIP, CVPR 2026, arXiv "
    "2603.16100 (Table 3). Their native baseline differs from that of the first paper.",
)

PUBLISHED: tuple[Published, ...] = (
    Published(SEED_PAPER, IMAGE_AVERAGE, "CLIP ViT-B/32", 39.2, "OTI", 41.2),
    Published(SEED_PAPER, IMAGE_AVERAGE, "CLIP ViT-L/14", 52.0, "OTI", 55.3),
    Published(SEED_PAPER, IMAGE_AVERAGE, "OpenCLIP ViT-B/32", 47.3, "OTI", 49.5),
    Published(SEED_PAPER, IMAGE_AVERAGE, "OpenCLIP ViT-L/14", 60.4, "OTI", 63.6),
    Published(SEED_PAPER, IMAGE_AVERAGE, "SigLIP ViT-B/16", 55.5, "OTI", 58.3),
    Published(SEED_PAPER, IMAGE_AVERAGE, "SLIP ViT-B/16 (with an image-image loss)", 35.1, "OTI", 35.3),
    Published(SEED_PAPER, IMAGE_AVERAGE, "SLIP ViT-L/16 (with an image-image loss)", 36.7, "OTI", 37.1),
    Published(SEED_PAPER, TEXT_AVERAGE, "CLIP ViT-B/32", 37.7, "OVI", 40.6),
    Published(SEED_PAPER, TEXT_AVERAGE, "CLIP ViT-L/14", 38.2, "OVI", 41.3),
    Published(SEED_PAPER, TEXT_AVERAGE, "OpenCLIP ViT-B/32", 42.8, "OVI", 45.3),
    Published(SEED_PAPER, TEXT_AVERAGE, "OpenCLIP ViT-L/14", 45.1, "OVI", 47.0),
    Published(SEED_PAPER, TEXT_AVERAGE, "SigLIP ViT-B/16", 40.8, "OVI", 44.4),
    Published(SEED_PAPER, ZERO_SHOT_AVERAGE, "CLIP ViT-B/32", 61.9, "OTI", 56.4),
    Published(SEED_PAPER, ZERO_SHOT_AVERAGE, "CLIP ViT-L/14", 72.2, "OTI", 68.4),
    Published(SEED_PAPER, ZERO_SHOT_AVERAGE, "OpenCLIP ViT-B/32", 69.4, "OTI", 66.1),
    Published(SEED_PAPER, ZERO_SHOT_AVERAGE, "OpenCLIP ViT-L/14", 78.9, "OTI", 77.0),
    Published(SEED_PAPER, ZERO_SHOT_AVERAGE, "SigLIP ViT-B/16", 75.1, "OTI", 66.3),
    Published(SEED_PAPER, FINE_TUNED_AVERAGE, "CLIP ViT-B/32, fixed temperature 0.01", 39.3, "OTI", 40.2),
    Published(SEED_PAPER, FINE_TUNED_AVERAGE, "CLIP ViT-B/32, fixed temperature 1", 27.0, "OTI", 24.2),
    Published(_CONTRARY, _THIRTEEN, "CLIP ViT-B/32", 41.6, "class-name PCA", 49.0),
    Published(_CONTRARY, _THIRTEEN, "CLIP ViT-L/14", 53.7, "class-name PCA", 61.3),
    Published(_CONTRARY, _THIRTEEN, "SigLIP ViT-B/16", 57.2, "class-name PCA", 62.8),
    Published(_CONTRARY, _THIRTEEN, "SigLIP2 ViT-B/16", 58.6, "class-name PCA", 64.4),
    Published(_CONTRARY, _THIRTEEN, "SLIP ViT-B/16 (with an image-image loss)", 35.6, "class-name PCA", 39.4),
)


# released models that figures were published of, as evaluation names them
PUBLISHED_ENCODERS = (
    "ViT-B-32/openai",
    "ViT-L-14/openai",
    "ViT-B-32/datacomp_xl_s13b_b90k",
    "ViT-L-14/datacomp_xl_s13b_b90k",
    "ViT-B-16-SigLIP/webli",
    "slip-vit-b-16",
    "slip-vit-l-16",
)


def published_average(model: str, what: str) -> tuple[float, float] | None:
    """Return what the method's paper gives of a model, native and by the route; None where it gives nothing.

    ``model``: as in :data:`PUBLISHED`, without what stands in brackets.
    """
    for average in PUBLISHED:
        if (average.source, average.what, average.model.partition(" (")[0]) == (SEED_PAPER, what, model):
            return average.native, average.value
    return None
