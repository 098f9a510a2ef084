"""Plain words: what the numbers say, generated from the numbers alone."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from analysis.effects import evidence_of
from analysis.leading import at
from analysis.results import Results, Within
from analysis.stats.evidence import Evidence, deciding, side
from analysis.study import Study
from analysis.typeset import counted, interval, joined, number, p_value, points, points_interval
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


def found(study: Study, results: Results) -> list[Finding]:
    """State what was found: gains, controls, the baseline, association with the gap, zero-shot."""
    if results.quoted_rows.empty:
        sentence = "No model has been evaluated yet: there is nothing to report but the state of the trials."
        return [Finding("Nothing yet", (sentence,))]
    findings = [_claims(results)] if results.claims else []
    findings += [_within(study, results, within) for within in results.within]
    if not findings:
        sentence = (
            "No inverted queries were measured one by one on a task within one modality, so these data say "
            "nothing of the inversion gain."
        )
        findings.append(Finding("Inversion gain", (sentence,)))
    zero_shot = _zero_shot(study, results)
    if zero_shot:
        findings.append(Finding("Zero-shot classification, made intra-modal", tuple(zero_shot)))
    return findings


def _claims(results: Results) -> Finding:
    """Say in a sentence each what became of the claims; the rule and the numbers stand in their section."""
    sentences = []
    for claim in results.claims:
        if claim.verdict == "not measured":
            continue
        effect = next(one for one in claim.statements if one.role == "effect")
        found = effect.evidence
        size = ""
        if found is not None:
            low, high = deciding(found)[-1]
            bounds = points_interval(low, high, 2) or "without an interval"
            size = f", {points(found.value, 2, signed=True)} points {bounds} over {_repeated(found)}"
            if effect.verdict == "undecided" and not low <= 0 <= high:
                size += f" (p {p_value(effect.p_holm)} by Holm)" if pd.notna(effect.p_holm) else ""
        controls = [one for one in claim.statements if one.role == "control"]
        parts = [
            f"{words} {count}"
            for words, count in (
                ("supported", sum(one.verdict == "supported" for one in controls)),
                ("contradicted", sum(one.verdict == "contradicted" for one in controls)),
                ("undecided", sum(one.verdict == "undecided" for one in controls)),
                ("not measured", sum(one.verdict == "not measured" for one in controls)),
            )
            if count
        ]
        sentences.append(
            f"{claim.title}: {claim.verdict}. The effect, expected {effect.kind} zero{size}, is "
            f"{effect.verdict}; of its controls, {joined(parts)}."
        )
    unmeasured = [claim.title for claim in results.claims if claim.verdict == "not measured"]
    if unmeasured:
        sentences.append(f"Not measured here: {'; '.join(unmeasured)}.")
    return Finding("The claims, by the rule below", tuple(sentences))


def _repeated(found: Evidence) -> str:
    """Name what the last of the deciding intervals lets vary."""
    if found.models.n == 1:
        return "the queries of one model"
    return f"{found.models.n} models" + (" and queries" if pd.notna(found.both_low) else "")


def _within(study: Study, results: Results, within: Within) -> Finding:
    where = within.where
    topic = (
        f"{where.modality.capitalize()} retrieval: {where.route.upper()} on {where.task} ({where.dataset})"
    )
    sentences = [
        _gains(study, within),
        *_baseline(study, results, within),
        _against_pca(study, within),
        *_strongest_control(study, within),
        *_association(within),
    ]
    return Finding(topic, tuple(sentences))


def _gains(study: Study, within: Within) -> str:
    gains = within.gains
    split = within.where.split
    side = "On all items (no split)" if split == "all" else f"On the {split} split"
    on = f"{side}, {counted(int(gains['n_queries'].max()), 'query', 'queries')}:"
    if len(gains) == 1:
        row = gains.iloc[0]
        size = f"{points(row['value'], 2, signed=True)} mAP points"
        bounds = points_interval(row["low"], row["high"], 2)
        return f"{on} inverting the query changed mAP by {size} {bounds}; {_zero_words(row)}."
    low, high = gains["value"].min(), gains["value"].max()
    verdicts = _Verdicts("is above zero for", "is below zero for", "includes zero for")
    return (
        f"{on} inverting the query changed mAP by {points(low, 2, signed=True)} to "
        f"{points(high, 2, signed=True)} points, depending on the arm. The gain's interval "
        f"{_sort_by_zero(study, gains, verdicts)}."
    )


def _zero_words(row: pd.Series) -> str:
    if pd.isna(row["low"]):
        return "too few query classes for an interval"
    if row["low"] > 0:
        return "the interval is above zero"
    return "the interval is below zero" if row["high"] < 0 else "the interval includes zero"


def _sort_by_zero(study: Study, frame: pd.DataFrame, verdicts: _Verdicts) -> str:
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


def _against_pca(study: Study, within: Within) -> str:
    route = within.where.route.upper()
    if within.over_pca.empty:
        return (
            f"The class-name PCA control was not measured here: the gain of {route} stands without the "
            "control that it has to exceed."
        )
    verdicts = _Verdicts("is larger for", "is smaller for", "cannot be told from it for")
    return (
        "Class-name PCA, a linear projection that inverts nothing, is the control. Compared with the "
        f"control's gain, that of {route} {_sort_by_zero(study, within.over_pca, verdicts)}. Only a gain "
        "larger than the control's speaks for misalignment within the modality rather than for a more "
        "class-like query."
    )


def _strongest_control(study: Study, within: Within) -> list[str]:
    table = within.headline.controls.dropna(subset=["gain"])
    controls = table[table["route"] != within.where.route]
    means = controls.groupby("route", sort=False)["gain"].mean()
    if len(means) < 2:
        return []
    route = str(means.idxmax())
    mine = controls[controls["route"] == route]
    arms = [arm for arm in study.arm_names if arm in set(mine["arm"])]
    arm = study.baseline if study.baseline in arms else arms[0]
    row = mine[mine["arm"] == arm].iloc[0]
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


def _baseline(study: Study, results: Results, within: Within) -> list[str]:
    if study.baseline is None or study.baseline not in set(within.gains["arm"]):
        return []
    sentences = []
    row = within.gains[within.gains["arm"] == study.baseline].iloc[0]
    if pd.notna(row["low"]):
        relation = f"leaves open whether inversion helps as {_REPORTED}"
        if row["low"] > 0:
            relation = f"has the sign that {_REPORTED}"
        elif row["high"] < 0:
            relation = f"has the sign opposite to what {_REPORTED}"
        size = f"{points(row['value'], 2, signed=True)} points {points_interval(row['low'], row['high'], 2)}"
        sentences.append(f"The baseline's gain, {size}, {relation}.")
    changes = at(results.contrasts[results.contrasts["quantity"] == "gain"], within.where)
    if len(changes):
        sentences.append(_changes(study, changes))
    return sentences


def _changes(study: Study, changes: pd.DataFrame) -> str:
    """Compare the arms' gains with the baseline's by what decides of claims; one seed tells no arms apart."""
    told = changes[changes["n_seeds"] > 1]
    if told.empty:
        return "With one seed nothing can be said of differences between the gains of arms."
    evidence = [evidence_of(row) for _, row in told.iterrows()]
    sides = [side(found) if found else 0 for found in evidence]
    bounds = told.assign(low=sides, high=sides)  # the side of zero that the intervals agree on
    verdicts = _Verdicts("is larger for", "is smaller for", "cannot be told from it for")
    return (
        "Compared with the baseline's gain, over paired seeds and queries, the gain "
        f"{_sort_by_zero(study, bounds, verdicts)}."
    )


def _association(within: Within) -> list[str]:
    slope, native = within.slope, within.gap_native
    if slope.n_arms < 2 or pd.isna(slope.spearman):
        return []
    return [
        f"Over the means of {slope.n_arms} arms, the rank correlation of gap and gain is "
        f"{number(slope.spearman, 2, signed=True)}, and that of gap and native mAP "
        f"{number(native.spearman, 2, signed=True)}. This describes these {slope.n_arms} arms and tests "
        "nothing: what moves the gap moves other things too."
    ]


def _zero_shot(study: Study, results: Results) -> list[str]:
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
