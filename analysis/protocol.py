"""How the numbers were made, in sentences, and the commands that make them again."""

from __future__ import annotations

import re
import shlex

from analysis.results import Results
from analysis.study import RecordedStudy
from analysis.typeset import joined
from crossgap.reading.quoting import SIDE


def protocol(results: Results) -> list[str]:
    """Say how each task was measured, by which routes, and how settings were chosen; from the rows alone."""
    rows = results.quoted_rows
    sentences = []
    for (dataset, split, task), group in rows[rows["task"] != "gap"].groupby(SIDE, sort=False):
        native = group[group["route"] == "native"]
        words = (native if len(native) else group)["protocol"].iloc[0]
        sentences.append(f"{task} ({dataset}, {split}): {words}")
    for route, group in rows[rows["route"].isin(["oti", "ovi"])].groupby("route", sort=False):
        chosen = {"val": "chosen on the validation split", "preset": "fixed beforehand"}
        how = joined(sorted({chosen.get(selection, selection) for selection in group["selection"]}))
        settings = sorted(
            {(int(s), int(t)) for s, t in zip(group["steps"], group["num_tokens"], strict=True)}
        )
        listed = ", ".join(f"{steps} × {tokens}" for steps, tokens in settings[:6])
        more = f" and {len(settings) - 6} more" if len(settings) > 6 else ""
        sentences.append(f"{str(route).upper()}: steps × tokens {listed}{more}, {how}.")
    gap = rows[rows["task"] == "gap"]
    sentences += [f"gap ({row.dataset}, {row.split}): {row.protocol}" for row in gap.drop_duplicates(
        ["dataset", "split"]).itertuples()]  # fmt: skip
    if len(rows) and "sealed" not in set(rows["split"]):
        sentences.append("The sealed split was not opened.")
    return sentences


def reproduce(study: RecordedStudy) -> list[str]:
    """Give the commands that run the study again and write this report; a single run names its own."""
    commits = sorted(
        {commit for commit in study.rows.get("commit", ()) if re.fullmatch(r"[0-9a-f]{7,40}", commit)}
    )
    commands = [f"git checkout {commits[0]}"] if len(commits) == 1 else []
    if not study.mode or "," in study.name:
        return []
    name = shlex.quote(study.name)
    options = ["--smoke"] * study.smoke + [f"--seeds {len(study.seeds)}"]
    options += [f"--mode {study.mode}"] if study.mode != "grid" else []
    return [
        *commands,
        f"python -m ablations.sweep --study {name} {' '.join(options)} --out runs/{name}",
        f"python -m analysis.report runs/{name}",
    ]
