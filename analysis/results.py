"""Everything that is computed of a study once, for the words, the tables and the figures alike."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pandas as pd

from analysis.claims import Claim, judge
from analysis.comparisons import MARGIN, model_values, over_seeds, query_values
from analysis.contrasts import contrasts
from analysis.designed import Importances, Quantity, effects, importances, key_quantities
from analysis.over_datasets import over_datasets
from analysis.over_native import over_native
from analysis.plots.curves import CurvesInfo, curves_info, plain_curves
from analysis.plots.headline import POINTS, HeadlineInfo, headline_info
from analysis.plots.headline import Slope as Line
from analysis.plots.setting_curves import SettingCurvesInfo, setting_curves_info
from analysis.stats.association import Association, Slope, rank_association, slope_over_models
from analysis.study import Study
from analysis.tables import (
    Headline,
    at,
    disagreement,
    gap_values,
    grid_gains,
    headlines,
    query_gains,
    settings,
)
from crossgap.metrics.intervals import Bootstrap
from crossgap.progress import told
from crossgap.reading.quoting import quoted, quoted_queries
from crossgap.reading.route_values import INTERVAL, measurements, route_difference


@dataclass(frozen=True)
class Within:
    """What was found on the leading task of one modality.

    ``gains`` and ``over_pca`` bound mAP(inverted) - mAP(native) and mAP(inverted) - mAP(class PCA) by arm, as
    fractions. ``curves`` holds the arms inverted under one setting, ``setting_curves`` and ``grid`` those
    inverted under several; ``points`` every point of them. ``query_gains``: the gain of each model on each
    query (arm, seed, query_class, query_id, value). ``slope`` (points for each unit of the gap) and
    ``gap_native``, the rank correlation of gap and native mAP, are over arm means.
    """

    where: Headline
    headline: HeadlineInfo
    curves: CurvesInfo
    points: pd.DataFrame
    setting_curves: SettingCurvesInfo
    grid: pd.DataFrame
    settings: pd.DataFrame
    gains: pd.DataFrame
    over_pca: pd.DataFrame
    query_gains: pd.DataFrame
    slope: Slope
    gap_native: Association


@dataclass(frozen=True)
class Results:
    """The numbers of a report.

    ``values`` holds every quantity of every model, ``alone`` its mean by arm, ``contrasts`` each arm minus
    the baseline, empty without a baseline that was measured. ``effects`` and ``importances`` are empty where
    the arms are no crossing, ``over_datasets`` (routes minus native) where there is one dataset and
    ``over_native`` where there is one seed. ``margin`` is what counts as nothing, a fraction.
    """

    bootstrap: Bootstrap
    margin: float
    quoted_rows: pd.DataFrame
    within: tuple[Within, ...]
    claims: tuple[Claim, ...]
    quantities: tuple[Quantity, ...]
    values: pd.DataFrame
    alone: pd.DataFrame
    contrasts: pd.DataFrame
    effects: pd.DataFrame
    importances: Importances
    over_datasets: pd.DataFrame
    over_native: pd.DataFrame
    mean_ap: pd.DataFrame
    hit_at_1: pd.DataFrame
    gaps: pd.DataFrame
    disagreement: float
    rows_without_queries: int


def compute(study: Study, bootstrap: Bootstrap, *, margin: float = MARGIN) -> Results:
    """Compute the numbers of a report from the rows and per-query values of a study."""
    with told("computing values of models"):
        rows = quoted(study.rows)
        queries = quoted_queries(study.per_query, rows)
        labels = {arm.name: arm.label for arm in study.arms}
        off, without = disagreement(rows, queries)
        values = model_values(rows)
        wheres = [where for where in headlines(rows) if len(at(queries, where))]
        quantities = tuple(key_quantities(values, wheres))
        alone = over_seeds(values, level=bootstrap.level)
    found = []
    for number, where in enumerate(wheres, start=1):
        with told(f"computing {where.task} ({number} of {len(wheres)} leading tasks)"):
            found.append(_within(study, rows, queries, where, labels, bootstrap))
    with told("judging claims"):
        claims = judge(study, queries, values, wheres, bootstrap=bootstrap, margin=margin)
    with told(f"contrasting {len(study.arms)} arms with the baseline"):
        compared = contrasts(
            values,
            query_values(queries, wheres),
            wheres,
            study.baseline,
            bootstrap=bootstrap,
            margin=margin,
        )
    with told("computing effects and intervals of every route"):
        return Results(
            bootstrap=bootstrap,
            margin=margin,
            quoted_rows=rows,
            within=tuple(found),
            claims=claims,
            quantities=quantities,
            values=values,
            alone=alone,
            contrasts=compared,
            effects=effects(study, quantities, level=bootstrap.level),
            importances=importances(study, quantities),
            over_datasets=over_datasets(queries, wheres, bootstrap=bootstrap),
            over_native=over_native(queries, wheres, bootstrap=bootstrap),
            mean_ap=measurements(rows, queries, "mAP", bootstrap=bootstrap),
            hit_at_1=measurements(rows, queries, "hit@1", bootstrap=bootstrap),
            gaps=gap_values(rows),
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
    headline = headline_info(rows, queries, where, labels, bootstrap=bootstrap, baseline=study.baseline)
    native = at(rows[(rows["route"] == "native") & (rows["metric"] == "mAP")], where)
    models = headline.points.merge(
        native[["arm", "seed", "value"]].rename(columns={"value": "native"}), on=["arm", "seed"], how="left"
    )
    curves = curves_info(study.rows, rows, study.per_query, where, labels, bootstrap=bootstrap)
    fractions = curves.lines.assign(**{name: curves.lines[name] / POINTS for name in INTERVAL})
    gains = route_difference(here, where.route, "native", ["arm"], bootstrap=bootstrap)
    slope = slope_over_models(models, "gap", "gain", held="native", level=bootstrap.level)
    return Within(
        where=where,
        headline=replace(headline, slope=_line(models, slope)),
        curves=plain_curves(curves),
        points=curves.lines,
        setting_curves=setting_curves_info(curves),
        grid=grid_gains(fractions, gains),
        settings=settings(study.rows, rows, where),
        gains=gains,
        over_pca=route_difference(here, where.route, "class_pca", ["arm"], bootstrap=bootstrap),
        query_gains=query_gains(here, where.route),
        slope=slope,
        gap_native=rank_association(models.groupby("arm")[["gap", "native"]].mean(), "gap", "native"),
    )


def _line(models: pd.DataFrame, slope: Slope) -> Line | None:
    """Give the line through the arm means that the figure draws where the slope has an interval."""
    if pd.isna(slope.low):
        return None
    means = models.dropna(subset=["gap", "gain"]).groupby("arm")[["gap", "gain"]].mean().mean()
    intercept = float(means["gain"] - slope.slope * means["gap"])
    return Line(slope=slope.slope, intercept=intercept, low=slope.low, high=slope.high)
