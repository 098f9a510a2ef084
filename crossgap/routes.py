"""Routes: named ways to make the query side and the gallery side of a retrieval.

Inversion changes the query alone, as in the paper; a training-free map changes both sides. What is fitted
is fitted on the training split, never on the items it is tested on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from crossgap.datasets import FitData, Kind
from crossgap.embeddings import Embeddings
from crossgap.errors import InputError
from crossgap.posthoc import LinearMap, centring, class_pca, random_subspace

INTRA: tuple[Kind, ...] = ("image-image", "text-text")
EVERY: tuple[Kind, ...] = ("image-image", "text-text", "image-text", "text-image", "zero-shot")


@dataclass(frozen=True, kw_only=True)
class Route:
    """One row of :data:`ROUTES`.

    Args:
        kinds: tasks it applies to.
        inverts: the modality its query is inverted into, if it inverts.
        fits: what of the training split it is fitted on: the class prompts, or the features of each side's
            modality.
        about: what is done to which side, in words.
    """

    kinds: tuple[Kind, ...]
    inverts: Literal["text", "image"] | None = None
    fits: Literal["class_prompts", "sides"] | None = None
    about: str


@dataclass(frozen=True, kw_only=True)
class FitEmbeddings:
    """Encoded training items that maps are fitted on; None where the dataset has no such part."""

    split: str
    images: Embeddings | None
    texts: Embeddings | None
    class_prompts: Embeddings | None


def sides(kind: Kind) -> tuple[str, str]:
    """Return the native modality of the query side and of the gallery side."""
    query = "text" if kind.startswith("text") else "image"
    gallery = "image" if kind.endswith("image") else "text"
    return query, gallery


def fitted_maps(
    route: str, kind: Kind, fit: FitEmbeddings, *, seed: int, dim: int
) -> tuple[LinearMap, LinearMap]:
    """Fit the maps of a training-free route for the query side and the gallery side.

    Ranks are half the dimension, the value of [0] Herzog and Wang, CVPR 2026, arXiv 2603.16100, Section 5.

    Raises:
        InputError: the training split lacks what the route is fitted on.
    """
    if route == "random_subspace":
        both = random_subspace(dim, rank=dim // 2, seed=seed)
        return both, both
    if route == "class_pca":
        prompts = _needed(fit.class_prompts, route, "class prompts")
        both = class_pca(
            prompts, rank=dim // 2, fitted_on=f"{len(prompts)} class prompts of split {fit.split}"
        )
        return both, both
    means = {}
    for modality in set(sides(kind)):
        part = _needed(fit.images if modality == "image" else fit.texts, route, f"{modality}s")
        means[modality] = centring(part, fitted_on=f"{len(part)} {modality}s of split {fit.split}")
    query, gallery = sides(kind)
    return means[query], means[gallery]


def missing_fit(route: str, kind: Kind, fit: FitData | None) -> str | None:
    """Return None if the dataset has what the route is fitted on, else what it lacks."""
    fits = ROUTES[route].fits
    needed = [f"{modality}s" for modality in sides(kind)] if fits == "sides" else [fits] if fits else []
    for part in needed:
        if fit is None or getattr(fit, part) is None:
            return f"needs {part.replace('_', ' ')} of a training split, which this dataset has not"
    return None


def _needed(part: Embeddings | None, route: str, what: str) -> Tensor:
    if part is None:
        raise InputError(
            f"route {route!r} is fitted on {what} of a training split, which this dataset has not"
        )
    return part.values


ROUTES: dict[str, Route] = {
    "chance": Route(kinds=EVERY, about="expected value of a uniformly random ordering"),
    "native": Route(kinds=EVERY, about="features as the model gives them"),
    "oti": Route(
        kinds=("image-image", "zero-shot"),
        inverts="text",
        about="image query inverted into the text tower; gallery native",
    ),
    "ovi": Route(
        kinds=("text-text",),
        inverts="image",
        about="text query inverted into the image tower; gallery native",
    ),
    "untrained_tokens": Route(
        kinds=("image-image", "text-text", "zero-shot"),
        about="placebo: the inverted query before its first update; gallery native",
    ),
    "centred": Route(kinds=EVERY, fits="sides", about="each modality minus its training mean, both sides"),
    "class_pca": Route(
        kinds=INTRA, fits="class_prompts", about="top half of the class prompts' components, both sides"
    ),
    "random_subspace": Route(kinds=INTRA, about="a random subspace of half the dimensions, both sides"),
}
