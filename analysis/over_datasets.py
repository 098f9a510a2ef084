"""What holds over several datasets: means of what routes add, and on how many it is so."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from analysis.evidence import gather
from analysis.stats.crossing import complete_crossing
from analysis.stats.seeds import win_tie_loss
from analysis.tables import Headline, at
from crossgap.metrics.intervals import Bootstrap
from crossgap.reading.route_values import INTERVAL, to_native

RECORD = ["wins", "ties", "losses"]
COUNTS = ["n_datasets", "n_seeds", "n_left_out"]
COLUMNS = ["modality", "route", "arm", "native", *INTERVAL, *RECORD, *COUNTS]
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


def _mean(differences: pd.DataFrame, bootstrap: Bootstrap) -> dict[str, float | int] | None:
    """Average differences over the datasets, with all that bounds the mean; None without any."""
    evidence = gather(differences, bootstrap=bootstrap)
    if evidence is None:
        return None
    return {
        "value": evidence.value,
        "low": evidence.low,
        "high": evidence.high,
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
