"""The five claims of the paper: what each has to show, and whether these data support or contradict it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import pandas as pd

from analysis.comparisons import of_headline
from analysis.contrasts import between
from analysis.design import changes
from analysis.evidence import (
    Evidence,
    Verdict,
    arms_in,
    average_arms,
    gather,
    negligible,
    side,
)
from analysis.stats.association import Slope, slope_over_models
from analysis.stats.families import holm
from analysis.study import Study
from analysis.tables import CONTROLS, Headline, at
from crossgap.metrics.intervals import Bootstrap, paired_difference
from crossgap.reading.quoting import MODEL, SIDE
from crossgap.reading.treatment import WEIGHT, Value, flat
from crossgap.vocabulary import ROUTE_WORDS

Kind = Literal["above", "below", "negligible"]
Role = Literal["effect", "control", "further"]

CLOSED = 0.5  # share of the baseline's gap that an arm may keep, in every seed, to count as closing it
RULE = (
    "A statement is supported where its interval lies on the side that it names: the interval over models "
    "and queries at once; where there are too few models for one, both the interval over queries (classes "
    "resampled) and that over models (t). It is contradicted where the interval lies on the other side, or "
    "within ±{margin:g} points, which count as nothing (two one-sided tests); otherwise it is undecided. "
    "The effects of all claims are one family, whether all could be tested or not: they count only where "
    "Holm's corrected p is at most {alpha:g}. A claim is contradicted where its effect or a control is, "
    "supported where all of them are, and undecided otherwise; a control that was not measured leaves it "
    "undecided. One seed decides nothing about a difference between arms; about a model it speaks for that "
    "model alone."
)


@dataclass(frozen=True, kw_only=True)
class Statement:
    """One thing that a claim says, with the numbers that bear on it.

    ``role``: the effect itself, a control that it has to survive, or something further that does not count.
    ``note`` says what the numbers are of, or why there are none. ``p_holm`` is set for effects.
    """

    text: str
    role: Role
    kind: Kind
    evidence: Evidence | None = None
    slope: Slope | None = None
    note: str = ""
    between_arms: bool = False
    p_holm: float = float("nan")
    verdict: Verdict = "not measured"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim about one modality, its statements and what they come to."""

    number: int
    modality: str
    title: str
    statements: tuple[Statement, ...]
    verdict: Verdict = "not measured"


def judge(
    study: Study,
    queries: pd.DataFrame,
    values: pd.DataFrame,
    wheres: Sequence[Headline],
    *,
    bootstrap: Bootstrap,
    margin: float,
) -> tuple[Claim, ...]:
    """Judge the claims, for each modality that has a leading task; what was not measured is named.

    Args:
        queries: quoted per-query values.
        values: what :func:`analysis.comparisons.model_values` returns.
        wheres: the leading tasks; those of one modality on several datasets are averaged.
        margin: what counts as nothing, a fraction of mAP or accuracy.
    """
    alpha = 1 - bootstrap.level
    data = _Data(study, queries, values, tuple(wheres), bootstrap)
    drafts = sorted(
        (
            claim
            for modality in dict.fromkeys(where.modality for where in wheres)
            for claim in (
                _misaligned(data, modality),
                _crossing_helps(data, modality),
                _crossing_hurts(data, modality),
                _term_removes(data, modality),
                _closing_removes(data, modality),
            )
        ),
        key=lambda claim: claim.number,
    )
    effects = [one for claim in drafts for one in claim.statements if one.role == "effect"]
    asked = [one for one in effects if not one.between_arms or data.compares_arms]
    p_holm = holm([_p_value(one) for one in asked]).tolist() if asked else []
    corrected = {id(one): p for one, p in zip(asked, p_holm, strict=True) if one.evidence}
    judged = []
    for claim in drafts:
        statements = [replace(one, p_holm=corrected.get(id(one), float("nan"))) for one in claim.statements]
        judged.append(_concluded(claim, tuple(decide(one, alpha, margin) for one in statements)))
    return tuple(judged)


def _p_value(statement: Statement) -> float:
    """Return the p of an effect; 1 where it could not be tested, so that the family stays as large."""
    found = statement.evidence
    if found is None or (statement.between_arms and found.models.n < 2):
        return 1.0
    return 1.0 if pd.isna(found.p) else found.p


def decide(statement: Statement, alpha: float, margin: float) -> Statement:
    """Call one statement by :data:`RULE`."""
    if statement.slope is not None:
        low, high = statement.slope.partial_low, statement.slope.partial_high
        verdict: Verdict = "supported" if low > 0 else "contradicted" if high < 0 else "undecided"
        return replace(statement, verdict=verdict)
    evidence = statement.evidence
    if evidence is None:
        return statement
    if statement.between_arms and evidence.models.n < 2:
        note = "; ".join(filter(None, (statement.note, "one seed cannot tell arms apart")))
        return replace(statement, verdict="undecided", note=note)
    small = negligible(evidence, margin)
    if statement.kind == "negligible":
        outside = side(evidence, beyond=margin) != 0
        verdict = "supported" if small else "contradicted" if outside else "undecided"
        return replace(statement, verdict=verdict)
    found = side(evidence)
    if statement.role == "effect" and not statement.p_holm <= alpha:
        found = 0
    wanted = 1 if statement.kind == "above" else -1
    if small or found == -wanted:
        return replace(statement, verdict="contradicted")
    return replace(statement, verdict="supported" if found == wanted else "undecided")


def _concluded(claim: Claim, statements: tuple[Statement, ...]) -> Claim:
    """Call a claim by :data:`RULE`."""
    counted = [one for one in statements if one.role != "further"]
    verdicts = [one.verdict for one in counted]
    verdict: Verdict = "undecided"
    if all(one.verdict == "not measured" for one in counted if one.role == "effect"):
        verdict = "not measured"
    elif "contradicted" in verdicts:
        verdict = "contradicted"
    elif set(verdicts) == {"supported"}:
        verdict = "supported"
    return replace(claim, statements=statements, verdict=verdict)


@dataclass(frozen=True)
class _Data:
    """The per-query values of a study, and which arms play which part in the claims."""

    study: Study
    queries: pd.DataFrame
    values: pd.DataFrame
    wheres: tuple[Headline, ...]
    bootstrap: Bootstrap

    @cached_property
    def changed(self) -> dict[str, dict[str, Value]]:
        return changes(self.study.configs, self.study.baseline)

    @property
    def lead(self) -> list[str]:
        """Name the arm that the claims about one model are about: the baseline, or the first without one."""
        return [self.study.baseline or self.study.arm_names[0]]

    @property
    def compares_arms(self) -> bool:
        """Tell whether the study asks what arms change: it has a baseline and other arms."""
        return self.study.baseline is not None and len(self.study.arms) > 1

    def inverted(self, modality: str) -> str:
        return next(where.route for where in self.wheres if where.modality == modality)

    @cached_property
    def leading(self) -> dict[str, dict[str, pd.DataFrame]]:
        """Per-query mAP of the leading tasks by modality and route."""
        mean_ap = self.queries[self.queries["metric"] == "mAP"]
        found = {}
        for modality in dict.fromkeys(where.modality for where in self.wheres):
            here = pd.concat([at(mean_ap, where) for where in self.wheres if where.modality == modality])
            found[str(modality)] = {str(route): rows for route, rows in here.groupby("route", sort=False)}
        return found

    def within(self, modality: str, route: str, reference: str) -> pd.DataFrame:
        """Subtract mAP by ``reference`` from that by ``route`` for each model and query."""
        return _paired(self.leading[modality], route, reference)

    def zero_shot(self, route: str) -> pd.DataFrame:
        """Subtract native zero-shot accuracy from that by ``route`` for each model and query."""
        return _paired(self.classified, route, "native")

    @cached_property
    def classified(self) -> dict[str, pd.DataFrame]:
        """Per-query accuracy of the first zero-shot task of each dataset, by route."""
        tasks = self.queries["task"].str.startswith("zero-shot") & (self.queries["metric"] == "hit@1")
        queries = self.queries[tasks]
        first = queries.groupby("dataset")["task"].transform("first")
        here = queries[queries["task"] == first]
        return {str(route): rows for route, rows in here.groupby("route", sort=False)}

    def of(self, differences: pd.DataFrame, arms: Sequence[str]) -> pd.DataFrame:
        """Average over arms, seed by seed: models that differ in more than their seed are never pooled."""
        return average_arms(differences, arms)

    def evidence(self, differences: pd.DataFrame) -> Evidence | None:
        return gather(differences, bootstrap=self.bootstrap)

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
        known = ("image", "text", "both", "across")
        return [
            arm
            for arm, changed in self.changed.items()
            if {name for name in changed if name.startswith(WEIGHT)} - self.weights(arm, *known)
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
        known = {f"{WEIGHT}clip", second}
        return [
            arm
            for arm, changed in self.changed.items()
            if set(changed) == {"steps"} <= self.raised[arm]
            or (
                second in self.raised[arm]
                and all(name in known or name.startswith(_VIEWS) for name in changed)
            )
        ]

    def arms_of_images_alone(self) -> list[str]:
        """Name the arms that differ in their terms alone, all of which act on images."""
        alone = []
        for arm, changed in self.changed.items():
            own = flat(self.study.configs[arm])
            active = {name for name, value in own.items() if name.startswith(WEIGHT) and _number(value) > 0}
            terms_alone = bool(changed) and all(name.startswith(WEIGHT) for name in changed)
            if terms_alone and active and active <= self.weights(arm, "image"):
                alone.append(arm)
        return alone

    def arms_that_close(self) -> list[str]:
        """Name the arms without a term within a modality that keep at most half of the baseline's gap."""
        gaps = self.values[self.values["quantity"] == "centroid_distance"]
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
        return [arm for arm in self.study.arm_names if arm in closed]


_VIEWS = ("extra_augment", "augment.text_dropout")
_WITHIN = ("image", "text", "both")  # what a term within a modality acts on
_PARTNER = {"image": "images", "text": "texts"}
_ALWAYS = ("untrained_tokens", "class_pca")
_FURTHER_CONTROLS = (*CONTROLS, "shuffled_targets", "random_rotation", "oti_both", "ovi_both", "procrustes",
                     "whitened", "caption_pca", "image_pca")  # fmt: skip


def _number(value: Value) -> float:
    """Read a setting as a number; what is none is not larger than anything."""
    return float(value) if isinstance(value, int | float) else float("nan")


def _paired(by_route: dict[str, pd.DataFrame], route: str, reference: str) -> pd.DataFrame:
    keys = ["arm", "seed", "dataset", "query_id", "query_class"]
    if route not in by_route or reference not in by_route:
        return pd.DataFrame(columns=[*keys, "value"])
    on = [*SIDE, *MODEL]
    change = paired_difference(by_route[route], by_route[reference], on=on, by=[*on, "inversion_seed"])
    return change.groupby(keys, sort=False)["value"].mean().reset_index()


def _misaligned(data: _Data, modality: str) -> Claim:
    gain = data.within(modality, "class_pca", "native")
    over_random = data.within(modality, "class_pca", "random_subspace")
    alone = data.arms_of_images_alone() if modality == "image" else []
    difference = between(gain, data.lead, alone) if alone else pd.DataFrame()
    return Claim(
        number=1,
        modality=modality,
        title=f"Similarity among {_PARTNER[modality]} is misaligned in models trained across modalities",
        statements=(
            Statement(
                text="class-name PCA, which inverts nothing, retrieves better than native features",
                role="effect",
                kind="above",
                evidence=data.evidence(data.of(gain, data.lead)),
            ),
            Statement(
                text="it does better than a random subspace of equal rank",
                role="control",
                kind="above",
                evidence=data.evidence(data.of(over_random, data.lead)),
            ),
            Statement(
                text=f"it gains more than in a model trained on {_PARTNER[modality]} alone",
                role="control",
                kind="above",
                evidence=data.evidence(difference) if alone else None,
                between_arms=True,
                note="" if alone else _with_untold(data, f"no arm was trained on {_PARTNER[modality]} alone"),
            ),
        ),
    )


def _crossing_helps(data: _Data, modality: str) -> Claim:
    route = data.inverted(modality)
    measured = data.leading[modality].keys()
    controls = [
        name for name in dict.fromkeys((*_ALWAYS, *_FURTHER_CONTROLS)) if name in (*_ALWAYS, *measured)
    ]
    found = {name: data.evidence(data.of(data.within(modality, route, name), data.lead)) for name in controls}
    return Claim(
        number=2,
        modality=modality,
        title=f"Inverting the query, so that retrieval among {_PARTNER[modality]} crosses modalities, helps",
        statements=(
            Statement(
                text=f"{route.upper()} retrieves better than native features",
                role="effect",
                kind="above",
                evidence=data.evidence(data.of(data.within(modality, route, "native"), data.lead)),
            ),
            *(
                Statement(
                    text=f"{route.upper()} retrieves better than {ROUTE_WORDS[name].words}",
                    role="control",
                    kind="above",
                    evidence=evidence,
                )
                for name, evidence in found.items()
                if evidence or name in _ALWAYS
            ),
        ),
    )


def _crossing_hurts(data: _Data, modality: str) -> Claim:
    route = data.inverted(modality)
    what = {"image": "the image", "text": "the prompt"}[modality]
    return Claim(
        number=3,
        modality=modality,
        title=f"Inverting {what} of zero-shot classification, so that it stays within a modality, hurts",
        statements=(
            Statement(
                text=f"accuracy is lower with {what} inverted ({route.upper()})",
                role="effect",
                kind="below",
                evidence=data.evidence(data.of(data.zero_shot(route), data.lead)),
            ),
            Statement(
                text=f"it is lower, too, where ridge regression takes {what} across instead",
                role="control",
                kind="below",
                evidence=data.evidence(data.of(data.zero_shot("ridge"), data.lead))
                if modality == "image"
                else None,
                note="" if modality == "image" else "ridge regression takes images across, not prompts",
            ),
        ),
    )


def _term_removes(data: _Data, modality: str) -> Claim:
    arms, views = data.arms_with_term(modality), data.arms_with_views()
    route = data.inverted(modality)
    gain = data.within(modality, route, "native")
    within = f"an {modality}-{modality} term" if modality == "image" else f"a {modality}-{modality} term"
    of = _mean_over(data, gain, arms) if arms else f"no arm adds {within} alone"
    return Claim(
        number=4,
        modality=modality,
        title=f"{within.capitalize()} in training makes the gain of {route.upper()} smaller",
        statements=(
            _shrinks(data, gain, arms, _with_untold(data, of)),
            Statement(
                text="it is smaller than with the views or the time of the term alone",
                role="control",
                kind="below",
                evidence=_less(data, gain, arms, views),
                between_arms=True,
                note=_mean_over(data, gain, views) if views else "no arm has them without the term",
            ),
            _gone(data, gain, arms, of),
        ),
    )


def _closing_removes(data: _Data, modality: str) -> Claim:
    arms = data.arms_that_close()
    route = data.inverted(modality)
    gain = data.within(modality, route, "native")
    where = next(where for where in data.wheres if where.modality == modality)
    models = of_headline(data.values, where, "gain").rename(columns={"value": "gain"})
    native = of_headline(data.values, where, "native").rename(columns={"value": "native"})
    models = models.merge(native, on=MODEL, how="left")
    gaps = data.values[data.values["quantity"] == "centroid_distance"]
    gaps = gaps[gaps["dataset"] == where.dataset].groupby(MODEL)["value"].mean().rename("gap").reset_index()
    slope = slope_over_models(
        models.merge(gaps, on=MODEL), "gap", "gain", held="native", level=data.bootstrap.level
    )
    of = _mean_over(data, gain, arms) if arms else "no arm keeps at most half of the baseline's gap"
    few = pd.isna(slope.partial_low)
    return Claim(
        number=5,
        modality=modality,
        title=f"Closing the modality gap makes the gain of {route.upper()} smaller",
        statements=(
            _shrinks(data, gain, arms, _with_untold(data, of)),
            Statement(
                text="over arms, the gain grows with the gap where native mAP is held equal",
                role="control",
                kind="above",
                slope=None if few else slope,
                between_arms=True,
                note=f"partial correlation over {slope.n_arms} arms"
                + (": too few or too alike for an interval" if few else ""),
            ),
            _gone(data, gain, arms, of),
        ),
    )


def _shrinks(data: _Data, gain: pd.DataFrame, arms: Sequence[str], of: str) -> Statement:
    return Statement(
        text="the gain is smaller than the baseline's",
        role="effect",
        kind="below",
        evidence=_less(data, gain, arms, data.lead),
        between_arms=True,
        note=of,
    )


def _gone(data: _Data, gain: pd.DataFrame, arms: Sequence[str], of: str) -> Statement:
    return Statement(
        text="it is gone: what is left is negligible",
        role="further",
        kind="negligible",
        evidence=data.evidence(average_arms(gain, arms)) if arms else None,
        between_arms=True,
        note=of,
    )


def _less(data: _Data, gain: pd.DataFrame, arms: Sequence[str], references: Sequence[str]) -> Evidence | None:
    if not arms or not references:
        return None
    return data.evidence(between(gain, arms, references))


def _mean_over(data: _Data, gain: pd.DataFrame, arms: Sequence[str]) -> str:
    """Name the arms whose mean counts, and those that it goes without."""
    counted = arms_in(gain, arms)
    lost = [arm for arm in arms if arm not in counted]
    parts = [f"mean over {_named(data.study, counted)}"] * bool(counted)
    parts += [f"without {_named(data.study, lost)}: models are missing"] * bool(lost)
    return "; ".join(parts)


def _with_untold(data: _Data, of: str) -> str:
    """Add which arms could not be counted, because it is not known what their terms act on."""
    if not data.untold:
        return of
    return (
        f"{of}; not counted, as config.json does not say what a term acts on (an earlier version trained "
        f"it): {_named(data.study, data.untold)}"
    )


def _named(study: Study, arms: Sequence[str]) -> str:
    if len(arms) > 4:
        return f"{len(arms)} arms"
    return "; ".join(study.label(arm) for arm in arms)
