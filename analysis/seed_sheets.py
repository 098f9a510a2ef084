"""The tables of what holds over models: claims, differences over seeds, slopes, factors, power."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd

from analysis.claims import Claim, Statement
from analysis.comparisons import EFFECTS, FRACTION, OBJECT_BIAS, WHAT, price_in_seeds
from analysis.contrasts import of_one_dataset
from analysis.evidence import Evidence, too_few_classes
from analysis.over_native import SIDES
from analysis.plots.headline import GAP_STEP
from analysis.results import Results, Within
from analysis.sheets import level_words, records
from analysis.study import Study
from analysis.typeset import ABSENT, Cell, Table, counted, interval, number, p_value, points, points_interval

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
_ONE_SEED = "one seed cannot tell"
CELLS = (
    "Cells are pairs of seed and dataset; left out are those that make no complete crossing of what both "
    "sides have."
)


def claims(results: Results) -> list[dict[str, Any]]:
    """Give each claim with its verdict and the table of its statements."""
    return [
        {
            "number": f"{claim.number}{MODALITY_LETTERS[claim.modality]}",
            "title": claim.title,
            "verdict": claim.verdict,
            "statements": statements(claim),
        }
        for claim in results.claims
    ]


def claims_in_files(results: Results, rule: str) -> list[Table]:
    """Give the tables of the claims with their verdicts, as the page says them, and the rule at the end."""
    tables = [replace(statements(claim), note=f"The claim is {claim.verdict}.") for claim in results.claims]
    if tables:
        tables[-1] = replace(tables[-1], note=f"{tables[-1].note} {rule}")
    return tables


def statements(claim: Claim) -> Table:
    """Show the statements of a claim: estimate, intervals over queries and over models, p, verdict."""
    rows = []
    for one in claim.statements:
        words = one.text + (" (further, does not count)" if one.role == "further" else "")
        rows.append((Cell(words, one.note), Cell(one.verdict), *_numbers(one)))
    columns = ("statement", "verdict", "estimate (points)", "interval over queries", "over models",
               "over both", "models", "p (Holm)")  # fmt: skip
    name = f"Claim {claim.number}{MODALITY_LETTERS[claim.modality]}"
    return Table(f"{name}: {claim.title}", columns, tuple(rows), text_columns=2)


def _numbers(one: Statement) -> tuple[Cell, ...]:
    if one.slope is not None:
        bounds = interval(one.slope.partial_low, one.slope.partial_high, 2)
        words = f"partial r {number(one.slope.partial, 2, signed=True)}"
        partial = Cell(words, f"{bounds} over {one.slope.n_arms} arms")
        return (partial, *(Cell(ABSENT),) * 3, Cell(str(one.slope.n_models)), Cell(ABSENT))
    if one.evidence is None:
        return (Cell(ABSENT),) * 6
    found = one.evidence
    return (
        Cell(number(100 * found.value, 2, signed=True)),
        Cell(interval(100 * found.low, 100 * found.high, 2) or ABSENT, _of_classes(found)),
        Cell(interval(100 * found.models.low, 100 * found.models.high, 2) or ABSENT),
        Cell(interval(100 * found.both_low, 100 * found.both_high, 2) or ABSENT),
        Cell(str(found.models.n)),
        Cell(p_value(one.p_holm)),
    )


def _of_classes(found: Evidence) -> str:
    words = f"{found.n_queries:,} queries, {counted(found.n_classes, 'class', 'classes')}"
    return words + (": too few to decide" if too_few_classes(found) else "")


def contrasts(study: Study, results: Results) -> list[Table]:
    """Show each arm minus the baseline, one table a quantity, those over datasets last."""
    tables = []
    for key, group in results.contrasts.groupby(["modality", *WHAT, "unit"], sort=False):
        modality, quantity, dataset, split, task, unit = map(str, key)
        scale, digits, words = _scale(unit)
        over_datasets = not dataset
        by_arm = {row["arm"]: row for row in records(group)}
        rows = tuple(
            (Cell(study.label(arm)), *_contrast(by_arm[arm], scale, digits))
            for arm in study.arm_names
            if arm in by_arm
        )
        where = f"{dataset}, {split}" if task == "gap" else f"{task}, {dataset}, {split}"
        if over_datasets:
            where = f"{modality}s, mean over {group['n_datasets'].max()} datasets"
        counted_up = "datasets up / same / down" if over_datasets else "seeds up / same / down"
        columns = ["arm", f"difference ({words})", "t interval over seeds", "over both", "by seed", "seeds",
                   "effect size d_z", counted_up, "p (t)", "p (sign flips)", "p", "q", "within ±margin",
                   "seeds for 1 point"]  # fmt: skip
        if over_datasets:
            columns += ["datasets", "cells left out"]
        name = NAMES.get(quantity, quantity)
        note = _contrast_note(results, over_datasets)
        tables.append(Table(f"{name} ({where})", tuple(columns), rows, note))
    return tables


def _contrast_note(results: Results, over_datasets: bool) -> str:
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


def _contrast(row: dict[str, Any], scale: float, digits: int) -> tuple[Cell, ...]:
    def bounds(name: str) -> str:
        return interval(scale * row[f"{name}_low"], scale * row[f"{name}_high"], digits)

    seeds = ", ".join(number(scale * one, digits, signed=True) for _, one in row["per_seed"])
    needed = row["seeds_needed"]
    within = {True: "yes", False: "not shown"}.get(row["equivalent"], ABSENT)
    one_seed = row["n_seeds"] < 2
    counts = f"{row['wins']} / {row['ties']} / {row['losses']}"
    return (
        Cell(number(scale * row["estimate"], digits, signed=True), bounds("queries")),
        Cell(_ONE_SEED if one_seed else bounds("seeds") or ABSENT),
        Cell(bounds("both") or ABSENT),
        Cell(seeds),
        Cell(str(row["n_seeds"])),
        Cell(number(row["effect_size"], 2, signed=True)),
        Cell(ABSENT if one_seed and row["dataset"] else counts),
        Cell(p_value(row["p_t"])),
        Cell(ABSENT) if one_seed else Cell(p_value(row["p_flip"]), f"least {p_value(row['p_flip_least'])}"),
        Cell(p_value(row["p"])),
        Cell(p_value(row["q"])),
        Cell(within, ABSENT if within == ABSENT else f"p {p_value(row['p_equivalence'])}"),
        Cell(ABSENT if needed is None or pd.isna(needed) else f"{int(needed):,}"),
        *((Cell(str(row["n_datasets"])), Cell(str(row["n_left_out"]))) if not row["dataset"] else ()),
    )


def _scale(unit: str) -> tuple[float, int, str]:
    return (100, 2, "points") if unit == FRACTION else (1, 3, unit)


def power(study: Study, results: Results) -> Table | None:
    """Show how many seeds a difference of some size would need, by the spread that these seeds show."""
    prices = price_in_seeds(of_one_dataset(results.contrasts))
    rows = []
    for _, group in prices.groupby(WHAT, sort=False):
        of_effect = records(group)
        row = of_effect[0]
        cells = [
            Cell(f"{NAMES.get(row['quantity'], row['quantity'])}, {row['task']} ({row['dataset']})"),
            Cell(study.label(row["arm"])),
            Cell(number(100 * row["sd"], 2), interval(100 * row["sd_low"], 100 * row["sd_high"], 2)),
        ]
        for row in of_effect:
            bounds = f"{_count(row['seeds_low'])} to {_count(row['seeds_high'])}"
            cells.append(Cell(_count(row["seeds"]), bounds))
        rows.append(tuple(cells))
    if not rows:
        return None
    columns = ("quantity", "arm of median spread", "SD over seeds (points)",
               *(f"seeds for {100 * effect:g} points" for effect in EFFECTS))  # fmt: skip
    return Table(
        "What seeds would buy",
        columns,
        tuple(rows),
        "Seeds that a two-sided paired t test at level .05 needs to find a difference of that size with "
        "probability .8. The range follows the 95 % interval of the spread, which few seeds hardly know.",
        text_columns=2,
    )


def _count(needed: Any) -> str:
    return "> 1,000" if pd.isna(needed) else f"{needed:,}"


def association(results: Results) -> Table | None:
    """Show how the gain moves with the gap over arms, and with native mAP held equal."""
    rows = [_slope_row(within) for within in results.within if within.slope.n_arms > 1]
    if not rows:
        return None
    columns = ("task", f"gain for {GAP_STEP:g} more gap (points)", "rank correlation of gap and gain",
               "partial correlation, native mAP held", "rank correlation of gap and native", "arms",
               "models")  # fmt: skip
    return Table(
        "Gain against gap over arms",
        columns,
        tuple(rows),
        "Least squares over arm means; seeds of one arm are no independent points. Brackets: "
        f"{level_words(results)} intervals over arms. A slope needs three arms and its interval four, a "
        "partial correlation four and its interval five. What moves the gap moves other things too.",
    )


def _slope_row(within: Within) -> tuple[Cell, ...]:
    slope = within.slope
    return (
        Cell(f"{within.where.task} ({within.where.dataset})", within.where.route.upper()),
        Cell(
            number(GAP_STEP * slope.slope, 2, signed=True),
            interval(GAP_STEP * slope.low, GAP_STEP * slope.high, 2),
        ),
        Cell(number(slope.spearman, 2, signed=True)),
        Cell(number(slope.partial, 2, signed=True), interval(slope.partial_low, slope.partial_high, 2)),
        Cell(number(within.gap_native.spearman, 2, signed=True)),
        Cell(str(slope.n_arms)),
        Cell(str(slope.n_models)),
    )


def factorial(results: Results) -> list[Table]:
    """Show main effects and interactions of crossed factors, one table a quantity."""
    if results.effects.empty:
        return []
    tables = []
    for (quantity, unit), group in results.effects.groupby(["quantity", "unit"], sort=False):
        rows = tuple(
            (
                Cell(row["term"]),
                Cell({1: "main effect"}.get(row["order"], "interaction")),
                Cell(number(row["estimate"], 2, signed=True), interval(row["low"], row["high"], 2)),
                Cell(p_value(row["p"])),
                Cell(p_value(row["q"])),
            )
            for row in records(group)
        )
        note = (
            "Change from the lowest level of a factor (none, if there is one) to its highest; an interaction "
            "is half of how much one factor changes the other's effect. Least squares with seeds as blocks, "
            f"{group['n_seeds'].iloc[0]} seeds, {int(group['df'].iloc[0])} degrees of freedom. q: "
            f"Benjamini-Hochberg over the {results.effects['p'].notna().sum()} tests of these tables."
        )
        columns = ("term", "kind", f"effect ({unit})", "p", "q")
        tables.append(Table(f"Factorial effects on {quantity}", columns, rows, note, text_columns=2))
    return tables


def importances(results: Results) -> list[Table]:
    """Show the share of each varied setting in what makes a value good, one table a quantity."""
    table = results.importances.table
    if table.empty:
        return []
    tables = []
    for quantity, group in table.groupby("quantity", sort=False):
        rows = tuple(
            (
                Cell(row["axis"]),
                Cell(number(row["share"], 2), interval(row["low"], row["high"], 2)),
                Cell(number(row["chance"], 2)),
            )
            for row in records(group)
        )
        note = (
            f"Optuna's PED-ANOVA over {group['n_points'].iloc[0]} points that were laid out beforehand; "
            "brackets: 95 % intervals when points are resampled. By chance: what the setting comes to in 95 "
            "of 100 cases when the values are shuffled among the points, more where it has more levels; a "
            "share up to that says nothing."
        )
        columns = ("setting", "share", "share by chance, up to")
        tables.append(Table(f"Importance of settings for {quantity}", columns, rows, note))
    return tables


def over_native(study: Study, results: Results) -> list[Table]:
    """Show what each route adds to native mAP in each arm, bounded over queries, over seeds and over both."""
    tables = []
    for (dataset, split, task), group in results.over_native.groupby(
        ["dataset", "split", "task"], sort=False
    ):
        rows = tuple(
            (
                Cell(study.label(row["arm"])),
                Cell(row["route"]),
                Cell(points(row["native"], 1)),
                Cell(points(row["estimate"], 2, signed=True)),
                *(
                    Cell(points_interval(row[f"{side}_low"], row[f"{side}_high"], 2) or ABSENT)
                    for side in SIDES
                ),
                Cell(str(row["n_seeds"])),
                Cell(str(row["n_queries"])),
                Cell(str(row["n_classes"])),
            )
            for row in records(group)
        )
        columns = ("arm", "route", "native mAP (%)", "route − native (points)", "over queries", "over seeds",
                   "over both", "seeds", "queries", "classes")  # fmt: skip
        tables.append(
            Table(
                f"Routes minus native over seeds and queries: {task} ({dataset}, {split})",
                columns,
                rows,
                f"Paired by seed and query; {level_words(results)} intervals: over queries, whole classes "
                "resampled; over seeds, t; over both, from three seeds.",
                text_columns=2,
            )
        )
    return tables


def over_datasets(study: Study, results: Results) -> list[Table]:
    """Show each arm's mean over datasets of native mAP and of what routes add, with datasets won and lost."""
    tables = []
    for (modality, route), table in results.over_datasets.groupby(["modality", "route"], sort=False):
        rows = tuple(
            (
                Cell(study.label(row["arm"])),
                Cell(number(100 * row["native"], 1)),
                Cell(points(row["value"], 2, signed=True), points_interval(row["low"], row["high"], 2)),
                Cell(f"{row['wins']} / {row['ties']} / {row['losses']}"),
                Cell(str(row["n_datasets"])),
                Cell(str(row["n_seeds"])),
                Cell(str(row["n_left_out"])),
            )
            for row in records(table)
        )
        columns = ("arm", "native mAP (%)", f"{route} − native (points)", "datasets up / same / down",
                   "datasets", "seeds", "cells left out")  # fmt: skip
        tables.append(
            Table(
                f"{str(modality).capitalize()} retrieval over {table['n_datasets'].max()} datasets: {route}",
                columns,
                rows,
                f"Means over datasets of the means over queries. Brackets: {level_words(results)} intervals "
                f"over queries, classes resampled within each dataset: they hold for these datasets. {CELLS}",
            )
        )
    return tables
