"""Everything that is computed of a study once, for the words, the tables and the figures alike."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace

import pandas as pd

from analysis import MARGIN, claims, effects, quantities, responses
from analysis.between import between
from analysis.designs import ArmRoles
from analysis.leading import (
    POINTS,
    Headline,
    added_to_native,
    at,
    disagreement,
    gap_values,
    grid_gains,
    headlines,
    query_gains,
    settings,
)
from analysis.plots.curves import (
    CurvesInfo,
    SettingCurvesInfo,
    curves_info,
    plain_curves,
    setting_curves_info,
)
from analysis.plots.headline import FittedLine as Line
from analysis.plots.headline import HeadlineInfo, headline_info
from analysis.stats.association import Association, Slope, rank_association, slope_over_models
from analysis.stats.power import price_in_seeds
from analysis.study import RecordedStudy
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
    ``gap_native``, the rank correlation of gap and native mAP, are over arm means. ``slope_of_claim`` is over
    the arms trained on the baseline's data: what captions say changes the gain as well.
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
    slope_of_claim: Slope
    gap_native: Association


@dataclass(frozen=True, kw_only=True)
class MeasuredModels:
    """What models show, each by itself: enough for nearly every figure, which are drawn while more follows.

    ``queries`` are the per-query values behind ``quoted_rows``. ``values`` holds every quantity of every
    model, ``quantities`` the few that describe a model.
    """

    bootstrap: Bootstrap
    quoted_rows: pd.DataFrame
    queries: pd.DataFrame
    values: pd.DataFrame
    quantities: tuple[responses.Quantity, ...]
    within: tuple[Within, ...]
    mean_ap: pd.DataFrame
    hit_at_1: pd.DataFrame
    disagreement: float
    rows_without_queries: int

    @property
    def wheres(self) -> list[Headline]:
        """List the leading tasks."""
        return [within.where for within in self.within]


@dataclass(frozen=True, kw_only=True)
class Results(MeasuredModels):
    """The numbers of a report.

    ``effects`` is the one frame of effects that claims, sentences, tables and exports read; ``key_changes``
    each arm minus the baseline in the ``quantities``. ``factorial`` and ``importances`` are empty where the
    arms are no crossing. ``between`` compares studies that share the report. ``margin`` is what counts as
    nothing, a fraction.
    """

    margin: float
    claims: tuple[claims.Claim, ...]
    effects: pd.DataFrame
    key_changes: pd.DataFrame
    power: pd.DataFrame
    factorial: pd.DataFrame
    importances: responses.Importances
    gaps: pd.DataFrame
    between: pd.DataFrame

    @property
    def contrasts(self) -> pd.DataFrame:
        """Each arm minus the baseline, of each dataset and over datasets."""
        return effects.of(self.effects, effects.MINUS_BASELINE)

    @property
    def routes(self) -> pd.DataFrame:
        """What each route adds to native mAP, of each dataset and over datasets."""
        return effects.of(self.effects, effects.MINUS_NATIVE)


def compute(study: RecordedStudy, bootstrap: Bootstrap, *, margin: float = MARGIN) -> Results:
    """Compute the numbers of a report from the rows and per-query values of a study."""
    return conclude(study, measure(study, bootstrap), margin=margin)


def measure(study: RecordedStudy, bootstrap: Bootstrap) -> MeasuredModels:
    """Compute what each model shows, and the curves of the leading tasks."""
    with told("computing values of models"):
        rows = quoted(study.rows)
        queries = quoted_queries(study.per_query, rows)
        off, without = disagreement(rows, queries)
        values = quantities.model_values(rows)
        wheres = [where for where in headlines(rows) if len(at(queries, where))]
        key_quantities = tuple(responses.key_quantities(values, wheres))
    with told("computing intervals of every route"):
        mean_ap, hit_at_1 = (
            measurements(rows, queries, metric, bootstrap=bootstrap) for metric in ("mAP", "hit@1")
        )
    within = []
    for number, where in enumerate(wheres, start=1):
        with told(f"computing {where.task} ({number} of {len(wheres)} leading tasks)"):
            within.append(_within(study, rows, queries, mean_ap, where, bootstrap))
    return MeasuredModels(
        bootstrap=bootstrap,
        quoted_rows=rows,
        queries=queries,
        values=values,
        quantities=key_quantities,
        within=tuple(within),
        mean_ap=mean_ap,
        hit_at_1=hit_at_1,
        disagreement=off,
        rows_without_queries=without,
    )


def conclude(study: RecordedStudy, measured: MeasuredModels, *, margin: float = MARGIN) -> Results:
    """Compute what arms and routes change, and judge the claims by it."""
    level, values = measured.bootstrap.level, measured.values
    wheres = measured.wheres
    with told(f"computing effects of {len(study.arms)} arms"):
        drafts = claims.drafts(study, values, _routes(measured.mean_ap, wheres))
        table = effects.effects(
            values,
            measured.queries,
            wheres,
            study.baseline,
            bootstrap=measured.bootstrap,
            margin=margin,
            asked=claims.asked_by(drafts),
        )
        slopes: dict[str, Slope] = {
            within.where.modality: within.slope_of_claim for within in reversed(measured.within)
        }
        contrasts = effects.of_one_dataset(effects.of(table, effects.MINUS_BASELINE))
    measurements = {field.name: getattr(measured, field.name) for field in fields(MeasuredModels)}
    return Results(
        **measurements,
        margin=margin,
        claims=claims.judge(study, drafts, table, slopes, alpha=1 - level, margin=margin),
        effects=table,
        key_changes=responses.differences(measured.quantities, study.baseline, level=level),
        power=price_in_seeds(contrasts[contrasts["unit"] == quantities.FRACTION], quantities.WHAT),
        factorial=responses.effects(study, measured.quantities, level=level),
        importances=responses.importances(study, measured.quantities),
        gaps=gap_values(measured.quoted_rows),
        between=between(study, values, measured.queries, wheres, bootstrap=measured.bootstrap, margin=margin),
    )


def _routes(mean_ap: pd.DataFrame, wheres: Iterable[Headline]) -> dict[str, set[str]]:
    """Name the routes measured on the leading tasks of each modality."""
    measured: dict[str, set[str]] = {}
    for where in wheres:
        measured.setdefault(where.modality, set()).update(at(mean_ap, where)["route"])
    return measured


def _within(
    study: RecordedStudy,
    rows: pd.DataFrame,
    queries: pd.DataFrame,
    mean_ap: pd.DataFrame,
    where: Headline,
    bootstrap: Bootstrap,
) -> Within:
    at_task = at(queries, where)
    measured = at(mean_ap, where)
    headline = headline_info(
        rows,
        queries,
        measured,
        where,
        study.labels,
        bootstrap=bootstrap,
        baseline=study.baseline,
        ladders=responses.arms_by_ladder(study),
    )
    native = at(rows[(rows["route"] == "native") & (rows["metric"] == "mAP")], where)
    models = headline.points.merge(
        native[["arm", "seed", "value"]].rename(columns={"value": "native"}), on=["arm", "seed"], how="left"
    )
    curves = curves_info(study.rows, rows, study.per_query, where, study.labels, bootstrap=bootstrap)
    fractions = curves.lines.assign(**{name: curves.lines[name] / POINTS for name in INTERVAL})
    gains = added_to_native(measured[measured["route"] == where.route])
    alike = models[models["arm"].isin(ArmRoles(study).arms_of_same_data)]
    slope, of_claim = (
        slope_over_models(some, "gap", "gain", held="native", level=bootstrap.level)
        for some in (models, alike)
    )
    return Within(
        where=where,
        headline=replace(headline, slope=_line(models, slope)),
        curves=plain_curves(curves),
        points=curves.lines,
        setting_curves=setting_curves_info(curves),
        grid=grid_gains(fractions, gains),
        settings=settings(study.rows, rows, where),
        gains=gains,
        over_pca=route_difference(at_task, where.route, "class_pca", ["arm"], bootstrap=bootstrap),
        query_gains=query_gains(at_task, where.route),
        slope=slope,
        slope_of_claim=of_claim,
        gap_native=rank_association(models.groupby("arm")[["gap", "native"]].mean(), "gap", "native"),
    )


def _line(models: pd.DataFrame, slope: Slope) -> Line | None:
    """Give the line through the arm means that the figure draws where the slope has an interval."""
    if pd.isna(slope.low):
        return None
    means = models.dropna(subset=["gap", "gain"]).groupby("arm")[["gap", "gain"]].mean().mean()
    intercept = float(means["gain"] - slope.slope * means["gap"])
    return Line(slope=slope.slope, intercept=intercept, low=slope.low, high=slope.high)
