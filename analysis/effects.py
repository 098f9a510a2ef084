"""One frame of effects: what arms reach, what routes add and what arms change, with all that bounds it.

The one place that subtracts a route or an arm from another. Claims, sentences, tables, figures and exports
read :func:`effects` and compute no statistics of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pandas as pd

from analysis import MARGIN
from analysis.leading import Headline, at, by_modality
from analysis.quantities import FRACTION, QUERY, WHAT, query_values
from analysis.stats.crossing import complete_crossing
from analysis.stats.equivalence import equivalence
from analysis.stats.evidence import Evidence, arms_in, average_arms, gather
from analysis.stats.families import benjamini_hochberg
from analysis.stats.power import EFFECT, seeds_needed
from analysis.stats.seeds import Paired, paired_seeds, win_tie_loss
from crossgap.metrics.intervals import Bootstrap, paired_difference
from crossgap.reading.quoting import SIDE
from crossgap.reading.route_values import to_native, to_reference
from crossgap.vocabulary import is_cross_modal

OWN, MINUS_NATIVE, MINUS_BASELINE = "own value", "minus native", "minus baseline"  # contrasts
CELL = ["seed", "dataset"]
COLUMNS = [
    "quantity", "contrast", "arm", "modality", "dataset", "split", "task", "unit", "estimate", "queries_low",
    "queries_high", "seeds_low", "seeds_high", "both_low", "both_high", "p", "q", "sd", "effect_size", "p_t",
    "p_flip", "p_flip_least", "p_equivalence", "equivalent", "wins", "ties", "losses", "seeds_needed",
    "n_seeds", "n_queries", "n_classes", "n_datasets", "n_left_out", "per_seed",
]  # fmt: skip
FURTHER = ["route", "reference", "arms", "minus"]  # of some contrasts
_NAN = float("nan")


class AskedContrast(NamedTuple):
    """A difference that a claim asks for: of two routes, averaged over arms, minus the same of other arms.

    ``metric``: mAP of the leading tasks of a modality, or hit@1 of the first zero-shot task of each dataset.
    """

    metric: str
    modality: str
    route: str
    reference: str
    arms: tuple[str, ...]
    minus: tuple[str, ...] = ()

    @property
    def contrast(self) -> str:
        """Name the difference as the frame does."""
        words = f"{self.route} minus {self.reference}"
        return f"{words}, minus that of {' + '.join(self.minus)}" if self.minus else words


def effects(
    values: pd.DataFrame,
    queries: pd.DataFrame,
    wheres: Sequence[Headline],
    baseline: str | None,
    *,
    bootstrap: Bootstrap,
    margin: float = MARGIN,
    asked: Sequence[AskedContrast] = (),
) -> pd.DataFrame:
    """Tabulate every effect of a study, one row a quantity, contrast, arm and task.

    Contrasts: ``own value``, the mean of an arm over its seeds; ``minus native``, what each route adds to
    native mAP on the leading tasks; ``minus baseline``, each arm minus the baseline, paired by seed, and by
    query where there are per-query values of all these seeds; and those that are ``asked`` for. Of several
    datasets with a leading task in one modality also the mean over them: only the largest complete crossing
    of seeds and datasets counts, so that datasets weigh alike in every seed; an arm with fewer than two
    datasets has no such row.

    Args:
        values: what :func:`analysis.quantities.model_values` returns.
        queries: quoted per-query values.
        wheres: the leading task of each dataset and modality.
        baseline: the arm that is subtracted; None, or one that was not measured: nothing is minus it.
        margin: what counts as nothing, a fraction.

    Returns:
        :data:`COLUMNS` and :data:`FURTHER`. ``estimate`` in the unit of the row. ``queries_*`` bound it over
        queries (whole classes resampled), ``seeds_*`` by t over seeds, ``both_*`` over both at once where so
        few seeds support it; ``p`` is that of what decides (:class:`analysis.stats.evidence.Evidence`), of
        values without queries that of t; missing of arms compared by one seed. ``q``, of contrasts to the
        baseline: Benjamini-Hochberg, over the rows of single datasets and over those of means apart
        (exploration: nobody declared one of them beforehand). ``equivalent``: whether a test of equivalence
        (TOST, at half of 1 - level: the simulation finds that at .05 it claims too much) finds the difference
        within ``margin``, fractions alone. ``seeds_needed``: for a difference of one point at power .8. wins,
        ties, losses: seeds, of a mean datasets. ``dataset`` names the dataset, or is empty of a mean over
        ``n_datasets``; ``n_left_out``: cells (seed, dataset) of the arm that do not count. ``per_seed``:
        tuple of (seed, difference).
        ``route`` and ``reference`` (the native mAP of the same cells) belong to what routes add, ``arms`` and
        ``minus``, those that count on either side, to what was asked; such a row without a measurement has
        NaN and no seeds.
    """
    by_query = query_values(queries, wheres)
    rows = [
        *_own(values),
        *_to_native(queries, wheres, bootstrap),
        *_to_baseline(values, by_query, wheres, baseline, bootstrap),
        *_answers(asked, queries, wheres, bootstrap),
    ]
    table = pd.DataFrame([completed(row, bootstrap, margin) for row in rows], columns=[*COLUMNS, *FURTHER])
    compared = table["contrast"] == MINUS_BASELINE
    for family in (compared & (table["dataset"] != ""), compared & (table["dataset"] == "")):
        table.loc[family, "q"] = benjamini_hochberg(table.loc[family, "p"].to_numpy(float))
    return table


def answers(
    asked: Sequence[AskedContrast], queries: pd.DataFrame, wheres: Sequence[Headline], *, bootstrap: Bootstrap
) -> dict[AskedContrast, Evidence | None]:
    """Bound each difference that is asked for, and nothing else; None of one without a measurement.

    Args:
        queries: quoted per-query values.
        wheres: the tasks that count as leading.
    """
    rows = _answers(asked, queries, wheres, bootstrap)
    return {question: row["evidence"] for question, row in zip(dict.fromkeys(asked), rows, strict=True)}


def of(table: pd.DataFrame, contrast: str) -> pd.DataFrame:
    """Select the rows of one contrast."""
    return table[table["contrast"] == contrast].reset_index(drop=True)


def of_one_dataset(table: pd.DataFrame) -> pd.DataFrame:
    """Select the effects on single datasets."""
    return table[table["dataset"] != ""]


def over_datasets_of(table: pd.DataFrame) -> pd.DataFrame:
    """Select the effects that are means over datasets."""
    return table[table["dataset"] == ""]


def answer_to(table: pd.DataFrame, asked: AskedContrast) -> pd.Series:
    """Find the row that answers what was asked."""
    key = {"quantity": asked.metric, "modality": asked.modality, "contrast": asked.contrast}
    matches = (table[list(key)] == list(key.values())).all(axis=1) & (table["arm"] == " + ".join(asked.arms))
    return table[matches].iloc[0]


def evidence_of(row: pd.Series) -> Evidence | None:
    """Give a row of :func:`effects` as the evidence that verdicts are made of; None without a measurement."""
    if not row["n_seeds"]:
        return None
    models = Paired(
        value=row["estimate"],
        low=row["seeds_low"],
        high=row["seeds_high"],
        n=int(row["n_seeds"]),
        **{name: row[name] for name in ("sd", "effect_size", "p_t", "p_flip", "p_flip_least")},
    )
    return Evidence(
        value=row["estimate"],
        low=row["queries_low"],
        high=row["queries_high"],
        models=models,
        **{name: row[name] for name in ("both_low", "both_high", "p")},
        **{name: int(row[name]) for name in ("n_queries", "n_classes", "n_datasets")},
    )


def minus_baseline(values: pd.DataFrame, baseline: str | None, on: Sequence[str]) -> pd.DataFrame:
    """Subtract the baseline's ``value`` from that of every other arm that shares the columns ``on``.

    Args:
        values: columns ``on`` (seed among them), arm, value: one row a model, or with query_id and
            query_class one row a model and query.
        baseline: the arm that is subtracted; None, or one that was not measured: there is no row.

    Returns:
        columns ``on``, arm, value, and query_id, query_class if there were any. What the baseline lacks is
        left out.

    Raises:
        InputError: a model and the baseline's answered different queries.
    """
    by_query = "query_id" in values
    whole = values if by_query else values.assign(query_id="", query_class="")
    is_baseline = whole["arm"] == baseline
    changes = paired_difference(whole[~is_baseline], whole[is_baseline], on=on, by=[*on, "arm"])
    return changes if by_query else changes.drop(columns=QUERY)


def between(values: pd.DataFrame, arms: Sequence[str], references: Sequence[str]) -> pd.DataFrame:
    """Subtract the mean over reference arms from that over arms, paired by seed, dataset and query.

    Each mean is over a complete crossing of its arms and seeds; seeds that one side lacks are left out.

    Args:
        values: columns arm, seed, dataset, query_id, query_class, value.

    Returns:
        columns seed, dataset, query_id, query_class, value.

    Raises:
        InputError: both sides of a seed and dataset answered different queries.
    """
    sides = (average_arms(values, names) for names in (arms, references))
    return paired_difference(*sides, on=CELL, by=CELL)


def over_seeds(values: pd.DataFrame, by: Sequence[str], *, level: float) -> pd.DataFrame:
    """Average values, or differences of models, over seeds, one row a group of ``by``.

    Returns:
        columns ``by``, value, low, high (t over seeds), sd, n_seeds, per_seed (tuple of (seed, value)).
    """
    rows = []
    for key, group in values.groupby(list(by), sort=False, dropna=False, observed=True):
        mean = paired_seeds(group["value"].tolist(), level=level)
        per_seed = tuple(zip(group["seed"], group["value"], strict=True))
        rows.append((*key, mean.value, mean.low, mean.high, mean.sd, mean.n, per_seed))
    return pd.DataFrame(rows, columns=[*by, "value", "low", "high", "sd", "n_seeds", "per_seed"])


def _own(values: pd.DataFrame) -> Iterator[dict[str, Any]]:
    for key, group in values.groupby([*WHAT, "unit", "arm"], sort=False, dropna=False):
        yield _about([*WHAT, "unit", "arm"], key, OWN) | {"per_seed": _pairs(group)}


def _to_baseline(
    values: pd.DataFrame,
    by_query: pd.DataFrame,
    wheres: Sequence[Headline],
    baseline: str | None,
    bootstrap: Bootstrap,
) -> Iterator[dict[str, Any]]:
    on, by = [*WHAT, "unit", "seed"], [*WHAT, "unit", "arm"]
    of_models = minus_baseline(values, baseline, on)
    of_queries = minus_baseline(by_query, baseline, on)
    groups = dict(list(of_queries.groupby(by, sort=False, dropna=False, observed=True)))
    for key, group in of_models.groupby(by, sort=False, dropna=False):
        row = _about(by, key, MINUS_BASELINE) | {"per_seed": _pairs(group)}
        evidence = gather(groups[key], bootstrap=bootstrap) if key in groups else None
        if evidence is not None and evidence.models.n == len(group):  # all that count have their queries
            row |= {"evidence": evidence}
        yield row
    leading = of_queries["quantity"].isin(("native", "gain"))
    measured = by_query.dropna(subset=["value"])
    for modality, rows, kept in _crossings(of_queries[leading], wheres, ["quantity", "arm"]):
        quantity, arm = rows["quantity"].iloc[0], rows["arm"].iloc[0]
        own = measured[(measured["quantity"] == quantity) & (measured["arm"] == arm)]
        about = {"quantity": quantity, "arm": arm, "modality": modality, "contrast": MINUS_BASELINE}
        yield about | _mean(kept, _cells(own, modality, wheres), bootstrap)


def _to_native(
    queries: pd.DataFrame, wheres: Sequence[Headline], bootstrap: Bootstrap
) -> Iterator[dict[str, Any]]:
    """Subtract native mAP from that of every route on the leading tasks; inversion seeds are averaged."""
    mean_ap = queries[queries["metric"] == "mAP"]
    keys = [*SIDE, "arm", "route", "seed", *QUERY]
    changes = to_native(mean_ap).groupby(keys, sort=False, observed=True)["value"].mean().reset_index()
    native = mean_ap[mean_ap["route"] == "native"]
    about: dict[str, Any] = {"quantity": "mAP", "contrast": MINUS_NATIVE}
    for where in wheres:
        levels = at(native, where).groupby("arm", observed=True)["value"].mean()
        for (arm, route), rows in at(changes, where).groupby(["arm", "route"], sort=False, observed=True):
            evidence = gather(rows, bootstrap=bootstrap)
            by_seed = rows.groupby("seed")["value"].mean().reset_index()
            if evidence is not None:
                yield about | where._asdict() | {
                    "arm": arm, "route": route, "reference": levels.loc[str(arm)], "unit": FRACTION,
                    "evidence": evidence, "per_seed": _pairs(by_seed),
                }  # fmt: skip
    for modality, rows, kept in _crossings(changes, wheres, ["route", "arm"]):
        route, arm = rows["route"].iloc[0], rows["arm"].iloc[0]
        own = native[native["arm"] == arm]
        cells = kept[CELL].drop_duplicates()
        counted = own[_leads(own, modality, wheres)].merge(cells, on=CELL)
        level = counted.groupby(CELL, observed=True)["value"].mean().mean()
        row = {"modality": modality, "arm": arm, "route": route, "reference": level}
        yield about | row | _mean(kept, _cells(own, modality, wheres), bootstrap)


def _answers(
    asked: Sequence[AskedContrast], queries: pd.DataFrame, wheres: Sequence[Headline], bootstrap: Bootstrap
) -> Iterator[dict[str, Any]]:
    changes: dict[tuple[str, ...], pd.DataFrame] = {}
    for question in dict.fromkeys(asked):
        arms, minus = question.arms, question.minus
        if question[:4] not in changes:
            same = [other for other in asked if other[:4] == question[:4]]
            changes[question[:4]] = _between_routes(same, queries, wheres)
        change = changes[question[:4]]
        difference = between(change, arms, minus) if minus else average_arms(change, arms)
        about = {"quantity": question.metric, "modality": question.modality, "contrast": question.contrast}
        about |= {"arm": " + ".join(arms), "dataset": "", "split": "", "task": "", "unit": FRACTION}
        sides = {"arms": tuple(arms_in(change, arms)), "minus": tuple(arms_in(change, minus))}
        yield about | sides | {"evidence": gather(difference, bootstrap=bootstrap), "per_seed": ()}


def _between_routes(
    asked: Sequence[AskedContrast], queries: pd.DataFrame, wheres: Sequence[Headline]
) -> pd.DataFrame:
    """Subtract a route from another for each model and query of the arms that are asked for."""
    metric, modality, route, reference = asked[0][:4]
    arms = {arm for question in asked for arm in (*question.arms, *question.minus)}
    rows = queries[
        (queries["metric"] == metric) & queries["route"].isin([route, reference]) & queries["arm"].isin(arms)
    ]
    rows = rows[_leads(rows, modality, wheres)] if metric == "mAP" else _first_zero_shot(rows, queries)
    change = to_reference(*(rows[rows["route"] == name] for name in (route, reference)))
    return change.groupby(["arm", *CELL, *QUERY], sort=False, observed=True)["value"].mean().reset_index()


def _first_zero_shot(rows: pd.DataFrame, queries: pd.DataFrame) -> pd.DataFrame:
    """Select the first zero-shot task of each dataset."""
    tasks = queries.loc[queries["metric"] == "hit@1", ["dataset", "task"]].drop_duplicates()
    tasks = tasks[tasks["task"].str.startswith("zero-shot")].drop_duplicates("dataset")
    first = set(tasks.itertuples(index=False, name=None))
    return rows[[key in first for key in zip(rows["dataset"], rows["task"], strict=True)]]


def _leads(frame: pd.DataFrame, modality: str, wheres: Sequence[Headline]) -> pd.Series:
    """Mark the rows of the leading tasks of a modality."""
    marked = pd.Series(False, index=frame.index)
    for where in by_modality(wheres).get(modality, ()):
        marked.loc[at(frame, where).index] = True
    return marked


def _crossings(
    changes: pd.DataFrame, wheres: Sequence[Headline], by: list[str]
) -> Iterator[tuple[str, pd.DataFrame, pd.DataFrame]]:
    """Give, for each modality that leads on several datasets, the rows of groups and those that count."""
    for modality, of_modality in by_modality(wheres).items():
        if len(of_modality) > 1:
            leading = pd.concat([at(changes, where) for where in of_modality])
            for _, rows in leading.groupby(by, sort=False, observed=True):
                kept = complete_crossing(rows.dropna(subset=["value"]), *CELL, least=2)
                if len(kept):
                    yield modality, rows, kept


def _cells(own: pd.DataFrame, modality: str, wheres: Sequence[Headline]) -> int:
    """Count the cells in which an arm was measured on the leading tasks."""
    return len(own.loc[_leads(own, modality, wheres), CELL].drop_duplicates())


def _mean(kept: pd.DataFrame, n_cells: int, bootstrap: Bootstrap) -> dict[str, Any]:
    """Average over datasets what makes a complete crossing."""
    evidence = gather(kept, bootstrap=bootstrap)
    by_seed = kept.groupby(CELL, observed=True)["value"].mean().groupby("seed").mean()
    return {
        "dataset": "", "split": "", "task": "", "unit": FRACTION, "evidence": evidence,
        "per_seed": tuple(by_seed.items()),
        "n_left_out": n_cells - len(kept[CELL].drop_duplicates()),
        **win_tie_loss(kept.groupby("dataset", observed=True)["value"].mean().tolist())._asdict(),
    }  # fmt: skip


def _about(by: Sequence[str], key: Any, contrast: str) -> dict[str, Any]:
    row = dict(zip(by, key, strict=True)) | {"contrast": contrast}
    return row | {"modality": _modality(row["task"])}


def _pairs(group: pd.DataFrame) -> tuple[tuple[Any, float], ...]:
    ordered = group.sort_values("seed")
    return tuple(zip(ordered["seed"].tolist(), ordered["value"].tolist(), strict=True))


def completed(row: dict[str, Any], bootstrap: Bootstrap, margin: float) -> dict[str, Any]:
    """Complete a row by what its differences over seeds and its evidence over queries say.

    Args:
        row: its names, ``per_seed``, and perhaps ``evidence`` over queries and, of seeds that are not paired,
            ``models``.
    """
    evidence: Evidence | None = row.pop("evidence", None)
    models: Paired | None = row.pop("models", None)
    differences = [value for _, value in row["per_seed"]]
    if models is not None:
        pass
    elif evidence is not None and not row["task"]:
        models = evidence.models
    else:
        models = paired_seeds(differences, level=bootstrap.level) if differences else None
    bounds = ("queries_low", "queries_high", "seeds_low", "seeds_high", "both_low", "both_high")
    empty = dict.fromkeys((*bounds, "estimate", "p", "p_equivalence", "q"), _NAN)
    counted = ("wins", "ties", "losses", "n_seeds", "n_queries", "n_classes", "n_left_out")
    counts = dict.fromkeys(counted, 0) | {"n_datasets": 1}
    full: dict[str, Any] = empty | counts
    if models is not None:
        full |= models._asdict() | {"estimate": models.value, "n_seeds": models.n, "p": models.p_t}
        full |= {"seeds_low": models.low, "seeds_high": models.high}
    if differences:
        full |= win_tie_loss(differences)._asdict()
    if evidence is not None:
        full |= {"queries_low": evidence.low, "queries_high": evidence.high}
        names = ("both_low", "both_high", "p", "n_queries", "n_classes", "n_datasets")
        full |= {name: getattr(evidence, name) for name in names}
    if row["contrast"] == MINUS_BASELINE and full["n_seeds"] < 2:
        full["p"] = _NAN  # what queries of one pair of models say is no test of what their arms differ in
    if row["unit"] == FRACTION and len(differences) > 1 and row["contrast"] != OWN:
        test = equivalence(differences, margin, alpha=(1 - bootstrap.level) / 2)
        full |= {"p_equivalence": test.p, "equivalent": test.equivalent}
        full["seeds_needed"] = seeds_needed(full["sd"], EFFECT, alpha=1 - bootstrap.level)
    return dict.fromkeys((*COLUMNS, *FURTHER)) | full | row


def _modality(task: str) -> str:
    """Name the modality within which a task retrieves; '' of one that compares the two."""
    within = task.partition("-")[0]
    return within if within in ("image", "text") and not is_cross_modal(task) else ""
