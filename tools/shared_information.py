"""What captions say against gap, object bias and inversion gain: the two statements of MAD, with intervals.

python -m tools.shared_information runs/information
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import pandas as pd
import tyro
from scipy import stats

from analysis.quantities import OBJECT_BIAS, model_values
from analysis.responses import mentioned
from analysis.study import read_runs
from crossgap.command import run_command
from crossgap.errors import InputError
from crossgap.reading.quoting import quoted

LEVEL = 0.95
# (quantity, task, what it is called, unit it is printed in)
SHOWN = (
    ("centroid_distance", "gap", "gap (centroid distance)", 1),
    (OBJECT_BIAS, "factors", "object bias (standard deviations)", 1),
    ("gain", "image-object", "OTI gain among images by object (points of mAP)", 100),
)


def main(folder: Annotated[Path, tyro.conf.Positional]) -> None:
    """Print, for each quantity, the mean over seeds by line and mention, and what the ends differ by.

    The last column is the mean of mention 1 minus mention 0 with a t interval over seeds; its last row that
    over lines, each the mean of its seeds.

    Args:
        folder: a study whose arms differ in mention, as runs/information.
    """
    study = read_runs([folder])
    lines = {arm: (line.name, dose) for line in mentioned(study) for arm, dose in line.doses.items()}
    if not lines:
        raise InputError(f"{folder}: no three of its arms differ in nothing but what captions say")
    values = model_values(quoted(study.rows))
    values = values[values["arm"].isin(lines)]
    values = values.assign(
        line=values["arm"].map(lambda arm: lines[arm][0]),
        mention=values["arm"].map(lambda arm: lines[arm][1]),
    )
    for quantity, task, called, scale in SHOWN:
        here = values[(values["quantity"] == quantity) & (values["task"] == task)]
        print(f"\n{called}\n\n{_table(here.assign(value=scale * here['value']))}")


def _table(values: pd.DataFrame) -> str:
    """Write one quantity as a table: a row a line, a column a mention, and the difference of the ends."""
    wide = values.pivot_table(index=["line", "seed"], columns="mention", values="value", sort=False)
    wide = wide[sorted(wide.columns)]
    low, high = wide.columns[0], wide.columns[-1]
    ends = wide[high] - wide[low]
    means = wide.groupby("line", sort=False).mean()
    rows = [f"| line | {' | '.join(f'{mention:g}' for mention in wide)} | {high:g} minus {low:g} |"]
    rows.append("|---" * (len(wide.columns) + 2) + "|")
    for line, of_line in means.iterrows():
        cells = " | ".join(f"{value:.2f}" for value in of_line)
        rows.append(f"| {line} | {cells} | {_interval(ends.loc[line])} |")
    over_lines = _interval(ends.groupby("line", sort=False).mean())
    return "\n".join([*rows, f"| over lines{' |' * (len(wide.columns) + 1)} {over_lines} |"])


def _interval(values: pd.Series) -> str:
    """Write a mean with its t interval; of one value there is none."""
    if len(values) < 2:
        return f"{values.mean():+.2f}"
    half = stats.t.ppf((1 + LEVEL) / 2, len(values) - 1) * values.sem()
    return f"{values.mean():+.2f} [{values.mean() - half:+.2f}, {values.mean() + half:+.2f}]"


if __name__ == "__main__":
    sys.exit(run_command(main))
