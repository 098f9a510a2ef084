"""Plain words: what the numbers say, generated from the numbers alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from analysis.effects import evidence_of
from analysis.leading import at
from analysis.results import Results, Within
from analysis.stats.evidence import side
from analysis.study import RecordedStudy
from analysis.typeset import counted, interval, joined, number, points, points_interval
from crossgap.vocabulary import ROUTE_WORDS

_REPORTED = "Mistretta et al. (ICLR 2025) report for CLIP"


class Finding(NamedTuple):
    """What was found about one topic, a few sentences."""

    topic: str
    sentences: tuple[str, ...]


class _Verdicts(NamedTuple):
    """How to say that an interval lies above zero, below zero, or includes it."""

    above: str
    below: str
    neither: str


def lead(study: RecordedStudy, results: Results) -> tuple[str, ...]:
    """Answer first: does inversion help, does it help more than its control, and what changes that.

    Of several datasets the first of each modality counts.
    """
    if results.quoted_rows.empty:
        if (study.trials["state"] == "trained").any():
            return ("No model has been measured: the curves of training are all that there is to show.",)
        return ("No model has been evaluated yet: there is nothing to report but the state of the trials.",)
    first = {within.where.modality: within for within in reversed(results.within)}
    if not first:
        return (
            "No inverted queries were measured one by one on a task within one modality, so these data say "
            "nothing of the inversion gain.",
        )
    withins = [first[modality] for modality in ("image", "text") if modality in first]
    return (_helps(study, withins), _exceeds(withins), *_changes(study, results, withins))


def found(study: RecordedStudy, results: Results) -> list[Finding]:
    """State what was found arm by arm: gains, controls, zero-shot."""
    findings = [_within(study, results, within) for within in results.within]
    zero_shot = _zero_shot(study, results)
    if zero_shot:
        findings.append(Finding("Zero-shot classification, made intra-modal", tuple(zero_shot)))
    return findings


def _helps(study: RecordedStudy, withins: Sequence[Within]) -> str:
    """Say what inverting the query does in the baseline, or in the first arm without one."""
    parts, named = [], False
    arm = _first_arm(study, withins)
    for within in withins:
        where = within.where
        row = within.gains[within.gains["arm"] == arm].iloc[0]
        size = f"{points(row['value'], 2, signed=True)} points {points_interval(row['low'], row['high'], 2)}"
        reporters = "they report" if named else _REPORTED
        relation = ", with too few query classes for an interval"
        if pd.notna(row["low"]):
            relation = ", which leaves open whether it helps"
            if row["low"] > 0 or row["high"] < 0:
                relation = f", {'as' if row['low'] > 0 else 'against what'} {reporters}"
                named = True
        parts.append(f"{size.strip()} on {where.task} ({where.route.upper()}){relation}")
    whose = "the baseline's mAP" if arm == study.baseline else f"the mAP of {study.label(arm)}"
    return f"Inverting the query changes {whose} by {', and by '.join(parts)}."


def _first_arm(study: RecordedStudy, withins: Sequence[Within]) -> str:
    """Name the arm that stands for the study: the baseline, or the first that was measured everywhere."""
    measured = set.intersection(*(set(within.gains["arm"]) for within in withins))
    if study.baseline in measured:
        return str(study.baseline)
    return next(arm for arm in study.arm_names if arm in measured)


def _exceeds(withins: Sequence[Within]) -> str:
    """Say in how many arms the gain exceeds that of the control that inverts nothing."""
    parts = []
    for within in withins:
        route, table = within.where.route.upper(), within.over_pca
        if table.empty:
            parts.append(f"{route} stands without that control, which was not measured")
            continue
        more, less = int((table["low"] > 0).sum()), int((table["high"] < 0).sum())
        arms = len(table)
        if arms == 1:
            told = "more than it" if more else "less than it" if less else "neither clearly more nor less"
            parts.append(f"{route} gains {told}")
        else:
            parts.append(f"{route} gains more in {more} and less in {less} of {arms} arms")
    return (
        f"Against class-name PCA, a control that inverts nothing, {joined(parts)}; only what exceeds it "
        "speaks for misalignment."
    )


def _changes(study: RecordedStudy, results: Results, withins: Sequence[Within]) -> list[str]:
    """Compare gains with the baseline's by what decides of claims, and with the gap over arms."""
    compared, correlated = [], []
    for within in withins:
        route, told, slope = within.where.route.upper(), _told(results, within), within.slope
        if len(told):
            sides = _sides(told)
            smaller, larger = int((sides < 0).sum()), int((sides > 0).sum())
            arms = counted(len(told), "arm")
            said = f"smaller in {smaller} and larger in {larger} of {arms}"
            if not smaller and not larger:
                said = f"told apart in none of {arms}"
            compared.append(f"that of {route} is {said}")
        if slope.n_arms > 1 and pd.notna(slope.spearman):
            said = number(slope.spearman, 2, signed=True)
            correlated.append(f"{said} for {route} ({counted(slope.n_arms, 'arm')})")
    sentences = [f"Against the baseline's gain, {joined(compared)}"] * bool(compared)
    if not compared and (results.contrasts["quantity"] == "gain").any():
        sentences = ["With one seed no gain can be told from the baseline's"]
    sentences += [f"the rank correlation of gap and gain over arms is {joined(correlated)}"] * bool(
        correlated
    )
    if not sentences:
        return []
    said = "; ".join(sentences)
    return [f"{said[0].upper()}{said[1:]}."]


def _told(results: Results, within: Within) -> pd.DataFrame:
    """Select what arms change in the gain, of several seeds."""
    contrasts = results.contrasts
    changes = at(contrasts[contrasts["quantity"] == "gain"], within.where)
    return changes[changes["n_seeds"] > 1]


def _sides(changes: pd.DataFrame) -> pd.Series:
    """Give the side of zero that the intervals of each change agree on."""
    evidence = [evidence_of(row) for _, row in changes.iterrows()]
    return pd.Series([side(of_change) if of_change else 0 for of_change in evidence], index=changes.index)


def _within(study: RecordedStudy, results: Results, within: Within) -> Finding:
    where = within.where
    topic = (
        f"{where.modality.capitalize()} retrieval: {where.route.upper()} on {where.task} ({where.dataset})"
    )
    sentences = [
        *_gains(study, within),
        *_arms_told(study, results, within),
        *_against_pca(study, within),
        *_strongest_control(study, within),
    ]
    return Finding(topic, tuple(sentences))


def _gains(study: RecordedStudy, within: Within) -> list[str]:
    gains = within.gains
    if len(gains) == 1:
        return []  # said first on the page
    low, high = gains["value"].min(), gains["value"].max()
    verdicts = _Verdicts("is above zero for", "is below zero for", "includes zero for")
    return [
        f"Inverting the query changed mAP by {points(low, 2, signed=True)} to "
        f"{points(high, 2, signed=True)} points, depending on the arm. The gain's interval "
        f"{_sort_by_zero(study, gains, verdicts)}."
    ]


def _arms_told(study: RecordedStudy, results: Results, within: Within) -> list[str]:
    changes = _told(results, within)
    if changes.empty:
        return []
    sides = _sides(changes)
    verdicts = _Verdicts("is larger for", "is smaller for", "cannot be told from it for")
    return [
        "Compared with the baseline's gain, over paired seeds and queries, the gain "
        f"{_sort_by_zero(study, changes.assign(low=sides, high=sides), verdicts)}."
    ]


def _sort_by_zero(study: RecordedStudy, frame: pd.DataFrame, verdicts: _Verdicts) -> str:
    sides = (
        (verdicts.above, frame["low"] > 0),
        (verdicts.below, frame["high"] < 0),
        (verdicts.neither, (frame["low"] <= 0) & (frame["high"] >= 0)),
        ("could not be bounded for", frame["low"].isna()),
    )
    parts = []
    for words, condition in sides:
        arms = set(frame.loc[condition, "arm"])
        names = "; ".join(study.label(arm) for arm in study.arm_names if arm in arms)
        if len(frame) == 1 and arms:
            return f"{words} {names}"
        if len(arms) == len(frame):
            return f"{words} all {len(frame)} arms"
        if arms:
            parts.append(f"{words} {len(arms)} of {len(frame)} arms ({names})")
    return joined(parts)


def _against_pca(study: RecordedStudy, within: Within) -> list[str]:
    if len(within.over_pca) < 2:
        return []
    verdicts = _Verdicts("is larger for", "is smaller for", "cannot be told from it for")
    return [
        f"Compared with the gain of class-name PCA, that of {within.where.route.upper()} "
        f"{_sort_by_zero(study, within.over_pca, verdicts)}."
    ]


def _strongest_control(study: RecordedStudy, within: Within) -> list[str]:
    table = within.headline.controls.dropna(subset=["gain"])
    controls = table[table["route"] != within.where.route]
    means = controls.groupby("route", sort=False)["gain"].mean()
    if len(means) < 2:
        return []
    route = str(means.idxmax())
    of_route = controls[controls["route"] == route]
    arms = [arm for arm in study.arm_names if arm in set(of_route["arm"])]
    arm = study.baseline if study.baseline in arms else arms[0]
    row = of_route[of_route["arm"] == arm].iloc[0]
    bounds = interval(row["low"], row["high"], 2)
    gain = f"{number(row['gain'], 2, signed=True)} points{' ' if bounds else ''}{bounds}"
    whose = f"for {'the baseline' if arm == study.baseline else study.label(arm)}"
    if len(arms) > 1:
        whose += f", {number(means[route], 2, signed=True)} over the {len(arms)} arms"
    does = "adds most" if means[route] > 0 else "changes mAP most favourably"
    compared = joined([ROUTE_WORDS[str(name)].words for name in means.index])
    return [
        f"Of the controls that the figure shows ({compared}), {ROUTE_WORDS[route].words} {does}: {gain} "
        f"{whose}."
    ]


def _zero_shot(study: RecordedStudy, results: Results) -> list[str]:
    sentences = []
    table = results.hit_at_1
    shown = table[table["task"].str.startswith("zero-shot") & table["route"].isin(["oti", "ovi"])]
    verdicts = _Verdicts("rose for", "fell for", "has an interval that includes no change for")
    for (_, split, task, route), rows in shown.groupby(["dataset", "split", "task", "route"], sort=False):
        what = "image" if route == "oti" else "prompt"
        changes = rows.assign(low=rows["difference_low"], high=rows["difference_high"])
        sentences.append(
            f"{task}, {split}: with the {what} inverted ({str(route).upper()}), top-1 accuracy "
            f"{_sort_by_zero(study, changes, verdicts)}."
        )
    if sentences:
        sentences.append("The misalignment hypothesis expects accuracy to fall here.")
    return sentences
