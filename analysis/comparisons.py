"""What was measured of each model, by itself and by query, over seeds, and what seeds would buy."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from analysis.stats.power import sd_interval, seeds_needed
from analysis.stats.seeds import paired_seeds
from analysis.tables import Headline, at, headlines
from crossgap.reading.quoting import MODEL, SIDE
from crossgap.reading.route_values import to_reference
from crossgap.vocabulary import INVERSIONS, is_cross_modal

WHAT = ["quantity", *SIDE]
MARGIN = 0.005  # half a point of mAP: what counts as nothing in a test of equivalence (methods: +-0.5 mAP)
EFFECT = 0.01  # one point: the effect whose price in seeds is told
EFFECTS = (0.005, EFFECT, 0.02)  # those of the table of prices
OBJECT_BIAS = "object bias"
GAPS = ("centroid_distance", "RMG")
FRACTION = "fraction"  # the unit that is printed as points


def model_values(quoted_rows: pd.DataFrame) -> pd.DataFrame:
    """List what was measured of each model, one row a model and quantity.

    Quantities: ``native`` (mAP within a modality on every task, hit@1 across), ``gain`` (inverted minus
    native mAP) and ``gain over class_pca`` on the leading tasks, ``oti change`` and ``ovi change`` (of
    zero-shot hit@1), the gap by its metrics, and of made worlds the ``object bias``: how much more native
    similarity follows the object than the colour (``similarity_by_object`` minus ``similarity_by_colour``).

    Returns:
        columns quantity, dataset, split, task, unit, arm, seed, value; fractions where the unit is one.
    """
    rows = quoted_rows.assign(unit=quoted_rows["unit"].fillna(FRACTION), query_id="", query_class="")
    return _quantities(rows, headlines(quoted_rows)).drop(columns=["query_id", "query_class"])


def query_values(queries: pd.DataFrame, wheres: Sequence[Headline]) -> pd.DataFrame:
    """List the same quantities of each model and query, of what is measured by query.

    Args:
        queries: quoted per-query values.
        wheres: the leading task of each dataset and modality.

    Returns:
        columns quantity, dataset, split, task, unit, arm, seed, query_id, query_class, value.
    """
    return _quantities(queries.assign(unit=FRACTION), wheres)


def _quantities(frame: pd.DataFrame, wheres: Sequence[Headline]) -> pd.DataFrame:
    across = frame["task"].map(is_cross_modal).astype(bool)
    of_task = frame[frame["metric"] == across.map({True: "hit@1", False: "mAP"})]
    parts = [of_task[of_task["route"] == "native"].assign(quantity="native")]
    for where in wheres:
        here = at(of_task, where)
        for reference, quantity in (("native", "gain"), ("class_pca", "gain over class_pca")):
            parts.append(_change(here, where.route, reference, quantity))
    zero_shot = of_task[of_task["task"].str.startswith("zero-shot")]
    for route in INVERSIONS.values():
        parts.append(_change(zero_shot, route, "native", f"{route} change"))
    gaps = frame[(frame["task"] == "gap") & (frame["route"] == "native") & frame["metric"].isin(GAPS)]
    parts.append(gaps.assign(quantity=gaps["metric"]))
    parts.append(_object_bias(frame))
    keys = [*WHAT, "unit", *MODEL, "query_id", "query_class"]
    values = pd.concat(
        [part[[*keys, "value"]] for part in parts if len(part)] or [parts[0][[*keys, "value"]]]
    )
    return values.groupby(keys, sort=False, dropna=False)["value"].mean().reset_index()


def _change(frame: pd.DataFrame, route: str, reference: str, quantity: str) -> pd.DataFrame:
    mine, other = (frame[frame["route"] == name] for name in (route, reference))
    return to_reference(mine, other).assign(quantity=quantity, unit=FRACTION)


def _object_bias(frame: pd.DataFrame) -> pd.DataFrame:
    native = frame[(frame["task"] == "factors") & (frame["route"] == "native")]
    by_object, by_colour = (
        native[native["metric"] == f"similarity_by_{factor}"] for factor in ("object", "colour")
    )
    on = [*SIDE, *MODEL]
    colour = by_colour[[*on, "value"]].rename(columns={"value": "colour"})
    both = by_object.merge(colour, on=on)
    return both.assign(value=both["value"] - both["colour"], quantity=OBJECT_BIAS)


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


def price_in_seeds(contrasts: pd.DataFrame) -> pd.DataFrame:
    """Tell how many seeds differences of some sizes would need, by the spread that these seeds show.

    Each quantity that is a fraction is told by the arm whose differences have the median spread.

    Args:
        contrasts: what :func:`analysis.contrasts.contrasts` returns, of single datasets.

    Returns:
        one row a quantity and effect: columns quantity, dataset, split, task, arm, sd, sd_low, sd_high (95 %
        interval; fractions), n_seeds, effect (a fraction), seeds, seeds_low, seeds_high: for a two-sided t
        test at .05 with power .8 at sd, sd_low and sd_high; missing: more than 1,000.
    """
    table = contrasts[(contrasts["unit"] == FRACTION) & (contrasts["n_seeds"] > 1)]
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


def of_headline(values: pd.DataFrame, where: Headline, quantity: str) -> pd.DataFrame:
    """Select one quantity of the models on a leading task: columns arm, seed, value."""
    here = at(values[values["quantity"] == quantity], where)
    return here[[*MODEL, "value"]].reset_index(drop=True)
