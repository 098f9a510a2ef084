"""The linear projectors of a model's towers, where it has them: what the IsoCLIP band is read off."""

from __future__ import annotations

from typing import Any, NamedTuple

from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from crossgap.encoders import Encoder, OpenClipEncoder
from crossgap.feature_files import FeatureTable
from crossgap.slip import SlipImageTower


class Projectors(NamedTuple):
    """Matrices that take a tower's last features, as columns, into the shared space."""

    image: Tensor  # (D, W)
    text: Tensor  # (D, V)


def linear_projectors(source: Encoder | FeatureTable) -> Projectors | str:
    """Return the projectors of both towers, or the reason, in words, why the model has none.

    A projector is linear if the shared feature is ``P x`` of the tower's last feature x: a bias, a perceptron
    or attention at the end makes it none. [0] Magistri et al., 2026, arXiv 2603.19862 (who needs them).

    Shape: -> (D, W), (D, V).
    """
    if isinstance(source, FeatureTable):
        return "features that come without their model come without projectors"
    if not isinstance(source, OpenClipEncoder):
        return f"projectors are known of open_clip's towers alone, not of {type(source).__name__}"
    image = _image_projector(source.image_tower)
    text = _matrix(getattr(source.text_tower, "text_projection", None), "text")
    for found in (image, text):
        if isinstance(found, str):
            return found
    assert isinstance(image, Tensor)
    assert isinstance(text, Tensor)
    return Projectors(image, text)


def _image_projector(visual: Any) -> Tensor | str:
    if isinstance(visual, VisionTransformer):
        return _matrix(visual.proj, "image")
    if isinstance(visual, SlipImageTower):
        return _matrix(visual.head, "image")
    if isinstance(visual, TimmModel):
        layers = [layer for layer in visual.head.modules() if not isinstance(layer, nn.Sequential)]
        working = [layer for layer in layers if not isinstance(layer, nn.Dropout | nn.Identity)]
        return _matrix(working[0] if len(working) == 1 else None, "image")
    return f"the image tower, a {type(visual).__name__}, does not end in a linear projection"


def _matrix(projection: Any, side: str) -> Tensor | str:
    if isinstance(projection, nn.Linear) and projection.bias is None:
        return projection.weight.detach()
    if isinstance(projection, Tensor) and projection.ndim == 2:
        return projection.detach().T  # open_clip multiplies rows from the left
    return f"the {side} tower does not end in a linear projection without bias"
