"""Assign concepts to splits: by seeded hash, stratified, families together. Pure functions."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

SPLITS: dict[str, float] = {"train": 0.6, "val": 0.1, "test": 0.2, "sealed": 0.1}


def merge_families(families: Mapping[str, str], alike: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return concept -> family with the families of every pair in ``alike`` merged into one.

    A merged family is called after the family of its first concept in the order of ``families``.
    """
    parent = {name: name for name in families.values()}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    order = {name: position for position, name in reversed(list(enumerate(families.values())))}
    for left, right in alike:
        first, second = sorted((root(families[left]), root(families[right])), key=order.__getitem__)
        parent[second] = first
    return {concept: root(name) for concept, name in families.items()}


def split_concepts(
    families: Mapping[str, str], strata: Mapping[str, str], *, seed: int, shares: Mapping[str, float]
) -> dict[str, str]:
    """Return concept -> split, with every family whole and every stratum divided by ``shares``.

    Each family belongs to the stratum of its first concept. Within a stratum the larger families come
    first, then the order is that of sha256(seed, family); each family goes where most is missing, counted
    in its stratum plus in all strata so far, so that small strata together still meet the shares.
    """
    members: dict[str, list[str]] = {}
    for concept, name in families.items():
        members.setdefault(name, []).append(concept)
    by_stratum: dict[str, list[str]] = {}
    for name, concepts in members.items():
        by_stratum.setdefault(strata[concepts[0]], []).append(name)

    splits: dict[str, str] = {}
    missing_overall = dict.fromkeys(shares, 0.0)
    for names in by_stratum.values():
        size = sum(len(members[name]) for name in names)
        missing = {split: share * size for split, share in shares.items()}
        missing_overall = {split: missing_overall[split] + missing[split] for split in shares}
        for name in sorted(names, key=lambda name: (-len(members[name]), _hash(seed, name))):
            split = max(shares, key=lambda split: missing[split] + missing_overall[split])
            missing[split] -= len(members[name])
            missing_overall[split] -= len(members[name])
            splits.update(dict.fromkeys(members[name], split))
    return {concept: splits[concept] for concept in families}


def count_by(values: Iterable[str], keys: Sequence[str]) -> dict[str, int]:
    """Count ``values``, for every one of ``keys`` in order."""
    counts = dict.fromkeys(keys, 0)
    for value in values:
        counts[value] += 1
    return counts


def _hash(seed: int, name: str) -> str:
    return hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()
