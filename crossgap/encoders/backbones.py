"""The backbones of the paper: which weights they are, and what is published of them.

[0] Mistretta et al., Cross the Gap, ICLR 2025, arXiv 2502.04263: released configurations, poster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from crossgap.datasets.known.table import PAPER_CLASS_SETS, PAPER_IMAGE_SETS, PAPER_TEXT_SETS
from crossgap.vocabulary import (
    FINE_TUNED_AVERAGE,
    IMAGE_AVERAGE,
    TEXT_AVERAGE,
    ZERO_SHOT_AVERAGE,
    published_average,
)

Experiment = Literal["image retrieval", "text retrieval", "zero-shot classification"]


@dataclass(frozen=True, kw_only=True)
class PosterLine:
    """A line of a table of the poster [0]: percent, native and under inversion; of all ``sets``, an average.

    ``of_set`` are the values of single sets, where the poster gives them.
    """

    experiment: Experiment
    sets: tuple[str, ...]
    native: float
    inverted: float
    of_set: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A model of the paper.

    Args:
        model: its name in open_clip, or one of SLIP's; "" for weights that nobody released.
        tag: of open_clip.
        file_model: the name under which open_clip builds the same towers for a weights file.
        transformers: the name of the same weights as ``transformers`` keeps them on the hub.
        weights: where a file of the weights is found.
        ovi_tokens: pseudo-tokens of OVI; OTI has one.
        published: lines of the paper's tables.
    """

    title: str
    model: str
    weights: str
    ovi_tokens: int
    published: tuple[PosterLine, ...]
    tag: str = ""
    file_model: str = ""
    transformers: str = ""

    @property
    def encoder(self) -> str:
        """The name of the loaded encoder, under which its settings are known."""
        return f"{self.model}/{self.tag}" if self.tag else self.model

    @property
    def encoders(self) -> tuple[str, ...]:
        """All names of the loaded encoder."""
        return tuple(name for name in (self.encoder, self.transformers) if name)


def _published(model: str) -> tuple[PosterLine, ...]:
    """Averages of 15 sets (image retrieval, mAP), 3 (text retrieval, mAP) and 11 (zero-shot, accuracy)."""
    experiments: Sequence[tuple[Experiment, tuple[str, ...], str]] = (
        ("image retrieval", PAPER_IMAGE_SETS, IMAGE_AVERAGE),
        ("text retrieval", PAPER_TEXT_SETS, TEXT_AVERAGE),
        ("zero-shot classification", PAPER_CLASS_SETS, ZERO_SHOT_AVERAGE),
    )
    return tuple(
        PosterLine(experiment=experiment, sets=sets, native=values[0], inverted=values[1])
        for experiment, sets, what in experiments
        if (values := published_average(model, what)) is not None
    )


_LADDER_SETS = ("cub", "sop", "roxford5k-uncropped", "rparis6k-uncropped", "stanford-cars")


def _fine_tuned(
    temperature: str, native: Sequence[float], inverted: Sequence[float]
) -> tuple[PosterLine, ...]:
    """A model fine-tuned on COCO at a fixed temperature: five sets, and their average."""
    average = published_average(f"CLIP ViT-B/32, fixed temperature {temperature}", FINE_TUNED_AVERAGE)
    assert average is not None
    of_set = dict(zip(_LADDER_SETS, zip(native, inverted, strict=True), strict=True))
    line = PosterLine(
        experiment="image retrieval",
        sets=_LADDER_SETS,
        native=average[0],
        inverted=average[1],
        of_set=of_set,
    )
    return (line,)


_HUB = "open_clip_model.safetensors of https://huggingface.co"
_SLIP = "https://github.com/facebookresearch/SLIP"
_NOT_RELEASED = "not released, nor is the recipe: a fine-tuned model of your own, as --encoder"

# Averages stand in crossgap.vocabulary; the values of single sets are read off the poster [0], too.
BACKBONES: dict[str, Backbone] = {
    "clip-b32": Backbone(
        title="CLIP ViT-B/32",
        model="ViT-B-32",
        tag="openai",
        file_model="ViT-B-32-quickgelu",
        transformers="hf:openai/clip-vit-base-patch32",
        weights=f"{_HUB}/timm/vit_base_patch32_clip_224.openai",
        ovi_tokens=1,
        published=_published("CLIP ViT-B/32"),
    ),
    "clip-l14": Backbone(
        title="CLIP ViT-L/14",
        model="ViT-L-14",
        tag="openai",
        file_model="ViT-L-14-quickgelu",
        transformers="hf:openai/clip-vit-large-patch14",
        weights=f"{_HUB}/timm/vit_large_patch14_clip_224.openai",
        ovi_tokens=4,
        published=_published("CLIP ViT-L/14"),
    ),
    "openclip-b32": Backbone(
        title="OpenCLIP ViT-B/32, DataComp XL",
        model="ViT-B-32",
        tag="datacomp_xl_s13b_b90k",
        file_model="ViT-B-32",
        weights=f"{_HUB}/laion/CLIP-ViT-B-32-DataComp.XL-s13B-b90K",
        ovi_tokens=1,
        published=_published("OpenCLIP ViT-B/32"),
    ),
    "openclip-l14": Backbone(
        title="OpenCLIP ViT-L/14, DataComp XL",
        model="ViT-L-14",
        tag="datacomp_xl_s13b_b90k",
        file_model="ViT-L-14",
        weights=f"{_HUB}/laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K",
        ovi_tokens=2,
        published=_published("OpenCLIP ViT-L/14"),
    ),
    "siglip-b16": Backbone(
        title="SigLIP ViT-B/16, WebLI",
        model="ViT-B-16-SigLIP",
        tag="webli",
        file_model="ViT-B-16-SigLIP",
        transformers="hf:google/siglip-base-patch16-224",
        weights=f"{_HUB}/timm/ViT-B-16-SigLIP",
        ovi_tokens=4,
        published=_published("SigLIP ViT-B/16"),
    ),
    "slip-b16": Backbone(
        title="SLIP ViT-B/16, YFCC15M, 100 epochs",
        model="slip-vit-b-16",
        weights=f"slip_base_100ep.pt of {_SLIP}",
        ovi_tokens=1,
        published=_published("SLIP ViT-B/16"),
    ),
    "slip-l16": Backbone(
        title="SLIP ViT-L/16, YFCC15M, 100 epochs",
        model="slip-vit-l-16",
        weights=f"slip_large_100ep.pt of {_SLIP}",
        ovi_tokens=2,
        published=_published("SLIP ViT-L/16"),
    ),
    "clip-b32-coco-tau-1": Backbone(
        title="CLIP ViT-B/32, fine-tuned on COCO at temperature 1",
        model="",
        weights=_NOT_RELEASED,
        ovi_tokens=1,
        published=_fine_tuned("1", (15.9, 23.7, 29.3, 46.6, 19.3), (14.0, 20.4, 26.7, 43.1, 17.4)),
    ),
    "clip-b32-coco-tau-0.01": Backbone(
        title="CLIP ViT-B/32, fine-tuned on COCO at temperature 0.01",
        model="",
        weights=_NOT_RELEASED,
        ovi_tokens=1,
        published=_fine_tuned("0.01", (24.0, 35.0, 43.1, 68.6, 25.7), (24.1, 35.2, 44.0, 70.2, 27.6)),
    ),
}


def backbone_of(encoder: str) -> str | None:
    """Find the backbone that an encoder is, by its name; None when it is no backbone of the paper."""
    released = {name: backbone for name, backbone in BACKBONES.items() if backbone.model}
    return next((name for name, backbone in released.items() if encoder in backbone.encoders), None)
