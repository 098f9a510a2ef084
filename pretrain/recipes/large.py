"""Named runs of larger CLIPs: a ViT-S/16 on shards of CC3M's size, for one GPU and about a day.

None of them was run; ``python -m pretrain.train --recipe NAME --dry-run`` counts what one costs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pretrain.recipes.recipe import Recipe, named, temperature
from pretrain.recipes.small import RECIPES
from pretrain.settings import AugmentConfig

# 2.9 million of CC3M's 3.3 million pairs can still be fetched: img2dataset writes 332 shards of 10,000
_DATA = "shards/cc3m/{00000..00331}.tar"
_MODEL = {"patch_size": 16, "width": 384, "layers": 12, "heads": 6, "embed_dim": 384, "context_length": 77}
# the first view as CLIP's in SLIP; further views as there, without blur and grey
_SHARED: dict[str, Any] = {
    "data": _DATA,
    "loading": "resampled",
    "workers": 12,
    "weight_decay": 0.2,
    "precision": "bf16",
    "log_every": 100,
    "checkpoint_every": 2500,
    "augment": AugmentConfig(area=(0.5, 1.0), brightness=0, contrast=0, saturation=0),
    "extra_augment": AugmentConfig(area=(0.08, 1.0), brightness=0.4, contrast=0.4, saturation=0.4, flip=0.5),
}
# 102.4 million pairs each: 35 passes over the data. At 224 pixels half of the patches are left out.
_SIZES: dict[int, dict[str, Any]] = {
    112: {
        "stored_size": 128, "batch_size": 4096, "steps": 25_000, "learning_rate": 1e-3, "warmup_steps": 2000,
    },
    224: {
        "stored_size": 256, "batch_size": 1024, "steps": 100_000, "learning_rate": 5e-4, "warmup_steps": 8000,
        "patch_dropout": 0.5,
    },
}  # fmt: skip


def _large(arm: str, pixels: int) -> Recipe:
    """Give an arm of the small ones the size of a ViT-S/16; its temperature is learned, as CLIP's was."""
    small = RECIPES[arm]
    what = "CLIP" if arm == "baseline" else small.label
    views = {"recompute": True} if arm in ("slip", "image-image") else {}  # of more images a pair
    return replace(
        small,
        label=f"{what}, ViT-S/16 at {pixels} pixels",
        description=f"{small.description.removesuffix(', temperature fixed at .01')}; ViT-S/16 at {pixels} "
        "pixels on shards of CC3M's size, temperature learned from .07",
        source=f"{small.source}. Towers of ViT-S/16, first crops and batch after Mu et al., SLIP, 2021, "
        "arXiv 2112.12750; temperature, betas and decay of Radford et al., 2021, arXiv 2103.00020; patches "
        "left out as in FLIP, Li et al., 2022, arXiv 2212.00794, without its last epoch on all; learning "
        "rates and length are ours; not run",
        objective=temperature("learnable", 0.07),
        model={**_MODEL, "image_size": pixels},
        train={**_SHARED, **_SIZES[pixels], **views},
        without_temperature=None,
    )


_LARGE: dict[str, Recipe] = {
    "cc3m-112-clip": _large("baseline", 112),
    "cc3m-112-image-image": _large("image-image", 112),
    "cc3m-112-slip": _large("slip", 112),
    "cc3m-112-centroid": _large("centroid", 112),
    "cc3m-112-align-uniform": _large("align-uniform", 112),
    "cc3m-224-clip": _large("baseline", 224),
    "cc3m-224-image-image": _large("image-image", 224),
    "cc3m-224-slip": _large("slip", 224),
    "cc3m-224-centroid": _large("centroid", 224),
    "cc3m-224-align-uniform": _large("align-uniform", 224),
}
LARGE = named(_LARGE)
