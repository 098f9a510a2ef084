"""What holds over several datasets: means of what routes add, and of what arms change, and on how many."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from analysis.evidence import gather
from analysis.stats.crossing import complete_crossing
from analysis.stats.families import benjamini_hochberg
from analysis.stats.seeds import win_tie_loss
from analysis.tables import Headline, at
from crossgap.intervals import Bootstrap, paired_difference
from crossgap.quoting import MODEL, SIDE
from crossgap.route_values import INTERVAL, to_native

RECORD = ["wins", "ties", "losses"]
COUNTS = ["n_datasets", "n_seeds", "n_left_out"]
COLUMNS = ["modality", "route", "arm", "native", *INTERVAL, *RECORD, *COUNTS]
ARM_COLUMNS = [
    "modality", "quantity", "arm", *INTERVAL, "models_low", "models_high", "both_low", "both_high", "p", "q",
    *RECORD, *COUNTS,
]  # fmt: skip
CELL = ["seed", "dataset"]


def over_datasets(queries: pd.DataFrame, wheres: Sequence[Headline], *, bootstrap: Bootstrap) -> pd.DataFrame:
    """Average native mAP, and what each route adds to it, over the datasets of a modality.

    Only cells (seed, dataset) that were measured by both routes count, and of these the most that make a
    complete crossing, so that every dataset weighs alike in every seed; an arm with fewer than two datasets
    has no row. ``native`` is that of the same cells.
    Wins, ties and losses: datasets whose mean difference lies above, at or below zero.

    Args:
        queries: quoted per-query values.
        wheres: the leading task of each dataset and modality.

    Returns:
        columns modality, route, arm, native, value, low, high (fractions; intervals over queries, classes
        resampled within each dataset), wins, ties, losses, n_datasets, n_seeds, n_left_out (cells measured
        natively that do not count).
    """
    found = []
    for modality, values in _by_modality(queries, wheres):
        native = values[values["route"] == "native"]
        for (route, arm), changes in to_native(values).groupby(["route", "arm"], sort=False):
            keys = [*CELL, "query_id", "query_class"]
            differences = changes.groupby(keys, sort=False)["value"].mean().dropna().reset_index()
            counted = complete_crossing(differences, *CELL, least=2)
            kept = counted[CELL].drop_duplicates()
            mean = _mean(counted, bootstrap)
            if mean is None:
                continue
            mine = native[native["arm"] == arm]
            left_out = len(mine[CELL].drop_duplicates()) - len(kept)
            own = mine.merge(kept, on=CELL).groupby(CELL)["value"].mean().mean()
            about = {"modality": modality, "route": route, "arm": arm, "native": own}
            found.append(about | mean | {"n_left_out": left_out})
    return pd.DataFrame(found, columns=COLUMNS)


def arms_over_datasets(
    queries: pd.DataFrame, wheres: Sequence[Headline], baseline: str | None, *, bootstrap: Bootstrap
) -> pd.DataFrame:
    """Average each arm minus the baseline over the datasets of a modality, paired by seed and query.

    Quantities: ``native`` mAP, and the inversion ``gain`` (inverted minus native mAP: a difference of
    differences). Only cells (seed, dataset) that both arms have count, and of these the most that make a
    complete crossing, so that every dataset weighs alike in every seed; an arm that shares fewer than two
    datasets with the baseline has no row. q: Benjamini-Hochberg over all rows.

    Args:
        queries: quoted per-query values.
        wheres: the leading task of each dataset and modality.

    Returns:
        columns modality, quantity ("native", "oti gain", "ovi gain"), arm, value, low, high (over queries),
        models_low, models_high (t over seeds), both_low, both_high, p (as :class:`analysis.evidence.Evidence`
        says), q, wins, ties, losses (datasets), n_datasets, n_seeds, n_left_out (cells of the arm that do not
        count); fractions. Empty without a baseline that was measured.
    """
    found = []
    for modality, values in _by_modality(queries, wheres):
        inverted = next(where.route for where in wheres if where.modality == modality)
        gains = to_native(values[values["route"].isin(["native", inverted])])
        keys = [*SIDE, *MODEL, "query_id", "query_class"]
        gains = gains.groupby(keys, sort=False)["value"].mean().reset_index()
        native = values.loc[values["route"] == "native", [*keys, "value"]]
        for quantity, measured in (("native", native), (f"{inverted} gain", gains)):
            valued = measured.dropna(subset=["value"])
            reference = valued[valued["arm"] == baseline]
            changes = paired_difference(
                valued[valued["arm"] != baseline], reference, on=[*SIDE, "seed"], by=[*SIDE, *MODEL]
            )
            cells = valued[["arm", *CELL]].drop_duplicates()
            for arm, mine in changes.groupby("arm", sort=False):
                counted = complete_crossing(mine, *CELL, least=2)
                mean = _mean(counted, bootstrap)
                if mean is None:
                    continue
                left_out = int((cells["arm"] == arm).sum()) - len(counted[CELL].drop_duplicates())
                about = {"modality": modality, "quantity": quantity, "arm": arm}
                found.append(about | mean | {"n_left_out": left_out})
    table = pd.DataFrame(found, columns=ARM_COLUMNS)
    return table.assign(q=benjamini_hochberg(table["p"].to_numpy(float)))


def _mean(differences: pd.DataFrame, bootstrap: Bootstrap) -> dict[str, float | int] | None:
    """Average differences over the datasets, with all that bounds the mean; None without any."""
    evidence = gather(differences, bootstrap=bootstrap)
    if evidence is None:
        return None
    return {
        "value": evidence.value,
        "low": evidence.low,
        "high": evidence.high,
        "models_low": evidence.models.low,
        "models_high": evidence.models.high,
        "both_low": evidence.both_low,
        "both_high": evidence.both_high,
        "p": evidence.p,
        **win_tie_loss(differences.groupby("dataset")["value"].mean().tolist())._asdict(),
        "n_datasets": evidence.n_datasets,
        "n_seeds": evidence.models.n,
    }


def _by_modality(queries: pd.DataFrame, wheres: Sequence[Headline]) -> list[tuple[str, pd.DataFrame]]:
    """Select the mAP of each modality's leading tasks, where these are of several datasets."""
    parts = []
    for modality in dict.fromkeys(where.modality for where in wheres):
        here = [where for where in wheres if where.modality == modality]
        if len(here) > 1:
            values = pd.concat([at(queries, where) for where in here])
            parts.append((str(modality), values[values["metric"] == "mAP"]))
    return parts
