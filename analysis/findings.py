"""Plain words: what the numbers say and what they cannot tell, generated from the numbers alone."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from analysis.results import Results, Within
from analysis.study import Study
from analysis.typeset import counted, joined, number, points, points_interval

FEW_QUERIES = 30
_NUMBER_WORDS = {1: "one seed", 2: "two seeds", 3: "three seeds", 4: "four seeds", 5: "five seeds"}
_KINDS = {"image": ("Image", "OTI"), "text": ("Text", "OVI")}


def found(study: Study, results: Results) -> list[str]:
    """State what was found: gains, controls, the baseline, association with the gap, zero-shot."""
    if results.quoted_rows.empty:
        return ["No model has been evaluated yet, so there is nothing to report but the state of the trials."]
    statements = []
    for within in results.within:
        statements.append(_gains(study, within))
        statements += _against_pca(study, within)
        statements += _against_baseline(study, results, within)
        statements += _association(within)
    statements += _zero_shot(study, results)
    if not results.within:
        statements.append(
            "No inverted queries were measured on a task within one modality, so these data say nothing "
            "of the "
            "inversion gain."
        )
    return statements


def cannot_tell(study: Study, results: Results) -> list[str]:
    """State the limits of these data: seeds, queries, selection, data and models, unfinished trials."""
    statements = _unfinished(study)
    if study.smoke:
        statements.append(
            "This is a smoke run, the smallest form of the study: its numbers show that the path works and "
            "nothing else."
        )
    if results.quoted_rows.empty:
        return statements
    statements += [_seeds(study, results), *_few_queries(results)]
    if len(study.arms) > 1:
        statements.append(
            "Each interval stands alone: none is corrected for the number of comparisons, and among "
            "many, some "
            f"{100 * results.bootstrap.level:.0f} % intervals miss zero by chance. An interval that "
            "includes zero "
            "does not show that the effect is absent; it says which sizes the data leave open."
        )
    chosen = [within for within in results.within if (within.settings["selection"] == "val").any()]
    if chosen:
        most = max(float(within.settings["optimism"].max()) for within in chosen)
        statements.append(
            "Steps and token count of the inversion were chosen on the validation split; the intervals "
            "do not "
            "cover that choice. Choosing on the reported split itself would have raised a gain by up to "
            f"{points(most, 2)} points."
        )
    preset = [within for within in results.within if (within.settings["selection"] != "val").any()]
    if preset:
        statements.append(
            "Some inversion settings were fixed beforehand, not chosen on a validation split: a gain that is "
            "absent at such a setting may be present at another."
        )
    statements += _data_and_models(results)
    return statements


def _name(study: Study, arms: pd.Series) -> str:
    return joined([study.label(arm) for arm in study.arm_names if arm in set(arms)])


def _gains(study: Study, within: Within) -> str:
    kind, route = _KINDS[within.where.modality]
    gains = within.gains
    queries = int(gains["n_queries"].max())
    head = (
        f"{kind} retrieval ({within.where.task}, {within.where.dataset} {within.where.split}, "
        f"{counted(queries, 'query', 'queries')}): "
    )
    if len(gains) == 1:
        row = gains.iloc[0]
        size = (
            f"{points(row['value'], 2, signed=True)} mAP points {points_interval(row['low'], row['high'], 2)}"
        )
        return f"{head}inverting the query ({route}) changed mAP by {size}; {_zero_words(row)}."
    spread = (
        f"{points(gains['value'].min(), 2, signed=True)} to {points(gains['value'].max(), 2, signed=True)}"
    )
    sides = _sort_by_zero(study, gains, "is above zero for", "is below zero for", "includes zero for")
    return (
        f"{head}inverting the query ({route}) changed mAP by {spread} points, depending on the arm. The "
        "interval "
        f"of the gain {sides}."
    )


def _zero_words(row: pd.Series) -> str:
    if pd.isna(row["low"]):
        return "too few query classes for an interval"
    if row["low"] > 0:
        return "the interval is above zero"
    return "the interval is below zero" if row["high"] < 0 else "the interval includes zero"


def _sort_by_zero(study: Study, frame: pd.DataFrame, above: str, below: str, neither: str) -> str:
    conditions: list[tuple[str, Callable[[pd.DataFrame], pd.Series]]] = [
        (above, lambda rows: rows["low"] > 0),
        (below, lambda rows: rows["high"] < 0),
        (neither, lambda rows: (rows["low"] <= 0) & (rows["high"] >= 0)),
        ("could not be computed for", lambda rows: rows["low"].isna()),
    ]
    parts = []
    for words, condition in conditions:
        arms = frame.loc[condition(frame), "arm"]
        if len(arms):
            parts.append(f"{words} {len(arms)} of {counted(len(frame), 'arm')} ({_name(study, arms)})")
    return joined(parts)


def _against_pca(study: Study, within: Within) -> list[str]:
    _, route = _KINDS[within.where.modality]
    if within.over_pca.empty:
        return [
            f"The class-name PCA control was not measured on {within.where.task}: the gain of {route} stands "
            "without the control that it has to exceed."
        ]
    sides = _sort_by_zero(
        study, within.over_pca, "is larger for", "is smaller for", "cannot be told from it for"
    )
    return [
        "Class-name PCA, a linear projection that inverts nothing, is the control on "
        f"{within.where.task}. The gain "
        f"of {route}, compared with the control's by paired queries, {sides}. Only a gain larger than "
        "the control's "
        "speaks for misalignment within the modality rather than for a more class-like query."
    ]


def _against_baseline(study: Study, results: Results, within: Within) -> list[str]:
    if study.baseline is None or study.baseline not in set(within.gains["arm"]):
        return []
    statements = []
    kind, route = _KINDS[within.where.modality]
    row = within.gains[within.gains["arm"] == study.baseline].iloc[0]
    if kind == "Image" and pd.notna(row["low"]):
        relation = (
            "has the sign that Mistretta et al. (ICLR 2025) report for CLIP"
            if row["low"] > 0
            else "has the sign opposite to what Mistretta et al. (ICLR 2025) report for CLIP"
            if row["high"] < 0
            else "leaves open whether inversion helps as Mistretta et al. (ICLR 2025) report for CLIP"
        )
        statements.append(
            f"The baseline's gain by {route}, {points(row['value'], 2, signed=True)} points "
            f"{points_interval(row['low'], row['high'], 2)}, {relation}."
        )
    if len(results.differences):
        gains = results.differences[
            (results.differences["quantity"] == "gain") & (results.differences["task"] == within.where.task)
        ]
        if len(gains):
            sides = _sort_by_zero(
                study, gains, "is larger for", "is smaller for", "cannot be told from it for"
            )
            statements.append(
                f"Compared with the baseline's gain by paired seeds and queries, the gain of {route} {sides}."
            )
    return statements


def _association(within: Within) -> list[str]:
    gap_gain, gap_native = within.gap_gain, within.gap_native
    arms = within.headline.points.dropna(subset=["gap"])["arm"].nunique()
    if arms < 2 or gap_gain.spearman != gap_gain.spearman:
        return []
    return [
        f"Over the {gap_gain.n_models} models of {counted(arms, 'arm')} shown, the rank correlation of "
        "modality gap "
        f"and {within.where.route.upper()} gain is {number(gap_gain.spearman, 2, signed=True)}; that of "
        "gap and "
        f"native mAP is {number(gap_native.spearman, 2, signed=True)}. This describes these "
        f"{gap_gain.n_models} models: it is no test, seeds of one arm are not independent, and a term "
        "that moves "
        "the gap also moves other things."
    ]


def _zero_shot(study: Study, results: Results) -> list[str]:
    statements = []
    table = results.hit_at_1
    shown = table[table["task"].str.startswith("zero-shot") & table["route"].isin(["oti", "ovi"])]
    for (_, split, task, route), rows in shown.groupby(["dataset", "split", "task", "route"], sort=False):
        what = "image" if route == "oti" else "prompt"
        changes = rows.assign(low=rows["difference_low"], high=rows["difference_high"])
        sides = _sort_by_zero(study, changes, "rose for", "fell for", "did not measurably change for")
        statements.append(
            f"Zero-shot classification ({task}, {split}), made intra-modal by inverting the {what} "
            f"({str(route).upper()}): top-1 accuracy {sides}."
        )
    return statements


def _unfinished(study: Study) -> list[str]:
    trials = study.trials
    open_trials = trials[trials["state"] != "complete"]
    if open_trials.empty:
        return []
    parts = []
    for state, words in (
        ("failed", "failed"),
        ("unfinished", "are unfinished"),
        ("missing", "have not started"),
    ):
        rows = open_trials[open_trials["state"] == state]
        if len(rows):
            names = [f"{study.label(row.arm)} seed {row.seed}" for row in rows.itertuples()]
            parts.append(f"{len(rows)} {words} ({joined(names)})")
    complete = int((trials["state"] == "complete").sum())
    return [
        f"{complete} of {counted(len(trials), 'model')} are complete; {joined(parts)}. What is said "
        "below and above "
        "rests on the complete ones."
    ]


def _seeds(study: Study, results: Results) -> str:
    counts = results.quoted_rows.groupby("arm")["seed"].nunique()
    low, high = int(counts.min()), int(counts.max())
    words = _NUMBER_WORDS.get(low, f"{low} seeds")
    if low != high:
        words = f"{low} to {high} seeds"
    if high == 1:
        ending = " With one model an arm, a difference between arms may be a difference between seeds."
        return f"With {words} the intervals are over queries; they do not cover seed variation.{ending * (len(study.arms) > 1)}"
    return (
        f"With {words} an arm, the intervals are over queries; they do not cover seed variation. The "
        "tables show "
        "the standard deviation over seeds and each seed's own difference beside them."
    )


def _few_queries(results: Results) -> list[str]:
    rows = results.quoted_rows[results.quoted_rows["task"] != "gap"]
    few = rows[rows["n_queries"] < FEW_QUERIES]
    if few.empty:
        return []
    low, high = int(few["n_queries"].min()), int(few["n_queries"].max())
    span = f"{low}" if low == high else f"{low} to {high}"
    return [
        f"{counted(few['task'].nunique(), 'task')} rest on {span} queries. Intervals from so few are "
        "rough and "
        "mostly too narrow."
    ]


def _data_and_models(results: Results) -> list[str]:
    rows = results.quoted_rows
    statements = []
    if (rows["dataset"] == "emoji").any():
        statements.append(
            "Emoji are small, clean drawings of one thing each with short names: results on them say "
            "little about "
            "photographs and captions."
        )
    seen = rows["pairs_seen"].dropna()
    if len(seen):
        statements.append(
            f"The models are small and were trained here on {int(seen.min()):,}"
            + (f" to {int(seen.max()):,}" if seen.max() > seen.min() else "")
            + " image-text pairs (repeats counted): they say little about released CLIPs, which are larger and saw "
            "far more."
        )
    if len(set(rows["dataset"])) == 1:
        statements.append("One dataset is measured; nothing here shows that a result holds on another.")
    return statements
