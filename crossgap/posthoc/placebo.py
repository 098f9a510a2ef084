"""Placebos: what looks like crossing the modalities and carries nothing across."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from crossgap.errors import InputError, first_repeated
from crossgap.posthoc.linear_map import LinearMap


def random_rotation(dim: int, *, seed: int) -> LinearMap:
    """Draw a random rotation (or reflection) of the space.

    ``x' = R x`` with R from the uniform (Haar) distribution over orthogonal matrices: the Q of a Gaussian
    matrix whose R has a positive diagonal. [0] Mezzadri, 2007, Notices of the AMS 54. On both sides of a task
    it changes nothing; on the query side alone it is the placebo of every map into the other modality: same
    geometry, no correspondence. The draw is made on the CPU in float64 from its own generator.

    Shape: -> a map of width ``dim``.

    Raises:
        InputError: a width below 1.
    """
    if dim < 1:
        raise InputError(f"random_rotation: the width must be at least 1, got {dim=}")
    generator = torch.Generator().manual_seed(seed)
    normal_DD = torch.randn((dim, dim), generator=generator, dtype=torch.float64)
    turn_DD, triangle_DD = torch.linalg.qr(normal_DD)
    rotation_DD = turn_DD * triangle_DD.diagonal().sign()
    return LinearMap(
        mean_D=torch.zeros(dim, dtype=torch.float64),
        matrix_DD=rotation_DD,
        name="random_rotation",
        fitted_on="nothing",
    )


def shuffled_targets(item_ids: Sequence[str], *, seed: int) -> Tensor:
    """Give each item another item, whose target it is inverted towards.

    Row k of the result is the row whose target item k receives: ``targets_ND[shuffled_targets(ids,
    seed=0)]``. Items stand in a ring in the order of the hash of (seed, id), and each takes the target of the
    next: no item keeps its own unless it is the only one, every target is used once, and the partner of an id
    depends on the set of ids but not on their order. Classes are not looked at: by chance an item gets a
    target of its class.

    Shape: N ids -> (N,), int64.

    Raises:
        InputError: an id that occurs twice.
    """
    twice = first_repeated(item_ids)
    if twice is not None:
        raise InputError(f"shuffled_targets: id {twice!r} occurs more than once; ids must be unique")
    keys = [hashlib.sha256(f"{seed}:{name}".encode()).digest() for name in item_ids]
    ring_N = torch.tensor(sorted(range(len(keys)), key=keys.__getitem__), dtype=torch.int64)
    return torch.empty_like(ring_N).scatter(0, ring_N, ring_N.roll(-1))
