"""The questions of docs/plan.md, answered from the rows of the study by its rule."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from analysis import MARGIN
from analysis.claims import Claim, Statement, decide, p_value
from analysis.designs import MENTION, ArmRoles
from analysis.effects import MINUS_NATIVE, AskedContrast, answers, evidence_of, of, of_one_dataset
from analysis.leading import Headline, at, of_headline
from analysis.quantities import model_values
from analysis.responses import mentioned
from analysis.results import Results, compute
from analysis.stats.association import Slope, slope_over_models
from analysis.stats.evidence import Evidence, deciding, negligible, side
from analysis.stats.families import benjamini_hochberg, holm
from analysis.study import RecordedStudy, of_arms
from crossgap.metrics.intervals import Bootstrap
from crossgap.reading.quoting import MODEL, quoted, quoted_queries
from crossgap.reading.treatment import flat
from crossgap.vocabulary import INVERSIONS, ROUTE_WORDS

# the recipes whose gain is followed over what captions say, with the modalities (Q6)
FOLLOWED = (("baseline", "image"), ("image-image", "image"), ("baseline", "text"))
FACTORS = ("object", "colour", "place")  # that captions always name at mention 1 (Q9)
NAMED_ALWAYS = 1.0


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One effect: ``question`` it belongs to, what it is ``of``, its evidence, p, and what it comes to.

    ``p`` is corrected: by Holm over the family of Q6 and Q9, by Benjamini-Hochberg (q) over the maps of Q8.
    """

    question: str
    about: str
    of: str
    modality: str
    evidence: Evidence | None
    p: float = float("nan")
    verdict: str = "not measured"


@dataclass(frozen=True, kw_only=True)
class Findings:
    """All answers of one world.

    ``alike`` are the arms whose captions are made as the baseline's are; ``results``, which the claims are
    judged on, is of these. ``gains``: what inversion adds to native mAP in each arm, by modality and arm.
    ``slopes``: gain over gap of those arms, and of all, by modality.
    """

    study: RecordedStudy
    alike: tuple[str, ...]
    results: Results
    gains: Mapping[tuple[str, str], Evidence]
    answers: tuple[Answer, ...]
    slopes: Mapping[str, tuple[Slope, Slope]]

    def claim(self, number: int, modality: str) -> Claim:
        """Find one of the paper's claims about a modality."""
        return next(one for one in self.results.claims if (one.number, one.modality) == (number, modality))

    def where(self, modality: str) -> Headline:
        """Find the leading task of a modality."""
        return next(one for one in self.results.wheres if one.modality == modality)

    def to(self, question: str, about: str = "", modality: str = "") -> list[Answer]:
        """List the answers to a question, of one recipe, task or map and of one modality where named."""
        return [
            one
            for one in self.answers
            if one.question == question and about in ("", one.about) and modality in ("", one.modality)
        ]

    def verdict(self, question: str, about: str = "", modality: str = "") -> str:
        """Say what several effects come to: supported by all, contradicted by one, else undecided."""
        verdicts = {one.verdict for one in self.to(question, about, modality)}
        if "contradicted" in verdicts:
            return "contradicted"
        return "supported" if verdicts == {"supported"} else "undecided"


def answer(study: RecordedStudy, bootstrap: Bootstrap, *, margin: float = MARGIN) -> Findings:
    """Answer the questions of one world.

    Claims are judged on the arms whose captions say what the baseline's do (Q1 to Q5, Q7, Q8). A world whose
    captions are not varied has no answers to Q6 and Q9.
    """
    alike = ArmRoles(study).arms_of_same_data
    results = compute(of_arms(study, alike), bootstrap, margin=margin)
    rows = quoted(study.rows)
    values, queries = model_values(rows), quoted_queries(study.per_query, rows)
    wheres = results.wheres
    alpha = 1 - bootstrap.level
    family = [
        *_over_mention(study, queries, wheres, bootstrap),
        *_always_named(study, queries, wheres, bootstrap),
    ]
    corrected = (
        holm([p_value(one.evidence, several_models=True) for one in family]).tolist() if family else []
    )
    judged = [_judged(replace(one, p=p), alpha, margin) for one, p in zip(family, corrected, strict=True)]
    return Findings(
        study=study,
        alike=tuple(alike),
        results=results,
        gains=_gains(study, queries, wheres, bootstrap),
        answers=(*judged, *_maps(study, results, bootstrap, margin)),
        slopes={
            where.modality: (
                _slope(results.values, where, bootstrap.level),
                _slope(values, where, bootstrap.level),
            )
            for where in reversed(wheres)
        },
    )


def gains_of_routes(found: Findings, modality: str, arm: str | None = None) -> dict[str, Evidence]:
    """Give what each route adds to native mAP in an arm, by default the baseline, by route."""
    here = at(of_one_dataset(of(found.results.effects, MINUS_NATIVE)), found.where(modality))
    here = here[(here["arm"] == (arm or found.study.baseline)) & (here["route"] != "chance")]
    said = {row["route"]: evidence_of(row) for _, row in here.iterrows()}
    return {route: evidence for route, evidence in said.items() if evidence is not None}


def _gains(
    study: RecordedStudy, queries: pd.DataFrame, wheres: Sequence[Headline], bootstrap: Bootstrap
) -> dict[tuple[str, str], Evidence]:
    """Bound what inversion adds to native mAP in each arm."""
    asked = [
        AskedContrast("mAP", modality, INVERSIONS[modality], "native", (arm,))
        for modality in dict.fromkeys(where.modality for where in wheres)
        for arm in study.arm_names
    ]
    said = answers(asked, queries, wheres, bootstrap=bootstrap)
    return {(one.modality, one.arms[0]): evidence for one, evidence in said.items() if evidence}


def _over_mention(
    study: RecordedStudy, queries: pd.DataFrame, wheres: Sequence[Headline], bootstrap: Bootstrap
) -> list[Answer]:
    """Subtract the gain at each mention from that at the next lower one, for the recipes followed (Q6)."""
    ladders = mentioned(study)
    found = []
    for recipe, modality in FOLLOWED:
        doses = next((list(ladder.doses.items()) for ladder in ladders if recipe in ladder.doses), [])
        for (less, low), (more, high) in itertools.pairwise(doses):
            asked = AskedContrast("mAP", modality, INVERSIONS[modality], "native", (less,), (more,))
            evidence = answers([asked], queries, wheres, bootstrap=bootstrap)[asked]
            words = f"G({low:g}) − G({high:g})"
            found.append(Answer(question="Q6", about=recipe, of=words, modality=modality, evidence=evidence))
    return found


def _always_named(
    study: RecordedStudy, queries: pd.DataFrame, wheres: Sequence[Headline], bootstrap: Bootstrap
) -> list[Answer]:
    """Bound the gain of the models whose captions always name all factors, on each factor's task (Q9)."""
    arms = tuple(arm for arm, config in study.configs.items() if flat(config).get(MENTION) == NAMED_ALWAYS)
    found = []
    for where in list(wheres) * bool(arms):
        for factor in FACTORS:
            task = f"{where.modality}-{factor}"
            asked = AskedContrast("mAP", where.modality, where.route, "native", arms)
            here = [where._replace(task=task)]
            evidence = answers([asked], queries, here, bootstrap=bootstrap)[asked]
            found.append(
                Answer(
                    question="Q9",
                    about=task,
                    of=f"{where.route.upper()} minus native, {task}",
                    modality=where.modality,
                    evidence=evidence,
                )
            )
    return found


def _judged(one: Answer, alpha: float, margin: float) -> Answer:
    """Judge an effect of the family of Q6 and Q9."""
    if one.question == "Q6":
        statement = Statement(text=one.of, role="effect", kind="above", evidence=one.evidence, p_holm=one.p,
                              between_arms=True)  # fmt: skip
        return replace(one, verdict=decide(statement, alpha, margin).verdict)
    if one.evidence is None:
        return one
    bounds = deciding(one.evidence)
    if all(low > -margin for low, _ in bounds):
        return replace(one, verdict="supported")
    hurts = side(one.evidence, beyond=margin) < 0 and one.p <= alpha
    return replace(one, verdict="contradicted" if hurts else "undecided")


def _maps(study: RecordedStudy, results: Results, bootstrap: Bootstrap, margin: float) -> Iterable[Answer]:
    """Compare each map that needs no training with inversion, in the baseline (Q8)."""
    lead = ArmRoles(study).lead
    found = []
    for where in results.wheres:
        measured = results.mean_ap[results.mean_ap["task"] == where.task]["route"].unique()
        routes = [route for route in ROUTE_WORDS if route in measured and ROUTE_WORDS[route].family == "map"]
        asked = [AskedContrast("mAP", where.modality, route, where.route, lead) for route in routes]
        said = answers(asked, results.queries, [where], bootstrap=bootstrap)
        found += [
            Answer(
                question="Q8",
                about=question.route,
                of=f"{question.route} minus {where.route}",
                modality=where.modality,
                evidence=said[question],
            )
            for question in asked
        ]
    q_values = (
        benjamini_hochberg([p_value(one.evidence, several_models=True) for one in found]).tolist()
        if found
        else []
    )
    for one, q in zip(found, q_values, strict=True):
        if one.evidence is not None:
            beyond = side(one.evidence)
            same = negligible(one.evidence, margin)
            word = "the same" if same else {1: "more", -1: "less"}.get(beyond, "undecided")
            one = replace(one, p=q, verdict=word)
        yield one


def _slope(values: pd.DataFrame, where: Headline, level: float) -> Slope:
    """Follow the gain over the gap, arm by arm, also with native mAP held equal (Q7)."""
    here = values[(values["quantity"] == "centroid_distance") & (values["dataset"] == where.dataset)]
    models = here.groupby(MODEL)["value"].mean().rename("gap").reset_index()
    for quantity in ("gain", "native"):
        of_quantity = of_headline(values, where, quantity).rename(columns={"value": quantity})
        models = models.merge(of_quantity, on=MODEL)
    return slope_over_models(models, "gap", "gain", held="native", level=level)
