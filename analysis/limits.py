"""Plain words: what the numbers cannot tell, generated from the numbers alone."""

from __future__ import annotations

import pandas as pd

from analysis.results import Results
from analysis.stats.seeds import least_p
from analysis.study import RecordedStudy
from analysis.typeset import counted, joined, number, points
from crossgap.reading.support import OVER_QUERIES, class_coverage, supported, supported_classes

FEW_QUERIES = 30
FAR = 0.5  # mean 1 - cosine after inversion above which a feature is said to be far from its target
STILL = 0.1  # share of its first value by which a learned temperature has to move in a run
UNEQUAL = 0.2  # largest difference of two arms' mean 1 - cosine that passes without a remark
_NUMBER_WORDS = {1: "one seed", 2: "two seeds", 3: "three seeds", 4: "four seeds", 5: "five seeds"}


def cannot_tell(study: RecordedStudy, results: Results) -> list[str]:
    """State the limits of these data: seeds, queries, selection, data and models, unfinished trials."""
    statements = _unfinished(study)
    if study.smoke:
        statements.append(
            "This is a smoke run, the smallest form of the study: its numbers show that the path works "
            "and nothing else."
        )
    if results.quoted_rows.empty:
        return statements
    statements += [
        _seeds(study, results),
        *_few_queries(results),
        *_few_classes(results),
        *_residuals(study, results),
    ]
    if len(study.arms) > 1:
        statements.append(
            "Each interval stands alone: none is corrected for the number of comparisons, and among many, "
            f"some {100 * results.bootstrap.level:.0f} % intervals miss zero by chance. An interval that "
            "includes zero does not show that the effect is absent; it says which sizes the data leave "
            "open."
        )
    chosen = [within for within in results.within if (within.settings["selection"] == "val").any()]
    if chosen:
        most = max(float(within.settings["optimism"].max()) for within in chosen)
        chosen_on_test = (
            " Choosing on the reported split itself would have raised a gain by up to "
            f"{points(most, 2)} points."
        )
        statements.append(
            "Steps and token count of the inversion were chosen on the validation split; the intervals do "
            "not cover that choice." + chosen_on_test * (round(100 * most, 2) > 0)
        )
    preset = [within for within in results.within if (within.settings["selection"] != "val").any()]
    if preset:
        statements.append(
            "Some inversion settings were fixed beforehand, not chosen on a validation split: a gain that "
            "is absent at such a setting may be present at another."
        )
    statements += [results.importances.note] * bool(results.importances.note)
    statements += _still_temperatures(study)
    statements += _data_and_models(results)
    return statements


def _unfinished(study: RecordedStudy) -> list[str]:
    trials = study.trials
    parts = []
    words = {"trained": "trained and not measured", "missing": "not started"}
    for state, rows in trials[trials["state"] != "complete"].groupby("state", sort=False):
        models = zip(rows["arm"], rows["seed"], strict=True)
        names = "; ".join(f"{study.label(arm)} seed {seed}" for arm, seed in models)
        parts.append(f"{len(rows)} {words.get(str(state), str(state))} ({names})")
    if not parts:
        return []
    complete = int((trials["state"] == "complete").sum())
    return [
        f"Of {counted(len(trials), 'model')}, {complete} complete, {joined(parts)}. Everything said here "
        "rests on the complete ones."
    ]


def _seeds(study: RecordedStudy, results: Results) -> str:
    counts = results.quoted_rows.groupby("arm")["seed"].nunique()
    low, high = int(counts.min()), int(counts.max())
    words = _NUMBER_WORDS.get(low, f"{low} seeds") if low == high else f"{low} to {high} seeds"
    if low > 1:
        least = least_p(low)
        over_both = "claims and differences between arms also have intervals over seeds"
        if low == 2:
            return (
                f"With {words}, most intervals are over queries and do not cover seed variation; "
                f"{over_both}, but two seeds say next to nothing about other seeds: a t interval of two "
                "reaches 12.7 standard errors to each side, and no test over two signs can find anything "
                "(least p .5)."
            )
        floor = (
            ""
            if supported("sign-flip test", low)
            else (
                f" A sign-flip test of so few cannot go below p = {number(least, 3)}: the t test is read "
                "instead."
            )
        )
        return (
            f"With {words}, most intervals are over queries and do not cover seed variation; {over_both}."
            f"{floor}"
        )
    sentence = f"With {words}, the intervals are over queries; they do not cover seed variation."
    if high > 1:
        return (
            f"{sentence} The tables show the spread over seeds, and each seed's own difference, beside them."
        )
    if len(counts) > 1:
        return f"{sentence} A difference between arms may be a difference between seeds."
    return sentence


def _few_queries(results: Results) -> list[str]:
    rows = results.quoted_rows[results.quoted_rows["task"] != "gap"]
    few = rows[rows["n_queries"] < FEW_QUERIES]
    if few.empty:
        return []
    span = _from_to(f"{few['n_queries'].min():.0f}", f"{few['n_queries'].max():.0f}")
    return [
        f"{counted(few['task'].nunique(), 'task')} with only {span} queries: intervals from so few are "
        "rough, and mostly too narrow."
    ]


def _few_classes(results: Results) -> list[str]:
    rows = pd.concat([results.mean_ap, results.hit_at_1]).dropna(subset=["low", "n_clusters"])
    enough = {count: supported_classes(OVER_QUERIES, int(count)) for count in set(rows["n_clusters"])}
    few = rows[~rows["n_clusters"].map(enough).astype(bool)]
    if few.empty:
        return []
    low = int(few["n_clusters"].min())
    span = _from_to(f"{low}", f"{few['n_clusters'].max():.0f}")
    return [
        f"{counted(few['task'].nunique(), 'task')} with queries of only {span} classes: intervals over "
        f"queries draw classes, and so few make them too narrow (with {low}, in the simulation, they cover "
        f"{100 * class_coverage(OVER_QUERIES, low):.0f} % where they say 95 %). Alone they decide no claim."
    ]


def _residuals(study: RecordedStudy, results: Results) -> list[str]:
    statements = []
    for within in results.within:
        losses = within.settings.dropna(subset=["loss"])
        means = losses.groupby("arm")["loss"].mean()
        if means.empty:
            continue
        route = within.where.route.upper()
        if sum(other.where.route == within.where.route for other in results.within) > 1:
            route = f"{route} on {within.where.dataset}"
        far = [arm for arm in study.arm_names if means.get(arm, 0) > FAR]
        near = losses.loc[~losses["arm"].isin(far), "loss"]
        if far:
            values = [_by_seed(losses[losses["arm"] == arm]) for arm in far]
            values[-1] += f"; {_span(near)} for the others" if len(near) else ""
            parts = [f"{study.label(arm)} ({value})" for arm, value in zip(far, values, strict=True)]
            statements.append(
                f"{route}: inversion did not come close to its targets for {joined(parts)}: a gain there is "
                "that of a feature far from its target."
            )
        elif means.max() - means.min() > UNEQUAL:
            statements.append(
                f"Inversions came unequally close to their targets ({route}: 1 − cosine "
                f"{_span(losses['loss'])}, farthest for {study.label(str(means.idxmax()))}): arms are "
                "compared at different distances."
            )
    return statements


def _by_seed(losses: pd.DataFrame) -> str:
    values = [number(loss, 2) for loss in losses.sort_values("seed")["loss"]]
    return f"1 − cosine {joined(values)}{' by seed' if len(values) > 1 else ''}"


def _span(values: pd.Series) -> str:
    return _from_to(number(values.min(), 2), number(values.max(), 2))


def _from_to(low: str, high: str) -> str:
    return low if low == high else f"{low} to {high}"


def _still_temperatures(study: RecordedStudy) -> list[str]:
    if not {"step", "temperature"} <= set(study.training.columns):
        return []
    trials = study.trials[study.trials["state"] == "complete"]
    logged = study.training.merge(trials[["arm", "seed"]], on=["arm", "seed"])
    logged = logged.dropna(subset=["temperature"]).sort_values("step", kind="stable")
    by_model = logged.groupby(["arm", "seed"])["temperature"].agg(["first", "last", "min", "max", "nunique"])
    by_model["moved"] = (by_model["max"] - by_model["min"]) / by_model["first"]
    statements = []
    for arm in study.arm_names:
        if arm not in by_model.index:
            continue
        models = by_model.loc[arm]
        if (models["nunique"] > 1).any() and (models["moved"] < STILL).all():
            first, last = (number(models[name].mean(), 3) for name in ("first", "last"))
            moved = f"only from {first} to {last}" if first != last else f"hardly from {first}"
            statements.append(
                f"The learned temperature of {study.label(arm)} moved {moved} in this run: the arm shows "
                "what training at about that temperature does, not what learning it does."
            )
    return statements


def _data_and_models(results: Results) -> list[str]:
    rows = results.quoted_rows
    statements = []
    if (rows["dataset"] == "emoji").any():
        statements.append(
            "Emoji are small, clean drawings of one thing each, with short names: results on them say "
            "little about photographs and captions."
        )
    if rows["dataset"].str.startswith("scenes").any():
        statements.append(
            "Scenes are drawings pasted on plain grounds, with captions of a small grammar and factors drawn "
            "apart: what causes an effect there need not be what causes it on photographs."
        )
    seen = rows["pairs_seen"].dropna()
    if len(seen):
        pairs = _from_to(f"{int(seen.min()):,}", f"{int(seen.max()):,}")
        statements.append(
            f"The models are small and saw {pairs} image-text pairs, repeats counted: they say little "
            "about released CLIPs, which are larger and saw far more."
        )
    if rows["dataset"].nunique() == 1:
        statements.append("One dataset is measured; nothing here shows that a result holds on another.")
    return statements
