"""Per-query values are read with words as categories, and mean what they meant as words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from crossgap.errors import InputError
from crossgap.reading.query_table import join, read_queries
from crossgap.reading.quoting import quoted_queries
from crossgap.records import TABLES, numeric, read_table, write_table


def _table(arm: str, queries: list[str], *, metrics: tuple[str, ...] = ("mAP", "p@1")) -> pd.DataFrame:
    rows = [
        {
            "study": "s", "arm": arm, "seed": 3, "inversion_seed": None, "dataset": "emoji", "split": "test",
            "task": "image-subgroup", "route": route, "steps": steps, "num_tokens": steps and 1,
            "setting": "", "selection": "none", "metric": metric, "query_id": query, "query_class": query[:1],
            "value": float(place),
        }
        for route, steps in (("native", None), ("oti", 10))
        for metric in metrics
        for place, query in enumerate(queries)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_words_are_sorted_categories_and_values_those_of_the_files(tmp_path: Path) -> None:
    for number, (arm, queries) in enumerate((("z", ["b2", "a1"]), ("a", ["c3", "a1"]))):
        write_table(tmp_path / str(number), "per_query", _table(arm, queries))
    folders = [tmp_path / "0", tmp_path / "1", tmp_path / "none"]
    read = read_queries(folders, ("mAP", "hit@1"))
    assert list(read.columns) == list(TABLES["per_query"])
    assert list(read["arm"].cat.categories) == ["a", "z"]
    assert list(read["query_id"].cat.categories) == ["a1", "b2", "c3"]
    whole = numeric(read_table(folders, "per_query"))
    expected = whole[whole["metric"] == "mAP"].reset_index(drop=True)
    words = list(read.select_dtypes("category"))
    pd.testing.assert_frame_equal(
        read.astype(dict.fromkeys(words, object)), expected.astype(dict.fromkeys(words, object))
    )


def test_no_run_gives_an_empty_table_and_other_columns_are_named(tmp_path: Path) -> None:
    assert list(read_queries([tmp_path], ("mAP",)).columns) == list(TABLES["per_query"])
    _table("a", ["b2"]).drop(columns="split").to_parquet(tmp_path / "per_query.parquet")
    with pytest.raises(InputError, match=r"per_query\.parquet: columns \['split'\] differ"):
        read_queries([tmp_path], ("mAP",))
    (tmp_path / "per_query.parquet").write_bytes(b"PAR1 cut")
    with pytest.raises(InputError, match=r"per_query\.parquet: damaged or cut off, .* \(8 bytes"):
        read_queries([tmp_path], ("mAP",))


def test_frames_with_other_columns_keep_all_of_them() -> None:
    one, other = pd.DataFrame({"a": ["x"], "b": [1.0]}), pd.DataFrame({"a": ["y"], "c": [2.0]})
    expected = pd.concat([one, other], ignore_index=True)
    pd.testing.assert_frame_equal(join([one, other]), expected)
    mixed = join([one.astype({"a": "category"}), other.astype({"a": "category"})])
    assert list(mixed["a"].cat.categories) == ["x", "y"]
    pd.testing.assert_frame_equal(mixed.astype({"a": expected["a"].dtype}), expected)
    assert not isinstance(join([one.astype({"a": "category"}), other])["a"].dtype, pd.CategoricalDtype)


def test_quoted_values_are_the_same_of_words_and_of_categories(tmp_path: Path) -> None:
    tables = {arm: _table(arm, ["b2", "a1", "c3"], metrics=("mAP",)) for arm in ("z", "a", "unquoted")}
    for arm, table in tables.items():
        write_table(tmp_path / arm, "per_query", table)
    folders = [tmp_path / arm for arm in tables]
    words = numeric(read_table(folders, "per_query"))
    rows = words[(words["arm"] != "unquoted") & ~((words["arm"] == "a") & (words["route"] == "oti"))]
    rows = pd.concat([rows, rows.tail(1).assign(arm="never measured")])
    quoted = quoted_queries(read_queries(folders, ("mAP",)), rows)
    expected = quoted_queries(words, rows)
    assert len(expected) == 9
    pd.testing.assert_frame_equal(quoted.astype(expected.dtypes), expected)
    assert np.array_equal(expected["arm"].unique(), ["z", "a"])
