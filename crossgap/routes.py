"""Routes: named ways to make the query side and the gallery side of a retrieval.

Inversion changes the query alone, as in the paper, unless a route says otherwise; most training-free maps
change both sides. What is fitted is fitted on the training split, never on the items it is tested on; ranks
and strengths are chosen on the validation split, or published values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from crossgap import posthoc
from crossgap.encoders.projectors import Projectors
from crossgap.errors import InputError
from crossgap.posthoc import Band, LinearMap
from crossgap.vocabulary import PROBES, Kind, Modality

INTRA: tuple[Kind, ...] = ("image-image", "text-text")
ACROSS: tuple[Kind, ...] = ("image-text", "text-image")
EVERY: tuple[Kind, ...] = (*INTRA, *ACROSS, "zero-shot", *PROBES)
# A linear probe finds by itself what an invertible map does: only maps that take directions away have one.
_MAPS: tuple[Kind, ...] = (*INTRA, *ACROSS, "zero-shot", "class-mean")
_PROJECTIONS: tuple[Kind, ...] = (*INTRA, *PROBES)

Strength = int | float | Band | None
Need = Literal["own", "other", "images", "texts", "class_prompts", "pairs", "projectors"]
_WORDS = {
    "images": "images of a training split",
    "texts": "texts of a training split",
    "class_prompts": "class prompts of a training split",
    "pairs": "image-text pairs of a training split",
}


@dataclass(frozen=True, kw_only=True)
class Route:
    """One row of :data:`ROUTES`; its family and words stand in :data:`crossgap.vocabulary.ROUTE_WORDS`.

    Args:
        kinds: tasks it applies to.
        inverts: the modality it inverts into, if it inverts; ``other`` is the one the query is not of.
        inversion: what is inverted: the side of the modality that is not ``inverts``, at every snapshot
            (curve); both sides, or the query towards another query's target, at the setting that the curve
            chose.
        about: what is done to which side, in words.
        map: how its map is fitted, if it has one.
    """

    kinds: tuple[Kind, ...]
    inverts: Modality | Literal["other"] | None = None
    inversion: Literal["curve", "both", "shuffled"] = "curve"
    about: str
    map: MapRoute | None = None


@dataclass(frozen=True, kw_only=True)
class Parts:
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


Fit = Callable[[Parts, Modality, Strength], LinearMap]


def _fixed(value: Any) -> Callable[[Parts, Modality], Any]:
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
    candidates: Callable[[Parts, Modality], Sequence[Strength]] = lambda _parts, _modality: ()
    preset: Callable[[Parts, Modality], Strength] = lambda _parts, _modality: None
    follows: str | None = None

    def describe(self, strength: Strength) -> str:
        """Say a strength in words; '' for none."""
        if strength is None:
            return ""
        if isinstance(strength, Band):
            return f"without top {strength.top}, bottom {strength.bottom}"
        return f"{self.unit} {strength:g}"


def sides(kind: Kind) -> tuple[Modality, Modality]:
    """Return the native modality of the query side and of the gallery side."""
    if kind in PROBES:
        return "image", "image"
    return "text" if kind.startswith("text") else "image", "image" if kind.endswith("image") else "text"


def direction(route: str, kind: Kind) -> Modality | None:
    """Return the modality that a route inverts into on a task of this kind; None if it inverts nothing."""
    inverts = ROUTES[route].inverts
    return _flip(sides(kind)[0]) if inverts == "other" else inverts


def moved(route: str, kind: Kind) -> tuple[bool, bool]:
    """Tell whether a route's map changes the query side and the gallery side of a task of this kind."""
    fitted = ROUTES[route].map
    assert fitted is not None
    query, gallery = sides(kind)
    return {"both": (True, True), "query": (True, False), "retrieved": (query == gallery, True)}[fitted.moves]


def side_maps(
    route: str, kind: Kind, parts: Parts, strength: Strength
) -> tuple[LinearMap | None, LinearMap | None]:
    """Fit a route's map for the query side and the gallery side; None leaves a side native.

    Raises:
        InputError: the fit is not possible at this strength or on these parts.
    """
    fitted = ROUTES[route].map
    assert fitted is not None
    on_query, on_gallery = moved(route, kind)
    query, gallery = sides(kind)
    first = fitted.fit(parts, query, strength) if on_query else None
    if on_gallery and on_query and query == gallery:
        return first, first
    return first, fitted.fit(parts, gallery, strength) if on_gallery else None


def fit_side(route: str, kind: Kind) -> Modality:
    """Return the modality whose strength is chosen: the query's where it moves, else the gallery's."""
    return sides(kind)[0 if moved(route, kind)[0] else 1]


def missing_part(route: str, kind: Kind, parts: Parts) -> str | None:
    """Return None if there is what the route is fitted on, else what is lacking, in words."""
    fitted = ROUTES[route].map
    assert fitted is not None
    changed = {side for side, moves in zip(sides(kind), moved(route, kind), strict=True) if moves}
    for need in fitted.needs:
        if need == "projectors":
            if isinstance(parts.projectors, str):
                return f"needs linear projectors: {parts.projectors}"
        elif need == "pairs":
            if parts.paired_images is None:
                return f"needs {_WORDS[need]}, which this dataset has not"
        else:
            for name in _part_names(need, changed):
                if getattr(parts, name) is None:
                    return f"needs {_WORDS[name]}, which this dataset has not"
    return None


def needed_parts(routes: Sequence[str], kinds: set[Kind]) -> set[str]:
    """List the parts of the training split that these routes are fitted on: names of :class:`Parts`."""
    found: set[str] = set()
    for name in routes:
        fitted = ROUTES[name].map
        for kind in kinds & set(ROUTES[name].kinds) if fitted is not None else ():
            assert fitted is not None
            for need in fitted.needs:
                found |= {"pairs"} if need == "pairs" else _part_names(need, set(sides(kind)))
    return found - {"projectors"}


def _part_names(need: Need, modalities: set[Modality]) -> set[str]:
    others = {_flip(modality) for modality in modalities}
    if need in ("own", "other"):
        return {f"{modality}s" for modality in (modalities if need == "own" else others)}
    return {need}


def _given(part: Tensor | None) -> Tensor:
    assert part is not None, "missing_part is asked first"
    return part


def _flip(modality: Modality) -> Modality:
    return "text" if modality == "image" else "image"


def _of_own(fit: Callable[..., LinearMap], strength_name: str = "") -> Fit:
    """Fit on the training features of the mapped modality."""

    def fitted(parts: Parts, modality: Modality, strength: Strength) -> LinearMap:
        own_ND = parts.of(modality)
        about = parts.fitted_on(own_ND, what=f"{modality}s")
        return fit(own_ND, **_named(strength_name, strength), fitted_on=about)

    return fitted


def _of_own_and_other(fit: Callable[..., LinearMap], strength_name: str) -> Fit:
    """Fit on the training features of the mapped modality, then the other."""

    def fitted(parts: Parts, modality: Modality, strength: Strength) -> LinearMap:
        own_ND, other_ND = parts.of(modality), parts.of(_flip(modality))
        about = parts.fitted_on(own_ND, other_ND, what=f"{modality}s and {_flip(modality)}s")
        return fit(own_ND, other_ND, **_named(strength_name, strength), fitted_on=about)

    return fitted


def _of_pairs(fit: Callable[..., LinearMap], strength_name: str = "") -> Fit:
    """Fit on training pairs, from the mapped modality into the other."""

    def fitted(parts: Parts, modality: Modality, strength: Strength) -> LinearMap:
        images_ND, texts_ND = _given(parts.paired_images), _given(parts.paired_texts)
        source_ND, target_ND = (images_ND, texts_ND) if modality == "image" else (texts_ND, images_ND)
        about = parts.fitted_on(images_ND, what="image-text pairs")
        return fit(source_ND, target_ND, **_named(strength_name, strength), fitted_on=about)

    return fitted


def _named(name: str, strength: Strength) -> dict[str, Strength]:
    return {name: strength} if name else {}


def _random_subspace(parts: Parts, _: Modality, strength: Strength) -> LinearMap:
    assert isinstance(strength, int)
    return posthoc.random_subspace(parts.dim, rank=strength, seed=parts.seed)


def _random_rotation(parts: Parts, _: Modality, __: Strength) -> LinearMap:
    return posthoc.random_rotation(parts.dim, seed=parts.seed)


def _shared_space(parts: Parts, _: Modality, strength: Strength) -> LinearMap:
    """Fit one map for both modalities, whichever is mapped."""
    return _of_own_and_other(posthoc.shared_space, "tolerance")(parts, "image", strength)


def _isoclip(parts: Parts, modality: Modality, strength: Strength) -> LinearMap:
    own_DW, other_DV = _projectors(parts, modality)
    assert isinstance(strength, Band)
    return posthoc.isoclip(own_DW, other_DV, band=strength)


def _projectors(parts: Parts, modality: Modality) -> tuple[Tensor, Tensor]:
    assert not isinstance(parts.projectors, str)
    image_DW, text_DV = parts.projectors
    return (image_DW, text_DV) if modality == "image" else (text_DV, image_DW)


def _bands(parts: Parts, modality: Modality) -> Sequence[Strength]:
    own_DW, other_DV = _projectors(parts, modality)
    return posthoc.band_candidates(min(*own_DW.shape, *other_DV.shape))


def _published_band(parts: Parts, modality: Modality) -> Strength:
    if modality not in parts.bands:
        raise InputError(
            "no band was published for this model; give a dataset with a validation split to choose one on"
        )
    return parts.bands[modality]


def _pca(source: Literal["images", "texts", "class_prompts"], fit: Callable[..., LinearMap]) -> MapRoute:
    def fitted(parts: Parts, _: Modality, strength: Strength) -> LinearMap:
        fitted_ND = _given(getattr(parts, source))
        return fit(
            fitted_ND, rank=strength, fitted_on=parts.fitted_on(fitted_ND, what=source.replace("_", " "))
        )

    def most(parts: Parts) -> int:
        return min(parts.dim, len(_given(getattr(parts, source))) - 1)

    return MapRoute(
        needs=(source,),
        fit=fitted,
        unit="rank",
        candidates=lambda parts, _: posthoc.rank_candidates(parts.dim, at_most=most(parts)),
        preset=lambda parts, _: max(1, min(parts.dim // 2, most(parts))),
    )


# Strengths without choice: half the width for projections and the closing (Herzog and Wang, 2026, and by
# analogy), D/100 components (Mu and Viswanath, 2018), centres that meet (Liang et al., 2022), the published
# IsoCLIP bands; shrinkage, tolerance and penalty have no published value that we know of.
ROUTES: dict[str, Route] = {
    "chance": Route(kinds=EVERY, about="expected value of a uniformly random ordering"),
    "native": Route(kinds=EVERY, about="features as the model gives them"),
    "oti": Route(
        kinds=("image-image", "zero-shot"),
        inverts="text",
        about="image query inverted into the text tower; gallery native",
    ),
    "ovi": Route(
        kinds=("text-text", "zero-shot"),
        inverts="image",
        about="text query (zero-shot: class prompts) inverted into the image tower; other side native",
    ),
    "oti_both": Route(
        kinds=("image-image",),
        inverts="text",
        inversion="both",
        about="query and gallery images inverted into the text tower, at the setting of oti",
    ),
    "ovi_both": Route(
        kinds=("text-text",),
        inverts="image",
        inversion="both",
        about="query and gallery texts inverted into the image tower, at the setting of ovi",
    ),
    "untrained_tokens": Route(
        kinds=("image-image", "text-text", "zero-shot"),
        about="placebo: the inverted side before its first update; other side native",
    ),
    "shuffled_targets": Route(
        kinds=INTRA,
        inverts="other",
        inversion="shuffled",
        about="placebo: each query inverted towards another query's feature, at the setting of the inversion",
    ),
    "random_rotation": Route(
        kinds=INTRA,
        about="placebo: query turned by a random rotation, which keeps its geometry; gallery native",
        map=MapRoute(needs=(), moves="query", fit=_random_rotation),
    ),
    "centred": Route(
        kinds=_MAPS,
        about="each modality minus its training mean, both sides",
        map=MapRoute(needs=("own",), fit=_of_own(posthoc.centring)),
    ),
    "shifted": Route(
        kinds=_MAPS,
        about="each modality shifted along the gap vector towards the other, both sides",
        map=MapRoute(
            needs=("own", "other"),
            fit=_of_own_and_other(posthoc.gap_shift, "strength"),
            unit="share",
            candidates=_fixed(posthoc.SHIFT_STRENGTHS),
            preset=_fixed(0.5),
        ),
    ),
    "whitened": Route(
        kinds=_MAPS,
        about="each modality whitened by its shrunk training covariance, both sides",
        map=MapRoute(
            needs=("own",),
            fit=_of_own(posthoc.whitening, "shrinkage"),
            unit="shrinkage",
            candidates=_fixed(posthoc.WHITENING_SHRINKAGES),
            preset=_fixed(0.1),
        ),
    ),
    "top_removed": Route(
        kinds=EVERY,
        about="each modality minus its training mean and strongest components, both sides",
        map=MapRoute(
            needs=("own",),
            fit=_of_own(posthoc.top_removal, "rank"),
            unit="rank",
            candidates=lambda parts, _: posthoc.top_candidates(parts.dim),
            preset=lambda parts, _: max(1, round(parts.dim / 100)),
        ),
    ),
    "class_pca": Route(
        kinds=_PROJECTIONS,
        about="top components of the class prompts, both sides",
        map=_pca("class_prompts", posthoc.class_pca),
    ),
    "caption_pca": Route(
        kinds=_PROJECTIONS,
        about="top components of the training texts, both sides",
        map=_pca("texts", posthoc.caption_pca),
    ),
    "image_pca": Route(
        kinds=_PROJECTIONS,
        about="top components of the training images, both sides",
        map=_pca("images", posthoc.image_pca),
    ),
    "random_subspace": Route(
        kinds=_PROJECTIONS,
        about="a random subspace of the rank of class_pca (half the dimensions without it), both sides",
        map=MapRoute(
            needs=(),
            fit=_random_subspace,
            unit="rank",
            preset=lambda parts, _: max(1, parts.dim // 2),
            follows="class_pca",
        ),
    ),
    "isoclip": Route(
        kinds=_PROJECTIONS,
        about="middle band of the operator between the towers' projectors, both sides",
        map=MapRoute(
            needs=("projectors",), fit=_isoclip, unit="band", candidates=_bands, preset=_published_band
        ),
    ),
    "shared_space": Route(
        kinds=EVERY,
        about="directions that the subspaces of both modalities share, both sides",
        map=MapRoute(
            needs=("images", "texts"),
            fit=_shared_space,
            unit="tolerance",
            candidates=_fixed(posthoc.SHARED_TOLERANCES),
            preset=_fixed(posthoc.SHARED_TOLERANCES[0]),
        ),
    ),
    "orthogonal_closing": Route(
        kinds=_MAPS,
        about="the retrieved modality shifted along the part of the gap outside its main components",
        map=MapRoute(
            needs=("own", "other"),
            moves="retrieved",
            fit=_of_own_and_other(posthoc.orthogonal_closing, "rank"),
            unit="rank",
            candidates=lambda parts, _: posthoc.rank_candidates(parts.dim),
            preset=lambda parts, _: max(1, parts.dim // 2),
        ),
    ),
    "ridge": Route(
        kinds=(*INTRA, "zero-shot"),
        about="query mapped into the other modality by ridge regression on pairs; gallery native",
        map=MapRoute(
            needs=("pairs",),
            moves="query",
            fit=_of_pairs(posthoc.ridge, "strength"),
            unit="penalty",
            candidates=_fixed(posthoc.RIDGE_STRENGTHS),
            preset=_fixed(0.01),
        ),
    ),
    "procrustes": Route(
        kinds=(*INTRA, "zero-shot"),
        about="query mapped into the other modality by the best rotation of pairs; gallery native",
        map=MapRoute(needs=("pairs",), moves="query", fit=_of_pairs(posthoc.procrustes)),
    ),
}
