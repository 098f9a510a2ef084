"""Published figures that the report prints for context, each read in its authors' own artefact."""

from __future__ import annotations

from typing import NamedTuple


class Published(NamedTuple):
    """One published comparison: what was measured, natively and by the route, in percent."""

    source: str
    what: str
    model: str
    native: float
    route: str
    value: float


_SEED = "Mistretta et al. 2025"
_CONTRARY = "Herzog & Wang 2026"
_IMAGES = "image retrieval, mAP, mean of 15 sets"
_TEXTS = "text retrieval, mAP, mean of 3 sets"
_ZERO_SHOT = "zero-shot accuracy, mean of 11 sets"
_THIRTEEN = "image retrieval, mAP, mean of 13 sets"
_COCO = "image retrieval, mAP, mean of 5 sets, fine-tuned on COCO"

SOURCES = (
    "Mistretta, Baldrati, Agnolucci, Bertini and Bagdanov, Cross the Gap, ICLR 2025, arXiv 2502.04263 "
    "(poster).",
    "Herzog and Wang, Reevaluating the Intra-Modal Misalignment Hypothesis in CLIP, CVPR 2026, arXiv "
    "2603.16100 (Table 3). Their native baseline differs from that of the first paper.",
)

PUBLISHED = (
    Published(_SEED, _IMAGES, "CLIP ViT-B/32", 39.2, "OTI", 41.2),
    Published(_SEED, _IMAGES, "CLIP ViT-L/14", 52.0, "OTI", 55.3),
    Published(_SEED, _IMAGES, "OpenCLIP ViT-B/32", 47.3, "OTI", 49.5),
    Published(_SEED, _IMAGES, "OpenCLIP ViT-L/14", 60.4, "OTI", 63.6),
    Published(_SEED, _IMAGES, "SigLIP ViT-B/16", 55.5, "OTI", 58.3),
    Published(_SEED, _IMAGES, "SLIP ViT-B/16 (with an image-image loss)", 35.1, "OTI", 35.3),
    Published(_SEED, _IMAGES, "SLIP ViT-L/16 (with an image-image loss)", 36.7, "OTI", 37.1),
    Published(_SEED, _TEXTS, "CLIP ViT-B/32", 37.7, "OVI", 40.6),
    Published(_SEED, _TEXTS, "CLIP ViT-L/14", 38.2, "OVI", 41.3),
    Published(_SEED, _TEXTS, "OpenCLIP ViT-B/32", 42.8, "OVI", 45.3),
    Published(_SEED, _TEXTS, "OpenCLIP ViT-L/14", 45.1, "OVI", 47.0),
    Published(_SEED, _TEXTS, "SigLIP ViT-B/16", 40.8, "OVI", 44.4),
    Published(_SEED, _ZERO_SHOT, "CLIP ViT-B/32", 61.9, "OTI", 56.4),
    Published(_SEED, _ZERO_SHOT, "CLIP ViT-L/14", 72.2, "OTI", 68.4),
    Published(_SEED, _ZERO_SHOT, "OpenCLIP ViT-B/32", 69.4, "OTI", 66.1),
    Published(_SEED, _ZERO_SHOT, "OpenCLIP ViT-L/14", 78.9, "OTI", 77.0),
    Published(_SEED, _ZERO_SHOT, "SigLIP ViT-B/16", 75.1, "OTI", 66.3),
    Published(_SEED, _COCO, "CLIP ViT-B/32, fixed temperature 0.01", 39.3, "OTI", 40.2),
    Published(_SEED, _COCO, "CLIP ViT-B/32, fixed temperature 1", 27.0, "OTI", 24.2),
    Published(_CONTRARY, _THIRTEEN, "CLIP ViT-B/32", 41.6, "class-name PCA", 49.0),
    Published(_CONTRARY, _THIRTEEN, "CLIP ViT-L/14", 53.7, "class-name PCA", 61.3),
    Published(_CONTRARY, _THIRTEEN, "SigLIP ViT-B/16", 57.2, "class-name PCA", 62.8),
    Published(_CONTRARY, _THIRTEEN, "SigLIP2 ViT-B/16", 58.6, "class-name PCA", 64.4),
    Published(_CONTRARY, _THIRTEEN, "SLIP ViT-B/16 (with an image-image loss)", 35.6, "class-name PCA", 39.4),
)
