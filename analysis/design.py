"""What sets the arms of a study apart: settings that differ from the baseline, ladders, crossings.

Read from the configurations that training left beside each model, so that any study tells its own design.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from crossgap.reading.treatment import STRENGTHS, TEMPERATURE, Value, differing, flat, in_words, value_of

MENTION = "data.mention"  # probability with which captions of scenes name each factor but the object


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
        arm: {name: value for name, (_, value) in differing(reference, mine).items()}
        for arm, mine in settings.items()
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

    A line is named by what else its arms have that the baseline does not. Fewer than three doses are none.
    """
    lines: dict[tuple[tuple[str, Value], ...], dict[str, float]] = {}
    for arm, changed in arms.items():
        mention = flat(configs[arm]).get(MENTION)
        if isinstance(mention, float | int):
            others = tuple((name, value) for name, value in changed.items() if name != MENTION)
            lines.setdefault(others, {})[arm] = float(mention)
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
    rows = [(arm, *(value_of(mine, name) for name in names)) for arm, mine in settings.items()]
    return pd.DataFrame(rows, columns=["arm", *names])
