"""Finished trials of a study, small enough for version control: what its page and its sweep need of them.

A kept study is a folder with ``study.json`` and, for each seed, three parquet files under ``seed-N/``:
``trials`` (small files of each trial, as text), ``rows`` (the quoted rows of mAP, hit@1, the gap and factors,
and the curve of inversion on the leading tasks) and ``classes`` (per-query values, averaged over the queries
of each class: all that the intervals and tests of :mod:`analysis.stats.evidence` use of them).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.folder import RecordedStudy, read_run
from analysis.leading import headlines
from crossgap.errors import InputError
from crossgap.files import RESULT, atomic_path, check_place, read_json, write_text
from crossgap.reading.quoting import quoted, quoted_queries
from crossgap.records import TABLES, write_table
from crossgap.vocabulary import INVERSIONS, is_cross_modal

STUDY = "study.json"
# of a trial: what says how it ended, what it was trained as, and how it was measured
_TEXTS = (RESULT, "config.json", "evaluation.json")
_ROUTES = ("native", *INVERSIONS.values(), "class_pca")  # of every arm; of the baseline all routes
_TABLES = ("trials", "rows", "classes")
_MEANS = [column for column in TABLES["per_query"] if column not in ("query_id", "value")]


def keep(run: Path, folder: Path) -> list[Path]:
    """Write what is finished of a study's folder into ``folder``, a part a seed; return the files written.

    A part that holds the same already is left alone.

    Raises:
        InputError: ``run`` is no folder of a study, ``folder`` keeps another study, or trials that ``run``
            does not have.
    """
    study = read_run(run)
    if not (run / STUDY).exists():
        raise InputError(f"{run}: no {STUDY} lies here; name the folder of a study")
    _check_same(run, folder)
    write_text(folder / STUDY, (run / STUDY).read_text("utf-8"))
    ended = study.trials[study.trials["state"].isin(["complete", "failed"])]
    chosen = quoted(study.rows)
    rows, classes = kept_rows(study, chosen), class_means(study, chosen)
    written = []
    for seed, trials in ended.groupby("seed"):
        texts = pd.DataFrame(_texts(run, trials), columns=["trial", "file", "text"])
        parts = (texts, *(frame[frame["seed"] == seed].drop(columns="seed") for frame in (rows, classes)))
        for name, part in zip(_TABLES, parts, strict=True):
            path = folder / f"seed-{seed}" / f"{name}.parquet"
            if not path.exists() or not pd.read_parquet(path).equals(part.reset_index(drop=True)):
                with atomic_path(path) as temporary:
                    part.to_parquet(temporary, index=False, compression="zstd", compression_level=19)
                written.append(path)
    return written


def restore(folder: Path, run: Path) -> int:
    """Write the trials of a kept study as a study's folder; return how many were not there.

    The command that made the study goes on with it, and reports read it. Rows that were not kept are not
    there, and each query of a class has the mean of its class. A trial that has a result is left alone.

    Raises:
        InputError: ``folder`` keeps no study, or ``run`` holds another one or other results.
    """
    if not (folder / STUDY).exists():
        raise InputError(f"{folder}: no {STUDY} lies here; name a kept study, such as docs/study/scenes")
    if not _parts(folder):
        raise InputError(f"{folder}: no trial is kept here (seed-N); name a kept study first, then the run")
    check_place(run, own=STUDY)
    _check_same(folder, run)
    if not (run / STUDY).exists():
        write_text(run / STUDY, (folder / STUDY).read_text("utf-8"))
    count = 0
    for seed, part in _parts(folder):
        texts, rows, classes = (pd.read_parquet(part / f"{name}.parquet") for name in _TABLES)
        queries = _as_queries(classes.assign(seed=seed))
        for trial, files in texts.groupby("trial", sort=False):
            target = run / "trials" / str(trial)
            if (target / RESULT).exists():
                continue
            count += 1
            arm = str(trial).removesuffix(f"-s{seed}")
            mine = rows[rows["arm"] == arm].assign(seed=seed)
            if len(mine):
                lines = mine.astype(object).where(mine.notna(), None).to_dict("records")
                write_text(target / "rows.jsonl", "".join(f"{json.dumps(line)}\n" for line in lines))
                write_table(target, "per_query", queries[queries["arm"] == arm])
            ordered = sorted(files.itertuples(), key=lambda file: file.file == RESULT)
            for file in ordered:  # the result last: with it a trial is finished
                write_text(target / str(file.file), str(file.text))
    return count


def kept_rows(study: RecordedStudy, chosen: pd.DataFrame) -> pd.DataFrame:
    """Select the rows that are kept: quoted (``chosen``) of few metrics, the curves on the leading tasks."""
    rows = study.rows
    few = chosen["metric"].isin(["mAP", "hit@1"]) | chosen["task"].isin(["gap", "factors"])
    curve = rows["task"].isin({where.task for where in headlines(chosen)}) & (rows["metric"] == "mAP")
    inverted = rows["route"].isin(["native", "untrained_tokens", *INVERSIONS.values()])
    kept = rows.loc[sorted({*chosen.index[few], *rows.index[curve & inverted]})]
    return kept.astype(dict.fromkeys(("inversion_seed", "steps", "num_tokens", "pairs_seen"), "Int64"))


def class_means(study: RecordedStudy, chosen: pd.DataFrame) -> pd.DataFrame:
    """Average quoted per-query values over the queries of each class.

    mAP of the tasks within a modality and hit@1 of zero-shot classification, by the routes that claims about
    arms ask for; of the baseline by every route.

    Returns:
        columns of ``per_query`` without query_id; ``n``, the queries with a value; ``value``, their mean.
    """
    queries = quoted_queries(study.per_query, chosen)
    across = queries["task"].map(is_cross_modal).astype(bool)
    zero_shot = queries["task"].str.startswith("zero-shot") & (queries["metric"] == "hit@1")
    asked = zero_shot | (~across & (queries["metric"] == "mAP"))
    routes = queries["route"].isin(_ROUTES) | (queries["arm"] == study.baseline)
    grouped = queries[asked & routes].groupby(_MEANS, sort=False, dropna=False)["value"]
    means = grouped.agg(n="count", value="mean").reset_index()
    means = means[means["n"] > 0]
    return means.assign(n=means["n"].astype(np.int32), value=means["value"].astype(np.float32))


def _as_queries(classes: pd.DataFrame) -> pd.DataFrame:
    """Write the mean of each class once for each of its queries, under invented ids."""
    place = np.repeat(np.arange(len(classes)), classes["n"])
    queries = classes.iloc[place].drop(columns="n")
    within = np.concatenate([np.arange(n) for n in classes["n"]]) if len(classes) else place
    ids = [f"{name} {number}" for name, number in zip(queries["query_class"], within, strict=True)]
    return queries.assign(query_id=ids, value=queries["value"].astype(np.float64))


def _texts(run: Path, trials: pd.DataFrame) -> Iterator[tuple[str, str, str]]:
    for arm, seed in trials[["arm", "seed"]].itertuples(index=False):
        for name in _TEXTS:
            path = run / "trials" / f"{arm}-s{seed}" / name
            if path.exists():
                yield f"{arm}-s{seed}", name, path.read_text("utf-8")


def _parts(folder: Path) -> list[tuple[int, Path]]:
    """List the seeds of a kept study with their folders, in their order."""
    return sorted((int(part.name.removeprefix("seed-")), part) for part in folder.glob("seed-*"))


def _trials(folder: Path) -> set[str]:
    """Name the trials that a folder of either kind has a result of."""
    kept = (pd.read_parquet(part / "trials.parquet")["trial"] for _, part in _parts(folder))
    return {str(trial) for trials in kept for trial in trials} | {
        path.parent.name for path in folder.glob("trials/*/result.json")
    }


def _check_same(source: Path, target: Path) -> None:
    """Refuse a target of another study, or one that would lose a trial that the source does not have."""
    if not (target / STUDY).exists():
        return
    mine, other = ({name: _part(read_json(folder / STUDY), name) for name in ("study", "arms", "baseline")}
                   for folder in (source, target))  # fmt: skip
    differing = [name for name in mine if mine[name] != other[name]]
    if differing:
        raise InputError(
            f"{target / STUDY}: another study than {source / STUDY}, by its {', '.join(differing)}; "
            "name another folder"
        )
    lost = sorted(_trials(target) - _trials(source)) if _parts(target) else []
    if lost:
        raise InputError(
            f"{target} keeps {len(lost)} trials that {source} does not have, {lost[0]} among them; restore "
            "them there first: python -m analysis.findings restore"
        )


def _part(document: Any, name: str) -> Any:
    return document.get(name) if isinstance(document, dict) else None
