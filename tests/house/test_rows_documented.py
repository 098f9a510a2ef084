"""docs/rows.md names every column and value that the files have, and its example draws."""

from __future__ import annotations

import re
import runpy
from dataclasses import fields
from itertools import product
from pathlib import Path
from typing import Any, get_args

import matplotlib as mpl
import pandas as pd
import pytest
import torch
from matplotlib.collections import PathCollection, PolyCollection
from torch.nn import functional as F

from analysis.report import write_report
from analysis.study import read_runs
from crossgap.datasets.tasks import Extra
from crossgap.evaluation.measuring import KS
from crossgap.files import write_json
from crossgap.inversion.words import AXES
from crossgap.metrics.intervals import Bootstrap
from crossgap.metrics.pair_metrics import NEIGHBOURS, pair_metrics
from crossgap.metrics.retrieval import metric_names
from crossgap.reading.setting_columns import INVERSION, settings_by_arm, with_inversions
from crossgap.records import SELECTIONS, TABLES, Row
from crossgap.vocabulary import CROSS_TASKS, LEADING_TASKS, ROUTE_WORDS
from tests.synthetic_study import SyntheticArm, SyntheticStudy, write_study

TEXT = (Path(__file__).parent.parent.parent / "docs" / "rows.md").read_text()

BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)


def section(title: str) -> list[list[str]]:
    """Give the cells of the table below a heading."""
    text = TEXT.split(f"## {title}\n")[1].split("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("| ")][2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def first_names(title: str) -> list[str]:
    return [name for row in section(title) for name in names(row[0])]


def test_every_column_of_rows_is_documented() -> None:
    documented = [name for row in section("Columns of rows.jsonl") for name in names(row[0])]
    assert sorted(documented) == sorted(field.name for field in fields(Row))


def test_every_selection_and_route_is_documented() -> None:
    assert first_names("Values of selection") == list(SELECTIONS)
    routes = {names(row[0])[0]: row[1] for row in section("Values of route")}
    assert routes == {name: words.family for name, words in ROUTE_WORDS.items()}


def test_every_table_is_documented() -> None:
    common = {"study", "arm", "seed", "dataset", "split"}
    documented = {
        names(row[0])[0].removesuffix(".parquet"): set(names(row[1])) | common
        for row in section("Columns of the tables")
    }
    assert documented == {name: set(columns) for name, columns in TABLES.items()}


def test_the_tasks_that_lead_and_cross_are_documented() -> None:
    assert {*LEADING_TASKS, *CROSS_TASKS} <= set(first_names("Values of task"))


def units() -> dict[str, str]:
    """Give the documented unit of each metric; @k stands for all its ks."""
    found = {}
    for row in section("Values of metric"):
        listed, given = names(row[0]), row[1].split(", ")
        found |= dict(zip(listed, given * len(listed) if len(given) == 1 else given, strict=False))
    return found


def test_every_metric_of_pairs_is_documented_with_its_unit() -> None:
    generator = torch.Generator().manual_seed(0)
    image, text = (F.normalize(torch.randn(120, 8, generator=generator), dim=1) for _ in range(2))
    labels = [str(place % 4) for place in range(120)]
    made = pair_metrics(image, text, labels=labels, clusters=[str(place) for place in range(120)], seed=0)
    measured = {metric.name: metric.unit for metric in made}
    for k in NEIGHBOURS:
        for name in ("modality_mixing", "mutual_knn"):
            assert measured.pop(f"{name}@{k}") == units()[f"{name}@k"]
    assert len(measured) > 20
    assert {name: units().get(name) for name in measured} == measured


def test_every_metric_of_retrieval_is_documented() -> None:
    for name in (*metric_names(KS), *get_args(Extra)):
        assert {name, re.sub(r"@\d+$", "@k", name)} & set(units()), name


def test_settings_have_columns_of_their_type() -> None:
    configs = {
        "a": {"steps": 500, "objective": {"weights": {"clip": 1.0}}, "data": "emoji", "seed": 0},
        "b": {"steps": 900, "objective": {"weights": {"clip": 1.0, "mmd": 0.5}}, "data": "emoji", "seed": 1},
        "c": {"steps": 900, "objective": {"weights": {"clip": 1.0}}, "data": "own.tar", "ema": 0.9},
    }
    table = settings_by_arm(configs)
    assert table["steps"].tolist() == [500, 900, 900]
    assert table["steps"].dtype == "int64"
    assert table["objective.weights.mmd"].tolist() == [0.0, 0.5, 0.0]
    assert table["data"].tolist() == ["emoji", "emoji", "own.tar"]
    assert table["ema"].isna().tolist() == [True, True, False]
    assert list(table.columns) == ["steps", "objective.weights.mmd", "data", "ema"]


def test_settings_of_inversions_have_columns() -> None:
    rows = pd.DataFrame(
        {
            "route": ["oti", "oti", "class_pca", "native"],
            "setting": ["learning rate 0.05", "learning rate 0.02", "rank 64", ""],
        }
    )
    column = with_inversions(rows)[f"{INVERSION}learning_rate"]
    assert column.tolist()[:2] == [0.05, 0.02]
    assert column.isna().tolist() == [False, False, True, True]
    assert all(f"`{INVERSION}{axis}`" in TEXT for axis in AXES)


def report_tables(folder: Path, plan: SyntheticStudy) -> Path:
    """Write the parquet tables of an invented study's report, and return their folder."""
    study = read_runs([write_study(folder / "study", plan)])
    write_report(study, folder, ("parquet",), Bootstrap(resamples=50))
    return folder / "tables"


def examples_run(tables: Path) -> dict[str, Any]:
    """Run the page's code, block after block, on some tables in place of those that it names."""
    code, named = re.subn(
        r'^folder = "[^"]+"', f"folder = {str(tables)!r}", "\n".join(BLOCKS), flags=re.MULTILINE
    )
    assert named == 1
    (tables / "example.py").write_text(code)
    mpl.use("Agg")
    return runpy.run_path(str(tables / "example.py"))


def arm(place: int, weight: float, **settings: Any) -> SyntheticArm:
    name = f"w{place}"
    return SyntheticArm(name=name, label=f"arm {name}", weights={"image_ntxent": weight}, settings=settings)


@pytest.mark.slow
def test_the_example_draws_a_dose_response(tmp_path: Path) -> None:
    arms = tuple(arm(place, weight) for place, weight in enumerate((0.0, 0.5, 1.0)))
    tables = report_tables(tmp_path, SyntheticStudy(arms=arms, pictures=False))
    made = examples_run(tables)
    assert made["task"] == "image-subgroup"
    shown = made["shown"]
    assert sorted(shown["objective.weights.image_ntxent"].unique()) == [0.0, 0.5, 1.0]
    assert set(shown["label"]) == {"arm w0", "arm w1", "arm w2"}
    assert len(shown) == 2 * 3 * 2  # quantities, arms, seeds
    assert len(made["native"]) == len(made["models"].query("quantity == 'native'"))
    assert (tables / "dose.png").stat().st_size > 1000


@pytest.mark.slow
def test_the_example_draws_seeds_and_no_interval_of_its_own(tmp_path: Path) -> None:
    arms = tuple(arm(place, weight) for place, weight in enumerate((0.0, 0.5, 1.0)))
    made = examples_run(report_tables(tmp_path, SyntheticStudy(arms=arms, pictures=False)))
    for axes in made["grid"].axes.flat:
        (points,) = (part for part in axes.collections if isinstance(part, PathCollection))
        assert len(points.get_offsets()) == 6
        assert not [part for part in axes.collections if isinstance(part, PolyCollection)]


def test_a_model_under_several_inversions_counts_once(tmp_path: Path) -> None:
    arms = tuple(arm(place, 0.5 * (place // 2)) for place in range(4))
    study = SyntheticStudy(arms=arms, pictures=False)
    write_study(tmp_path / "study", study)
    for place, seed in product(range(4), study.seeds):
        settings = {"inversion": {"text": {"learning_rate": (0.02, 0.1)[place % 2]}}}
        path = tmp_path / "study" / "trials" / f"w{place}-s{seed}" / "evaluation.json"
        write_json(path, {"settings": settings, "skipped": {}})
    write_report(read_runs([tmp_path / "study"]), tmp_path, ("parquet",), Bootstrap(resamples=50))
    made = examples_run(tmp_path / "tables")
    assert made["of_training"] == ["objective.weights.image_ntxent"]
    assert "evaluation.text.learning_rate" in made["varied"]
    assert 2 * len(made["native"]) == len(made["models"].query("quantity == 'native'"))


def test_every_column_and_quantity_of_models_is_documented(tmp_path: Path) -> None:
    tables = report_tables(tmp_path, SyntheticStudy(pictures=False))
    documented = section("Columns of models.parquet")
    models, arms = (pd.read_parquet(tables / f"{name}.parquet") for name in ("models", "arms"))
    columns = {name for row in documented for name in names(row[0])}
    settings = set(settings_by_arm(read_runs([tmp_path / "study"]).configs).columns)
    assert set(models.columns) - settings <= columns
    assert set(arms.columns) - settings <= columns | {"low", "high", "sd", "n_seeds"}
    assert set(models["quantity"]) <= columns
