"""What sets the arms of a study apart: settings that differ from the baseline, ladders, crossings.

Read from the configurations that training left beside each model, so that any study tells its own design.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import pandas as pd

from analysis.study import RecordedStudy
from crossgap.reading.quoting import MODEL
from crossgap.reading.treatment import (
    STRENGTHS,
    TEMPERATURE,
    WEIGHT,
    Value,
    differing,
    flat,
    in_words,
    value_of,
)

DATA = "data"  # setting, or head of settings, of what training shows
MENTION = f"{DATA}.mention"  # probability with which captions of scenes name each factor but the object
CLOSED = 0.5  # share of the baseline's gap that an arm may keep, in every seed, to count as closing it
_VIEWS = ("extra_augment", "augment.text_dropout")
_WITHIN = ("image", "text", "both")  # what a term within a modality acts on


class Ladder(NamedTuple):
    """Arms that differ from the baseline in the strength of the same thing alone.

    ``doses`` maps an arm to its dose; the baseline has dose 0 of a weight, and its own temperature.
    """

    name: str
    doses: dict[str, float]


def changes(configs: Mapping[str, Mapping[str, Any]], baseline: str | None) -> dict[str, dict[str, Value]]:
    """Tell for each arm which settings differ from the baseline's, with the arm's values.

    A term or modifier that an objective does not name has strength 0. Without a baseline, or without its
    configuration, nothing can be told: no arm has an entry.
    """
    if baseline is None or baseline not in configs:
        return {}
    settings = {arm: flat(config) for arm, config in configs.items()}
    reference = settings[baseline]
    return {
        arm: {name: value for name, (_, value) in differing(reference, own).items()}
        for arm, own in settings.items()
    }


def weight_ladders(arms: Mapping[str, Mapping[str, Value]], baseline: str) -> list[Ladder]:
    """Find the ladders of strengths: arms that add the same terms in the same proportions.

    The dose is the sum of the weights added. Other changes are allowed where all arms of a ladder share them,
    and named; the baseline then is no rung. One dose alone makes no ladder.
    """
    groups: dict[tuple[object, ...], dict[str, float]] = {}
    names: dict[tuple[object, ...], str] = {}
    for arm, changed in arms.items():
        weights = {
            name.split(".")[-1]: float(value)
            for name, value in changed.items()
            if name.startswith(STRENGTHS) and isinstance(value, float | int)
        }
        dose = sum(weights.values())
        if dose <= 0 or "clip" in weights:
            continue
        others = tuple((name, value) for name, value in changed.items() if not name.startswith(STRENGTHS))
        shares = tuple((term, round(weight / dose, 6)) for term, weight in sorted(weights.items()))
        groups.setdefault((shares, others), {})[arm] = dose
        terms = " + ".join(weights)
        names[shares, others] = terms + (f" ({in_words(dict(others))})" if others else "")
    return [
        Ladder(
            names[key], ({} if key[1] else {baseline: 0.0}) | dict(sorted(doses.items(), key=lambda d: d[1]))
        )
        for key, doses in groups.items()
        if len(set(doses.values())) > 1
    ]


def temperature_ladder(
    arms: Mapping[str, Mapping[str, Value]], configs: Mapping[str, Mapping[str, Any]], baseline: str
) -> Ladder | None:
    """Find the arms that differ from the baseline in a fixed temperature alone, which is their dose."""
    own = flat(configs[baseline])
    if own.get("objective.temperature.regime") != "fixed":
        return None
    doses = {baseline: float(own[TEMPERATURE] or 0)} | {
        arm: float(value)
        for arm, changed in arms.items()
        if set(changed) == {TEMPERATURE} and isinstance(value := changed[TEMPERATURE], float | int)
    }
    if len(set(doses.values())) < 3:
        return None
    return Ladder("temperature", dict(sorted(doses.items(), key=lambda dose: dose[1])))


def mention_lines(
    arms: Mapping[str, Mapping[str, Value]], configs: Mapping[str, Mapping[str, Any]]
) -> list[Ladder]:
    """Find arms that differ in nothing but how often captions name a factor, which is their dose.

    A line is named by what else its arms have that the baseline does not. Fewer than three doses are none. Of
    arms that differ in no setting, as some do in a study's smoke form, the first counts.
    """
    lines: dict[tuple[tuple[str, Value], ...], dict[str, float]] = {}
    for arm, changed in arms.items():
        mention = flat(configs[arm]).get(MENTION)
        if isinstance(mention, float | int):
            others = tuple((name, value) for name, value in changed.items() if name != MENTION)
            line = lines.setdefault(others, {})
            if mention not in line.values():
                line[arm] = float(mention)
    return [
        Ladder(in_words(dict(others)), dict(sorted(doses.items(), key=lambda dose: dose[1])))
        for others, doses in lines.items()
        if len(set(doses.values())) > 2
    ]


def crossing(
    arms: Mapping[str, Mapping[str, Value]], configs: Mapping[str, Mapping[str, Any]]
) -> pd.DataFrame:
    """Find the factors of a study whose arms are all combinations of their levels, each once.

    Returns:
        one row an arm: column arm and one column a factor, named as the setting, with its level; empty where
        the arms are no full crossing of at least two factors.
    """
    factors = list(dict.fromkeys(name for changed in arms.values() for name in changed))
    if len(factors) < 2:
        return pd.DataFrame()
    table = levels(arms, configs, factors)
    distinct = table[factors].drop_duplicates()
    combinations = math.prod(table[factor].nunique(dropna=False) for factor in factors)
    return table if len(distinct) == len(table) == combinations else pd.DataFrame()


def levels(
    arms: Iterable[str], configs: Mapping[str, Mapping[str, Any]], names: Sequence[str]
) -> pd.DataFrame:
    """Tabulate settings by arm: column arm and one column a setting."""
    settings = {arm: flat(configs[arm]) for arm in arms}
    rows = [(arm, *(value_of(own, name) for name in names)) for arm, own in settings.items()]
    return pd.DataFrame(rows, columns=["arm", *names])


@dataclass(frozen=True)
class ArmRoles:
    """Which arms play which part in the claims, by what they change and what their terms act on."""

    study: RecordedStudy

    @cached_property
    def changed(self) -> dict[str, dict[str, Value]]:
        """What each arm changes in the baseline."""
        return changes(self.study.configs, self.study.baseline)

    @property
    def lead(self) -> tuple[str, ...]:
        """Name the arm that the claims about one model are about: the baseline, or the first without one."""
        return (self.study.baseline or self.study.arm_names[0],)

    @property
    def compares_arms(self) -> bool:
        """Tell whether the study asks what arms change: it has a baseline and other arms."""
        return self.study.baseline is not None and len(self.study.arms) > 1

    @cached_property
    def raised(self) -> dict[str, set[str]]:
        """Name the settings of each arm that are larger than the baseline's."""
        own = flat(self.study.configs.get(self.study.baseline or "", {}))
        return {
            arm: {name for name, value in changed.items() if _number(value) > _number(own.get(name, 0))}
            for arm, changed in self.changed.items()
        }

    def weights(self, arm: str, *acts_on: str) -> set[str]:
        """Name the settings that hold the weights of an arm's terms, or its baseline's, that act so."""
        told = {**self.study.acts_on.get(self.study.baseline or "", {}), **self.study.acts_on.get(arm, {})}
        return {f"{WEIGHT}{term}" for term, acts in told.items() if acts in acts_on}

    @cached_property
    def untold(self) -> list[str]:
        """Name the arms that change the weight of a term of which no run says what it acts on."""
        sides = ("image", "text", "both", "across")
        return [
            arm
            for arm, changed in self.changed.items()
            if {name for name in changed if name.startswith(WEIGHT)} - self.weights(arm, *sides)
            and arm not in self.arms_with_views()
        ]

    def arms_with_term(self, modality: str) -> list[str]:
        """Name the arms that only add terms within the modalities, at least one of them within this one."""
        return [
            arm
            for arm, changed in self.changed.items()
            if self.weights(arm, modality, "both") & self.raised[arm]
            and all(
                name in self.weights(arm, *_WITHIN) & self.raised[arm] or name.startswith(_VIEWS)
                for name in changed
            )
        ]

    def arms_with_views(self) -> list[str]:
        """Name the controls that have the second view or the time of a term, and nothing else."""
        second = f"{WEIGHT}clip_second_view"
        allowed = {f"{WEIGHT}clip", second}
        return [
            arm
            for arm, changed in self.changed.items()
            if set(changed) == {"steps"} <= self.raised[arm]
            or (
                second in self.raised[arm]
                and all(name in allowed or name.startswith(_VIEWS) for name in changed)
            )
        ]

    def arms_alone(self, modality: str) -> list[str]:
        """Name the arms that differ in their terms alone, all of which act within one modality."""
        alone = []
        for arm, changed in self.changed.items():
            own = flat(self.study.configs[arm])
            active = {name for name, value in own.items() if name.startswith(WEIGHT) and _number(value) > 0}
            terms_alone = bool(changed) and all(name.startswith(WEIGHT) for name in changed)
            if terms_alone and active and active <= self.weights(arm, modality):
                alone.append(arm)
        return alone

    @cached_property
    def arms_of_same_data(self) -> list[str]:
        """Name the arms that are trained on the baseline's images and captions, itself included."""
        return [
            arm
            for arm in self.study.arm_names
            if not any(name == DATA or name.startswith(f"{DATA}.") for name in self.changed.get(arm, {}))
        ]

    def arms_that_close(self, values: pd.DataFrame) -> list[str]:
        """Name the arms of the same data that keep at most half of the baseline's gap, for claim 5.

        An arm with a term within a modality is none of them.

        Args:
            values: what :func:`analysis.quantities.model_values` returns.
        """
        gaps = values[values["quantity"] == "centroid_distance"]
        gaps = gaps.groupby(MODEL)["value"].mean().unstack("arm")
        base = self.study.baseline
        if base is None or base not in gaps.columns:
            return []
        closed = []
        for arm in gaps.columns.drop(base):
            both = gaps[[arm, base]].dropna()
            changed = self.changed.get(str(arm), {})
            within = self.weights(str(arm), *_WITHIN) & set(changed) or str(arm) in self.untold
            if len(both) and (both[arm] <= CLOSED * both[base]).all() and not within:
                closed.append(str(arm))
        return [arm for arm in self.arms_of_same_data if arm in closed]


def _number(value: Value) -> float:
    """Read a setting as a number; what is none is not larger than anything."""
    return float(value) if isinstance(value, int | float) else float("nan")
