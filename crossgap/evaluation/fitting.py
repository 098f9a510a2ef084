"""What training-free maps are fitted on, and how the map of a route is made of it.

What is fitted is fitted on the training split, never on the items it is tested on; ranks and strengths are
chosen on the validation split, or published values.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from crossgap import posthoc
from crossgap.datasets.readers.feature_files import FeatureTable
from crossgap.datasets.tasks import FitData, Items
from crossgap.encoders.projectors import Projectors, linear_projectors
from crossgap.encoders.protocol import Encoder
from crossgap.errors import InputError
from crossgap.posthoc import Band, LinearMap, published_bands
from crossgap.vocabulary import Modality

Strength = int | float | Band | None
Need = Literal["own", "other", "images", "texts", "class_prompts", "pairs", "projectors"]
PART_WORDS = {
    "images": "images of a training split",
    "texts": "texts of a training split",
    "class_prompts": "class prompts of a training split",
    "pairs": "image-text pairs of a training split",
}


@dataclass(frozen=True, kw_only=True)
class FittingData:
    """What maps may be fitted on: features of the training split, and what the model itself gives.

    None where there is no such part. ``paired_images`` and ``paired_texts`` hold pairs row by row;
    ``projectors`` is the reason in words where the towers have no linear ones. ``band`` is the published
    IsoCLIP band of this model by modality, if there is one.

    Shape: features (N, D) of any N.
    """

    split: str
    images: Tensor | None = None
    texts: Tensor | None = None
    class_prompts: Tensor | None = None
    prompts_of: str = ""
    paired_images: Tensor | None = None
    paired_texts: Tensor | None = None
    projectors: Projectors | str = "it is not known how its features were projected"
    bands: dict[Modality, Band]
    dim: int
    seed: int

    def of(self, modality: Modality) -> Tensor:
        """Return the training features of a modality."""
        return _given(self.images if modality == "image" else self.texts)

    def fitted_on(self, *parts: Tensor | None, what: str) -> str:
        """Say in words what was fitted on."""
        if what == "class prompts" and self.prompts_of:
            return (
                f"{sum(len(part) for part in parts if part is not None)} class prompts of {self.prompts_of}"
            )
        count = " and ".join(str(len(part)) for part in parts if part is not None)
        return f"{count} {what} of split {self.split}"


def fit_parts(
    source: Encoder | FeatureTable,
    fit: FitData | None,
    wanted: Collection[str],
    features_of: Callable[[Items], Tensor],
    *,
    seed: int,
) -> FittingData:
    """Gather what maps are fitted on: the ``wanted`` features of the training split, and the model's own.

    Args:
        wanted: names of :class:`FittingData`, and ``pairs``; the others are not encoded.
        features_of: gives the features of items.
        seed: of random subspaces and rotations.
    """

    def part(items: Items | None, name: str) -> Tensor | None:
        return None if items is None or name not in wanted else features_of(items)

    pairs = fit.pairs if fit is not None else None
    return FittingData(
        split=fit.split if fit else "none",
        images=part(fit.images, "images") if fit else None,
        texts=part(fit.texts, "texts") if fit else None,
        class_prompts=part(fit.class_prompts, "class_prompts") if fit else None,
        prompts_of=fit.prompts_of if fit else "",
        paired_images=part(pairs.image, "pairs") if pairs else None,
        paired_texts=part(pairs.text, "pairs") if pairs else None,
        projectors=linear_projectors(source),
        bands=published_bands(source.name),
        dim=source.embed_dim,
        seed=seed,
    )


Fit = Callable[[FittingData, Modality, Strength], LinearMap]


def fixed(value: Any) -> Callable[[FittingData, Modality], Any]:
    """Say the same whatever a map is fitted on."""
    return lambda _parts, _modality: value


@dataclass(frozen=True, kw_only=True)
class MapRoute:
    """How a route's map is fitted for the items of one modality.

    Args:
        needs: what it is fitted on.
        moves: which side of a task it changes; ``retrieved`` is every item of the gallery's modality.
        fit: (parts, modality of the items, strength) -> map.
        unit: what the strength is, in a word.
        candidates: strengths to try on the validation split; () when there is nothing to choose.
        preset: the strength without such a choice: the published one, or what docs/measurement.md names.
        follows: the route whose chosen strength it takes.
    """

    needs: tuple[Need, ...]
    moves: Literal["both", "query", "retrieved"] = "both"
    fit: Fit
    unit: str = ""
    candidates: Callable[[FittingData, Modality], Sequence[Strength]] = lambda _parts, _modality: ()
    preset: Callable[[FittingData, Modality], Strength] = lambda _parts, _modality: None
    follows: str | None = None

    def describe(self, strength: Strength) -> str:
        """Say a strength in words; '' for none."""
        if strength is None:
            return ""
        if isinstance(strength, Band):
            return f"without top {strength.top}, bottom {strength.bottom}"
        return f"{self.unit} {strength:g}"


def other_modality(modality: Modality) -> Modality:
    """Return text for image, image for text."""
    return "text" if modality == "image" else "image"


def _given(part: Tensor | None) -> Tensor:
    assert part is not None, "missing_part is asked first"
    return part


def of_own(fit: Callable[..., LinearMap], strength_name: str = "") -> Fit:
    """Fit on the training features of the mapped modality."""

    def fitted(parts: FittingData, modality: Modality, strength: Strength) -> LinearMap:
        own_ND = parts.of(modality)
        about = parts.fitted_on(own_ND, what=f"{modality}s")
        return fit(own_ND, **_named(strength_name, strength), fitted_on=about)

    return fitted


def of_own_and_other(fit: Callable[..., LinearMap], strength_name: str) -> Fit:
    """Fit on the training features of the mapped modality, then the other."""

    def fitted(parts: FittingData, modality: Modality, strength: Strength) -> LinearMap:
        own_ND, other_ND = parts.of(modality), parts.of(other_modality(modality))
        about = parts.fitted_on(own_ND, other_ND, what=f"{modality}s and {other_modality(modality)}s")
        return fit(own_ND, other_ND, **_named(strength_name, strength), fitted_on=about)

    return fitted


def of_pairs(fit: Callable[..., LinearMap], strength_name: str = "") -> Fit:
    """Fit on training pairs, from the mapped modality into the other."""

    def fitted(parts: FittingData, modality: Modality, strength: Strength) -> LinearMap:
        images_ND, texts_ND = _given(parts.paired_images), _given(parts.paired_texts)
        source_ND, target_ND = (images_ND, texts_ND) if modality == "image" else (texts_ND, images_ND)
        about = parts.fitted_on(images_ND, what="image-text pairs")
        return fit(source_ND, target_ND, **_named(strength_name, strength), fitted_on=about)

    return fitted


def _named(name: str, strength: Strength) -> dict[str, Strength]:
    return {name: strength} if name else {}


def random_subspace(parts: FittingData, _: Modality, strength: Strength) -> LinearMap:
    """Draw a subspace of this rank, the same for both modalities."""
    assert isinstance(strength, int)
    return posthoc.random_subspace(parts.dim, rank=strength, seed=parts.seed)


def random_rotation(parts: FittingData, _: Modality, __: Strength) -> LinearMap:
    """Draw a rotation, the same for both modalities."""
    return posthoc.random_rotation(parts.dim, seed=parts.seed)


def shared_space(parts: FittingData, _: Modality, strength: Strength) -> LinearMap:
    """Fit one map for both modalities, whichever is mapped."""
    return of_own_and_other(posthoc.shared_space, "tolerance")(parts, "image", strength)


def isoclip(parts: FittingData, modality: Modality, strength: Strength) -> LinearMap:
    """Keep a band of the operator between the towers' projectors."""
    own_DW, other_DV = _projectors(parts, modality)
    assert isinstance(strength, Band)
    return posthoc.isoclip(own_DW, other_DV, band=strength)


def _projectors(parts: FittingData, modality: Modality) -> tuple[Tensor, Tensor]:
    assert not isinstance(parts.projectors, str)
    image_DW, text_DV = parts.projectors
    return (image_DW, text_DV) if modality == "image" else (text_DV, image_DW)


def band_candidates(parts: FittingData, modality: Modality) -> Sequence[Strength]:
    """List the bands to try for a modality."""
    own_DW, other_DV = _projectors(parts, modality)
    return posthoc.band_candidates(min(*own_DW.shape, *other_DV.shape))


def published_band(parts: FittingData, modality: Modality) -> Strength:
    """Return the published band of this model for a modality.

    Raises:
        InputError: none was published.
    """
    if modality not in parts.bands:
        raise InputError(
            "no band was published for this model; give a dataset with a validation split to choose one on"
        )
    return parts.bands[modality]


def pca(source: Literal["images", "texts", "class_prompts"], fit: Callable[..., LinearMap]) -> MapRoute:
    """Keep the top components of a part of the training split, the same for both modalities."""

    def fitted(parts: FittingData, _: Modality, strength: Strength) -> LinearMap:
        fitted_ND = _given(getattr(parts, source))
        return fit(
            fitted_ND, rank=strength, fitted_on=parts.fitted_on(fitted_ND, what=source.replace("_", " "))
        )

    def most(parts: FittingData) -> int:
        return min(parts.dim, len(_given(getattr(parts, source))) - 1)

    return MapRoute(
        needs=(source,),
        fit=fitted,
        unit="rank",
        candidates=lambda parts, _: posthoc.rank_candidates(parts.dim, at_most=most(parts)),
        preset=lambda parts, _: max(1, min(parts.dim // 2, most(parts))),
    )
