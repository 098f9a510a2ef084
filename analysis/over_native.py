"""What each route adds to native features in each arm, over other queries, other seeds, and both at once."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from analysis.evidence import gather
from analysis.tables import Headline, at
from crossgap.metrics.intervals import Bootstrap
from crossgap.reading.route_values import to_native

SIDES = ("queries", "seeds", "both")
COLUMNS = [
    "modality", "dataset", "split", "task", "arm", "route", "native", "estimate",
    *(f"{side}_{bound}" for side in SIDES for bound in ("low", "high")), "n_seeds", "n_queries", "n_classes",
]  # fmt: skip


def over_native(queries: pd.DataFrame, wheres: Sequence[Headline], *, bootstrap: Bootstrap) -> pd.DataFrame:
    """Subtract native mAP from that of every route, paired by seed and query, on the leading tasks.

    Args:
        queries: quoted per-query values.
        wheres: the leading task of each dataset and modality.

    Returns:
        one row an arm and route: ``native`` is the arm's mAP, ``estimate`` the mean difference (fractions),
        with intervals over queries (whole classes resampled), over seeds (t) and over both (two-level t, NaN
        with too few seeds). Only arms of two seeds or more: of one the tables of measurements say it all.
    """
    found = []
    for where in wheres:
        values = at(queries[queries["metric"] == "mAP"], where)
        native = values[values["route"] == "native"].groupby("arm")["value"].mean()
        for (arm, route), changes in to_native(values).groupby(["arm", "route"], sort=False):
            keys = ["dataset", "seed", "query_id", "query_class"]
            evidence = gather(changes.groupby(keys)["value"].mean().reset_index(), bootstrap=bootstrap)
            if evidence is None or evidence.models.n < 2:
                continue
            found.append(
                (
                    where.modality, where.dataset, where.split, where.task, arm, route, native.loc[str(arm)],
                    evidence.value, evidence.low, evidence.high, evidence.models.low, evidence.models.high,
                    evidence.both_low, evidence.both_high, evidence.models.n, evidence.n_queries,
                    evidence.n_classes,
                )
            )  # fmt: skip
    return pd.DataFrame(found, columns=COLUMNS)
