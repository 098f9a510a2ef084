"""The page of findings and its tables: numbers from the answers, sentences of the study's own folder.

Sentences about a study are written by those who read it, into ``said.md.jinja`` beside its kept rows, with
every number filled in from the answers (:func:`said`). The rest of the page comes with the code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from jinja2 import FileSystemLoader, StrictUndefined, TemplateError
from jinja2.sandbox import SandboxedEnvironment

from analysis.claims import Claim, Statement
from analysis.findings.questions import FOLLOWED, Answer, Findings, gains_of_routes
from analysis.leading import POINTS
from analysis.sheets.inferred import claims_in_files, rule_of
from analysis.stats.association import Slope
from analysis.stats.evidence import Evidence, deciding
from analysis.typeset import ABSENT, Cell, Table, counted, interval, markdown, number, p_value
from crossgap.errors import InputError
from crossgap.vocabulary import ROUTE_WORDS

TEMPLATE = "findings.md.jinja"
SAID = "said.md.jinja"
BLOCKS = ("found", "surprised", "otherwise")  # that it may set; the last one goes before the tables
MODALITIES = ("image", "text")
QUESTIONS = {
    "Q6": "does the gain follow what captions leave out? (p by Holm, with Q9)",
    "Q8": "which map without training gives the same as inversion? (p: q by Benjamini-Hochberg)",
    "Q9": "does crossing hurt nowhere, where captions always name everything? (p by Holm, with Q6)",
}
MARKS = {"supported": "✔", "contradicted": "✘", "undecided": "?", "not measured": "–"}
# What the pilots led to expect, written down in docs/plan.md: claim and modality -> the verdicts it allows.
EXPECTED = {
    (2, "image"): ("supported",),
    (2, "text"): ("contradicted", "undecided"),
    (3, "image"): ("supported",),
    (4, "image"): ("contradicted",),
    (5, "image"): ("contradicted",),
}
# What others say does as much as inversion, or more: a map, and who says so.
CRITICS = {
    "class_pca": "Herzog and Wang (arXiv 2603.16100): a projection (class-name PCA) does better",
    "isoclip": "Magistri et al. (arXiv 2603.19862): so does a band of the projectors' spectrum",
}
Worlds = Mapping[str, Findings]


def page(worlds: Worlds, folder: Path | None = None) -> str:
    """Fill the template of the page; every number in it comes from the answers.

    Args:
        worlds: what was found, by world.
        folder: of the kept studies, whose :data:`SAID` is read where there is one.
    """
    scenes = [worlds["scenes"]] if "scenes" in worlds else []
    words = said(worlds, folder)
    return (
        _environment(Path(__file__).parent)
        .get_template(TEMPLATE)
        .render(
            worlds=worlds,
            **{name: words.get(name) for name in BLOCKS},
            verdicts=_bare(verdicts(worlds)),
            models=sum(counts(found)[0] for found in worlds.values()),
            surprises=[line for found in scenes for line in surprises(found)],
            contradicted=[line for name, found in worlds.items() for line in contradicted(name, found)],
            critics=CRITICS,
            failed=[line for found in worlds.values() for line in failures(found)],
            counts=counts,
            counted=counted,
            over_native={name: _over_native(found, name) for name in CRITICS for found in scenes},
            **worlds,
        )
    )


def _over_native(found: Findings, route: str) -> dict[str, str]:
    """Give what a map adds to native mAP in the baseline, by modality."""
    return {modality: size(gains_of_routes(found, modality).get(route)) for modality in found.slopes}


def said(worlds: Worlds, folder: Path | None) -> dict[str, str]:
    """Read what was written about the studies in ``folder``: its blocks by name, numbers filled in.

    It may use each world by its name, the filters of the page, and the functions of :func:`numbers_of`. It
    runs in a sandbox. Without a folder, or a file in it, nothing was written.

    Raises:
        InputError: the file is no template, or names what the studies do not have.
    """
    if folder is None or not (folder / SAID).is_file():
        return {}
    try:
        template = _environment(folder).get_template(SAID)
        module = template.make_module({**worlds, **numbers_of(worlds)})
    except (TemplateError, LookupError) as error:
        raise InputError(
            f"{folder / SAID}: cannot be filled in ({type(error).__name__}: {error}); it may name worlds, "
            "arms and routes that the kept studies have"
        ) from error
    return {name: str(getattr(module, name)).strip() for name in BLOCKS if hasattr(module, name)}


def numbers_of(worlds: Worlds) -> dict[str, Callable[..., str]]:
    """Give the functions by which :data:`SAID` takes its numbers."""

    def gain(world: str, modality: str, arm: str = "baseline") -> str:
        """What inversion adds to native mAP."""
        return size(worlds[world].gains[modality, arm])

    def native(world: str, modality: str, arm: str = "baseline", route: str = "native") -> str:
        """Give the mAP in percent, mean over seeds."""
        found = worlds[world]
        table = found.results.mean_ap
        here = table[
            (table["task"] == found.where(modality).task) & (table["arm"] == arm) & (table["route"] == route)
        ]
        return number(POINTS * float(here["value"].mean()), 1)

    def gap(world: str, arm: str = "baseline") -> str:
        """Give the centroid distance, mean over seeds."""
        values = worlds[world].results.values
        here = values[(values["quantity"] == "centroid_distance") & (values["arm"] == arm)]
        return number(float(here["value"].mean()), 2)

    def route(world: str, modality: str, name: str, arm: str | None = None) -> str:
        """Give what a route adds to native mAP in an arm, by default the baseline."""
        return size(gains_of_routes(worlds[world], modality, arm)[name])

    return {"gain": gain, "native": native, "gap": gap, "route": route}


def _environment(folder: Path) -> SandboxedEnvironment:
    environment = SandboxedEnvironment(
        loader=FileSystemLoader(folder),
        autoescape=False,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"effect": effect_words, "size": size, "mark": marked, "slope": slope_words}
    return environment


def _bare(table: Table) -> str:
    """Write a table as Markdown without its title."""
    return markdown([table]).partition("\n\n")[2]


def tables(worlds: Worlds, folder: Path | None = None) -> str:
    """Write every statement, effect and map of the study as Markdown tables; arguments as of :func:`page`."""
    otherwise = said(worlds, folder).get("otherwise")
    head = f"## What went otherwise than planned\n\n{otherwise}\n\n" if otherwise else ""
    return head + markdown([table for name, found in worlds.items() for table in _tables(name, found)])


def verdicts(worlds: Worlds) -> Table:
    """Put the verdict of each question beside its number, a column a world and modality."""
    columns = [(name, modality) for name in worlds for modality in MODALITIES]
    rows = []
    for number_ in sorted({claim.number for found in worlds.values() for claim in found.results.claims}):
        cells, words = [], ""
        for name, modality in columns:
            claim = worlds[name].claim(number_, modality)
            words = claim.words
            cells.append(Cell(f"{MARKS[claim.verdict]} {effect_words(claim)}"))
        rows.append((Cell(f"{number_}. {words}"), *cells))
    return Table(
        title="Verdicts",
        columns=("the paper's claim", *(f"{name}, {modality}s" for name, modality in columns)),
        rows=tuple(rows),
    )


def asked(name: str, found: Findings) -> Table:
    """Put the plan's questions that are no claims beside their verdicts; maps (Q8) have their own table."""
    rows = []
    for recipe, modality in FOLLOWED:
        answers = found.to("Q6", recipe, modality)
        if answers:
            rows.append(
                (
                    "the gain of inversion follows what captions leave out",
                    f"{modality}s, {recipe}",
                    marked(found.verdict("Q6", recipe, modality)),
                    ", ".join(f"{one.of}: {size(one)}" for one in answers),
                )
            )
    for modality in MODALITIES:
        answers = found.to("Q9", modality=modality)
        if answers:
            rows.append(
                (
                    "where captions always name everything, crossing hurts nowhere",
                    f"{modality}s",
                    marked(found.verdict("Q9", modality=modality)),
                    ", ".join(f"by {one.about.partition('-')[2]} {size(one)}" for one in answers),
                )
            )
    for modality in [modality for modality in MODALITIES if modality in found.slopes]:
        numbers = "; ".join(slope_words(slope) for slope in found.slopes[modality])
        rows.append(("the gain follows the gap at equal native mAP", f"{modality}s", ABSENT, numbers))
    return Table(
        title=f"{name.capitalize()}: verdicts on the other questions",
        columns=("the plan's other questions", "of", "verdict", "points; of the gap, partial correlations"),
        rows=tuple(tuple(Cell(text) for text in row) for row in rows),
        text_columns=4,
    )


def effect_words(claim: Claim) -> str:
    """Say the effect of a claim in points, and what decided where it is not the effect itself."""
    effect = next(one for one in claim.statements if one.role == "effect")
    said = size(effect) if effect.evidence else "not measured"
    against = [one for one in claim.statements if one.role == "control" and one.verdict == claim.verdict]
    if claim.verdict != effect.verdict and against:
        said += f", but {against[0].text}: {MARKS[against[0].verdict]}"
        said += f" {size(against[0])}" if against[0].evidence else ""
    elif claim.verdict != effect.verdict and any(one.evidence is None for one in claim.statements):
        said += ", but its control was not measured"
    return said


def size(one: Statement | Answer | Evidence | None) -> str:
    """Write an effect in points with the interval that decides: +1.9 [1.2, 2.6]."""
    evidence = one.evidence if isinstance(one, Statement | Answer) else one
    if evidence is None:
        return "not measured"
    low, high = deciding(evidence)[0]
    bounds = interval(POINTS * low, POINTS * high, 1)
    return f"{number(POINTS * evidence.value, 1, signed=True)} {bounds}".strip()


def marked(verdict: str) -> str:
    """Put the mark of a verdict before its word."""
    return f"{MARKS[verdict]} {verdict}"


def slope_words(slope: Slope) -> str:
    """Write a partial correlation with its interval and the number of arms."""
    said = f"{number(slope.partial, 2, signed=True)} {interval(slope.partial_low, slope.partial_high, 2)}"
    return f"{said.strip()} over {counted(slope.n_arms, 'arm')}"


def surprises(found: Findings) -> Iterator[str]:
    """Say which of the paper's claims came out otherwise than the pilots led to expect."""
    for (number_, modality), allowed in EXPECTED.items():
        claim = found.claim(number_, modality)
        if claim.verdict not in allowed:
            expected = " or ".join(allowed)
            came = f"{marked(claim.verdict)} ({effect_words(claim)})"
            yield f"Claim {number_} among {modality}s: {expected} was expected, and it is {came}."


def contradicted(name: str, found: Findings) -> Iterator[str]:
    """Name the paper's claims that a world contradicts, each with its effect."""
    for claim in found.results.claims:
        if claim.verdict == "contradicted":
            yield f"{claim.number} ({claim.modality}s on {name}: {effect_words(claim)})"


def counts(found: Findings) -> tuple[int, int, int]:
    """Count models that were measured, arms and seeds."""
    trials = found.study.trials
    return int((trials["state"] == "complete").sum()), len(found.study.arms), len(found.study.seeds)


def failures(found: Findings) -> list[str]:
    """Name the trials that failed, with the reason."""
    trials = found.study.trials
    failed = trials[trials["state"] == "failed"]
    return [f"{row['arm']}, seed {row['seed']}: {row['reason']}" for row in failed.to_dict("records")]


def _tables(name: str, found: Findings) -> Iterator[Table]:
    yield asked(name, found)
    for table in claims_in_files(found.results, rule_of(found.results)):
        yield replace(table, title=f"{name.capitalize()}: {table.title}")
    for question, title in QUESTIONS.items():
        answers = found.to(question)
        if answers:
            yield Table(
                title=f"{name.capitalize()}: {title}",
                columns=("of", "effect", "about", "verdict", "points", "p", "seeds", "classes"),
                rows=tuple(
                    (
                        Cell(route_words(one.about)),
                        Cell(one.of),
                        Cell(f"{one.modality}s"),
                        Cell(one.verdict),
                        *_numbers(one),
                    )
                    for one in answers
                ),
                text_columns=4,
            )


def route_words(about: str) -> str:
    """Give the words of a route; what is none stays as it is."""
    return ROUTE_WORDS[about].words if about in ROUTE_WORDS else about


def _numbers(one: Answer) -> tuple[Cell, ...]:
    if one.evidence is None:
        return (Cell(ABSENT),) * 4
    said = ABSENT if math.isnan(one.p) else p_value(one.p)
    return (
        Cell(size(one)), Cell(said), Cell(str(one.evidence.models.n)), Cell(str(one.evidence.n_classes))
    )  # fmt: skip
