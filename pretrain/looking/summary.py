"""The course of a training in a few lines of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pretrain.validation import BEST_BY

Lines = Sequence[Mapping[str, float]]

_OF_CHECKPOINTS = ("gap/centroid_distance", BEST_BY, "text-image/hit@1")


def summary(metrics: Lines, validation: Lines) -> str:
    """Say where the loss, its parts and the temperature began and ended, and what checkpoints are worth.

    Args:
        metrics: lines of ``metrics.jsonl``.
        validation: lines of ``validation.jsonl``; none where the run did not validate.
    """
    rows = [("", "first", "last")]
    parts = list(dict.fromkeys(name for line in metrics for name in line if name.startswith("raw/")))
    for name in ("loss", *parts, "temperature"):
        values = [line[name] for line in metrics if name in line]
        if values:
            rows.append((_called(name), f"{values[0]:.4g}", f"{values[-1]:.4g}"))
    if validation:
        best = max(validation, key=lambda line: line.get(BEST_BY, float("-inf")))
        for name in _OF_CHECKPOINTS:
            if name in validation[0]:
                rows.append((_called(name), f"{validation[0][name]:.4g}", f"{validation[-1][name]:.4g}"))
    widths = [max(len(row[place]) for row in rows) for place in range(3)]
    said = [f"  {row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}" for row in rows]
    if validation and BEST_BY in best:
        said.append(f"  best checkpoint: step {best['step']:.0f}, {_called(BEST_BY)} {best[BEST_BY]:.4g}")
    return "\n".join(said)


def _called(name: str) -> str:
    if name.startswith("gap/"):
        return "gap, distance of the means"
    return name.removeprefix("raw/").replace("/", " ")
