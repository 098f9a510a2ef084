"""Named runs that fine-tune a released CLIP."""

from __future__ import annotations

from pretrain.recipes.recipe import Recipe, named, temperature
from pretrain.settings import AugmentConfig

# The paper fine-tunes CLIP B/32 on COCO at temperatures .01 and 1 and tells neither learning rate, batch nor
# epochs; those below are ours, the same at all temperatures. Rungs between, because at 1 the model is much
# worse within a modality too: a gain that vanishes there may vanish with the quality.
_SETTINGS = {
    "encoder": "ViT-B-32",
    "pretrained": "openai",
    "steps": 1000,
    "learning_rate": 1e-5,
    "warmup_steps": 100,
    "augment": AugmentConfig(area=(0.9, 1.0), brightness=0, contrast=0, saturation=0),
}


def _rung(tau: float) -> Recipe:
    return Recipe(
        family="fine-tuning",
        label=f"fine-tuned, temperature {tau:g}",
        without_temperature=("fine-tuned", "CLIP B/32 fine-tuned by the CLIP loss alone"),
        description=f"CLIP B/32 fine-tuned by the CLIP loss alone, temperature fixed at {tau:g}",
        source="after Mistretta et al., 2025, arXiv 2502.04263 (COCO, .01 and 1); other settings are ours",
        objective=temperature("fixed", tau),
        train=_SETTINGS,
    )


# to be given --data, and perhaps another --encoder
_LADDER: dict[str, Recipe] = {
    "fine-tune-01": _rung(0.01),
    "fine-tune-02": _rung(0.02),
    "fine-tune-04": _rung(0.04),
    "fine-tune-07": _rung(0.07),
    "fine-tune-10": _rung(0.1),
    "fine-tune-20": _rung(0.2),
    "fine-tune-40": _rung(0.4),
    "fine-tune-100": _rung(1.0),
}
FINE_TUNING = named(_LADDER)
