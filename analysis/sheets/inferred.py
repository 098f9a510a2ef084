"""The tables of what holds over models: claims, effects over seeds and datasets, slopes, factors, power."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from analysis.claims import RULE, Claim, Statement
from analysis.effects import of_one_dataset, over_datasets_of
from analysis.plots.headline import GAP_STEP
from analysis.quantities import FRACTION, OBJECT_BIAS, WHAT
from analysis.results import Results, Within
from analysis.sheets.columns import (
    ARM,
    SEEDS,
    Column,
    Row,
    by_arm,
    fractions,
    numbers,
    p_values,
    records,
    sheet,
    spans,
    words,
)
from analysis.stats.evidence import Evidence, deciding, too_few_classes
from analysis.stats.power import EFFECTS
from analysis.study import RecordedStudy
from analysis.typeset import ABSENT, Cell, Table, counted, interval, number, p_value

NAMES = {
    "native": "native",
    "gain": "inversion gain",
    "gain over class_pca": "gain over class-name PCA",
    "oti change": "change by OTI",
    "ovi change": "change by OVI",
    "centroid_distance": "modality gap, centroid distance",
    "RMG": "modality gap, RMG",
    OBJECT_BIAS: "object bias: similarity by object minus by colour",
}
MODALITY_LETTERS = {"image": "a", "text": "b"}
CELLS = (
    "Cells are pairs of seed and dataset; left out are those that make no complete crossing of what both "
    "sides have."
)
QUERIES, OVER_SEEDS, BOTH = ((f"{side}_low", f"{side}_high") for side in ("queries", "seeds", "both"))
RECORD = ("wins", "ties", "losses")
_ONE_SEED = "one seed cannot tell"
LEFT_OUT = (words("datasets", "n_datasets"), words("cells left out", "n_left_out"))
COLUMNS_OF_STATEMENTS = ("estimate (points)", "interval over queries", "over models", "over both", "models",
                         "p (Holm)")  # fmt: skip


def level_words(results: Results) -> str:
    return f"{100 * results.bootstrap.level:g} %"


# where on the page the numbers of a claim stand: its section
_EVIDENCE = {1: "arms", 2: "headline", 3: "across", 4: "seeds", 5: "seeds"}


def claims(results: Results) -> list[dict[str, Any]]:
    """Give each claim with its verdict, its effect in points and the table of its statements."""
    return [
        {
            "number": f"{claim.number}{MODALITY_LETTERS[claim.modality]}",
            "row": claim.number,
            "modality": f"{claim.modality}s",
            "title": claim.title,
            "words": claim.words,
            "verdict": claim.verdict,
            "size": _size(claim),
            "statements": statements(claim),
            "see": _EVIDENCE[claim.number],
        }
        for claim in results.claims
    ]


def _size(claim: Claim) -> Cell:
    """Give the effect of a claim with the last of the intervals that decide."""
    evidence = next(statement.evidence for statement in claim.statements if statement.role == "effect")
    if evidence is None:
        return Cell(ABSENT)
    low, high = deciding(evidence)[-1]
    return Cell(number(100 * evidence.value, 2, signed=True), interval(100 * low, 100 * high, 2))


def rule_of(results: Results) -> str:
    """State the rule of the claims with the numbers that hold here."""
    return RULE.format(margin=100 * results.margin, alpha=1 - results.bootstrap.level)


def claims_in_files(results: Results, rule: str) -> list[Table]:
    """Give the tables of the claims with their verdicts, as the page says them, and the rule at the end."""
    tables = [replace(statements(claim), note=f"The claim is {claim.verdict}.") for claim in results.claims]
    if tables:
        tables[-1] = replace(tables[-1], note=f"{tables[-1].note} {rule}")
    return tables


def statements(claim: Claim) -> Table:
    """Show the statements of a claim: estimate, intervals over queries and over models, p, verdict."""
    rows = tuple(
        (
            Cell(
                statement.text + (" (further, does not count)" if statement.role == "further" else ""),
                statement.note,
            ),
            Cell(statement.verdict),
            *_numbers(statement),
        )
        for statement in claim.statements
    )
    name = f"Claim {claim.number}{MODALITY_LETTERS[claim.modality]}: {claim.title}"
    return Table(name, ("statement", "verdict", *COLUMNS_OF_STATEMENTS), rows, text_columns=2)


def _numbers(statement: Statement) -> tuple[Cell, ...]:
    if statement.slope is not None:
        bounds = interval(statement.slope.partial_low, statement.slope.partial_high, 2)
        said = f"partial r {number(statement.slope.partial, 2, signed=True)}"
        partial = Cell(said, f"{bounds} over {statement.slope.n_arms} arms")
        return (partial, *(Cell(ABSENT),) * 3, Cell(str(statement.slope.n_models)), Cell(ABSENT))
    if statement.evidence is None:
        return (Cell(ABSENT),) * 6
    evidence = statement.evidence
    over_models, over_both = (
        Cell(interval(100 * low, 100 * high, 2) or ABSENT)
        for low, high in (
            (evidence.models.low, evidence.models.high),
            (evidence.both_low, evidence.both_high),
        )
    )
    return (
        Cell(number(100 * evidence.value, 2, signed=True)),
        Cell(interval(100 * evidence.low, 100 * evidence.high, 2) or ABSENT, _of_classes(evidence)),
        over_models,
        over_both,
        Cell(str(evidence.models.n)),
        Cell(p_value(statement.p_holm)),
    )


def _of_classes(evidence: Evidence) -> str:
    said = f"{evidence.n_queries:,} queries, {counted(evidence.n_classes, 'class', 'classes')}"
    return said + (": too few to decide" if too_few_classes(evidence) else "")


def contrasts(study: RecordedStudy, results: Results) -> list[Table]:
    """Show each arm minus the baseline, one table a quantity, those over datasets last."""
    tables = []
    for key, group in results.contrasts.groupby(["modality", *WHAT, "unit"], sort=False):
        modality, quantity, dataset, split, task, unit = map(str, key)
        where = f"{dataset}, {split}" if task == "gap" else f"{task}, {dataset}, {split}"
        if not dataset:
            where = f"{modality}s, mean over {group['n_datasets'].max()} datasets"
        name = NAMES.get(quantity, quantity)
        columns = _contrast_columns(unit, "seeds" if dataset else "datasets")
        note = _contrast_note(results, over_datasets=not dataset)
        tables.append(sheet(f"{name} ({where})", columns, by_arm(study, group), note))
    return tables


def between(study: RecordedStudy, results: Results) -> list[Table]:
    """Show each study minus the first, arm by arm: one table."""
    rows = []
    for row in results.between.to_dict("records"):
        where = row["dataset"] if row["task"] in ("gap", "both ways") else f"{row['task']}, {row['dataset']}"
        scale, digits, unit = (100, 2, "points") if row["unit"] == FRACTION else (1, 3, str(row["unit"]))
        scaled = {name: scale * row[name] for name in ("estimate", *QUERIES, *OVER_SEEDS, *BOTH)}
        rows.append(
            {str(name): value for name, value in row.items()} | scaled
            | {"label": study.label(row["arm"]), "what": NAMES.get(row["quantity"], row["quantity"]),
               "where": where, "said": unit, "digits": digits,
               "pairing": f"{row['n_seeds']} seeds, paired" if row["paired"] else "unpaired"}
        )  # fmt: skip

    def estimate(row: Row) -> Cell:
        low, high = (row[bound] for bound in QUERIES)
        size = f"{number(row['estimate'], row['digits'], signed=True)} {row['said']}"
        return Cell(size, interval(low, high, row["digits"]))

    def span(title: str, bounds: tuple[str, str]) -> Column:
        return Column(
            title, lambda row: Cell(interval(row[bounds[0]], row[bounds[1]], row["digits"]) or ABSENT)
        )

    columns = (
        ARM,
        words("minus", "reference_study"),
        words("quantity", "what"),
        words("on", "where"),
        words("models", "pairing"),
        Column("difference", estimate),
        span("over seeds", OVER_SEEDS),
        span("over both", BOTH),
        p_values("p", "p"),
        p_values("q", "q"),
    )
    note = (
        f"Below the difference: {level_words(results)} interval over queries, classes resampled. Over seeds: "
        "t, unpaired Welch's. Over both: from three seeds. Unpaired models of the same queries are paired by "
        "query. p: of the interval over both; without one the larger of the tests over seeds and over "
        "classes. q: Benjamini-Hochberg over this table."
    )
    return [sheet("Studies compared, arm by arm", columns, rows, note, text_columns=5)] if rows else []


def _contrast_columns(unit: str, counted_up: str) -> list[Column]:
    scale, digits, said = (100, 2, "points") if unit == FRACTION else (1, 3, unit)

    def by_seed(row: Row) -> Cell:
        return Cell(", ".join(number(scale * value, digits, signed=True) for _, value in row["per_seed"]))

    def over_seeds(row: Row) -> Cell:
        if row["n_seeds"] < 2:
            return Cell(_ONE_SEED)
        low, high = (scale * row[bound] for bound in OVER_SEEDS)
        return Cell(interval(low, high, digits) or ABSENT)

    def record(row: Row) -> Cell:
        one_seed = row["n_seeds"] < 2 and row["dataset"]
        return Cell(ABSENT if one_seed else " / ".join(str(row[name]) for name in RECORD))

    def flips(row: Row) -> Cell:
        if row["n_seeds"] < 2:
            return Cell(ABSENT)
        return Cell(p_value(row["p_flip"]), f"least {p_value(row['p_flip_least'])}")

    def within(row: Row) -> Cell:
        said = {True: "yes", False: "not shown"}.get(row["equivalent"], ABSENT)
        return Cell(said, ABSENT if said == ABSENT else f"p {p_value(row['p_equivalence'])}")

    def needed(row: Row) -> Cell:
        seeds = row["seeds_needed"]
        return Cell(ABSENT if seeds is None or pd.isna(seeds) else f"{int(seeds):,}")

    columns = [
        ARM,
        numbers(f"difference ({said})", "estimate", digits, scale=scale, signed=True, bounds=QUERIES),
        Column("t interval over seeds", over_seeds),
        spans("over both", BOTH, digits, scale=scale),
        Column("by seed", by_seed),
        SEEDS,
        numbers("effect size d_z", "effect_size", 2, signed=True),
        Column(f"{counted_up} up / same / down", record),
        p_values("p (t)", "p_t"),
        Column("p (sign flips)", flips),
        p_values("p", "p"),
        p_values("q", "q"),
        Column("within ±margin", within),
        Column("seeds for 1 point", needed),
    ]
    return columns if counted_up == "seeds" else [*columns, *LEFT_OUT]


def _contrast_note(results: Results, *, over_datasets: bool) -> str:
    note = (
        f"Paired by seed and query. Below the difference: {level_words(results)} interval over queries, "
        "whole classes resampled; over both: over seeds and queries, from three seeds. p: of the interval "
        "over both; without one the larger of p (t) and that of flipping signs class by class; of one seed "
        "none: its interval over queries speaks of these two models, not of what their arms differ in. q: "
        "Benjamini-Hochberg over all rows of single datasets, and over those of means over datasets."
    )
    if over_datasets:
        return (
            f"{note} Means over datasets of the means over queries, classes resampled within each dataset: "
            f"they hold for these datasets. {CELLS}"
        )
    return note


def power(study: RecordedStudy, results: Results) -> list[Table]:
    """Show how many seeds a difference of some size would need, by the spread that these seeds show."""

    def seeds(place: int) -> Column:
        def cell(row: Row) -> Cell:
            needed, low, high = (
                "> 1,000" if pd.isna(row[name][place]) else f"{row[name][place]:,}"
                for name in ("seeds", "seeds_low", "seeds_high")
            )
            return Cell(needed, f"{low} to {high}")

        return Column(f"seeds for {100 * EFFECTS[place]:g} points", cell)

    rows = [
        records(group)[0]
        | {name: group[name].tolist() for name in ("seeds", "seeds_low", "seeds_high")}
        | {"label": study.label(group["arm"].iloc[0])}
        for _, group in results.power.groupby(WHAT, sort=False)
    ]
    columns = (
        Column("quantity", lambda row: Cell(
            f"{NAMES.get(row['quantity'], row['quantity'])}, {row['task']} ({row['dataset']})")),
        words("arm of median spread", "label"),
        numbers("SD over seeds (points)", "sd", 2, scale=100, bounds=("sd_low", "sd_high")),
        *map(seeds, range(len(EFFECTS))),
    )  # fmt: skip
    note = (
        "Seeds that a two-sided paired t test at level .05 needs to find a difference of that size with "
        "probability .8. The range follows the 95 % interval of the spread, which few seeds hardly know."
    )
    return [sheet("What seeds would buy", columns, rows, note, text_columns=2)] if rows else []


def association(results: Results) -> list[Table]:
    """Show how the gain moves with the gap over arms, and with native mAP held equal."""
    rows = [_slope_row(within) for within in results.within if within.slope.n_arms > 1]
    partial = ("partial_low", "partial_high")
    columns = (
        Column("task", lambda row: Cell(f"{row['task']} ({row['dataset']})", row["route"].upper())),
        numbers(f"gain for {GAP_STEP:g} more gap (points)", "slope", 2, scale=GAP_STEP, signed=True,
                bounds=("low", "high")),
        numbers("rank correlation of gap and gain", "spearman", 2, signed=True),
        numbers("partial correlation, native mAP held", "partial", 2, signed=True, bounds=partial),
        numbers("rank correlation of gap and native", "gap_native", 2, signed=True),
        words("arms", "n_arms"),
        words("models", "n_models"),
    )  # fmt: skip
    note = (
        "Least squares over arm means; seeds of one arm are no independent points. Brackets: "
        f"{level_words(results)} intervals over arms. A slope needs three arms and its interval four, a "
        "partial correlation four and its interval five. What moves the gap moves other things too."
    )
    return [sheet("Gain against gap over arms", columns, rows, note)] if rows else []


def _slope_row(within: Within) -> Row:
    gap_native = {"gap_native": within.gap_native.spearman}
    return within.where._asdict() | within.slope._asdict() | gap_native


def factorial(results: Results) -> list[Table]:
    """Show main effects and interactions of crossed factors, one table a quantity."""
    tables = []
    table = results.factorial
    for (quantity, unit), group in table.groupby(["quantity", "unit"], sort=False) if len(table) else ():
        columns = (
            words("term", "term"),
            Column("kind", lambda row: Cell("main effect" if row["order"] == 1 else "interaction")),
            numbers(f"effect ({unit})", "estimate", 2, signed=True, bounds=("low", "high")),
            p_values("p", "p"),
            p_values("q", "q"),
        )
        note = (
            "Change from the lowest level of a factor (none, if there is one) to its highest; an interaction "
            "is half of how much one factor changes the other's effect. Least squares with seeds as blocks, "
            f"{group['n_seeds'].iloc[0]} seeds, {int(group['df'].iloc[0])} degrees of freedom. q: "
            f"Benjamini-Hochberg over the {table['p'].notna().sum()} tests of these tables."
        )
        title = f"Factorial effects on {quantity}"
        tables.append(sheet(title, columns, records(group), note, text_columns=2))
    return tables


IMPORTANCES = (
    words("setting", "axis"),
    numbers("share", "share", 2, bounds=("low", "high")),
    numbers("share by chance, up to", "chance", 2),
)


def importances(results: Results) -> list[Table]:
    """Show the share of each varied setting in what makes a value good, one table a quantity."""
    table = results.importances.table
    tables = []
    for quantity, group in table.groupby("quantity", sort=False) if len(table) else ():
        note = (
            f"Optuna's PED-ANOVA over {group['n_points'].iloc[0]} points that were laid out beforehand; "
            "brackets: 95 % intervals when points are resampled. By chance: what the setting comes to in 95 "
            "of 100 cases when the values are shuffled among the points, more where it has more levels; a "
            "share up to that says nothing."
        )
        tables.append(sheet(f"Importance of settings for {quantity}", IMPORTANCES, records(group), note))
    return tables


OVER_NATIVE = (
    ARM,
    words("route", "route"),
    numbers("native mAP (%)", "reference", 1, scale=100),
    numbers("route − native (points)", "estimate", 2, scale=100, signed=True),
    spans("over queries", QUERIES, 2, scale=100),
    spans("over seeds", OVER_SEEDS, 2, scale=100),
    spans("over both", BOTH, 2, scale=100),
    SEEDS,
    words("queries", "n_queries"),
    words("classes", "n_classes"),
)


def over_native(study: RecordedStudy, results: Results) -> list[Table]:
    """Show what each route adds to native mAP in each arm of several seeds, over queries, seeds and both."""
    note = (
        f"Paired by seed and query; {level_words(results)} intervals: over queries, whole classes "
        "resampled; over seeds, t; over both, from three seeds."
    )
    table = of_one_dataset(results.routes)
    table = table[table["n_seeds"] > 1]
    return [
        sheet(
            f"Routes minus native over seeds and queries: {task} ({dataset}, {split})",
            OVER_NATIVE,
            _labelled(study, group),
            note,
            text_columns=2,
        )
        for (dataset, split, task), group in table.groupby(["dataset", "split", "task"], sort=False)
    ]


def over_datasets(study: RecordedStudy, results: Results) -> list[Table]:
    """Show each arm's mean over datasets of native mAP and of what routes add, with datasets won and lost."""
    tables = []
    table = over_datasets_of(results.routes)
    for (modality, route), group in table.groupby(["modality", "route"], sort=False):
        columns = (
            ARM,
            numbers("native mAP (%)", "reference", 1, scale=100),
            numbers(f"{route} − native (points)", "estimate", 2, scale=100, signed=True, bounds=QUERIES),
            fractions("datasets up / same / down", RECORD),
            words("datasets", "n_datasets"),
            SEEDS,
            LEFT_OUT[1],
        )
        title = f"{str(modality).capitalize()} retrieval over {group['n_datasets'].max()} datasets: {route}"
        note = (
            f"Means over datasets of the means over queries. Brackets: {level_words(results)} intervals "
            f"over queries, classes resampled within each dataset: they hold for these datasets. {CELLS}"
        )
        tables.append(sheet(title, columns, _labelled(study, group), note))
    return tables


def _labelled(study: RecordedStudy, frame: pd.DataFrame) -> Sequence[Row]:
    return [row | {"label": study.label(row["arm"])} for row in records(frame)]
