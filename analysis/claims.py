"""The five claims of the paper: what each has to show, and whether these data support or contradict it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import pandas as pd

from analysis import typeset
from analysis.designs import ArmRoles
from analysis.effects import AskedContrast, answer_to, evidence_of
from analysis.leading import CONTROLS
from analysis.stats.association import Slope
from analysis.stats.evidence import Evidence, Verdict, negligible, side
from analysis.stats.families import holm
from analysis.study import RecordedStudy
from crossgap.vocabulary import INVERSIONS, ROUTE_WORDS

Kind = Literal["above", "below", "negligible"]
Role = Literal["effect", "control", "further"]

_PARTNER = {"image": "images", "text": "texts"}
_ALWAYS = ("untrained_tokens", "class_pca")
_FURTHER_CONTROLS = (*CONTROLS, "shuffled_targets", "random_rotation", "oti_both", "ovi_both", "procrustes",
                     "whitened", "caption_pca", "image_pca")  # fmt: skip
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
    ``asked`` is the effect that decides, with its ``evidence``, or, where ``of_slope``, the ``slope``.
    ``note`` says what the numbers are of, or why there are none; ``averaged``: which side of the effect it
    names. ``optional``: without a measurement there is no such statement. ``p_holm`` is set for effects.
    """

    text: str
    role: Role
    kind: Kind
    asked: AskedContrast | None = None
    averaged: Literal["", "arms", "minus"] = ""
    of_slope: bool = False
    optional: bool = False
    evidence: Evidence | None = None
    slope: Slope | None = None
    note: str = ""
    between_arms: bool = False
    p_holm: float = float("nan")
    verdict: Verdict = "not measured"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim about one modality, its statements and what they come to; ``words`` say it of both."""

    number: int
    modality: str
    title: str
    words: str
    statements: tuple[Statement, ...]
    verdict: Verdict = "not measured"


def drafts(
    study: RecordedStudy, values: pd.DataFrame, routes: Mapping[str, Collection[str]]
) -> tuple[Claim, ...]:
    """State the claims, for each modality that has a leading task, with what each asks of the effects.

    Args:
        values: what :func:`analysis.quantities.model_values` returns.
        routes: those that were measured on the leading tasks of each modality.
    """
    parts = ArmRoles(study)
    stated = (
        claim
        for modality, measured in routes.items()
        for claim in (
            _misaligned(parts, modality),
            _crossing_helps(parts, modality, measured),
            _crossing_hurts(parts, modality),
            _term_removes(parts, modality),
            _closing_removes(parts, modality, values),
        )
    )
    return tuple(sorted(stated, key=lambda claim: claim.number))


def asked_by(claims: Iterable[Claim]) -> list[AskedContrast]:
    """List what claims ask of the effects."""
    return [
        statement.asked for claim in claims for statement in claim.statements if statement.asked is not None
    ]


def judge(
    study: RecordedStudy,
    claims: Sequence[Claim],
    table: pd.DataFrame,
    slopes: Mapping[str, Slope],
    *,
    alpha: float,
    margin: float,
) -> tuple[Claim, ...]:
    """Judge the claims; what was not measured is named.

    Args:
        claims: what :func:`drafts` returns.
        table: effects, those that the claims ask for among them.
        slopes: gain over gap by modality, on the first of its leading tasks.
        margin: what counts as nothing, a fraction of mAP or accuracy.
    """
    filled = [
        replace(claim, statements=_filled(study, claim.statements, table, slopes[claim.modality]))
        for claim in claims
    ]
    effects = [statement for claim in filled for statement in claim.statements if statement.role == "effect"]
    asked = [
        statement for statement in effects if not statement.between_arms or ArmRoles(study).compares_arms
    ]
    p_holm = (
        holm([p_value(one.evidence, several_models=one.between_arms) for one in asked]).tolist()
        if asked
        else []
    )
    corrected = {id(statement): p for statement, p in zip(asked, p_holm, strict=True) if statement.evidence}
    judged = []
    for claim in filled:
        measured = [
            statement for statement in claim.statements if statement.evidence or not statement.optional
        ]
        statements = [
            replace(statement, p_holm=corrected.get(id(statement), float("nan"))) for statement in measured
        ]
        judged.append(_concluded(claim, tuple(decide(statement, alpha, margin) for statement in statements)))
    return tuple(judged)


def _filled(
    study: RecordedStudy, statements: Sequence[Statement], table: pd.DataFrame, slope: Slope
) -> tuple[Statement, ...]:
    """Put the effects that statements ask for into them, and say of which arms a mean is."""
    filled = []
    for statement in statements:
        if statement.of_slope:
            few = pd.isna(slope.partial_low)
            note = f"partial correlation over {typeset.counted(slope.n_arms, 'arm')}"
            note += ": too few or too alike for an interval" * few
            filled.append(replace(statement, slope=None if few else slope, note=note))
        elif statement.asked is None:
            filled.append(statement)
        else:
            row = answer_to(table, statement.asked)
            of = statement.averaged and _mean_over(
                study, getattr(statement.asked, statement.averaged), row[statement.averaged]
            )
            filled.append(replace(statement, evidence=evidence_of(row), note=of + statement.note))
    return tuple(filled)


def p_value(evidence: Evidence | None, *, several_models: bool) -> float:
    """Return the p of an effect; 1 where it could not be tested, so that the family stays as large.

    Args:
        several_models: whether one model is too few to test it.
    """
    if evidence is None or (several_models and evidence.models.n < 2):
        return 1.0
    return 1.0 if pd.isna(evidence.p) else evidence.p


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
    direction = side(evidence)
    if statement.role == "effect" and not statement.p_holm <= alpha:
        direction = 0
    wanted = 1 if statement.kind == "above" else -1
    if small or direction == -wanted:
        return replace(statement, verdict="contradicted")
    return replace(statement, verdict="supported" if direction == wanted else "undecided")


def _concluded(claim: Claim, statements: tuple[Statement, ...]) -> Claim:
    """Call a claim by :data:`RULE`."""
    counted = [statement for statement in statements if statement.role != "further"]
    verdicts = [statement.verdict for statement in counted]
    verdict: Verdict = "undecided"
    if all(statement.verdict == "not measured" for statement in counted if statement.role == "effect"):
        verdict = "not measured"
    elif "contradicted" in verdicts:
        verdict = "contradicted"
    elif set(verdicts) == {"supported"}:
        verdict = "supported"
    return replace(claim, statements=statements, verdict=verdict)


def _misaligned(parts: ArmRoles, modality: str) -> Claim:
    def gain(over: str, minus: tuple[str, ...] = ()) -> AskedContrast:
        return AskedContrast("mAP", modality, "class_pca", over, parts.lead, minus)

    partner = _PARTNER[modality]
    alone = tuple(parts.arms_alone(modality))
    return Claim(
        number=1,
        modality=modality,
        title=f"Similarity among {partner} is misaligned in models trained across modalities",
        words="Similarity is misaligned",
        statements=(
            Statement(
                text="class-name PCA, which inverts nothing, retrieves better than native features",
                role="effect",
                kind="above",
                asked=gain("native"),
            ),
            Statement(
                text="it does better than a random subspace of equal rank",
                role="control",
                kind="above",
                asked=gain("random_subspace"),
            ),
            Statement(
                text=f"it gains more than in a model trained on {partner} alone",
                role="control",
                kind="above",
                asked=gain("native", alone) if alone else None,
                between_arms=True,
                note="" if alone else f"no arm was trained on {partner} alone" + _untold(parts),
            ),
        ),
    )


def _crossing_helps(parts: ArmRoles, modality: str, measured: Collection[str]) -> Claim:
    route = INVERSIONS[modality]
    controls = dict.fromkeys((*_ALWAYS, *(name for name in _FURTHER_CONTROLS if name in measured)))
    return Claim(
        number=2,
        modality=modality,
        title=f"Inverting the query, so that retrieval among {_PARTNER[modality]} crosses modalities, helps",
        words="Inverting the query helps",
        statements=(
            Statement(
                text=f"{route.upper()} retrieves better than native features",
                role="effect",
                kind="above",
                asked=AskedContrast("mAP", modality, route, "native", parts.lead),
            ),
            *(
                Statement(
                    text=f"{route.upper()} retrieves better than {ROUTE_WORDS[name].words}",
                    role="control",
                    kind="above",
                    asked=AskedContrast("mAP", modality, route, name, parts.lead),
                    optional=name not in _ALWAYS,
                )
                for name in controls
            ),
        ),
    )


def _crossing_hurts(parts: ArmRoles, modality: str) -> Claim:
    route = INVERSIONS[modality]
    what = {"image": "the image", "text": "the prompt"}[modality]
    of_images = modality == "image"
    return Claim(
        number=3,
        modality=modality,
        title=f"Inverting {what} of zero-shot classification, so that it stays within a modality, hurts",
        words="Inverting hurts zero-shot classification",
        statements=(
            Statement(
                text=f"accuracy is lower with {what} inverted ({route.upper()})",
                role="effect",
                kind="below",
                asked=AskedContrast("hit@1", modality, route, "native", parts.lead),
            ),
            Statement(
                text=f"it is lower, too, where ridge regression takes {what} across instead",
                role="control",
                kind="below",
                asked=AskedContrast("hit@1", modality, "ridge", "native", parts.lead) if of_images else None,
                note="" if of_images else "ridge regression takes images across, not prompts",
            ),
        ),
    )


def _term_removes(parts: ArmRoles, modality: str) -> Claim:
    arms, views = tuple(parts.arms_with_term(modality)), tuple(parts.arms_with_views())
    route = INVERSIONS[modality]
    within = f"an {modality}-{modality} term" if modality == "image" else f"a {modality}-{modality} term"
    missing = f"no arm adds {within} alone"
    return Claim(
        number=4,
        modality=modality,
        title=f"{within.capitalize()} in training makes the gain of {route.upper()} smaller",
        words="A term within the modality shrinks the gain",
        statements=(
            _shrinks(parts, modality, arms, missing),
            Statement(
                text="it is smaller than with the views or the time of the term alone",
                role="control",
                kind="below",
                asked=AskedContrast("mAP", modality, route, "native", arms, views) if views else None,
                averaged="minus" if views else "",
                between_arms=True,
                note="" if views else "no arm has them without the term",
            ),
            _gone(modality, arms, missing),
        ),
    )


def _closing_removes(parts: ArmRoles, modality: str, values: pd.DataFrame) -> Claim:
    arms = tuple(parts.arms_that_close(values))
    missing = "no arm keeps at most half of the baseline's gap"
    return Claim(
        number=5,
        modality=modality,
        title=f"Closing the modality gap makes the gain of {INVERSIONS[modality].upper()} smaller",
        words="Closing the gap shrinks the gain",
        statements=(
            _shrinks(parts, modality, arms, missing),
            Statement(
                text="over arms of the same data, the gain grows with the gap where native mAP is held equal",
                role="control",
                kind="above",
                of_slope=True,
                between_arms=True,
            ),
            _gone(modality, arms, missing),
        ),
    )


def _shrinks(parts: ArmRoles, modality: str, arms: tuple[str, ...], missing: str) -> Statement:
    return Statement(
        text="the gain is smaller than the baseline's",
        role="effect",
        kind="below",
        asked=AskedContrast("mAP", modality, INVERSIONS[modality], "native", arms, parts.lead)
        if arms
        else None,
        averaged="arms" if arms else "",
        between_arms=True,
        note=missing * (not arms) + _untold(parts),
    )


def _gone(modality: str, arms: tuple[str, ...], missing: str) -> Statement:
    return Statement(
        text="it is gone: what is left is negligible",
        role="further",
        kind="negligible",
        asked=AskedContrast("mAP", modality, INVERSIONS[modality], "native", arms) if arms else None,
        averaged="arms" if arms else "",
        between_arms=True,
        note=missing * (not arms),
    )


def _mean_over(study: RecordedStudy, arms: Sequence[str], counted: Sequence[str]) -> str:
    """Name the arms whose mean counts, and those that it goes without."""
    lost = [arm for arm in arms if arm not in counted]
    parts = [f"mean over {_named(study, counted)}"] * bool(counted)
    parts += [f"without {_named(study, lost)}: models are missing"] * bool(lost)
    return "; ".join(parts)


def _untold(parts: ArmRoles) -> str:
    """Say which arms could not be counted, because it is not known what their terms act on."""
    if not parts.untold:
        return ""
    return (
        "; not counted, as config.json does not say what a term acts on (an earlier version trained it): "
        + _named(parts.study, parts.untold)
    )


def _named(study: RecordedStudy, arms: Sequence[str]) -> str:
    if len(arms) > 4:
        return f"{len(arms)} arms"
    return "; ".join(study.label(arm) for arm in arms)
