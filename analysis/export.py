"""The numbers of a report as plain tables, for other software: CSV and parquet."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from analysis import effects
from analysis.claims import Claim, Statement
from analysis.quantities import WHAT
from analysis.results import Results, Within
from analysis.study import RecordedStudy
from crossgap.files import atomic_path
from crossgap.reading.setting_columns import with_settings

Kind = Literal["csv", "parquet"]
KINDS: tuple[Kind, ...] = ("csv", "parquet")
# columns of exports that are parts of the frame of effects, and what these call them
ARMS = {name: name for name in (*WHAT, "unit", "arm")} | {
    "value": "estimate", "low": "seeds_low", "high": "seeds_high", "sd": "sd", "n_seeds": "n_seeds",
}  # fmt: skip
OVER_DATASETS = {
    "modality": "modality", "route": "route", "arm": "arm", "native": "reference", "value": "estimate",
    "low": "queries_low", "high": "queries_high",
} | {name: name for name in ("wins", "ties", "losses", "n_datasets", "n_seeds", "n_left_out")}  # fmt: skip
OVER_NATIVE = {name: name for name in ("modality", "dataset", "split", "task", "arm", "route")} | {
    "native": "reference", "estimate": "estimate",
    **{f"{side}_{end}": f"{side}_{end}" for side in ("queries", "seeds", "both") for end in ("low", "high")},
    "n_seeds": "n_seeds", "n_queries": "n_queries", "n_classes": "n_classes",
}  # fmt: skip


def frames(study: RecordedStudy, results: Results) -> dict[str, pd.DataFrame]:
    """Give the frames of a report by file name; empty ones are left out. Values keep their full precision.

    Behind an arm's name stand its label and a column for each setting that varies over arms, typed
    (docs/rows.md).

    ``models``: every quantity of every model; ``arms``: means over seeds with t intervals; ``contrasts``:
    arms minus the baseline, of each dataset and over datasets; ``power``: seeds that differences would need;
    ``slopes``: gain against gap on the leading tasks; ``measurements``: tasks by arm and route; ``gaps``;
    ``claims``: one row a statement; ``effects`` and ``importances`` of designed studies; ``over_datasets``
    and, over seeds and queries of one dataset, ``over_native``: routes minus native; ``between``: of several
    studies, each minus the first.
    """
    by_metric = {"mAP": results.mean_ap, "hit@1": results.hit_at_1}
    measured = [table.assign(metric=name) for name, table in by_metric.items() if len(table)]
    routes = results.routes
    tables = {
        "models": results.values,
        "arms": _selected(effects.of(results.effects, effects.OWN), ARMS),
        "contrasts": results.contrasts[effects.COLUMNS],
        "power": results.power,
        "slopes": slopes_frame(results.within),
        "measurements": pd.concat(measured, ignore_index=True) if measured else pd.DataFrame(),
        "gaps": results.gaps,
        "claims": claims_frame(results.claims),
        "effects": results.factorial,
        "importances": results.importances.table,
        "over_datasets": _selected(effects.over_datasets_of(routes), OVER_DATASETS),
        "between": results.between,
        "over_native": _selected(effects.of_one_dataset(routes[routes["n_seeds"] > 1]), OVER_NATIVE),
    }
    labels = {arm.name: arm.label for arm in study.arms}
    return {
        name: _plain(with_settings(frame, study.configs, labels) if "arm" in frame else frame)
        for name, frame in tables.items()
        if len(frame)
    }


def write_frames(study: RecordedStudy, results: Results, folder: Path, kind: Kind) -> list[Path]:
    """Write the frames of a report, each atomically, and return their paths."""
    written = []
    for name, frame in frames(study, results).items():
        path = folder / f"{name}.{kind}"
        with atomic_path(path) as temporary:
            if kind == "csv":
                frame.to_csv(temporary, index=False)
            else:
                frame.to_parquet(temporary, index=False)
        written.append(path)
    return written


def _selected(table: pd.DataFrame, columns: Mapping[str, str]) -> pd.DataFrame:
    """Select columns under other names."""
    return pd.DataFrame({name: table[own] for name, own in columns.items()}).reset_index(drop=True)


def slopes_frame(within: tuple[Within, ...]) -> pd.DataFrame:
    """Tabulate how the gain moves with the gap over arms, one row a leading task of two arms or more.

    Returns:
        columns modality, dataset, split, task, route, slope, low, high (points for each unit of the gap),
        spearman, partial, partial_low, partial_high (native mAP held), n_models, n_arms,
        gap_native_spearman, gap_native_n (arms).
    """
    rows = [
        of_task.where._asdict()
        | of_task.slope._asdict()
        | {f"gap_native_{name}": value for name, value in of_task.gap_native._asdict().items()}
        for of_task in within
        if of_task.slope.n_arms > 1
    ]
    return pd.DataFrame(rows)


def claims_frame(claims: tuple[Claim, ...]) -> pd.DataFrame:
    """Tabulate claims, one row a statement; fractions, and partial correlations where the unit says so."""
    return pd.DataFrame([_statement(claim, statement) for claim in claims for statement in claim.statements])


def _statement(claim: Claim, statement: Statement) -> dict[str, Any]:
    row: dict[str, Any] = {
        "claim": claim.number,
        "modality": claim.modality,
        "title": claim.title,
        "claim_verdict": claim.verdict,
        "statement": statement.text,
        "role": statement.role,
        "kind": statement.kind,
        "verdict": statement.verdict,
        "note": statement.note,
        "p_holm": statement.p_holm,
    }
    if statement.slope is not None:
        slope = statement.slope
        nan = float("nan")
        bounds = (slope.partial, nan, nan, slope.partial_low, slope.partial_high, nan, nan)
        counts = (0, slope.n_models)
        unit = "partial correlation"
    elif statement.evidence is not None:
        evidence = statement.evidence
        models = evidence.models
        bounds = (
            evidence.value,
            evidence.low,
            evidence.high,
            models.low,
            models.high,
            evidence.both_low,
            evidence.both_high,
        )
        counts = (evidence.n_queries, evidence.models.n)
        unit = "fraction"
    else:
        bounds, counts, unit = (float("nan"),) * 7, (0, 0), ""
    names = ("value", "queries_low", "queries_high", "models_low", "models_high", "both_low", "both_high",
             "n_queries", "n_models")  # fmt: skip
    return row | dict(zip(names, (*bounds, *counts), strict=True)) | {"unit": unit}


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    """Write what no table format holds, tuples of seeds or settings, as JSON."""
    nested = [column for column in frame.columns if column in ("settings", "per_seed")]
    return frame.assign(**{column: frame[column].map(_json) for column in nested})


def _json(value: Any) -> str:
    return json.dumps(value, default=lambda number: number.item())
