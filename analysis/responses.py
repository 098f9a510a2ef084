"""What a designed study answers: response to a dose, to temperature, to crossed factors; what mattered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from analysis.designs import (
    Ladder,
    changes,
    crossing,
    levels,
    mention_lines,
    temperature_ladder,
    weight_ladders,
)
from analysis.effects import minus_baseline, over_seeds
from analysis.leading import POINTS, Headline, by_modality, of_headline
from analysis.quantities import OBJECT_BIAS
from analysis.stats.crossing import complete_crossing
from analysis.stats.factorial import factorial_effects
from analysis.stats.families import benjamini_hochberg
from analysis.stats.importances import LEAST_POINTS, axis_importances
from analysis.study import RecordedStudy
from crossgap.reading.quoting import MODEL
from crossgap.reading.treatment import DIRECTIONS, short
from crossgap.vocabulary import CROSS_TASKS

REGIME = "objective.temperature.regime"
FAIR_MODES = ("grid", "qmc")  # points drawn without regard to what was found before
NULL = "none"  # how a level that is null is called


class Quantity(NamedTuple):
    """A number of each model in the unit that is printed: columns arm, seed, value."""

    name: str
    unit: str
    values: pd.DataFrame
    larger_is_better: bool | None = None
    is_gain: bool = False


def key_quantities(values: pd.DataFrame, wheres: Sequence[Headline]) -> list[Quantity]:
    """List the few numbers that describe a model: native mAP and gain by modality, gap, hit@1 across.

    Of several datasets the first of each modality counts, and the gap and hit@1 of that dataset.
    """
    quantities = []
    first = {where.modality: where for where in reversed(wheres)}
    for modality in ("image", "text"):
        if modality in first:
            where = first[modality]
            native, gain = (of_headline(values, where, name) for name in ("native", "gain"))
            quantities += [
                Quantity(f"native mAP, {modality}s", "%", _scaled(native), True),
                Quantity(f"{where.route.upper()} gain", "points", _scaled(gain), is_gain=True),
            ]
    datasets = [where.dataset for where in wheres] or list(values["dataset"])
    of_dataset = values[values["dataset"].isin(datasets[:1])]
    gap = of_dataset[of_dataset["quantity"] == "centroid_distance"]
    across = of_dataset[(of_dataset["quantity"] == "native") & of_dataset["task"].isin(CROSS_TASKS)]
    hits = across.groupby(MODEL, sort=False)["value"].mean().reset_index()
    quantities += [
        Quantity("modality gap", "distance", gap[[*MODEL, "value"]], False),
        Quantity("hit@1 across", "%", _scaled(hits), True),
    ]
    return [quantity for quantity in quantities if len(quantity.values)]


def _scaled(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(value=POINTS * frame["value"])


def ladders(study: RecordedStudy) -> list[Ladder]:
    """Find the study's ladders of strengths; none without a baseline."""
    arms = changes(study.configs, study.baseline)
    return weight_ladders(arms, study.baseline) if study.baseline and arms else []


def temperatures(study: RecordedStudy) -> Ladder | None:
    """Find the study's ladder of fixed temperatures."""
    arms = changes(study.configs, study.baseline)
    return temperature_ladder(arms, study.configs, study.baseline) if study.baseline and arms else None


def arms_by_ladder(study: RecordedStudy) -> dict[str, tuple[str, ...]]:
    """Name the arms beside the baseline of each ladder, by what they differ in the strength of."""
    rungs = {f"+ {rung.name}": rung for rung in ladders(study)}
    rung = temperatures(study)
    if rung is not None:
        rungs[rung.name] = rung
    return {name: tuple(arm for arm in rung.doses if arm != study.baseline) for name, rung in rungs.items()}


def along(
    quantities: Sequence[Quantity], rungs: Sequence[Ladder], *, level: float
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Put quantities of models along ladders.

    Returns:
        points: ladder, dose, arm, seed, quantity, unit, value, one row a model; summary: ladder, dose, arm,
        quantity, value, low, high, n_seeds: mean over seeds with its t interval.
    """
    points = [
        quantity.values[quantity.values["arm"].isin(rung.doses)].assign(
            ladder=rung.name, quantity=quantity.name, unit=quantity.unit
        )
        for rung in rungs
        for quantity in quantities
    ]
    columns = ["ladder", "dose", "arm", "seed", "quantity", "unit", "value"]
    if not points:
        return pd.DataFrame(columns=columns), pd.DataFrame()
    frame = pd.concat(points, ignore_index=True)
    doses = {(rung.name, arm): dose for rung in rungs for arm, dose in rung.doses.items()}
    frame["dose"] = [doses[key] for key in zip(frame["ladder"], frame["arm"], strict=True)]
    means = over_seeds(frame, ["ladder", "dose", "arm", "quantity"], level=level)
    return frame[columns], means.drop(columns=["sd", "per_seed"])


def differences(quantities: Sequence[Quantity], baseline: str | None, *, level: float) -> pd.DataFrame:
    """Subtract the baseline from every arm, seed by seed.

    Returns:
        columns quantity, unit, arm, value, low, high (t over seeds), n_seeds, per_seed (tuple of (seed,
        difference)); arms and quantities in their order. Empty without a baseline that was measured.
    """
    units = {quantity.name: quantity.unit for quantity in quantities}
    values = [quantity.values.assign(quantity=quantity.name) for quantity in quantities]
    columns = ["quantity", "unit", "arm", "value", "low", "high", "n_seeds", "per_seed"]
    if not values:
        return pd.DataFrame(columns=columns)
    changes = minus_baseline(pd.concat(values), baseline, ["quantity", "seed"])
    table = over_seeds(changes.sort_values("seed", kind="stable"), ["quantity", "arm"], level=level)
    table["unit"] = ["points" if units[name] == "%" else units[name] for name in table["quantity"]]
    return table[columns]


def over_temperatures(
    study: RecordedStudy, values: pd.DataFrame, where: Headline, *, level: float
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Put gap, native and inverted mAP, gain and hit@1 of a leading task along the ladder of temperatures.

    Arms that change nothing but how the temperature is learned stand at its last value, as ``learnable``.

    Returns:
        points: temperature, arm, seed, quantity, unit, value, learnable; summary: arm, quantity, value, low,
        high. Empty without a ladder.
    """
    rung = temperatures(study)
    if rung is None:
        return pd.DataFrame(), pd.DataFrame()
    native, gain = (of_headline(values, where, name) for name in ("native", "gain"))
    inverted = native.merge(gain, on=MODEL, suffixes=("", "_gain"))
    inverted["value"] = inverted["value"] + inverted["value_gain"]
    route = where.route.upper()
    quantities = [
        Quantity("native mAP", "%", _scaled(native)),
        Quantity(f"mAP by {route}", "%", _scaled(inverted[[*MODEL, "value"]])),
        Quantity(f"{route} gain", "points", _scaled(gain)),
        *(
            quantity
            for quantity in key_quantities(values, [where])
            if quantity.name in ("modality gap", "hit@1 across")
        ),
    ]
    learned = _learned_temperatures(study)
    whole = Ladder(rung.name, rung.doses | dict.fromkeys(learned["arm"], float("nan")))
    points, summary = along(quantities, [whole], level=level)
    points = points.merge(learned, on=MODEL, how="left")
    points["learnable"] = points["last"].notna()
    points["temperature"] = points["last"].fillna(points["dose"])
    return points[points["temperature"] > 0].drop(columns=["ladder", "dose", "last"]), summary


def mentioned(study: RecordedStudy) -> list[Ladder]:
    """Find the arms that differ in mention alone; a line without other changes is named as the baseline."""
    arms = changes(study.configs, study.baseline)
    lines = mention_lines(arms, study.configs) if arms else []
    plain = study.label(study.baseline) if study.baseline else ""
    return [line._replace(name=line.name or plain) for line in lines]


def over_mention_and_steps(study: RecordedStudy, points: pd.DataFrame) -> pd.DataFrame:
    """Put the gain after some steps of inversion, of one setting and token count, beside mention.

    Args:
        points: what :func:`analysis.leading.curve_gains` returns.

    Returns:
        columns line, mention, steps, value, low, high; empty where no three arms differ in mention alone.
    """
    doses = {arm: (line.name, dose) for line in mentioned(study) for arm, dose in line.doses.items()}
    rows = points[points["arm"].isin(doses) & (points["steps"] > 0)]
    if rows.empty:
        return pd.DataFrame(columns=["line", "mention", "steps", "value", "low", "high"])
    fewest_tokens = rows["num_tokens"] == rows["num_tokens"].min()
    rows = rows[fewest_tokens & (rows["setting"] == rows["setting"].iloc[0])]
    line, mention = zip(*(doses[arm] for arm in rows["arm"]), strict=True)
    columns = ["line", "mention", "steps", "value", "low", "high"]
    return rows.assign(line=line, mention=mention)[columns].reset_index(drop=True)


def over_mention(
    study: RecordedStudy, values: pd.DataFrame, where: Headline, gains: pd.DataFrame, *, level: float
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Put gain, native mAP and gap along how often captions name a factor, a line for what else arms share.

    Args:
        gains: gain by arm with its interval, as :attr:`analysis.results.Within.gains`.

    Returns:
        points: line, mention, arm, seed, quantity, unit, value, one row a model; means: line, mention, arm,
        quantity, value, low, high: of the gain over queries, of the others over seeds. Empty where no three
        arms differ in mention alone.
    """
    rungs = mentioned(study)
    if not rungs:
        return pd.DataFrame(), pd.DataFrame()
    native, gain = (of_headline(values, where, name) for name in ("native", "gain"))
    name = f"{where.route.upper()} gain"
    quantities = [
        Quantity(name, "points", _scaled(gain)),
        Quantity("native mAP", "%", _scaled(native)),
        *(quantity for quantity in key_quantities(values, [where]) if quantity.name == "modality gap"),
    ]
    bias = values[(values["quantity"] == OBJECT_BIAS) & (values["dataset"] == where.dataset)]
    if len(bias):
        quantities.append(Quantity(OBJECT_BIAS, "standard deviations", bias[[*MODEL, "value"]]))
    points, means = along(quantities, rungs, level=level)
    bounds = gains.set_index("arm")[["value", "low", "high"]]
    of_gain = means["quantity"] == name
    means.loc[of_gain, bounds.columns] = (POINTS * bounds.reindex(means.loc[of_gain, "arm"])).to_numpy()
    renamed = {"ladder": "line", "dose": "mention"}
    return points.rename(columns=renamed), means.rename(columns=renamed)


def _learned_temperatures(study: RecordedStudy) -> pd.DataFrame:
    """Find the last temperature of each model whose arm differs in the temperature's regime alone."""
    arms = [
        arm
        for arm, changed in changes(study.configs, study.baseline).items()
        if any(name == REGIME for name in changed)
        and all(name.startswith("objective.temperature.") for name in changed)
    ]
    if not {"step", "temperature"} <= set(study.training.columns):
        return pd.DataFrame(columns=[*MODEL, "last"])
    logged = study.training[study.training["arm"].isin(arms)].dropna(subset=["temperature"])
    last = logged.sort_values("step", kind="stable").groupby(MODEL, sort=False)["temperature"].last()
    return last.rename("last").reset_index()


def trade_offs(quantities: Sequence[Quantity], modality: str) -> pd.DataFrame:
    """Join hit@1 across modalities (x), native mAP within one (y) and the gap: one row a model."""
    named = {quantity.name: quantity.values.set_index(MODEL)["value"] for quantity in quantities}
    wanted = {"x": "hit@1 across", "y": f"native mAP, {modality}s", "gap": "modality gap"}
    if wanted["x"] not in named or wanted["y"] not in named:
        return pd.DataFrame()
    columns = {column: named[name] for column, name in wanted.items() if name in named}
    table = pd.concat(columns, axis=1).dropna(subset=["x", "y"]).reset_index()
    return table if "gap" in table else table.assign(gap=float("nan"))


def beside_published(values: pd.DataFrame, wheres: Sequence[Headline]) -> pd.DataFrame:
    """Give this study's averages in the form of the published ones: columns what, arm, native, value (%).

    Means over the datasets of a modality of the means over seeds, so that datasets weigh alike.
    """
    tables = []
    for modality, of_modality in by_modality(wheres).items():
        parts = [
            of_headline(values, where, "native")
            .merge(of_headline(values, where, "gain"), on=MODEL, suffixes=("", "_gain"))
            .groupby("arm", sort=False)[["value", "value_gain"]]
            .mean()
            for where in of_modality
        ]
        means = pd.concat(parts).groupby("arm", sort=False).mean().reset_index()
        data = of_modality[0].dataset if len(of_modality) == 1 else f"mean of {len(of_modality)} sets"
        tables.append(
            pd.DataFrame(
                {
                    "what": f"{modality} retrieval, mAP, {data}; {of_modality[0].route.upper()}",
                    "arm": means["arm"],
                    "native": POINTS * means["value"],
                    "value": POINTS * (means["value"] + means["value_gain"]),
                }
            )
        )
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def effects(study: RecordedStudy, quantities: Sequence[Quantity], *, level: float) -> pd.DataFrame:
    """Estimate main effects and two-way interactions where the arms are a full crossing of factors.

    Only seeds that every cell has count. A level that is null (no moving average, say) is the lowest level of
    its factor, named "none". q: Benjamini-Hochberg over all rows of the table, every term of every quantity.

    Returns:
        columns term, order, estimate, low, high, p, q, df, quantity, unit, n_seeds; empty without a crossing.
    """
    arms = changes(study.configs, study.baseline)
    design = crossing(arms, study.configs) if arms else pd.DataFrame()
    if design.empty:
        return pd.DataFrame()
    factors = [name for name in design.columns if name != "arm"]
    design = _null_named(design.rename(columns={name: short(name) for name in factors}))
    factors = [short(name) for name in factors]
    tables = []
    for quantity in quantities:
        cells = complete_crossing(design.merge(quantity.values, on="arm"), "seed", "arm", least=len(design))
        if len(cells):
            table = factorial_effects(cells, factors, level=level)
            tables.append(
                table.assign(quantity=quantity.name, unit=quantity.unit, n_seeds=cells["seed"].nunique())
            )
    if not tables:
        return pd.DataFrame()
    effects = pd.concat(tables, ignore_index=True)
    q = benjamini_hochberg(effects["p"].to_numpy(float))
    effects.insert(list(effects).index("df"), "q", q)
    return effects


def _null_named(settings: pd.DataFrame) -> pd.DataFrame:
    """Make null a level of its own, the first: numbers follow in ascending order, others as they come."""
    named = settings.copy()
    for name, column in settings.items():
        if column.isna().any():
            others = column.dropna().unique().tolist()
            order = [NULL, *(sorted(others) if pd.api.types.is_numeric_dtype(column) else others)]
            named[name] = pd.Categorical(column.astype(object).where(column.notna(), NULL), order)
    return named


def surface(
    study: RecordedStudy, quantities: Sequence[Quantity]
) -> list[tuple[Quantity, pd.DataFrame, list[str]]]:
    """Give what inversion gains over crossed settings of training and inversion, one entry a modality.

    Returns:
        quantity; one row a model with its value and a column a setting; the settings, those of the training
        before those of the inversion. Empty where inversion was not varied, or the arms are no crossing.
    """
    arms = changes(study.configs, study.baseline)
    design = crossing(arms, study.configs) if arms else pd.DataFrame()
    factors = [name for name in design.columns if name != "arm"]
    if not any(name.startswith(tuple(DIRECTIONS)) for name in factors):
        return []
    factors.sort(key=lambda name: name.startswith(tuple(DIRECTIONS)))
    named = design.rename(columns={name: short(name) for name in factors})
    settings = [short(name) for name in factors]
    return [
        (quantity, named.merge(quantity.values, on="arm"), settings)
        for quantity in quantities
        if quantity.is_gain
    ]


class Importances(NamedTuple):
    """Shares of the axes by quantity, and why there are none where there are none."""

    table: pd.DataFrame
    note: str


def importances(study: RecordedStudy, quantities: Sequence[Quantity]) -> Importances:
    """Tell how much of what makes a value good lies with each varied setting, over the arms of a study.

    Only where points were not drawn towards good values (grid, QMC): a sampler that learns looks longest
    where it already likes what it sees, and importances of its points are of its liking. In a full grid a
    null setting is a level like others; elsewhere it is a setting that the point does not have.
    """
    arms = changes(study.configs, study.baseline)
    varied = list(dict.fromkeys(name for changed in arms.values() for name in changed))
    if study.mode not in FAIR_MODES or len(varied) < 2:
        drawn = study.mode and study.mode not in FAIR_MODES
        note = f"The points of mode {study.mode} were drawn towards good values: no importances are given."
        return Importances(pd.DataFrame(), note if drawn else "")
    if study.mode == "grid" and crossing(arms, study.configs).empty:
        return Importances(pd.DataFrame(), "")
    axes = [short(name) for name in varied]
    settings = levels(arms, study.configs, varied).set_axis(["arm", *axes], axis=1)
    if study.mode == "grid":
        settings = _null_named(settings)
    tables = []
    for quantity in quantities:
        means = quantity.values.groupby("arm")["value"].mean().rename("value").reset_index()
        points = settings.merge(means, on="arm")
        if len(points) < LEAST_POINTS:
            note = f"{len(points)} points are too few for importances: {LEAST_POINTS} are needed."
            return Importances(pd.DataFrame(), note)
        best_is_high = quantity.larger_is_better is not False
        table = axis_importances(points[axes], points["value"], maximise=best_is_high)
        tables.append(table.assign(quantity=quantity.name))
    return Importances(pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(), "")
