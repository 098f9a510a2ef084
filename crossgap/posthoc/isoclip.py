"""The IsoCLIP band: keep the middle of the spectrum of the operator that compares the modalities.

[0] Magistri, Goswami, Mistretta, Twardowski, van de Weijer and Bagdanov, 2026, arXiv 2603.19862.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from crossgap.errors import InputError, check_known
from crossgap.posthoc.linear_map import LinearMap, check_fit

_SHARES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5)


class Band(NamedTuple):
    """How many of the strongest and of the weakest directions are dropped."""

    top: int
    bottom: int


# the bands of github.com/simomagi/IsoCLIP (exp_*/*.sh), by the model names of the paper
ISOCLIP_BANDS: dict[Literal["image", "text"], dict[str, Band]] = {
    "image": {
        "CLIP B/32": Band(150, 50),
        "CLIP B/16": Band(200, 50),
        "CLIP L/14": Band(250, 200),
        "OpenCLIP B/32": Band(50, 50),
        "OpenCLIP B/16": Band(100, 100),
        "PE-Core B/16": Band(300, 50),
        "SigLIP2 B/16": Band(350, 50),
    },
    "text": {
        "CLIP B/32": Band(20, 100),
        "CLIP B/16": Band(10, 50),
        "CLIP L/14": Band(10, 300),
        "OpenCLIP B/16": Band(2, 150),
    },
}

# the weights that those scripts name (--clip_model_name, --open_clip_pretrained), as open_clip calls them
_NAMES = {
    "ViT-B-32/openai": "CLIP B/32",
    "ViT-B-32-quickgelu/openai": "CLIP B/32",
    "ViT-B-16/openai": "CLIP B/16",
    "ViT-B-16-quickgelu/openai": "CLIP B/16",
    "ViT-L-14/openai": "CLIP L/14",
    "ViT-L-14-quickgelu/openai": "CLIP L/14",
    "ViT-B-32/datacomp_xl_s13b_b90k": "OpenCLIP B/32",
    "ViT-B-16/datacomp_xl_s13b_b90k": "OpenCLIP B/16",
    "PE-Core-B-16/meta": "PE-Core B/16",
    "ViT-B-16-SigLIP2/webli": "SigLIP2 B/16",
}


def published_bands(encoder_name: str) -> dict[Literal["image", "text"], Band]:
    """Return the published bands of an encoder by modality; none where none is known to be meant for it."""
    model = _NAMES.get(encoder_name)
    return {modality: bands[model] for modality, bands in ISOCLIP_BANDS.items() if model in bands}


def isoclip_preset(modality: Literal["image", "text"], model: str) -> Band:
    """Return the published band of a model.

    Raises:
        InputError: no band was published; the known ones are listed.
    """
    bands = ISOCLIP_BANDS[modality]
    return bands[check_known(model, bands, f"model with a published {modality} band")]


def band_candidates(rank: int) -> tuple[Band, ...]:
    """List the bands to try on the validation split: shares of the spectrum that leave a tenth at least."""
    bands = {
        Band(round(top * rank), round(bottom * rank))
        for top in _SHARES
        for bottom in _SHARES
        if top + bottom <= 0.9
    }
    return tuple(sorted(band for band in bands if sum(band) < rank))


def isoclip(own_DW: Tensor, other_DV: Tensor, *, band: Band) -> LinearMap:
    """Build the map that keeps the middle band of the inter-modal operator, for one modality.

    With the linear projectors W_own and W_other of the two towers, ``Psi = W_own^T W_other = U S V^T`` of
    rank r and U_S = its columns ``top`` ... ``r - bottom``: [0] replaces W_own by ``W_own U_S U_S^T`` on
    query and gallery. For images pass (W_image, W_text), for texts (W_text, W_image). Deviation: [0] starts
    from features before the projection; as U_S lies in the row space of W_own, ``W_own U_S U_S^T f = W_own
    U_S U_S^T W_own^+ (W_own f)``, so the map applies to the projected, normalised feature itself and gives
    the same cosines, up to rounding that grows with the condition of W_own. ``bottom`` counts from the rank;
    the released code ([1] ``apply_iso``) counts from the smaller width, min(W, V), which is the same where
    the projectors have full rank and D is at least the smaller width, as in every model that a band was
    published for but SigLIP 2; elsewhere [1] spends part of ``bottom`` on directions that do not exist. Needs
    no data. Not meant for tasks across modalities. Bands: :func:`isoclip_preset`, :func:`band_candidates`.
    [1] github.com/simomagi/IsoCLIP, src/retrieval.py.

    Shape: own_DW (D, W), other_DV (D, V), projection matrices that map column vectors (open_clip stores
    their transposes) -> a map of width D.

    Raises:
        InputError: not two finite matrices with as many rows, or a band that leaves no direction.
    """
    wide_DW, wide_DV = check_fit(own_DW, "isoclip"), check_fit(other_DV, "isoclip")
    if wide_DW.shape[0] != wide_DV.shape[0]:
        raise InputError(
            "isoclip takes the linear projectors of both towers, as (D, width) matrices with one D; "
            f"got {tuple(own_DW.shape)} and {tuple(other_DV.shape)}"
        )
    left_WR, strength_R, _ = torch.linalg.svd(wide_DW.T @ wide_DV, full_matrices=False)
    # the weights are exact whatever their precision: only the arithmetic here has noise
    noise = torch.finfo(torch.float64).eps * max(own_DW.shape + other_DV.shape)
    rank = int((strength_R > strength_R[0] * noise).sum())
    if min(band) < 0 or sum(band) >= rank:
        raise InputError(
            f"isoclip: a band that drops {band.top} from the top and {band.bottom} from the bottom leaves "
            f"nothing of {rank} directions; drop fewer (see band_candidates({rank}))"
        )
    kept_WK = left_WR[:, band.top : rank - band.bottom]
    matrix_DD = (wide_DW @ kept_WK) @ (kept_WK.T @ torch.linalg.pinv(wide_DW))
    return LinearMap(
        mean_D=matrix_DD.new_zeros(len(matrix_DD)), matrix_DD=matrix_DD, name="isoclip", fitted_on="nothing"
    )
