"""Arms against the baseline over paired seeds: quantities of models, differences, how sure they are."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from analysis.stats.equivalence import equivalence
from analysis.stats.families import benjamini_hochberg
from analysis.stats.power import sd_interval, seeds_needed
from analysis.stats.seeds import paired_seeds, win_tie_loss
from analysis.tables import Headline, at, headlines
from crossgap.quoting import MODEL, SIDE
from crossgap.vocabulary import is_cross_modal

WHAT = ["quantity", *SIDE]
MARGIN = 0.005  # half a point of mAP: what counts as nothing in a test of equivalence (methods: +-0.5 mAP)
EFFECT = 0.01  # one point: the effect whose price in seeds is told
EFFECTS = (0.005, EFFECT, 0.02)  # those of the table of prices
GAPS = ("centroid_distance", "RMG")
FRACTION = "fraction"  # the unit that is printed as points


def model_values(quoted_rows: pd.DataFrame) -> pd.DataFrame:
    """List what was measured of each model, one row a model and quantity.

    Quantities: ``native`` (mAP within a modality on every task, hit@1 across), ``gain`` (inverted minus
    native mAP) and ``gain over class_pca`` on the leading tasks, ``oti change`` and ``ovi change`` (of
    zero-shot hit@1), and the gap by its metrics.

    Returns:
        columns quantity, dataset, split, task, unit, arm, seed, value; fractions where the unit is one.
    """
    keys = [*SIDE, *MODEL]
    rows = quoted_rows.assign(unit=quoted_rows["unit"].fillna(FRACTION))
    across = rows["task"].map(is_cross_modal).astype(bool)
    of_task = rows["metric"] == across.map({True: "hit@1", False: "mAP"})
    native = rows[of_task & (rows["route"] == "native")].assign(quantity="native")
    parts = [native]
    for where in headlines(quoted_rows):
        here = at(rows[of_task], where)
        inverted = here[here["route"] == where.route]
        for reference, quantity in (("native", "gain"), ("class_pca", "gain over class_pca")):
            parts.append(_change(inverted, here[here["route"] == reference], keys, quantity))
    for route in ("oti", "ovi"):
        zero_shot = rows[of_task & rows["task"].str.startswith("zero-shot")]
        mine = zero_shot[zero_shot["route"] == route]
        parts.append(_change(mine, zero_shot[zero_shot["route"] == "native"], keys, f"{route} change"))
    gaps = rows[(rows["task"] == "gap") & (rows["route"] == "native") & rows["metric"].isin(GAPS)]
    parts.append(gaps.assign(quantity=gaps["metric"]))
    columns = [*WHAT, "unit", *MODEL, "value"]
    values = pd.concat([part[columns] for part in parts if len(part)] or [native[columns]])
    return values.groupby([*WHAT, "unit", *MODEL], sort=False, dropna=False)["value"].mean().reset_index()


def _change(frame: pd.DataFrame, reference: pd.DataFrame, keys: list[str], quantity: str) -> pd.DataFrame:
    joined = frame.merge(reference[[*keys, "value"]], on=keys, suffixes=("", "_reference"))
    return joined.assign(value=joined["value"] - joined["value_reference"], quantity=quantity)


def over_seeds(values: pd.DataFrame, *, level: float) -> pd.DataFrame:
    """Average each quantity of each arm over its seeds, with the t interval of the mean.

    Returns:
        columns quantity, dataset, split, task, unit, arm, value, low, high, sd, n_seeds.
    """
    by = [*WHAT, "unit", "arm"]
    found = [
        (*key, *_interval(group["value"].tolist(), level=level))
        for key, group in values.groupby(by, sort=False, dropna=False)
    ]
    return pd.DataFrame(found, columns=[*by, "value", "low", "high", "sd", "n_seeds"])


def _interval(values: Sequence[float], *, level: float) -> tuple[float, float, float, float, int]:
    paired = paired_seeds(values, level=level)
    return paired.value, paired.low, paired.high, paired.sd, paired.n


def against_baseline(
    values: pd.DataFrame, baseline: str | None, *, level: float, margin: float = MARGIN
) -> pd.DataFrame:
    """Subtract the baseline from every arm, seed by seed, and say how sure the difference is over seeds.

    q: Benjamini-Hochberg over all rows of the table (exploration: nobody declared one of them beforehand);
    equivalent: whether a test of equivalence (TOST, at half of 1 - level: the simulation finds that at .05 it
    claims too much) finds the difference within ``margin``, fractions alone;
    wins, ties, losses: seeds; seeds_needed: for a difference of one point at power .8, fractions alone.

    Returns:
        columns quantity, dataset, split, task, unit, arm, value, low, high, sd, effect_size, n_seeds, p_t,
        p_flip, p_flip_least, q, p_equivalence, equivalent, wins, ties, losses, seeds_needed, per_seed (tuple
        of (seed, difference)). Seeds that one side lacks are left out; an arm that shares none has no row,
        and without a baseline there are none at all.
    """
    found = []
    by = [*WHAT, "unit", "arm"]
    changes = minus_baseline(values, baseline, [*WHAT, "unit", "seed"])
    for key, group in changes.groupby(by, sort=False, dropna=False):
        group = group.sort_values("seed")
        differences = group["value"].tolist()
        paired = paired_seeds(differences, level=level)
        row = dict(zip(by, key, strict=True)) | paired._asdict() | win_tie_loss(differences)._asdict()
        row["n_seeds"] = row.pop("n")
        row["per_seed"] = tuple(zip(group["seed"], differences, strict=True))
        points = row["unit"] == FRACTION
        row["p_equivalence"], row["equivalent"] = float("nan"), None
        row["seeds_needed"] = None
        if points and paired.n > 1:
            test = equivalence(differences, margin, alpha=(1 - level) / 2)
            row["p_equivalence"], row["equivalent"] = test.p, test.equivalent
            row["seeds_needed"] = seeds_needed(paired.sd, EFFECT, alpha=1 - level)
        found.append(row)
    columns = [
        *by, "value", "low", "high", "sd", "effect_size", "n_seeds", "p_t", "p_flip", "p_flip_least",
        "p_equivalence", "equivalent", "wins", "ties", "losses", "seeds_needed", "per_seed",
    ]  # fmt: skip
    table = pd.DataFrame(found, columns=columns)
    q = benjamini_hochberg(table["p_t"].to_numpy(float))
    table.insert(columns.index("p_equivalence"), "q", q)
    return table


def price_in_seeds(comparisons: pd.DataFrame) -> pd.DataFrame:
    """Tell how many seeds differences of some sizes would need, by the spread that these seeds show.

    Each quantity that is a fraction is told by the arm whose differences have the median spread.

    Args:
        comparisons: what :func:`against_baseline` returns.

    Returns:
        one row a quantity and effect: columns quantity, dataset, split, task, arm, sd, sd_low, sd_high (95 %
        interval; fractions), n_seeds, effect (a fraction), seeds, seeds_low, seeds_high: for a two-sided t
        test at .05 with power .8 at sd, sd_low and sd_high; missing: more than 1,000.
    """
    table = comparisons[(comparisons["unit"] == FRACTION) & (comparisons["n_seeds"] > 1)]
    rows = []
    for key, group in table.groupby(WHAT, sort=False):
        middle = group.sort_values("sd", kind="stable").iloc[(len(group) - 1) // 2]
        spread = sd_interval([value for _, value in middle["per_seed"]])
        for effect in EFFECTS:
            needed = [seeds_needed(sd, effect) for sd in spread]
            rows.append((*key, middle["arm"], *spread, middle["n_seeds"], effect, *needed))
    counts = ["seeds", "seeds_low", "seeds_high"]
    columns = [*WHAT, "arm", "sd", "sd_low", "sd_high", "n_seeds", "effect", *counts]
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(counts, "Int64"))


def minus_baseline(values: pd.DataFrame, baseline: str | None, on: Sequence[str]) -> pd.DataFrame:
    """Subtract the baseline's ``value`` from that of every other arm's rows that share the columns ``on``.

    Rows without a counterpart are left out.
    """
    reference = values.loc[values["arm"] == baseline, [*on, "value"]]
    joined = values[values["arm"] != baseline].merge(reference, on=list(on), suffixes=("", "_baseline"))
    joined["value"] -= joined.pop("value_baseline")
    return joined


def of_headline(values: pd.DataFrame, where: Headline, quantity: str) -> pd.DataFrame:
    """Select one quantity of the models on a leading task: columns arm, seed, value."""
    here = at(values[values["quantity"] == quantity], where)
    return here[[*MODEL, "value"]].reset_index(drop=True)
