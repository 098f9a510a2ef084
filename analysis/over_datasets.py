"""What holds over several datasets: the mean of an arm's gains, and on how many datasets there is one."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from analysis.evidence import gather
from analysis.stats.bootstrap import Bootstrap
from analysis.stats.seeds import win_tie_loss
from analysis.tables import INTERVAL, MODEL, SIDE, Headline, at, to_native

COLUMNS = ["modality", "route", "arm", "native", *INTERVAL, "wins", "ties", "losses", "n_datasets", "n_seeds"]


def over_datasets(queries: pd.DataFrame, wheres: Sequence[Headline], *, bootstrap: Bootstrap) -> pd.DataFrame:
    """Average native mAP, and what each route adds to it, over the datasets of a modality.

    An arm counts with the datasets that it was measured on by both; a modality with one dataset has no rows.
    Wins, ties and losses: datasets whose mean difference lies above, at or below zero.

    Args:
        queries: quoted per-query values.
        wheres: the leading task of each dataset and modality.

    Returns:
        columns modality, route, arm, native, value, low, high (fractions; intervals over queries, classes
        resampled within each dataset), wins, ties, losses, n_datasets, n_seeds.
    """
    found = []
    for modality in dict.fromkeys(where.modality for where in wheres):
        here = [where for where in wheres if where.modality == modality]
        if len(here) < 2:
            continue
        values = pd.concat([at(queries, where) for where in here])
        values = values[values["metric"] == "mAP"]
        native = values[values["route"] == "native"]
        for (route, arm), changes in to_native(values).groupby(["route", "arm"], sort=False):
            keys = ["dataset", "seed", "query_id", "query_class"]
            differences = changes.groupby(keys, sort=False)["value"].mean().reset_index()
            evidence = gather(differences, bootstrap=bootstrap)
            if evidence is None:
                continue
            mine = native[(native["arm"] == arm) & native["dataset"].isin(differences["dataset"])]
            record = win_tie_loss(differences.groupby("dataset")["value"].mean().tolist())
            found.append(
                {
                    "modality": modality,
                    "route": route,
                    "arm": arm,
                    "native": mine.groupby([*SIDE, *MODEL])["value"].mean().mean(),
                    "value": evidence.value,
                    "low": evidence.low,
                    "high": evidence.high,
                    **record._asdict(),
                    "n_datasets": evidence.n_datasets,
                    "n_seeds": evidence.models.n,
                }
            )
    return pd.DataFrame(found, columns=COLUMNS)
