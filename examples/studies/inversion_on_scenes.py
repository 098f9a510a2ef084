"""Three arms of `claims` beside every map that needs no training: does inversion gain more than any of them?

    python -m ablations.sweep --study examples/studies/inversion_on_scenes.py

Models, seeds and settings of inversion are those of `claims`, so that what one has trained the other takes.
"""

from dataclasses import replace

from ablations.study import Study
from ablations.study.named import claims

ARMS = ("baseline", "centroid", "image-image")
ROUTES = (
    "chance", "native", "oti", "ovi", "untrained_tokens", "centred", "shifted", "whitened", "top_removed",
    "class_pca", "caption_pca", "image_pca", "random_subspace", "isoclip", "shared_space",
    "orthogonal_closing", "ridge", "procrustes",
)  # fmt: skip


def study() -> Study:
    """Does OTI gain more than maps that invert nothing, in five paired seeds?"""
    whole = claims()
    return replace(
        whole,
        name="inversion-on-scenes",
        description="Inversion beside every map that needs no training, on scenes.",
        arms=tuple(whole.arm(name) for name in ARMS),
        evaluation=replace(whole.evaluation, routes=ROUTES),
        core_seconds=220,
    )
