"""Separate random streams, each a pure function of the seed and a key: nothing to save when a run stops."""

from __future__ import annotations

import hashlib

import torch


def stream_seed(seed: int, *key: str | int) -> int:
    """Derive a 63-bit seed from ``seed`` and the parts of ``key``."""
    digest = hashlib.sha256(repr((seed, *key)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def stream(seed: int, *key: str | int) -> torch.Generator:
    """Start the generator of one stream, on the CPU whatever the device of the model.

    Example: ``stream(seed, "crop", step, view)``.
    """
    return torch.Generator().manual_seed(stream_seed(seed, *key))
