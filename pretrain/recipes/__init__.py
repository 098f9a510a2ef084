"""Named training runs: each says what it changes in the baseline, and where its numbers come from."""

from __future__ import annotations

from pretrain.recipes.fine_tuning import FINE_TUNING
from pretrain.recipes.large import LARGE
from pretrain.recipes.recipe import Recipe
from pretrain.recipes.small import RECIPES, SCENES, SCENES_MODEL, STRONG, on_scenes

__all__ = [
    "FINE_TUNING", "KNOWN_RECIPES", "LARGE", "RECIPES", "SCENES", "SCENES_MODEL", "STRONG", "Recipe",
    "on_scenes",
]  # fmt: skip

# every recipe by its name; RECIPES alone are the arms of studies
KNOWN_RECIPES: dict[str, Recipe] = RECIPES | FINE_TUNING | LARGE
