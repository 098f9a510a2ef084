"""Everything that is computed of a study once, for the words, the tables and the figures alike."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from analysis.plots.curves import CurvesInfo, curves_info, plain_curves
from analysis.plots.headline import POINTS, HeadlineInfo, headline_info
from analysis.plots.setting_curves import SettingCurvesInfo, setting_curves_info
from analysis.stats.association import Association, rank_association
from analysis.stats.bootstrap import Bootstrap
from analysis.study import Study
from analysis.tables import (
    INTERVAL,
    Headline,
    at,
    baseline_differences,
    disagreement,
    gap_values,
    grid_gains,
    headlines,
    measurements,
    quoted,
    quoted_queries,
    route_difference,
    settings,
)


@dataclass(frozen=True)
class Within:
    """What was found on the leading task of one modality.

    ``gains`` and ``over_pca`` bound mAP(inverted) - mAP(native) and mAP(inverted) - mAP(class PCA) by arm, as
    fractions. ``curves`` holds the arms inverted under one setting, ``setting_curves`` and ``grid`` those
    inverted under several. The associations describe the models with a known gap: gap with gain, gap with
    native mAP.
    """

    where: Headline
    headline: HeadlineInfo
    curves: CurvesInfo
    setting_curves: SettingCurvesInfo
    grid: pd.DataFrame
    settings: pd.DataFrame
    gains: pd.DataFrame
    over_pca: pd.DataFrame
    gap_gain: Association
    gap_native: Association


@dataclass(frozen=True)
class Results:
    """The numbers of a report; ``differences`` is empty without a baseline that was measured."""

    bootstrap: Bootstrap
    quoted_rows: pd.DataFrame
    within: tuple[Within, ...]
    mean_ap: pd.DataFrame
    hit_at_1: pd.DataFrame
    gaps: pd.DataFrame
    differences: pd.DataFrame
    disagreement: float
    rows_without_queries: int


def compute(study: Study, bootstrap: Bootstrap) -> Results:
    """Compute the numbers of a report from the rows and per-query values of a study."""
    rows = quoted(study.rows)
    queries = quoted_queries(study.per_query, rows)
    labels = {arm.name: arm.label for arm in study.arms}
    off, without = disagreement(rows, queries)
    differences = pd.DataFrame()
    if study.baseline is not None and study.baseline in set(rows["arm"]) and rows["arm"].nunique() > 1:
        differences = baseline_differences(rows, queries, study.baseline, bootstrap=bootstrap)
    return Results(
        bootstrap=bootstrap,
        quoted_rows=rows,
        within=tuple(
            _within(study, rows, queries, where, labels, bootstrap)
            for where in headlines(rows)
            if len(at(queries, where))
        ),
        mean_ap=measurements(rows, queries, "mAP", bootstrap=bootstrap),
        hit_at_1=measurements(rows, queries, "hit@1", bootstrap=bootstrap),
        gaps=gap_values(rows),
        differences=differences,
        disagreement=off,
        rows_without_queries=without,
    )


def _within(
    study: Study,
    rows: pd.DataFrame,
    queries: pd.DataFrame,
    where: Headline,
    labels: dict[str, str],
    bootstrap: Bootstrap,
) -> Within:
    here = at(queries, where)
    headline = headline_info(rows, queries, where, labels, bootstrap=bootstrap)
    native = at(rows[(rows["route"] == "native") & (rows["metric"] == "mAP")], where)
    models = headline.points.merge(
        native[["arm", "seed", "value"]].rename(columns={"value": "native"}), on=["arm", "seed"], how="left"
    )
    curves = curves_info(study.rows, rows, study.per_query, where, labels, bootstrap=bootstrap)
    fractions = curves.lines.assign(**{name: curves.lines[name] / POINTS for name in INTERVAL})
    gains = route_difference(here, where.route, "native", ["arm"], bootstrap=bootstrap)
    return Within(
        where=where,
        headline=headline,
        curves=plain_curves(curves),
        setting_curves=setting_curves_info(curves),
        grid=grid_gains(fractions, gains),
        settings=settings(study.rows, rows, where),
        gains=gains,
        over_pca=route_difference(here, where.route, "class_pca", ["arm"], bootstrap=bootstrap),
        gap_gain=rank_association(models, "gap", "gain"),
        gap_native=rank_association(models, "gap", "native"),
    )
