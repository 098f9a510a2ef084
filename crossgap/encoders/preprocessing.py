"""How a model wants its images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import open_clip
from PIL import Image
from torch import Tensor

from crossgap.errors import InputError


class Preprocessing(NamedTuple):
    """``transform`` turns an image into pixels (C, H, W); ``config`` says which, in plain values.

    ``config["size"]`` is the height and width of the pixels, or one number for both.
    """

    config: dict[str, Any]
    transform: Callable[[Image.Image], Tensor]


def of_open_clip(model: Any, name: str) -> Preprocessing:
    """Return what a model of open_clip says of itself.

    Raises:
        InputError: it does not say.
    """
    config = open_clip.get_model_preprocess_cfg(model)
    missing = {"size", "mean", "std", "interpolation", "resize_mode"} - config.keys()
    if missing:
        raise InputError(
            f"encoder {name!r}: the model does not say how to preprocess images "
            f"({', '.join(sorted(missing))}); set it with open_clip.model.set_model_preprocess_cfg, or load "
            "the model with open_clip.create_model"
        )
    transform = open_clip.image_transform(
        config["size"],
        is_train=False,
        mean=config["mean"],
        std=config["std"],
        interpolation=config["interpolation"],
        resize_mode=config["resize_mode"],
        fill_color=config.get("fill_color", 0),
    )
    return Preprocessing(config, transform)
