"""Routes: named ways to make the query side and the gallery side of a retrieval.

Inversion changes the query alone, as in the paper, unless a route says otherwise; most training-free maps
change both sides. What is fitted is fitted on the training split, never on the items it is tested on; ranks
and strengths are chosen on the validation split, or published values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from crossgap import posthoc
from crossgap.evaluation.fitting import (
    PART_WORDS,
    FittingData,
    MapRoute,
    Need,
    Strength,
    band_candidates,
    fixed,
    isoclip,
    of_own,
    of_own_and_other,
    of_pairs,
    other_modality,
    pca,
    published_band,
    random_rotation,
    random_subspace,
    shared_space,
)
from crossgap.posthoc import LinearMap
from crossgap.vocabulary import PROBES, WITHIN, Kind, Modality

INTRA = tuple(WITHIN.values())
ACROSS: tuple[Kind, ...] = ("image-text", "text-image")
EVERY: tuple[Kind, ...] = (*INTRA, *ACROSS, "zero-shot", *PROBES)
# A linear probe finds by itself what an invertible map does: only maps that take directions away have one.
_MAPS: tuple[Kind, ...] = (*INTRA, *ACROSS, "zero-shot", "class-mean")
_PROJECTIONS: tuple[Kind, ...] = (*INTRA, *PROBES)


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


def sides(kind: Kind) -> tuple[Modality, Modality]:
    """Return the native modality of the query side and of the gallery side."""
    if kind in PROBES:
        return "image", "image"
    return "text" if kind.startswith("text") else "image", "image" if kind.endswith("image") else "text"


def direction(route: str, kind: Kind) -> Modality | None:
    """Return the modality that a route inverts into on a task of this kind; None if it inverts nothing."""
    inverts = ROUTES[route].inverts
    return other_modality(sides(kind)[0]) if inverts == "other" else inverts


def moved(route: str, kind: Kind) -> tuple[bool, bool]:
    """Tell whether a route's map changes the query side and the gallery side of a task of this kind."""
    fitted = ROUTES[route].map
    assert fitted is not None
    query, gallery = sides(kind)
    return {"both": (True, True), "query": (True, False), "retrieved": (query == gallery, True)}[fitted.moves]


def side_maps(
    route: str, kind: Kind, parts: FittingData, strength: Strength
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


def missing_part(route: str, kind: Kind, parts: FittingData) -> str | None:
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
                return f"needs {PART_WORDS[need]}, which this dataset does not have"
        else:
            for name in _part_names(need, changed):
                if getattr(parts, name) is None:
                    return f"needs {PART_WORDS[name]}, which this dataset does not have"
    return None


def needed_parts(routes: Sequence[str], kinds: set[Kind]) -> set[str]:
    """List the parts of the training split that these routes are fitted on: names of :class:`FittingData`."""
    parts: set[str] = set()
    for name in routes:
        fitted = ROUTES[name].map
        for kind in kinds & set(ROUTES[name].kinds) if fitted is not None else ():
            assert fitted is not None
            for need in fitted.needs:
                parts |= {"pairs"} if need == "pairs" else _part_names(need, set(sides(kind)))
    return parts - {"projectors"}


def _part_names(need: Need, modalities: set[Modality]) -> set[str]:
    others = {other_modality(modality) for modality in modalities}
    if need in ("own", "other"):
        return {f"{modality}s" for modality in (modalities if need == "own" else others)}
    return {need}


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
        map=MapRoute(needs=(), moves="query", fit=random_rotation),
    ),
    "centred": Route(
        kinds=_MAPS,
        about="each modality minus its training mean, both sides",
        map=MapRoute(needs=("own",), fit=of_own(posthoc.centring)),
    ),
    "shifted": Route(
        kinds=_MAPS,
        about="each modality shifted along the gap vector towards the other, both sides",
        map=MapRoute(
            needs=("own", "other"),
            fit=of_own_and_other(posthoc.gap_shift, "strength"),
            unit="share",
            candidates=fixed(posthoc.SHIFT_STRENGTHS),
            preset=fixed(0.5),
        ),
    ),
    "whitened": Route(
        kinds=_MAPS,
        about="each modality whitened by its shrunk training covariance, both sides",
        map=MapRoute(
            needs=("own",),
            fit=of_own(posthoc.whitening, "shrinkage"),
            unit="shrinkage",
            candidates=fixed(posthoc.WHITENING_SHRINKAGES),
            preset=fixed(0.1),
        ),
    ),
    "top_removed": Route(
        kinds=EVERY,
        about="each modality minus its training mean and strongest components, both sides",
        map=MapRoute(
            needs=("own",),
            fit=of_own(posthoc.top_removal, "rank"),
            unit="rank",
            candidates=lambda parts, _: posthoc.top_candidates(parts.dim),
            preset=lambda parts, _: max(1, round(parts.dim / 100)),
        ),
    ),
    "class_pca": Route(
        kinds=_PROJECTIONS,
        about="top components of the class prompts, both sides",
        map=pca("class_prompts", posthoc.class_pca),
    ),
    "caption_pca": Route(
        kinds=_PROJECTIONS,
        about="top components of the training texts, both sides",
        map=pca("texts", posthoc.caption_pca),
    ),
    "image_pca": Route(
        kinds=_PROJECTIONS,
        about="top components of the training images, both sides",
        map=pca("images", posthoc.image_pca),
    ),
    "random_subspace": Route(
        kinds=_PROJECTIONS,
        about="a random subspace of the rank of class_pca (half the dimensions without it), both sides",
        map=MapRoute(
            needs=(),
            fit=random_subspace,
            unit="rank",
            preset=lambda parts, _: max(1, parts.dim // 2),
            follows="class_pca",
        ),
    ),
    "isoclip": Route(
        kinds=_PROJECTIONS,
        about="middle band of the operator between the towers' projectors, both sides",
        map=MapRoute(
            needs=("projectors",), fit=isoclip, unit="band", candidates=band_candidates, preset=published_band
        ),
    ),
    "shared_space": Route(
        kinds=EVERY,
        about="directions that the subspaces of both modalities share, both sides",
        map=MapRoute(
            needs=("images", "texts"),
            fit=shared_space,
            unit="tolerance",
            candidates=fixed(posthoc.SHARED_TOLERANCES),
            preset=fixed(posthoc.SHARED_TOLERANCES[0]),
        ),
    ),
    "orthogonal_closing": Route(
        kinds=_MAPS,
        about="the retrieved modality shifted along the part of the gap outside its main components",
        map=MapRoute(
            needs=("own", "other"),
            moves="retrieved",
            fit=of_own_and_other(posthoc.orthogonal_closing, "rank"),
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
            fit=of_pairs(posthoc.ridge, "strength"),
            unit="penalty",
            candidates=fixed(posthoc.RIDGE_STRENGTHS),
            preset=fixed(0.01),
        ),
    ),
    "procrustes": Route(
        kinds=(*INTRA, "zero-shot"),
        about="query mapped into the other modality by the best rotation of pairs; gallery native",
        map=MapRoute(needs=("pairs",), moves="query", fit=of_pairs(posthoc.procrustes)),
    ),
}
