"""Random numbers that belong to a key and an index: no state, the same on every machine, in any order."""

from __future__ import annotations

import hashlib

import numpy as np

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def key_of(*parts: str | int) -> int:
    """Derive a 64-bit key from names and numbers."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big")


def uniforms(key: int, index_N: np.ndarray, count: int) -> np.ndarray:
    """Draw ``count`` numbers in [0, 1) for each index, float64 (N, count).

    The stream of SplitMix64 that starts at a hash of key and index; its upper 53 bits.

    [0] Steele, Lea and Flood, Fast splittable pseudorandom number generators, OOPSLA 2014, section 4.
    """
    start_N = mix(np.uint64(key) ^ mix(index_N.astype(np.uint64) * _GAMMA))
    steps_C = np.arange(1, count + 1, dtype=np.uint64) * _GAMMA
    bits_NC = mix(start_N[:, None] + steps_C)
    return (bits_NC >> np.uint64(11)).astype(np.float64) * 2.0**-53


def mix(values: np.ndarray | np.uint64) -> np.ndarray:
    """Finalise SplitMix64: a bijection of 64-bit numbers in which each bit depends on all."""
    mixed = np.atleast_1d(np.asarray(values, dtype=np.uint64))
    mixed = (mixed ^ (mixed >> np.uint64(30))) * _FIRST
    mixed = (mixed ^ (mixed >> np.uint64(27))) * _SECOND
    return mixed ^ (mixed >> np.uint64(31))
