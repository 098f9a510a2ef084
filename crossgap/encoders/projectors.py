"""The linear projectors of a model's towers, where it has them: what the IsoCLIP band is read off."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from crossgap.datasets.readers.feature_files import FeatureTable
from crossgap.encoders.hugging_face.towers import SiglipImageTower
from crossgap.encoders.open_clip import OpenClipEncoder
from crossgap.encoders.protocol import Encoder
from crossgap.encoders.slip import SlipImageTower


class Projectors(NamedTuple):
    """Matrices that take a tower's last features, as columns, into the shared space.

    W and V count a further entry of the last features, a constant 1, where the projection has a bias.
    """

    image: Tensor  # (D, W)
    text: Tensor  # (D, V)


def linear_projectors(source: Encoder | FeatureTable) -> Projectors | str:
    """Return the projectors of both towers, or the reason, in words, why the model has none.

    A projector is linear if the shared feature is ``P x`` of the tower's last feature x. A bias b is a column
    more, ``[P b] [x; 1]``, as in the released code ([1]) of SigLIP 2; that code leaves the bias of EVA02's
    head out, which a unit feature does not allow. Perceptrons and attention at the end are not linear. In
    the place of SigLIP's perceptron behind attention pooling [1] puts a linearisation ``I + W_2 W_1 / 2``
    (transposed, as it multiplies), on features from before it. The features here come from behind it, so
    SigLIP is refused. Before PE-Core's head, which is linear, [1] drops such a perceptron; here it stays.
    [0] Magistri et al., 2026, arXiv 2603.19862 (who needs them); [1] github.com/simomagi/IsoCLIP,
    src/encode_no_projection.py, get_projection_layers.

    Shape: -> (D, W), (D, V).
    """
    if isinstance(source, FeatureTable):
        return "features that come without their model come without projectors"
    if not isinstance(source, OpenClipEncoder):
        return f"projectors are known of open_clip's towers alone, not of {type(source).__name__}"
    image = _image_projector(source.image_tower)
    text = _matrix(getattr(source.text_tower, "text_projection", None), "text")
    for projector in (image, text):
        if isinstance(projector, str):
            return projector
    assert isinstance(image, Tensor)
    assert isinstance(text, Tensor)
    return Projectors(image, text)


def _image_projector(visual: Any) -> Tensor | str:
    if isinstance(visual, VisionTransformer):
        return _matrix(visual.proj, "image")
    if isinstance(visual, SlipImageTower):
        return _matrix(visual.head, "image")
    if isinstance(visual, TimmModel | SiglipImageTower):
        return _timm_projector(visual)
    return f"the image tower, a {type(visual).__name__}, does not end in a linear projection"


def _timm_projector(visual: TimmModel | SiglipImageTower) -> Tensor | str:
    """Find the projection that open_clip put behind a trunk, or the trunk's own head (PE-Core, EVA02)."""
    layers = [layer for layer in visual.head.modules() if not isinstance(layer, nn.Sequential)]
    working = [layer for layer in layers if not isinstance(layer, nn.Dropout | nn.Identity)]
    if working:
        return _matrix(working[0] if len(working) == 1 else None, "image")
    head = visual.trunk.get_classifier()
    if isinstance(head, nn.Identity) and getattr(visual.trunk, "attn_pool", None) is not None:
        return (
            "the image tower ends in a perceptron behind attention pooling (visual.trunk.attn_pool), which "
            "is not linear; IsoCLIP's code linearises it, on features from before it, which are not kept here"
        )
    return _matrix(head, "image")


def _matrix(projection: Any, side: str) -> Tensor | str:
    if isinstance(projection, nn.Linear):
        weight_DW = projection.weight.detach()
        if projection.bias is None:
            return weight_DW
        return torch.cat([weight_DW, projection.bias.detach()[:, None]], dim=1)
    if isinstance(projection, Tensor) and projection.ndim == 2:
        return projection.detach().T  # open_clip multiplies rows from the left
    return f"the {side} tower does not end in a linear projection"
